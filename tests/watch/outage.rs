//! A database that goes away and comes back.

use std::path::Path;

use mwid::config::{Database, DatabaseUrl};
use mwid::dialogs::watch::Way;

use crate::bed::{on_server, settings};
use crate::seen::{NEVER, Seen, install, remove, tomorrow};
use crate::support::mariadb::MariaDb;
use crate::support::postgres::Postgres;

fn schema(kind: &str) -> String {
    let path = format!("tests/fixtures/{kind}/opensips-active_watchers.sql");
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn insert(user: &str) -> String {
    format!(
        "INSERT INTO active_watchers (presentity_uri, watcher_username, watcher_domain, \
         to_user, to_domain, event, to_tag, from_tag, callid, local_cseq, remote_cseq, contact, \
         expires, status, socket_info, local_contact) VALUES ('sip:{user}@example.com', 'alice', \
         'example.com', '{user}', 'example.com', 'message-summary', 't', 'f', 'call-{user}', 1, 1, \
         'sip:alice@127.0.0.1', {}, 1, '', 'sip:127.0.0.1');",
        tomorrow()
    )
}

/// A server that stops and starts, with a row written while the watch cannot see it.
async fn misses_nothing(
    url: DatabaseUrl,
    best: Way,
    sql: impl Fn(&str),
    stop: impl Fn(),
    start: impl Fn(),
) {
    let settings = Database { resync: NEVER, ..settings(url) };
    install(&settings).await;
    for way in [best, Way::Paging] {
        let name = format!("{way:?}").to_lowercase();
        let mut seen = Seen::with(settings.clone());
        seen.synced().await;
        seen.until_way(way).await;
        stop();
        seen.until_health("the outage is said", |health| health.error.is_some()).await;
        start();
        sql(&insert(&format!("after-{name}")));
        seen.until(&format!("after-{name}")).await;
        seen.until_health("it works again", |health| {
            health.error.is_none() && health.way == Some(way)
        })
        .await;
        // Stopped and started at once: the watch may not even notice.
        stop();
        start();
        sql(&insert(&format!("quick-{name}")));
        seen.until(&format!("quick-{name}")).await;
        drop(seen);
        // A watch that starts while the server is down.
        stop();
        let mut seen = Seen::with(settings.clone());
        seen.until_health("no connection", |health| health.error.is_some()).await;
        start();
        seen.until(&format!("quick-{name}")).await;
        remove(&settings).await;
    }
}

#[tokio::test]
async fn a_restart_of_mariadb_is_survived_and_nothing_missed() {
    let server = MariaDb::start();
    server.create_database("watched");
    server.sql("watched", &schema("mysql"));
    let url = DatabaseUrl::MySql(on_server(server.port(), "watched"));
    let sql = |statements: &str| drop(server.sql("watched", statements));
    misses_nothing(url, Way::ChangeTable, sql, || server.stop(), || server.start_again()).await;
}

#[tokio::test]
async fn a_restart_of_postgresql_is_survived_and_nothing_missed() {
    let server = Postgres::start();
    server.create_database("watched");
    server.sql("watched", &schema("postgres"));
    let url = DatabaseUrl::Postgres(on_server(server.port(), "watched"));
    let sql = |statements: &str| drop(server.sql("watched", statements));
    misses_nothing(url, Way::Listen, sql, || server.stop(), || server.start_again()).await;
}
