//! The end: SIGTERM, SIGINT, and what is in flight then.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::house::House;
use crate::peer::{Peer, SOON};

#[test]
fn sigterm_with_nothing_to_do_ends_at_once_with_0_and_removes_the_sockets() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let house = House::new(&Peer::silent());
        let mut mwid = house.start();
        let start = Instant::now();
        mwid.signal(signal);
        assert_eq!(mwid.ended(SOON).code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        for socket in ["run/control.sock", "run/externnotify.sock"] {
            assert!(!house.path(socket).exists(), "{socket} is still there");
        }
        mwid.log("stopped");
        // The next one finds its place free.
        assert_eq!(house.start().stop().code(), Some(0));
    }
}

#[test]
fn sigterm_waits_for_an_answer_that_comes() {
    let proxy = Peer::scripted(|heard| match heard.copy {
        1..=3 => Vec::new(),
        _ => vec![heard.answer(200, "")],
    });
    let house = House::new(&proxy);
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    let mut mwid = house.start();
    proxy.transactions(1);
    mwid.signal(Signal::SIGTERM);
    assert_eq!(mwid.ended(SOON).code(), Some(0));
    mwid.log("delivered: 200");
}

#[test]
fn sigterm_gives_up_after_the_time_that_shutdown_says() {
    let proxy = Peer::silent();
    let mut house = House::new(&proxy);
    house.set("timers", "shutdown", "1");
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    let mut mwid = house.start();
    proxy.transactions(1);
    let start = Instant::now();
    mwid.signal(Signal::SIGTERM);
    assert_eq!(mwid.ended(SOON).code(), Some(0));
    let took = start.elapsed();
    assert!((Duration::from_millis(990)..Duration::from_secs(4)).contains(&took), "{took:?}");
    mwid.log("given up: mwid stops");
}

/// A phone that no longer knows its subscription, and says so when mwid was told to stop while
/// the database was busy.
fn gone_at_the_end(house: &House, proxy: &Peer) -> (crate::house::Mwid, rusqlite::Connection) {
    house.subscribe(proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    proxy.transactions(1);
    let database = house.database();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    mwid.signal(Signal::SIGTERM);
    mwid.log("stopping: waiting");
    proxy.script(|heard| vec![heard.answer(481, "")]);
    mwid.log("the subscription is gone: 481");
    (mwid, database)
}

#[test]
fn sigterm_waits_for_the_rows_that_are_to_be_deleted() {
    let proxy = Peer::silent();
    let mut house = House::new(&proxy);
    house.set("general", "cleanup", "delete");
    let (mut mwid, database) = gone_at_the_end(&house, &proxy);
    database.execute_batch("ROLLBACK").unwrap();
    assert_eq!(mwid.ended(SOON).code(), Some(0));
    mwid.log("the row was deleted");
    assert_eq!(house.rows(), 0);
}

#[test]
fn sigterm_waits_no_longer_for_the_rows_than_shutdown_says() {
    let proxy = Peer::silent();
    let mut house = House::new(&proxy);
    house.set("general", "cleanup", "delete");
    house.set("timers", "shutdown", "2");
    let start = Instant::now();
    let (mut mwid, _database) = gone_at_the_end(&house, &proxy);
    assert_eq!(mwid.ended(SOON).code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert_eq!(house.rows(), 1);
}

#[test]
fn sigterm_with_shutdown_0_waits_for_nothing() {
    let proxy = Peer::silent();
    let mut house = House::new(&proxy);
    house.set("timers", "shutdown", "0");
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    let mut mwid = house.start();
    proxy.transactions(1);
    let start = Instant::now();
    mwid.signal(Signal::SIGTERM);
    assert_eq!(mwid.ended(SOON).code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn a_command_that_waits_is_answered_at_the_end() {
    let proxy = Peer::silent();
    let mut house = House::new(&proxy);
    house.set("timers", "shutdown", "0");
    house.subscribe(&proxy, "202", "call");
    let mwid = house.start();
    std::thread::scope(|scope| {
        let notify = scope.spawn(|| house.mwid(&["notify", "202", "example.com", "1", "0"]));
        proxy.transactions(1);
        assert_eq!(mwid.stop().code(), Some(0));
        let said = notify.join().unwrap();
        assert_eq!(said.code, 1);
        let all = format!("{}{}", said.out, said.err);
        assert!(all.contains("mwid is stopping"), "{said:?}");
    });
}

#[test]
fn clients_that_say_nothing_do_not_hold_up_the_end() {
    let house = House::new(&Peer::silent());
    let mwid = house.start();
    let silent: Vec<UnixStream> =
        (0..5).map(|_| UnixStream::connect(house.path("run/control.sock")).unwrap()).collect();
    let start = Instant::now();
    assert_eq!(mwid.stop().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    drop(silent);
}
