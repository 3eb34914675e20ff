//! Another configuration, by command and by SIGHUP.

use std::fs;

use nix::sys::signal::Signal;

use crate::house::{House, Mwid, insert, subscription};
use crate::peer::Peer;

/// A phone of 202, three new messages, all told.
fn told(house: &House, proxy: &Peer) -> Mwid {
    house.subscribe(proxy, "202", "call");
    house.messages("example.com/202", 3, 0);
    let mwid = house.start();
    proxy.shows("call", "3/0 (0/0)");
    mwid.settled();
    mwid
}

/// Reloads and gives the first line of what it says; warnings may follow.
fn reload(house: &House) -> String {
    let said = house.mwid(&["reload"]);
    assert_eq!(said.code, 0, "{said:?}");
    said.out.lines().next().unwrap().to_owned()
}

fn break_config(house: &House) {
    let text = fs::read_to_string(house.config()).unwrap();
    fs::write(house.config(), format!("[general]\nprxy = 192.0.2.1\n{text}")).unwrap();
}

#[test]
fn a_broken_file_is_refused_by_line_and_key_and_the_old_one_stays_in_force() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    let mwid = told(&house, &proxy);
    break_config(&house);
    let said = house.mwid(&["reload"]);
    assert_eq!(said.code, 1, "{said:?}");
    let place = format!("{}:2: unknown key \"prxy\" in [general]", mwid.config().display());
    assert!(said.out.contains(&place), "{said:?}");
    assert!(said.out.ends_with("the old configuration stays in force\n"), "{said:?}");
    house.messages("example.com/202", 4, 0);
    proxy.shows("call", "4/0 (0/0)");
}

#[test]
fn sighup_reloads_and_a_broken_file_is_refused_there_too() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    let mwid = told(&house, &proxy);
    house.set("general", "vmexten", "*97");
    mwid.signal(Signal::SIGHUP);
    mwid.log("Configuration reloaded: [general]");
    house.messages("example.com/202", 4, 0);
    let heard = proxy.told("202", "4/0 (0/0)");
    let body = String::from_utf8_lossy(heard.message.body()).into_owned();
    assert!(body.contains("Message-Account: sip:*97@example.com\r\n"), "{body}");

    break_config(&house);
    mwid.signal(Signal::SIGHUP);
    mwid.log("unknown key \"prxy\"");
    mwid.log("the old configuration stays in force");
    assert_eq!(mwid.status()["enabled"], true);
}

#[test]
fn reload_says_when_nothing_changed_and_names_what_did() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    let mwid = house.start();
    assert_eq!(reload(&house), "Configuration reloaded: nothing changed");
    let warned = || mwid.count(" [control] is not at its defaults");
    mwid.until("warned as at the start", |_| warned() == 2);
    assert!(!mwid.logged().contains("warning:"), "{}", mwid.logged());
    house.set("timers", "rate", "100");
    house.set("contexts", "default", "example.com");
    let expected = "Configuration reloaded: [timers], [contexts] and [mailboxes]";
    assert_eq!(reload(&house), expected);
}

#[test]
fn another_proxy_takes_effect_at_once_even_for_those_that_wait() {
    let (dead, proxy) = (Peer::says(503), Peer::phones());
    let mut house = House::new(&dead);
    house.set("timers", "retry_min", "3600");
    house.set("timers", "retry_max", "3600");
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 3, 0);
    let mwid = house.start();
    mwid.log("not delivered, will be tried again: 503");
    house.set("general", "proxy", &proxy.address.to_string());
    reload(&house);
    proxy.shows("call", "3/0 (0/0)");
    assert_eq!(mwid.settled()["suspended_proxies"], serde_json::json!([]));
}

#[test]
fn another_context_lights_other_accounts_and_darkens_those_that_lost_their_mailbox() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.subscribe(&proxy, "202", "one");
    let mut other = subscription(&proxy, "202", "two");
    other.domain = "example.net".to_owned();
    insert(&house.database(), &other, "127.0.0.1:5060");
    proxy.subscribe(other);
    house.messages("default/202", 2, 0);
    house.set("contexts", "default", "example.com");
    let mwid = house.start();
    proxy.shows("one", "2/0 (0/0)");
    house.set("contexts", "default", "example.net");
    reload(&house);
    proxy.shows("two", "2/0 (0/0)");
    proxy.shows("one", "0/0 (0/0)");
    // An explicit account instead of the context's.
    house.set("mailboxes", "202@default", "sip:202@example.com");
    reload(&house);
    proxy.shows("one", "2/0 (0/0)");
    proxy.shows("two", "0/0 (0/0)");
    mwid.settled();
    assert_eq!(proxy.refused(), [""; 0]);
}

#[test]
fn another_spool_and_another_database_take_effect() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    let mwid = told(&house, &proxy);
    fs::create_dir(house.path("spool2")).unwrap();
    fs::rename(house.path("spool/example.com"), house.path("spool2/example.com")).unwrap();
    fs::write(house.path("spool2/example.com/202/INBOX/msg0003.txt"), "").unwrap();
    house.set("spool", "path", house.path("spool2").to_str().unwrap());
    assert_eq!(reload(&house), "Configuration reloaded: [spool]");
    proxy.shows("call", "4/0 (0/0)");

    let second = rusqlite::Connection::open(house.path("second.db")).unwrap();
    second.execute_batch(crate::house::SCHEMA).unwrap();
    let newer = subscription(&proxy, "202", "newer");
    insert(&second, &newer, "127.0.0.1:5060");
    proxy.subscribe(newer);
    let url = format!("sqlite:{}", house.path("second.db").display());
    house.set("database", "url", &url);
    assert_eq!(reload(&house), "Configuration reloaded: [database]");
    proxy.shows("newer", "4/0 (0/0)");
    let status = mwid.settled();
    assert!(status["database"]["url"].as_str().unwrap().ends_with("second.db"));
    assert_eq!(proxy.refused(), [""; 0]);
}

#[test]
fn what_the_former_database_still_answers_is_asked_of_the_other_one() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("database", "timeout", "20");
    house.set("timers", "settle", "0");
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 3, 0);
    fs::copy(house.path("dialogs.db"), house.path("second.db")).unwrap();
    let second = rusqlite::Connection::open(house.path("second.db")).unwrap();
    second.execute("UPDATE active_watchers SET id = id + 1000", []).unwrap();
    let former = house.database();
    former.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mwid = house.start();
    crate::pace::wait_for(&house, 1);
    let url = format!("sqlite:{}", house.path("second.db").display());
    house.set("database", "url", &url);
    reload(&house);
    former.execute_batch("COMMIT").unwrap();
    proxy.shows("call", "3/0 (0/0)");
    assert_eq!(mwid.settled()["counters"]["claims"], 1, "and no row of the former one there");
    assert_eq!(proxy.refused(), [""; 0]);
}

#[test]
fn the_control_sockets_cannot_change_while_mwid_runs() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    let mwid = house.start();
    let drop = house.path("elsewhere").display().to_string();
    house.set("control", "drop", &drop);
    let said = house.mwid(&["reload"]);
    assert_eq!(said.code, 1);
    assert!(said.out.starts_with("[control] cannot change while mwid runs"), "{said:?}");
    mwid.log("[control] cannot change while mwid runs");
}

#[test]
fn without_a_spool_the_sum_of_several_mailboxes_is_not_held_back_any_longer() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("spool", "path", house.path("nowhere").to_str().unwrap());
    house.set("mailboxes", "1@default", "sip:202@example.com");
    house.set("mailboxes", "2@default", "sip:202@example.com");
    house.subscribe(&proxy, "202", "call");
    let mwid = house.start();
    assert_eq!(house.externnotify(&["default", "1", "1", "0", "0"]).code, 0);
    mwid.until("called", |status| status["counters"]["observed_by_externnotify"] == 1);
    house.set("spool", "enabled", "no");
    reload(&house);
    proxy.shows("call", "1/0 (0/0)");
}

#[test]
fn an_account_whose_new_mailbox_does_not_exist_yet_goes_dark() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("mailboxes", "202@example.com", "sip:boss@example.com");
    house.subscribe(&proxy, "boss", "boss");
    house.messages("example.com/202", 3, 0);
    let mwid = house.start();
    mwid.log("the spool has been counted");
    proxy.shows("boss", "3/0 (0/0)");
    house.set("mailboxes", "202@example.com", "sip:202@example.com");
    house.set("mailboxes", "9@example.com", "sip:boss@example.com");
    reload(&house);
    proxy.shows("boss", "0/0 (0/0)");
    house.messages("example.com/9", 1, 0);
    proxy.shows("boss", "1/0 (0/0)");
}
