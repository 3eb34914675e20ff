//! What the daemon and the cluster's task share.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mwid_core::dialog::MAX_CSEQ;
use mwid_core::mailbox::{Account, Mailbox};
use mwid_core::ownership::Ownership;
use mwid_core::summary::Summary;
use serde::Serialize;
use tokio::sync::Notify;

use super::store::Origin;
use crate::config::Scope;

/// 2020-01-01 in Unix seconds: half of all CSeqs last until 2054, and the next half is left to
/// those who count.
const CSEQ_EPOCH: i64 = 1_577_836_800;

/// The shared state, and how the task is woken.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) scope: Scope,
    pub(super) wake: Notify,
    state: Mutex<State>,
}

/// What this node observed of a mailbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local {
    pub(super) summary: Summary,
    pub(super) origin: Origin,
    pub(super) at: Instant,
    /// Where the table has the mailbox, the table is right: it is from before a restart, or not known.
    pub(super) old: bool,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) ownership: Ownership,
    /// Until when the others take this node for alive, if it is not heard of again.
    pub(super) lease: Option<Instant>,
    /// The table was read in full.
    pub(super) loaded: bool,
    pub(super) leaving: bool,
    pub(super) local: HashMap<Mailbox, Local>,
    /// What has to be compared with the table.
    pub(super) dirty: HashSet<Mailbox>,
    /// The spool was counted in full; taken when the table is compared with that.
    pub(super) counted_all: bool,
    /// There is a spool that is to be counted in full first.
    pub(super) has_spool: bool,
    /// Mailboxes in the table.
    pub(super) mailboxes: usize,
    pub(super) published: u64,
    pub(super) bad_rows: u64,
    pub(super) error: Option<String>,
    pub(super) looked: Option<Instant>,
    /// The database's clock at some instant, in milliseconds of Unix time.
    pub(super) clock: Option<(Instant, i64)>,
}

/// How the cluster is, for `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The name of this node.
    pub node: String,
    /// `own` or `shared`.
    pub scope: &'static str,
    /// The live nodes as this one sees them.
    pub live: Vec<String>,
    /// Whether they all see the same.
    pub agreed: bool,
    /// Milliseconds until this node's lease ends; 0 when it has none.
    pub lease_ms: u64,
    /// Mailboxes in the table.
    pub mailboxes: usize,
    /// Observations that are not in the table yet.
    pub unpublished: usize,
    /// Rows written since the start.
    pub published: u64,
    /// Rows that could not be believed.
    pub bad_rows: u64,
    /// Milliseconds since the table was looked at; `None`: never.
    pub lag_ms: Option<u64>,
    /// What is wrong now.
    pub error: Option<String>,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} (scope {}), live: ", self.node, self.scope)?;
        match self.live.as_slice() {
            [] => f.write_str("nobody that is known")?,
            live => f.write_str(&live.join(" "))?,
        }
        if !self.live.is_empty() && !self.agreed {
            f.write_str(" (not agreed yet)")?;
        }
        if self.unpublished > 0 {
            write!(f, ", {} counts not published", self.unpublished)?;
        }
        if self.bad_rows > 0 {
            write!(f, ", {} rows not believed", self.bad_rows)?;
        }
        match (&self.error, self.lag_ms) {
            (Some(error), _) => write!(f, "; {error}"),
            (None, Some(lag)) => write!(f, ", read {lag} ms ago"),
            (None, None) => f.write_str(", not read yet"),
        }
    }
}

impl Shared {
    pub(super) fn new(node: &str, scope: Scope) -> Self {
        let state = State {
            ownership: Ownership::new(node),
            lease: None,
            loaded: false,
            leaving: false,
            local: HashMap::new(),
            dirty: HashSet::new(),
            counted_all: false,
            has_spool: true,
            mailboxes: 0,
            published: 0,
            bad_rows: 0,
            error: None,
            looked: None,
            clock: None,
        };
        Self { scope, wake: Notify::new(), state: Mutex::new(state) }
    }

    /// The data behind this lock is whole at every moment.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn observe(&self, mailbox: &Mailbox, summary: Summary, given: bool) {
        let origin = if given { Origin::Given } else { Origin::Counted };
        let local = Local { summary, origin, at: Instant::now(), old: false };
        let mut state = self.lock();
        state.local.insert(mailbox.clone(), local);
        state.dirty.insert(mailbox.clone());
        self.wake.notify_one();
    }

    pub(super) fn remember(&self, mailbox: &Mailbox, summary: Summary) {
        let old = self.scope == Scope::Shared;
        let local = Local { summary, origin: Origin::Given, at: Instant::now(), old };
        let mut state = self.lock();
        state.local.insert(mailbox.clone(), local);
        state.dirty.insert(mailbox.clone());
    }

    /// It could not be counted: its last counts stand, where there are some.
    pub(super) fn fail(&self, mailbox: &Mailbox) {
        let mut state = self.lock();
        if state.local.contains_key(mailbox) {
            return;
        }
        let (summary, origin) = (Summary::default(), Origin::Unknown);
        let local = Local { summary, origin, at: Instant::now(), old: true };
        state.local.insert(mailbox.clone(), local);
        state.dirty.insert(mailbox.clone());
        self.wake.notify_one();
    }

    pub(super) fn no_spool(&self) {
        self.lock().has_spool = false;
        self.wake.notify_one();
    }

    pub(super) fn counted_all(&self) {
        self.lock().counted_all = true;
        self.wake.notify_one();
    }
}

impl State {
    pub(super) fn owns(&self, account: &Account, now: Instant) -> bool {
        self.loaded && self.lease.is_some_and(|end| now < end) && self.ownership.owns(account)
    }

    /// Owns nothing any more. True when it may have owned something.
    pub(super) fn lose(&mut self) -> bool {
        self.lease = None;
        self.ownership.lose()
    }

    /// The CSeq that no other mwid has come to: seconds of the database's clock (RFC 3261 §8.1.1.5
    /// suggests a clock). A dialog is told once a second at most, so its CSeqs fall behind it.
    pub(super) fn cseq_floor(&self, now: Instant) -> u32 {
        let Some((at, millis)) = self.clock else { return 0 };
        let passed = i64::try_from(now.saturating_duration_since(at).as_secs()).unwrap_or(0);
        let floor = (millis / 1000).saturating_add(passed).saturating_sub(CSEQ_EPOCH);
        u32::try_from(floor).ok().filter(|floor| *floor < MAX_CSEQ / 2).unwrap_or_default()
    }

    pub(super) fn health(&self, scope: Scope, now: Instant) -> Health {
        let scope = if scope == Scope::Shared { "shared" } else { "own" };
        let millis =
            |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Health {
            node: self.ownership.node().to_owned(),
            scope,
            live: self.ownership.live().to_vec(),
            agreed: self.ownership.is_agreed(),
            lease_ms: self.lease.map_or(0, |end| millis(end.saturating_duration_since(now))),
            mailboxes: self.mailboxes,
            unpublished: self.dirty.len(),
            published: self.published,
            bad_rows: self.bad_rows,
            lag_ms: self.looked.map(|at| millis(now.saturating_duration_since(at))),
            error: self.error.clone(),
        }
    }
}
