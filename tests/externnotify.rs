//! externnotify from end to end: the real command, run as Asterisk runs it, against the real
//! socket and drop folder. Nothing sleeps; everything waits with a deadline.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use mwid::config::Control;
use mwid::source::Call;
use mwid::source::externnotify::{Externnotify, FileName, Notice, Socket, Stats};
use mwid::unix_socket::SocketError;
use mwid_core::mailbox::Mailbox;
use mwid_core::summary::Summary;
use tokio::sync::mpsc;

const COMMAND: &str = env!("CARGO_BIN_EXE_mwid-externnotify");
const DEADLINE: Duration = Duration::from_secs(30);

struct Rig {
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

/// What a call says.
type Said = (Mailbox, Option<Summary>);

fn call(name: &str, counts: [u32; 3]) -> Said {
    let [new, old, urgent] = counts;
    (mailbox(name), Some(Summary::from_asterisk(new, old, urgent)))
}

fn notice(stamp: u64, name: &str, counts: [u32; 3]) -> String {
    Notice { stamp, mailbox: mailbox(name), counts: Some(counts), file: None }.to_text()
}

/// The name of a file that a command left.
fn file(stamp: u64) -> String {
    FileName { stamp, process: 1, number: 0 }.to_string()
}

/// As the daemon does it when the counts are in its ledger.
fn done(call: Call) -> Said {
    if let Some(receipt) = call.receipt {
        receipt.done();
    }
    (call.mailbox, call.given)
}

impl Rig {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let rig = Self { dir: tempfile::tempdir().unwrap(), runtime };
        fs::create_dir(rig.drop_folder()).unwrap();
        rig
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("run/externnotify.sock")
    }

    fn drop_folder(&self) -> PathBuf {
        self.dir.path().join("drop")
    }

    fn control(&self) -> Control {
        Control {
            socket: self.dir.path().join("control.sock"),
            externnotify: self.socket(),
            drop: self.drop_folder(),
        }
    }

    fn start(&self, room: usize) -> (Externnotify, mpsc::Receiver<Call>) {
        let (sender, calls) = mpsc::channel(room);
        let _inside = self.runtime.enter();
        (Externnotify::start(Socket::bind(&self.control()).unwrap(), sender, []), calls)
    }

    fn refused(&self) -> SocketError {
        let _inside = self.runtime.enter();
        Socket::bind(&self.control()).unwrap_err()
    }

    /// The next call; its file stays.
    fn taken(&self, calls: &mut mpsc::Receiver<Call>) -> Call {
        let next = async { tokio::time::timeout(DEADLINE, calls.recv()).await };
        self.runtime.block_on(next).expect("no call within the deadline").unwrap()
    }

    /// The next call; it is done.
    fn next(&self, calls: &mut mpsc::Receiver<Call>) -> Said {
        done(self.taken(calls))
    }

    /// Lets the daemon run until its counters are as wanted.
    fn until(&self, daemon: &Externnotify, wanted: impl Fn(&Stats) -> bool) -> Stats {
        let start = Instant::now();
        loop {
            let stats = daemon.stats();
            if wanted(&stats) {
                return stats;
            }
            assert!(start.elapsed() < DEADLINE, "never: {stats:?}");
            self.runtime.block_on(tokio::task::yield_now());
        }
    }

    /// The command with the options that lead it here.
    fn command(&self) -> Command {
        let mut command = Command::new(COMMAND);
        command.arg("--socket").arg(self.socket()).arg("--drop").arg(self.drop_folder());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command().args(args).output().unwrap()
    }

    fn dropped(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.drop_folder())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn as_asterisk_calls_it() {
    let rig = Rig::new();
    let (_daemon, mut calls) = rig.start(8);
    let (socket, drop) = (rig.socket(), rig.drop_folder());
    let command = format!("{COMMAND} --socket {} --drop {}", socket.display(), drop.display());
    for (arguments, expected) in [
        ("default 202 1 0 0", call("202", [1, 0, 0])),
        ("example.com 300 0 0 2", call("300@example.com", [0, 0, 2])),
        ("\"\" 204 0 3 0", call("204", [0, 3, 0])),
        ("\"\" 204@a", (mailbox("204@a"), None)),
    ] {
        let line = format!("{command} {arguments} &");
        assert!(Command::new("/bin/sh").args(["-c", &line]).status().unwrap().success());
        assert_eq!(rig.next(&mut calls), expected, "{line}");
        assert_eq!(rig.dropped(), [""; 0], "{line}");
    }
}

#[test]
fn of_200_calls_at_once_none_is_lost() {
    let rig = Rig::new();
    let (daemon, mut calls) = rig.start(4);
    let children: Vec<_> = (0..200)
        .map(|number| {
            let mut command = rig.command();
            command.args(["default", &number.to_string(), "1", "0", "0"]).spawn().unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let mut seen = BTreeMap::new();
    while seen.len() < 200 {
        let (mailbox, _) = rig.next(&mut calls);
        *seen.entry(mailbox).or_insert(0) += 1;
    }
    assert!(seen.values().all(|&times| times == 1), "{seen:?}");
    let stats = rig.until(&daemon, |stats| stats.calls == 200);
    assert_eq!((stats.garbage, stats.bad_files, stats.stale), (0, 0, 0));
    assert!(stats.dropped > 0, "the queue of the socket is short: {stats:?}");
    assert_eq!(rig.dropped(), [""; 0]);
}

#[test]
fn hostile_arguments_are_refused_and_nothing_is_sent() {
    let rig = Rig::new();
    for bad in [
        &["default"][..],
        &["default", "../../etc/passwd", "1", "0", "0"],
        &["default", "202\r\nEvil: yes", "1", "0", "0"],
        &["..", "202", "1", "0", "0"],
        &["default", "202", "-1", "0", "0"],
        &["default", "202", "1e9", "0", "0"],
        &["default", "202", "99999999999", "0", "0"],
        &["default", &"2".repeat(300), "1"],
        &["--nonsense", "default", "202"],
    ] {
        let output = rig.run(bad);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{bad:?}: {text}");
        assert!(text.starts_with("mwid-externnotify: ") && text.contains("Nothing was sent"));
        assert!(!text.contains('\r'), "a control character reached the terminal: {text:?}");
    }
    assert_eq!(rig.dropped(), [""; 0]);
    let help = rig.run(&["--help"]);
    assert!(help.status.success() && help.stdout.starts_with(b"Tells mwid"));
}

#[test]
fn what_was_said_while_the_daemon_was_down_is_taken_at_the_start() {
    let rig = Rig::new();
    for new in ["1", "2", "3"] {
        let output = rig.run(&["default", "202", new, "0", "0"]);
        assert!(output.status.success() && output.stderr.is_empty());
    }
    let names = rig.dropped();
    assert_eq!(names.len(), 3);
    let mode = fs::metadata(rig.drop_folder().join(&names[0])).unwrap().permissions().mode();
    assert_eq!(mode & 0o777 & !0o640, 0);
    let (daemon, mut calls) = rig.start(8);
    for new in 1..=3 {
        assert_eq!(rig.next(&mut calls), call("202", [new, 0, 0]));
    }
    rig.until(&daemon, |_| rig.dropped().is_empty());
}

#[test]
fn the_file_comes_before_the_datagram_and_stays_until_its_call_is_done() {
    let rig = Rig::new();
    let (daemon, mut calls) = rig.start(8);
    rig.run(&["default", "202", "1", "0", "0"]);
    let names = rig.dropped();
    assert_eq!(names.len(), 1);
    let first = rig.taken(&mut calls);
    assert_eq!(rig.dropped(), names);
    // A whole look into the folder later it was not handed on again.
    fs::write(rig.drop_folder().join(file(1)), notice(1, "203", [1, 0, 0])).unwrap();
    assert_eq!(rig.next(&mut calls), call("203", [1, 0, 0]));
    assert_eq!((rig.dropped(), calls.try_recv().is_err()), (names, true));
    assert_eq!(done(first), call("202", [1, 0, 0]));
    assert_eq!(rig.dropped(), [""; 0]);
    let Stats { calls, dropped, .. } = daemon.stats();
    assert_eq!((calls, dropped), (2, 1));
}

#[test]
fn a_call_that_is_not_done_comes_again_at_the_next_start() {
    let rig = Rig::new();
    for number in 0..3 {
        rig.run(&["default", &number.to_string(), "1", "0", "0"]);
    }
    // There is room for one call, and what is taken is not done.
    let (daemon, mut calls) = rig.start(1);
    drop(rig.taken(&mut calls));
    drop(daemon);
    drop(calls);
    assert_eq!(rig.dropped().len(), 3);
    let (_daemon, mut calls) = rig.start(1);
    for number in 0..3 {
        assert_eq!(rig.next(&mut calls), call(&number.to_string(), [1, 0, 0]));
    }
    assert_eq!(rig.dropped(), [""; 0]);
}

#[test]
fn what_was_remembered_makes_older_files_stale() {
    let rig = Rig::new();
    for (stamp, name) in [(1000, "202"), (1001, "203"), (2001, "202")] {
        fs::write(rig.drop_folder().join(file(stamp)), notice(stamp, name, [7, 0, 0])).unwrap();
    }
    let (sender, mut calls) = mpsc::channel(8);
    let inside = rig.runtime.enter();
    let socket = Socket::bind(&rig.control()).unwrap();
    let daemon = Externnotify::start(socket, sender, [(mailbox("202"), 2000)]);
    drop(inside);
    assert_eq!(rig.next(&mut calls), call("203", [7, 0, 0]));
    assert_eq!(rig.next(&mut calls), call("202", [7, 0, 0]));
    assert_eq!((daemon.stats().stale, rig.dropped().len()), (1, 0));
}

#[test]
fn a_datagram_and_its_file_are_one_call() {
    let rig = Rig::new();
    fs::write(rig.drop_folder().join(file(9)), notice(9, "202", [9, 0, 0])).unwrap();
    let (daemon, mut calls) = rig.start(8);
    // The collector looks first; the datagram has waited in the socket.
    assert_eq!(rig.next(&mut calls), call("202", [9, 0, 0]));
    let sender = UnixDatagram::unbound().unwrap();
    let late = notice(9, "202", [9, 0, 0]) + &format!("file {}\n", file(9));
    for text in [late, notice(10, "203", [1, 0, 0])] {
        sender.send_to(text.as_bytes(), rig.socket()).unwrap();
    }
    assert_eq!(rig.next(&mut calls), call("203", [1, 0, 0]));
    assert_eq!((daemon.stats().calls, daemon.stats().garbage), (2, 0));
}

#[test]
fn a_datagram_names_no_file_but_its_own() {
    let rig = Rig::new();
    let secret = rig.dir.path().join("secret.call");
    fs::write(&secret, "precious").unwrap();
    let others = rig.drop_folder().join(file(5));
    fs::write(&others, "precious").unwrap();
    let (daemon, mut calls) = rig.start(8);
    let sender = UnixDatagram::unbound().unwrap();
    for name in ["../secret.call", "/etc/passwd", "", &secret.display().to_string(), &file(5)] {
        let text = notice(9, "202", [9, 0, 0]) + &format!("file {name}\n");
        sender.send_to(text.as_bytes(), rig.socket()).unwrap();
    }
    // One that is not there does no harm.
    let text = notice(9, "203", [1, 0, 0]) + &format!("file {}\n", file(9));
    sender.send_to(text.as_bytes(), rig.socket()).unwrap();
    assert_eq!(rig.next(&mut calls), call("203", [1, 0, 0]));
    assert_eq!((daemon.stats().garbage, daemon.stats().calls), (5, 1));
    assert!(secret.exists());
}

#[test]
fn where_no_file_can_be_left_the_datagram_alone_does_it() {
    let rig = Rig::new();
    let (_daemon, mut calls) = rig.start(8);
    let elsewhere = rig.dir.path().join("nowhere");
    let mut command = Command::new(COMMAND);
    command.arg("--socket").arg(rig.socket()).arg("--drop").arg(elsewhere);
    let output = command.args(["default", "202", "1", "0", "0"]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let call = rig.taken(&mut calls);
    assert!(call.receipt.is_none());
    assert_eq!(call.mailbox, mailbox("202"));
}

#[test]
fn a_full_socket_leaves_the_files_and_never_blocks() {
    let rig = Rig::new();
    fs::create_dir(rig.socket().parent().unwrap()).unwrap();
    let deaf = UnixDatagram::bind(rig.socket()).unwrap();
    for number in 0..40 {
        assert!(rig.run(&["default", &number.to_string(), "1", "0", "0"]).status.success());
    }
    deaf.set_nonblocking(true).unwrap();
    let mut datagrams = 0;
    let mut buffer = [0; 4096];
    while let Ok(length) = deaf.recv(&mut buffer) {
        datagrams += 1;
        let named = Notice::parse(&buffer[..length]).unwrap().file.unwrap();
        assert!(rig.drop_folder().join(named.to_string()).exists());
    }
    assert!(datagrams > 0 && datagrams < 40, "{datagrams} datagrams");
    assert_eq!(rig.dropped().len(), 40);
}

#[test]
fn when_nothing_works_it_says_so() {
    let rig = Rig::new();
    fs::remove_dir(rig.drop_folder()).unwrap();
    let output = rig.run(&["default", "202", "1", "0", "0"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    for part in
        ["202@default", "drop (No such file", "externnotify.sock: No such file", "install -d"]
    {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn what_others_leave_in_the_drop_folder_does_no_harm() {
    let rig = Rig::new();
    let folder = rig.drop_folder();
    let secret = rig.dir.path().join("secret");
    fs::write(&secret, notice(1, "666", [6, 6, 6])).unwrap();
    let named = |stamp| folder.join(file(stamp));
    symlink(&secret, named(1)).unwrap();
    fs::write(named(2), vec![b'x'; 1 << 20]).unwrap();
    fs::write(named(3), b"\xff\xfe\0").unwrap();
    fs::create_dir(named(4)).unwrap();
    nix::unistd::mkfifo(&named(5), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = UnixDatagram::bind(named(6)).unwrap();
    fs::write(named(7), notice(7, "202", [1, 0, 0]).replace("202", "../x")).unwrap();
    fs::write(named(8), notice(8, "202", [2, 0, 0])).unwrap();
    fs::write(folder.join("9-name.call"), notice(9, "202", [3, 0, 0])).unwrap();
    fs::write(folder.join("README"), "not ours").unwrap();
    let (daemon, mut calls) = rig.start(8);
    assert_eq!(rig.next(&mut calls), call("202", [2, 0, 0]));
    let stats = rig.until(&daemon, |stats| stats.bad_files == 8);
    assert_eq!((stats.calls, stats.dropped), (1, 1));
    rig.until(&daemon, |_| rig.dropped().len() == 9);
    let names = rig.dropped();
    assert!(names.iter().all(|name| name == "README" || name.starts_with("bad-")), "{names:?}");
    assert!(secret.exists());
}

#[test]
fn a_dropped_file_with_a_mailbox_that_cannot_be_is_put_aside() {
    let rig = Rig::new();
    let long = "x".repeat(254);
    let bad = ["", "..", ".x", "a/b", "a\0b", "a@b", "a\rb", long.as_str()];
    for (stamp, name) in (1..).zip(bad) {
        let good = notice(stamp, "202@home", [1, 0, 0]);
        for (line, stamp) in [("mailbox 202", stamp), ("context home", stamp + 100)] {
            let key = line.split(' ').next().unwrap();
            let text = good.replace(line, &format!("{key} {name}"));
            fs::write(rig.drop_folder().join(file(stamp)), text).unwrap();
        }
    }
    fs::write(rig.drop_folder().join(file(999)), notice(999, "202@home", [2, 0, 0])).unwrap();
    let (daemon, mut calls) = rig.start(8);
    assert_eq!(rig.next(&mut calls), call("202@home", [2, 0, 0]));
    assert_eq!(daemon.stats().bad_files, 2 * bad.len() as u64);
    rig.until(&daemon, |_| rig.dropped().len() == 2 * bad.len());
    assert!(rig.dropped().iter().all(|name| name.starts_with("bad-")));
    assert!(calls.try_recv().is_err());
}

#[test]
fn counts_that_were_overtaken_are_ignored() {
    let rig = Rig::new();
    let (daemon, mut calls) = rig.start(8);
    let sender = UnixDatagram::unbound().unwrap();
    for (stamp, new) in [(2000, 2), (1000, 1), (3000, 3)] {
        sender.send_to(notice(stamp, "202", [new, 0, 0]).as_bytes(), rig.socket()).unwrap();
    }
    assert_eq!(rig.next(&mut calls), call("202", [2, 0, 0]));
    assert_eq!(rig.next(&mut calls), call("202", [3, 0, 0]));
    assert_eq!(daemon.stats().stale, 1);
    let old = rig.drop_folder().join(file(500));
    fs::write(&old, notice(500, "202", [9, 0, 0])).unwrap();
    rig.until(&daemon, |stats| stats.stale == 2);
    rig.until(&daemon, |_| !old.exists());
    assert!(calls.try_recv().is_err());
}

#[test]
fn garbage_on_the_socket_is_counted_and_dropped() {
    let rig = Rig::new();
    let (daemon, mut calls) = rig.start(8);
    let sender = UnixDatagram::unbound().unwrap();
    let huge = vec![b'x'; 60_000];
    let long = notice(1, "202", [1, 0, 0]) + &" ".repeat(3000);
    for bytes in [&b""[..], b"\0\0\0", b"mwid-externnotify 2\n", &huge, long.as_bytes()] {
        sender.send_to(bytes, rig.socket()).unwrap();
    }
    sender.send_to(notice(1, "202", [1, 0, 0]).as_bytes(), rig.socket()).unwrap();
    assert_eq!(rig.next(&mut calls), call("202", [1, 0, 0]));
    assert_eq!((daemon.stats().garbage, daemon.stats().calls), (5, 1));
}

#[test]
fn two_daemons_cannot_share_a_socket() {
    let rig = Rig::new();
    let (daemon, mut calls) = rig.start(8);
    let error = rig.refused();
    assert!(matches!(error, SocketError::Lock(_)), "{error}");
    rig.run(&["default", "202", "1", "0", "0"]);
    assert_eq!(rig.next(&mut calls), call("202", [1, 0, 0]));
    let metadata = fs::metadata(rig.socket()).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o660);
    drop(daemon);
    assert!(!rig.socket().exists());
    // A socket file of a dead daemon is in nobody's way.
    drop(UnixDatagram::bind(rig.socket()).unwrap());
    assert!(fs::symlink_metadata(rig.socket()).unwrap().file_type().is_socket());
    let (daemon, mut calls) = rig.start(8);
    rig.run(&["default", "203", "1", "0", "0"]);
    assert_eq!(rig.next(&mut calls), call("203", [1, 0, 0]));
    drop(daemon);
    // Somebody else's file or living socket is left alone.
    fs::write(rig.socket(), "precious").unwrap();
    assert!(matches!(rig.refused(), SocketError::NotASocket { .. }));
    fs::remove_file(rig.socket()).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(rig.socket()).unwrap();
    assert!(matches!(rig.refused(), SocketError::Taken { .. }));
    assert!(rig.socket().exists());
}

#[test]
fn what_was_not_taken_yet_survives_the_end() {
    let rig = Rig::new();
    let (daemon, calls) = rig.start(1);
    let sender = UnixDatagram::unbound().unwrap();
    for number in 0..5 {
        let text = notice(1000 + number, &number.to_string(), [1, 0, 0]);
        sender.send_to(text.as_bytes(), rig.socket()).unwrap();
    }
    // The daemon's tasks have not run yet: all five lie in the socket.
    drop(daemon);
    drop(calls);
    assert_eq!(rig.dropped().len(), 5);
    let (_daemon, mut calls) = rig.start(8);
    for number in 0..5 {
        assert_eq!(rig.next(&mut calls), call(&number.to_string(), [1, 0, 0]));
    }
}
