//! The thread that owns the SQLite file.
//!
//! It takes all jobs that wait, answers the questions, and does all writes in one transaction:
//! one sync to the disk serves many claims. No write is answered before its COMMIT.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::{mpsc, oneshot};

use super::error::{Cause, StoreError};
use super::guard;
use super::link::SCHEMA_LIFE;
use super::schema::{Schema, Table};
use super::sqlite::Verb;

/// Jobs that are done together at most, so that no answer waits for a whole crowd.
const BATCH: usize = 128;

/// More than there are statements in `schema`: SQLite parses one anew unless it is kept.
const STATEMENTS: usize = 64;

/// One call on its way through the thread.
pub(super) trait Job: Send {
    /// Whether it needs a transaction.
    fn writes(&self) -> bool;
    /// Whether the table's columns must be looked at first.
    fn looks(&self) -> bool;
    /// Whether nobody waits for its answer any more.
    fn abandoned(&self) -> bool;
    /// Asks the file; the answer is kept until [`Job::settle`].
    fn ask(&mut self, file: &mut Connection, schema: &Schema) -> rusqlite::Result<()>;
    /// Hands out the answer, or the error.
    fn settle(self: Box<Self>, end: Result<(), StoreError>);
}

struct Call<V: Verb> {
    verb: V,
    answer: Option<V::Answer>,
    reply: oneshot::Sender<Result<V::Answer, StoreError>>,
}

pub(super) fn job<V: Verb>(
    verb: V,
    reply: oneshot::Sender<Result<V::Answer, StoreError>>,
) -> Box<dyn Job> {
    Box::new(Call { verb, answer: None, reply })
}

impl<V: Verb> Job for Call<V> {
    fn writes(&self) -> bool {
        V::WRITES
    }

    fn looks(&self) -> bool {
        V::LOOKS
    }

    fn abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn ask(&mut self, file: &mut Connection, schema: &Schema) -> rusqlite::Result<()> {
        self.answer = Some(self.verb.ask(file, schema)?);
        Ok(())
    }

    fn settle(self: Box<Self>, end: Result<(), StoreError>) {
        let Self { answer, reply, .. } = *self;
        let answer = end.map(|()| answer.expect("a job that succeeded has its answer"));
        // A caller that has gone away wants no answer.
        drop(reply.send(answer));
    }
}

/// Starts the thread. It ends when all senders of `jobs` are gone.
pub(super) fn start(
    mut jobs: mpsc::Receiver<Box<dyn Job>>,
    table: Table,
    path: PathBuf,
    timeout: Duration,
) -> Result<(), StoreError> {
    let at = table.at.clone();
    let mut file = File { table, path, timeout, open: None };
    let serve = move || {
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(first) = jobs.blocking_recv() {
            batch.push(first);
            while batch.len() < BATCH
                && let Ok(next) = jobs.try_recv()
            {
                batch.push(next);
            }
            batch.retain(|job| !job.abandoned());
            let served = catch_unwind(AssertUnwindSafe(|| file.serve(batch.drain(..))));
            if let Err(panic) = served {
                // Whoever was not answered learns that by the end of its reply. Closing rolls back.
                file.open = None;
                let at = &file.table.at;
                tracing::error!("the thread of {at} panicked: {}", guard::words(&*panic));
            }
        }
    };
    thread::Builder::new()
        .name("mwid-sqlite".into())
        .spawn(serve)
        .map(drop)
        .map_err(|error| StoreError::Unreachable { at, cause: Cause::new(error) })
}

/// The file, opened when it is needed.
struct File {
    table: Table,
    path: PathBuf,
    timeout: Duration,
    open: Option<Open>,
}

struct Open {
    connection: Connection,
    schema: Schema,
    /// Device and inode: a file that was replaced under its name must be opened again.
    identity: (u64, u64),
}

impl File {
    fn serve(&mut self, batch: impl Iterator<Item = Box<dyn Job>>) {
        let (writes, questions): (Vec<_>, Vec<_>) = batch.partition(|job| job.writes());
        for mut job in questions {
            let end = self.ask(&mut *job);
            job.settle(end);
        }
        if !writes.is_empty() {
            self.write(writes);
        }
    }

    /// All of `jobs` in one transaction.
    fn write(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        let begun = self.execute("BEGIN IMMEDIATE");
        let mut ends = Vec::with_capacity(jobs.len());
        if begun.is_ok() {
            ends.extend(jobs.iter_mut().map(|job| self.ask(&mut **job)));
        }
        let done = begun.and_then(|()| self.execute("COMMIT"));
        if done.is_err() {
            // Closing rolls back what may be left of the transaction.
            self.open = None;
        }
        ends.resize_with(jobs.len(), || Ok(()));
        for (job, end) in jobs.into_iter().zip(ends) {
            job.settle(end.and(done.clone()));
        }
    }

    /// Asks, and once more when the table is not what it was.
    fn ask(&mut self, job: &mut dyn Job) -> Result<(), StoreError> {
        let in_transaction = self.in_transaction();
        self.opened()?;
        let open = self.open.as_mut().expect("it was opened just now");
        if job.looks() {
            open.schema = look(&open.connection, &self.table)?;
        }
        let mut asked = job.ask(&mut open.connection, &open.schema);
        if asked.as_ref().is_err_and(has_changed) {
            open.schema = look(&open.connection, &self.table)?;
            asked = job.ask(&mut open.connection, &open.schema);
        }
        asked.map_err(|error| {
            if !in_transaction {
                self.open = None;
            }
            self.explain(error)
        })
    }

    fn execute(&mut self, sql: &str) -> Result<(), StoreError> {
        self.opened()?;
        let open = self.open.as_ref().expect("it was opened just now");
        let done = open.connection.prepare_cached(sql).and_then(|mut it| it.execute([]));
        done.map(drop).map_err(|error| self.explain(error))
    }

    fn in_transaction(&self) -> bool {
        self.open.as_ref().is_some_and(|open| !open.connection.is_autocommit())
    }

    /// The file as it is open, or opens it. Inside a transaction nothing is looked at.
    fn opened(&mut self) -> Result<(), StoreError> {
        if self.in_transaction() { Ok(()) } else { self.refresh() }
    }

    fn refresh(&mut self) -> Result<(), StoreError> {
        let found = fs::metadata(&self.path).map_err(|error| self.unreachable(error))?;
        let identity = (found.dev(), found.ino());
        if self.open.as_ref().is_some_and(|open| open.identity != identity) {
            self.open = None;
        }
        match &mut self.open {
            Some(open) if open.schema.seen.elapsed() < SCHEMA_LIFE => {}
            Some(open) => open.schema = look(&open.connection, &self.table)?,
            None => {
                let connection = self.connect()?;
                let schema = look(&connection, &self.table)?;
                self.open = Some(Open { connection, schema, identity });
            }
        }
        Ok(())
    }

    /// Opens the file and never creates it: an empty one would hide a wrong path.
    fn connect(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(&self.path, flags).map_err(|error| self.explain(error))?;
        connection.busy_timeout(self.timeout).map_err(|error| self.explain(error))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(connection)
    }

    fn unreachable(&self, error: io::Error) -> StoreError {
        StoreError::Unreachable { at: self.table.at.clone(), cause: Cause::new(error) }
    }

    fn explain(&self, error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                StoreError::Timeout { at: self.table.at.clone(), after: self.timeout }
            }
            _ => explain(&self.table, error),
        }
    }
}

/// Looks at the table's columns. The statement must have run: only then does SQLite notice that
/// another program has changed the table.
fn look(connection: &Connection, table: &Table) -> Result<Schema, StoreError> {
    let columns = || {
        let mut statement = connection.prepare(&table.look())?;
        statement.query([])?.next()?;
        Ok(statement.column_names().map(str::to_owned).collect::<Vec<_>>())
    };
    Schema::new(table, &columns().map_err(|error| explain(table, error))?)
}

fn explain(table: &Table, error: rusqlite::Error) -> StoreError {
    let (at, name) = (table.at.clone(), table.name().to_owned());
    let unreachable = matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::CannotOpen
                | ErrorCode::NotADatabase
                | ErrorCode::SystemIoFailure
                | ErrorCode::DiskFull
                | ErrorCode::DatabaseCorrupt
        )
    );
    let text = error.to_string();
    let cause = Cause::new(error);
    if unreachable {
        StoreError::Unreachable { at, cause }
    } else if text.contains("no such table") {
        StoreError::MissingTable { at, table: name, cause }
    } else {
        StoreError::Refused { at, table: name, column: None, cause }
    }
}

/// SQLite has no code of its own for an unknown column or table, only these words.
fn has_changed(error: &rusqlite::Error) -> bool {
    let text = error.to_string();
    text.contains("no such column") || text.contains("no such table")
}
