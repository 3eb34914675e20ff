//! What was answered with a 2xx is not lost.

use std::fs;
use std::sync::Mutex;
use std::thread;

use mwid::source::externnotify::{FileName, Notice};
use mwid_core::mailbox::Mailbox;
use nix::sys::signal::Signal;

use crate::client::{address, ask, house, request, say};
use crate::peer::{Peer, SOON};

const SUMMARY: &str = "/v1/accounts/202@example.com/summary";

fn body(new: u32) -> String {
    format!(r#"{{"new": {new}, "old": 0}}"#)
}

#[test]
fn what_was_given_outlives_kill_9() {
    let proxy = Peer::phones();
    let house = house(&proxy);
    for round in 1..=5 {
        let mut mwid = house.start();
        assert_eq!(ask(address(&mwid), "PUT", SUMMARY, body(round)).status, 204);
        mwid.signal(Signal::SIGKILL);
        mwid.ended(SOON);
    }
    house.subscribe(&proxy, "202", "call");
    let _mwid = house.start();
    proxy.shows("call", "5/0 (0/0)");
}

/// Each of several clients says counts that grow, until the daemon is killed. Whatever it was
/// answered is the least that the phone shows after the restart.
#[test]
fn of_many_clients_at_once_none_is_answered_too_early() {
    let proxy = Peer::phones();
    let house = house(&proxy);
    let clients = 8;
    let mut mwid = house.start();
    let door = address(&mwid);
    let answered = Mutex::new(vec![0_u32; clients]);
    thread::scope(|scope| {
        for client in 0..clients {
            let answered = &answered;
            scope.spawn(move || {
                let target = format!("/v1/accounts/{client}@example.com/summary");
                for new in 1.. {
                    let answer = say(door, &request("PUT", &target, "", body(new)));
                    if !answer.starts_with(b"HTTP/1.1 204") {
                        return;
                    }
                    answered.lock().unwrap()[client] = new;
                }
            });
        }
        mwid.until("busy", |_| answered.lock().unwrap().iter().all(|&new| new >= 5));
        mwid.signal(Signal::SIGKILL);
        mwid.ended(SOON);
    });
    let mwid = house.start();
    for (client, new) in answered.into_inner().unwrap().into_iter().enumerate() {
        let path = format!("/v1/accounts/{client}@example.com");
        let shown = ask(address(&mwid), "GET", &path, "").json();
        let shown = shown["summary"]["newcount"].as_u64().unwrap();
        // The last one may have been written and its answer lost with the daemon.
        assert!((u64::from(new)..=u64::from(new) + 1).contains(&shown), "{new} {shown}");
    }
}

#[test]
fn where_the_ledger_cannot_be_written_the_phone_is_told_and_the_client_is_not_lulled() {
    let proxy = Peer::phones();
    let mut house = house(&proxy);
    fs::write(house.path("blocked"), "a file where a folder should be").unwrap();
    house.set("state", "path", house.path("blocked/ledger.db").to_str().unwrap());
    house.subscribe(&proxy, "202", "call");
    let mwid = house.start();
    let response = ask(address(&mwid), "PUT", SUMMARY, body(3));
    response.refused(503, "the ledger cannot be written");
    assert_eq!(response.header("retry-after"), Some("5"));
    proxy.shows("call", "3/0 (0/0)");
    fs::remove_file(house.path("blocked")).unwrap();
    // It is tried again with what is given next, at most every 10 s.
    mwid.until("written", |_| ask(address(&mwid), "PUT", SUMMARY, body(4)).status == 204);
}

#[test]
fn a_file_of_externnotify_stays_until_the_newer_counts_of_a_client_are_written() {
    let proxy = Peer::phones();
    let mut house = house(&proxy);
    fs::write(house.path("blocked"), "").unwrap();
    house.set("state", "path", house.path("blocked/ledger.db").to_str().unwrap());
    let mut mwid = house.start();
    assert_eq!(house.externnotify(&["example.com", "202", "1", "0", "0"]).code, 0);
    mwid.until("called", |status| status["mailboxes"] == 1);
    assert_eq!(ask(address(&mwid), "PUT", SUMMARY, body(2)).status, 503);
    assert_eq!(fs::read_dir(house.path("drop")).unwrap().count(), 1, "all that is left of both");
    mwid.signal(Signal::SIGKILL);
    mwid.ended(SOON);
    fs::remove_file(house.path("blocked")).unwrap();
    house.subscribe(&proxy, "202", "call");
    let _mwid = house.start();
    proxy.shows("call", "1/0 (0/0)");
}

/// Asterisk waits for none of its commands: an older one may leave its file last.
#[test]
fn an_older_call_of_externnotify_does_not_overtake_what_a_client_gave() {
    let proxy = Peer::phones();
    let house = house(&proxy);
    house.subscribe(&proxy, "202", "call");
    let mwid = house.start();
    assert_eq!(ask(address(&mwid), "PUT", SUMMARY, body(2)).status, 204);
    let name = FileName { stamp: 1000, process: 1, number: 0 };
    let mailbox = Mailbox::parse("202@example.com").unwrap();
    let older = Notice { stamp: 1000, mailbox, counts: Some([9, 0, 0]), file: None };
    fs::write(house.path("drop").join(name.to_string()), older.to_text()).unwrap();
    mwid.until("looked at", |status| status["externnotify"]["stale"] == 1);
    proxy.shows("call", "2/0 (0/0)");
    assert_eq!(mwid.settled()["sip"]["notifies"], 1);
}

#[test]
fn who_is_not_heard_any_more_when_mwid_stops_is_told_so_or_finds_nobody() {
    let proxy = Peer::phones();
    let house = house(&proxy);
    let mwid = house.start();
    let door = address(&mwid);
    let last = thread::spawn(move || {
        let mut last = 0;
        for new in 1.. {
            let answer = say(door, &request("PUT", SUMMARY, "", body(new)));
            match answer.get(..12) {
                Some(b"HTTP/1.1 204") => last = new,
                Some(b"HTTP/1.1 503") | None => break,
                Some(_) => panic!("{}", String::from_utf8_lossy(&answer)),
            }
        }
        last
    });
    mwid.until("busy", |status| status["counters"]["observed_by_http"].as_u64() >= Some(20));
    assert_eq!(mwid.stop().code(), Some(0));
    let last = last.join().unwrap();
    let mwid = house.start();
    let shown = ask(address(&mwid), "GET", "/v1/accounts/202@example.com", "").json();
    assert!(shown["summary"]["newcount"].as_u64() >= Some(last.into()), "{shown} {last}");
}
