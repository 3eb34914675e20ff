//! mwid's own presence agent with many phones: they subscribe, refresh every ten minutes, and a
//! hundred accounts change each second. The real daemon, its own SQLite file, UDP on loopback.
//!
//! `cargo bench --bench agent` runs it with 50,000 phones for three minutes; `-- 1000 30` chooses
//! how many and how many seconds. `docs/performance.md` says what the figures mean.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has failed")]
#![allow(unreachable_pub, reason = "nothing of a benchmark is reached from elsewhere")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

#[path = "agent/phones.rs"]
mod phones;
#[path = "../tests/support/mod.rs"]
mod support;

use phones::Phones;
use support::fleet::daemon::Daemon;
use support::net::{TcpPort, UdpPort};

/// Changes of an account a second.
const CHANGES: u32 = 100;
/// Between two refreshes of a phone.
const REFRESH: Duration = Duration::from_secs(600);
/// SUBSCRIBEs a second while all subscribe. Answers are kept for 32 s, 32,768 of them: of more than
/// 1,024 a second some are not taken at first, and these phones send each only once.
const RATE: u32 = 900;
/// Timer F: no answer may take longer.
const LIMIT: Duration = Duration::from_secs(32);

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|it| it.parse().ok()).collect();
    let size = numbers.first().copied().unwrap_or(50_000);
    let seconds = numbers.get(1).copied().unwrap_or(180);
    let (sip, http) = (UdpPort::claim(), TcpPort::claim());
    let http: SocketAddr = ([127, 0, 0, 1], http.number()).into();
    let folder = TempDir::with_prefix("mwid-agent-").unwrap();
    let configuration = format!(
        "[general]\nbindip = 127.0.0.1\n[spool]\nenabled = no\n[database]\nurl = sqlite:{}\n\
         [timers]\nrate = 100000\n[http]\nlisten = {http}\n\
         [agent]\nlisten = udp:{}\ntrusted = 127.0.0.1\n",
        folder.path().join("dialogs.db").display(),
        sip.address(),
    );
    let mut mwid = Daemon::new(folder.path(), &configuration);
    mwid.start();
    println!("\nSQLite, {size} phones, {seconds} s");
    let bench = Bench { phones: Phones::open(size.try_into().unwrap(), sip.address()), mwid };
    bench.all_subscribe(size.try_into().unwrap());
    bench.live(size.try_into().unwrap(), Duration::from_secs(seconds), http);
}

/// A line of the report.
fn say(what: &str, figure: impl std::fmt::Display) {
    println!("  {what:<52} {figure}");
}

struct Bench {
    phones: Phones,
    mwid: Daemon,
}

impl Bench {
    /// At an even pace.
    fn all_subscribe(&self, size: usize) {
        let (began, cpu) = (Instant::now(), self.cpu());
        for number in 0..size {
            wait_until(began + Duration::from_secs_f64(number as f64 / f64::from(RATE)));
            self.phones.subscribe(number);
        }
        self.rest();
        let rate = size as f64 / began.elapsed().as_secs_f64();
        say(
            "all subscribed and told",
            format!("{} ({rate:.0} a second)", seconds(began.elapsed())),
        );
        self.report(self.cpu() - cpu, began.elapsed());
    }

    /// Refreshes and changes, each at its own pace.
    fn live(&self, size: usize, time: Duration, http: SocketAddr) {
        let (began, cpu) = (Instant::now(), self.cpu());
        let changes = thread::spawn({
            let heard = self.phones.heard.clone();
            move || {
                let mut http = BufReader::new(TcpStream::connect(http).unwrap());
                let pause = Duration::from_secs(1) / CHANGES;
                for count in 0_u32.. {
                    wait_until(began + pause * count);
                    if began.elapsed() > time {
                        return;
                    }
                    // Each account in turn, far from the last one.
                    let number = (count as usize * 7919) % size;
                    Phones::changes(&heard, number, count + 1);
                    put(&mut http, number, count + 1);
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
        say("refreshes and changes for", seconds(began.elapsed()));
        self.report(self.cpu() - cpu, began.elapsed());
    }

    /// Waits until nobody waits.
    fn rest(&self) {
        let deadline = Instant::now() + LIMIT;
        while self.phones.waiting() != (0, 0, 0) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn report(&self, cpu: Duration, time: Duration) {
        let times = self.phones.times();
        say("SUBSCRIBE to 200: p50, p99, max", percentiles(times.to_answer));
        say("SUBSCRIBE to NOTIFY: p50, p99, max", percentiles(times.to_notify));
        say("change (HTTP PUT) to NOTIFY: p50, p99, max", percentiles(times.change));
        let waiting = self.phones.waiting();
        say("NOTIFYs, refused, lost (200, NOTIFY, change)", {
            format!("{}, {}, {waiting:?}", times.notifies, times.refused)
        });
        let percent = 100.0 * cpu.as_secs_f64() / time.as_secs_f64();
        say("CPU", format!("{} ({percent:.1} % of one core)", seconds(cpu)));
        say("memory (VmRSS)", self.memory());
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
        format!("{:.1} MB", kilobytes / 1024.0)
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
    format!("{:.1} ms, {:.1} ms, {:.1} ms ({} times)", at(50), at(99), at(100), times.len())
}

fn user(number: usize) -> String {
    format!("{}", 1_000_000 + number)
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
