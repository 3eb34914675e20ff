//! A long time of trouble: people change mailboxes at an even pace, something or other fails all
//! the time, and every phone ends with what the spool holds; mwid does not grow.
//!
//! `scripts/soak` runs it for an hour. As one of the tests it runs for [`SECONDS`], so that nobody
//! finds it broken when it is needed. A round of trouble is followed by a rest, at which every
//! phone must show the truth.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(unreachable_pub, reason = "nothing of a test binary is reached from elsewhere")]

#[path = "../support/mod.rs"]
mod support;

mod health;
mod trouble;

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use health::Health;
use support::fleet::rows::Server;
use support::fleet::{Fleet, Setup, pace};
use support::mariadb::MariaDb;
use trouble::{Scene, Tally, Trouble};

/// `SOAK_SECONDS`, when it is not set.
const SECONDS: u64 = 8;
/// `SOAK_RATE`, when it is not set: changes of mailboxes a second.
const RATE: u64 = 200;
/// How soon every phone must show the truth after a round.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long, and how fast.
struct Plan {
    length: Duration,
    rate: u64,
}

impl Plan {
    fn from_environment() -> Self {
        let number = |name: &str, default| {
            let told = std::env::var(name).ok();
            told.map_or(default, |text| {
                text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, which is no number"))
            })
        };
        let length = Duration::from_secs(number("SOAK_SECONDS", SECONDS));
        Self { length, rate: number("SOAK_RATE", RATE).max(1) }
    }

    fn round(&self) -> Duration {
        (self.length / 4).clamp(Duration::from_secs(2), Duration::from_secs(60))
    }

    /// In between one mwid lives through everything else, so that it can be seen to grow.
    fn may_kill(&self, elapsed: Duration) -> bool {
        let done = elapsed.as_secs_f64() / self.length.as_secs_f64();
        !(0.2..0.9).contains(&done)
    }
}

#[test]
fn however_long_the_trouble_lasts_every_phone_shows_the_truth_and_mwid_does_not_grow() {
    let plan = Plan::from_environment();
    let server = Server::MariaDb(Box::leak(Box::new(MariaDb::start())));
    let setup = Setup::new("soak", 1000, 250);
    let t1 = Duration::from_millis(50);
    let mut fleet = Setup { server, t1, seed: 91, ..setup }.build();
    fleet.start();
    fleet.settle(PATIENCE);
    let began = Instant::now();
    let (mut health, mut tally) = (Health::default(), Tally::default());
    let (mut slowest, mut troubled) = (Duration::ZERO, Duration::ZERO);
    while began.elapsed() < plan.length {
        let may_kill = plan.may_kill(began.elapsed());
        troubled += trouble(&mut fleet, &plan, may_kill, &mut tally);
        let took = fleet.settle(PATIENCE);
        slowest = slowest.max(took);
        fleet.board.rest();
        let state = health.look(&fleet.mwid, began.elapsed());
        println!(
            "{:5} s: right after {:5.2} s; {state}",
            began.elapsed().as_secs(),
            took.as_secs_f32()
        );
    }
    fleet.report(slowest, " at most");
    let pace = fleet.spool.changes() as f64 / troubled.as_secs_f64();
    println!("soak: {pace:.0} changes a second for {} s, with rests between", troubled.as_secs());
    println!("soak: {tally}, {:?}", fleet.board.figures());
    println!("soak: {health}");
    health.check();
    tally.check(plan.length);
}

/// One round: changes at an even pace, and one trouble after the other. Gives how long people
/// changed mailboxes.
fn trouble(fleet: &mut Fleet, plan: &Plan, may_kill: bool, tally: &mut Tally) -> Duration {
    let length = plan.round();
    let count = usize::try_from(plan.rate * length.as_secs()).expect("it is not that long");
    let step = Duration::from_secs(1) / u32::try_from(plan.rate).expect("it is not that fast");
    let mut random = fleet.random.fork();
    let mut changer = fleet.random.fork();
    let Fleet { mwid, board, spool, rows, .. } = fleet;
    let hand = Mutex::new(());
    thread::scope(|scope| {
        let people = scope.spawn(|| {
            let began = Instant::now();
            for () in pace(count, step) {
                let _held = hand.lock().expect("no other thread panics with it");
                spool.change(&mut changer);
            }
            began.elapsed()
        });
        let mut scene = Scene { mwid, board, spool, rows, hand: &hand };
        while !people.is_finished() {
            let first = Trouble::choose(&mut random, may_kill);
            let second = Trouble::choose(&mut random, may_kill);
            let is_double = first.goes_with(second) && random.percent(30);
            let troubles = if is_double { vec![first, second] } else { vec![first] };
            scene.suffer(&troubles, &mut random, tally);
            board.check();
        }
        people.join().expect("mailboxes can be changed")
    })
}
