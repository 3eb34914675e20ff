//! `mwid sql --apply` and `--remove`: runs a [`Script`] on the configured database.

use std::path::PathBuf;

use mysql_async::prelude::Queryable;
use thiserror::Error;
use tokio::time::timeout;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use super::error::{Cause, StoreError};
use super::mysql::MySql;
use super::postgres::Postgres;
use super::script::{Script, statements};
use crate::config::{self, DatabaseUrl, Server};
use crate::shipped;

/// Why a script was not run. On PostgreSQL and SQLite nothing has changed then.
#[derive(Debug, Error)]
pub enum InstallError {
    /// The user may not.
    #[error(
        "{at} does not let this user do it: {cause}; let somebody with the rights run the output of \
         `mwid sql`, or grant them:\n{grants}"
    )]
    Denied {
        /// Which database.
        at: String,
        /// The missing rights, as statements.
        grants: String,
        /// What the server said.
        #[source]
        cause: Cause,
    },
    /// The server has a binary log and wants a setting.
    #[error(
        "{at} has a binary log and lets only SUPER create triggers: {cause}; ask its administrator \
         for SET GLOBAL log_bin_trust_function_creators = 1, or to run the output of `mwid sql`"
    )]
    BinaryLog {
        /// Which database.
        at: String,
        /// What the server said.
        #[source]
        cause: Cause,
    },
    /// Nothing is made there: an empty file would hide a wrong path.
    #[error(
        "there is no file {}: name the presence server's in [database] url, or make it with the presence \
         server's own schema, like that of {}", path.display(),
        shipped::path("sql/sqlite/opensips-active_watchers.sql")
    )]
    NoFile {
        /// The SQLite file.
        path: PathBuf,
    },
    /// Anything else that the database said.
    #[error("{at}: {cause}; check [database] url and table")]
    Failed {
        /// Which database.
        at: String,
        /// What it said.
        #[source]
        cause: Cause,
    },
    /// No answer in time, or a bad table.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Runs `script` on the database of `settings`. Installing twice is the same as once.
///
/// # Errors
/// [`InstallError`]; where a right is missing it says which.
pub async fn run(script: Script, settings: &config::Database) -> Result<(), InstallError> {
    let text = script.text(settings)?;
    let at = settings.url.to_string();
    let work = async {
        match &settings.url {
            DatabaseUrl::MySql(server) => {
                let Err(error) = mysql(&text, settings, server).await else { return Ok(()) };
                let user = mysql_account(settings, server).await;
                Err(explain_mysql(error, script, settings, server, &user))
            }
            DatabaseUrl::Postgres(server) => {
                let done = postgres(&text, settings, server).await;
                done.map_err(|error| explain_postgres(error, script, settings, server))
            }
            DatabaseUrl::Sqlite(path) => {
                if !path.exists() {
                    return Err(InstallError::NoFile { path: path.clone() });
                }
                let failed = |cause| InstallError::Failed { at: at.clone(), cause };
                let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
                let file = rusqlite::Connection::open_with_flags(path, flags)
                    .map_err(|error| failed(Cause::new(error)))?;
                let done =
                    file.busy_timeout(settings.timeout).and_then(|()| file.execute_batch(&text));
                done.map_err(|error| failed(Cause::new(error)))
            }
        }
    };
    // Creating a trigger waits for those who use the table: ten times as long as a question.
    let patience = settings.timeout * 10;
    let late = || StoreError::Timeout { at: at.clone(), after: patience };
    timeout(patience, work).await.map_err(|_| late())?
}

async fn mysql(
    text: &str,
    settings: &config::Database,
    server: &Server,
) -> Result<(), mysql_async::Error> {
    let mut connection = mysql_async::Conn::new(MySql::options(settings, server)).await?;
    for statement in statements(text) {
        connection.query_drop(statement).await?;
    }
    connection.disconnect().await
}

/// The user as `GRANT` wants it. A plain name means `name@%` there, which is somebody else where
/// the account was made for one address.
async fn mysql_account(settings: &config::Database, server: &Server) -> String {
    let ask = async {
        let mut connection = mysql_async::Conn::new(MySql::options(settings, server)).await?;
        let account: Option<String> = connection.query_first("SELECT CURRENT_USER()").await?;
        connection.disconnect().await?;
        Ok::<_, mysql_async::Error>(account)
    };
    let account = ask.await.ok().flatten().unwrap_or_else(|| format!("{}@%", server.user));
    // No host has an @; a user may.
    let (user, host) = account.rsplit_once('@').unwrap_or((&account, "%"));
    format!("'{user}'@'{host}'")
}

async fn postgres(
    text: &str,
    settings: &config::Database,
    server: &Server,
) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = Postgres::options(settings, server).connect(NoTls).await?;
    // It ends when the client is dropped; its errors come through the client too.
    let driver = tokio::spawn(connection);
    let done = client.batch_execute(text).await;
    drop(client);
    drop(driver.await);
    done
}

/// Numbers of the MySQL and MariaDB error reference.
fn explain_mysql(
    error: mysql_async::Error,
    script: Script,
    settings: &config::Database,
    server: &Server,
    user: &str,
) -> InstallError {
    let at = settings.url.to_string();
    let code = if let mysql_async::Error::Server(error) = &error { error.code } else { 0 };
    let cause = Cause::new(error);
    let (database, table) = (&server.database, &settings.table);
    match code {
        1419 => InstallError::BinaryLog { at, cause },
        1044 | 1142 | 1143 | 1227 | 1370 => {
            let grants = match script {
                Script::Cluster => ["mwid_nodes", "mwid_counts", "mwid_cluster"]
                    .map(|table| {
                        format!(
                            "  GRANT CREATE, SELECT, INSERT, UPDATE, DELETE ON \
                             `{database}`.{table} TO {user};"
                        )
                    })
                    .join("\n"),
                Script::Agent => format!(
                    "  GRANT CREATE, INDEX, SELECT, INSERT, UPDATE, DELETE ON \
                     `{database}`.`{table}` TO {user};"
                ),
                Script::Install | Script::Remove => format!(
                    "  GRANT TRIGGER ON `{database}`.`{table}` TO {user};\n  \
                     GRANT CREATE, DROP, SELECT, INSERT, DELETE ON `{database}`.mwid_changes TO {user};"
                ),
            };
            InstallError::Denied { at, grants, cause }
        }
        _ => InstallError::Failed { at, cause },
    }
}

fn explain_postgres(
    error: tokio_postgres::Error,
    script: Script,
    settings: &config::Database,
    server: &Server,
) -> InstallError {
    let at = settings.url.to_string();
    let denied = error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
    let cause = Cause::new(error);
    if !denied {
        return InstallError::Failed { at, cause };
    }
    let (user, table) = (&server.user, &settings.table);
    let grants = match script {
        Script::Cluster | Script::Agent => {
            format!("  GRANT CREATE ON SCHEMA public TO \"{user}\";")
        }
        Script::Install | Script::Remove => format!(
            "  GRANT TRIGGER ON \"{table}\" TO \"{user}\";\n  \
             GRANT CREATE ON SCHEMA public TO \"{user}\";\n  \
             (--remove, and --apply after another user's, need the owner of the table and the function.)"
        ),
    };
    InstallError::Denied { at, grants, cause }
}
