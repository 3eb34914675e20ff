//! Several mwid on one database ([spool] scope = own or shared).
//!
//! Each mwid publishes what it counts into `mwid_counts` and reads what the others count. The sum
//! goes the usual way, but only one mwid hands an account to its reconciler: its owner
//! ([`mwid_core::ownership`]). Who is alive stands in `mwid_nodes`. [`Cluster`] is the handle, `task` does
//! the work, `book` is the table in memory, `store` has all SQL, `state` is what both sides share.
//!
//! A mwid that cannot reach the tables keeps quiet: it cannot know whether another one has taken
//! its accounts over. It owns nothing any more when its own lease has ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mwid_core::mailbox::{Account, Mailbox};
use mwid_core::reconciler::Urgency;
use mwid_core::summary::Summary;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::{self, Config, DatabaseUrl, Scope};
use crate::dialogs::StoreError;
use crate::dialogs::session::Tables;

mod book;
mod names;
mod state;
mod store;
mod task;

pub use state::Health;
use state::Shared;
use store::Origin;
use task::Task;

/// Events that wait for the daemon's loop; each is a page at most.
const QUEUE: usize = 16;

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Under which name all write with `scope = shared`. No node can be called so.
const EVERYBODY: &str = "*";

/// What is wrong with the cluster.
#[derive(Clone, Debug, Error)]
pub enum ClusterError {
    /// The tables are not there, or not all of them.
    #[error(
        "[cluster] {at} has no table {table:?} ({cause}); make the tables of the cluster with \
         `mwid sql --apply`, or by hand with {script}"
    )]
    NoTables {
        /// Which database.
        at: String,
        /// The table.
        table: String,
        /// What the server said.
        cause: String,
        /// What makes them.
        script: String,
    },
    /// The one row of `mwid_cluster` is not there.
    #[error("[cluster] the table mwid_cluster has lost its row; run {script} again")]
    NoCounter {
        /// What makes it.
        script: String,
    },
    /// Two mwid with one name.
    #[error(
        "[cluster] another mwid says that it is node {node:?}; give each its own [cluster] node. \
         This one keeps quiet as long as the other is heard of"
    )]
    Twin {
        /// The name.
        node: String,
    },
    /// The database.
    #[error("[cluster] {0}")]
    Store(#[from] StoreError),
}

/// Why there is no name for this node.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "the host name {host:?} does not tell this mwid from others; write [cluster] node = a name of \
     its own, of letters, digits, . - and _"
)]
pub struct NoName {
    /// What the system says.
    host: String,
}

/// What the cluster tells the daemon.
#[derive(Debug)]
pub enum Event {
    /// These mailboxes hold so much, over all nodes; `None`: one of them cannot count it.
    Sums(Vec<(Mailbox, Option<Summary>)>, Urgency),
    /// The table was read for the first time.
    Loaded,
    /// What this node counts is in the table too: what has not been told is not there.
    Whole,
    /// The accounts may have other owners now.
    Membership,
    /// With a spool that all see, another one counted this differently.
    Disputed(Mailbox),
}

/// The part of a configuration that a cluster is made of; none of it can change while mwid runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    scope: Scope,
    cluster: config::Cluster,
    database: config::Database,
}

impl Settings {
    /// `None` with `scope = single`.
    #[must_use]
    pub fn of(config: &Config) -> Option<Self> {
        let scope = config.spool.scope;
        let url = config.cluster.url.clone().unwrap_or_else(|| config.database.url.clone());
        let (table, timeout) = ("mwid_counts".to_owned(), config.database.timeout);
        let database =
            config::Database { url, table, timeout, connections: 1, ..config::Database::default() };
        (scope != Scope::Single).then(|| Self { scope, cluster: config.cluster.clone(), database })
    }

    /// Where the tables are.
    #[must_use]
    pub fn database(&self) -> &config::Database {
        &self.database
    }

    fn script(&self) -> String {
        crate::shipped::path(match self.database.url {
            DatabaseUrl::MySql(_) => "sql/mysql/cluster.sql",
            DatabaseUrl::Postgres(_) => "sql/postgres/cluster.sql",
            DatabaseUrl::Sqlite(_) => "sql/sqlite/cluster.sql",
        })
    }

    fn node(&self) -> Result<String, NoName> {
        if let Some(node) = &self.cluster.node {
            return Ok(node.clone());
        }
        let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
        match config::node_name(&host) {
            Ok(node) if !node.is_empty() && !node.starts_with("localhost") => Ok(node),
            _ => Err(NoName { host }),
        }
    }
}

/// Why a cluster cannot be joined.
#[derive(Debug, Error)]
pub enum JoinError {
    /// No name for this node.
    #[error(transparent)]
    NoName(#[from] NoName),
    /// A setting that no database can take.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// This mwid's place among the others. Dropped, it is seen as dead after its lease.
#[derive(Debug)]
pub struct Cluster {
    settings: Settings,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Cluster {
    /// Starts to publish and to read. The database is reached later: it may be down.
    /// `instance` is a random number.
    ///
    /// # Errors
    /// [`JoinError`]
    pub fn join(
        settings: Settings,
        instance: u64,
    ) -> Result<(Self, mpsc::Receiver<Event>), JoinError> {
        let node = settings.node()?;
        let tables = Tables::new(&settings.database)?;
        let shared = Arc::new(Shared::new(&node, settings.scope));
        let (events, inbox) = mpsc::channel(QUEUE);
        let (stop, stopped) = watch::channel(false);
        let task = Task::new(&settings, tables, shared.clone(), events, instance);
        let task = tokio::spawn(task.run(stopped));
        tracing::info!(node, "one of several mwid");
        Ok((Self { settings, shared, stop, task }, inbox))
    }

    /// What it was made of.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The name of this node.
    #[must_use]
    pub fn node(&self) -> String {
        self.shared.lock().ownership.node().to_owned()
    }

    /// This node counted a mailbox, or was given its counts. Never blocks: newer counts replace
    /// what has not been written.
    pub fn publish(&self, mailbox: &Mailbox, summary: Summary, given: bool) {
        self.shared.observe(mailbox, summary, given);
    }

    /// This node has the mailbox and cannot count it: its last counts stand, and where there are none
    /// no node guesses.
    pub fn fail(&self, mailbox: &Mailbox) {
        self.shared.fail(mailbox);
    }

    /// This node has no spool: no count of it is waited for.
    pub fn no_spool(&self) {
        self.shared.no_spool();
    }

    /// Counts that were given before a restart: with `scope = shared` the table knows better.
    pub fn remember(&self, mailbox: &Mailbox, summary: Summary) {
        self.shared.remember(mailbox, summary);
    }

    /// The spool was counted in full: what was not seen in it is not there.
    pub fn counted_all(&self) {
        self.shared.counted_all();
    }

    /// Whether this node tells the phones of the account now.
    #[must_use]
    pub fn owns(&self, account: &Account, now: Instant) -> bool {
        self.shared.lock().owns(account, now)
    }

    /// Whether all agree that another node tells them.
    #[must_use]
    pub fn is_others(&self, account: &Account) -> bool {
        let state = self.shared.lock();
        let ownership = &state.ownership;
        state.loaded && ownership.is_agreed() && ownership.owner(account) != Some(ownership.node())
    }

    /// Whether this node has counted the mailbox in its own spool.
    #[must_use]
    pub fn counts(&self, mailbox: &Mailbox) -> bool {
        self.shared.lock().local.get(mailbox).is_some_and(|local| local.origin == Origin::Counted)
    }

    /// What this node itself counted in the mailbox, or was given.
    #[must_use]
    pub fn here(&self, mailbox: &Mailbox) -> Option<Summary> {
        let state = self.shared.lock();
        let local = state.local.get(mailbox).filter(|local| local.origin != Origin::Unknown);
        local.map(|local| local.summary)
    }

    /// Who tells them, as far as is known.
    #[must_use]
    pub fn owner(&self, account: &Account) -> Option<String> {
        self.shared.lock().ownership.owner(account).map(str::to_owned)
    }

    /// What the CSeqs of an account that this node takes over must be above.
    #[must_use]
    pub fn cseq_floor(&self, now: Instant) -> u32 {
        self.shared.lock().cseq_floor(now)
    }

    /// When this node's lease ends if it is not renewed; `None` while it has none.
    #[must_use]
    pub fn lease_end(&self) -> Option<Instant> {
        self.shared.lock().lease
    }

    /// Ends the lease if it is over, after a pause that our clock did not see; true when accounts must
    /// be let go because of that.
    #[must_use]
    pub fn lapse_after(&self, pause: Duration, now: Instant) -> bool {
        let now = now.checked_add(pause).unwrap_or(now);
        let mut state = self.shared.lock();
        let is_over = state.lease.is_some_and(|end| end <= now);
        is_over && state.lose()
    }

    /// How it is.
    #[must_use]
    pub fn health(&self) -> Health {
        self.shared.lock().health(self.settings.scope, Instant::now())
    }

    /// Owns nothing from here on: the daemon is about to stop.
    pub fn let_go(&self) {
        let mut state = self.shared.lock();
        state.leaving = true;
        state.lose();
        // The task ends by itself; nobody is left to hear of it.
        let _ = self.stop.send(true);
    }

    /// Waits until what was counted is published and the others know that this node is gone.
    pub async fn goodbye(self) {
        self.let_go();
        if tokio::time::timeout(GOODBYE, self.task).await.is_err() {
            tracing::warn!(
                "the cluster's database did not take a goodbye; the others wait for the lease to end"
            );
        }
    }
}
