//! What the rows of an SQLite file tell.

use std::fs;

use mwid::clock::unix;

use crate::doctor;
use crate::house::House;
use crate::peer::Peer;

const INDEX: &str = include_str!("../../sql/sqlite/index.sql");

#[test]
fn a_missing_index_is_named_with_the_script_that_adds_it_and_the_script_does() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    doctor(&house).is_well("index");
    house.set("database", "find_by", "either");
    let script = format!("sqlite3 {} < sql/sqlite/index.sql", house.path("dialogs.db").display());
    doctor(&house).says("index", "warning", "no index begins with watcher_username", &script);
    house.database().execute_batch(INDEX).unwrap();
    doctor(&house).is_well("index");
}

#[test]
fn rows_that_no_notify_can_be_made_of_are_counted_by_what_is_wrong() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    doctor(&house).says("rows", "warning", "0 live subscriptions", "fallback2db = 1");
    for user in ["202", "203", "204"] {
        house.subscribe(&proxy, user, user);
    }
    let seen = doctor(&house);
    seen.is_well("rows");
    seen.is_well("rows that cannot be told");
    house.sql("UPDATE active_watchers SET contact = 'sip:202@h' || char(27) WHERE callid <> '204'");
    house.sql("UPDATE active_watchers SET to_tag = '' WHERE callid = '204'");
    let seen = doctor(&house);
    seen.says(
        "rows that cannot be told",
        "warning",
        "2 live rows, 1 for one: column contact contains",
        "subscribes anew",
    );
    seen.says(
        "rows that cannot be told",
        "warning",
        "1 live rows, 3 for one: column to_tag is NULL or empty",
        "",
    );
}

#[test]
fn more_reasons_than_are_shown_are_counted() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    let bad = [
        "contact = 'x'",
        "local_contact = 'x'",
        "to_tag = ''",
        "from_tag = ''",
        "to_domain = ''",
        "record_route = 'x'",
        "presentity_uri = 'x'",
    ];
    for (number, bad) in bad.iter().enumerate() {
        house.subscribe(&proxy, "202", &number.to_string());
        house.sql(&format!("UPDATE active_watchers SET {bad} WHERE callid = '{number}'"));
    }
    let seen = doctor(&house);
    seen.says("rows that cannot be told", "warning", "2 live rows for 2 more reasons", "");
    assert_eq!(seen.of("rows that cannot be told").len(), 6);
}

#[test]
fn rows_whose_account_no_mailbox_lights_are_found() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    for user in ["202", "203", "204"] {
        house.subscribe(&proxy, user, user);
    }
    const CHECK: &str = "rows that nothing lights";
    assert_eq!(doctor(&house).of(CHECK), [], "the spool is empty, which is said");
    house.messages("default/202", 1, 0);
    doctor(&house).says(
        CHECK,
        "warning",
        "3 live rows, of sip:202@example.com for one: no context has the domain example.com",
        "[contexts] CONTEXT = example.com",
    );
    house.set("contexts", "default", "example.com");
    doctor(&house).says(CHECK, "ok", "2 of accounts whose mailbox has no folder yet, sip:203@", "");
    house.messages("default/203", 1, 0);
    house.set("mailboxes", "900@default", "204@example.com");
    doctor(&house).says(CHECK, "ok", "none of 3", "");
    house.sql("UPDATE active_watchers SET watcher_username = 'device' || id");
    house.set("database", "find_by", "watcher");
    doctor(&house).says(CHECK, "warning", "no account has a mailbox in the spool", "find_by");
    for number in 0..7 {
        let user = format!("other{number}");
        house.subscribe(&proxy, &user, &user);
        house.sql(&format!("UPDATE active_watchers SET watcher_domain = 'd{number}.example' WHERE callid = '{user}'"));
    }
    doctor(&house).says(CHECK, "warning", "2 live rows of 2 more domains", "");
    // An application may light any account.
    house.set("http", "listen", "127.0.0.1:1");
    house.set("http", "token", "0123456789abcdef0123456789abcdef");
    assert_eq!(doctor(&house).of(CHECK), []);
}

#[test]
fn what_will_hurt_is_seen_in_the_rows_before_it_does() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("database", "max_dialogs", "3");
    for number in 0..250 {
        // Of one phone, or each of its own.
        let user = if number < 5 { "boss".to_owned() } else { number.to_string() };
        house.subscribe(&proxy, &user, &format!("call-{number}"));
    }
    let over = i64::try_from(unix()).unwrap() - 60;
    house.sql("UPDATE active_watchers SET expires = expires + id");
    let seen = doctor(&house);
    assert_eq!(seen.of("expires"), []);
    seen.says(
        "max_dialogs",
        "warning",
        "sip:boss@example.com has 5 live subscriptions",
        "raise max_dialogs",
    );
    house.sql(&format!("UPDATE active_watchers SET expires = {over} WHERE id > 100"));
    house.sql(&format!("UPDATE active_watchers SET expires = {} WHERE id <= 100", over + 3000));
    let seen = doctor(&house);
    seen.says("expires", "warning", "150 active rows are over", "db_update_period");
    seen.says(
        "expires",
        "warning",
        "100 of 100 subscriptions end in the same second",
        "[timers] rate",
    );
}

#[test]
fn a_server_that_wrote_its_own_cseq_back_is_found_by_the_ledger() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    proxy.shows("call", "1/0 (0/0)");
    mwid.settled();
    // Beside the daemon, and after it.
    doctor(&house).is_well("local_cseq");
    assert!(mwid.stop().success());
    let files = || {
        let all = fs::read_dir(house.path("")).unwrap();
        let mut names: Vec<_> = all.map(|it| it.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = files();
    let seen = doctor(&house);
    seen.is_well("local_cseq");
    seen.is_well("ledger");
    assert_eq!(files(), before, "nothing is left behind beside the ledger");
    house.sql("UPDATE active_watchers SET local_cseq = 0");
    doctor(&house).says(
        "local_cseq",
        "warning",
        "1 rows count less than mwid sent",
        "fallback2db = 1",
    );
}

#[test]
fn a_table_that_is_not_there_or_lacks_a_column_and_a_file_that_is_not_there_are_named() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.sql("ALTER TABLE active_watchers RENAME COLUMN callid TO call");
    doctor(&house).says("database", "failed", "callid", "kamdbctl");
    house.sql("ALTER TABLE active_watchers RENAME TO others");
    doctor(&house).says("database", "failed", "active_watchers", "[database] url and table");
    fs::remove_file(house.path("dialogs.db")).unwrap();
    let seen = doctor(&house);
    seen.says("database", "failed", "dialogs.db", "may mwid's user read and write");
    assert!(!house.path("dialogs.db").exists(), "it is not made");
}
