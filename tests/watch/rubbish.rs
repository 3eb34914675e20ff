//! A change table or channel that somebody else writes to, or empties.

use std::io::Write;
use std::process::Stdio;

use mwid::dialogs::watch::Way;
use mwid_core::dialog::Flavour;

use crate::bed::{Bed, Kind};
use crate::seen::{NEVER, Seen, best, install, subscribe};
use crate::support::mariadb::MariaDb;

pub async fn a_full_and_an_emptied_change_table_do_no_harm(bed: Bed) {
    install(&bed.settings).await;
    let mut seen = Seen::start(&bed, NEVER);
    seen.synced().await;
    seen.until_way(best(bed.kind)).await;
    if bed.kind == Kind::Postgres {
        for payload in ["", "{", "null", "[1]", "{\"presentity\": 7}", "{\"ping\": \"1\"}"] {
            bed.sql(&format!("NOTIFY mwid_changes, '{payload}';"));
        }
        bed.sql("NOTIFY mwid_changes, '{\"presentity\": \"sip:a b@c\", \"user\": null}';");
        subscribe(&bed, "202");
        assert_eq!(seen.accounts().await, ["202"]);
        let health = seen.watch.health();
        assert!(health.rubbish >= 5 && health.error.is_none(), "{health:?}");
        return;
    }
    bed.sql(
        "INSERT INTO mwid_changes (row_id, presentity_uri, watcher_username, watcher_domain) \
         VALUES (NULL, NULL, NULL, NULL), (1, '', '', ''), (-1, 'sip:a b@c', 'x', 'y'), \
         (7, 'tel:+1', NULL, 'y'), (8, 'sip:202@', NULL, NULL);",
    );
    subscribe(&bed, "202");
    seen.until("202").await;
    assert!(seen.watch.health().rubbish >= 5);

    // More than anybody reads row by row: the whole table of subscriptions is read instead.
    let resyncs = seen.watch.health().resyncs;
    bed.sql(
        "INSERT INTO mwid_changes (presentity_uri) WITH RECURSIVE n (i) AS \
         (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) \
         SELECT 'sip:rubbish' FROM n, (SELECT i FROM n WHERE i <= 20) AS m;",
    );
    seen.until_health("skipped", |health| health.resyncs > resyncs && !health.resyncing).await;
    subscribe(&bed, "203");
    seen.until("203").await;

    // Emptied, and it counts from 1 again.
    let resyncs = seen.watch.health().resyncs;
    bed.sql(match bed.kind {
        Kind::Sqlite => {
            "DELETE FROM mwid_changes; DELETE FROM sqlite_sequence WHERE name = 'mwid_changes';"
        }
        _ => "TRUNCATE TABLE mwid_changes;",
    });
    subscribe(&bed, "204");
    seen.until("204").await;
    seen.until_health("read again", |health| health.resyncs > resyncs).await;
    assert_eq!(seen.watch.health().error, None);
}

#[tokio::test]
async fn a_change_that_is_committed_late_is_seen() {
    let bed = Bed::new(Kind::MariaDb, Flavour::Kamailio);
    install(&bed.settings).await;
    subscribe(&bed, "200");
    let mut seen = Seen::start(&bed, NEVER);
    seen.synced().await;
    let mut late = MariaDb::shared()
        .client(bed.database())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = late.stdin.as_mut().unwrap();
    writeln!(
        input,
        "BEGIN; UPDATE active_watchers SET remote_cseq = 2 WHERE id = 1; SELECT 'held';"
    )
    .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(late.stdout.as_mut().unwrap()),
        &mut line,
    )
    .unwrap();
    assert_eq!(line.trim(), "held");
    // A higher id is committed and seen first.
    subscribe(&bed, "202");
    seen.until("202").await;
    writeln!(late.stdin.as_mut().unwrap(), "COMMIT;").unwrap();
    seen.until("200").await;
    drop(late.stdin.take());
    late.wait().unwrap();
}

/// A lamp is not worth a telephone call: if mwid's table is dropped or full, the presence server
/// must not notice.
#[tokio::test]
async fn the_presence_server_writes_on_when_the_change_table_is_gone() {
    let bed = Bed::new(Kind::MariaDb, Flavour::Kamailio);
    install(&bed.settings).await;
    let mut seen = Seen::start(&bed, NEVER);
    seen.synced().await;
    bed.sql("DROP TABLE mwid_changes;");
    subscribe(&bed, "202");
    bed.sql("UPDATE active_watchers SET remote_cseq = 2;");
    seen.until_way(Way::Paging).await;
    subscribe(&bed, "203");
    seen.until("203").await;
    install(&bed.settings).await;
    seen.until_way(Way::ChangeTable).await;

    // The numbers are used up.
    bed.sql("INSERT INTO mwid_changes (id) VALUES (18446744073709551614);");
    subscribe(&bed, "204");
    bed.sql("UPDATE active_watchers SET remote_cseq = 3;");
    seen.until_way(Way::Paging).await;
    let health = seen.watch.health();
    assert!(health.reason.is_some_and(|why| why.contains("--remove, then --apply")));
}
