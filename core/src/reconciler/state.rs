//! What is remembered of an account and of a dialog.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use super::queue::Urgency;
use crate::dialog::{Dialog, RowId};
use crate::mailbox::Account;
use crate::summary::Summary;

#[derive(Debug)]
pub(super) struct AccountState {
    pub(super) desired: Summary,
    /// Waits in a look-up queue.
    pub(super) queued: bool,
    /// A look-up is under way.
    pub(super) finding: bool,
    /// Something changed during the look-up: look up again.
    pub(super) again: Option<Urgency>,
    /// Look-ups that failed in a row.
    pub(super) failures: u32,
    /// The earliest timer in the heap; a heap entry for another time is stale.
    pub(super) due: Option<Instant>,
    pub(super) urgency: Urgency,
    pub(super) dialogs: Vec<RowId>,
}

#[derive(Debug)]
pub(super) struct DialogState {
    pub(super) account: Account,
    /// Hash of Call-ID and tags: whose row this is.
    pub(super) identity: u64,
    /// Hash of what a refresh changes: tells a dead row that came back to life.
    pub(super) version: u64,
    pub(super) delivered: Option<Summary>,
    /// The highest CSeq that mwid sent or jumped to.
    pub(super) high_water: u32,
    pub(super) phase: Phase,
    pub(super) last_sent: Option<Instant>,
    pub(super) pause: Option<Pause>,
    pub(super) failures: u32,
    /// 500s in a row.
    pub(super) too_low: usize,
    /// When this version was first seen: the server's own NOTIFY is about to go out.
    pub(super) since: Option<Instant>,
    /// Looks back at this version, for a NOTIFY of the server's own.
    pub(super) checks: u8,
    /// NOTIFYs that were sent again because the server had sent one of its own after mwid's.
    pub(super) resends: u8,
}

/// Why a dialog is not tried again yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pause {
    /// Our own back-off: a fresh voicemail ends it.
    Backoff(Instant),
    /// Retry-After: the peer asked for it.
    Told(Instant),
}

impl Pause {
    pub(super) fn until(self) -> Instant {
        match self {
            Self::Backoff(at) | Self::Told(at) => at,
        }
    }
}

#[derive(Debug, PartialEq)]
pub(super) enum Phase {
    Idle,
    /// Waits for the rate limit.
    Ready(Arc<Dialog>),
    Claiming(Arc<Dialog>),
    InFlight(Summary),
    Dead,
}

impl Phase {
    pub(super) fn is_working(&self) -> bool {
        matches!(self, Self::Ready(_) | Self::Claiming(_) | Self::InFlight(_))
    }
}

impl AccountState {
    pub(super) fn new(desired: Summary) -> Self {
        Self {
            desired,
            queued: false,
            finding: false,
            again: None,
            failures: 0,
            due: None,
            urgency: Urgency::CatchUp,
            dialogs: Vec::new(),
        }
    }
}

impl DialogState {
    pub(super) fn new(account: Account, identity: u64, version: u64) -> Self {
        Self {
            account,
            identity,
            version,
            delivered: None,
            high_water: 0,
            phase: Phase::Idle,
            last_sent: None,
            pause: None,
            failures: 0,
            too_low: 0,
            since: None,
            checks: 0,
            resends: 0,
        }
    }

    /// Whether the row counts further than mwid did: the server sent a NOTIFY of its own after
    /// the one that the phone took, and its empty body may be what the phone has now.
    pub(super) fn is_overtaken(&self, dialog: &Dialog) -> bool {
        self.delivered.is_some() && dialog.sent_cseq.is_some_and(|sent| sent > self.high_water)
    }
}

pub(super) fn identity(dialog: &Dialog) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&dialog.call_id, &dialog.local_tag, &dialog.remote_tag).hash(&mut hasher);
    hasher.finish()
}

pub(super) fn version(dialog: &Dialog) -> u64 {
    let mut hasher = DefaultHasher::new();
    (dialog.remote_cseq, dialog.expires, &dialog.remote_target).hash(&mut hasher);
    hasher.finish()
}
