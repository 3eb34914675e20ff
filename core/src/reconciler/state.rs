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
    /// When it is looked up again.
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
    /// Times in a row that it was tried again at once.
    pub(super) again: u32,
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
    /// Waits for the rate limit, in the line of this urgency.
    Ready(Arc<Dialog>, Urgency),
    Claiming(Arc<Dialog>),
    InFlight(Summary),
    Dead,
}

impl Phase {
    pub(super) fn is_working(&self) -> bool {
        matches!(self, Self::Ready(..) | Self::Claiming(_) | Self::InFlight(_))
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
            again: 0,
        }
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
