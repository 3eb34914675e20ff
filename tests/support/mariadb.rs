//! A private MariaDB server on a free port of 127.0.0.1.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::process;
use super::server::Server;
use super::{PASSWORD, USER, wait_for};

/// A MariaDB server with its own data, without any sync to the disk.
pub struct MariaDb {
    server: Server,
}

impl Deref for MariaDb {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl MariaDb {
    /// The server that all tests of a binary share. It ends with the process.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<MariaDb> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Installs and starts a server; returns when it answers.
    pub fn start() -> Self {
        let server = Self { server: Server::new("mwid-mariadb-") };
        // A server that starts removes the temporary tables that it finds, whoever's they are.
        let temporary = server.folder().join("tmp");
        std::fs::create_dir(&temporary).unwrap();
        let install = process::program(&["mariadb-install-db"], "mariadb-server");
        let mut command = Command::new(install);
        command
            .args(["--no-defaults", "--auth-root-authentication-method=normal"])
            .args(["--skip-test-db", "--innodb-flush-method=nosync"])
            .arg(format!("--datadir={}", server.folder().join("data").display()))
            .arg(format!("--tmpdir={}", temporary.display()));
        if process::is_root() {
            command.arg("--user=root");
        }
        process::run(&mut command, b"");
        server.start_again();
        server.sql(
            "mysql",
            &format!(
                "CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}'; \
                 GRANT ALL ON *.* TO '{USER}'@'%' WITH GRANT OPTION;"
            ),
        );
        server
    }

    /// Starts a stopped server on its port and data; returns when it answers.
    pub fn start_again(&self) {
        let program = process::program(&["mariadbd", "mysqld"], "mariadb-server");
        let mut command = vec![
            // Should even the keeper be killed, the server still ends by itself.
            "timeout".to_owned(),
            "1200".to_owned(),
            program.display().to_string(),
            "--no-defaults".to_owned(),
            format!("--datadir={}", self.folder().join("data").display()),
            format!("--tmpdir={}", self.folder().join("tmp").display()),
            format!("--socket={}", self.socket().display()),
            format!("--pid-file={}", self.folder().join("pid").display()),
            format!("--port={}", self.port()),
        ];
        if process::is_root() {
            command.push("--user=root".to_owned());
        }
        command.extend(OPTIONS.map(str::to_owned));
        self.run("TERM", &command);
        wait_for("MariaDB to answer", Duration::from_secs(60), || {
            let asked = self.client("mysql").args(["-e", "SELECT 1"]).output().unwrap();
            asked.status.success().then_some(())
        });
    }

    /// The Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder().join("socket")
    }

    /// Makes an empty database.
    pub fn create_database(&self, name: &str) {
        self.sql("mysql", &format!("CREATE DATABASE {name} CHARACTER SET latin1;"));
    }

    /// Runs statements as root and returns what they print: a line a row, tabs between columns.
    pub fn sql(&self, database: &str, statements: &str) -> String {
        process::run(&mut self.client(database), statements.as_bytes())
    }

    /// Runs an SQL file as root.
    pub fn sql_file(&self, database: &str, file: &Path) {
        self.sql(database, &std::fs::read_to_string(file).unwrap());
    }

    /// The command-line client, connected as root.
    pub fn client(&self, database: &str) -> Command {
        let program = process::program(&["mariadb", "mysql"], "mariadb-client");
        let mut command = Command::new(program);
        command
            .args(["--no-defaults", "--batch", "--skip-column-names", "--unbuffered"])
            .args(["--default-character-set=utf8mb4", "--user=root"])
            .arg(format!("--socket={}", self.socket().display()))
            .arg(database);
        command
    }
}

/// Small and fast, and of no use after a power cut.
const OPTIONS: [&str; 11] = [
    "--bind-address=127.0.0.1",
    "--skip-networking=0",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-flush-method=nosync",
    "--innodb-doublewrite=0",
    "--innodb-fast-shutdown=2",
    "--innodb-buffer-pool-size=32M",
    "--performance-schema=0",
    "--sync-binlog=0",
];
