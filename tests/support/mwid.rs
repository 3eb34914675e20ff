//! mwid itself, as a process, with a spool of its own.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use super::group::Group;
use super::{SOON, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_mwid");

/// A folder with a configuration and a spool, and mwid when it runs. It ends when this is dropped.
#[derive(Debug)]
pub struct Mwid {
    folder: TempDir,
    group: Option<Group>,
}

impl Mwid {
    /// Writes the configuration; `more` are further lines of it. Nothing runs yet.
    pub fn on(proxy: SocketAddr, database: &str, more: &str) -> Self {
        let folder = TempDir::with_prefix("mwid-itself-").expect("a temporary folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let lines = [
            format!("[general]\nproxy = {proxy}\nbindip = 127.0.0.1"),
            format!("[spool]\npath = {}", path("spool")),
            format!("[database]\nurl = {database}"),
            "[contexts]\ndefault = example.com".to_owned(),
            format!("[control]\nsocket = {}", path("control")),
            format!("externnotify = {}\ndrop = {}", path("externnotify"), path("drop")),
            more.to_owned(),
        ];
        fs::create_dir(folder.path().join("spool")).expect("our own folder");
        fs::write(folder.path().join("mwid.conf"), lines.join("\n")).expect("our own folder");
        Self { folder, group: None }
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_file());
        let log = log.expect("a log file in our own folder");
        let copy = log.try_clone().expect("a file handle can be doubled");
        let mut command = self.command(&["run"]);
        let group = Group::spawn(command.stdout(Stdio::from(copy)).stderr(Stdio::from(log)));
        self.group = Some(group.expect("mwid is built"));
        wait_for("mwid to answer", SOON, || self.status());
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        self.group = None;
    }

    /// Runs another command with the same configuration; what it printed, when it succeeded.
    pub fn ask(&self, arguments: &[&str]) -> Option<String> {
        let output = self.command(arguments).output().expect("mwid is built");
        let printed = String::from_utf8(output.stdout).expect("mwid prints UTF-8");
        output.status.success().then_some(printed)
    }

    /// `mwid status --json`, when all is well.
    pub fn status(&self) -> Option<Value> {
        serde_json::from_str(&self.ask(&["status", "--json"])?).ok()
    }

    /// Leaves a new message in a mailbox of the context `default`.
    pub fn leave_message(&self, mailbox: &str) {
        let inbox = self.folder.path().join("spool/default").join(mailbox).join("INBOX");
        fs::create_dir_all(&inbox).expect("our own folder");
        let count = fs::read_dir(&inbox).expect("it was made").count();
        fs::write(inbox.join(format!("msg{count:04}.txt")), "[message]\n").expect("our own folder");
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.arg("--config").arg(self.folder.path().join("mwid.conf")).args(arguments);
        command
    }
}

impl Drop for Mwid {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of mwid\n{}", self.log());
        }
    }
}
