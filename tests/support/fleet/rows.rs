//! The presence server's table, in a database of the test's own.

use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mwid::demo::phone::Subscription;
use mwid_core::dialog::Flavour;

use crate::support::USER;
use crate::support::mariadb::MariaDb;
use crate::support::postgres::Postgres;

/// [`crate::support::PASSWORD`] as it stands in a URL.
const PASSWORD: &str = "s3cr%3At%40%2F%25%3F%23";

/// Rows that are written in one go.
const PART: usize = 1000;

/// Which database.
#[derive(Clone, Copy)]
pub enum Server {
    /// A file in the fleet's folder.
    Sqlite,
    /// MariaDB.
    MariaDb(&'static MariaDb),
    /// PostgreSQL.
    Postgres(&'static Postgres),
}

/// `active_watchers`, as one of the two presence servers makes it.
pub struct Rows {
    server: Server,
    flavour: Flavour,
    name: String,
    file: PathBuf,
}

impl Rows {
    /// An empty table.
    pub fn new(server: Server, flavour: Flavour, folder: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("fleet{}_{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        match server {
            Server::Sqlite => {}
            Server::MariaDb(server) => server.create_database(&name),
            Server::Postgres(server) => server.create_database(&name),
        }
        let rows = Self { server, flavour, name, file: folder.join("dialogs.db") };
        rows.sql(&schema(server, flavour));
        rows
    }

    /// The value of `[database] url`.
    pub fn url(&self) -> String {
        let name = &self.name;
        match self.server {
            Server::Sqlite => format!("sqlite:{}", self.file.display()),
            Server::MariaDb(server) => {
                format!("mysql://{USER}:{PASSWORD}@127.0.0.1:{}/{name}", server.port())
            }
            Server::Postgres(server) => {
                format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{name}", server.port())
            }
        }
    }

    /// Whose table it is.
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// Stops the database's server at once, whoever is connected.
    pub fn stop_server(&self) {
        match self.server {
            Server::Sqlite => panic!("there is no server to stop"),
            Server::MariaDb(server) => server.stop(),
            Server::Postgres(server) => server.stop(),
        }
    }

    /// Starts it again and waits until it answers.
    pub fn start_server(&self) {
        match self.server {
            Server::Sqlite => panic!("there is no server to start"),
            Server::MariaDb(server) => server.start_again(),
            Server::Postgres(server) => server.start_again(),
        }
    }

    /// Writes the rows of these subscriptions, with ids from 1 on, as the presence server at
    /// `address` does when it has sent its first NOTIFYs.
    pub fn insert(&self, subscriptions: &[Subscription], address: &str) {
        // SQLite copies what is left of a script for each of its statements: not all in one.
        for (first, part) in (1..).step_by(PART).zip(subscriptions.chunks(PART)) {
            self.insert_from(first, part, address);
        }
    }

    fn insert_from(&self, first: i64, subscriptions: &[Subscription], address: &str) {
        let mut sql = String::from("BEGIN;\n");
        for (id, subscription) in (first..).zip(subscriptions) {
            let row = subscription.row(id, address);
            let text = |value: &Option<String>| format!("'{}'", value.as_deref().unwrap_or(""));
            let number = |value: Option<i64>| value.unwrap_or_default().to_string();
            let cseq = self.flavour.row(i64::from(subscription.cseq));
            let mut values = vec![
                ("id", id.to_string()),
                ("presentity_uri", text(&row.presentity_uri)),
                ("watcher_username", text(&row.from_user)),
                ("watcher_domain", text(&row.from_domain)),
                ("to_user", text(&row.to_user)),
                ("to_domain", text(&row.to_domain)),
                ("event", "'message-summary'".to_owned()),
                ("to_tag", text(&row.to_tag)),
                ("from_tag", text(&row.from_tag)),
                ("callid", text(&row.callid)),
                ("local_cseq", cseq.to_string()),
                ("remote_cseq", number(row.remote_cseq)),
                ("contact", text(&row.contact)),
                ("expires", number(row.expires)),
                ("status", "1".to_owned()),
                ("socket_info", text(&row.socket_info)),
                ("local_contact", text(&row.local_contact)),
            ];
            if self.flavour == Flavour::Kamailio {
                values.extend([
                    ("from_user", text(&row.from_user)),
                    ("from_domain", text(&row.from_domain)),
                    ("updated", "0".to_owned()),
                    ("updated_winfo", "0".to_owned()),
                ]);
            }
            let (names, values): (Vec<_>, Vec<_>) = values.into_iter().unzip();
            let (names, values) = (names.join(", "), values.join(", "));
            sql.push_str(&format!("INSERT INTO active_watchers ({names}) VALUES ({values});\n"));
        }
        sql.push_str("COMMIT;\n");
        self.sql(&sql);
    }

    /// `local_cseq` of a row.
    pub fn local_cseq(&self, id: i64) -> i64 {
        let sql = format!("SELECT local_cseq FROM active_watchers WHERE id = {id};");
        self.sql(&sql).parse().expect("one row with a number")
    }

    /// Runs statements as the presence server would; gives the rows that they print.
    pub fn sql(&self, statements: &str) -> String {
        match self.server {
            Server::MariaDb(server) => server.sql(&self.name, statements),
            Server::Postgres(server) => server.sql(&self.name, statements),
            Server::Sqlite => self.sqlite(statements),
        }
    }

    fn sqlite(&self, statements: &str) -> String {
        let file = rusqlite::Connection::open(&self.file).expect("our own file");
        file.busy_timeout(Duration::from_secs(10)).expect("it is open");
        if !statements.trim_start().starts_with("SELECT") {
            file.execute_batch(statements).unwrap_or_else(|error| panic!("{statements}: {error}"));
            return String::new();
        }
        let number: i64 = file.query_row(statements, [], |row| row.get(0)).expect("one number");
        number.to_string()
    }
}

fn schema(server: Server, flavour: Flavour) -> String {
    let folder = match server {
        Server::Sqlite => "sql/sqlite",
        Server::MariaDb(_) => "tests/fixtures/mysql",
        Server::Postgres(_) => "tests/fixtures/postgres",
    };
    let name = format!("{}-active_watchers.sql", flavour.to_string().to_lowercase());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
