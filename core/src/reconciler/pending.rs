//! Which accounts wait, and for what: for whoever asks, not for the hot path.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use super::Reconciler;
use super::state::{AccountState, Phase};
use super::view::Progress;
use crate::mailbox::Account;
use crate::summary::Summary;

/// What an account waits for, the more telling the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wait {
    /// It is its turn a little later: a second between two NOTIFYs, a row that has just changed.
    Pace,
    /// Its dialogs are being looked up, or it stands in line for that.
    LookUp,
    /// It is in line for the rate limit.
    Rate,
    /// A CSeq is being claimed.
    Claim,
    /// A NOTIFY or a step of a publication is under way.
    Answer,
    /// The last attempt came to nothing: it is tried again later.
    Retry,
    /// Its dialogs could not be looked up.
    LookUpFailed,
}

/// An account with something left to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending<'a> {
    /// The account.
    pub account: &'a Account,
    /// What its phones must show.
    pub desired: Option<Summary>,
    /// What it waits for.
    pub wait: Wait,
    /// When it goes on, where that is known.
    pub next: Option<Instant>,
    /// Why the last attempt came to nothing.
    pub why: Option<Arc<str>>,
    /// Dialogs and publications that are not as they must be.
    pub left: usize,
}

/// What tells most of what was found, and how much was.
#[derive(Default)]
struct Found {
    most: Option<(Wait, Option<Instant>, Option<Arc<str>>)>,
    left: usize,
}

impl Found {
    fn note(&mut self, wait: Wait, next: Option<Instant>, why: Option<Arc<str>>) {
        if self.most.as_ref().is_none_or(|(most, ..)| wait > *most) {
            self.most = Some((wait, next, why));
        }
    }
}

impl Reconciler {
    /// All accounts that wait, each once, in no order.
    pub fn pending(&self, now: Instant) -> impl Iterator<Item = Pending<'_>> {
        let waits = |account| self.accounts.get(account).is_some_and(|state| self.waits(state));
        let told = self.accounts.keys().filter(move |account| waits(account));
        // An account may be published in several ways.
        let left: HashSet<_> = self.unsettled(now).filter(|account| !waits(account)).collect();
        told.chain(left).filter_map(move |account| self.pending_of(account, now))
    }

    /// What this account waits for; `None` when all is as it must be.
    #[must_use]
    pub fn pending_of<'a>(&'a self, account: &'a Account, now: Instant) -> Option<Pending<'a>> {
        let mut found = Found::default();
        for view in self.publications(account, now) {
            match view.progress {
                Progress::Current | Progress::Gone => continue,
                Progress::Waiting | Progress::Leaving => found.note(Wait::Rate, None, view.why),
                Progress::UnderWay => found.note(Wait::Answer, None, view.why),
                Progress::Paused(until) => found.note(Wait::Retry, Some(until), view.why),
            }
            found.left += 1;
        }
        let state = self.accounts.get(account);
        if let Some(state) = state {
            self.look_at_dialogs(state, &mut found, now);
        }
        let (desired, left) = (state.and_then(|state| state.desired), found.left);
        let (wait, next, why) = found.most?;
        Some(Pending { account, desired, wait, next, why, left })
    }

    fn look_at_dialogs(&self, state: &AccountState, found: &mut Found, now: Instant) {
        for row in state.dialogs.iter() {
            let Some(dialog) = self.dialogs.get(row) else { continue };
            let why = || self.whys.get(row).cloned();
            match (&dialog.phase, dialog.progress(state.desired, now)) {
                (_, Progress::Current | Progress::Gone) => continue,
                (_, Progress::Paused(until)) => found.note(Wait::Retry, Some(until), why()),
                (Phase::Ready(..), _) => found.note(Wait::Rate, None, why()),
                (Phase::Claiming(_), _) => found.note(Wait::Claim, None, why()),
                (Phase::InFlight(_), _) => found.note(Wait::Answer, None, why()),
                // The account says when it is looked at.
                (Phase::Idle | Phase::Dead, _) => {}
            }
            found.left += 1;
        }
        let due = state.due().filter(|due| *due > now);
        if state.failures() > 0 {
            found.note(Wait::LookUpFailed, due, None);
        } else if state.queued || state.finding {
            found.note(Wait::LookUp, None, None);
        } else if state.due().is_some() {
            found.note(Wait::Pace, due, None);
        }
    }

    /// Whether something of its dialogs is left to do.
    pub(super) fn waits(&self, state: &AccountState) -> bool {
        let working = |row| self.dialogs.get(row).is_some_and(|dialog| dialog.phase.is_working());
        state.queued || state.finding || state.due().is_some() || state.dialogs.iter().any(working)
    }

    /// The accounts whose publications are not all as they must be.
    fn unsettled(&self, now: Instant) -> impl Iterator<Item = &Account> {
        self.publications.all().filter_map(move |(key, state)| {
            let progress = state.view(key.1, self.wanted(key), now).progress;
            (progress != Progress::Current).then_some(&key.0)
        })
    }
}
