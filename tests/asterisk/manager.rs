//! The manager goes away, comes back, refuses.

use std::fs;

use crate::asterisk::Asterisk;
use crate::{by_manager, deaf};

#[test]
fn what_changed_while_asterisk_or_mwid_was_away_is_read_afterwards() {
    let mut asterisk = Asterisk::start("/bin/true");
    let (proxy, mut house) = deaf();
    by_manager(&mut house, &asterisk);
    let mwid = house.start();
    mwid.log("manager tells of every change");
    asterisk.leave("202@leave");
    proxy.shows("call", "1/0 (0/0)");

    // Asterisk is away: somebody tidies up its spool.
    asterisk.kill();
    mwid.until("alone", |status| status["ami"]["phase"] == "connecting");
    let spool = asterisk.spool().join("default/202");
    for kind in ["txt", "wav"] {
        let message = |folder: &str| spool.join(folder).join(format!("msg0000.{kind}"));
        fs::create_dir_all(spool.join("Old")).unwrap();
        fs::rename(message("INBOX"), message("Old")).unwrap();
    }
    asterisk.run();
    proxy.shows("call", "0/1 (0/0)");
    assert_eq!(mwid.status()["ami"]["connections"], 2);
    // It follows, and does not only read.
    asterisk.leave("202@leave-urgent");
    proxy.shows("call", "1/1 (1/0)");

    // mwid is away.
    assert_eq!(mwid.stop().code(), Some(0));
    asterisk.press("202", "hear");
    asterisk.holds("202@default", "0/2 (0/0)");
    let _mwid = house.start();
    proxy.shows("call", "0/2 (0/0)");
    assert_eq!(proxy.refused(), [""; 0]);
}

#[test]
fn our_user_hears_of_mailboxes_and_of_nothing_else() {
    let asterisk = Asterisk::start("/bin/true");
    let (proxy, mut house) = deaf();
    by_manager(&mut house, &asterisk);
    let mwid = house.start();
    mwid.log("manager tells of every change");
    let before = mwid.status()["ami"]["packets"].as_u64().unwrap();
    asterisk.leave("202@leave");
    proxy.shows("call", "1/0 (0/0)");
    // One event and one answer.
    assert_eq!(mwid.settled()["ami"]["packets"], before + 2);

    // Without our eventfilter there is more to pass over, and nothing else is different.
    house.set("ami", "user", "loud");
    house.set("ami", "secret", "x");
    assert_eq!(house.mwid(&["reload"]).code, 0);
    mwid.until("following", |status| status["ami"]["phase"] == "following");
    let before = mwid.status()["ami"]["packets"].as_u64().unwrap();
    asterisk.leave("202@leave-urgent");
    proxy.shows("call", "2/0 (1/0)");
    assert!(mwid.settled()["ami"]["packets"].as_u64() > Some(before + 10));
}

#[test]
fn a_wrong_secret_and_missing_rights_are_named() {
    let asterisk = Asterisk::start("/bin/true");
    let (proxy, mut house) = deaf();
    by_manager(&mut house, &asterisk);
    house.set("ami", "secret", "wrong");
    let mwid = house.start();
    mwid.log("the login of mwid was refused: Authentication failed; check user and secret");
    house.set("ami", "user", "deaf");
    house.set("ami", "secret", "x");
    assert_eq!(house.mwid(&["reload"]).code, 0);
    mwid.log("VoicemailUsersList was refused: Permission denied; the user needs read = call and");
    assert!(house.mwid(&["status"]).out.contains("TROUBLE: Asterisk's manager is not heard"));
    by_manager(&mut house, &asterisk);
    assert_eq!(house.mwid(&["reload"]).code, 0);
    mwid.log("manager tells of every change");
    asterisk.leave("202@leave");
    proxy.shows("call", "1/0 (0/0)");
}
