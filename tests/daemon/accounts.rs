//! Which mailbox lights which phone.

use crate::house::{House, insert, subscription};
use crate::peer::Peer;

#[test]
fn several_mailboxes_of_one_account_add_up_and_a_shared_one_lights_two() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.subscribe(&proxy, "boss", "boss");
    house.subscribe(&proxy, "desk", "desk");
    house.set("mailboxes", "1@default", "sip:boss@example.com");
    house.set("mailboxes", "2@default", "sip:boss@example.com, sip:desk@example.com");
    house.messages("default/1", 2, 1);
    house.messages("default/2", 3, 0);
    let mwid = house.start();
    proxy.shows("boss", "5/1 (0/0)");
    proxy.shows("desk", "3/0 (0/0)");
    mwid.settled();
    assert_eq!(proxy.transactions(2).len(), 2, "no part of a sum is told");
    house.messages("default/2", 0, 0);
    proxy.shows("boss", "2/1 (0/0)");
    proxy.shows("desk", "0/0 (0/0)");
}

#[test]
fn a_context_is_mapped_to_its_domain_and_is_the_domain_itself_otherwise() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.subscribe(&proxy, "202", "mapped");
    house.subscribe(&proxy, "203", "itself");
    house.set("contexts", "default", "example.com");
    house.messages("default/202", 1, 0);
    house.messages("example.com/203", 2, 0);
    let _mwid = house.start();
    proxy.shows("mapped", "1/0 (0/0)");
    proxy.shows("itself", "2/0 (0/0)");
}

#[test]
fn all_phones_of_an_account_are_told() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    for phone in ["one", "two", "three"] {
        house.subscribe(&proxy, "202", phone);
    }
    house.messages("example.com/202", 1, 0);
    let _mwid = house.start();
    for phone in ["one", "two", "three"] {
        proxy.shows(phone, "1/0 (0/0)");
    }
}

#[test]
fn urgent_messages_are_new_ones_too() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    let urgent = house.path("spool/example.com/202/Urgent");
    std::fs::create_dir(&urgent).unwrap();
    std::fs::write(urgent.join("msg0000.txt"), "").unwrap();
    let _mwid = house.start();
    proxy.shows("call", "2/0 (1/0)");
}

/// A row that 100 watches 200: presentity 200, watcher 100.
fn watched_by_another(house: &House, proxy: &Peer) {
    let subscription = subscription(proxy, "200", "secretary");
    insert(&house.database(), &subscription, "127.0.0.1:5060");
    house.sql("UPDATE active_watchers SET watcher_username = '100' WHERE callid = 'secretary'");
    proxy.subscribe(subscription);
}

#[test]
fn find_by_watcher_looks_where_res_zonkey_mwi_looked() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("database", "find_by", "watcher");
    watched_by_another(&house, &proxy);
    house.messages("example.com/100", 1, 0);
    house.messages("example.com/200", 2, 0);
    let mwid = house.start();
    proxy.shows("secretary", "1/0 (0/0)");
    mwid.settled();
    assert_eq!(proxy.transactions(1).len(), 1);
}

#[test]
fn find_by_either_takes_the_watchers_row_when_the_presentity_has_no_mailbox() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("database", "find_by", "either");
    watched_by_another(&house, &proxy);
    house.messages("example.com/100", 1, 0);
    let _mwid = house.start();
    proxy.shows("secretary", "1/0 (0/0)");
}

/// Whichever of the two is counted first: the row is the presentity's.
#[test]
fn find_by_either_leaves_the_row_of_another_known_account_alone() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("database", "find_by", "either");
    house.set("spool", "enabled", "no");
    watched_by_another(&house, &proxy);
    let mwid = house.start();
    // The watcher's mailbox is known first, so that the row is taken for his.
    assert_eq!(house.externnotify(&["example.com", "100", "1", "0", "0"]).code, 0);
    proxy.shows("secretary", "1/0 (0/0)");
    assert_eq!(house.externnotify(&["example.com", "200", "2", "0", "0"]).code, 0);
    proxy.shows("secretary", "2/0 (0/0)");
    mwid.settled();
    assert_eq!(house.externnotify(&["example.com", "100", "3", "0", "0"]).code, 0);
    mwid.until("called", |status| status["counters"]["observed_by_externnotify"] == 3);
    let status = mwid.settled();
    assert_eq!(status["sip"]["notifies"], 2, "the watcher's own count is not his phone's affair");
    let said = house.mwid(&["show", "subscription", "200", "example.com"]);
    assert!(said.out.contains("Phone shows: 2/0 (0/0)"), "{said:?}");
}

#[test]
fn of_more_subscriptions_than_max_dialogs_the_newest_are_told_and_it_is_said_once() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("database", "max_dialogs", "3");
    for number in 0..8 {
        house.subscribe(&proxy, "202", &format!("call-{number}"));
    }
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    for number in 5..8 {
        proxy.shows(&format!("call-{number}"), "1/0 (0/0)");
    }
    house.messages("example.com/202", 2, 0);
    for number in 5..8 {
        proxy.shows(&format!("call-{number}"), "2/0 (0/0)");
    }
    let status = mwid.settled();
    assert_eq!(proxy.transactions(6).len(), 6, "the old ones are left alone");
    let capped = status["counters"]["capped_lookups"].as_u64();
    assert!(capped >= Some(2), "{capped:?}");
    let line = mwid.log("more live subscriptions than max_dialogs");
    assert!(line.contains("account=sip:202@example.com cap=3"), "{line}");
    assert_eq!(mwid.count("more live subscriptions than max_dialogs"), 1);
}
