//! What went away while mwid did not run: a lamp that nothing lights any more goes dark, and one whose
//! mailbox cannot be looked at stays as it is.

use std::fs;

use rusqlite::Connection;

use crate::house::{House, Mwid};
use crate::peer::Peer;

/// Mailboxes of the domain example.com with a phone each, all lit, and mwid stopped.
fn lit(proxy: &Peer, mailboxes: &[&str]) -> House {
    let house = House::new(proxy);
    for number in mailboxes {
        house.subscribe(proxy, number, number);
        house.messages(&format!("example.com/{number}"), 2, 0);
    }
    run(&house, proxy, mailboxes, "2/0 (0/0)");
    house
}

/// Runs mwid until these phones show this.
fn run(house: &House, proxy: &Peer, phones: &[&str], counts: &str) {
    let mwid = house.start();
    phones.iter().for_each(|phone| proxy.shows(phone, counts));
    mwid.settled();
    mwid.stop();
}

fn remove(house: &House, folder: &str) {
    fs::remove_dir_all(house.path("spool").join(folder)).unwrap();
}

/// The accounts that the ledger remembers.
fn remembered(house: &House) -> Vec<String> {
    let ledger = Connection::open(house.path("ledger.db")).unwrap();
    let mut query = ledger.prepare("SELECT account FROM accounts ORDER BY account").unwrap();
    let accounts = query.query_map([], |row| row.get(0)).unwrap();
    accounts.map(Result::unwrap).collect()
}

/// Waits until mwid has looked at everything that it can and has nothing to do.
fn looked(mwid: &Mwid) {
    mwid.until("counted", |status| !status["spool"]["last_full_count"].is_null());
    mwid.settled();
}

#[test]
fn a_mailbox_that_was_removed_is_dark_and_then_forgotten() {
    let proxy = Peer::phones();
    let house = lit(&proxy, &["202", "203"]);
    assert_eq!(remembered(&house), ["sip:202@example.com", "sip:203@example.com"]);
    remove(&house, "example.com/202");
    run(&house, &proxy, &["202"], "0/0 (0/0)");
    assert_eq!(remembered(&house), ["sip:203@example.com"]);
    // The last one of its context, and of the spool.
    remove(&house, "example.com/203");
    run(&house, &proxy, &["203"], "0/0 (0/0)");
    assert_eq!(remembered(&house), [""; 0]);
    assert_eq!(proxy.transactions(4).len(), 4, "nobody was told anything else");
}

#[test]
fn of_several_mailboxes_of_an_account_one_was_removed() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("contexts", "a", "example.com");
    house.set("contexts", "b", "example.com");
    house.subscribe(&proxy, "202", "202");
    house.messages("a/202", 2, 0);
    house.messages("b/202", 3, 0);
    run(&house, &proxy, &["202"], "5/0 (0/0)");
    let told = proxy.heard().len();
    // Nothing changed: the sum is never told in part.
    let mwid = house.start();
    looked(&mwid);
    mwid.stop();
    assert_eq!(proxy.heard().len(), told);
    remove(&house, "b/202");
    run(&house, &proxy, &["202"], "2/0 (0/0)");
    assert_eq!(proxy.heard().len(), told + 1, "one NOTIFY with the truth");
}

#[test]
fn a_mapping_that_was_removed_leaves_the_old_account_dark_and_lights_the_new_one() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    for phone in ["boss", "desk", "202"] {
        house.subscribe(&proxy, phone, phone);
    }
    house.set("mailboxes", "1@default", "sip:boss@example.com");
    house.set("contexts", "office", "example.com");
    house.messages("default/1", 1, 0);
    house.messages("office/202", 1, 0);
    run(&house, &proxy, &["boss", "202"], "1/0 (0/0)");
    house.set("mailboxes", "1@default", "sip:desk@example.com");
    house.set("contexts", "office", "office.example.com");
    run(&house, &proxy, &["boss", "202"], "0/0 (0/0)");
    proxy.shows("desk", "1/0 (0/0)");
    let left = ["sip:202@office.example.com", "sip:desk@example.com"];
    assert_eq!(remembered(&house), left);
}

#[test]
fn without_a_spool_a_mapping_that_was_removed_leaves_its_account_dark_too() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("spool", "enabled", "no");
    house.set("mailboxes", "1@default", "sip:boss@example.com");
    house.subscribe(&proxy, "boss", "boss");
    house.subscribe(&proxy, "desk", "desk");
    let mwid = house.start();
    assert_eq!(house.externnotify(&["default", "1", "3", "0", "0"]).code, 0);
    proxy.shows("boss", "3/0 (0/0)");
    mwid.stop();
    house.set("mailboxes", "1@default", "sip:desk@example.com");
    run(&house, &proxy, &["boss"], "0/0 (0/0)");
    proxy.shows("desk", "3/0 (0/0)");
}

#[test]
fn without_the_spool_that_counted_it_a_lamp_stays_until_a_call_comes() {
    let proxy = Peer::phones();
    let mut house = lit(&proxy, &["202"]);
    house.set("spool", "enabled", "no");
    let mwid = house.start();
    mwid.log("there were mailboxes in a spool");
    mwid.settled();
    assert_eq!(proxy.transactions(1).len(), 1);
    assert_eq!(house.externnotify(&["example.com", "202", "0", "0", "0"]).code, 0);
    proxy.shows("202", "0/0 (0/0)");
}

#[test]
fn a_context_that_was_removed_is_an_error_until_it_is_forgotten() {
    let proxy = Peer::phones();
    let house = lit(&proxy, &["202"]);
    fs::create_dir_all(house.path("spool/other/300/INBOX")).unwrap();
    remove(&house, "example.com");
    for _ in 0..2 {
        let mwid = house.start();
        mwid.log("`mwid forget example.com` if they are gone for good");
        looked(&mwid);
        let said = house.mwid(&["forget", "other"]);
        assert_eq!(
            (said.code, said.out.contains("no mailbox of context other is missed")),
            (1, true),
            "{said:?}"
        );
        mwid.stop();
        assert_eq!(proxy.transactions(1).len(), 1, "its lamp stays as it is");
    }
    let mwid = house.start();
    mwid.log("`mwid forget example.com`");
    let said = house.mwid(&["forget", "example.com"]);
    assert_eq!(said.code, 0, "{said:?}");
    proxy.shows("202", "0/0 (0/0)");
    mwid.until("well", |status| status["spool"]["troubles_total"] == 0);
    mwid.settled();
    mwid.stop();
    // And nothing misses it any more.
    let mwid = house.start();
    mwid.log("the spool has been counted");
    assert_eq!(mwid.status()["spool"]["troubles_total"], 0);
}

#[test]
fn an_unmounted_spool_or_context_darkens_nothing_and_is_looked_at_when_it_is_back() {
    for what in ["spool", "spool/example.com"] {
        let proxy = Peer::phones();
        let house = lit(&proxy, &["202", "203"]);
        fs::create_dir_all(house.path("spool/other/300/INBOX")).unwrap();
        let (here, away) = (house.path(what), house.path("away"));
        fs::rename(&here, &away).unwrap();
        fs::create_dir(&here).unwrap();
        let mwid = house.start();
        mwid.log("s it mounted?");
        mwid.settled();
        assert_eq!(proxy.transactions(2).len(), 2, "{what}: the lamps stay as they are");
        fs::remove_dir(&here).unwrap();
        fs::rename(&away, &here).unwrap();
        fs::remove_dir_all(house.path("spool/example.com/203")).unwrap();
        proxy.shows("203", "0/0 (0/0)");
        mwid.until("well", |status| status["spool"]["troubles_total"] == 0);
        mwid.settled();
        assert_eq!(proxy.transactions(3).len(), 3);
    }
}

#[test]
fn a_phone_that_could_not_be_told_that_it_is_dark_is_told_after_the_restart() {
    let proxy = Peer::phones();
    let house = lit(&proxy, &["202"]);
    let mwid = house.start();
    mwid.log("the spool has been counted");
    let silent = Peer::silent();
    let mut elsewhere = house;
    elsewhere.set("general", "proxy", &silent.address.to_string());
    assert_eq!(elsewhere.mwid(&["reload"]).code, 0);
    elsewhere.messages("example.com/202", 0, 0);
    silent.told("202", "0/0 (0/0)");
    drop(mwid);
    assert_eq!(remembered(&elsewhere), ["sip:202@example.com"], "nobody knows what it shows");
    // Now its mailbox is gone and its number another's: nothing leads to it any more.
    remove(&elsewhere, "example.com/202");
    elsewhere.set("mailboxes", "202@example.com", "sip:203@example.com");
    elsewhere.set("general", "proxy", &proxy.address.to_string());
    run(&elsewhere, &proxy, &["202"], "0/0 (0/0)");
    assert_eq!(remembered(&elsewhere), [""; 0]);
}

#[test]
fn another_mapping_while_the_spool_is_not_there_darkens_nothing() {
    let proxy = Peer::phones();
    let mut house = lit(&proxy, &["202"]);
    fs::rename(house.path("spool"), house.path("away")).unwrap();
    let mwid = house.start();
    mwid.until("absent", |status| status["spool"]["root"]["state"] == "absent");
    house.set("contexts", "elsewhere", "example.org");
    assert_eq!(house.mwid(&["reload"]).code, 0);
    mwid.settled();
    assert_eq!(proxy.transactions(1).len(), 1);
    fs::rename(house.path("away"), house.path("spool")).unwrap();
    house.messages("example.com/202", 3, 0);
    proxy.shows("202", "3/0 (0/0)");
    assert_eq!(proxy.transactions(2).len(), 2);
}
