//! The SQL that ships in `sql/`: the indexes are used, and the rights are enough and not too many.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::fs;
use std::time::Duration;

use mwid::config::{Database, DatabaseUrl, FindBy, Secret, Server};
use mwid::dialogs::DialogStore;
use mwid_core::dialog::Dialog;
use support::mariadb::MariaDb;
use support::postgres::Postgres;

/// The watchers of the test table; a planner that may choose reads a small table as a whole.
const ROWS: u32 = 5000;

/// The condition of each `[database] find_by`, as `src/dialogs/schema.rs` writes it.
const PRESENTITY: &str = "presentity_uri = 'sip:77@example.com'";
const WATCHER: &str = "watcher_username = '77' AND watcher_domain = 'phones.example.com'";

#[derive(Clone, Copy, Debug)]
enum Kind {
    MariaDb,
    Postgres,
    Sqlite,
}

const PRESENCE_SERVERS: [&str; 2] = ["opensips", "kamailio"];

/// A database of its own with a presence server's table.
struct Table {
    kind: Kind,
    name: String,
    folder: tempfile::TempDir,
}

impl Table {
    fn new(kind: Kind, server: &str, name: &str) -> Self {
        let name = format!("{name}_{server}");
        match kind {
            Kind::MariaDb => MariaDb::shared().create_database(&name),
            Kind::Postgres => Postgres::shared().create_database(&name),
            Kind::Sqlite => {}
        }
        let table = Self { kind, name, folder: tempfile::tempdir().unwrap() };
        let folder = match kind {
            Kind::MariaDb => "tests/fixtures/mysql",
            Kind::Postgres => "tests/fixtures/postgres",
            Kind::Sqlite => "sql/sqlite",
        };
        table.run_file(&format!("{folder}/{server}-active_watchers.sql"));
        table
    }

    /// Runs statements and returns what they print, a line a row.
    fn run(&self, sql: &str) -> String {
        match self.kind {
            Kind::MariaDb => MariaDb::shared().sql(&self.name, sql),
            Kind::Postgres => Postgres::shared().sql(&self.name, sql),
            Kind::Sqlite => {
                let file =
                    rusqlite::Connection::open(self.folder.path().join("dialogs.db")).unwrap();
                if !sql.starts_with("EXPLAIN") {
                    file.execute_batch(sql).unwrap();
                    return String::new();
                }
                let mut plan = file.prepare(sql).unwrap();
                let steps = plan.query_map([], |row| row.get::<_, String>(3)).unwrap();
                steps.map(Result::unwrap).collect::<Vec<_>>().join("\n")
            }
        }
    }

    fn run_file(&self, path: &str) {
        let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
        self.run(&fs::read_to_string(path).unwrap());
    }

    fn fill(&self, server: &str) {
        let (names, values) = match server {
            "kamailio" => (", from_user, from_domain, updated, updated_winfo", ", 'f', 'f', 0, 0"),
            _ => ("", ""),
        };
        let rows: Vec<String> = (0..ROWS)
            .map(|n| {
                format!(
                    "('sip:{n}@example.com', '{n}', 'phones.example.com', '{n}', 'example.com', \
                     'message-summary', 'to', 'from', 'call-{n}', 1, 1, 'sip:{n}@127.0.0.1', \
                     2000000000, 1, 'udp:127.0.0.1:5060', 'sip:127.0.0.1'{values})"
                )
            })
            .collect();
        self.run(&format!(
            "INSERT INTO active_watchers (presentity_uri, watcher_username, watcher_domain, \
             to_user, to_domain, event, to_tag, from_tag, callid, local_cseq, remote_cseq, contact, \
             expires, status, socket_info, local_contact{names}) VALUES {};",
            rows.join(", ")
        ));
        self.run(match self.kind {
            Kind::MariaDb => "ANALYZE TABLE active_watchers;",
            Kind::Postgres | Kind::Sqlite => "ANALYZE;",
        });
    }

    /// How the database would find the rows.
    fn plan(&self, condition: &str) -> String {
        let explain = match self.kind {
            Kind::MariaDb | Kind::Postgres => "EXPLAIN",
            Kind::Sqlite => "EXPLAIN QUERY PLAN",
        };
        self.run(&format!(
            "{explain} SELECT * FROM active_watchers WHERE {condition} \
             AND event = 'message-summary' AND status = 1 AND expires > 1700000000 \
             ORDER BY id DESC LIMIT 51;"
        ))
    }

    /// Whether a plan reads the whole table, or walks through its rows in the order of their ids.
    fn reads_all(&self, plan: &str) -> bool {
        match self.kind {
            // id, select_type, table, type, …
            Kind::MariaDb => {
                plan.lines().any(|step| matches!(step.split('\t').nth(3), Some("ALL" | "index")))
            }
            Kind::Postgres => plan.contains("Seq Scan") || plan.contains("active_watchers_pkey"),
            Kind::Sqlite => plan.contains("SCAN"),
        }
    }
}

fn the_indexes_are_used(kind: Kind, folder: &str) {
    for server in PRESENCE_SERVERS {
        let table = Table::new(kind, server, "indexes");
        table.fill(server);
        let either = format!("({PRESENTITY} OR ({WATCHER}))");

        let plan = table.plan(PRESENTITY);
        assert!(!table.reads_all(&plan), "{server} has its own index on presentity_uri:\n{plan}");
        assert!(table.reads_all(&table.plan(WATCHER)), "{server} has none on watcher_username");

        // Twice: an operator does not know whether somebody did it before.
        table.run_file(&format!("sql/{folder}/index.sql"));
        table.run_file(&format!("sql/{folder}/index.sql"));
        for condition in [WATCHER, &either] {
            let plan = table.plan(condition);
            assert!(!table.reads_all(&plan), "{server}, {condition}:\n{plan}");
            assert!(plan.contains("mwid_watcher"), "{server}, {condition}:\n{plan}");
        }
        let plan = table.plan(PRESENTITY);
        assert!(!table.reads_all(&plan), "{server}, as before:\n{plan}");
    }
}

#[test]
fn the_indexes_are_used_on_mariadb() {
    the_indexes_are_used(Kind::MariaDb, "mysql");
}

#[test]
fn the_indexes_are_used_on_postgresql() {
    the_indexes_are_used(Kind::Postgres, "postgres");
}

#[test]
fn the_indexes_are_used_in_sqlite() {
    the_indexes_are_used(Kind::Sqlite, "sqlite");
}

#[tokio::test]
async fn the_rights_suffice_and_are_not_too_many_on_mariadb() {
    let table = Table::new(Kind::MariaDb, "opensips", "rights");
    let delete = "GRANT DELETE ON active_watchers TO 'mwid'@'%';";
    the_rights_suffice(&table, "sql/mysql/user.sql", delete, |name| {
        DatabaseUrl::MySql(server("mwid", MariaDb::shared().port(), name))
    })
    .await;
}

#[tokio::test]
async fn the_rights_suffice_and_are_not_too_many_on_postgresql() {
    let table = Table::new(Kind::Postgres, "kamailio", "rights");
    let delete = "GRANT DELETE ON active_watchers TO mwid_sidecar;";
    the_rights_suffice(&table, "sql/postgres/user.sql", delete, |name| {
        DatabaseUrl::Postgres(server("mwid_sidecar", Postgres::shared().port(), name))
    })
    .await;
}

async fn the_rights_suffice(
    table: &Table,
    file: &str,
    delete: &str,
    url: impl Fn(&str) -> DatabaseUrl,
) {
    let text = fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    // The test server already has a user mwid, who may do everything.
    let text = match table.kind {
        Kind::MariaDb => text.replace("CREATE USER", "CREATE OR REPLACE USER"),
        _ => text.replace("ROLE mwid", "ROLE mwid_sidecar").replace("TO mwid;", "TO mwid_sidecar;"),
    };
    assert!(text.contains("change-me") && text.contains("-- GRANT DELETE ON active_watchers TO"));
    table.fill(table.name.trim_start_matches("rights_"));
    table.run(&text);

    let store = DialogStore::new(&Database {
        url: url(&table.name),
        table: "active_watchers".into(),
        find_by: FindBy::Presentity,
        max_dialogs: 50,
        timeout: Duration::from_secs(20),
        connections: 1,
        ..Database::default()
    })
    .unwrap();
    store.probe().await.unwrap();
    let account = "sip:77@example.com".parse().unwrap();
    let found = store.find(&account, 1_700_000_000).await.unwrap();
    let dialog = Dialog::from_row(&found.rows[0]).unwrap();
    let claimed = store.claim(&dialog, 0).await.unwrap().expect("the row is there");
    assert_eq!(store.claim(&dialog, claimed).await.unwrap(), Some(claimed + 1));

    let refused = store.delete(&dialog).await.unwrap_err().to_string();
    assert!(refused.to_lowercase().contains("denied"), "{refused}");
    table.run(delete);
    assert!(store.delete(&dialog).await.unwrap());
}

fn server(user: &str, port: u16, database: &str) -> Server {
    Server {
        host: "127.0.0.1".into(),
        port,
        socket: None,
        user: user.into(),
        password: Some(Secret::new("change-me")),
        database: database.into(),
    }
}
