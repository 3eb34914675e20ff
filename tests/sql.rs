//! The SQL that ships in `sql/`: the indexes are used, and the rights are enough and not too many.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::fs;
use std::time::Duration;

use mwid::cluster::{Cluster, Event, Settings};
use mwid::config::{Config, Database, DatabaseUrl, FindBy, Scope, Secret, Server};
use mwid::dialogs::DialogStore;
use mwid::dialogs::watch::{Change, Watch, Way, Writer};
use mwid_core::dialog::Dialog;
use mwid_core::mailbox::Mailbox;
use mwid_core::summary::Summary;
use support::SOON;
use support::mariadb::MariaDb;
use support::postgres::Postgres;

/// The watchers of the test table; a planner that may choose reads a small table as a whole.
const ROWS: u32 = 5000;

/// The condition of each `[database] find_by`, as `src/dialogs/schema.rs` writes it.
const PRESENTITY: &str = "presentity_uri = 'sip:77@example.com'";
const WATCHER: &str = "watcher_username = '77' AND watcher_domain = 'phones.example.com'";

#[derive(Clone, Copy, Debug)]
enum Kind {
    MariaDb,
    Postgres,
    Sqlite,
}

const PRESENCE_SERVERS: [&str; 2] = ["opensips", "kamailio"];

/// A database of its own with a presence server's table.
struct Table {
    kind: Kind,
    name: String,
    folder: tempfile::TempDir,
}

impl Table {
    fn new(kind: Kind, server: &str, name: &str) -> Self {
        let name = format!("{name}_{server}");
        match kind {
            Kind::MariaDb => MariaDb::shared().create_database(&name),
            Kind::Postgres => Postgres::shared().create_database(&name),
            Kind::Sqlite => {}
        }
        let table = Self { kind, name, folder: tempfile::tempdir().unwrap() };
        let folder = match kind {
            Kind::MariaDb => "tests/fixtures/mysql",
            Kind::Postgres => "tests/fixtures/postgres",
            Kind::Sqlite => "sql/sqlite",
        };
        table.run_file(&format!("{folder}/{server}-active_watchers.sql"));
        table
    }

    /// Runs statements and returns what they print, a line a row.
    fn run(&self, sql: &str) -> String {
        match self.kind {
            Kind::MariaDb => MariaDb::shared().sql(&self.name, sql),
            Kind::Postgres => Postgres::shared().sql(&self.name, sql),
            Kind::Sqlite => {
                let file =
                    rusqlite::Connection::open(self.folder.path().join("dialogs.db")).unwrap();
                if !sql.starts_with("EXPLAIN") {
                    file.execute_batch(sql).unwrap();
                    return String::new();
                }
                let mut plan = file.prepare(sql).unwrap();
                let steps = plan.query_map([], |row| row.get::<_, String>(3)).unwrap();
                steps.map(Result::unwrap).collect::<Vec<_>>().join("\n")
            }
        }
    }

    fn run_file(&self, path: &str) {
        let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
        self.run(&fs::read_to_string(path).unwrap());
    }

    fn fill(&self, server: &str) {
        let (names, values) = match server {
            "kamailio" => (", from_user, from_domain, updated, updated_winfo", ", 'f', 'f', 0, 0"),
            _ => ("", ""),
        };
        let rows: Vec<String> = (0..ROWS)
            .map(|n| {
                format!(
                    "('sip:{n}@example.com', '{n}', 'phones.example.com', '{n}', 'example.com', \
                     'message-summary', 'to', 'from', 'call-{n}', 1, 1, 'sip:{n}@127.0.0.1', \
                     2000000000, 1, 'udp:127.0.0.1:5060', 'sip:127.0.0.1'{values})"
                )
            })
            .collect();
        self.run(&format!(
            "INSERT INTO active_watchers (presentity_uri, watcher_username, watcher_domain, \
             to_user, to_domain, event, to_tag, from_tag, callid, local_cseq, remote_cseq, contact, \
             expires, status, socket_info, local_contact{names}) VALUES {};",
            rows.join(", ")
        ));
        self.run(match self.kind {
            Kind::MariaDb => "ANALYZE TABLE active_watchers;",
            Kind::Postgres | Kind::Sqlite => "ANALYZE;",
        });
    }

    /// How the database would find the rows.
    fn plan(&self, condition: &str) -> String {
        let explain = match self.kind {
            Kind::MariaDb | Kind::Postgres => "EXPLAIN",
            Kind::Sqlite => "EXPLAIN QUERY PLAN",
        };
        self.run(&format!(
            "{explain} SELECT * FROM active_watchers WHERE {condition} \
             AND event = 'message-summary' AND status = 1 AND expires > 1700000000 \
             ORDER BY id DESC LIMIT 51;"
        ))
    }

    /// Whether a plan reads the whole table, or walks through its rows in the order of their ids.
    fn reads_all(&self, plan: &str) -> bool {
        match self.kind {
            // id, select_type, table, type, …
            Kind::MariaDb => {
                plan.lines().any(|step| matches!(step.split('\t').nth(3), Some("ALL" | "index")))
            }
            Kind::Postgres => plan.contains("Seq Scan") || plan.contains("active_watchers_pkey"),
            Kind::Sqlite => plan.contains("SCAN"),
        }
    }
}

fn the_indexes_are_used(kind: Kind, folder: &str) {
    for server in PRESENCE_SERVERS {
        let table = Table::new(kind, server, "indexes");
        table.fill(server);
        let either = format!("({PRESENTITY} OR ({WATCHER}))");

        let plan = table.plan(PRESENTITY);
        assert!(!table.reads_all(&plan), "{server} has its own index on presentity_uri:\n{plan}");
        assert!(table.reads_all(&table.plan(WATCHER)), "{server} has none on watcher_username");

        // Twice: an operator does not know whether somebody did it before.
        table.run_file(&format!("sql/{folder}/index.sql"));
        table.run_file(&format!("sql/{folder}/index.sql"));
        for condition in [WATCHER, &either] {
            let plan = table.plan(condition);
            assert!(!table.reads_all(&plan), "{server}, {condition}:\n{plan}");
            assert!(plan.contains("mwid_watcher"), "{server}, {condition}:\n{plan}");
        }
        let plan = table.plan(PRESENTITY);
        assert!(!table.reads_all(&plan), "{server}, as before:\n{plan}");
    }
}

#[test]
fn the_indexes_are_used_on_mariadb() {
    the_indexes_are_used(Kind::MariaDb, "mysql");
}

#[test]
fn the_indexes_are_used_on_postgresql() {
    the_indexes_are_used(Kind::Postgres, "postgres");
}

#[test]
fn the_indexes_are_used_in_sqlite() {
    the_indexes_are_used(Kind::Sqlite, "sqlite");
}

#[tokio::test]
async fn the_rights_suffice_and_are_not_too_many_on_mariadb() {
    let table = Table::new(Kind::MariaDb, "opensips", "rights");
    the_rights_suffice(&table, "sql/mysql/user.sql").await;
}

#[tokio::test]
async fn the_rights_suffice_and_are_not_too_many_on_postgresql() {
    let table = Table::new(Kind::Postgres, "kamailio", "rights");
    the_rights_suffice(&table, "sql/postgres/user.sql").await;
}

async fn the_rights_suffice(table: &Table, file: &str) {
    table.fill(table.name.trim_start_matches("rights_"));
    let more = add_user(table, file);
    let settings = settings(table);
    let store = DialogStore::new(&settings).unwrap();
    store.probe().await.unwrap();
    let account = "sip:77@example.com".parse().unwrap();
    let found = store.find(&account, 1_700_000_000).await.unwrap();
    let dialog = Dialog::from_row(&found.rows[0]).unwrap();
    let claimed = store.claim(&dialog, 0).await.unwrap().expect("the row is there");
    assert_eq!(store.claim(&dialog, claimed).await.unwrap(), Some(claimed + 1));
    let refused = store.delete(&dialog).await.unwrap_err().to_string();
    assert!(refused.to_lowercase().contains("denied"), "{refused}");
    let grant = more.iter().find(|grant| grant.contains("DELETE ON active_watchers")).unwrap();
    table.run(grant);
    assert!(store.delete(&dialog).await.unwrap());
}

#[tokio::test]
async fn triggers_that_an_administrator_installed_are_seen_with_these_rights_on_mariadb() {
    let table = Table::new(Kind::MariaDb, "kamailio", "triggers");
    let more = add_user(&table, "sql/mysql/user.sql");
    table.run_file("sql/mysql/watch.sql");
    assert_eq!(way(&table).await, Way::Paging, "mwid may not see them yet");
    let needed = more.iter().filter(|it| it.contains("TRIGGER") || it.contains("mwid_changes"));
    needed.for_each(|grant| drop(table.run(grant)));
    assert_eq!(way(&table).await, Way::ChangeTable);
}

#[tokio::test]
async fn triggers_that_an_administrator_installed_are_seen_with_these_rights_on_postgresql() {
    let table = Table::new(Kind::Postgres, "opensips", "triggers");
    add_user(&table, "sql/postgres/user.sql");
    table.run_file("sql/postgres/watch.sql");
    assert_eq!(way(&table).await, Way::Listen);
}

#[tokio::test]
async fn the_rights_for_several_mwid_suffice_on_mariadb() {
    let table = Table::new(Kind::MariaDb, "opensips", "cluster");
    the_rights_suffice_for_a_cluster(&table, "mysql").await;
}

#[tokio::test]
async fn the_rights_for_several_mwid_suffice_on_postgresql() {
    let table = Table::new(Kind::Postgres, "opensips", "cluster");
    the_rights_suffice_for_a_cluster(&table, "postgres").await;
}

/// Joins, publishes, changes what was published, reads it and leaves.
async fn the_rights_suffice_for_a_cluster(table: &Table, folder: &str) {
    let more = add_user(table, &format!("sql/{folder}/user.sql"));
    table.run_file(&format!("sql/{folder}/cluster.sql"));
    let own = ["mwid_nodes", "mwid_counts", "mwid_cluster"];
    let needed = more.iter().filter(|grant| own.iter().any(|table| grant.contains(table)));
    needed.for_each(|grant| drop(table.run(grant)));
    let mut config = Config { database: settings(table), ..Config::default() };
    config.spool.scope = Scope::Own;
    config.cluster.node = Some("vm1".into());
    let (cluster, mut events) = Cluster::join(Settings::of(&config).unwrap(), 1).unwrap();
    let mailbox = Mailbox::parse("202@default").unwrap();
    for new in [1, 2] {
        let summary = Summary { new, ..Summary::default() };
        cluster.publish(&mailbox, summary, false);
        let seen = async {
            while let Some(event) = events.recv().await {
                if matches!(event, Event::Sums(sums, _) if sums == [(mailbox.clone(), Some(summary))])
                {
                    return;
                }
            }
        };
        let seen = tokio::time::timeout(SOON, seen).await;
        seen.unwrap_or_else(|_| panic!("{:#?}", cluster.health()));
    }
    cluster.goodbye().await;
    assert_eq!(table.run("SELECT node FROM mwid_nodes;"), "", "it has left");
}

/// How mwid watches the table.
async fn way(table: &Table) -> Way {
    let settings = settings(table);
    let (changes, mut seen) = tokio::sync::mpsc::channel(16);
    let watch =
        Watch::start(&settings, DialogStore::new(&settings).unwrap(), changes, Writer::Others);
    let synced =
        async { while seen.recv().await.is_some_and(|it| !matches!(it, Change::Synced)) {} };
    tokio::time::timeout(SOON, synced).await.expect("the table is read");
    watch.health().way.expect("the database has answered")
}

/// Runs a file that makes mwid's user, under a name of this table's own, as the test servers are
/// shared. Gives the grants that it only mentions.
fn add_user(table: &Table, file: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert!(text.contains("change-me"));
    let user = &table.name;
    let text = match table.kind {
        Kind::MariaDb => text.replace("'mwid'@", &format!("'{user}'@")),
        _ => text
            .replace("ROLE mwid ", &format!("ROLE {user} "))
            .replace("TO mwid;", &format!("TO {user};")),
    };
    table.run(&text);
    let mentioned = text.lines().filter_map(|line| line.strip_prefix("-- GRANT"));
    mentioned.map(|rest| format!("GRANT{rest}")).collect()
}

fn settings(table: &Table) -> Database {
    let server = |port| Server {
        host: "127.0.0.1".into(),
        port,
        socket: None,
        user: table.name.clone(),
        password: Some(Secret::new("change-me")),
        database: table.name.clone(),
    };
    let url = match table.kind {
        Kind::MariaDb => DatabaseUrl::MySql(server(MariaDb::shared().port())),
        Kind::Postgres => DatabaseUrl::Postgres(server(Postgres::shared().port())),
        Kind::Sqlite => panic!("no users"),
    };
    Database {
        url,
        timeout: Duration::from_secs(20),
        find_by: FindBy::Presentity,
        ..Database::default()
    }
}
