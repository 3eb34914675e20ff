//! Which rows are found, and what is read from them.

use mwid::config::FindBy;
use mwid_core::dialog::{Dialog, Flavour};

use crate::bed::{Bed, ENDS, Kind, NOW, account, ids};

pub async fn only_live_rows_are_found(bed: Bed) {
    bed.insert(&[
        &[("id", "1")],
        &[("id", "2"), ("status", "2")],
        &[("id", "3"), ("status", "3")],
        &[("id", "4"), ("status", "4")],
        &[("id", "5"), ("event", "'presence'")],
        &[("id", "6"), ("expires", "1600000000")],
        &[("id", "7"), ("presentity_uri", "'sip:203@example.com'")],
        &[("id", "8"), ("event", "'message-summary.winfo'")],
    ]);
    let found = bed.store().find(&account(), NOW).await.unwrap();
    assert_eq!(ids(&found), [1]);
    assert!(!found.capped);
}

pub async fn a_subscription_is_live_until_the_second_it_ends(bed: Bed) {
    bed.insert(&[&[("id", "1")]]);
    let store = bed.store();
    assert_eq!(ids(&store.find(&account(), ENDS - 1).await.unwrap()), [1]);
    assert!(store.find(&account(), ENDS).await.unwrap().rows.is_empty());
    assert!(store.find(&account(), u64::MAX).await.unwrap().rows.is_empty());
}

pub async fn all_rows_come_newest_first_and_the_cap_is_told(bed: Bed) {
    bed.insert(&[&[("id", "11")], &[("id", "13")], &[("id", "12")]]);
    let all = bed.store_with(|settings| settings.max_dialogs = 3);
    let found = all.find(&account(), NOW).await.unwrap();
    assert_eq!((ids(&found), found.capped), (vec![13, 12, 11], false));
    let two = bed.store_with(|settings| settings.max_dialogs = 2);
    let found = two.find(&account(), NOW).await.unwrap();
    assert_eq!((ids(&found), found.capped), (vec![13, 12], true));
}

pub async fn every_column_is_read(bed: Bed) {
    let route = "<sip:127.0.0.1;lr>,<sip:10.0.0.1;lr;ftag=x>";
    bed.insert(&[&[
        ("id", "77"),
        ("callid", "'a1b2@phone'"),
        ("local_cseq", "5"),
        ("event_id", "'17'"),
        ("record_route", &format!("'{route}'")),
    ]]);
    let found = bed.store().find(&account(), NOW).await.unwrap();
    let row = &found.rows[0];
    assert_eq!((row.id, row.local_cseq, row.remote_cseq), (77, Some(5), Some(20)));
    assert_eq!(row.expires, Some(ENDS.cast_signed()));
    assert_eq!(row.record_route.as_deref(), Some(route));
    assert_eq!(row.event_id.as_deref(), Some("17"));
    let dialog = Dialog::from_row(row).unwrap();
    assert_eq!(&*dialog.call_id, "a1b2@phone");
    assert_eq!(&*dialog.local_tag, "notifier-tag", "to_tag is the notifier's");
    assert_eq!(&*dialog.remote_tag, "phone-tag", "from_tag is the phone's");
    assert_eq!(&*dialog.local_uri, "sip:202@example.com");
    assert_eq!(
        &*dialog.remote_uri,
        match bed.flavour {
            Flavour::OpenSips => "sip:alice@phones.example.com",
            Flavour::Kamailio => "sip:alice-from@from.example.com",
        }
    );
    assert_eq!(&*dialog.remote_target, "sip:alice@127.0.0.1:5062;transport=udp");
    assert_eq!(&*dialog.local_contact, "sip:127.0.0.1:5060");
    assert_eq!(dialog.socket_info.as_deref(), Some("udp:127.0.0.1:5060"));
    assert_eq!(dialog.route_set.len(), 2);
}

pub async fn null_in_any_column_is_no_panic(bed: Bed) {
    bed.create_loose_table("VARCHAR(255)", "INTEGER");
    bed.sql(&format!(
        "INSERT INTO active_watchers (id, presentity_uri, event, status, expires) \
         VALUES (1, 'sip:202@example.com', 'message-summary', 1, {ENDS}), \
                (2, NULL, NULL, NULL, NULL)"
    ));
    let found = bed.store().find(&account(), NOW).await.unwrap();
    assert_eq!(ids(&found), [1]);
    let row = &found.rows[0];
    assert_eq!((&row.callid, row.local_cseq, &row.from_user), (&None, None, &None));
    assert!(Dialog::from_row(row).is_err(), "a row without Call-ID is no dialog");
}

pub async fn find_by_presentity_watcher_or_either(bed: Bed) {
    bed.insert(&[
        &[("id", "1")],
        &[
            ("id", "2"),
            ("presentity_uri", "'sip:100@example.com'"),
            ("watcher_username", "'202'"),
            ("watcher_domain", "'example.com'"),
        ],
        &[
            ("id", "3"),
            ("presentity_uri", "'sip:100@example.com'"),
            ("watcher_username", "'202'"),
            ("watcher_domain", "'example.org'"),
        ],
        &[
            ("id", "4"),
            ("presentity_uri", "'sip:100@example.com'"),
            ("watcher_username", "'202'"),
            ("watcher_domain", "'example.com'"),
            ("status", "3"),
        ],
    ]);
    for (find_by, expected) in
        [(FindBy::Presentity, vec![1]), (FindBy::Watcher, vec![2]), (FindBy::Either, vec![2, 1])]
    {
        let store = bed.store_with(|settings| settings.find_by = find_by);
        let found = store.find(&account(), NOW).await.unwrap();
        assert_eq!(ids(&found), expected, "{find_by:?}");
    }
}

pub async fn hostile_account_text_is_only_data(bed: Bed) {
    bed.insert(&[&[("id", "1")], &[("id", "2"), ("presentity_uri", "'sip:%@example.com'")]]);
    for find_by in [FindBy::Presentity, FindBy::Watcher, FindBy::Either] {
        let store = bed.store_with(|settings| settings.find_by = find_by);
        for user in ["x'or'1'='1", "202';--", "2_2", "$1", "?", "202'--"] {
            let account = format!("sip:{user}@example.com").parse().unwrap();
            let found = store.find(&account, NOW).await.unwrap();
            assert!(found.rows.is_empty(), "{user} found {:?}", ids(&found));
        }
    }
    let account = "sip:%@example.com".parse().unwrap();
    assert_eq!(ids(&bed.store().find(&account, NOW).await.unwrap()), [2]);
}

/// 64-bit integers and unlimited text, as an operator may have widened the columns, and text that
/// is no UTF-8.
pub async fn wide_columns_are_read_too(bed: Bed) {
    let text = if bed.kind == Kind::MariaDb { "VARBINARY(4000)" } else { "TEXT" };
    bed.create_loose_table(text, "BIGINT");
    let contact = match bed.kind {
        Kind::MariaDb => "X'ff41'",
        Kind::Postgres => "'\u{fffd}A'",
        Kind::Sqlite => "CAST(X'ff41' AS TEXT)",
    };
    bed.sql(&format!(
        "INSERT INTO active_watchers (id, presentity_uri, event, status, expires, remote_cseq, \
         contact) VALUES (5000000000, 'sip:202@example.com', 'message-summary', 1, 5000000000, \
         5000000000, {contact})"
    ));
    let found = bed.store().find(&account(), NOW).await.unwrap();
    assert_eq!(ids(&found), [5_000_000_000]);
    assert_eq!(found.rows[0].remote_cseq, Some(5_000_000_000));
    assert_eq!(found.rows[0].contact.as_deref(), Some("\u{fffd}A"));
}
