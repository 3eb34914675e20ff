//! A private PostgreSQL server on a free port of 127.0.0.1.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::process;
use super::server::Server;
use super::{PASSWORD, USER, wait_for};

/// A PostgreSQL server with its own data, without any sync to the disk.
pub struct Postgres {
    server: Server,
}

impl Deref for Postgres {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Postgres {
    /// The server that all tests of a binary share. It ends with the process.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Initialises and starts a server; returns when it answers.
    pub fn start() -> Self {
        let server = Self { server: Server::new("mwid-postgres-") };
        let password = server.folder().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        if process::is_root() {
            process::run(Command::new("chown").args(["-R", "postgres:"]).arg(server.folder()), b"");
        }
        let initialise = server.as_user(vec![
            binary("initdb").display().to_string(),
            format!("--pgdata={}", server.folder().join("data").display()),
            format!("--username={USER}"),
            format!("--pwfile={}", password.display()),
            "--auth=scram-sha-256".to_owned(),
            "--encoding=UTF8".to_owned(),
            "--no-locale".to_owned(),
            "--no-sync".to_owned(),
        ]);
        process::run(
            Command::new(&initialise[0]).args(&initialise[1..]).current_dir(server.folder()),
            b"",
        );
        server.start_again();
        server
    }

    /// Starts a stopped server on its port and data; returns when it answers.
    pub fn start_again(&self) {
        let mut command = self.as_user(vec![
            binary("postgres").display().to_string(),
            "-D".to_owned(),
            self.folder().join("data").display().to_string(),
            "-k".to_owned(),
            self.folder().display().to_string(),
            "-p".to_owned(),
            self.port().to_string(),
        ]);
        let options = [
            "listen_addresses=127.0.0.1",
            "fsync=off",
            "max_connections=100",
            "shared_buffers=32MB",
        ];
        command.extend(options.iter().flat_map(|option| ["-c".to_owned(), (*option).to_owned()]));
        // Should even the keeper be killed, the server still ends by itself.
        command.splice(0..0, ["timeout", "--signal=INT", "1200"].map(str::to_owned));
        self.run("INT", &command);
        wait_for("PostgreSQL to answer", Duration::from_secs(60), || {
            let asked = self.client("postgres").args(["-c", "SELECT 1"]).output().unwrap();
            asked.status.success().then_some(())
        });
    }

    /// PostgreSQL refuses to run as root.
    fn as_user(&self, command: Vec<String>) -> Vec<String> {
        if !process::is_root() {
            return command;
        }
        let setpriv = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];
        setpriv.map(str::to_owned).into_iter().chain(command).collect()
    }

    /// The folder of the Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder().to_owned()
    }

    /// Makes an empty database.
    pub fn create_database(&self, name: &str) {
        self.sql("postgres", &format!("CREATE DATABASE {name};"));
    }

    /// Runs statements and returns what they print: a line a row, tabs between columns.
    pub fn sql(&self, database: &str, statements: &str) -> String {
        process::run(&mut self.client(database), statements.as_bytes())
    }

    /// Runs an SQL file.
    pub fn sql_file(&self, database: &str, file: &Path) {
        self.sql(database, &std::fs::read_to_string(file).unwrap());
    }

    /// The command-line client, connected as the user who may do everything.
    pub fn client(&self, database: &str) -> Command {
        let mut command = Command::new(binary("psql"));
        command
            .env("PGPASSWORD", PASSWORD)
            .args(["-X", "-q", "-t", "-A", "-F", "\t", "-v", "ON_ERROR_STOP=1"])
            .args(["-h", self.host(), "-U", USER, "-d", database])
            .args(["-p", &self.port().to_string()]);
        command
    }
}

/// Debian keeps the server's programs apart from the path, a folder a version: the newest.
fn binary(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions
        .map(|version| version.path().join("bin").join(name))
        .filter(|program| program.is_file())
        .max()
        .unwrap_or_else(|| process::program(&[name], "postgresql"))
}
