//! The way to a database server: how MySQL and PostgreSQL are reached, given up and reached again.
//!
//! A call takes a permit, a connection from the driver's pool and the table's `Schema`, asks,
//! and hands the connection back. A connection whose answer did not arrive in full is closed, so
//! that a later call never reads an earlier call's answer.

use std::error::Error;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::backoff::Backoff;
use super::error::{Cause, StoreError};
use super::schema::{Schema, Table};

/// The columns are looked at again after this long: a table may be replaced by that of the other
/// presence server without any of our statements failing.
pub(super) const SCHEMA_LIFE: Duration = Duration::from_secs(60);

/// How often a call is repeated that met a changed table. One that met a conflict is repeated until its
/// time is over.
const REPEATS: u32 = 3;

/// A kind of database server, through its driver.
pub trait Server: Send + Sync {
    type Connection: Send;
    type Error: Error + Send + Sync + 'static;

    /// A connection from the pool, or a new one.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// The names of the columns that `look` selects.
    fn columns(
        connection: &mut Self::Connection,
        look: &str,
    ) -> impl Future<Output = Result<Vec<String>, Self::Error>> + Send;

    /// Closes a connection that must not be used again.
    fn discard(connection: Self::Connection);

    /// What an error means.
    fn verdict(error: &Self::Error) -> Verdict;
}

/// What an error of a server means for the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The connection is broken.
    Lost,
    /// The table or a prepared statement is not what it was.
    Changed,
    /// There is no such table.
    NoTable,
    /// Another transaction was in the way.
    Conflict,
    /// The server will not do it; the column when it named one.
    Refused(Option<String>),
}

/// A question to a server.
pub(super) trait Verb<S: Server>: Sync {
    type Answer: Send;

    fn ask(
        &self,
        connection: &mut S::Connection,
        schema: &Schema,
    ) -> impl Future<Output = Result<Self::Answer, S::Error>> + Send;
}

/// Several statements on one connection, on tables of mwid's own.
pub(super) trait Talk<S: Server>: Sync {
    type Answer: Send;

    fn talk(
        &self,
        connection: &mut S::Connection,
    ) -> impl Future<Output = Result<Self::Answer, S::Error>> + Send;
}

/// The way to one server: its pool, its back-off and the shape of its table.
pub struct Link<S> {
    server: S,
    table: Table,
    timeout: Duration,
    connections: u32,
    permits: Semaphore,
    backoff: Mutex<Backoff>,
    schema: Mutex<Option<Arc<Schema>>>,
}

/// A failed try: whether the call may be repeated at once.
struct Failed {
    error: StoreError,
    again: bool,
    /// Another transaction was in the way: that takes as long as it takes.
    conflict: bool,
}

impl Failed {
    fn for_good(error: StoreError) -> Self {
        Self { error, again: false, conflict: false }
    }
}

impl<S: Server> Link<S> {
    pub(super) fn new(server: S, table: Table, settings: &crate::config::Database) -> Self {
        let connections = settings.connections.max(1);
        Self {
            server,
            table,
            timeout: settings.timeout,
            connections,
            permits: Semaphore::new(connections as usize),
            backoff: Mutex::default(),
            schema: Mutex::default(),
        }
    }

    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// Forgets the table's columns, so that the next call looks at them.
    pub(super) fn forget(&self) {
        *lock(&self.schema) = None;
    }

    /// Asks, within the configured time in all.
    ///
    /// A connection that broke is replaced and the question repeated: each verb may be done twice.
    /// A CSeq that was claimed and not heard of is a gap, which phones accept (RFC 3261 §12.2.2).
    pub(super) async fn ask<V: Verb<S>>(&self, verb: &V) -> Result<V::Answer, StoreError> {
        let deadline = Instant::now() + self.timeout;
        // After a restart of the server every connection in the pool may be a broken one.
        let mut repeats = self.connections.max(REPEATS);
        loop {
            match self.try_once(verb, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(failed) if failed.conflict => {}
                Err(failed) if failed.again && repeats > 0 => repeats -= 1,
                Err(failed) => return Err(failed.error),
            }
        }
    }

    /// Asks by more than one statement, and without a look at the table: it is mwid's own.
    ///
    /// A connection that broke is replaced and everything repeated.
    pub(super) async fn converse<T: Talk<S>>(&self, talk: &T) -> Result<T::Answer, StoreError> {
        let deadline = Instant::now() + self.timeout;
        let mut repeats = self.connections.max(REPEATS);
        loop {
            let talked = async {
                let mut lease = self.connect(deadline).await?;
                let answer = timeout_at(deadline, talk.talk(lease.connection())).await;
                match answer.map_err(|_| self.late())? {
                    Ok(answer) => {
                        lease.keep();
                        Ok(answer)
                    }
                    // Never kept: a transaction may be open.
                    Err(error) => Err(self.sorted(S::verdict(&error), error)),
                }
            };
            match talked.await {
                Ok(answer) => return Ok(answer),
                Err(Failed { conflict: true, .. }) => {}
                Err(Failed { again: true, .. }) if repeats > 0 => repeats -= 1,
                Err(failed) => return Err(failed.error),
            }
        }
    }

    async fn try_once<V: Verb<S>>(&self, verb: &V, deadline: Instant) -> Result<V::Answer, Failed> {
        let permit = timeout_at(deadline, self.permits.acquire()).await;
        let _permit = permit.map_err(|_| self.late())?.expect("the semaphore is never closed");
        let mut lease = self.connect(deadline).await?;
        let schema = self.schema(&mut lease, deadline).await?;
        let answer = timeout_at(deadline, verb.ask(lease.connection(), &schema)).await;
        match answer.map_err(|_| self.late())? {
            Ok(answer) => {
                lease.keep();
                Ok(answer)
            }
            Err(error) => Err(self.judge(lease, error)),
        }
    }

    async fn connect(&self, deadline: Instant) -> Result<Lease<S>, Failed> {
        let refusal = lock(&self.backoff).refusal(std::time::Instant::now());
        if let Some(error) = refusal {
            return Err(Failed::for_good(error));
        }
        let failed = match timeout_at(deadline, self.server.connect()).await {
            Ok(Ok(connection)) => {
                lock(&self.backoff).succeeded();
                return Ok(Lease(Some(connection)));
            }
            Ok(Err(error)) => Failed::for_good(self.unreachable(error)),
            Err(_) => self.late(),
        };
        self.forget();
        lock(&self.backoff).failed(std::time::Instant::now(), &failed.error);
        Err(failed)
    }

    async fn schema(&self, lease: &mut Lease<S>, deadline: Instant) -> Result<Arc<Schema>, Failed> {
        let known = lock(&self.schema).clone();
        if let Some(schema) = known.filter(|schema| schema.seen.elapsed() < SCHEMA_LIFE) {
            return Ok(schema);
        }
        let look = self.table.look();
        let columns = timeout_at(deadline, S::columns(lease.connection(), &look)).await;
        let columns = columns.map_err(|_| self.late())?.map_err(|error| {
            let connection = lease.0.take();
            let mut failed = self.judge(Lease(connection), error);
            // The table was just looked at: a second look would see the same.
            failed.again &= failed.error.is_transient();
            failed
        })?;
        match Schema::new(&self.table, &columns) {
            Ok(schema) => {
                let schema = Arc::new(schema);
                *lock(&self.schema) = Some(Arc::clone(&schema));
                Ok(schema)
            }
            Err(error) => {
                lease.keep();
                Err(Failed::for_good(error))
            }
        }
    }

    /// Sorts an error. Only a connection whose server merely said no goes back to the pool.
    fn judge(&self, mut lease: Lease<S>, error: S::Error) -> Failed {
        let verdict = S::verdict(&error);
        match &verdict {
            Verdict::Lost | Verdict::Changed | Verdict::NoTable => self.forget(),
            Verdict::Conflict | Verdict::Refused(_) => lease.keep(),
        }
        self.sorted(verdict, error)
    }

    fn sorted(&self, verdict: Verdict, error: S::Error) -> Failed {
        let again = !matches!(verdict, Verdict::Refused(_));
        let conflict = verdict == Verdict::Conflict;
        let (at, table) = (self.table.at.clone(), self.table.name().to_owned());
        let error = match verdict {
            Verdict::Lost => self.unreachable(error),
            Verdict::NoTable => StoreError::MissingTable { at, table, cause: Cause::new(error) },
            Verdict::Changed | Verdict::Conflict => {
                StoreError::Refused { at, table, column: None, cause: Cause::new(error) }
            }
            Verdict::Refused(column) => {
                StoreError::Refused { at, table, column, cause: Cause::new(error) }
            }
        };
        Failed { error, again, conflict }
    }

    fn unreachable(&self, error: S::Error) -> StoreError {
        StoreError::Unreachable { at: self.table.at.clone(), cause: Cause::new(error) }
    }

    fn late(&self) -> Failed {
        let error = StoreError::Timeout { at: self.table.at.clone(), after: self.timeout };
        Failed::for_good(error)
    }
}

/// A connection that is closed when dropped, unless it was kept: a caller may give up at any
/// await, and then an answer is still under way.
struct Lease<S: Server>(Option<S::Connection>);

impl<S: Server> Lease<S> {
    fn connection(&mut self) -> &mut S::Connection {
        self.0.as_mut().expect("a lease holds its connection until it is kept")
    }

    /// Hands the connection back to its pool.
    fn keep(&mut self) {
        drop(self.0.take());
    }
}

impl<S: Server> Drop for Lease<S> {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            S::discard(connection);
        }
    }
}

/// The data behind these locks is whole at every moment, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
