//! Three doors, one truth.

use std::fs;
use std::time::{Instant, SystemTime};

use crate::asterisk::Asterisk;
use crate::house::{House, Mwid};
use crate::peer::Peer;
use crate::{by_manager, by_spool, deaf, externnotify};

/// An mwid, its phone, and the door that it listens at.
struct Listener {
    door: &'static str,
    proxy: Peer,
    _house: House,
    mwid: Mwid,
}

impl Listener {
    /// Waits until its phone shows this. Gives how long after `change` it was told, in milliseconds.
    fn shows(&self, counts: &str, change: SystemTime) -> f64 {
        self.proxy.shows("call", counts);
        let heard = self.proxy.heard();
        let told = heard.iter().rev().find(|heard| heard.counts() == counts && heard.copy == 1);
        let told = SystemTime::now() - (Instant::now() - told.unwrap().at);
        told.duration_since(change).map_or(0.0, |late| late.as_secs_f64() * 1000.0)
    }
}

/// One Asterisk, and an mwid at each of its doors.
fn listeners() -> (Asterisk, Vec<Listener>) {
    let (proxy, house) = deaf();
    let asterisk = Asterisk::start(&externnotify(&house));
    let mut all = vec![("externnotify", proxy, house)];
    fs::create_dir_all(asterisk.spool()).unwrap();
    let (proxy, mut house) = deaf();
    by_spool(&mut house, &asterisk);
    all.push(("spool", proxy, house));
    let (proxy, mut house) = deaf();
    by_manager(&mut house, &asterisk);
    all.push(("manager", proxy, house));
    let listen = |(door, proxy, house): (&'static str, Peer, House)| {
        let mwid = house.start();
        match door {
            "manager" => drop(mwid.log("manager tells of every change")),
            "spool" => drop(mwid.log("the spool has been counted")),
            _ => {}
        }
        Listener { door, proxy, _house: house, mwid }
    };
    let all = all.into_iter().map(listen).collect();
    (asterisk, all)
}

#[test]
fn spool_externnotify_and_manager_agree_with_asterisk_on_every_change() {
    let (asterisk, listeners) = listeners();
    let steps: &[(&str, &dyn Fn(), &str)] = &[
        ("left", &|| asterisk.leave("202@leave"), "1/0 (0/0)"),
        ("left", &|| asterisk.leave("202@leave"), "2/0 (0/0)"),
        ("left", &|| asterisk.leave("202@leave"), "3/0 (0/0)"),
        ("left, urgent", &|| asterisk.leave("202@leave-urgent"), "4/0 (1/0)"),
        // The urgent one is the first that is played. Heard, it is an old one, and urgent no more.
        ("heard", &|| asterisk.press("202", "hear"), "3/1 (0/0)"),
        ("heard", &|| asterisk.press("202", "hear"), "2/2 (0/0)"),
        // The first of two: the other one is renumbered.
        ("deleted", &|| asterisk.press("202", "delete"), "1/2 (0/0)"),
        // To the folder Work, which counts for nothing.
        ("moved", &|| asterisk.press("202", "save"), "0/2 (0/0)"),
        ("left", &|| asterisk.leave("202@leave"), "1/2 (0/0)"),
    ];
    for (what, change, counts) in steps {
        change();
        asterisk.holds("202@default", counts);
        let moved = asterisk.last_moved("202");
        for listener in &listeners {
            let late = listener.shows(counts, moved);
            // What else happens to a message ends when the call does, not when a file is moved.
            if what.starts_with("left") {
                eprintln!("{what}: {counts} by {} after {late:.1} ms", listener.door);
            }
        }
    }
    for Listener { door, proxy, mwid, .. } in &listeners {
        assert_eq!(proxy.refused(), [""; 0], "{door}");
        let counters = &mwid.settled()["counters"];
        let heard = ["spool", "externnotify", "ami"]
            .map(|source| counters[format!("observed_by_{source}")].as_u64() > Some(0));
        let expected = ["spool", "externnotify", "manager"].map(|source| source == *door);
        assert_eq!(heard, expected, "{door}: {counters}");
    }
}

#[test]
fn at_all_doors_together_a_burst_ends_right_and_nothing_untrue_is_told() {
    let (proxy, mut house) = deaf();
    let asterisk = Asterisk::start(&externnotify(&house));
    fs::create_dir_all(asterisk.spool()).unwrap();
    by_spool(&mut house, &asterisk);
    by_manager(&mut house, &asterisk);
    let mwid = house.start();
    mwid.log("manager tells of every change");
    for _ in 0..3 {
        asterisk.leave("202@leave");
        asterisk.leave("202@leave-urgent");
    }
    asterisk.holds("202@default", "6/0 (3/0)");
    proxy.shows("call", "6/0 (3/0)");
    mwid.settled();
    // Messages only came: neither number ever went down.
    let told: Vec<(u32, u32)> =
        proxy.heard().iter().map(|heard| numbers(&heard.counts())).collect();
    assert!(told.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1), "{told:?}");
    proxy.shows("call", "6/0 (3/0)");
}

/// New, and how many of them are urgent.
fn numbers(counts: &str) -> (u32, u32) {
    let parts: Vec<u32> = counts
        .split(|c: char| !c.is_ascii_digit())
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().unwrap())
        .collect();
    (parts[0], parts[2])
}
