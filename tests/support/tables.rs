//! Kamailio's own tables, on the shared MariaDB or PostgreSQL.

use std::fs;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use super::mariadb::MariaDb;
use super::postgres::Postgres;

const SCHEMAS: &str = "/usr/share/kamailio";

/// A database of one test, filled by the SQL that Debian ships with Kamailio.
pub struct Tables {
    name: String,
    url: String,
    server: Server,
}

#[derive(Clone, Copy)]
enum Server {
    MariaDb(&'static MariaDb),
    Postgres(&'static Postgres),
}

impl Tables {
    /// On MariaDB.
    pub fn on_mariadb() -> Self {
        let server = MariaDb::shared();
        let name = fresh_name();
        server.create_database(&name);
        server.sql(&name, &schema("mysql"));
        // Kamailio takes its URL as it is: a user whose password needs no escaping.
        let user = format!("'{name}'@'%'");
        let grant = format!("GRANT ALL ON {name}.* TO {user};");
        server.sql(&name, &format!("CREATE USER {user} IDENTIFIED BY 'kamailio'; {grant}"));
        let url = format!("mysql://{name}:kamailio@{}:{}/{name}", server.host(), server.port());
        Self { name, url, server: Server::MariaDb(server) }
    }

    /// On PostgreSQL.
    pub fn on_postgres() -> Self {
        let server = Postgres::shared();
        let name = fresh_name();
        server.create_database(&name);
        server.sql(&name, &schema("postgres"));
        let grants = ["TABLES", "SEQUENCES"]
            .map(|all| format!("GRANT ALL ON ALL {all} IN SCHEMA public TO {name};"));
        let role = format!("CREATE ROLE {name} LOGIN PASSWORD 'kamailio';");
        server.sql(&name, &(role + &grants.concat()));
        let url = format!("postgres://{name}:kamailio@{}:{}/{name}", server.host(), server.port());
        Self { name, url, server: Server::Postgres(server) }
    }

    /// The name of the database.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The database as Kamailio's `db_url`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs statements and returns what they print: a line a row, tabs between columns.
    pub fn sql(&self, statements: &str) -> String {
        match self.server {
            Server::MariaDb(server) => server.sql(&self.name, statements),
            Server::Postgres(server) => server.sql(&self.name, statements),
        }
    }

    /// These columns of the one row of `active_watchers` that has this Call-ID.
    pub fn row(&self, call_id: &str, columns: &str) -> Option<Vec<String>> {
        // Blanks at the end of what is printed get lost, and a column may be empty.
        let from = format!("FROM active_watchers WHERE callid = '{call_id}'");
        let answer = self.sql(&format!("SELECT {columns}, 'end' {from};"));
        assert!(!answer.contains('\n'), "more than one row of {call_id}: {answer}");
        Some(answer.strip_suffix("\tend")?.split('\t').map(str::to_owned).collect())
    }
}

fn fresh_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("kamailio_{}_{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn schema(flavour: &str) -> String {
    ["standard-create.sql", "presence-create.sql"]
        .map(|file| {
            let path = Path::new(SCHEMAS).join(flavour).join(file);
            fs::read_to_string(&path).unwrap_or_else(|error| {
                panic!("{}: {error}; scripts/setup installs it", path.display())
            })
        })
        .concat()
}
