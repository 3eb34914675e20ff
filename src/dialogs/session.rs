//! Statements of other parts of mwid on tables of its own, over the same links.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, params_from_iter};
use tokio_postgres::types::Type;

use super::error::{Cause, StoreError};
use super::link::{Link, Server, Talk};
use super::mysql::{self, MySql};
use super::postgres::{self, Postgres};
pub(crate) use super::schema::Dialect;
pub(crate) use super::verbs::Param;
use crate::config::{self, DatabaseUrl};

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Text(String),
    Number(i64),
    /// NULL, or a type that none of mwid's tables has.
    Other,
}

/// A connection that takes statements, in whichever database.
pub(crate) trait Session: Send {
    type Error: Send;

    /// Runs a statement; how many rows it changed. MySQL counts a row twice that was there before
    /// an INSERT.
    fn run(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
    ) -> impl Future<Output = Result<u64, Self::Error>> + Send;

    /// The rows of a SELECT.
    fn rows(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
    ) -> impl Future<Output = Result<Vec<Vec<Cell>>, Self::Error>> + Send;

    /// `BEGIN`, `COMMIT`: nothing that is prepared or bound.
    fn plain(&mut self, sql: &str) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Something that is asked over a session. It may be asked again after a broken connection or a
/// conflict, so it must be such that twice is as good as once.
pub(crate) trait Question: Clone + Send + Sync + 'static {
    type Answer: Send + 'static;

    fn ask<S: Session>(
        &self,
        session: &mut S,
        dialect: Dialect,
    ) -> impl Future<Output = Result<Self::Answer, S::Error>> + Send;
}

/// The database of mwid's own tables.
pub(crate) enum Tables {
    MySql(Link<MySql>),
    Postgres(Link<Postgres>),
    Sqlite(File),
}

impl Tables {
    /// Connects to nothing. `settings.table` is named in errors.
    pub(crate) fn new(settings: &config::Database) -> Result<Self, StoreError> {
        Ok(match &settings.url {
            DatabaseUrl::MySql(server) => Self::MySql(MySql::link(settings, server)?),
            DatabaseUrl::Postgres(server) => Self::Postgres(Postgres::link(settings, server)?),
            DatabaseUrl::Sqlite(path) => Self::Sqlite(File::new(settings, path)),
        })
    }

    /// Asks, within `[database] timeout` in all.
    pub(crate) async fn ask<Q: Question>(&self, question: &Q) -> Result<Q::Answer, StoreError> {
        match self {
            Self::MySql(link) => link.converse(&Asking(question, Dialect::MySql)).await,
            Self::Postgres(link) => link.converse(&Asking(question, Dialect::Postgres)).await,
            Self::Sqlite(file) => file.ask(question.clone()).await,
        }
    }
}

struct Asking<'a, Q>(&'a Q, Dialect);

impl<S, Q> Talk<S> for Asking<'_, Q>
where
    S: Server<Connection: Session<Error = <S as Server>::Error>>,
    Q: Question,
{
    type Answer = Q::Answer;

    async fn talk(&self, connection: &mut S::Connection) -> Result<Q::Answer, S::Error> {
        self.0.ask(connection, self.1).await
    }
}

impl Session for mysql_async::Conn {
    type Error = <MySql as Server>::Error;

    async fn run(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, Self::Error> {
        self.exec_drop(sql, mysql::bind(params.to_vec())).await?;
        Ok(self.affected_rows())
    }

    async fn rows(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Vec<Cell>>, Self::Error> {
        let rows: Vec<mysql_async::Row> = self.exec(sql, mysql::bind(params.to_vec())).await?;
        let cell = |value| match value {
            mysql_async::Value::Bytes(bytes) => {
                Cell::Text(String::from_utf8_lossy(&bytes).into_owned())
            }
            mysql_async::Value::Int(number) => Cell::Number(number),
            mysql_async::Value::UInt(number) => {
                i64::try_from(number).map_or(Cell::Other, Cell::Number)
            }
            _ => Cell::Other,
        };
        Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(cell).collect()).collect())
    }

    async fn plain(&mut self, sql: &str) -> Result<(), Self::Error> {
        self.query_drop(sql).await
    }
}

impl Session for deadpool_postgres::Client {
    type Error = <Postgres as Server>::Error;

    async fn run(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, Self::Error> {
        let statement = self.prepare_cached(sql).await?;
        Ok(self.execute(&statement, &postgres::bind(params)).await?)
    }

    async fn rows(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Vec<Cell>>, Self::Error> {
        let rows = postgres::query(self, sql, params).await?;
        let cells = |row: &tokio_postgres::Row| {
            let cell = |(place, column): (usize, &tokio_postgres::Column)| {
                Ok(if *column.type_() == Type::INT8 {
                    row.try_get::<_, Option<i64>>(place)?.map_or(Cell::Other, Cell::Number)
                } else if *column.type_() == Type::BYTEA {
                    let text = row.try_get::<_, Option<postgres::Lossy>>(place)?;
                    text.map_or(Cell::Other, |text| Cell::Text(text.0))
                } else {
                    row.try_get::<_, Option<String>>(place)?.map_or(Cell::Other, Cell::Text)
                })
            };
            row.columns().iter().enumerate().map(cell).collect::<Result<_, tokio_postgres::Error>>()
        };
        Ok(rows.iter().map(cells).collect::<Result<_, _>>()?)
    }

    async fn plain(&mut self, sql: &str) -> Result<(), Self::Error> {
        Ok(self.batch_execute(sql).await?)
    }
}

impl Session for Connection {
    type Error = rusqlite::Error;

    async fn run(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, Self::Error> {
        Ok(self.prepare_cached(sql)?.execute(params_from_iter(params))? as u64)
    }

    async fn rows(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Vec<Cell>>, Self::Error> {
        let mut statement = self.prepare_cached(sql)?;
        let columns = statement.column_count();
        let cells = |row: &rusqlite::Row<'_>| {
            let cell = |place| {
                Ok(match row.get_ref(place)? {
                    ValueRef::Integer(number) => Cell::Number(number),
                    ValueRef::Text(bytes) => {
                        Cell::Text(String::from_utf8_lossy(bytes).into_owned())
                    }
                    _ => Cell::Other,
                })
            };
            (0..columns).map(cell).collect()
        };
        statement.query_map(params_from_iter(params), cells)?.collect()
    }

    async fn plain(&mut self, sql: &str) -> Result<(), Self::Error> {
        self.execute_batch(sql)
    }
}

/// An SQLite file of mwid's own tables. Asked now and then, so it needs no thread of its own.
pub(crate) struct File {
    path: PathBuf,
    timeout: Duration,
    table: String,
    open: Arc<Mutex<Option<Connection>>>,
}

impl File {
    fn new(settings: &config::Database, path: &Path) -> Self {
        let (table, timeout) = (settings.table.clone(), settings.timeout);
        Self { path: path.to_owned(), timeout, table, open: Arc::default() }
    }

    async fn ask<Q: Question>(&self, question: Q) -> Result<Q::Answer, StoreError> {
        let (open, path, timeout) = (self.open.clone(), self.path.clone(), self.timeout);
        let runtime = tokio::runtime::Handle::current();
        let asked = tokio::task::spawn_blocking(move || {
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            let mut file = match open.take() {
                // A file that was replaced or removed under its name must not be written to.
                Some(file) if path.exists() => file,
                _ => {
                    // Never created: an empty file would hide a wrong path.
                    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                    let file = Connection::open_with_flags(&path, flags)?;
                    file.busy_timeout(timeout)?;
                    file
                }
            };
            let answer = runtime.block_on(question.ask(&mut file, Dialect::Sqlite))?;
            // After an error it is closed, which rolls back what may be open.
            *open = Some(file);
            Ok(answer)
        });
        let explain = |error| self.explain(error);
        asked.await.expect("a question does not panic").map_err(explain)
    }

    fn explain(&self, error: rusqlite::Error) -> StoreError {
        let at = format!("the SQLite file {}", self.path.display());
        let table = self.table.clone();
        if matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
        ) {
            return StoreError::Timeout { at, after: self.timeout };
        }
        let text = error.to_string();
        let cause = Cause::new(error);
        if text.contains("no such table") {
            StoreError::MissingTable { at, table, cause }
        } else if text.contains("no such column") || text.contains("has no column") {
            StoreError::Refused { at, table, column: None, cause }
        } else {
            StoreError::Unreachable { at, cause }
        }
    }
}
