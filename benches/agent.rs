//! mwid's own presence agent with many phones: they subscribe, refresh every ten minutes, and a
//! hundred accounts change each second. The real daemon, UDP on loopback, the rows in an SQLite file
//! and in MariaDB.
//!
//! `cargo bench --bench agent` runs both with 50,000 phones for three minutes each, and prints the
//! lines of the table in `docs/performance.md`; `-- sqlite 1000 30` chooses which, how many phones and
//! how many seconds.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has failed")]
#![allow(unreachable_pub, reason = "nothing of a benchmark is reached from elsewhere")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

#[path = "common/mod.rs"]
mod common;
#[path = "agent/phones.rs"]
mod phones;
#[path = "../tests/support/mod.rs"]
mod support;

use common::site::user;
use common::{Table, is_quick};
use phones::Phones;
use support::fleet::daemon::Daemon;
use support::mariadb::MariaDb;
use support::net::{TcpPort, UdpPort};
use support::{PASSWORD, USER};

/// Changes of an account a second.
const CHANGES: u32 = 100;
/// Between two refreshes of a phone.
const REFRESH: Duration = Duration::from_secs(600);
/// SUBSCRIBEs a second while all subscribe.
const RATE: u32 = 900;
/// Timer F: no answer may take longer.
const LIMIT: Duration = Duration::from_secs(32);

/// mwid keeps an HTTP connection for a minute at most.
const KEEP: Duration = Duration::from_secs(30);

/// A line of the table: what, and the figure of each database.
type Figures = Vec<(&'static str, String)>;

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|it| it.parse().ok()).collect();
    let (size, seconds) = if is_quick() { (100, 5) } else { (50_000, 180) };
    let size = numbers.first().copied().unwrap_or(size);
    let seconds = numbers.get(1).copied().unwrap_or(seconds);
    let all = ["sqlite", "mariadb"];
    let chosen: Vec<&str> =
        all.into_iter().filter(|name| std::env::args().any(|it| it == *name)).collect();
    let chosen = if chosen.is_empty() { all.to_vec() } else { chosen };
    let columns: Vec<Figures> =
        chosen.iter().map(|name| measure(name, size, Duration::from_secs(seconds))).collect();
    let what = format!("{size} phones, {seconds} s");
    let head: Vec<&str> = [what.as_str()].into_iter().chain(chosen).collect();
    let mut table = Table::new("6-agent", "Phones at the presence agent", &head);
    for (line, (what, _)) in columns[0].iter().enumerate() {
        let figures = columns.iter().map(|column| column[line].1.as_str());
        table.row(&[*what].into_iter().chain(figures).collect::<Vec<_>>());
    }
}

fn measure(name: &str, size: u64, time: Duration) -> Figures {
    let (sip, http) = (UdpPort::claim(), TcpPort::claim());
    let http: SocketAddr = ([127, 0, 0, 1], http.number()).into();
    let folder = TempDir::with_prefix("mwid-agent-").unwrap();
    let configuration = format!(
        "[general]\nbindip = 127.0.0.1\n[spool]\nenabled = no\n{}\
         [timers]\nrate = 100000\n[http]\nlisten = {http}\n\
         [agent]\nlisten = udp:{}\ntrusted = 127.0.0.1\n",
        database(name, folder.path()),
        sip.address(),
    );
    let mut mwid = Daemon::new(folder.path(), &configuration);
    let mut apply = Command::new(env!("CARGO_BIN_EXE_mwid"));
    let applied = apply.arg("--config").arg(mwid.config()).args(["sql", "--apply"]).output();
    let applied = applied.unwrap();
    assert!(name == "sqlite" || applied.status.success(), "mwid sql --apply: {applied:?}");
    mwid.start();
    println!("{name}: {size} phones subscribe");
    let size = usize::try_from(size).unwrap();
    let bench = Bench { phones: Phones::open(size, sip.address()), mwid, figures: Vec::new() };
    bench.run(size, time, http)
}

/// The section for the database, which is there and empty.
fn database(name: &str, folder: &Path) -> String {
    if name == "sqlite" {
        return format!("[database]\nurl = sqlite:{}/dialogs.db\n", folder.display());
    }
    let server = MariaDb::shared();
    server.create_database("agent");
    let password = folder.join("password");
    fs::write(&password, PASSWORD).unwrap();
    format!(
        "[database]\nurl = mysql://{USER}@127.0.0.1:{}/agent\npassword_file = {}\n",
        server.port(),
        password.display()
    )
}

struct Bench {
    phones: Phones,
    mwid: Daemon,
    figures: Figures,
}

impl Bench {
    fn run(mut self, size: usize, time: Duration, http: SocketAddr) -> Figures {
        let (began, cpu) = (Instant::now(), self.cpu());
        self.all_subscribe(size);
        self.report(
            began,
            cpu,
            [
                "all subscribe: load of the machine",
                "SUBSCRIBE to 200: median, p99, longest",
                "SUBSCRIBE to its NOTIFY",
                "CPU of mwid, of one core",
                "not answered, not told; refused",
            ],
        );
        println!("refreshes and changes for {} s", time.as_secs());
        let (began, cpu) = (Instant::now(), self.cpu());
        self.live(size, time, http);
        let changes = percentiles(self.phones.changes_told());
        self.report(
            began,
            cpu,
            [
                "refreshes and changes: load of the machine",
                "refresh to 200",
                "refresh to its NOTIFY",
                "CPU of mwid",
                "not answered, not told; refused in all",
            ],
        );
        self.figures.push(("change (HTTP PUT) to NOTIFY", changes));
        self.figures.push(("resident at the end", self.memory()));
        self.figures
    }

    /// At an even pace.
    fn all_subscribe(&self, size: usize) {
        let began = Instant::now();
        for number in 0..size {
            wait_until(began + Duration::from_secs_f64(number as f64 / f64::from(RATE)));
            self.phones.subscribe(number);
        }
        self.rest();
    }

    /// Refreshes and changes, each at its own pace.
    fn live(&self, size: usize, time: Duration, http: SocketAddr) {
        let began = Instant::now();
        let changes = thread::spawn({
            let heard = self.phones.heard.clone();
            move || {
                let connect = || BufReader::new(TcpStream::connect(http).unwrap());
                let (mut door, mut connected) = (connect(), Instant::now());
                let pause = Duration::from_secs(1) / CHANGES;
                for count in 0_u32.. {
                    wait_until(began + pause * count);
                    if began.elapsed() > time {
                        return;
                    }
                    // Each account in turn, far from the last one.
                    let number = (count as usize * 7919) % size;
                    Phones::changes(&heard, number, count + 1);
                    if connected.elapsed() > KEEP {
                        (door, connected) = (connect(), Instant::now());
                    }
                    put(&mut door, number, count + 1);
                }
            }
        });
        let pause = REFRESH.as_secs_f64() / size as f64;
        for number in 0.. {
            wait_until(began + Duration::from_secs_f64(pause * f64::from(number)));
            if began.elapsed() > time {
                break;
            }
            self.phones.subscribe(number as usize % size);
        }
        changes.join().unwrap();
        self.rest();
    }

    /// Waits until nobody waits.
    fn rest(&self) {
        let deadline = Instant::now() + LIMIT;
        while self.phones.waiting() != (0, 0, 0) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn report(&mut self, began: Instant, cpu: Duration, names: [&'static str; 5]) {
        let times = self.phones.times();
        let (answer, told, changed) = self.phones.waiting();
        let percent = 100.0 * (self.cpu() - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
        let load = fs::read_to_string("/proc/loadavg").unwrap();
        let figures = [
            load.split(' ').next().unwrap().to_owned(),
            percentiles(times.to_answer),
            percentiles(times.to_notify),
            format!("{percent:.0} %"),
            format!("{answer}, {}; {}", told + changed, times.refused),
        ];
        self.figures.extend(names.into_iter().zip(figures));
    }

    fn proc(&self, name: &str) -> PathBuf {
        let pid = self.mwid.status()["pid"].as_u64().unwrap();
        PathBuf::from(format!("/proc/{pid}/{name}"))
    }

    /// CPU time of the whole process so far.
    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(self.proc("stat")).unwrap();
        // After the name in parentheses: state is field 3, utime 14, stime 15, in hundredths.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|it| it.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    fn memory(&self) -> String {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let kilobytes: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        format!("{:.0} MB", kilobytes / 1024.0)
    }
}

fn wait_until(at: Instant) {
    thread::sleep(at.saturating_duration_since(Instant::now()));
}

/// Says over HTTP what waits, and reads the answer.
fn put(http: &mut BufReader<TcpStream>, number: usize, new: u32) {
    let body = format!("{{\"new\": {new}, \"old\": 0}}");
    let request = format!(
        "PUT /v1/accounts/{}@example.com/summary HTTP/1.1\r\nHost: mwid\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        user(number),
        body.len(),
    );
    http.get_mut().write_all(request.as_bytes()).unwrap();
    let (mut length, mut line) = (0, String::new());
    http.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 20"), "{line}");
    while line != "\r\n" {
        line.clear();
        http.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    http.read_exact(&mut vec![0; length]).unwrap();
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let Some(last) = times.len().checked_sub(1) else { return "none".to_owned() };
    let at = |percent: usize| times[last * percent / 100].as_secs_f64() * 1000.0;
    format!("{:.1}, {:.1}, {:.0} ms ({})", at(50), at(99), at(100), times.len())
}
