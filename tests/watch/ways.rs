//! What is seen, and how soon, in each way.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use mwid::config::{Database, FindBy};
use mwid::dialogs::watch::{Change, Way};
use mwid_core::dialog::{Dialog, Flavour};

use crate::bed::{Bed, Kind, account};
use crate::seen::{NEVER, Seen, best, install, remove, subscribe, tomorrow};

pub async fn with_triggers_what_a_subscribe_changes_is_seen_and_nothing_else(bed: Bed) {
    install(&bed.settings).await;
    install(&bed.settings).await;
    let mut seen = Seen::start(&bed, NEVER);
    assert!(seen.synced().await.is_empty());
    seen.until_way(best(bed.kind)).await;

    let began = Instant::now();
    subscribe(&bed, "202");
    let inserted = Instant::now();
    assert_eq!(seen.accounts().await, ["202"]);
    let kind = match bed.kind {
        Kind::MariaDb => "MariaDB, change table",
        Kind::Postgres => "PostgreSQL, LISTEN",
        Kind::Sqlite => "SQLite, change table",
    };
    println!(
        "{kind}: told {:?} after the INSERT (which took {:?})",
        inserted.elapsed(),
        inserted - began
    );

    for set in
        ["remote_cseq = 21", "expires = expires + 1", "contact = 'sip:a@192.0.2.9'", "status = 3"]
    {
        bed.sql(&format!("UPDATE active_watchers SET {set};"));
        assert_eq!(seen.accounts().await, ["202"], "{set}");
    }
    // What must not be seen, and then something that is.
    bed.sql("UPDATE active_watchers SET status = 1;");
    assert_eq!(seen.accounts().await, ["202"]);
    let row = bed.store().find(&account(), 0).await.unwrap().rows.remove(0);
    let dialog = Dialog::from_row(&row).unwrap();
    // mwid's own claim, whose number triggers must not hide.
    assert_eq!(bed.store().claim(&dialog, 7).await.unwrap(), Some(8));
    assert_eq!(bed.store().claim(&dialog, 7).await.unwrap(), Some(9));
    bed.sql("UPDATE active_watchers SET version = version + 1, reason = 'x';");
    bed.sql("UPDATE active_watchers SET remote_cseq = remote_cseq, contact = contact;");
    bed.insert(&[&[("event", "'presence'"), ("callid", "'p'"), ("expires", &tomorrow())]]);
    bed.sql("UPDATE active_watchers SET remote_cseq = 99 WHERE event = 'presence';");
    subscribe(&bed, "299");
    assert_eq!(seen.accounts().await, ["299"]);
    let health = seen.watch.health();
    assert_eq!((health.changes, health.rubbish, health.error.clone()), (7, 0, None), "{health}");
    let words = health.to_string();
    let way = kind.split_once(", ").unwrap().1;
    assert!(words.starts_with(&format!("{way}: ")) && words.contains("is told after"), "{words}");
}

pub async fn without_triggers_new_rows_are_paged_and_refreshed_ones_resynced(bed: Bed) {
    subscribe(&bed, "201");
    let mut seen = Seen::start(&bed, Duration::from_secs(1));
    assert_eq!(seen.synced().await.len(), 1);
    let health = seen.watch.health();
    assert_eq!(health.way, Some(Way::Paging), "{health}");
    assert!(health.to_string().contains("mwid sql"), "{health}");

    bed.insert(&[&[("event", "'presence'"), ("callid", "'p'"), ("expires", &tomorrow())]]);
    subscribe(&bed, "202");
    let inserted = Instant::now();
    seen.until("202").await;
    println!("paging every 100 ms: told {:?} after the INSERT", inserted.elapsed());

    bed.sql(
        "UPDATE active_watchers SET remote_cseq = 77 WHERE presentity_uri = 'sip:201@example.com';",
    );
    loop {
        let Change::Page(page) = seen.next().await else { continue };
        assert!(page.iter().all(|listed| !listed.accounts.is_empty()));
        if page.iter().any(|listed| listed.row.remote_cseq == Some(77)) {
            break;
        }
    }
}

pub async fn the_whole_table_is_read_page_by_page(bed: Bed) {
    let expires = tomorrow();
    let row: &[(&str, &str)] = &[("expires", &expires)];
    bed.insert(&vec![row; 1234]);
    bed.insert(&[
        &[("expires", &expires), ("status", "2")],
        &[("expires", "1000")],
        &[("expires", &expires), ("event", "'presence'")],
    ]);
    let mut seen = Seen::start(&bed, NEVER);
    let mut pages = Vec::new();
    loop {
        match seen.next().await {
            Change::Page(page) => pages.push(page.len()),
            Change::Synced => break,
            other => panic!("nothing changed: {other:?}"),
        }
    }
    assert_eq!(pages, [500, 500, 234]);
    assert_eq!(seen.watch.health().resyncs, 1);
    assert!(seen.watch.health().rows_read >= 1234);
}

pub async fn find_by_decides_whose_account_it_is(bed: Bed) {
    install(&bed.settings).await;
    // Kamailio keeps the From beside it, which find_by does not compare.
    let from =
        if bed.flavour == Flavour::Kamailio { ("from_user", "'f'") } else { ("reason", "'f'") };
    for (find_by, expected) in [
        (FindBy::Presentity, vec!["202"]),
        (FindBy::Watcher, vec!["alice"]),
        (FindBy::Either, vec!["202", "alice"]),
    ] {
        let mut seen = Seen::with(Database { find_by, resync: NEVER, ..bed.settings.clone() });
        seen.synced().await;
        seen.until_way(best(bed.kind)).await;
        bed.insert(&[&[("expires", &tomorrow()), from]]);
        assert_eq!(seen.accounts().await, expected);
        drop(seen);
        bed.sql("DELETE FROM active_watchers;");
        // The next watch reads the newest changes once more.
        if bed.kind != Kind::Postgres {
            bed.sql("DELETE FROM mwid_changes;");
        }
        bed.insert(&[&[("expires", &tomorrow()), from]]);
        if bed.kind != Kind::Postgres {
            bed.sql("DELETE FROM mwid_changes;");
        }
        let mut seen = Seen::with(Database { find_by, resync: NEVER, ..bed.settings.clone() });
        assert_eq!(seen.accounts().await, expected, "in a page");
        drop(seen);
        bed.sql("DELETE FROM active_watchers;");
    }
}

pub async fn triggers_may_come_and_go(bed: Bed) {
    let mut seen = Seen::start(&bed, NEVER);
    seen.synced().await;
    seen.until_way(Way::Paging).await;
    install(&bed.settings).await;
    seen.until_way(best(bed.kind)).await;
    seen.synced().await;
    subscribe(&bed, "202");
    assert_eq!(seen.accounts().await, ["202"]);
    remove(&bed.settings).await;
    remove(&bed.settings).await;
    seen.until_way(Way::Paging).await;
    // The presence server writes on without the triggers.
    subscribe(&bed, "203");
    seen.until("203").await;
}

pub async fn two_watches_share_one_database(bed: Bed) {
    install(&bed.settings).await;
    let mut watches = [Seen::start(&bed, NEVER), Seen::start(&bed, NEVER)];
    for seen in &mut watches {
        seen.synced().await;
        seen.until_way(best(bed.kind)).await;
    }
    for round in 0..3 {
        let user = format!("30{round}");
        subscribe(&bed, &user);
        for seen in &mut watches {
            seen.until(&user).await;
        }
    }
    if bed.kind == Kind::Postgres {
        return;
    }
    // Both trim what both have read.
    let left = || bed.sql("SELECT COUNT(*) FROM mwid_changes");
    watches[0].until_health("trimmed", |_| left() == "0").await;
    subscribe(&bed, "309");
    for seen in &mut watches {
        seen.until("309").await;
        assert_eq!(seen.watch.health().error, None);
    }
}

/// More at once than any queue on the way holds, while nobody takes them. PostgreSQL's connection
/// once waited for the loop, and the loop for an answer of the connection.
pub async fn a_storm_of_changes_is_seen_whole(bed: Bed) {
    install(&bed.settings).await;
    let mut seen = Seen::start(&bed, NEVER);
    seen.synced().await;
    seen.until_way(best(bed.kind)).await;
    let expires = tomorrow();
    let uris: Vec<String> = (0..3000).map(|n| format!("'sip:{n}@example.com'")).collect();
    let rows: Vec<_> = uris
        .iter()
        .map(|uri| [("presentity_uri", uri.as_str()), ("expires", expires.as_str())])
        .collect();
    let rows: Vec<&[(&str, &str)]> = rows.iter().map(<[_; 2]>::as_slice).collect();
    // This blocks the watch too: all its timers are due afterwards.
    bed.insert(&rows);
    let mut told = HashSet::new();
    while told.len() < uris.len() {
        told.extend(seen.accounts().await);
    }
    assert_eq!(seen.watch.health().error, None);
}
