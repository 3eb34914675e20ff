//! What the log says, how often, where it goes, and what it never says.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::house::{House, MWID};
use crate::peer::{Peer, SOON};

/// In every secret, whatever it belongs to.
const MARK: &str = "Xs3cretX";

/// A server that says nothing sensible to anybody, and writes down nothing.
fn nonsense() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            connection.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let said = connection.read(&mut [0; 1024]);
            let answer = b"Asterisk Call Manager/5.0.0\r\nHTTP/1.1 401 Unauthorized\r\n\r\n";
            // It may have gone.
            let _ = connection.write_all(answer).and(said);
        }
    });
    address
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Every secret that can be configured, each with its own end.
fn with_all_secrets(house: &mut House, server: &str) -> usize {
    let keys = [
        ("general", "auth_user", "mwid"),
        ("general", "auth_password", "Xs3cretX-proxy"),
        ("ami", "user", "mwid"),
        ("ami", "secret", "Xs3cretX-manager"),
        ("http", "token", "Xs3cretX-door"),
        ("webhook", "token", "Xs3cretX-webhook"),
        ("agent", "realm", "example.com"),
        ("users", "202@example.com", "Xs3cretX-user"),
        ("spool", "scope", "own"),
        ("cluster", "node", "vm1"),
        ("capture", "password", "Xs3cretX-homer"),
    ];
    for (section, key, value) in keys {
        house.set(section, key, value);
    }
    house.set("capture", "hep", server);
    house.set("http", "listen", &format!("127.0.0.1:{}", free_port()));
    house.set("agent", "listen", &format!("udp:127.0.0.1:{}", free_port()));
    let (host, port) = server.split_once(':').unwrap();
    house.set("ami", "host", server);
    house.set("webhook", "url", &format!("http://{server}/"));
    house.set("cluster", "url", &format!("mysql://mwid:Xs3cretX-cluster@{host}:{port}/mwid"));
    house.set("agent", "subscribers", &format!("postgres://mwid:Xs3cretX-sub@{server}/kamailio"));
    let text = std::fs::read_to_string(house.config()).unwrap();
    text.lines().filter(|line| line.contains(MARK)).count()
}

/// mwid that says all that it can say.
fn talkative() -> Command {
    let mut command = Command::new("env");
    command.args(["MWID_LOG=trace", MWID]);
    command
}

#[test]
fn no_secret_is_ever_said() {
    let challenge = "Proxy-Authenticate: Digest realm=\"p\", nonce=\"n\", qop=\"auth\"\r\n";
    let proxy = Peer::scripted(move |heard| vec![heard.answer(407, challenge)]);
    let server = nonsense();
    let mut said = String::new();
    let run = |house: &House, said: &mut String, is_told: bool| {
        let mwid = house.launch_by(talkative());
        mwid.log("mwid runs");
        for command in [&["debug", "on"][..], &["status"], &["status", "--json"], &["check"]] {
            let answer = house.mwid(command);
            said.push_str(&(answer.out + &answer.err));
        }
        if is_told {
            house.messages("example.com/202", 2, 0);
            mwid.log("cannot be answered");
            mwid.log("Proxy-Authorization");
        }
        mwid.log("manager: ");
        mwid.signal(Signal::SIGHUP);
        mwid.log("Configuration reloaded");
        house.mwid(&["reload"]);
        said.push_str(&mwid.logged());
    };

    let mut house = House::new(&proxy);
    assert_eq!(with_all_secrets(&mut house, &server), 8, "all are there");
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    run(&house, &mut said, false);

    // Without a cluster that cannot be joined, and once more with another database.
    house.set("spool", "scope", "single");
    house.set("cluster", "url", "");
    run(&house, &mut said, true);
    house.set("database", "url", &format!("mysql://mwid:Xs3cretX-database@{server}/opensips"));
    run(&house, &mut said, false);
    house.set("database", "url", &format!("postgres://mwid:Xs3cretX-database@{server}/opensips"));
    run(&house, &mut said, false);

    let lines: Vec<&str> = said.lines().filter(|line| line.contains(MARK)).collect();
    assert!(lines.is_empty(), "{lines:#?}");
    assert!(said.contains("Proxy-Authorization: Digest"), "there was something to hide");
}

#[test]
fn a_phone_that_fails_is_said_once_and_then_counted() {
    let proxy = Peer::says(488);
    let house = House::new(&proxy);
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    let line = mwid.log("not delivered, will be tried again: 488");
    for part in ["account=sip:202@example.com", "call_id=call", "contact=sip:202@", "code=488"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    proxy.transactions(3);
    proxy.script(|heard| vec![heard.answer(200, "")]);
    let line = mwid.log("delivered: 200");
    assert!(line.contains("failed="), "{line}");
    assert_eq!(mwid.count("not delivered"), 1, "{}", mwid.logged());
}

#[test]
fn each_line_of_a_refused_reload_is_a_line_of_the_log() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    let mwid = house.start();
    let text = std::fs::read_to_string(house.config()).unwrap();
    std::fs::write(house.config(), format!("[general]\nprxy = a\nprox = b\n{text}")).unwrap();
    mwid.signal(Signal::SIGHUP);
    mwid.log("the old configuration stays in force");
    for key in ["prxy", "prox"] {
        let line = mwid.log(&format!("unknown key \"{key}\""));
        assert!(line.contains("ERROR"), "{line}");
    }
}

/// The real journald, in a mount namespace of its own, which no other program sees.
struct Journald {
    holder: Child,
    house: PathBuf,
}

impl Journald {
    fn start(house: &House) -> Self {
        let daemon = "/lib/systemd/systemd-journald";
        let there = PathBuf::from(daemon).exists();
        assert!(there, "{daemon} is not there; run scripts/setup, or: apt-get install systemd");
        // It must not read the machine's own log, nor keep anything.
        let script = "mount -t tmpfs own /run && mkdir -p /run/systemd/journald.conf.d &&
            printf '[Journal]\\nReadKMsg=no\\nStorage=volatile\\nRateLimitBurst=0\\n' \
                >/run/systemd/journald.conf.d/test.conf &&
            exec \"$1\"";
        let mut unshare = Command::new("unshare");
        if !nix::unistd::geteuid().is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        unshare.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh", daemon]);
        let holder = unshare.stdin(Stdio::null()).spawn().unwrap();
        let journald = Self { holder, house: house.path("") };
        let socket = journald.root().join("run/systemd/journal/socket");
        let deadline = Instant::now() + SOON;
        while !socket.exists() {
            assert!(Instant::now() < deadline, "journald does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        journald
    }

    fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.holder.id()))
    }

    /// A command where it is the journal.
    fn inside(&self) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--mount", "--target", &self.holder.id().to_string()]);
        if !nix::unistd::geteuid().is_root() {
            nsenter.args(["--user", "--preserve-credentials"]);
        }
        nsenter.arg(format!("--wd={}", self.house.display()));
        nsenter
    }

    /// The entries with this field.
    fn entries(&self, field: &str) -> Vec<Value> {
        let mut journalctl = self.inside();
        journalctl.args(["journalctl", "--quiet", "--output=json", "--directory=/run/log/journal"]);
        let output = journalctl.arg(field).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[test]
fn the_journal_has_the_fields_of_an_event() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    let journald = Journald::start(&house);
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    let mut command = journald.inside();
    // As systemd does: the journal is where stderr leads.
    let script = "JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec \"$@\"";
    command.args(["sh", "-c", script, "sh", MWID]);
    let mwid = house.launch_by(command);
    proxy.shows("call", "1/0 (0/0)");
    mwid.settled();
    let deadline = Instant::now() + SOON;
    let entry = loop {
        let entries = journald.entries("MWID_ACCOUNT=sip:202@example.com");
        let said = |entry: &Value| entry["MESSAGE"].as_str().unwrap().starts_with("delivered: 200");
        if let Some(entry) = entries.into_iter().find(said) {
            break entry;
        }
        assert!(Instant::now() < deadline, "the journal has no such entry: {}", mwid.logged());
    };
    assert_eq!(entry["MWID_CALL_ID"], "call");
    assert_eq!(entry["MWID_CODE"], "200");
    assert_eq!(entry["SYSLOG_IDENTIFIER"], "mwid");
    assert_eq!(entry["PRIORITY"], "6");
    assert!(entry["MESSAGE"].as_str().unwrap().contains(" account=sip:202@example.com"));
    assert_eq!(mwid.logged(), "", "nothing is said twice");
}

#[test]
fn a_stderr_that_somebody_redirected_is_not_the_journal() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    let mut command = Command::new("sh");
    command.args(["-c", "JOURNAL_STREAM=1:1 exec \"$@\"", "sh", MWID]);
    let mwid = house.launch_by(command);
    mwid.log("mwid runs");
}
