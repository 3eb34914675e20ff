//! The wall clock is set while mwid runs, and while it does not. libfaketime does that to the one
//! process; the clock that pauses go by is left alone, as the kernel leaves it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::SOON;
use crate::support::fleet::rows::Server;
use crate::support::fleet::{Fleet, Setup};
use crate::support::mariadb::MariaDb;

const STEP: Duration = Duration::from_millis(2);

/// The clock of one process.
struct Clock {
    /// What libfaketime reads: how far the clock is set off.
    file: PathBuf,
}

impl Clock {
    /// Gives the fleet's mwid a clock of its own, from its next start on. It is right so far.
    fn of(fleet: &mut Fleet) -> Self {
        let clock = Self { file: fleet.folder().join("clock") };
        clock.set("+0");
        fleet.mwid.run_under(vec![
            "env".to_owned(),
            format!("LD_PRELOAD={}", library().display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", clock.file.display()),
            "FAKETIME_NO_CACHE=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
            "NO_FAKE_STAT=1".to_owned(),
        ]);
        clock
    }

    /// `+3600`, `-10y`: renamed into place, so that nobody reads half of it.
    fn set(&self, offset: &str) {
        let new = self.file.with_extension("new");
        fs::write(&new, offset).unwrap();
        fs::rename(new, &self.file).unwrap();
    }
}

/// Made for programs with threads.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path());
    folders
        .chain([Path::new("/usr/lib").to_owned()])
        .map(|folder| folder.join("faketime/libfaketimeMT.so.1"))
        .find(|file| file.exists())
        .expect("libfaketime is not there: apt-get install faketime, or scripts/setup")
}

#[test]
fn a_clock_that_is_set_while_mwid_runs_loses_no_lamp() {
    let mut fleet = Setup { seed: 61, ..Setup::new("clock set while mwid runs", 60, 20) }.build();
    let clock = Clock::of(&mut fleet);
    fleet.start();
    fleet.change(50, STEP);
    fleet.settle(SOON);

    let mut jumps = 0;
    for (there, word) in [("+10y", "forwards by 3153"), ("+3602", "forwards by 36")] {
        fleet.change(50, STEP);
        clock.set(there);
        jumps += 1;
        fleet.mwid.wait_for_word(word, 1, SOON);
        // By this clock every subscription has ended: nobody is told anything.
        fleet.change(50, STEP);
        clock.set("+0");
        jumps += 1;
        fleet.mwid.wait_for_word("was set backwards", jumps / 2, SOON);
        fleet.settle(SOON);
    }
    // Nothing is changed meanwhile: by this clock a phone would be promised ten years more than it
    // has, which these phones refuse.
    clock.set("-10y");
    fleet.mwid.wait_for_word("was set backwards", 3, SOON);
    clock.set("+0");
    fleet.mwid.wait_for_word("was set forwards", 3, SOON);
    fleet.change(50, STEP);
    let took = fleet.settle(SOON);
    fleet.report(took, ", after the clock was set six times");
    assert_eq!(fleet.mwid.said("the system clock was set"), 6, "each is said once");
    assert_eq!(fleet.board.figures().too_low, 0, "no CSeq was used twice");
}

#[test]
fn a_clock_that_is_set_between_two_runs_loses_neither_lamp_nor_cseq() {
    let mut fleet = Setup { seed: 62, ..Setup::new("clock set between runs", 60, 20) }.build();
    let clock = Clock::of(&mut fleet);
    fleet.start();
    fleet.change(100, STEP);
    fleet.settle(SOON);
    fleet.wait_until_written();
    fleet.mwid.stop();
    for offset in ["+10y", "-10y"] {
        clock.set(offset);
        fleet.start();
        fleet.mwid.wait_for_word("the spool has been counted", 1, SOON);
        fleet.mwid.stop();
        assert_eq!(fleet.acknowledged(), fleet.size(), "the ledger forgot nothing at {offset}");
    }
    let before = fleet.board.figures().notifies;
    clock.set("+0");
    fleet.start();
    fleet.settle(SOON);
    assert_eq!(fleet.board.figures().notifies, before, "nothing had changed");
    fleet.change(100, STEP);
    let took = fleet.settle(SOON);
    fleet.report(took, "");
    assert_eq!(fleet.board.figures().too_low, 0, "no CSeq was used twice");
}

#[test]
fn a_clock_that_differs_from_the_databases_is_said_once() {
    let server = Server::MariaDb(MariaDb::shared());
    let mut fleet = Setup { server, seed: 63, ..Setup::new("two clocks", 10, 0) }.build();
    let clock = Clock::of(&mut fleet);
    clock.set("+1000");
    fleet.start();
    fleet.mwid.wait_for_word("behind this machine's", 1, SOON);
    let took = fleet.settle(SOON);
    let skew = fleet.mwid.status()["watch"]["clock_skew_seconds"].as_i64();
    assert!(skew.is_some_and(|skew| (-1001..=-995).contains(&skew)), "{skew:?}");
    let troubles = fleet.mwid.status()["troubles"].to_string();
    assert!(troubles.contains("the database's clock is "), "{troubles}");
    fleet.report(took, "");
}
