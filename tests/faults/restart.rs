//! Restarts with nothing changed: the ledger knows what every phone shows.

use std::time::Duration;

use crate::support::fleet::Setup;
use crate::support::fleet::switchboard::Mode;
use crate::support::{SOON, wait_for};

#[test]
fn after_a_clean_restart_with_nothing_changed_no_phone_is_told_anything() {
    let mut fleet = Setup { seed: 81, ..Setup::new("clean restart", 150, 50) }.build();
    fleet.start();
    fleet.change(300, Duration::from_millis(2));
    fleet.settle(SOON);
    let before = fleet.board.figures().notifies;
    fleet.mwid.stop();
    assert_eq!(fleet.acknowledged(), fleet.size(), "a clean end writes all");
    fleet.start();
    let took = fleet.settle(SOON);
    let lookups = fleet.mwid.number("/counters/lookups");
    assert!(lookups >= fleet.spool.count() as u64, "each account was looked up");
    assert_eq!(fleet.board.figures().notifies, before);
    assert_eq!(fleet.mwid.number("/sip/notifies"), 0);
    // kill -9, once everything is written, costs nothing either.
    fleet.wait_until_written();
    fleet.mwid.kill();
    fleet.start();
    fleet.settle(SOON);
    assert_eq!(fleet.board.figures().notifies, before);
    // And what changes while nobody runs is told to those whom it concerns, and to nobody else.
    fleet.mwid.stop();
    fleet.spool.leave(0);
    fleet.start();
    fleet.settle(SOON);
    fleet.report(took, "");
    assert_eq!(fleet.board.figures().notifies, before + 2, "mailbox 0 has two phones");
}

#[test]
fn after_kill_9_only_those_in_flight_are_told_again() {
    const CHANGED: usize = 40;
    let mut fleet = Setup { seed: 82, ..Setup::new("kill -9, in flight", 150, 0) }.build();
    fleet.start();
    fleet.settle(SOON);
    fleet.wait_until_written();
    let before = fleet.notifies();
    fleet.board.set_mode(Mode::Silent);
    for mailbox in 0..CHANGED {
        fleet.spool.leave(mailbox);
    }
    let all = CHANGED as u64;
    wait_for("NOTIFYs in flight", SOON, || {
        (fleet.mwid.number("/lamps/in_flight") == all
            && fleet.acknowledged() == fleet.size() - CHANGED)
            .then_some(())
    });
    fleet.mwid.kill();
    fleet.board.set_mode(Mode::Up);
    let silent = fleet.notifies();
    fleet.start();
    let took = fleet.settle(SOON);
    fleet.report(took, &format!(", {CHANGED} in flight when killed"));
    for (phone, count) in fleet.notifies().into_iter().enumerate() {
        let expected = if phone < CHANGED { silent[phone] + 1 } else { before[phone] };
        assert_eq!(count, expected, "NOTIFYs to phone {phone}");
    }
}
