//! What Asterisk said is not lost, however the daemon ends. There is no spool here that could be
//! counted again: who forgets a call has lost it.

use std::fs;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use mwid::source::externnotify::{FileName, Notice};
use mwid_core::mailbox::Mailbox;
use mwid_core::summary::Summary;
use nix::sys::signal::Signal;
use rusqlite::Connection;

use crate::house::{House, Mwid};
use crate::peer::{Peer, SOON};

const ROUNDS: u32 = 20;
/// Calls in a round, at most.
const CALLS: u64 = 60;
/// What each of the two Asterisks calls for. The last mailboxes of both make up one account.
const MAILBOXES: [[&str; 3]; 2] = [["201", "202", "205"], ["203", "204", "206"]];

/// xorshift64: the same rounds in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// How many calls have returned.
#[derive(Default)]
struct Returned(Mutex<u64>, Condvar);

impl Returned {
    fn one_more(&self) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
    }

    fn wait_for(&self, count: u64) {
        let returned = self.0.lock().unwrap();
        let wait = self.1.wait_timeout_while(returned, SOON, |returned| *returned < count);
        assert!(!wait.unwrap().1.timed_out(), "the calls do not return");
    }
}

/// One Asterisk, and the last counts that it said of each of its mailboxes.
struct Asterisk {
    mailboxes: [&'static str; 3],
    said: [Option<Summary>; 3],
    dice: Dice,
}

impl Asterisk {
    fn call(&mut self, house: &House, count: u64, returned: &Returned) {
        for _ in 0..count {
            let which = usize::try_from(self.dice.below(3)).unwrap();
            let [new, old, urgent] =
                [0; 3].map(|_: u32| u32::try_from(self.dice.below(50)).unwrap());
            let [new_text, old_text, urgent_text] =
                [new, old, urgent].map(|count| count.to_string());
            let mailbox = self.mailboxes[which];
            let said =
                house.externnotify(&["example.com", mailbox, &new_text, &old_text, &urgent_text]);
            assert_eq!((said.code, said.err.as_str()), (0, ""));
            self.said[which] = Some(Summary::from_asterisk(new, old, urgent));
            returned.one_more();
        }
    }
}

struct Site {
    house: House,
    proxy: Peer,
    asterisks: [Asterisk; 2],
}

impl Site {
    fn new(seed: u64) -> Self {
        let proxy = Peer::phones();
        let mut house = House::new(&proxy);
        house.set("spool", "enabled", "no");
        // As after the first start of the daemon.
        fs::create_dir(house.path("drop")).unwrap();
        for mailbox in ["205@example.com", "206@example.com"] {
            house.set("mailboxes", mailbox, "sip:boss@example.com");
        }
        for user in ["201", "202", "203", "204", "boss"] {
            house.subscribe(&proxy, user, user);
        }
        let asterisk = |index: usize| Asterisk {
            mailboxes: MAILBOXES[index],
            said: [None; 3],
            dice: Dice(seed + 1000 * (index as u64 + 1)),
        };
        Self { house, proxy, asterisks: [asterisk(0), asterisk(1)] }
    }

    /// Waits until every phone shows what was said last.
    fn all_phones_show_the_truth(&self) {
        let mut boss = None;
        for Asterisk { mailboxes, said, .. } in &self.asterisks {
            for (mailbox, said) in mailboxes.iter().zip(said) {
                let Some(said) = said else { continue };
                match *mailbox {
                    "205" | "206" => boss = Some(boss.unwrap_or(Summary::default()).plus(*said)),
                    mailbox => self.proxy.shows(mailbox, &said.to_string()),
                }
            }
        }
        if let Some(boss) = boss {
            self.proxy.shows("boss", &boss.to_string());
        }
    }

    /// Both call; the daemon is ended when `count` of the calls have returned.
    fn round(&mut self, mut mwid: Mwid, signal: Signal, calls: u64, count: u64) {
        let (house, returned) = (&self.house, Returned::default());
        let [one, two] = &mut self.asterisks;
        std::thread::scope(|scope| {
            scope.spawn(|| one.call(house, calls / 2, &returned));
            scope.spawn(|| two.call(house, calls - calls / 2, &returned));
            returned.wait_for(count);
            mwid.signal(signal);
            let status = mwid.ended(SOON);
            assert!(signal == Signal::SIGKILL || status.code() == Some(0), "{status}");
        });
    }
}

fn dropped(house: &House) -> Vec<PathBuf> {
    fs::read_dir(house.path("drop")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn wait_for_files(house: &House, count: usize) {
    let deadline = Instant::now() + SOON;
    while dropped(house).len() != count {
        assert!(Instant::now() < deadline, "not {count} files: {:?}", dropped(house));
        std::thread::yield_now();
    }
}

fn nothing_is_lost(signal: Signal, seed: u64) {
    let mut site = Site::new(seed);
    let mut dice = Dice(seed);
    for round in 0..ROUNDS {
        // Perhaps it is ended before it runs. Only kill -9 can end it there without a word.
        let mwid = match signal {
            Signal::SIGKILL if dice.below(4) == 0 => site.house.launch(),
            _ => site.house.start(),
        };
        if dice.below(2) == 0 {
            site.all_phones_show_the_truth();
        }
        let calls = dice.below(CALLS) + 2;
        // Perhaps at once after the last call: no later one covers what was lost.
        let count = if dice.below(2) == 0 { calls } else { dice.below(calls) };
        eprintln!("round {round}: {calls} calls, {signal} after {count}");
        site.round(mwid, signal, calls, count);
    }
    let mwid = site.house.start();
    site.all_phones_show_the_truth();
    wait_for_files(&site.house, 0);
    assert_eq!(mwid.stop().code(), Some(0));
    assert_eq!(dropped(&site.house), [""; 0].map(PathBuf::from));
    assert_eq!(site.proxy.refused(), [""; 0]);
}

#[test]
fn kill_9_at_any_moment_loses_no_call() {
    nothing_is_lost(Signal::SIGKILL, 0x5eed_0001);
}

#[test]
fn sigterm_at_any_moment_loses_no_call() {
    nothing_is_lost(Signal::SIGTERM, 0x5eed_0002);
}

#[test]
fn where_the_ledger_cannot_be_written_the_files_remember() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("spool", "enabled", "no");
    let blocked = house.path("blocked");
    fs::write(&blocked, "a file where a folder should be").unwrap();
    house.set("state", "path", &blocked.join("ledger.db").display().to_string());
    house.subscribe(&proxy, "202", "first-202");
    house.subscribe(&proxy, "203", "first-203");
    let mwid = house.start();
    for (mailbox, new) in [("202", "1"), ("203", "5"), ("202", "2"), ("202", "3")] {
        assert_eq!(house.externnotify(&["example.com", mailbox, new, "0", "0"]).code, 0);
    }
    proxy.shows("first-202", "3/0 (0/0)");
    proxy.shows("first-203", "5/0 (0/0)");
    // The last of each mailbox; and none of them is taken twice.
    wait_for_files(&house, 2);
    assert_eq!(mwid.status()["externnotify"]["calls"], 4);
    assert!(mwid.status()["ledger"]["error"].is_string());
    assert_eq!(mwid.stop().code(), Some(0));
    assert_eq!(dropped(&house).len(), 2);

    // Phones that were never told show who remembers. First the files, still without a ledger.
    house.subscribe(&proxy, "202", "second-202");
    let mut mwid = house.start();
    proxy.shows("second-202", "3/0 (0/0)");
    assert_eq!(dropped(&house).len(), 2);
    mwid.signal(Signal::SIGKILL);
    mwid.ended(SOON);

    // Then the files, for the last time.
    fs::remove_file(&blocked).unwrap();
    house.subscribe(&proxy, "202", "third-202");
    let mut mwid = house.start();
    proxy.shows("third-202", "3/0 (0/0)");
    wait_for_files(&house, 0);
    mwid.signal(Signal::SIGKILL);
    mwid.ended(SOON);

    // Then the ledger alone.
    house.subscribe(&proxy, "202", "fourth-202");
    house.subscribe(&proxy, "203", "fourth-203");
    let _mwid = house.start();
    proxy.shows("fourth-202", "3/0 (0/0)");
    proxy.shows("fourth-203", "5/0 (0/0)");
}

/// Asterisk waits for none of its commands: an older one may leave its file last.
#[test]
fn after_a_crash_an_older_file_does_not_overtake_what_was_said() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("spool", "enabled", "no");
    let mut mwid = house.start();
    assert_eq!(house.externnotify(&["example.com", "202", "2", "0", "0"]).code, 0);
    wait_for_files(&house, 0);
    mwid.signal(Signal::SIGKILL);
    mwid.ended(SOON);
    let name = FileName { stamp: 1000, process: 1, number: 0 };
    let mailbox = Mailbox::parse("202@example.com").unwrap();
    let older = Notice { stamp: 1000, mailbox, counts: Some([9, 0, 0]), file: None };
    fs::write(house.path("drop").join(name.to_string()), older.to_text()).unwrap();
    house.subscribe(&proxy, "202", "call");
    let mwid = house.start();
    mwid.until("looked at", |status| status["externnotify"]["stale"] == 1);
    wait_for_files(&house, 0);
    proxy.shows("call", "2/0 (0/0)");
    assert_eq!(mwid.settled()["sip"]["notifies"], 1);
}

#[test]
fn what_the_spool_counts_is_not_remembered_as_given() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("spool", "watch", "poll");
    house.set("spool", "poll", "3600");
    house.subscribe(&proxy, "202", "call");
    let mwid = house.start();
    mwid.log("the spool has been counted");
    let ledger = Connection::open(house.path("ledger.db")).unwrap();
    let given = || -> i64 {
        ledger.query_row("SELECT count(*) FROM mailboxes", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(house.externnotify(&["example.com", "202", "4", "0", "0"]).code, 0);
    proxy.shows("call", "4/0 (0/0)");
    mwid.until("remembered", |_| given() == 1 && dropped(&house).is_empty());
    // Now the spool has it: the next call has it counted.
    house.messages("example.com/202", 2, 1);
    assert_eq!(house.externnotify(&["example.com", "202", "9", "9", "9"]).code, 0);
    proxy.shows("call", "2/1 (0/0)");
    mwid.until("taken back", |_| given() == 0 && dropped(&house).is_empty());
    // A call without counts is a nudge, and its file goes with it.
    house.messages("example.com/202", 3, 1);
    assert_eq!(house.externnotify(&["example.com", "202"]).code, 0);
    proxy.shows("call", "3/1 (0/0)");
    mwid.until("done", |_| given() == 0 && dropped(&house).is_empty());
    assert_eq!(mwid.stop().code(), Some(0));
}
