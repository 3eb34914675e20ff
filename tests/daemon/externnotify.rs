//! externnotify from Asterisk's command to the phone.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::house::House;
use crate::peer::Peer;

#[test]
fn with_a_spool_the_mailbox_is_counted_whatever_the_call_says() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    // Polled so rarely that only the call can be the reason.
    house.set("spool", "watch", "poll");
    house.set("spool", "poll", "3600");
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    proxy.shows("call", "1/0 (0/0)");
    house.messages("example.com/202", 3, 1);
    assert_eq!(house.externnotify(&["example.com", "202", "7", "7", "7"]).code, 0);
    proxy.shows("call", "3/1 (0/0)");
    assert_eq!(mwid.status()["counters"]["observed_by_externnotify"], 1);
}

#[test]
fn without_a_spool_the_counts_of_the_call_are_told() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("spool", "enabled", "no");
    house.set("contexts", "default", "example.com");
    house.subscribe(&proxy, "202", "call");
    let mwid = house.start();
    assert_eq!(house.externnotify(&["", "202", "1", "2", "1"]).code, 0);
    proxy.shows("call", "2/2 (1/0)");
    // No counts and nothing to count: nothing is guessed.
    assert_eq!(house.externnotify(&["default", "202"]).code, 0);
    mwid.log("externnotify gave no counts and there is no spool to count");
    assert_eq!(mwid.settled()["sip"]["notifies"], 1);
}

#[test]
fn a_mailbox_that_the_spool_does_not_have_is_told_as_the_call_says() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.subscribe(&proxy, "202", "call");
    let mwid = house.start();
    mwid.log("the spool has been counted");
    assert_eq!(house.externnotify(&["example.com", "202", "4", "0", "0"]).code, 0);
    proxy.shows("call", "4/0 (0/0)");
}

/// With ODBC or IMAP storage a message is in the spool for as long as it takes to store it, and
/// `[spool] enabled` is `yes` unless somebody thinks of it.
#[test]
fn with_odbc_storage_the_lamp_stays_on_also_over_a_restart() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.messages("example.com/202", 0, 0);
    house.subscribe(&proxy, "202", "first");
    let mwid = house.start();
    proxy.shows("first", "0/0 (0/0)");
    house.messages("example.com/202", 1, 0);
    assert_eq!(house.externnotify(&["example.com", "202", "4", "0", "0"]).code, 0);
    house.messages("example.com/202", 0, 0);
    proxy.shows("first", "4/0 (0/0)");
    mwid.log("it looks like ODBC or IMAP storage; set [spool] enabled = no");
    mwid.settled();
    proxy.shows("first", "4/0 (0/0)");
    assert_eq!(mwid.stop().code(), Some(0));

    house.subscribe(&proxy, "202", "second");
    let mwid = house.start();
    mwid.log("the spool has been counted");
    proxy.shows("second", "4/0 (0/0)");
    // It is heard: Asterisk calls again.
    assert_eq!(house.externnotify(&["example.com", "202", "0", "4", "0"]).code, 0);
    proxy.shows("second", "0/4 (0/0)");
    assert_eq!(house.externnotify(&["example.com", "202", "0", "0", "0"]).code, 0);
    proxy.shows("first", "0/0 (0/0)");
    proxy.shows("second", "0/0 (0/0)");
}

#[test]
fn a_call_that_comes_late_does_not_light_the_lamp_of_an_empty_mailbox() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.messages("example.com/202", 1, 0);
    house.subscribe(&proxy, "202", "call");
    let mwid = house.start();
    proxy.shows("call", "1/0 (0/0)");
    house.messages("example.com/202", 0, 0);
    // Left, and deleted a moment later: the second call overtakes the first.
    let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos());
    let now = now.unwrap();
    for (stamp, new) in [(now, 0), (now - 1_000_000, 1)] {
        let text = format!(
            "mwid-externnotify 1\nstamp {stamp}\nmailbox 202\ncontext example.com\ncounts {new} 0 0\n"
        );
        socket.send_to(text.as_bytes(), house.path("run/externnotify.sock")).unwrap();
    }
    mwid.until("stale", |status| status["externnotify"]["stale"] == 1);
    mwid.settled();
    proxy.shows("call", "0/0 (0/0)");
}

#[test]
fn a_call_while_the_daemon_is_down_is_delivered_after_its_start() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("spool", "enabled", "no");
    house.subscribe(&proxy, "202", "call");
    assert_eq!(house.start().stop().code(), Some(0));
    assert_eq!(house.externnotify(&["example.com", "202", "1", "0", "0"]).code, 0);
    assert_eq!(house.externnotify(&["example.com", "202", "2", "0", "0"]).code, 0);
    assert_eq!(fs::read_dir(house.path("drop")).unwrap().count(), 2);
    let mwid = house.start();
    proxy.shows("call", "2/0 (0/0)");
    mwid.until("collected", |status| status["externnotify"]["dropped"] == 2);
    // The files go when the counts are in the ledger.
    let dropped = || fs::read_dir(house.path("drop")).unwrap().count();
    mwid.until("written", |_| dropped() == 0);
}

#[test]
fn mwid_externnotify_goes_where_the_named_configuration_says() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("spool", "enabled", "no");
    house.subscribe(&proxy, "202", "call");
    let mwid = house.start();
    let said = house.mwid(&["externnotify", "example.com", "202", "3", "0", "0"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    proxy.shows("call", "3/0 (0/0)");
    assert_eq!(mwid.stop().code(), Some(0));
    let dropped = || fs::read_dir(house.path("drop")).unwrap().count();
    assert_eq!(dropped(), 0);
    assert_eq!(house.mwid(&["externnotify", "example.com", "202", "4"]).code, 0);
    assert_eq!(dropped(), 1);
    // Its own options stand above the configuration's.
    let elsewhere = house.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let drop = format!("--drop={}", elsewhere.display());
    assert_eq!(house.mwid(&["externnotify", &drop, "example.com", "202", "5"]).code, 0);
    assert_eq!((dropped(), fs::read_dir(elsewhere).unwrap().count()), (1, 1));

    fs::remove_file(house.config()).unwrap();
    let said = house.mwid(&["externnotify", "example.com", "202", "5"]);
    assert_eq!(said.code, 2);
    assert!(said.err.starts_with("mwid: cannot read ") && said.out.is_empty(), "{said:?}");
}

/// Asterisk starts one command for each change and waits for none of them.
#[test]
fn of_calls_that_overtake_each_other_the_last_counts_win() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("spool", "enabled", "no");
    house.subscribe(&proxy, "202", "call");
    let mwid = house.start();
    let call = |new: u32| {
        let new = new.to_string();
        let mut command = house.externnotify_command();
        command.args(["example.com", "202", &new, "0", "0"]).spawn().unwrap()
    };
    let running: Vec<_> = (1..=30).map(call).collect();
    for mut child in running {
        assert!(child.wait().unwrap().success());
    }
    // Those were started in any order; this one after all of them.
    assert!(call(99).wait().unwrap().success());
    proxy.shows("call", "99/0 (0/0)");
    let status = mwid.until("all taken", |status| {
        let taken = |what: &str| status["externnotify"][what].as_u64().unwrap();
        taken("calls") + taken("stale") == 31
    });
    let notifies = mwid.settled()["sip"]["notifies"].clone();
    assert!(notifies.as_u64() <= Some(31), "{status:#}");
    proxy.shows("call", "99/0 (0/0)");
}

#[test]
fn rubbish_in_socket_and_drop_folder_stops_nobody() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("spool", "enabled", "no");
    house.subscribe(&proxy, "202", "call");
    fs::create_dir(house.path("drop")).unwrap();
    fs::write(house.path("drop/00000000000000000001-1-1.call"), b"\xff\x00rubbish").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", house.path("drop/00000000000000000002-1-1.call"))
        .unwrap();
    let mwid = house.start();
    let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
    for rubbish in [&b""[..], b"\xff\xfe", &[b'a'; 4096]] {
        socket.send_to(rubbish, house.path("run/externnotify.sock")).unwrap();
    }
    assert_eq!(house.externnotify(&["example.com", "202", "1", "0", "0"]).code, 0);
    proxy.shows("call", "1/0 (0/0)");
    mwid.until("noticed", |status| {
        let stats = &status["externnotify"];
        stats["garbage"] == 3 && stats["bad_files"] == 2
    });
}
