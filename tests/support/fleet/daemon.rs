//! The real mwid as a process, that can be killed at any moment.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mwid::control::{self, client};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::group::Group;
use crate::support::{SOON, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_mwid");

/// mwid with its configuration, its sockets and its log in one folder.
#[derive(Debug)]
pub struct Daemon {
    folder: PathBuf,
    /// What stands in front of its command: enters another mount namespace.
    prefix: Vec<String>,
    group: Option<Group>,
}

impl Daemon {
    /// With this configuration; the sections that only say where things are get added.
    pub fn new(folder: &Path, configuration: &str) -> Self {
        let place = folder.display();
        let control = format!(
            "[control]\nsocket = {place}/control.sock\nexternnotify = {place}/externnotify.sock\n\
             drop = {place}/drop\n[state]\npath = {place}/state/ledger.db\n"
        );
        fs::write(folder.join("mwid.conf"), format!("{configuration}{control}"))
            .expect("our own folder");
        Self { folder: folder.to_owned(), prefix: Vec::new(), group: None }
    }

    /// Runs it under another command from the next start on.
    pub fn run_under(&mut self, prefix: Vec<String>) {
        self.prefix = prefix;
    }

    /// The ledger's file.
    pub fn ledger(&self) -> PathBuf {
        self.folder.join("state/ledger.db")
    }

    /// Starts it and does not wait for anything.
    pub fn spawn(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.join("log"));
        let log = log.expect("a log file in our own folder");
        let whole: Vec<String> = self.prefix.iter().cloned().chain([BINARY.to_owned()]).collect();
        let mut command = Command::new(&whole[0]);
        command.args(&whole[1..]).arg("--config").arg(self.folder.join("mwid.conf")).arg("run");
        command.stdout(log.try_clone().expect("a file handle can be doubled")).stderr(log);
        self.group = Some(Group::spawn(&mut command).expect("mwid can be run"));
    }

    /// Starts it and waits until it answers.
    pub fn start(&mut self) {
        self.spawn();
        self.wait_until_up();
    }

    /// Waits until it answers.
    pub fn wait_until_up(&mut self) {
        wait_for("answer of mwid", SOON, || {
            let group = self.group.as_mut().expect("it was started");
            if let Some(status) = group.ended() {
                panic!("mwid ended with {status}:\n{}", self.log_tail());
            }
            self.ask().is_some().then_some(())
        });
    }

    /// SIGSTOP: it stands still, as in a virtual machine that is paused.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        kill(self.id(), signal).expect("it runs");
    }

    /// Its process.
    pub fn id(&self) -> Pid {
        self.group.as_ref().expect("it was started").id()
    }

    /// `mwid reload`; whether it was taken.
    pub fn reload(&self) -> bool {
        client::ask(&self.folder.join("control.sock"), &control::Command::Reload)
            .is_ok_and(|answer| answer.code == 0)
    }

    /// Its configuration.
    pub fn config(&self) -> PathBuf {
        self.folder.join("mwid.conf")
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.group = None;
    }

    /// SIGTERM; returns when it has ended by itself, without an error.
    pub fn stop(&mut self) {
        let mut group = self.group.take().expect("it was started");
        kill(group.id(), Signal::SIGTERM).expect("it runs");
        let status = wait_for("end of mwid", Duration::from_secs(30), || group.ended());
        assert!(status.success(), "mwid ended with {status}:\n{}", self.log_tail());
    }

    /// What `mwid status --json` prints.
    pub fn status(&self) -> Value {
        self.ask().unwrap_or_else(|| panic!("mwid does not answer:\n{}", self.log_tail()))
    }

    /// A number of the status: `/lamps/waiting`.
    pub fn number(&self, pointer: &str) -> u64 {
        let status = self.status();
        let number = status.pointer(pointer).and_then(Value::as_u64);
        number.unwrap_or_else(|| panic!("no number at {pointer}: {status}"))
    }

    /// How many lines of its log have this in them.
    pub fn said(&self, what: &str) -> usize {
        self.log().lines().filter(|line| line.contains(what)).count()
    }

    /// Waits until it has said this in its log, so many times in all.
    pub fn wait_for_word(&self, what: &str, times: usize, limit: Duration) {
        wait_for(&format!("{what:?} in the log of mwid"), limit, || {
            (self.said(what) >= times).then_some(())
        });
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn ask(&self) -> Option<Value> {
        let socket = self.folder.join("control.sock");
        client::ask(&socket, &control::Command::Status).ok().map(|answer| answer.data)
    }
}
