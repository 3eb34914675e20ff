//! How many NOTIFYs a second one core sends: the whole daemon, its core and transport alone, SIPp with
//! the same NOTIFYs, and a bare UDP loop of the same bytes, which nothing can beat.
//!
//! `cargo bench --bench throughput` has 50,000 dialogs to be told; `-- 1000` another number. Counted
//! is the CPU time of who sends and takes in the answers, not of the phones and the database, which have
//! cores of their own in the field. `docs/performance.md` says what the figures mean.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has failed")]
#![allow(unreachable_pub, reason = "nothing of a benchmark is reached from elsewhere")]

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

#[path = "common/mod.rs"]
mod common;
#[path = "throughput/core.rs"]
mod core_alone;
#[path = "throughput/rivals.rs"]
mod rivals;
#[path = "../tests/support/mod.rs"]
mod support;

use common::phones::Phones;
use common::{Table, chosen, is_quick, site};
use support::fleet::daemon::Daemon;

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Requests that wait for their answer at the same time, where a benchmark decides that.
const WINDOW: usize = 64;

/// What it took.
#[derive(Clone, Copy)]
pub struct Cost {
    /// Requests that were answered.
    pub requests: usize,
    /// Of who sends.
    pub cpu: Duration,
    /// On the wall clock.
    pub elapsed: Duration,
}

impl Cost {
    fn per_core(self) -> f64 {
        self.requests as f64 / self.cpu.as_secs_f64()
    }
}

/// What was measured several times, each time with a bare loop just before it: the speed of a machine
/// changes from one minute to the next.
#[derive(Default)]
struct Runs(Vec<(Cost, Cost)>);

impl Runs {
    fn add(&mut self, size: usize, run: impl FnOnce() -> Cost) {
        let bare = rivals::bare_loop(size * 4);
        self.0.push((run(), bare));
    }

    fn median(&self, figure: impl Fn(Cost, Cost) -> f64) -> f64 {
        let mut figures: Vec<f64> = self.0.iter().map(|&(cost, bare)| figure(cost, bare)).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    }

    /// Of the bare loop.
    fn share(&self) -> f64 {
        self.median(|cost, bare| cost.per_core() / bare.per_core())
    }
}

fn main() {
    let size = chosen().iter().find_map(|it| it.parse().ok());
    let size = size.unwrap_or(if is_quick() { 500 } else { 50_000 });
    let runs = |wanted: usize| if is_quick() { 1 } else { wanted };
    let (mut core, mut sipp) = (Runs::default(), Runs::default());
    for round in 0..runs(5) {
        core.add(size, || core_alone::run(size));
        if round < runs(3) {
            sipp.add(size, || rivals::sipp(size));
        }
    }
    let columns = [
        "who sends",
        "CPU per NOTIFY",
        "a second per core",
        "× bare loop",
        "× SIPp",
        "a second here",
        "runs",
    ];
    let title = format!("{size} dialogs to be told, every phone answers");
    let mut table = Table::new("2-throughput", &title, &columns);
    let mut row = |what: &str, runs: &Runs| {
        let each = runs.median(|cost, _| cost.cpu.as_secs_f64() * 1e6 / cost.requests as f64);
        let here = runs.median(|cost, _| cost.requests as f64 / cost.elapsed.as_secs_f64());
        table.row(&[
            what,
            &format!("{each:.1} µs"),
            &format!("{:.0}", runs.median(|cost, _| cost.per_core())),
            &format!("{:.3}", runs.share()),
            &format!("{:.2}", runs.share() / sipp.share()),
            &format!("{here:.0}"),
            &runs.0.len().to_string(),
        ]);
    };
    let bare = core.0.iter().map(|(_, bare)| (*bare, *bare)).collect();
    row("bare UDP loop of the same bytes", &Runs(bare));
    row("core and transport of mwid", &core);
    row("SIPp, the same NOTIFYs", &sipp);
    for (server, wanted) in [("mariadb", 3), ("postgres", 1), ("sqlite", 1)] {
        let mut all = Runs::default();
        (0..runs(wanted)).for_each(|_| all.add(size, || daemon(server, size)));
        row(&format!("mwid: look-up and claim in {server}, ledger"), &all);
    }
}

/// The daemon knows all counts, and is given another database, which has the phones.
fn daemon(server: &str, size: usize) -> Cost {
    let folder = TempDir::with_prefix("mwid-throughput-").unwrap();
    let phones = Phones::open(size);
    let address = phones.address.to_string();
    let [nobody, all] = ["nobody", "all"].map(|name| folder.path().join(name));
    for folder in [&nobody, &all] {
        fs::create_dir(folder).unwrap();
    }
    let before = site::rows(site::server(server), &nobody, &address, 0);
    let after = site::rows(site::server(server), &all, &address, size);
    let spool = folder.path().join("spool");
    site::one_message_each(&spool, size);
    let configuration = site::configuration(&address, &spool, &before.url());
    let mut mwid = Daemon::new(folder.path(), &configuration);
    mwid.start();
    wait(|| {
        let status = mwid.status();
        status.pointer("/spool/last_full_count/took_ms").is_some_and(|it| it.is_u64())
            && status["lamps"]["waiting"] == 0
    });
    let text = fs::read_to_string(mwid.config()).unwrap();
    fs::write(mwid.config(), text.replace(&before.url(), &after.url())).unwrap();
    let pid = mwid.number("/pid");
    let (began, used) = (Instant::now(), common::cpu(pid));
    let mut reload = Command::new(env!("CARGO_BIN_EXE_mwid"));
    let reloaded = reload.arg("--config").arg(mwid.config()).arg("reload").output().unwrap();
    assert!(reloaded.status.success(), "mwid reload: {reloaded:?}");
    wait(|| phones.count() >= size);
    let elapsed = began.elapsed();
    wait(|| mwid.status()["lamps"]["waiting"] == 0);
    Cost { requests: phones.count(), cpu: common::cpu(pid) - used, elapsed }
}

fn wait(done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "not done in time");
        thread::sleep(Duration::from_millis(50));
    }
}
