//! A database of its own for each test, with the presence server's real table in it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mwid::config::{Database, DatabaseUrl, FindBy, Secret, Server};
use mwid::dialogs::{DialogStore, Found, Script, install};
use mwid_core::dialog::{Dialog, Flavour};
use mwid_core::mailbox::Account;

use crate::support::mariadb::MariaDb;
use crate::support::postgres::Postgres;

/// The time of all tests, and when the default subscription ends.
pub const NOW: u64 = 1_700_000_000;
pub const ENDS: u64 = NOW + 3600;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    MariaDb,
    Postgres,
    Sqlite,
}

pub struct Bed {
    pub kind: Kind,
    pub flavour: Flavour,
    pub settings: Database,
    database: String,
    /// Holds the SQLite file.
    folder: tempfile::TempDir,
}

impl Bed {
    pub fn new(kind: Kind, flavour: Flavour) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let database = format!("bed{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::tempdir().unwrap();
        let url = match kind {
            Kind::MariaDb => {
                let server = MariaDb::shared();
                server.create_database(&database);
                DatabaseUrl::MySql(on_server(server.port(), &database))
            }
            Kind::Postgres => {
                let server = Postgres::shared();
                server.create_database(&database);
                DatabaseUrl::Postgres(on_server(server.port(), &database))
            }
            Kind::Sqlite => {
                let file = folder.path().join("dialogs.db");
                std::fs::write(&file, b"").unwrap();
                DatabaseUrl::Sqlite(file)
            }
        };
        let bed = Self { kind, flavour, settings: settings(url), database, folder };
        bed.create_table(flavour);
        bed
    }

    /// With the table that `mwid sql --apply` makes for mwid's own presence agent.
    #[allow(dead_code, reason = "the tests of the store use it")]
    pub async fn of_the_agent(kind: Kind) -> Self {
        let bed = Self::new(kind, Flavour::OpenSips);
        bed.sql("DROP TABLE active_watchers;");
        for _ in 0..2 {
            install::run(Script::Agent, &bed.settings).await.unwrap();
        }
        bed
    }

    pub fn create_table(&self, flavour: Flavour) {
        self.sql(&std::fs::read_to_string(schema(self.kind, flavour)).unwrap());
    }

    /// A table that keeps anything, for what the real one would not.
    pub fn create_loose_table(&self, text: &str, number: &str) {
        let kamailio = match self.flavour {
            Flavour::Kamailio => format!(", from_user {text}, from_domain {text}"),
            Flavour::OpenSips => String::new(),
        };
        self.sql(&format!(
            "DROP TABLE active_watchers; \
             CREATE TABLE active_watchers (id {number} NOT NULL PRIMARY KEY, \
             presentity_uri {text}, watcher_username {text}, watcher_domain {text}, \
             to_user {text}, to_domain {text}, event {text}, event_id {text}, to_tag {text}, \
             from_tag {text}, callid {text}, local_cseq {number}, remote_cseq {number}, \
             contact {text}, record_route {text}, expires {number}, status {number}, reason VARCHAR(64), \
             socket_info {text}, local_contact {text}{kamailio});"
        ));
    }

    /// Runs statements as the presence server or its operator would; returns the rows they print.
    pub fn sql(&self, statements: &str) -> String {
        match self.kind {
            Kind::MariaDb => MariaDb::shared().sql(&self.database, statements),
            Kind::Postgres => Postgres::shared().sql(&self.database, statements),
            Kind::Sqlite => {
                let file = rusqlite::Connection::open(self.file()).unwrap();
                file.busy_timeout(Duration::from_secs(10)).unwrap();
                if !statements.trim_start().starts_with("SELECT") {
                    file.execute_batch(statements).unwrap();
                    return String::new();
                }
                let mut select = file.prepare(statements).unwrap();
                let mut rows = select.query([]).unwrap();
                let mut lines = Vec::new();
                while let Some(row) = rows.next().unwrap() {
                    let value: rusqlite::types::Value = row.get(0).unwrap();
                    lines.push(match value {
                        rusqlite::types::Value::Integer(number) => number.to_string(),
                        rusqlite::types::Value::Text(text) => text,
                        other => format!("{other:?}"),
                    });
                }
                lines.join("\n")
            }
        }
    }

    /// The name of the database on its server.
    #[allow(dead_code, reason = "the tests of the watch use it")]
    pub fn database(&self) -> &str {
        &self.database
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("dialogs.db")
    }

    /// Inserts one row a list: what differs from an ordinary live row, as SQL literals.
    pub fn insert(&self, rows: &[&[(&str, &str)]]) {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let mut sql = String::new();
        for overrides in rows {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let mut row = ordinary_row(self.flavour, count);
            for (column, value) in *overrides {
                row.retain(|(name, _)| name != column);
                row.push(((*column).to_owned(), (*value).to_owned()));
            }
            let (names, values): (Vec<_>, Vec<_>) = row.into_iter().unzip();
            sql.push_str(&format!(
                "INSERT INTO active_watchers ({}) VALUES ({});\n",
                names.join(", "),
                values.join(", ")
            ));
        }
        self.sql(&sql);
    }

    pub fn store(&self) -> DialogStore {
        DialogStore::new(&self.settings).unwrap()
    }

    /// A store whose settings differ.
    pub fn store_with(&self, change: impl FnOnce(&mut Database)) -> DialogStore {
        let mut settings = self.settings.clone();
        change(&mut settings);
        DialogStore::new(&settings).unwrap()
    }

    /// Inserts a row with this `local_cseq` and reads it as a dialog.
    pub async fn dialog(&self, local_cseq: &str) -> Dialog {
        self.insert(&[&[("local_cseq", local_cseq)]]);
        let found = self.store().find(&account(), NOW).await.unwrap();
        Dialog::from_row(&found.rows[0]).unwrap()
    }

    pub fn local_cseq(&self, dialog: &Dialog) -> i64 {
        let row = dialog.row;
        self.sql(&format!("SELECT local_cseq FROM active_watchers WHERE id = {row}"))
            .parse()
            .unwrap()
    }

    /// A transaction of somebody else holds a row; none where the whole file is locked or nothing.
    #[allow(dead_code, reason = "the tests of the store use it")]
    pub fn lock_row(&self, id: i64) -> Option<Lock> {
        let client = match self.kind {
            Kind::MariaDb => MariaDb::shared().client(&self.database),
            Kind::Postgres => Postgres::shared().client(&self.database),
            Kind::Sqlite => return None,
        };
        let update = format!("BEGIN; UPDATE active_watchers SET status = status WHERE id = {id}");
        Some(Lock::Client(locked(client, &update)))
    }

    /// Locks the table, so that nobody else gets an answer.
    pub fn lock(&self) -> Lock {
        let (client, statement) = match self.kind {
            Kind::MariaDb => {
                (MariaDb::shared().client(&self.database), "LOCK TABLES active_watchers WRITE")
            }
            Kind::Postgres => {
                (Postgres::shared().client(&self.database), "BEGIN; LOCK TABLE active_watchers")
            }
            Kind::Sqlite => {
                let file = rusqlite::Connection::open(self.file()).unwrap();
                file.execute_batch("BEGIN EXCLUSIVE").unwrap();
                return Lock::File(file);
            }
        };
        Lock::Client(locked(client, statement))
    }
}

/// Ends when dropped.
pub enum Lock {
    File(#[expect(dead_code, reason = "its transaction ends with it")] rusqlite::Connection),
    Client(Child),
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Self::Client(client) = self {
            // At the end of its input the client disconnects, which frees the lock.
            drop(client.stdin.take());
            client.wait().unwrap();
        }
    }
}

fn locked(mut client: Command, statement: &str) -> Child {
    let mut child = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.as_mut().unwrap();
    writeln!(stdin, "{statement};\nSELECT 'locked';").unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "locked");
    child
}

pub fn on_server(port: u16, database: &str) -> Server {
    Server {
        host: "127.0.0.1".into(),
        port,
        socket: None,
        user: crate::support::USER.into(),
        password: Some(Secret::new(crate::support::PASSWORD)),
        database: database.into(),
    }
}

pub fn settings(url: DatabaseUrl) -> Database {
    Database {
        url,
        table: "active_watchers".into(),
        find_by: FindBy::Presentity,
        max_dialogs: 50,
        timeout: Duration::from_secs(20),
        connections: 4,
        ..Database::default()
    }
}

pub fn account() -> Account {
    "sip:202@example.com".parse().unwrap()
}

pub fn ids(found: &Found) -> Vec<i64> {
    found.rows.iter().map(|row| row.id).collect()
}

fn schema(kind: Kind, flavour: Flavour) -> PathBuf {
    let folder = match kind {
        Kind::MariaDb => "tests/fixtures/mysql",
        Kind::Postgres => "tests/fixtures/postgres",
        Kind::Sqlite => "sql/sqlite",
    };
    let name = flavour.to_string().to_lowercase();
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(format!("{name}-active_watchers.sql"))
}

/// As the servers wrote it for a phone that subscribed.
fn ordinary_row(flavour: Flavour, count: u32) -> Vec<(String, String)> {
    let mut row = vec![
        ("presentity_uri", "'sip:202@example.com'".to_owned()),
        ("watcher_username", "'alice'".to_owned()),
        ("watcher_domain", "'phones.example.com'".to_owned()),
        ("to_user", "'202'".to_owned()),
        ("to_domain", "'example.com'".to_owned()),
        ("event", "'message-summary'".to_owned()),
        ("to_tag", "'notifier-tag'".to_owned()),
        ("from_tag", "'phone-tag'".to_owned()),
        ("callid", format!("'call-{count}'")),
        ("local_cseq", "1".to_owned()),
        ("remote_cseq", "20".to_owned()),
        ("contact", "'sip:alice@127.0.0.1:5062;transport=udp'".to_owned()),
        ("expires", ENDS.to_string()),
        ("status", "1".to_owned()),
        ("socket_info", "'udp:127.0.0.1:5060'".to_owned()),
        ("local_contact", "'sip:127.0.0.1:5060'".to_owned()),
    ];
    if flavour == Flavour::Kamailio {
        row.extend([
            ("from_user", "'alice-from'".to_owned()),
            ("from_domain", "'from.example.com'".to_owned()),
            ("updated", "0".to_owned()),
            ("updated_winfo", "0".to_owned()),
        ]);
    }
    row.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
