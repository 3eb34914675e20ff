//! What the private database servers have in common: a folder, a port, and that they run or not.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::net::TcpPort;
use super::process::{self, Process};
use super::{PASSWORD, USER};

/// The server behind [`super::mariadb::MariaDb`] and [`super::postgres::Postgres`].
pub struct Server {
    folder: PathBuf,
    port: TcpPort,
    running: Mutex<Option<Process>>,
}

impl Server {
    /// A folder and a port; nothing runs yet.
    pub fn new(prefix: &str) -> Self {
        let folder = process::folder(prefix);
        Self { folder, port: TcpPort::claim(), running: Mutex::new(None) }
    }

    /// Where it keeps everything.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs this command until it is told to stop by this signal.
    pub fn run(&self, signal: &str, command: &[String]) {
        let process = Process::start(&self.folder, signal, &self.log(), command);
        *self.running.lock().unwrap() = Some(process);
    }

    /// Stops the server at once, whoever is connected; port, data and databases remain.
    pub fn stop(&self) {
        if let Some(process) = self.running.lock().unwrap().take() {
            process.stop();
        }
    }

    /// `127.0.0.1`
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Who may do everything.
    pub fn user(&self) -> &'static str {
        USER
    }

    /// The user's password.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// Where the server's messages go.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}
