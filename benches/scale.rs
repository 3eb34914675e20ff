//! The same house with 1,000, 10,000 and 100,000 mailboxes and as many subscriptions: the real
//! daemon, a real spool, real databases, UDP on loopback. What grows, and what must not.
//!
//! `cargo bench --bench scale` does it on MariaDB; `-- sqlite mariadb postgres` and
//! `-- 1000 10000 100000` choose others. `docs/performance.md` says what the figures mean.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has failed")]
#![allow(unreachable_pub, reason = "nothing of a benchmark is reached from elsewhere")]

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use mwid_core::summary::Summary;
use tempfile::TempDir;

#[path = "common/mod.rs"]
mod common;
#[path = "../tests/support/mod.rs"]
mod support;

use common::phones::Phones;
use common::site::{self, SERVERS, call_id};
use common::{Table, Times, chosen, is_quick, ms, seconds};
use support::fleet::daemon::Daemon;
use support::fleet::rows::Server;

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Runs of `find` just before a start.
const FINDS: usize = 5;
/// Changes whose latency is measured, at most: each in a mailbox of its own.
const CHANGES: usize = 1000;
/// For how long the idle daemon is watched.
const IDLE: Duration = Duration::from_secs(20);

fn main() {
    let chosen = chosen();
    let sizes: Vec<usize> = chosen.iter().filter_map(|it| it.parse().ok()).collect();
    let all = if is_quick() { vec![200] } else { vec![1000, 10_000, 100_000] };
    let sizes = if sizes.is_empty() { all } else { sizes };
    let named = |name: &&str| chosen.iter().any(|it| it == name);
    let names: Vec<&str> = SERVERS.into_iter().filter(named).collect();
    let names = if names.is_empty() { vec!["mariadb"] } else { names };
    let files =
        [("sqlite", "4-growth-sqlite"), ("mariadb", "3-growth"), ("postgres", "5-growth-postgres")];
    for (name, file) in files.into_iter().filter(|(name, _)| names.contains(name)) {
        let columns: Vec<Figures> = sizes
            .iter()
            .map(|&size| {
                println!("\n{name}, {size} mailboxes, {size} subscriptions");
                Site::build(site::server(name), size).measure()
            })
            .collect();
        let head: Vec<String> =
            [name.to_owned()].into_iter().chain(sizes.iter().map(ToString::to_string)).collect();
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        let mut table = Table::new(file, "Growth: mailboxes and as many subscriptions", &head);
        for (line, (what, _)) in columns[0].lines.iter().enumerate() {
            let figures = columns.iter().map(|column| column.lines[line].1.as_str());
            table.row(&[*what].into_iter().chain(figures).collect::<Vec<_>>());
        }
        for (sizes, columns) in sizes.windows(2).zip(columns.windows(2)) {
            let more = (sizes[1] - sizes[0]) as f64;
            let each = (columns[1].resident - columns[0].resident) * 1_048_576.0 / more;
            table.note(&format!(
                "From {} to {} after the first start: {each:.0} bytes resident for each mailbox with its phone.",
                sizes[0], sizes[1]
            ));
        }
    }
}

/// What was measured of one size.
struct Figures {
    lines: Vec<(&'static str, String)>,
    /// After the first start, in megabytes.
    resident: f64,
}

struct Site {
    mwid: Daemon,
    phones: Phones,
    size: usize,
    folder: TempDir,
    figures: Vec<(&'static str, String)>,
}

impl Site {
    /// A spool with one message in each INBOX, a row for each mailbox, the triggers of `mwid sql`.
    fn build(server: Server, size: usize) -> Self {
        let folder = TempDir::with_prefix("mwid-scale-").unwrap();
        let phones = Phones::open(size);
        let address = phones.address.to_string();
        let rows = site::rows(server, folder.path(), &address, size);
        let spool = folder.path().join("voicemail");
        site::one_message_each(&spool, size);
        let configuration = site::configuration(&address, &spool, &rows.url());
        let mut mwid = Daemon::new(folder.path(), &configuration);
        // As the unit has it.
        mwid.run_under(["env", "MALLOC_MMAP_THRESHOLD_=131072"].map(str::to_owned).into());
        let mut apply = Command::new(env!("CARGO_BIN_EXE_mwid"));
        let applied =
            apply.arg("--config").arg(mwid.config()).args(["sql", "--apply"]).output().unwrap();
        assert!(applied.status.success(), "mwid sql --apply: {applied:?}");
        Self { mwid, phones, size, folder, figures: Vec::new() }
    }

    fn spool(&self) -> PathBuf {
        self.folder.path().join("voicemail")
    }

    fn mailbox(&self, number: usize) -> PathBuf {
        site::mailbox(&self.spool(), number)
    }

    fn measure(mut self) -> Figures {
        self.first_starts();
        self.settle();
        let resident = self.say_memory("resident after it, and the most so far");
        self.mwid.stop();

        let (sent, find) = (self.phones.count(), self.find());
        let began = Instant::now();
        let counted = self.start();
        self.say("restart: all mailboxes counted", compared(counted, find));
        self.settle();
        self.say("restart: all phones known to be right", seconds(began.elapsed()));
        self.say("restart: NOTIFYs sent", self.phones.count() - sent);
        self.wait("a resync", |status| status["watch"]["resyncs"].as_u64().filter(|it| *it > 0));
        self.say("restart: the whole table read", seconds(began.elapsed()));
        self.say_memory("resident after a restart, and the most so far");
        self.idle();
        self.latency();
        self.mwid.stop();
        Figures { lines: self.figures, resident }
    }

    /// Each without a ledger, and just after `find` has walked the same folders.
    fn first_starts(&mut self) {
        let (mut finds, mut counts, mut rates) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..self.starts() {
            if number > 0 {
                self.mwid.stop();
                fs::remove_dir_all(self.mwid.ledger().parent().unwrap()).unwrap();
            }
            let find = self.find();
            finds.push(find);
            self.phones.forget();
            let began = Instant::now();
            counts.push((self.start(), find));
            self.phones.wait_for(self.size, PATIENCE);
            rates.push(began.elapsed());
        }
        let runs = counts.len();
        counts.sort_by_key(|(counted, find)| counted.as_nanos() * 1000 / find.as_nanos());
        let (counted, find) = counts[runs / 2];
        let told = Times::new(rates).median();
        let rate = self.size as f64 / told.as_secs_f64();
        self.say("`find -name 'msg*.txt'`, warm", seconds(Times::new(finds).median()));
        self.say("first start: all mailboxes counted", compared(counted, find));
        let told = format!("{} ({rate:.0} a second)", seconds(told));
        self.say("first start: all phones right", told);
        self.say("first starts, of which these are the medians", runs);
    }

    fn starts(&self) -> usize {
        if is_quick() || self.size > 10_000 { 1 } else { 3 }
    }

    /// Starts mwid. Gives what it took until all was counted, as its log has it: to ask for its status
    /// would take its time.
    fn start(&mut self) -> Duration {
        let word = "the spool has been counted";
        let before = self.mwid.said(word);
        let began = Instant::now();
        self.mwid.spawn();
        self.mwid.wait_for_word(word, before + 1, PATIENCE);
        began.elapsed()
    }

    fn say_memory(&mut self, what: &'static str) -> f64 {
        let pid = self.mwid.number("/pid");
        let [now, most] = ["VmRSS:", "VmHWM:"].map(|name| common::memory(pid, name));
        self.say(what, format!("{now:.1} MB, {most:.1} MB"));
        now
    }

    fn say(&mut self, what: &'static str, figure: impl std::fmt::Display) {
        println!("  {what:<52} {figure}");
        self.figures.push((what, figure.to_string()));
    }

    /// The median of some.
    fn find(&self) -> Duration {
        let find = |_| {
            let began = Instant::now();
            let found = Command::new("find").arg(self.spool()).args(["-name", "msg*.txt"]).output();
            let took = began.elapsed();
            let lines = found.unwrap().stdout.iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(lines, self.size, "find sees every message");
            took
        };
        Times::new((0..FINDS).map(find).collect()).median()
    }

    /// Asks mwid, not too often: each answer counts everything.
    fn wait<T>(&self, what: &str, ask: impl Fn(&serde_json::Value) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask(&self.mwid.status()) {
                return answer;
            }
            assert!(
                Instant::now() < deadline,
                "waited in vain for {what}: {:#}",
                self.mwid.status()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until nothing is left to do.
    fn settle(&self) {
        let size = self.size as u64;
        self.wait("rest", |status| {
            let lamps = &status["lamps"];
            (lamps["waiting"] == 0 && lamps["delivered"] == size).then_some(())
        });
    }

    fn proc(&self, name: &str) -> PathBuf {
        let pid = self.mwid.status()["pid"].as_u64().unwrap();
        Path::new("/proc").join(pid.to_string()).join(name)
    }

    fn idle(&mut self) {
        let pid = self.mwid.number("/pid");
        // The looks back at rows that were told have passed.
        thread::sleep(Duration::from_secs(if is_quick() { 0 } else { 15 }));
        let before = common::cpu(pid);
        let idle = if is_quick() { Duration::from_secs(1) } else { IDLE };
        thread::sleep(idle);
        let used = common::cpu(pid) - before;
        let percent = 100.0 * used.as_secs_f64() / idle.as_secs_f64();
        let polled = self.mwid.status()["spool"]["also_polled"].is_string();
        let note = if polled { ", also polled: too few watches" } else { "" };
        self.say("idle CPU of one core", format!("{percent:.2} %{note}"));
    }

    /// From the rename of a message into INBOX to its NOTIFY, in mailboxes that the kernel watches.
    fn latency(&mut self) {
        let watched = self.watched();
        let all: Vec<usize> = (0..self.size)
            .filter(|number| {
                use std::os::unix::fs::MetadataExt;
                let inbox = fs::metadata(self.mailbox(*number).join("INBOX")).unwrap();
                watched.contains(&inbox.ino())
            })
            .collect();
        let changes = CHANGES.min(self.size);
        assert!(all.len() >= changes, "only {} mailboxes are watched", all.len());
        let mut times = Vec::with_capacity(changes);
        for number in all.iter().step_by(all.len() / changes).take(changes) {
            let mailbox = self.mailbox(*number);
            fs::write(mailbox.join("part"), "").unwrap();
            let began = Instant::now();
            fs::rename(mailbox.join("part"), mailbox.join("INBOX/msg0001.txt")).unwrap();
            let new = Summary { new: 2, ..Summary::default() };
            times.push(self.phones.next(&call_id(*number), new, PATIENCE) - began);
        }
        let times = Times::new(times);
        let share = 100 * all.len() / self.size;
        self.say("a message to its NOTIFY, median", ms(times.median()));
        self.say("a message to its NOTIFY, p99", ms(times.at(99)));
        self.say("folders watched", format!("{share} %"));
    }

    /// The inodes that mwid's inotify watches.
    fn watched(&self) -> HashSet<u64> {
        let mut inodes = HashSet::new();
        for entry in fs::read_dir(self.proc("fdinfo")).unwrap().flatten() {
            let info = match fs::read_to_string(entry.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                info => info.unwrap(),
            };
            for line in info.lines().filter(|line| line.starts_with("inotify ")) {
                let inode = line.split("ino:").nth(1).and_then(|rest| rest.split(' ').next());
                inodes.extend(inode.and_then(|hex| u64::from_str_radix(hex, 16).ok()));
            }
        }
        inodes
    }
}

fn compared(took: Duration, find: Duration) -> String {
    format!("{} ({} find)", seconds(took), common::times(took, find))
}
