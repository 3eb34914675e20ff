//! What mwid's own presence agent does to the table: it makes, changes and ends subscriptions.
//!
//! Each question is written once, over a [`Session`], for all three databases; `sql` has the
//! statements. All may be asked again after a broken connection: twice is as good as once.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use mwid_core::agent::{GRACE, InDialog, Stored};
use mwid_core::dialog::Row;
use mwid_core::mailbox::Account;
use rusqlite::Connection;

use super::DialogStore;
use super::error::StoreError;
use super::link::{Server, Verb};
use super::mysql::MySql;
use super::postgres::Postgres;
use super::schema::Schema;
use super::session::Session;
use super::sqlite;

mod ends;
mod file;
mod rows;
pub(super) mod sql;

pub use file::prepare;

use ends::{End, Ended, Purge, Why};
use rows::{Count, Insert, Update};

/// What a sweep of the table found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Whose subscriptions ended just now: their phones are to be told.
    pub accounts: Vec<Account>,
    /// How many ended. When it is as many as were asked for, there may be more.
    pub ended: usize,
    /// How many rows were deleted whose farewell is over.
    pub deleted: u64,
}

/// Asks whichever database it is.
macro_rules! ask {
    ($store:expr, $errand:expr) => {
        super::guarded(&$store.table().at, async {
            match $store {
                DialogStore::MySql(link) => link.ask(&Run($errand)).await,
                DialogStore::Postgres(link) => link.ask(&Run($errand)).await,
                DialogStore::Sqlite(file) => file.ask(Run($errand)).await,
            }
        })
        .await
    };
}

impl DialogStore {
    /// Inserts the row of a new subscription. One with the same Call-ID and tags that is there
    /// already is left as it is when the same SUBSCRIBE made it a moment ago; otherwise its phone has
    /// forgotten it, and it is replaced. When the account has `bound` rows, the oldest one with the same
    /// `contact` and watcher gives way (a phone that started again); without one it is [`Stored::AccountFull`].
    ///
    /// The bound may be passed by as many as are inserted at the same moment.
    ///
    /// # Errors
    /// As for [`DialogStore::find`].
    pub async fn insert(
        &self,
        row: &Row,
        status: i64,
        unix: u64,
        bound: u32,
    ) -> Result<Stored, StoreError> {
        let insert = Insert { row: row.clone(), status, unix: seconds(unix), bound: bound.into() };
        ask!(self, insert)
    }

    /// Changes the live row of a dialog, or one that was live [`GRACE`] ago. It `ends` for that reason.
    ///
    /// # Errors
    /// As for [`DialogStore::find`].
    pub async fn update(
        &self,
        dialog: &InDialog,
        expires: u64,
        ends: Option<&'static str>,
        unix: u64,
    ) -> Result<Stored, StoreError> {
        let (expires, unix) = (seconds(expires), seconds(unix.saturating_sub(GRACE)));
        ask!(self, Update { dialog: dialog.clone(), expires, ends, unix })
    }

    /// Ends at most `limit` subscriptions whose time is over since [`GRACE`], and deletes as many rows at most whose
    /// farewell is over.
    ///
    /// # Errors
    /// As for [`DialogStore::find`].
    pub async fn sweep(&self, unix: u64, limit: u32) -> Result<Swept, StoreError> {
        let (unix, limit) = (seconds(unix), i64::from(limit));
        let ended: Vec<String> = ask!(self, End { why: Why::Over, unix, limit })?;
        let deleted = ask!(self, Purge { unix, limit })?;
        Ok(Swept { ended: ended.len(), accounts: accounts(ended), deleted })
    }

    /// Ends at most `limit` live subscriptions that this mwid answered: those with its Contact.
    ///
    /// # Errors
    /// As for [`DialogStore::find`].
    pub async fn drain(
        &self,
        local_contact: &str,
        unix: u64,
        limit: u32,
    ) -> Result<Swept, StoreError> {
        let why = Why::Drained { local_contact: local_contact.to_owned() };
        let ended: Vec<String> =
            ask!(self, End { why: why.clone(), unix: seconds(unix), limit: limit.into() })?;
        Ok(Swept { ended: ended.len(), accounts: accounts(ended), deleted: 0 })
    }

    /// The rows of subscriptions that have ended and whose phones may not know that yet: id and account.
    ///
    /// # Errors
    /// As for [`DialogStore::find`].
    pub async fn ended(&self, unix: u64) -> Result<Vec<(i64, Account)>, StoreError> {
        ask!(self, Ended { unix: seconds(unix) })
    }

    /// How many rows there are.
    ///
    /// # Errors
    /// As for [`DialogStore::find`].
    pub async fn count(&self) -> Result<u64, StoreError> {
        ask!(self, Count)
    }
}

fn seconds(unix: u64) -> i64 {
    i64::try_from(unix).unwrap_or(i64::MAX)
}

/// Each once. What is no account was not written by the agent, and is told nothing.
fn accounts(uris: Vec<String>) -> Vec<Account> {
    let mut uris = uris;
    uris.sort_unstable();
    uris.dedup();
    uris.iter().filter_map(|uri| uri.parse().ok()).collect()
}

/// A question of the agent, whichever database answers.
trait Errand: Send + Sync + 'static {
    type Answer: Send + 'static;

    fn run<S: Session>(
        &self,
        session: &mut S,
        schema: &Schema,
    ) -> impl Future<Output = Result<Self::Answer, S::Error>> + Send;
}

/// An [`Errand`] as each kind of database takes it.
struct Run<E>(E);

impl<E: Errand> Verb<MySql> for Run<E> {
    type Answer = E::Answer;

    async fn ask(
        &self,
        connection: &mut <MySql as Server>::Connection,
        schema: &Schema,
    ) -> Result<E::Answer, <MySql as Server>::Error> {
        self.0.run(connection, schema).await
    }
}

impl<E: Errand> Verb<Postgres> for Run<E> {
    type Answer = E::Answer;

    async fn ask(
        &self,
        connection: &mut <Postgres as Server>::Connection,
        schema: &Schema,
    ) -> Result<E::Answer, <Postgres as Server>::Error> {
        self.0.run(connection, schema).await
    }
}

impl<E: Errand> sqlite::Verb for Run<E> {
    type Answer = E::Answer;
    const WRITES: bool = true;

    fn ask(&self, file: &mut Connection, schema: &Schema) -> rusqlite::Result<E::Answer> {
        let mut asked = pin!(self.0.run(file, schema));
        match asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer,
            Poll::Pending => unreachable!("an SQLite file answers at once"),
        }
    }
}
