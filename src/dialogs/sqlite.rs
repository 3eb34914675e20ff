//! SQLite: one file, one thread of its own.
//!
//! The thread ends when the last [`Sqlite`] is dropped.

use std::path::Path;
use std::time::Duration;

use mwid_core::dialog::{Flavour, Row};
use mwid_core::mailbox::Account;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, ToSql, params_from_iter};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::error::{Cause, StoreError};
use super::schema::{Dialect, Schema, Table, Values, read_row};
use super::sqlite_thread::{self, Job};
use super::verbs::{Claim, ClaimAll, Claimed, Delete, Find, FindAll, Inspect, Param};
use super::watch::sql::{Ask, Question, Trim};
use crate::config;

/// Calls that may wait for the thread before the next caller waits for a place.
const QUEUE: usize = 256;

/// An SQLite file, through its thread.
pub struct Sqlite {
    jobs: mpsc::Sender<Box<dyn Job>>,
    table: Table,
    timeout: Duration,
}

/// A question to the file. Asked again when the table changed meanwhile.
pub(super) trait Verb: Send + 'static {
    type Answer: Send + 'static;
    /// Whether it changes the file and so needs a transaction.
    const WRITES: bool;
    /// Whether the table's columns are looked at first, however well they are known.
    const LOOKS: bool = false;

    fn ask(&self, file: &mut Connection, schema: &Schema) -> rusqlite::Result<Self::Answer>;
}

impl Sqlite {
    /// Starts the thread; opens nothing.
    pub(super) fn new(settings: &config::Database, path: &Path) -> Result<Self, StoreError> {
        let at = format!("the SQLite file {}", path.display());
        let table = Table::new(at, Dialect::Sqlite, settings)?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        sqlite_thread::start(queue, table.clone(), path.to_owned(), settings.timeout)?;
        Ok(Self { jobs, table, timeout: settings.timeout })
    }

    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// Hands a question to the thread and waits for the answer; that of a write arrives when it
    /// is committed.
    pub(super) async fn ask<V: Verb>(&self, verb: V) -> Result<V::Answer, StoreError> {
        let deadline = Instant::now() + self.timeout;
        let (reply, answer) = oneshot::channel();
        let late = |_| StoreError::Timeout { at: self.table.at.clone(), after: self.timeout };
        let job = sqlite_thread::job(verb, reply);
        timeout_at(deadline, self.jobs.send(job)).await.map_err(late)?.map_err(|_| self.ended())?;
        timeout_at(deadline, answer).await.map_err(late)?.map_err(|_| self.ended())?
    }

    fn ended(&self) -> StoreError {
        let cause = Cause::new("its thread failed at this question");
        StoreError::Unreachable { at: self.table.at.clone(), cause }
    }
}

impl ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Param::Text(text) => ValueRef::Text(text.as_bytes()),
            Param::Number(number) => ValueRef::Integer(*number),
        }))
    }
}

impl Verb for Find {
    type Answer = Vec<Row>;
    const WRITES: bool = false;

    fn ask(&self, file: &mut Connection, schema: &Schema) -> rusqlite::Result<Vec<Row>> {
        let mut statement = file.prepare_cached(&schema.find)?;
        let params = params_from_iter(schema.find_params(self));
        statement.query_map(params, |mut row| read_row(&mut row, schema.flavour))?.collect()
    }
}

/// Nothing is sent anywhere: one after the other.
impl Verb for FindAll {
    type Answer = Vec<Vec<Row>>;
    const WRITES: bool = false;

    fn ask(&self, file: &mut Connection, schema: &Schema) -> rusqlite::Result<Self::Answer> {
        let Self { unix, also, .. } = *self;
        let find = |account: &Account| Find { account: account.clone(), unix, also };
        self.accounts.iter().map(|account| find(account).ask(file, schema)).collect()
    }
}

impl<Q: Question> Verb for Ask<Q> {
    type Answer = Vec<Q::Item>;
    const WRITES: bool = false;

    fn ask(&self, file: &mut Connection, schema: &Schema) -> rusqlite::Result<Vec<Q::Item>> {
        let mut statement = file.prepare_cached(self.0.sql(schema))?;
        let params = params_from_iter(self.0.params());
        statement.query_map(params, |mut row| Q::read(&mut row, schema))?.collect()
    }
}

impl Verb for Trim {
    type Answer = u64;
    const WRITES: bool = true;

    fn ask(&self, file: &mut Connection, schema: &Schema) -> rusqlite::Result<u64> {
        let mut statement = file.prepare_cached(self.sql(schema))?;
        Ok(statement.execute(params_from_iter(self.params()))? as u64)
    }
}

impl Verb for Claim {
    type Answer = Claimed;
    const WRITES: bool = true;

    fn ask(&self, file: &mut Connection, schema: &Schema) -> rusqlite::Result<Claimed> {
        let claimed = file
            .prepare_cached(&schema.claim)?
            .query_row(params_from_iter(schema.claim_params(self)), |row| row.get(0))
            .optional()?;
        if let Some(row) = claimed {
            return Ok(Claimed::Wire(schema.flavour.wire(row)));
        }
        let params = params_from_iter(schema.exhausted_params(&self.identity));
        let exhausted = file.prepare_cached(&schema.exhausted)?.exists(params)?;
        Ok(if exhausted { Claimed::Exhausted } else { Claimed::Gone })
    }
}

impl Verb for ClaimAll {
    type Answer = Vec<Option<Claimed>>;
    const WRITES: bool = true;

    fn ask(&self, file: &mut Connection, schema: &Schema) -> rusqlite::Result<Self::Answer> {
        self.claims.iter().map(|claim| claim.ask(file, schema).map(Some)).collect()
    }
}

impl Verb for Delete {
    type Answer = bool;
    const WRITES: bool = true;

    fn ask(&self, file: &mut Connection, schema: &Schema) -> rusqlite::Result<bool> {
        let params = params_from_iter(self.identity.params());
        Ok(file.prepare_cached(&schema.delete)?.execute(params)? > 0)
    }
}

impl Verb for Inspect {
    type Answer = (String, Flavour);
    const WRITES: bool = false;
    const LOOKS: bool = true;

    fn ask(&self, _: &mut Connection, schema: &Schema) -> rusqlite::Result<Self::Answer> {
        Ok((format!("SQLite {}", rusqlite::version()), schema.flavour))
    }
}

/// SQLite keeps any type in any column: what does not fit is read as what it comes closest to.
impl Values for &rusqlite::Row<'_> {
    type Error = rusqlite::Error;

    fn text(&mut self, place: usize) -> rusqlite::Result<Option<String>> {
        Ok(match self.get_ref(place)? {
            ValueRef::Null => None,
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                Some(String::from_utf8_lossy(bytes).into_owned())
            }
            ValueRef::Integer(number) => Some(number.to_string()),
            ValueRef::Real(number) => Some(number.to_string()),
        })
    }

    fn number(&mut self, place: usize) -> rusqlite::Result<Option<i64>> {
        Ok(match self.get_ref(place)? {
            ValueRef::Integer(number) => Some(number),
            ValueRef::Text(bytes) => str::from_utf8(bytes).ok().and_then(|t| t.trim().parse().ok()),
            ValueRef::Null | ValueRef::Blob(_) | ValueRef::Real(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics, or answers.
    struct Moody(bool);

    impl Verb for Moody {
        type Answer = ();
        const WRITES: bool = true;

        fn ask(&self, _file: &mut Connection, _schema: &Schema) -> rusqlite::Result<()> {
            assert!(!self.0, "a bug of the driver");
            Ok(())
        }
    }

    #[test]
    fn a_panic_of_the_thread_is_an_error_of_its_question_and_the_next_is_answered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dialogs.db");
        let schema = include_str!("../../sql/sqlite/opensips-active_watchers.sql");
        Connection::open(&path).unwrap().execute_batch(schema).unwrap();
        let settings = config::Database::default();
        let file = Sqlite::new(&settings, &path).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let error = file.ask(Moody(true)).await.unwrap_err();
            assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
            file.ask(Moody(false)).await.unwrap();
        });
    }
}
