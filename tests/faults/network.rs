//! A bad network between mwid and the phones, a proxy that is silent or gone.

use std::time::{Duration, Instant};

use crate::support::SOON;
use crate::support::fleet::Setup;
use crate::support::fleet::switchboard::{Mode, Weather};

const STEP: Duration = Duration::from_millis(5);

/// Timer F is 3.2 s then.
const SHORT_T1: Duration = Duration::from_millis(50);

#[test]
fn loss_duplication_and_reordering_both_ways_leave_no_lamp_wrong() {
    let setup = Setup::new("30 % lost, 20 % doubled, 30 % late", 150, 50);
    let mut fleet = Setup { t1: SHORT_T1, seed: 31, ..setup }.build();
    fleet.board.set_weather(Weather {
        lost: 30,
        doubled: 20,
        late: 30,
        delay: Duration::from_millis(150),
    });
    fleet.start();
    fleet.change(300, STEP);
    // What the dead one has sent is still under way when the next one begins.
    fleet.kill_and_spawn();
    fleet.change(300, STEP);
    let took = fleet.settle(Duration::from_secs(40));
    let seen = fleet.board.figures();
    let note = format!(", {} lost, {} doubled, {} late", seen.lost, seen.doubled, seen.late);
    fleet.report(took, &note);
    assert!(seen.lost > 300 && seen.doubled > 100 && seen.late > 200, "{seen:?}");
    assert!(seen.copies > 100, "{seen:?}");
}

#[test]
fn a_proxy_that_is_gone_and_comes_back() {
    let setup = Setup::new("proxy gone (ICMP)", 60, 20);
    let mut fleet = Setup { seed: 32, ..setup }.build();
    fleet.start();
    fleet.change(50, STEP);
    fleet.settle(SOON);
    fleet.board.set_mode(Mode::Gone);
    fleet.change(200, STEP);
    fleet.mwid.wait_for_word("does not listen at", 1, SOON);
    assert_ne!(fleet.mwid.status()["suspended_proxies"].as_array().unwrap().len(), 0);
    // Killed while nobody listens: the next one has no more luck, and keeps trying.
    fleet.kill_and_spawn();
    fleet.mwid.wait_for_word("does not listen at", 2, SOON);
    assert!(!fleet.wrong().is_empty());
    fleet.board.set_mode(Mode::Up);
    let took = fleet.settle(SOON);
    fleet.report(took, "");
    // A phone has its NOTIFY a moment before mwid has the answer.
    fleet.mwid.wait_for_word("answers again", 1, SOON);
    assert_eq!(fleet.mwid.said("answers again"), 1, "once for all NOTIFYs");
    assert_eq!(fleet.mwid.said("does not listen at"), 2, "once for each start");
}

#[test]
fn a_proxy_that_is_silent_and_speaks_again() {
    let setup = Setup::new("proxy silent", 60, 20);
    let mut fleet = Setup { t1: SHORT_T1, seed: 33, ..setup }.build();
    fleet.start();
    fleet.change(50, STEP);
    fleet.settle(SOON);
    fleet.board.set_mode(Mode::Silent);
    let silent = Instant::now();
    fleet.change(200, STEP);
    fleet.mwid.wait_for_word("does not answer", 1, SOON);
    let timed_out = silent.elapsed();
    // Changes after it has given up count as well.
    fleet.change(50, STEP);
    fleet.board.set_mode(Mode::Up);
    let took = fleet.settle(SOON);
    fleet.report(took, &format!(", given up after {:.2} s", timed_out.as_secs_f32()));
    assert!(timed_out >= SHORT_T1 * 64, "Timer F is 64 times T1");
    assert_eq!(fleet.mwid.said("does not answer"), 1, "once for all NOTIFYs");
    let seen = fleet.board.figures();
    assert!(seen.copies > 50, "a silent proxy is asked again by Timer E: {seen:?}");
}
