//! A database that is not there, or is not what it should be.

use std::fs;

use crate::house::House;
use crate::peer::Peer;

#[test]
fn a_database_that_is_missing_at_the_start_is_said_once_and_found_when_it_appears() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    fs::rename(house.path("dialogs.db"), house.path("away.db")).unwrap();
    for user in ["201", "202", "203"] {
        house.messages(&format!("example.com/{user}"), 1, 0);
    }
    let mwid = house.start();
    let line = mwid.log("no connection to the SQLite file");
    assert!(line.contains("mwid keeps trying, nothing is lost"), "{line}");
    mwid.until("tried again", |status| status["counters"]["database_errors"].as_u64() >= Some(6));
    assert_eq!(mwid.status()["lamps"]["waiting"], 3);
    assert_eq!(mwid.count("no connection to the SQLite file"), 1, "{}", mwid.logged());
    assert!(line.contains("waiting="), "{line}");

    fs::rename(house.path("away.db"), house.path("dialogs.db")).unwrap();
    house.subscribe(&proxy, "202", "call");
    proxy.shows("call", "1/0 (0/0)");
    mwid.log("the database answers again");
    assert_eq!(mwid.settled()["enabled"], true);
}

#[test]
fn a_table_that_is_missing_is_named() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.sql("DROP TABLE active_watchers");
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    let line = mwid.log("has no table \"active_watchers\"");
    assert!(line.contains("ERROR"), "{line}");
    assert!(house.mwid(&["status"]).out.contains("has no table \"active_watchers\""));
    house.create_database();
    house.subscribe(&proxy, "202", "call");
    proxy.shows("call", "1/0 (0/0)");
}

#[test]
fn a_column_that_is_missing_is_named() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.sql("ALTER TABLE active_watchers DROP COLUMN socket_info");
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    let line = mwid.log("has no column \"socket_info\"");
    assert!(line.contains("ERROR"), "{line}");
    let said = house.mwid(&["status"]);
    assert!(said.code == 1 && said.out.contains("has no column \"socket_info\""), "{said:?}");
}

#[test]
fn a_database_that_goes_away_between_two_voicemails_is_caught_up_with() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    proxy.shows("call", "1/0 (0/0)");
    fs::rename(house.path("dialogs.db"), house.path("away.db")).unwrap();
    house.messages("example.com/202", 2, 0);
    mwid.log("no connection to the SQLite file");
    house.messages("example.com/202", 3, 0);
    fs::rename(house.path("away.db"), house.path("dialogs.db")).unwrap();
    proxy.shows("call", "3/0 (0/0)");
    assert_eq!(proxy.refused(), [""; 0]);
}

#[test]
fn a_restart_tells_the_phones_the_truth_with_a_higher_cseq() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    proxy.shows("call", "1/0 (0/0)");
    mwid.settled();
    // Killed, not stopped.
    drop(mwid);
    house.messages("example.com/202", 0, 1);
    let _mwid = house.start();
    proxy.shows("call", "0/1 (0/0)");
    assert_eq!(proxy.refused(), [""; 0]);
}

#[test]
fn rows_that_can_be_read_and_not_written_are_a_trouble_said_once_until_a_claim_works() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.sql(
        "CREATE TRIGGER replica BEFORE UPDATE ON active_watchers \
         BEGIN SELECT RAISE(ABORT, 'this is a replica'); END",
    );
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    mwid.until("three claims", |status| status["counters"]["claims"].as_u64() >= Some(3));
    assert_eq!(mwid.count("this is a replica"), 1, "{}", mwid.logged());
    assert_eq!(mwid.count("answers again"), 0, "{}", mwid.logged());
    let said = house.mwid(&["status"]);
    assert!(said.out.contains("TROUBLE: no CSeq can be claimed: "), "{said:?}");
    assert!(said.out.contains("this is a replica"), "{said:?}");

    house.sql("DROP TRIGGER replica");
    proxy.shows("call", "1/0 (0/0)");
    mwid.log("the rows of subscriptions can be written again");
    let status = mwid.settled();
    assert_eq!(status["troubles"].as_array().unwrap().len(), 0, "{status}");
}
