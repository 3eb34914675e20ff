//! The agent's own SQLite file, made where there is none.

use std::path::Path;

use rusqlite::Connection;

use crate::config::{self, DatabaseUrl};
use crate::dialogs::error::{Cause, StoreError};
use crate::dialogs::script::Script;

/// Makes the table, and the file, where `[database]` is an SQLite file. On a server the table is
/// made by `mwid sql --apply`: mwid's user may have no right to do it.
///
/// # Errors
/// [`StoreError`] when the file cannot be made or written.
pub fn prepare(settings: &config::Database) -> Result<(), StoreError> {
    let DatabaseUrl::Sqlite(path) = &settings.url else { return Ok(()) };
    let script = Script::Agent.text(settings)?;
    make(path, &script, settings).map_err(|error| StoreError::Unreachable {
        at: format!("the SQLite file {}", path.display()),
        cause: Cause::new(error),
    })
}

fn make(path: &Path, script: &str, settings: &config::Database) -> rusqlite::Result<()> {
    let file = Connection::open(path)?;
    file.busy_timeout(settings.timeout)?;
    file.execute_batch(script)
}
