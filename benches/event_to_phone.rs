//! From an event to the NOTIFY in the phone's socket: the real daemon on real databases, UDP on
//! loopback; and what people use without mwid (benches/event_to_phone/rivals.rs).
//!
//! `cargo bench --bench event_to_phone` prints the tables; `-- spool`, `externnotify`, `burst`,
//! `rivals` or `processes` choose a part, `sqlite`, `mariadb`, `postgres` a database.
//! `docs/performance.md` says what each row means. `MWID_HELPER=/path/to/mwid-externnotify` measures
//! another build of the helper.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has failed")]
#![allow(unreachable_pub, reason = "nothing of a benchmark is reached from elsewhere")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

#[path = "common/mod.rs"]
mod common;
#[path = "event_to_phone/rivals.rs"]
mod rivals;
#[path = "../tests/support/mod.rs"]
mod support;

use common::phones::Phones;
use common::site::{self, CONTEXT, user};
use common::{Table, Times, chosen, is_quick, ms, times};
use mwid_core::summary::Summary;
use support::fleet::daemon::Daemon;

/// How long anything may take before the run is called off.
const PATIENCE: Duration = Duration::from_secs(60);

/// Events, each of an account of its own, so that no pause between two NOTIFYs of one phone gets in its
/// way.
fn events() -> usize {
    if is_quick() { 10 } else { 1000 }
}

/// The rows come in this order: the rivals, who need MariaDB, are the measure of all of mwid's.
const ORDER: [&str; 3] = ["mariadb", "postgres", "sqlite"];

fn main() {
    let chosen = chosen();
    let is_server = |name: &&str| chosen.iter().any(|it| it == name);
    let servers: Vec<&str> = ORDER.into_iter().filter(is_server).collect();
    let servers = if servers.is_empty() { ORDER.to_vec() } else { servers };
    let parts: Vec<&String> = chosen.iter().filter(|it| !ORDER.contains(&it.as_str())).collect();
    let wanted = |name: &str| parts.is_empty() || parts.iter().any(|it| *it == name);
    if ["externnotify", "spool", "rivals"].into_iter().any(&wanted) {
        let mut events = Events::new();
        servers.iter().for_each(|server| events.measure(server, &wanted));
    }
    if wanted("burst") {
        bursts();
    }
    if wanted("processes") {
        processes();
    }
}

/// The table of events, and what its rows are compared with.
struct Events {
    table: Table,
    script: Option<Duration>,
    publish: Option<Duration>,
}

impl Events {
    fn new() -> Self {
        let columns = [
            "event to the NOTIFY in the phone's socket",
            "median",
            "p99",
            "× floor",
            "script ÷ this",
            "pua.publish ÷ this",
        ];
        let table = Table::new("1-event", "From the event to the phone", &columns);
        Self { table, script: None, publish: None }
    }

    fn measure(&mut self, server: &str, wanted: &impl Fn(&str) -> bool) {
        let floor = rivals::floor(server, events());
        let what = "the floor (static process, one claim in SQL, one datagram)";
        let mut row = |what: &str, times: &Times| self.row(server, what, times, &floor);
        row(what, &floor);
        if wanted("rivals") && server == "mariadb" {
            let script = rivals::script(events());
            row("start of the shell script (mariadb client, sipsak)", &script);
            let publish = rivals::publish(events());
            row("start of `curl`, `pua.publish` of Kamailio", &publish);
            (self.script, self.publish) = (Some(script.median()), Some(publish.median()));
        }
        let mut row = |what: &str, times: &Times| self.row(server, what, times, &floor);
        if wanted("externnotify") {
            row("start of `mwid-externnotify`", &externnotify(server));
        }
        if wanted("spool") {
            row("a message is renamed into INBOX", &spool(server));
        }
    }

    fn row(&mut self, server: &str, what: &str, run: &Times, floor: &Times) {
        let median = run.median();
        let by = |rival: Option<Duration>| rival.map_or_else(String::new, |it| times(it, median));
        self.table.row(&[
            &format!("{server}: {what}"),
            &ms(median),
            &ms(run.at(99)),
            &times(median, floor.median()),
            &by(self.script),
            &by(self.publish),
        ]);
    }
}

/// The spool is watched: a message is renamed into INBOX, as the last step of its recording.
fn spool(server: &str) -> Times {
    let mut site = Site::open(server, true, events());
    let events = (0..events()).map(|number| {
        let message = site.record(number);
        let began = Instant::now();
        fs::rename(&message, message.with_file_name("msg0000.txt")).unwrap();
        site.told(number, new(1)) - began
    });
    Times::new(events.collect())
}

/// No spool: Asterisk runs the helper, its counts are the truth.
fn externnotify(server: &str) -> Times {
    let mut site = Site::open(server, false, events());
    // What is seen for the first time waits for the server's own NOTIFY ([timers] settle).
    for number in 0..events() {
        assert!(site.helper(&helper(), number, 1).status().unwrap().success());
    }
    site.wait_for_notifies(events());
    let events = (0..events()).map(|number| {
        let mut command = site.helper(&helper(), number, 2);
        let began = Instant::now();
        let mut child = command.spawn().unwrap();
        let at = site.told(number, new(2));
        assert!(child.wait().unwrap().success());
        at - began
    });
    Times::new(events.collect())
}

/// What waits for the end of a burst, and a burst.
fn bursts() {
    let columns = ["of several events, SQLite", "median", "p99"];
    let mut table = Table::new("1-several", "What waits for more", &columns);
    let mut site = Site::open("sqlite", true, events());
    for number in 0..events() {
        let message = site.record(number);
        fs::rename(&message, message.with_file_name("msg0000.txt")).unwrap();
        site.told(number, new(1));
    }
    let heard = (0..events()).map(|number| {
        let mailbox = site.mailbox(number);
        let began = Instant::now();
        fs::rename(mailbox.join("INBOX/msg0000.txt"), mailbox.join("Old/msg0000.txt")).unwrap();
        site.told(number, Summary { old: 1, ..Summary::default() }) - began
    });
    let heard = Times::new(heard.collect());
    table.row(&[
        "a message is heard (mwid waits 20 ms for more)",
        &ms(heard.median()),
        &ms(heard.at(99)),
    ]);

    let messages: Vec<PathBuf> = (0..events()).map(|number| site.record(number)).collect();
    let before = site.phones.count();
    let began = Instant::now();
    for message in &messages {
        fs::rename(message, message.with_file_name("msg0001.txt")).unwrap();
    }
    site.wait_for_notifies(before + events());
    let took = began.elapsed();
    let rate = events() as f64 / took.as_secs_f64();
    table.note(&format!(
        "{} messages at once, SQLite: the last NOTIFY came after {}, {rate:.0} a second.",
        events(),
        ms(took)
    ));
}

/// What Asterisk waits for: the helper from its start to its end, beside the smallest program.
fn processes() {
    let site = Site::open("sqlite", false, events());
    let mut whole = Command::new(env!("CARGO_BIN_EXE_mwid"));
    whole.arg("externnotify");
    let programs = [
        ("`/bin/true` (dynamically linked, does nothing)", Command::new("/bin/true")),
        ("`mwid-externnotify`: leaves a file, sends a datagram", Command::new(helper())),
        ("`mwid externnotify`: the same in the daemon's binary", whole),
    ];
    let columns = ["a program, from its start to its end", "median", "p99"];
    let mut table = Table::new("7-processes", "What Asterisk starts", &columns);
    for (what, mut program) in programs {
        program.args(site.arguments(0, 1));
        let runs = (0..events()).map(|_| {
            let began = Instant::now();
            assert!(program.status().unwrap().success());
            began.elapsed()
        });
        let runs = Times::new(runs.collect());
        table.row(&[what, &ms(runs.median()), &ms(runs.at(99))]);
    }
}

fn helper() -> PathBuf {
    std::env::var_os("MWID_HELPER")
        .map_or_else(|| env!("CARGO_BIN_EXE_mwid-externnotify").into(), PathBuf::from)
}

fn new(new: u32) -> Summary {
    Summary { new, ..Summary::default() }
}

/// A temporary installation with the running daemon. It ends with this.
struct Site {
    folder: TempDir,
    phones: Phones,
    mwid: Daemon,
}

impl Site {
    /// Starts the daemon. With a spool, returns when every phone has its first NOTIFY.
    fn open(server: &str, spool: bool, size: usize) -> Self {
        let folder = TempDir::with_prefix("mwid-event-").unwrap();
        let phones = Phones::open(size);
        let address = phones.address.to_string();
        let rows = site::rows(site::server(server), folder.path(), &address, size);
        let root = folder.path().join("spool");
        (0..size).for_each(|number| drop(site::make_mailbox(&root, number)));
        let configuration = format!(
            "[general]\nproxy = {address}\nbindip = 127.0.0.1\n\
             [spool]\nenabled = {}\npath = {}\n[database]\nurl = {}\n\
             [timers]\nmin_interval = 0\nrate = 100000\n",
            if spool { "yes" } else { "no" },
            root.display(),
            rows.url(),
        );
        let mut mwid = Daemon::new(folder.path(), &configuration);
        mwid.start();
        let site = Self { folder, phones, mwid };
        site.wait_for_notifies(if spool { size } else { 0 });
        site
    }

    fn wait_for_notifies(&self, count: usize) {
        let began = Instant::now();
        while self.phones.count() < count {
            let log = || self.mwid.log_tail();
            assert!(began.elapsed() < PATIENCE, "not all phones were told: {}", log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// When this account's phone was told these counts.
    fn told(&mut self, number: usize, counts: Summary) -> Instant {
        self.phones.next(&site::call_id(number), counts, PATIENCE)
    }

    fn mailbox(&self, number: usize) -> PathBuf {
        site::mailbox(&self.folder.path().join("spool"), number)
    }

    /// A message that is about to be complete.
    fn record(&self, number: usize) -> PathBuf {
        let message = self.mailbox(number).join("INBOX/recording");
        fs::write(&message, "[message]\n").unwrap();
        message
    }

    fn helper(&self, helper: &Path, number: usize, new: u32) -> Command {
        let mut command = Command::new(helper);
        command.args(self.arguments(number, new)).stdin(Stdio::null());
        command
    }

    fn arguments(&self, number: usize, new: u32) -> [String; 9] {
        let path = |name| self.folder.path().join(name).display().to_string();
        let (socket, drop) = (path("externnotify.sock"), path("drop"));
        let words = [
            "--socket",
            &socket,
            "--drop",
            &drop,
            CONTEXT,
            &user(number),
            &new.to_string(),
            "0",
            "0",
        ];
        words.map(str::to_owned)
    }
}
