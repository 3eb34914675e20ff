//! The SQL that an operator may install, with the configured table's name in place.

use super::error::StoreError;
use super::schema::{Dialect, Table};
use crate::config::{self, DatabaseUrl};

/// The name in the shipped files, which run as they are where the table has it.
const SHIPPED: &str = "active_watchers";

/// The longest part of a table's name in that of a trigger: MySQL's names have 64 characters.
const SUFFIX: usize = 50;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Install the triggers.
    Install,
    /// Take them away.
    Remove,
    /// Make the tables of a cluster.
    Cluster,
    /// Make the table of mwid's own presence agent.
    Agent,
}

impl Script {
    /// The script for `[database]`, as its command-line client takes it.
    ///
    /// # Errors
    /// [`StoreError::BadTable`]
    pub fn text(self, settings: &config::Database) -> Result<String, StoreError> {
        let dialect = match settings.url {
            DatabaseUrl::MySql(_) => Dialect::MySql,
            DatabaseUrl::Postgres(_) => Dialect::Postgres,
            DatabaseUrl::Sqlite(_) => Dialect::Sqlite,
        };
        // The name is checked there.
        let table = Table::new(String::new(), dialect, settings)?;
        let shipped = match (dialect, self) {
            (Dialect::MySql, Self::Cluster) => include_str!("../../sql/mysql/cluster.sql"),
            (Dialect::Postgres, Self::Cluster) => include_str!("../../sql/postgres/cluster.sql"),
            (Dialect::Sqlite, Self::Cluster) => include_str!("../../sql/sqlite/cluster.sql"),
            (Dialect::MySql, Self::Agent) => include_str!("../../sql/mysql/agent.sql"),
            (Dialect::Postgres, Self::Agent) => include_str!("../../sql/postgres/agent.sql"),
            (Dialect::Sqlite, Self::Agent) => include_str!("../../sql/sqlite/agent.sql"),
            (Dialect::MySql, Self::Install) => include_str!("../../sql/mysql/watch.sql"),
            (Dialect::MySql, Self::Remove) => include_str!("../../sql/mysql/watch-remove.sql"),
            (Dialect::Postgres, Self::Install) => include_str!("../../sql/postgres/watch.sql"),
            (Dialect::Postgres, Self::Remove) => {
                include_str!("../../sql/postgres/watch-remove.sql")
            }
            (Dialect::Sqlite, Self::Install) => include_str!("../../sql/sqlite/watch.sql"),
            (Dialect::Sqlite, Self::Remove) => include_str!("../../sql/sqlite/watch-remove.sql"),
        };
        let [insert, update] = triggers(table.name());
        Ok(shipped
            .replace(&format!("mwid_insert_{SHIPPED}"), &insert)
            .replace(&format!("mwid_update_{SHIPPED}"), &update)
            .replace(SHIPPED, table.name()))
    }
}

/// The names of the two triggers in MySQL and SQLite, where triggers of one database share a
/// space of names.
pub(super) fn triggers(table: &str) -> [String; 2] {
    let suffix = &table[..table.len().min(SUFFIX)];
    [format!("mwid_insert_{suffix}"), format!("mwid_update_{suffix}")]
}

/// The single statements of a MySQL script: `DELIMITER` is a word of its client, not of the server.
pub(super) fn statements(script: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut statement = String::new();
    let mut delimiter = ";";
    for line in script.lines().filter(|line| !line.trim_start().starts_with("--")) {
        if let Some(other) = line.strip_prefix("DELIMITER ") {
            delimiter = other.trim();
            continue;
        }
        statement.push_str(line);
        statement.push('\n');
        if let Some(whole) = statement.trim_end().strip_suffix(delimiter) {
            statements.push(whole.trim().to_owned());
            statement.clear();
        }
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str, table: &str) -> config::Database {
        config::Database {
            url: url.parse().unwrap(),
            table: table.into(),
            ..config::Database::default()
        }
    }

    const URLS: [&str; 3] = ["mysql://u@h/d", "postgres://u@h/d", "sqlite:/d"];

    #[test]
    fn a_script_as_shipped_is_the_one_for_the_default_table() {
        let text = Script::Install.text(&settings(URLS[0], "active_watchers")).unwrap();
        assert_eq!(text, include_str!("../../sql/mysql/watch.sql"));
    }

    #[test]
    fn a_script_has_the_configured_table_everywhere() {
        for url in URLS {
            for script in [Script::Install, Script::Remove] {
                let text = script.text(&settings(url, "aw_2")).unwrap();
                assert!(text.contains("aw_2") && !text.contains(SHIPPED), "{text}");
                assert!(script.text(&settings(url, "a; DROP TABLE b")).is_err());
            }
        }
    }

    #[test]
    fn names_of_triggers_fit_for_the_longest_table() {
        let table = "t".repeat(63);
        let text = Script::Install.text(&settings(URLS[0], &table)).unwrap();
        assert!(text.contains(&format!("AFTER INSERT ON `{table}`")));
        for name in triggers(&table) {
            assert!(name.len() <= 64 && text.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn a_mysql_script_falls_apart_into_its_statements() {
        let text = Script::Install.text(&settings(URLS[0], "active_watchers")).unwrap();
        let statements = statements(&text);
        let starts: Vec<_> = statements.iter().map(|text| &text[..14]).collect();
        assert_eq!(
            starts,
            [
                "CREATE TABLE I",
                "DROP TRIGGER I",
                "DROP TRIGGER I",
                "CREATE TRIGGER",
                "CREATE TRIGGER"
            ]
        );
        assert!(statements.iter().skip(3).all(|text| text.ends_with("END")));
    }
}
