//! The real mwid: its binary as a process with its own configuration, spool and sockets.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use super::group::Group;
use super::voicemail::Voicemail;
use super::{SOON, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_mwid");
const EXTERNNOTIFY: &str = env!("CARGO_BIN_EXE_mwid-externnotify");

/// The exit code of a command that found no daemon.
const NOT_RUNNING: i32 = 3;

/// What mwid is to be started with.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    proxies: Vec<String>,
    lines: BTreeMap<&'static str, Vec<String>>,
}

impl Setup {
    /// Sends through this proxy, `host:port`; named again, the next one is tried after it.
    #[must_use]
    pub fn through(mut self, proxy: impl ToString) -> Self {
        self.proxies.push(proxy.to_string());
        self
    }

    /// Has this line in this section of its configuration.
    #[must_use]
    pub fn with(mut self, section: &'static str, line: impl Into<String>) -> Self {
        self.lines.entry(section).or_default().push(line.into());
        self
    }

    /// Starts it and waits until it answers.
    pub fn start(self) -> Mwid {
        let folder = TempDir::with_prefix("mwid-daemon-").expect("a temporary folder");
        let mut mwid = Mwid { folder, group: None };
        fs::create_dir(mwid.spool()).expect("our own folder");
        mwid.write(self);
        mwid.start();
        mwid
    }
}

/// A running mwid. It ends when this is dropped; what it logged is printed when the test fails.
#[derive(Debug)]
pub struct Mwid {
    folder: TempDir,
    group: Option<Group>,
}

impl Mwid {
    /// One that finds its phones in this database.
    pub fn on(database: &str) -> Setup {
        Setup::default().with("database", format!("url = {database}"))
    }

    /// The folder that Asterisk would keep its voicemail in.
    pub fn spool(&self) -> PathBuf {
        self.folder.path().join("voicemail")
    }

    /// The mailbox `number@context` of the spool.
    pub fn mailbox(&self, mailbox: &str) -> Voicemail {
        Voicemail::of(&self.spool(), mailbox)
    }

    /// Runs a command against it: `mwid --config … status`.
    pub fn ask(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.arg("--config").arg(self.config()).args(arguments).stdin(Stdio::null());
        command.output().expect("mwid can be run")
    }

    /// `mwid status --json`
    pub fn status(&self) -> Value {
        let asked = self.ask(&["status", "--json"]);
        serde_json::from_slice(&asked.stdout)
            .unwrap_or_else(|error| panic!("mwid status --json: {error}: {asked:?}"))
    }

    /// Waits until a number of `mwid status --json`, `/sip/notifies`, has come up to this.
    pub fn wait_for_status(&self, pointer: &str, number: u64) {
        wait_for(&format!("{pointer} to be {number}"), SOON, || {
            let status = self.status();
            let found = status.pointer(pointer).and_then(Value::as_u64);
            let found = found.unwrap_or_else(|| panic!("no number at {pointer}: {status}"));
            (found >= number).then_some(())
        });
    }

    /// What `externnotify` is set to in voicemail.conf.
    pub fn externnotify(&self) -> String {
        let folder = self.folder.path().display();
        format!("{EXTERNNOTIFY} --socket {folder}/externnotify.sock --drop {folder}/drop")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).expect("its log is readable")
    }

    /// Ends it as a power cut does.
    pub fn stop(&mut self) {
        self.group = None;
    }

    /// Starts it, again with the same folder, and waits until it answers.
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_file());
        let log = log.expect("a log file in our own folder");
        let mut command = Command::new(BINARY);
        command.arg("--config").arg(self.config()).arg("run").env("MWID_LOG", "mwid=debug");
        command.stdout(log.try_clone().expect("a file handle can be doubled")).stderr(log);
        let mut group = Group::spawn(&mut command).expect("mwid can be run");
        wait_for("answer of mwid", SOON, || {
            if let Some(status) = group.ended() {
                panic!("mwid ended with {status}");
            }
            (self.ask(&["status"]).status.code() != Some(NOT_RUNNING)).then_some(())
        });
        self.group = Some(group);
    }

    /// Replaces its configuration; it reads it when it is started, or told to.
    pub fn write(&self, setup: Setup) {
        let folder = self.folder.path().display();
        let Setup { proxies, mut lines } = setup;
        lines.entry("general").or_default().push(format!("proxy = {}", proxies.join(", ")));
        // Polled only when others use up what this user may watch.
        let spool = [format!("path = {folder}/voicemail"), "poll = 1".to_owned()];
        lines.entry("spool").or_default().extend(spool);
        lines.entry("state").or_default().push(format!("path = {folder}/ledger.db"));
        lines.entry("control").or_default().extend([
            format!("socket = {folder}/control.sock"),
            format!("externnotify = {folder}/externnotify.sock"),
            format!("drop = {folder}/drop"),
        ]);
        let mut text = String::new();
        for (section, lines) in lines {
            writeln!(text, "[{section}]\n{}\n", lines.join("\n")).expect("a String takes it");
        }
        fs::write(self.config(), text).expect("our own folder");
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("zonkeymwi.conf")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for Mwid {
    fn drop(&mut self) {
        if thread::panicking() {
            let config = fs::read_to_string(self.config()).unwrap_or_default();
            let log = fs::read_to_string(self.log_file()).unwrap_or_default();
            eprintln!("--- configuration of mwid\n{config}--- log of mwid\n{log}");
        }
    }
}
