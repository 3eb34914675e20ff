//! The real daemon in a temporary installation of its own: a spool, an SQLite database, sockets.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mwid::clock::unix;
use mwid::control::{self, client};
use mwid::demo::phone::Subscription;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use rusqlite::Connection;
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::Value;

use super::peer::{Peer, SOON};

/// The table as OpenSIPS 3.6 makes it.
pub const SCHEMA: &str = include_str!("../../sql/sqlite/opensips-active_watchers.sql");

/// The program.
pub const MWID: &str = env!("CARGO_BIN_EXE_mwid");

/// An installation.
pub struct House {
    folder: tempfile::TempDir,
    keys: BTreeMap<(String, String), String>,
}

impl House {
    /// A proxy, an empty spool, an empty database, quick timers.
    pub fn new(proxy: &Peer) -> Self {
        let mut house = Self::bare();
        house.create_database();
        house.set("general", "proxy", &proxy.address.to_string());
        house
    }

    /// Without a proxy and a database.
    pub fn bare() -> Self {
        let mut house = Self { folder: tempfile::tempdir().unwrap(), keys: BTreeMap::new() };
        fs::create_dir(house.path("spool")).unwrap();
        let path = |name: &str| house.path(name).display().to_string();
        let keys = [
            ("general", "bindip", "127.0.0.1".to_owned()),
            ("spool", "path", path("spool")),
            ("database", "url", format!("sqlite:{}", path("dialogs.db"))),
            ("control", "socket", path("run/control.sock")),
            ("control", "externnotify", path("run/externnotify.sock")),
            ("control", "drop", path("drop")),
            ("state", "path", path("ledger.db")),
            ("timers", "t1", "100".to_owned()),
            ("timers", "t2", "800".to_owned()),
            ("timers", "min_interval", "50".to_owned()),
            ("timers", "retry_min", "1".to_owned()),
            ("timers", "retry_max", "1".to_owned()),
        ];
        for (section, key, value) in keys {
            house.keys.insert((section.to_owned(), key.to_owned()), value);
        }
        house.write();
        house
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("zonkeymwi.conf")
    }

    pub fn create_database(&self) {
        self.database().execute_batch(SCHEMA).unwrap();
    }

    /// Writes a key into the configuration.
    pub fn set(&mut self, section: &str, key: &str, value: &str) {
        self.keys.insert((section.to_owned(), key.to_owned()), value.to_owned());
        self.write();
    }

    fn write(&self) {
        let mut text = String::new();
        let mut last = "";
        for ((section, key), value) in &self.keys {
            if section != last {
                text.push_str(&format!("[{section}]\n"));
                last = section;
            }
            text.push_str(&format!("{key} = {value}\n"));
        }
        // Renamed into place: a daemon that reloads never reads half of it.
        fs::write(self.path("new.conf"), text).unwrap();
        fs::rename(self.path("new.conf"), self.config()).unwrap();
    }

    pub fn database(&self) -> Connection {
        let connection = Connection::open(self.path("dialogs.db")).unwrap();
        connection.busy_timeout(SOON).unwrap();
        connection
    }

    /// Runs one statement, as the presence server would.
    pub fn sql(&self, statement: &str) -> usize {
        self.database().execute(statement, []).unwrap()
    }

    /// How many rows there are.
    pub fn rows(&self) -> i64 {
        let count = "SELECT count(*) FROM active_watchers";
        self.database().query_row(count, [], |row| row.get(0)).unwrap()
    }

    /// A phone of `user@example.com` subscribes through this peer: a row, and the phone behind it.
    pub fn subscribe(&self, peer: &Peer, user: &str, call_id: &str) -> Subscription {
        let subscription = subscription(peer, user, call_id);
        insert(&self.database(), &subscription, &peer.address.to_string());
        peer.subscribe(subscription.clone());
        subscription
    }

    /// The mailbox `context/number` holds so many new and old messages from now on.
    pub fn messages(&self, mailbox: &str, new: usize, old: usize) {
        let mailbox = self.path("spool").join(mailbox);
        for (folder, wanted) in [("INBOX", new), ("Old", old)] {
            let folder = mailbox.join(folder);
            fs::create_dir_all(&folder).unwrap();
            let there = fs::read_dir(&folder).unwrap().count();
            for number in there..wanted {
                let part = mailbox.join("part");
                fs::write(&part, b"[message]\n").unwrap();
                fs::rename(&part, folder.join(format!("msg{number:04}.txt"))).unwrap();
            }
            for number in wanted..there {
                fs::remove_file(folder.join(format!("msg{number:04}.txt"))).unwrap();
            }
        }
    }

    /// Starts the daemon and waits until it runs.
    pub fn start(&self) -> Mwid {
        let mwid = self.launch();
        mwid.log("mwid runs");
        mwid
    }

    /// Starts the daemon, which may refuse.
    pub fn launch(&self) -> Mwid {
        self.launch_by(Command::new(MWID))
    }

    /// Starts the daemon by this command, which may refuse.
    pub fn launch_by(&self, mut command: Command) -> Mwid {
        let mut child = command
            .arg("--config")
            .arg(self.config())
            .arg("run")
            .env_remove("JOURNAL_STREAM")
            .env_remove("MWID_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let log = Arc::new(Log::of(stderr));
        std::thread::spawn({
            let log = log.clone();
            move || log.fill()
        });
        Mwid { child, log, config: self.config(), control: self.path("run/control.sock") }
    }

    /// Runs the `mwid` command.
    pub fn mwid(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(MWID);
        command.arg("--config").arg(self.config()).args(arguments);
        said(command.output().unwrap())
    }

    /// Runs the helper as Asterisk does.
    pub fn externnotify(&self, arguments: &[&str]) -> Said {
        let mut command = self.externnotify_command();
        said(command.args(arguments).output().unwrap())
    }

    pub fn externnotify_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mwid-externnotify"));
        command.arg("--socket").arg(self.path("run/externnotify.sock"));
        command.arg("--drop").arg(self.path("drop"));
        command
    }
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

fn said(output: Output) -> Said {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    Said { code, out: text(output.stdout), err: text(output.stderr) }
}

/// The running daemon; killed when dropped.
pub struct Mwid {
    child: Child,
    log: Arc<Log>,
    config: PathBuf,
    control: PathBuf,
}

/// What mwid says. A thread reads it, so that mwid never waits; and so does whoever asks, so that what
/// was said before is known then.
struct Log {
    lines: Mutex<Lines>,
    more: Condvar,
    /// The same pipe as that of the lines, to wait for.
    pipe: OwnedFd,
}

struct Lines {
    lines: Vec<String>,
    pipe: ChildStderr,
    /// The begin of a line.
    rest: Vec<u8>,
    ended: bool,
}

impl Log {
    fn of(stderr: ChildStderr) -> Self {
        rustix::io::ioctl_fionbio(&stderr, true).unwrap();
        let pipe = stderr.as_fd().try_clone_to_owned().unwrap();
        let lines = Lines { lines: Vec::new(), pipe: stderr, rest: Vec::new(), ended: false };
        Self { lines: Mutex::new(lines), more: Condvar::new(), pipe }
    }

    fn fill(&self) {
        while !self.lock().ended {
            let mut pipe = [PollFd::new(&self.pipe, PollFlags::IN)];
            // A signal may come in between.
            let _ = poll(&mut pipe, None);
        }
    }

    /// All that was said until now.
    fn lock(&self) -> MutexGuard<'_, Lines> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.read();
        self.more.notify_all();
        lines
    }
}

impl Lines {
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        while !self.ended {
            match self.pipe.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(length) => self.rest.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                    break;
                }
            }
        }
        if self.ended && !self.rest.is_empty() {
            self.rest.push(b'\n');
        }
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.lines.push(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned());
        }
    }
}

impl Mwid {
    /// Waits for a line of the log that contains this text.
    pub fn log(&self, text: &str) -> String {
        self.wait_log(text, SOON, |lines, ended| {
            let line = lines.iter().find(|line| line.contains(text)).cloned();
            assert!(line.is_some() || !ended, "mwid ended without {text:?}: {lines:#?}");
            line
        })
    }

    fn wait_log<T>(
        &self,
        what: &str,
        limit: Duration,
        mut ask: impl FnMut(&[String], bool) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + limit;
        let mut lines = self.log.lock();
        loop {
            if let Some(answer) = ask(&lines.lines, lines.ended) {
                return answer;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited {limit:?} in vain for {what}: {:#?}", lines.lines);
            lines = self.log.more.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// The whole log so far.
    pub fn logged(&self) -> String {
        self.log.lock().lines.join("\n")
    }

    /// How many lines of the log so far contain this text.
    pub fn count(&self, text: &str) -> usize {
        self.log.lock().lines.iter().filter(|line| line.contains(text)).count()
    }

    /// Where its UDP socket is.
    pub fn address(&self) -> std::net::SocketAddr {
        let line = self.log("mwid runs");
        let socket = line.rsplit_once("socket=").unwrap().1;
        socket.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// What `mwid status --json` prints.
    pub fn status(&self) -> Value {
        client::ask(&self.control, &control::Command::Status).unwrap().data
    }

    /// Waits until the status is as wanted.
    pub fn until(&self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let deadline = Instant::now() + SOON;
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "not {what}: {status:#}\n{}", self.logged());
            // Between two questions: the daemon has better things to do than to answer them.
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until there is nothing left to do.
    pub fn settled(&self) -> Value {
        self.until("settled", |status| {
            status["lamps"]["waiting"] == 0 && status["lamps"]["in_flight"] == 0
        })
    }

    pub fn id(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        signal::kill(Pid::from_raw(self.id()), signal).unwrap();
    }

    /// Waits until it has ended by itself.
    pub fn ended(&mut self, limit: Duration) -> ExitStatus {
        self.wait_log("its end", limit, |_, ended| ended.then_some(()));
        self.child.wait().unwrap()
    }

    /// Asks it to stop and waits until it has.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended(SOON)
    }

    pub fn config(&self) -> &Path {
        &self.config
    }
}

impl Drop for Mwid {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("mwid said:\n{}", self.logged());
        }
    }
}

/// A subscription of `user@example.com`.
pub fn subscription(peer: &Peer, user: &str, call_id: &str) -> Subscription {
    Subscription {
        user: user.to_owned(),
        domain: "example.com".to_owned(),
        call_id: call_id.to_owned(),
        phone_tag: format!("phone-{call_id}"),
        server_tag: format!("server-{call_id}"),
        contact: format!("sip:{user}@{}", peer.address),
        expires: unix() + 3600,
        cseq: 1,
    }
}

/// Writes the row of a subscription, as the presence server does.
pub fn insert(database: &Connection, subscription: &Subscription, server: &str) -> i64 {
    subscription.insert(database, server).unwrap()
}
