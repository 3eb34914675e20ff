//! The same house with 1,000, 10,000 and 100,000 mailboxes and as many subscriptions: the real
//! daemon, a real spool, real databases, UDP on loopback. What grows, and what must not.
//!
//! `cargo bench --bench scale` prints a block for each; `-- sqlite mariadb postgres` and
//! `-- 1000 10000 100000` choose some of them. `docs/performance.md` says what the figures mean.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has failed")]
#![allow(unreachable_pub, reason = "nothing of a benchmark is reached from elsewhere")]

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use mwid::clock;
use mwid::demo::phone::Subscription;
use mwid_core::dialog::Flavour;
use mwid_core::summary::Summary;
use tempfile::TempDir;

#[path = "scale/phones.rs"]
mod phones;
#[path = "../tests/support/mod.rs"]
mod support;

use phones::Phones;
use support::fleet::daemon::Daemon;
use support::fleet::rows::{Rows, Server};
use support::mariadb::MariaDb;
use support::postgres::Postgres;

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Changes whose latency is measured.
const CHANGES: usize = 400;
/// For how long the idle daemon is watched.
const IDLE: Duration = Duration::from_secs(20);
const CONTEXT: &str = "example.com";

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let sizes: Vec<usize> = chosen.iter().filter_map(|it| it.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![1000, 10_000, 100_000] } else { sizes };
    let named: Vec<&str> =
        chosen.iter().map(String::as_str).filter(|it| it.parse::<usize>().is_err()).collect();
    for name in ["sqlite", "mariadb", "postgres"] {
        if !named.is_empty() && !named.contains(&name) {
            continue;
        }
        let server = match name {
            "mariadb" => Server::MariaDb(MariaDb::shared()),
            "postgres" => Server::Postgres(Postgres::shared()),
            _ => Server::Sqlite,
        };
        for &size in &sizes {
            println!("\n{name}, {size} mailboxes, {size} subscriptions");
            Site::build(server, size).measure();
        }
    }
}

/// A line of the report.
fn say(what: &str, figure: impl std::fmt::Display) {
    println!("  {what:<52} {figure}");
}

struct Site {
    mwid: Daemon,
    phones: Phones,
    size: usize,
    folder: TempDir,
}

impl Site {
    /// A spool with one message in each INBOX, a row for each mailbox, the triggers of `mwid sql`.
    fn build(server: Server, size: usize) -> Self {
        let folder = TempDir::with_prefix("mwid-scale-").unwrap();
        let phones = Phones::open(size);
        let address = phones.address.to_string();
        let rows = Rows::new(server, Flavour::OpenSips, folder.path());
        let subscriptions: Vec<_> = (0..size).map(subscription).collect();
        rows.insert(&subscriptions, &address);
        let spool = folder.path().join("voicemail");
        for number in 0..size {
            let mailbox = spool.join(CONTEXT).join(user(number));
            fs::create_dir_all(mailbox.join("INBOX")).unwrap();
            fs::create_dir(mailbox.join("Old")).unwrap();
            fs::write(mailbox.join("INBOX/msg0000.txt"), "").unwrap();
        }
        let configuration = format!(
            "[general]\nproxy = {address}\nbindip = 127.0.0.1\n[spool]\npath = {}\n\
             [database]\nurl = {}\n[timers]\nrate = 100000\n",
            spool.display(),
            rows.url(),
        );
        let mwid = Daemon::new(folder.path(), &configuration);
        let mut apply = Command::new(env!("CARGO_BIN_EXE_mwid"));
        let applied =
            apply.arg("--config").arg(mwid.config()).args(["sql", "--apply"]).output().unwrap();
        assert!(applied.status.success(), "mwid sql --apply: {applied:?}");
        Self { mwid, phones, size, folder }
    }

    fn spool(&self) -> PathBuf {
        self.folder.path().join("voicemail")
    }

    fn mailbox(&self, number: usize) -> PathBuf {
        self.spool().join(CONTEXT).join(user(number))
    }

    fn measure(mut self) {
        let find = median((0..3).map(|_| self.find()).collect());
        say("find, warm", seconds(find));

        let began = Instant::now();
        self.mwid.start();
        self.wait("a full count", |status| {
            status.pointer("/spool/last_full_count/took_ms").cloned()
        });
        let counted = began.elapsed();
        self.phones.wait_for(self.size, PATIENCE);
        let told = began.elapsed();
        say("first start: all mailboxes counted", self.compared(counted, find));
        let rate = self.size as f64 / told.as_secs_f64();
        say("first start: all phones right", format!("{} ({rate:.0} a second)", seconds(told)));
        self.settle();
        say("memory after it (VmRSS, VmHWM)", self.memory());
        self.mwid.stop();

        let sent = self.phones.count();
        let began = Instant::now();
        self.mwid.start();
        self.wait("a full count", |status| {
            status.pointer("/spool/last_full_count/took_ms").cloned()
        });
        say("restart: all mailboxes counted", self.compared(began.elapsed(), find));
        self.settle();
        say("restart: all phones known to be right", seconds(began.elapsed()));
        say("restart: NOTIFYs sent", self.phones.count() - sent);
        self.wait("a resync", |status| status["watch"]["resyncs"].as_u64().filter(|it| *it > 0));
        say("restart: the whole table read", seconds(began.elapsed()));
        say("memory after it (VmRSS, VmHWM)", self.memory());
        self.idle();
        self.latency();
        say("memory after it (VmRSS, VmHWM)", self.memory());
        self.mwid.stop();
    }

    fn find(&self) -> Duration {
        let began = Instant::now();
        let found = Command::new("find").arg(self.spool()).args(["-name", "msg*.txt"]).output();
        let lines = found.unwrap().stdout.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(lines, self.size, "find sees every message");
        began.elapsed()
    }

    fn compared(&self, took: Duration, find: Duration) -> String {
        let times = took.as_secs_f64() / find.as_secs_f64();
        format!("{} ({times:.1} × find)", seconds(took))
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
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
        };
        format!("{:.1} MB, {:.1} MB", line("VmRSS:"), line("VmHWM:"))
    }

    fn proc(&self, name: &str) -> PathBuf {
        let pid = self.mwid.status()["pid"].as_u64().unwrap();
        Path::new("/proc").join(pid.to_string()).join(name)
    }

    /// CPU time of the whole process so far.
    fn cpu(stat: &Path) -> Duration {
        let stat = fs::read_to_string(stat).unwrap();
        // After the name in parentheses: state is field 3, utime 14, stime 15, in hundredths.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|it| it.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    fn idle(&self) {
        let stat = self.proc("stat");
        // The looks back at rows that were told have passed.
        thread::sleep(Duration::from_secs(15));
        let before = Self::cpu(&stat);
        thread::sleep(IDLE);
        let used = Self::cpu(&stat) - before;
        let percent = 100.0 * used.as_secs_f64() / IDLE.as_secs_f64();
        let polled = self.mwid.status()["spool"]["also_polled"].clone();
        let note = polled.as_str().map(|why| format!(" (the spool is polled too: {why})"));
        say("idle CPU of one core", format!("{percent:.2} %{}", note.unwrap_or_default()));
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
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
        let share = 100 * all.len() / self.size;
        let figures = format!("{:.2} ms, {:.2} ms ({share} % are watched)", at(50), at(99));
        say("one message to its NOTIFY, p50 and p99", figures);
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

fn user(number: usize) -> String {
    format!("{}", 1_000_000 + number)
}

fn call_id(number: usize) -> String {
    format!("call-{number}@phones.example.com")
}

fn subscription(number: usize) -> Subscription {
    Subscription {
        user: user(number),
        domain: CONTEXT.into(),
        call_id: call_id(number),
        phone_tag: format!("phone-{number}"),
        server_tag: format!("server-{number}"),
        contact: format!("sip:{}@192.0.2.7:5062", user(number)),
        expires: clock::unix() + 36_000,
        cseq: 1,
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
