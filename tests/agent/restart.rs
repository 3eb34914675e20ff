//! Subscriptions outlive the agent.

use nix::sys::signal::Signal;

use crate::bed::Bed;
use crate::phone::{counts, state};

#[test]
fn after_kill_9_no_phone_has_to_subscribe_again_and_no_cseq_falls() {
    let bed = Bed::new();
    let mut mwid = bed.start();
    let mut phones: Vec<_> = (0..5).map(|_| bed.phone("202")).collect();
    for phone in &mut phones {
        phone.subscribe(600);
    }
    for round in 3..7 {
        mwid.signal(Signal::SIGKILL);
        mwid.ended(crate::support::SOON);
        bed.house.messages("example.com/202", round, 1);
        mwid = bed.house.start();
        let wanted = format!("{round}/1 (0/0)");
        for phone in &mut phones {
            // The phone itself asserts that the CSeq rises, and that the dialog is the old one.
            phone.notify_until(&wanted, |notify| counts(notify) == Some(&wanted));
        }
    }
    assert_eq!(bed.house.rows(), 5);
    let answer = phones[0].ask("600", "");
    assert_eq!(answer.status(), Some(200), "and the dialog can be refreshed");
    assert_eq!(mwid.status()["agent"]["begun"], 0);
}

/// The last NOTIFY is a promise (RFC 6665 §4.4.1), and a crash does not end it.
#[test]
fn a_farewell_that_was_not_said_is_said_after_the_restart() {
    let bed = Bed::new();
    let mut mwid = bed.start();
    let mut phone = bed.phone("209");
    phone.subscribe(600);
    mwid.settled();
    mwid.signal(Signal::SIGKILL);
    mwid.ended(crate::support::SOON);
    let over = mwid::clock::unix() + 30;
    bed.house.sql(&format!("UPDATE active_watchers SET status = 3, expires = {over}"));
    let _mwid = bed.house.start();
    assert_eq!(state(&phone.notify()), "terminated;reason=timeout");
}

#[test]
fn what_expired_while_mwid_was_away_is_told_when_it_is_back() {
    let bed = Bed::new();
    let mut mwid = bed.start();
    let mut phone = bed.phone("202");
    phone.subscribe(600);
    mwid.settled();
    mwid.signal(Signal::SIGTERM);
    mwid.ended(crate::support::SOON);
    bed.house.sql("UPDATE active_watchers SET expires = 1");
    let _mwid = bed.house.start();
    assert_eq!(state(&phone.notify()), "terminated;reason=timeout");
}

/// A lamp must not go out because mwid has not counted yet.
#[test]
fn a_phone_that_refreshes_while_the_spool_is_counted_is_not_told_that_nothing_is_known() {
    let bed = Bed::new();
    let mut mwid = bed.start();
    let mut phone = bed.phone("202");
    phone.subscribe(600);
    for _ in 0..5 {
        mwid.signal(Signal::SIGTERM);
        mwid.ended(crate::support::SOON);
        mwid = bed.house.start();
        let answer = phone.ask("600", "");
        assert_eq!(answer.status(), Some(200));
        assert_eq!(counts(&phone.notify()), Some("2/1 (0/0)"));
    }
}
