//! From a change in the spool to the NOTIFY on the wire: the real daemon, SQLite, UDP on loopback.
//!
//! `cargo bench --bench event_to_phone` prints a table; `docs/performance.md` says what each row
//! means; `-- spool`, `externnotify` or `processes` choose a part of it.
//! `MWID_HELPER=/path/to/mwid-externnotify` measures another build of the helper.

use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mwid_core::message::{Message, StartLine};
use rusqlite::{Connection, params};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Accounts, each with one phone: each event has its own, so that no pause between two NOTIFYs of
/// one phone gets in its way.
const ACCOUNTS: u32 = 1000;

/// How long anything may take before the run is called off.
const PATIENCE: Duration = Duration::from_secs(30);

const SCHEMA: &str = include_str!("../sql/sqlite/opensips-active_watchers.sql");

fn main() -> Outcome<()> {
    let helper = std::env::var_os("MWID_HELPER")
        .map_or_else(|| env!("CARGO_BIN_EXE_mwid-externnotify").into(), PathBuf::from);
    let chosen: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|it| it == name);
    println!("{:<58} {:>9} {:>9} {:>9}", "", "median", "p99", "max");
    if wanted("spool") {
        spool()?;
    }
    if wanted("externnotify") {
        externnotify(&helper)?;
    }
    if wanted("processes") {
        processes(&helper)?;
    }
    Ok(())
}

/// The spool is watched: a message is renamed into INBOX, as the last step of its recording.
fn spool() -> Outcome<()> {
    let mut site = Site::open(true)?;
    let mut times = Vec::new();
    for account in 0..ACCOUNTS {
        let message = site.record(account)?;
        let start = Instant::now();
        fs::rename(&message, message.with_file_name("msg0000.txt"))?;
        times.push(site.phone.next(account, "1/0 (0/0)")? - start);
    }
    print("message in the spool to its NOTIFY", &mut times);

    let mut times = Vec::new();
    for account in 0..ACCOUNTS {
        let inbox = site.mailbox(account).join("INBOX/msg0000.txt");
        let start = Instant::now();
        fs::rename(inbox, site.mailbox(account).join("Old/msg0000.txt"))?;
        times.push(site.phone.next(account, "0/1 (0/0)")? - start);
    }
    print("message heard to its NOTIFY (waits 20 ms for a burst)", &mut times);

    let messages: Vec<PathBuf> =
        (0..ACCOUNTS).map(|it| site.record(it)).collect::<Result<_, _>>()?;
    let start = Instant::now();
    for message in &messages {
        fs::rename(message, message.with_file_name("msg0001.txt"))?;
    }
    for _ in 0..ACCOUNTS {
        site.phone.any("1/1 (0/0)")?;
    }
    let took = start.elapsed();
    let rate = f64::from(ACCOUNTS) / took.as_secs_f64();
    println!("{ACCOUNTS} messages at once, all NOTIFYs answered: {took:.0?}, {rate:.0} a second");
    Ok(())
}

/// No spool: Asterisk runs the helper, its counts are the truth.
fn externnotify(helper: &Path) -> Outcome<()> {
    let mut site = Site::open(false)?;
    let mut times = Vec::new();
    for account in 0..ACCOUNTS {
        let mut command = site.helper(helper, account);
        let start = Instant::now();
        let mut child = command.spawn()?;
        times.push(site.phone.next(account, "1/0 (0/0)")? - start);
        child.wait()?;
    }
    print("start of mwid-externnotify to the NOTIFY", &mut times);
    Ok(())
}

/// What Asterisk waits for: the helper from its start to its end, beside the smallest program.
fn processes(helper: &Path) -> Outcome<()> {
    let site = Site::open(false)?;
    let (mut floor, mut small, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for account in 0..ACCOUNTS {
        floor.push(run(&mut Command::new("/bin/true"))?);
        small.push(run(&mut site.helper(helper, account))?);
        let mut command = Command::new(env!("CARGO_BIN_EXE_mwid"));
        command.arg("externnotify").args(site.arguments(account));
        whole.push(run(&mut command)?);
    }
    print("/bin/true, start to end", &mut floor);
    print("mwid-externnotify, start to end", &mut small);
    print("mwid externnotify, start to end", &mut whole);
    Ok(())
}

fn run(command: &mut Command) -> Outcome<Duration> {
    let start = Instant::now();
    let status = command.status()?;
    let took = start.elapsed();
    if status.success() { Ok(took) } else { Err(format!("{command:?}: {status}").into()) }
}

fn print(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_micros();
    println!("{what:<58} {:>6} µs {:>6} µs {:>6} µs", at(50), at(99), at(100));
}

/// A temporary installation with the running daemon. It ends with this.
struct Site {
    folder: tempfile::TempDir,
    phone: Phone,
    daemon: Child,
}

impl Drop for Site {
    fn drop(&mut self) {
        // It is ours, and whether it is gone already does not matter.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Site {
    /// Starts the daemon. With a spool, returns when every phone has its first NOTIFY.
    fn open(spool: bool) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let root = folder.path();
        let mut phone = Phone::open()?;
        for account in 0..ACCOUNTS {
            fs::create_dir_all(mailbox(root, account).join("INBOX"))?;
            fs::create_dir_all(mailbox(root, account).join("Old"))?;
        }
        subscribe(&root.join("dialogs.db"), &phone.socket)?;
        let path = root.display();
        let config = format!(
            "[general]\nproxy = {}\nbindip = 127.0.0.1\n\
             [spool]\nenabled = {}\npath = {path}/spool\n\
             [database]\nurl = sqlite:{path}/dialogs.db\n\
             [timers]\nmin_interval = 0\nrate = 100000\n\
             [state]\npath = {path}/ledger.db\n\
             [control]\nsocket = {path}/control.sock\nexternnotify = {path}/externnotify.sock\n\
             drop = {path}/drop\n",
            phone.socket.local_addr()?,
            if spool { "yes" } else { "no" },
        );
        fs::write(root.join("mwid.conf"), config)?;
        let mut daemon = Command::new(env!("CARGO_BIN_EXE_mwid"))
            .arg("--config")
            .arg(root.join("mwid.conf"))
            .arg("run")
            .env("MWID_LOG", "error")
            .stdin(Stdio::null())
            .stderr(File::create(root.join("log"))?)
            .spawn()?;
        let socket = root.join("externnotify.sock");
        let deadline = Instant::now() + PATIENCE;
        while !socket.exists() {
            if Instant::now() > deadline || daemon.try_wait()?.is_some() {
                return Err(fs::read_to_string(root.join("log"))?.into());
            }
            std::thread::yield_now();
        }
        for _ in 0..if spool { ACCOUNTS } else { 0 } {
            phone.any("0/0 (0/0)")?;
        }
        Ok(Self { folder, phone, daemon })
    }

    fn mailbox(&self, account: u32) -> PathBuf {
        mailbox(self.folder.path(), account)
    }

    /// A message that is about to be complete.
    fn record(&self, account: u32) -> io::Result<PathBuf> {
        let message = self.mailbox(account).join("INBOX/recording");
        fs::write(&message, "[message]\n")?;
        Ok(message)
    }

    fn helper(&self, helper: &Path, account: u32) -> Command {
        let mut command = Command::new(helper);
        command.args(self.arguments(account));
        command
    }

    fn arguments(&self, account: u32) -> [String; 9] {
        let path = |name| self.folder.path().join(name).display().to_string();
        let (socket, drop) = (path("externnotify.sock"), path("drop"));
        let words = ["--socket", &socket, "--drop", &drop, "example.com", &user(account)];
        let [a, b, c, d, e, f] = words.map(str::to_owned);
        [a, b, c, d, e, f, "1".into(), "0".into(), "0".into()]
    }
}

fn user(account: u32) -> String {
    (10_000 + account).to_string()
}

fn mailbox(root: &Path, account: u32) -> PathBuf {
    root.join("spool/example.com").join(user(account))
}

/// One row for each account, as OpenSIPS keeps it.
fn subscribe(database: &Path, phone: &UdpSocket) -> Outcome<()> {
    let at = phone.local_addr()?;
    let ends = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs().cast_signed() + 3600;
    let mut connection = Connection::open(database)?;
    connection.execute_batch(SCHEMA)?;
    let rows = connection.transaction()?;
    for account in 0..ACCOUNTS {
        let user = user(account);
        rows.execute(
            "INSERT INTO active_watchers (presentity_uri, watcher_username, watcher_domain,
             to_user, to_domain, event, to_tag, from_tag, callid, local_cseq, remote_cseq, contact,
             expires, status, socket_info, local_contact)
             VALUES (?1, ?2, 'example.com', ?2, 'example.com', 'message-summary', 'server', 'phone',
             ?3, 1, 1, ?4, ?5, 1, ?6, ?7)",
            params![
                format!("sip:{user}@example.com"),
                user,
                format!("call-{user}"),
                format!("sip:{user}@{at}"),
                ends,
                format!("udp:{at}"),
                format!("sip:{at}"),
            ],
        )?;
    }
    Ok(rows.commit()?)
}

/// Plays proxy and all phones: answers every NOTIFY with 200.
struct Phone {
    socket: UdpSocket,
    buffer: Vec<u8>,
}

impl Phone {
    fn open() -> io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket, buffer: vec![0; 65_535] })
    }

    /// When the next NOTIFY arrived, which must be this account's with these counts.
    fn next(&mut self, account: u32, counts: &str) -> Outcome<Instant> {
        let (at, uri) = self.any(counts)?;
        let expected = format!("sip:{}@", user(account));
        if uri.starts_with(&expected) { Ok(at) } else { Err(format!("a NOTIFY to {uri}").into()) }
    }

    /// When the next NOTIFY arrived, and its Request-URI.
    fn any(&mut self, counts: &str) -> Outcome<(Instant, String)> {
        let (length, from) = self.socket.recv_from(&mut self.buffer)?;
        let at = Instant::now();
        let message = Message::parse(&self.buffer[..length])?;
        let StartLine::Request { uri, .. } = message.start() else {
            return Err("not a request".into());
        };
        let body = String::from_utf8_lossy(message.body());
        if !body.ends_with(&format!("Voice-Message: {counts}\r\n")) {
            return Err(format!("{uri}: {counts} expected, not {body}").into());
        }
        self.socket.send_to(&answer(&message), from)?;
        Ok((at, uri.to_owned()))
    }
}

fn answer(message: &Message) -> Vec<u8> {
    let mut text = "SIP/2.0 200 OK\r\n".to_owned();
    for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
        for value in message.headers(name) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    text.push_str("Content-Length: 0\r\n\r\n");
    text.into_bytes()
}
