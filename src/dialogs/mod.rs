//! The dialog store: `active_watchers` in one of three databases, one file each, the same verbs.
//!
//! `schema` has all SQL and tells the presence servers apart, `verbs` the questions,
//! `link` the way to a server (with `backoff` when it is down), `sqlite_thread` the way to
//! a file. [`watch`] sees rows that are new or refreshed; `script` and [`install`] are the triggers
//! that let it see them at once.

use std::sync::Arc;

use mwid_core::dialog::{ACTIVE, Dialog, Flavour, MAX_CSEQ, Row, TERMINATED};
use mwid_core::mailbox::Account;

use crate::config::{self, DatabaseUrl, Server};

pub mod agent;
mod backoff;
mod error;
mod guard;
pub mod install;
mod link;
mod mysql;
mod postgres;
mod schema;
mod script;
pub(crate) mod session;
mod sqlite;
mod sqlite_thread;
mod together;
mod verbs;
pub mod watch;

pub use error::{Cause, StoreError};
pub use script::Script;
pub use together::together;

use guard::guarded;
use link::Link;
use mysql::MySql;
use postgres::Postgres;
use sqlite::Sqlite;
use verbs::{Claim, ClaimAll, Claimed, Delete, Find, FindAll, Identity, Inspect};
use watch::sql::{Ask, ChangeRow, Changes, Number, Page, PageRow, Trim};

/// What a look-up found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The live rows, newest (highest id) first, at most `max_dialogs`.
    pub rows: Vec<Row>,
    /// More rows were there than `max_dialogs`.
    pub capped: bool,
}

/// What stands at the other end, for `mwid status` and `mwid check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Name and version: `MariaDB 10.11.6`.
    pub server: String,
    /// Whose table it is.
    pub flavour: Flavour,
    /// The table's name.
    pub table: String,
}

/// The subscriptions of a presence server, in its own database.
///
/// Cheap to clone; all clones share their connections. Nothing is connected before the first
/// question, and a database that went away is found again by the next question after it came
/// back (see `backoff`: at most 5 s later). Every answer comes within `[database] timeout`.
#[derive(Clone)]
pub enum DialogStore {
    /// MariaDB and MySQL.
    MySql(Arc<Link<MySql>>),
    /// PostgreSQL and what speaks its protocol.
    Postgres(Arc<Link<Postgres>>),
    /// An SQLite file, served by a thread that ends with the last clone.
    Sqlite(Arc<Sqlite>),
}

/// Asks whichever database it is. Its driver may panic: that is one of its errors.
macro_rules! ask {
    ($store:expr, $verb:expr) => {
        guarded(&$store.table().at, async {
            match $store {
                Self::MySql(link) => link.ask(&$verb).await,
                Self::Postgres(link) => link.ask(&$verb).await,
                Self::Sqlite(file) => file.ask($verb).await,
            }
        })
        .await
    };
}

impl DialogStore {
    /// A store for `[database]`. Connects to nothing: the database may be down.
    ///
    /// # Errors
    /// [`StoreError::BadTable`]; [`StoreError::Unreachable`] when no thread could be started.
    pub fn new(settings: &config::Database) -> Result<Self, StoreError> {
        Ok(match &settings.url {
            DatabaseUrl::MySql(server) => Self::MySql(MySql::link(settings, server)?.into()),
            DatabaseUrl::Postgres(server) => {
                Self::Postgres(Postgres::link(settings, server)?.into())
            }
            DatabaseUrl::Sqlite(path) => Self::Sqlite(Sqlite::new(settings, path)?.into()),
        })
    }

    /// The live subscriptions to `account`'s messages: event `message-summary`, active, ending
    /// after `unix` (Unix seconds), found by `[database] find_by`, at most `max_dialogs`.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::is_transient`] tells whether to try again.
    pub async fn find(&self, account: &Account, unix: u64) -> Result<Found, StoreError> {
        self.find_one(account, seconds(unix), ACTIVE).await
    }

    /// [`DialogStore::find`] for several accounts, in one question for as many as go
    /// [`together`]; and, with `ended_too`, those that have ended and whose phones may not know that
    /// yet: the rows of mwid's own presence agent. Each account has its own answer.
    pub async fn find_all(
        &self,
        accounts: &[Account],
        unix: u64,
        ended_too: bool,
    ) -> Vec<Result<Found, StoreError>> {
        let (unix, also) = (seconds(unix), if ended_too { TERMINATED } else { ACTIVE });
        let (mut all, mut rest) = (Vec::with_capacity(accounts.len()), accounts);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(together(rest.len()));
            all.extend(self.find_together(now, unix, also).await);
            rest = later;
        }
        all
    }

    async fn find_together(
        &self,
        accounts: &[Account],
        unix: i64,
        also: i64,
    ) -> Vec<Result<Found, StoreError>> {
        if let [account] = accounts {
            return vec![self.find_one(account, unix, also).await];
        }
        match ask!(self, FindAll { accounts: accounts.to_vec(), unix, also }) {
            Ok(found) => found.into_iter().map(|rows| Ok(self.found(rows))).collect(),
            Err(error) if error.is_everybodys() => vec![Err(error); accounts.len()],
            // One of them is what the server will not take: the others get their answer.
            Err(error) => {
                tracing::debug!("{} accounts are looked up one by one: {error}", accounts.len());
                let (mut all, mut alone) = (Vec::with_capacity(accounts.len()), Alone::default());
                for account in accounts {
                    all.push(alone.ask(self.find_one(account, unix, also)).await);
                }
                all
            }
        }
    }

    async fn find_one(&self, account: &Account, unix: i64, also: i64) -> Result<Found, StoreError> {
        ask!(self, Find { account: account.clone(), unix, also }).map(|rows| self.found(rows))
    }

    fn found(&self, mut rows: Vec<Row>) -> Found {
        let most = self.table().max_dialogs as usize;
        let capped = rows.len() > most;
        rows.truncate(most);
        Found { rows, capped }
    }

    /// Takes the next CSeq of a dialog for the wire: higher than what the row says in its
    /// server's counting and higher than `above`, the highest that mwid itself has sent (0 if
    /// none). `None`: the row is gone, or holds another dialog.
    ///
    /// # Errors
    /// [`StoreError::Exhausted`] when no CSeq is left below 2³¹; others as for
    /// [`DialogStore::find`].
    pub async fn claim(&self, dialog: &Dialog, above: u32) -> Result<Option<u32>, StoreError> {
        let claimed = ask!(self, Claim::of(dialog, above))?;
        settle(dialog, above, claimed)
    }

    /// [`DialogStore::claim`] for several dialogs, in one question for as many as go [`together`].
    /// Each has its own answer.
    pub async fn claim_all(
        &self,
        claims: &[(Arc<Dialog>, u32)],
    ) -> Vec<Result<Option<u32>, StoreError>> {
        let (mut all, mut rest) = (Vec::with_capacity(claims.len()), claims);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(together(rest.len()));
            all.extend(self.claim_together(now).await);
            rest = later;
        }
        all
    }

    async fn claim_together(
        &self,
        claims: &[(Arc<Dialog>, u32)],
    ) -> Vec<Result<Option<u32>, StoreError>> {
        if let [(dialog, above)] = claims {
            return vec![self.claim(dialog, *above).await];
        }
        let each = claims.iter().map(|(dialog, above)| Claim::of(dialog, *above)).collect();
        let claimed = match ask!(self, ClaimAll { claims: each }) {
            Ok(claimed) => claimed,
            Err(error) if error.is_everybodys() => return vec![Err(error); claims.len()],
            Err(error) => {
                tracing::debug!("{} CSeqs cannot be claimed together: {error}", claims.len());
                vec![None; claims.len()]
            }
        };
        let alone = claimed.iter().filter(|claimed| claimed.is_none()).count();
        if alone > 0 {
            tracing::debug!("{alone} of {} CSeqs are claimed one by one", claims.len());
        }
        let (mut all, mut alone) = (Vec::with_capacity(claims.len()), Alone::default());
        for ((dialog, above), claimed) in claims.iter().zip(claimed) {
            all.push(match claimed {
                Some(claimed) => settle(dialog, *above, claimed),
                None => alone.ask(self.claim(dialog, *above)).await,
            });
        }
        all
    }

    /// Removes a dialog's row; `false` when it was not there any more.
    ///
    /// # Errors
    /// As for [`DialogStore::find`].
    pub async fn delete(&self, dialog: &Dialog) -> Result<bool, StoreError> {
        ask!(self, Delete { identity: Identity::of(dialog) })
    }

    /// Looks at the server and, afresh, at the table's columns.
    ///
    /// # Errors
    /// As for [`DialogStore::find`].
    pub async fn probe(&self) -> Result<Probe, StoreError> {
        match self {
            Self::MySql(link) => link.forget(),
            Self::Postgres(link) => link.forget(),
            Self::Sqlite(_) => {}
        }
        self.inspect().await
    }

    /// Looks at the server; the columns are those that the last question found.
    ///
    /// # Errors
    /// As for [`DialogStore::find`].
    pub async fn inspect(&self) -> Result<Probe, StoreError> {
        let (server, flavour) = ask!(self, Inspect)?;
        Ok(Probe { server, flavour, table: self.table().name().to_owned() })
    }

    /// The live rows after an id, with the watchers' columns.
    async fn page(&self, after: i64, unix: u64, limit: i64) -> Result<Vec<PageRow>, StoreError> {
        ask!(self, Ask(Page { after, unix: seconds(unix), limit }))
    }

    /// The live rows after an id, in the order of their ids, each with the accounts that it is found
    /// by: for whoever looks at all of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn live_rows(
        &self,
        (after, limit): (i64, i64),
        unix: u64,
        find_by: config::FindBy,
    ) -> Result<Vec<(Row, Vec<Account>)>, StoreError> {
        let found = |PageRow { row, watcher_user, watcher_domain }: PageRow| {
            let accounts = find_by.accounts(
                row.presentity_uri.as_deref(),
                watcher_user.as_deref(),
                watcher_domain.as_deref(),
            );
            (row, accounts)
        };
        Ok(self.page(after, unix, limit).await?.into_iter().map(found).collect())
    }

    /// The rows of the change table after an id.
    async fn changes(&self, after: i64, limit: i64) -> Result<Vec<ChangeRow>, StoreError> {
        ask!(self, Ask(Changes { after, limit }))
    }

    /// A number that the database knows, `None` for NULL.
    async fn number(&self, number: Number) -> Result<Option<i64>, StoreError> {
        let rows = ask!(self, Ask(number))?;
        Ok(rows.into_iter().next().flatten())
    }

    /// Deletes the oldest rows of the change table; says how many.
    async fn trim(&self, upto: i64, limit: i64) -> Result<u64, StoreError> {
        ask!(self, Trim { upto, limit })
    }

    fn table(&self) -> &schema::Table {
        match self {
            Self::MySql(link) => link.table(),
            Self::Postgres(link) => link.table(),
            Self::Sqlite(file) => file.table(),
        }
    }
}

/// Asks one after the other what did not go together, until the database is not there: one row may be
/// locked, three that are not answered in time are no accident.
#[derive(Default)]
struct Alone {
    late: u32,
    error: Option<StoreError>,
}

impl Alone {
    async fn ask<T>(
        &mut self,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let answer = question.await;
        if let Err(error) = &answer
            && error.is_everybodys()
        {
            self.late += 1;
            let is_away = matches!(error, StoreError::Unreachable { .. });
            self.error = Some(error.clone()).filter(|_| is_away || self.late > 2);
        }
        answer
    }
}

/// What a claim came to. A CSeq that cannot be is none.
fn settle(dialog: &Dialog, above: u32, claimed: Claimed) -> Result<Option<u32>, StoreError> {
    let wire = match claimed {
        Claimed::Gone => return Ok(None),
        Claimed::Exhausted => None,
        Claimed::Wire(wire) => u32::try_from(wire).ok(),
    };
    let fits = |wire: &u32| *wire > above && *wire <= MAX_CSEQ;
    wire.filter(fits).map(Some).ok_or(StoreError::Exhausted { row: dialog.row })
}

fn seconds(unix: u64) -> i64 {
    i64::try_from(unix).unwrap_or(i64::MAX)
}

/// A server in words, without its password.
fn describe(kind: &str, server: &Server) -> String {
    let Server { host, port, user, database, .. } = server;
    match &server.socket {
        Some(socket) => {
            format!("{kind} at {}, database {database:?}, as {user:?}", socket.display())
        }
        None => format!("{kind} at {host}:{port}, database {database:?}, as {user:?}"),
    }
}
