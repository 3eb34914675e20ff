//! What can be seen of the dialogs and publications of one account.

use std::sync::Arc;
use std::time::Instant;

use super::Reconciler;
use super::state::{AccountState, DialogState, Pause, Phase};
use crate::dialog::RowId;
use crate::mailbox::Account;
use crate::publication::Way;
use crate::summary::Summary;

/// One dialog, for whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialogView {
    /// Its row.
    pub row: RowId,
    /// What its phone acknowledged last; `None` when it is not known what it shows.
    pub acknowledged: Option<Summary>,
    /// The highest CSeq that mwid sent or jumped to; 0: none.
    pub cseq: u32,
    /// What is done about it.
    pub progress: Progress,
    /// When it is tried next, where that is known.
    pub next: Option<Instant>,
    /// When the last NOTIFY was sent or, if it was, acknowledged; `None` where that was before a
    /// restart.
    pub last: Option<Instant>,
    /// Why the last attempt came to nothing; `None` since one succeeded.
    pub why: Option<Arc<str>>,
}

/// One publication, for whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicationView {
    /// By which way.
    pub way: Way,
    /// What its server took last; `None` when that is not known.
    pub accepted: Option<Summary>,
    /// Whether its server's entity-tag is known.
    pub has_etag: bool,
    /// When it ends at its server; `None` for never, or when that is not known.
    pub expires: Option<Instant>,
    /// What is done about it.
    pub progress: Progress,
    /// Why the last step came to nothing, in the words of its server or of its way.
    pub why: Option<Arc<str>>,
}

/// What is done about a dialog or a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Its phone or its server has what it must.
    Current,
    /// It waits for its turn.
    Waiting,
    /// A NOTIFY or a step is under way: until its answer nobody knows what the other side has.
    UnderWay,
    /// It is tried again then.
    Paused(Instant),
    /// Nobody here wants the publication any more: it is removed.
    Leaving,
    /// The phone said that the subscription is gone: left alone until its row changes.
    Gone,
}

impl DialogState {
    pub(super) fn progress(&self, desired: Option<Summary>, now: Instant) -> Progress {
        let paused = self.pause().map(Pause::until).filter(|until| *until > now);
        match (&self.phase, paused) {
            (Phase::Dead, _) => Progress::Gone,
            (Phase::Claiming(_) | Phase::InFlight(_), _) => Progress::UnderWay,
            (Phase::Ready(..), _) => Progress::Waiting,
            (Phase::Idle, _) if self.is_told(desired) => Progress::Current,
            (Phase::Idle, Some(until)) => Progress::Paused(until),
            (Phase::Idle, None) => Progress::Waiting,
        }
    }
}

impl Reconciler {
    /// The dialogs of an account as they were found at its last look-up.
    pub fn dialogs_of(&self, account: &Account, now: Instant) -> impl Iterator<Item = DialogView> {
        let state = self.accounts.get(account);
        let desired = state.and_then(|state| state.desired);
        let due = state.and_then(AccountState::due).filter(|due| *due > now);
        let rows = state.map(|state| &*state.dialogs).unwrap_or_default();
        rows.iter().filter_map(move |row| {
            let dialog = self.dialogs.get(row)?;
            let progress = dialog.progress(desired, now);
            let next = match progress {
                Progress::Paused(until) => Some(until),
                Progress::Waiting if dialog.phase == Phase::Idle => due,
                _ => None,
            };
            Some(DialogView {
                row: *row,
                acknowledged: dialog.delivered(),
                cseq: dialog.high_water,
                progress,
                next,
                last: dialog.last_sent,
                why: self.whys.get(row).cloned(),
            })
        })
    }

    /// Why the last attempt of a dialog came to nothing, until one succeeds.
    pub fn explain_dialog(&mut self, row: RowId, why: &str) {
        if self.dialogs.contains_key(&row) {
            self.whys.insert(row, why.into());
        }
    }

    /// The publications of an account, in the order of [`Way::ALL`].
    pub fn publications(
        &self,
        account: &Account,
        now: Instant,
    ) -> impl Iterator<Item = PublicationView> {
        self.publications
            .of(account)
            .map(move |(key, state)| state.view(key.1, self.wanted(key), now))
    }
}
