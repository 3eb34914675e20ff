//! Sees new and refreshed subscriptions, so that their phones can be told the current state at
//! once: the presence server itself sends them a NOTIFY with an empty body.
//!
//! Three ways, the best that the database offers, chosen in [`Watcher::follow`]:
//!
//! - `postgres`: triggers notify, mwid listens;
//! - `changes` (MySQL, SQLite): triggers fill a small table, mwid polls it;
//! - `paging`: no triggers; new ids every second, all else by `resync`.
//!
//! Each begins with a `resync`, a paced reading of the whole table, once it is sure to see
//! whatever changes meanwhile; so nothing that happened before, or while the database was away, is
//! missed. `window` remembers ids that were seen, for those that are committed out of order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mwid_core::dialog::Row;
use mwid_core::mailbox::Account;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::health::Health;
pub use self::health::{WatchHealth, Way, Writer};
use self::sql::{ALL_PARTS, Number, PageRow};
use super::DialogStore;
use super::backoff::PAUSES;
use super::error::{Cause, StoreError};
use crate::clock;
use crate::config::{self, DatabaseUrl};

mod changes;
mod health;
mod paging;
mod postgres;
mod resync;
pub(super) mod sql;
mod window;

/// What a watch tells.
#[derive(Clone, Debug)]
pub enum Change {
    /// Rows of these accounts are new or refreshed: look them up.
    Accounts(Vec<Account>),
    /// A page of the whole table: compare with what is known.
    Page(Vec<Listed>),
    /// The whole table has been read once.
    Synced,
    /// The database fails; told once, until it works again.
    Failed(StoreError),
}

/// A live row, and the accounts that `[database] find_by` finds it by.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// The row; not believed yet.
    pub row: Row,
    /// One, or with `find_by = either` two; none when the row names no valid one.
    pub accounts: Vec<Account>,
}

/// Why the table cannot be watched, or not in the best way.
#[derive(Clone, Debug, Error)]
pub(super) enum WatchError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{at} does not let mwid LISTEN: {cause}")]
    Refused {
        at: String,
        #[source]
        cause: Cause,
    },
    #[error(
        "what mwid sent to itself with NOTIFY through {at} did not arrive; a connection pooler in \
         transaction mode does that: let [database] url name the server itself"
    )]
    Silent { at: String },
    #[error("the connection that listens at {at} broke: {cause}")]
    Lost {
        at: String,
        #[source]
        cause: Cause,
    },
    #[error(
        "the ids of mwid_changes have come to their end; empty it: mwid sql --remove, then --apply"
    )]
    Exhausted,
}

impl WatchError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Lost { .. } => true,
            Self::Refused { .. } | Self::Silent { .. } | Self::Exhausted => false,
        }
    }
}

/// Why a way of watching ended.
#[derive(Debug)]
enum Stop {
    /// Nobody listens to the watch any more.
    Closed,
    Failed(WatchError),
}

impl<E: Into<WatchError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// How patient a watch is. The default is right for any site; tests have less time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long rows of the change table are kept for other mwids.
    pub keep: Duration,
    /// How often rows that were committed late are looked for, and how often new ids without
    /// triggers.
    pub look_back: Duration,
    /// How often it is checked that the triggers are (still, or now) there.
    pub recheck: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            keep: Duration::from_secs(180),
            look_back: Duration::from_secs(1),
            recheck: Duration::from_secs(30),
        }
    }
}

/// A running watch. Dropping it ends its task.
#[derive(Debug)]
pub struct Watch {
    task: JoinHandle<()>,
    health: Arc<Mutex<Health>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Watches the table behind `store`, in which `writer` writes, and tells `changes`; waits when
    /// they are not taken. The database may be down. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(
        settings: &config::Database,
        store: DialogStore,
        changes: mpsc::Sender<Change>,
        writer: Writer,
    ) -> Self {
        Self::with_pace(settings, store, changes, writer, Pace::default())
    }

    /// [`Watch::start`] with another patience.
    #[must_use]
    pub fn with_pace(
        settings: &config::Database,
        store: DialogStore,
        changes: mpsc::Sender<Change>,
        writer: Writer,
        pace: Pace,
    ) -> Self {
        let health = Arc::new(Mutex::new(Health::new(settings, writer)));
        let watcher = Watcher {
            settings: settings.clone(),
            store,
            out: changes,
            pace,
            health: Arc::clone(&health),
            failures: 0,
            told: false,
        };
        Self { task: tokio::spawn(watcher.run()), health }
    }

    /// Which way is in use, how well, and what it costs.
    #[must_use]
    pub fn health(&self) -> WatchHealth {
        lock(&self.health).report()
    }
}

/// What the ways have in common.
struct Watcher {
    settings: config::Database,
    store: DialogStore,
    out: mpsc::Sender<Change>,
    pace: Pace,
    health: Arc<Mutex<Health>>,
    /// In a row.
    failures: u32,
    /// Whether it was told that the database fails.
    told: bool,
}

impl Watcher {
    async fn run(mut self) {
        loop {
            match self.follow().await {
                Ok(()) => {}
                Err(Stop::Closed) => return,
                Err(Stop::Failed(error)) => {
                    if self.failed(error).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(PAUSES.pause(self.failures)).await;
                }
            }
        }
    }

    async fn failed(&mut self, error: WatchError) -> Result<(), Stop> {
        self.failures = self.failures.saturating_add(1);
        self.health().failed(&error);
        match error {
            WatchError::Store(error) if !std::mem::replace(&mut self.told, true) => {
                self.tell(Change::Failed(error)).await
            }
            _ => Ok(()),
        }
    }

    /// Follows the table in the best way there is, until another may be better.
    async fn follow(&mut self) -> Result<(), Stop> {
        if !self.recheck().await? {
            return paging::follow(self, paging::Reason::NoTriggers).await;
        }
        let url = self.settings.url.clone();
        let stop = match &url {
            DatabaseUrl::Postgres(server) => postgres::follow(self, server).await,
            DatabaseUrl::MySql(_) | DatabaseUrl::Sqlite(_) => changes::follow(self).await,
        };
        match stop {
            Err(Stop::Failed(error)) if !error.is_transient() => {
                if !self.is_installed().await? {
                    return Ok(());
                }
                paging::follow(self, paging::Reason::Failed(error)).await
            }
            other => other,
        }
    }

    async fn is_installed(&self) -> Result<bool, StoreError> {
        Ok(self.store.number(Number::Parts).await? == Some(ALL_PARTS))
    }

    /// What is looked at now and then: both clocks, and whether the triggers are there.
    async fn recheck(&self) -> Result<bool, StoreError> {
        if let Some(theirs) = self.store.number(Number::Clock).await? {
            let ours = i64::try_from(clock::since_1970().as_millis()).unwrap_or(i64::MAX);
            self.health().clocks(theirs.saturating_sub(ours) / 1000);
        }
        self.is_installed().await
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        lock(&self.health)
    }

    /// This way works.
    fn works(&mut self, way: Way, reason: Option<String>) {
        (self.failures, self.told) = (0, false);
        self.health().works(way, reason);
    }

    async fn tell(&self, change: Change) -> Result<(), Stop> {
        self.out.send(change).await.map_err(|_| Stop::Closed)
    }

    /// The accounts that a row is found by.
    fn accounts(
        &self,
        presentity: Option<&str>,
        user: Option<&str>,
        domain: Option<&str>,
    ) -> Vec<Account> {
        let accounts = self.settings.find_by.accounts(presentity, user, domain);
        if accounts.is_empty() {
            self.health().rubbish();
        }
        accounts
    }

    /// Rows of the table, with their accounts.
    fn listed(&self, rows: Vec<PageRow>) -> Vec<Listed> {
        let list = |PageRow { row, watcher_user, watcher_domain }| Listed {
            accounts: self.accounts(
                row.presentity_uri.as_deref(),
                watcher_user.as_deref(),
                watcher_domain.as_deref(),
            ),
            row,
        };
        rows.into_iter().map(list).collect()
    }
}

/// A timer that begins one period from now and never makes up for lost ticks.
fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}

/// The health is whole at every moment, so a panic elsewhere does not spoil it.
fn lock(health: &Mutex<Health>) -> MutexGuard<'_, Health> {
    health.lock().unwrap_or_else(PoisonError::into_inner)
}
