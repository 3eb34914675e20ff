//! Messages in a database: a spool folder holds one only for as long as it takes to store it.

use std::fs;

use crate::asterisk::{Asterisk, Line};
use crate::{by_manager, by_spool, deaf, externnotify};

#[test]
fn with_odbc_storage_externnotify_and_the_manager_agree_and_an_empty_spool_does_not_matter() {
    let (proxy, mut house) = deaf();
    let asterisk = Asterisk::start_odbc(&externnotify(&house));
    // As it is where nobody thought of [spool] enabled = no.
    fs::create_dir_all(asterisk.spool()).unwrap();
    by_spool(&mut house, &asterisk);
    let by_call = house.start();
    by_call.log("the spool has been counted");
    let (manager_proxy, mut manager_house) = deaf();
    by_manager(&mut manager_house, &asterisk);
    let by_manager = manager_house.start();
    by_manager.log("manager tells of every change");
    let steps: &[(&dyn Fn(), &str)] = &[
        (&|| asterisk.leave("202@leave"), "1/0 (0/0)"),
        (&|| asterisk.leave("202@leave-urgent"), "2/0 (1/0)"),
        (&|| asterisk.press("202", "hear"), "1/1 (0/0)"),
        (&|| asterisk.press("202", "delete"), "0/1 (0/0)"),
    ];
    for (change, counts) in steps {
        change();
        asterisk.holds("202@default", counts);
        proxy.shows("call", counts);
        manager_proxy.shows("call", counts);
    }
}

#[test]
fn asterisk_says_zero_when_its_database_fails_and_a_full_read_mends_it() {
    let asterisk = Asterisk::start_odbc("/bin/true");
    let (proxy, mut house) = deaf();
    by_manager(&mut house, &asterisk);
    house.set("ami", "rescan", "1");
    let _mwid = house.start();
    asterisk.leave("202@leave");
    proxy.shows("call", "1/0 (0/0)");
    let database = rusqlite::Connection::open(asterisk.database()).unwrap();
    database.execute_batch("ALTER TABLE voicemessages RENAME TO away").unwrap();
    // This is what nobody can tell from an empty mailbox.
    assert_eq!(Line::log_in(&asterisk).count("202@default").to_string(), "0/0 (0/0)");
    proxy.shows("call", "0/0 (0/0)");
    database.execute_batch("ALTER TABLE away RENAME TO voicemessages").unwrap();
    proxy.shows("call", "1/0 (0/0)");
}
