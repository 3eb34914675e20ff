//! What mwid's own presence agent writes: subscriptions that begin, go on and end.

use mwid::dialogs::DialogStore;
use mwid_core::agent::{FAREWELL, GRACE, InDialog, Stored};
use mwid_core::dialog::{ACTIVE, Dialog, Row, TERMINATED};
use tokio::task::JoinSet;

use crate::bed::{Bed, ENDS, Kind, NOW, account};

const MANY: u32 = 50;

/// As the agent makes it of a SUBSCRIBE.
fn row(call_id: &str) -> Row {
    let text = |value: &str| Some(value.to_owned());
    Row {
        presentity_uri: text("sip:202@example.com"),
        from_user: text("alice"),
        from_domain: text("Example.com"),
        to_user: text("202"),
        to_domain: text("example.com"),
        to_tag: text("ours"),
        from_tag: text("Phone"),
        callid: text(call_id),
        local_cseq: Some(0),
        remote_cseq: Some(7),
        contact: Some(format!("sip:alice@192.0.2.7:5062;for={call_id}")),
        record_route: text("<sip:192.0.2.1;lr>, <sip:192.0.2.2;lr>"),
        expires: i64::try_from(ENDS).ok(),
        event_id: text("7.x"),
        local_contact: text("sip:192.0.2.9:5070"),
        socket_info: text("udp:192.0.2.9:5070"),
        ..Row::default()
    }
}

fn dialog(call_id: &str, cseq: u32) -> InDialog {
    InDialog {
        call_id: call_id.to_owned(),
        local_tag: "ours".to_owned(),
        remote_tag: "Phone".to_owned(),
        from_user: "alice".to_owned(),
        from_domain: "Example.com".to_owned(),
        event_id: Some("7.x".to_owned()),
        remote_cseq: cseq,
        contact: None,
    }
}

async fn insert(store: &DialogStore, call_id: &str) -> Stored {
    store.insert(&row(call_id), ACTIVE, NOW, MANY).await.unwrap()
}

async fn update(store: &DialogStore, dialog: &InDialog) -> Stored {
    store.update(dialog, ENDS + 600, None, NOW).await.unwrap()
}

fn done() -> Stored {
    Stored::Done(account())
}

async fn rows(store: &DialogStore) -> Vec<Row> {
    store.find_all(&[account()], NOW, true).await.remove(0).unwrap().rows
}

fn call_ids(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| row.callid.as_deref().unwrap()).collect()
}

pub async fn a_subscription_is_a_row_of_which_a_notify_can_be_made(bed: Bed) {
    let store = bed.store();
    assert_eq!(insert(&store, "c1").await, done());
    let found = store.find(&account(), NOW).await.unwrap().rows;
    let [read] = found.as_slice() else { panic!("{found:?}") };
    let (id, local_cseq) = (read.id, read.local_cseq);
    let wanted = Row { id, local_cseq, status: Some(1), sent_cseq: Some(0), ..row("c1") };
    assert_eq!(*read, wanted);
    let dialog = Dialog::from_row(read).unwrap();
    assert_eq!(store.claim(&dialog, 0).await.unwrap(), Some(1), "its first NOTIFY");
    assert_eq!(store.count().await.unwrap(), 1);
}

pub async fn the_same_subscribe_twice_is_one_row(bed: Bed) {
    let store = bed.store();
    assert_eq!(insert(&store, "c1").await, done());
    let before = rows(&store).await;
    assert_eq!(insert(&store, "c1").await, done());
    let later = Row { expires: row("c1").expires.map(|at| at + 4), ..row("c1") };
    assert_eq!(store.insert(&later, ACTIVE, NOW, MANY).await.unwrap(), done());
    assert_eq!(rows(&store).await, before, "left as it is");
    match (insert(&store, "C1").await, bed.kind) {
        (Stored::Done(_), _) => assert_eq!(rows(&store).await.len(), 2, "Call-IDs have a case"),
        // The unique index of a presence server on MySQL thinks otherwise.
        (other, kind) => {
            assert!(other == Stored::AccountFull && kind == Kind::MariaDb, "{other:?}")
        }
    }
}

pub async fn a_phone_that_begins_again_with_the_same_names_has_a_new_row(bed: Bed) {
    let store = bed.store();
    insert(&store, "c1").await;
    for (what, again, status) in [
        ("later", Row { expires: row("c1").expires.map(|at| at + 30), ..row("c1") }, ACTIVE),
        ("elsewhere", Row { contact: Some("sip:alice@192.0.2.8".into()), ..row("c1") }, ACTIVE),
        ("to fetch", row("c1"), TERMINATED),
        ("after its end", row("c1"), ACTIVE),
    ] {
        assert_eq!(store.insert(&again, status, NOW, 1).await.unwrap(), done(), "{what}");
        let now = rows(&store).await;
        assert_eq!((now.len(), now[0].status), (1, Some(status)), "{what}");
        assert_eq!((&now[0].contact, now[0].expires), (&again.contact, again.expires), "{what}");
    }
    update(&store, &dialog("c1", 9)).await;
    assert_eq!(insert(&store, "c1").await, done(), "after a refresh");
    assert_eq!(rows(&store).await[0].remote_cseq, Some(7));
}

pub async fn an_account_has_so_many_and_a_phone_that_started_again_takes_its_old_place(bed: Bed) {
    let store = bed.store();
    for call_id in ["c1", "c2", "c3"] {
        let again = Row { contact: Some("sip:alice@192.0.2.7".into()), ..row(call_id) };
        assert_eq!(store.insert(&again, ACTIVE, NOW, 3).await.unwrap(), done());
    }
    assert_eq!(store.insert(&row("c4"), ACTIVE, NOW, 3).await.unwrap(), Stored::AccountFull);
    assert_eq!(store.insert(&row("c3"), ACTIVE, NOW, 3).await.unwrap(), done(), "it is there");
    let again = Row { contact: Some("sip:alice@192.0.2.7".into()), ..row("c5") };
    assert_eq!(
        store.insert(&again, TERMINATED, NOW, 3).await.unwrap(),
        Stored::AccountFull,
        "who only fetches ends nothing"
    );
    let shouting = Row { contact: Some("sip:ALICE@192.0.2.7".into()), ..row("c5") };
    assert_eq!(store.insert(&shouting, ACTIVE, NOW, 3).await.unwrap(), Stored::AccountFull);
    for colleague in [
        Row { from_user: Some("bob".into()), ..again.clone() },
        Row { from_domain: Some("example.org".into()), ..again.clone() },
    ] {
        let stored = store.insert(&colleague, ACTIVE, NOW, 3).await.unwrap();
        assert_eq!(stored, Stored::AccountFull, "the same address in another home");
    }
    assert_eq!(store.insert(&again, ACTIVE, NOW, 3).await.unwrap(), done());
    assert_eq!(call_ids(&rows(&store).await), ["c5", "c3", "c2"]);
    // Another account has its own bound, and what has expired does not count.
    let other = Row { presentity_uri: Some("sip:203@example.com".into()), ..row("d1") };
    assert!(matches!(store.insert(&other, ACTIVE, NOW, 1).await.unwrap(), Stored::Done(_)));
    assert_eq!(store.insert(&row("c6"), ACTIVE, ENDS, 3).await.unwrap(), done());
}

pub async fn a_refresh_changes_its_row_and_no_other(bed: Bed) {
    let store = bed.store();
    insert(&store, "c1").await;
    insert(&store, "c2").await;
    let moved = InDialog { contact: Some("sip:alice@192.0.2.8".into()), ..dialog("c1", 8) };
    assert_eq!(update(&store, &moved).await, done());
    assert_eq!(update(&store, &dialog("c1", 8)).await, done(), "a copy, and without a Contact");
    assert_eq!(update(&store, &dialog("c1", 8)).await, done(), "once more: nothing changes");
    let [second, first] = rows(&store).await.try_into().unwrap();
    assert_eq!((first.remote_cseq, first.expires), (Some(8), i64::try_from(ENDS + 600).ok()));
    assert_eq!(first.contact.as_deref(), Some("sip:alice@192.0.2.8"));
    assert_eq!(second.remote_cseq, Some(7));
    assert_eq!(update(&store, &dialog("c1", 7)).await, Stored::OutOfOrder);
    assert_eq!(rows(&store).await[1].remote_cseq, Some(8));
}

pub async fn only_the_same_dialog_of_the_same_user_is_refreshed(bed: Bed) {
    let store = bed.store();
    insert(&store, "c1").await;
    let same = dialog("c1", 8);
    for other in [
        InDialog { call_id: "C1".into(), ..same.clone() },
        InDialog { local_tag: "OURS".into(), ..same.clone() },
        InDialog { remote_tag: "phone".into(), ..same.clone() },
        InDialog { from_user: "bob".into(), ..same.clone() },
        InDialog { event_id: Some("7.X".into()), ..same.clone() },
        InDialog { event_id: None, ..same.clone() },
        InDialog { from_domain: "example.com".into(), ..same.clone() },
        InDialog { call_id: "c1' OR '1'='1".into(), ..same.clone() },
    ] {
        assert_eq!(update(&store, &other).await, Stored::Unknown, "{other:?}");
    }
    let late = store.update(&same, ENDS + 600, None, ENDS + GRACE).await.unwrap();
    assert_eq!(late, Stored::Unknown, "its time is over");
    let just = store.update(&dialog("c1", 7), ENDS, None, ENDS + GRACE - 1).await.unwrap();
    assert_eq!(just, done(), "a moment too late is in time");
    bed.sql("UPDATE active_watchers SET event = 'presence'");
    assert_eq!(update(&store, &same).await, Stored::Unknown);
}

pub async fn an_unsubscribe_ends_its_row_which_is_still_found(bed: Bed) {
    let store = bed.store();
    insert(&store, "c1").await;
    let (bye, over) = (dialog("c1", 8), NOW + FAREWELL);
    assert_eq!(store.update(&bye, over, Some("rejected"), NOW).await.unwrap(), done());
    assert_eq!(store.find(&account(), NOW).await.unwrap().rows, []);
    let [ended] = rows(&store).await.try_into().unwrap();
    assert_eq!((ended.status, ended.reason.as_deref()), (Some(3), Some("rejected")));
    assert_eq!(ended.expires, i64::try_from(over).ok());
    assert_eq!(update(&store, &dialog("c1", 9)).await, Stored::Unknown);
    assert_eq!(store.ended(NOW).await.unwrap(), [(ended.id, account())]);
    assert_eq!(store.ended(over).await.unwrap(), []);
    let fetch = store.insert(&row("c2"), TERMINATED, NOW, MANY).await.unwrap();
    assert_eq!(fetch, done());
    assert_eq!(rows(&store).await[0].reason.as_deref(), Some("timeout"));
}

pub async fn a_sweep_ends_what_is_over_and_deletes_what_has_said_farewell(bed: Bed) {
    let store = bed.store();
    for (call_id, ends) in [
        ("c1", NOW - GRACE),
        ("c2", NOW - GRACE - 10),
        ("c3", NOW + 1),
        // Its phone may still refresh it.
        ("c4", NOW - GRACE + 1),
    ] {
        let row = Row { expires: i64::try_from(ends).ok(), ..row(call_id) };
        store.insert(&row, ACTIVE, NOW - 100, MANY).await.unwrap();
    }
    let one = store.sweep(NOW, 1).await.unwrap();
    assert_eq!((one.accounts.as_slice(), one.ended, one.deleted), (&[account()][..], 1, 0));
    assert_eq!(call_ids(&rows(&store).await), ["c3", "c2"], "the oldest first");
    assert_eq!(store.sweep(NOW, 100).await.unwrap().ended, 1);
    let all = rows(&store).await;
    assert_eq!(call_ids(&all), ["c3", "c2", "c1"]);
    assert_eq!(all.iter().map(|row| row.status).collect::<Vec<_>>(), [Some(1), Some(3), Some(3)]);
    assert_eq!(all[1].reason.as_deref(), Some("timeout"));
    let idle = store.sweep(NOW, 100).await.unwrap();
    assert_eq!((idle.ended, idle.deleted), (0, 0));
    let last = store.sweep(NOW + FAREWELL, 100).await.unwrap();
    assert_eq!((last.ended, last.deleted), (2, 2));
    assert_eq!(store.count().await.unwrap(), 2);
}

pub async fn a_drain_ends_what_this_mwid_answered_a_part_at_a_time(bed: Bed) {
    let store = bed.store();
    for call_id in ["c1", "c2", "c3"] {
        insert(&store, call_id).await;
    }
    let others = Row { local_contact: Some("sip:192.0.2.10:5070".into()), ..row("d1") };
    store.insert(&others, ACTIVE, NOW, MANY).await.unwrap();
    let mut drained = Vec::new();
    for _ in 0..3 {
        drained.push(store.drain("sip:192.0.2.9:5070", NOW, 2).await.unwrap().ended);
    }
    assert_eq!(drained, [2, 1, 0]);
    let all = rows(&store).await;
    let ended = all.iter().filter(|row| row.reason.as_deref() == Some("deactivated"));
    assert_eq!(ended.count(), 3);
    let live = store.find(&account(), NOW).await.unwrap().rows;
    assert_eq!(call_ids(&live), ["d1"]);
    let expires = all.iter().map(|row| row.expires.unwrap()).min();
    assert_eq!(expires, i64::try_from(NOW + FAREWELL).ok());
}

pub async fn other_events_and_other_states_are_left_alone(bed: Bed) {
    bed.insert(&[
        &[("event", "'presence'"), ("expires", "1")],
        &[("status", "2"), ("expires", "1")],
        &[("event", "'presence'"), ("status", "3"), ("expires", "1")],
    ]);
    let store = bed.store();
    let swept = store.sweep(NOW, 100).await.unwrap();
    assert_eq!((swept.ended, swept.deleted), (0, 0));
    assert_eq!(store.drain("sip:127.0.0.1:5060", 0, 100).await.unwrap().ended, 0);
    assert_eq!(store.count().await.unwrap(), 3);
}

pub async fn a_value_that_no_column_holds_is_refused_and_not_cut(bed: Bed) {
    let store = bed.store();
    let long = Row { to_tag: Some("t".repeat(300)), ..row("c1") };
    match store.insert(&long, ACTIVE, NOW, MANY).await {
        Err(error) => assert!(!error.is_transient(), "{error}"),
        // SQLite holds anything.
        Ok(stored) => {
            assert_eq!(stored, done());
            assert_eq!(rows(&store).await[0].to_tag, long.to_tag);
        }
    }
}

pub async fn many_at_once_are_all_there(bed: Bed) {
    let store = bed.store();
    let (mut begun, mut refreshed) = (JoinSet::new(), JoinSet::new());
    for number in 0..40 {
        let (store, call_id) = (store.clone(), format!("c{}", number / 2));
        begun.spawn(async move { insert(&store, &call_id).await });
    }
    assert_eq!(begun.join_all().await, vec![done(); 40]);
    for number in 0..40 {
        let (store, call_id) = (store.clone(), format!("c{}", number / 2));
        refreshed.spawn(async move { update(&store, &dialog(&call_id, 8)).await });
    }
    assert_eq!(refreshed.join_all().await, vec![done(); 40]);
    assert_eq!(store.count().await.unwrap(), 20);
}
