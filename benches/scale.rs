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
/// Changes whose latency is measured.
const CHANGES: usize = 400;
/// For how long the idle daemon is watched.
const IDLE: Duration = Duration::from_secs(20);

fn main() {
    let chosen = chosen();
    let sizes: Vec<usize> = chosen.iter().filter_map(|it| it.parse().ok()).collect();
    let all = if is_quick() { vec![CHANGES] } else { vec![1000, 10_000, 100_000] };
    let sizes = if sizes.is_empty() { all } else { sizes };
    let named = |name: &&str| chosen.iter().any(|it| it == name);
    let names: Vec<&str> = SERVERS.into_iter().filter(named).collect();
    let names = if names.is_empty() { vec!["mariadb"] } else { names };
    let files =
        [("sqlite", "4-growth-sqlite"), ("mariadb", "3-growth"), ("postgres", "5-growth-postgres")];
    for (name, file) in files.into_iter().filter(|(name, _)| names.contains(name)) {
        let columns: Vec<Vec<(&str, String)>> = sizes
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
        for (line, (what, _)) in columns[0].iter().enumerate() {
            let figures = columns.iter().map(|column| column[line].1.as_str());
            table.row(&[*what].into_iter().chain(figures).collect::<Vec<_>>());
        }
    }
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
        let mwid = Daemon::new(folder.path(), &configuration);
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

    fn measure(mut self) -> Vec<(&'static str, String)> {
        let find = Times::new((0..3).map(|_| self.find()).collect()).median();
        self.say("`find -name 'msg*.txt'`, warm", seconds(find));

        let began = Instant::now();
        self.mwid.start();
        self.wait("a full count", |status| {
            status.pointer("/spool/last_full_count/took_ms").cloned()
        });
        let counted = began.elapsed();
        self.phones.wait_for(self.size, PATIENCE);
        let told = began.elapsed();
        self.say("first start: all mailboxes counted", compared(counted, find));
        let rate = self.size as f64 / told.as_secs_f64();
        self.say(
            "first start: all phones right",
            format!("{} ({rate:.0} a second)", seconds(told)),
        );
        self.settle();
        self.say("memory after it, and the most so far", self.memory());
        self.mwid.stop();

        let sent = self.phones.count();
        let began = Instant::now();
        self.mwid.start();
        self.wait("a full count", |status| {
            status.pointer("/spool/last_full_count/took_ms").cloned()
        });
        self.say("restart: all mailboxes counted", compared(began.elapsed(), find));
        self.settle();
        self.say("restart: all phones known to be right", seconds(began.elapsed()));
        self.say("restart: NOTIFYs sent", self.phones.count() - sent);
        self.wait("a resync", |status| status["watch"]["resyncs"].as_u64().filter(|it| *it > 0));
        self.say("restart: the whole table read", seconds(began.elapsed()));
        self.say("memory after a restart, and the most so far", self.memory());
        self.idle();
        self.latency();
        self.mwid.stop();
        self.figures
    }

    fn say(&mut self, what: &'static str, figure: impl std::fmt::Display) {
        println!("  {what:<52} {figure}");
        self.figures.push((what, figure.to_string()));
    }

    fn find(&self) -> Duration {
        let began = Instant::now();
        let found = Command::new("find").arg(self.spool()).args(["-name", "msg*.txt"]).output();
        let lines = found.unwrap().stdout.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(lines, self.size, "find sees every message");
        began.elapsed()
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

    fn memory(&self) -> String {
        let pid = self.mwid.number("/pid");
        let [now, most] = ["VmRSS:", "VmHWM:"].map(|name| common::memory(pid, name));
        format!("{now:.1} MB, {most:.1} MB")
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
        assert!(all.len() >= CHANGES, "only {} mailboxes are watched", all.len());
        let mut times = Vec::with_capacity(CHANGES);
        for number in all.iter().step_by(all.len() / CHANGES).take(CHANGES) {
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
