//! What can be asked of the reconciler: for `status`, `show` and `notify`, not for the hot path.

use std::time::Instant;

use super::Reconciler;
use super::state::{DialogState, Phase};
use crate::dialog::{Dialog, RowId};
use crate::mailbox::Account;
use crate::summary::Summary;

/// How much there is and how much is left to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Accounts whose summary is known.
    pub accounts: usize,
    /// Accounts with something left to look up, to send or to retry.
    pub waiting: usize,
    /// Dialogs seen at the last look-up of their account.
    pub dialogs: usize,
    /// Dialogs whose phone acknowledged all that is known.
    pub delivered: usize,
    /// Dialogs with a claim or a NOTIFY under way, and publications with a step under way.
    pub in_flight: usize,
    /// Dialogs left alone because their phone said that they are gone.
    pub dead: usize,
    /// Publications that servers have or are to have, or are to remove.
    pub publications: usize,
    /// Publications whose server took the current summary.
    pub published: usize,
}

/// The same in short, without looking at every account: for what is asked all the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Accounts that are known.
    pub accounts: usize,
    /// Dialogs seen at the last look-up of their account.
    pub dialogs: usize,
    /// What is in line, under way or paused: look-ups, claims and NOTIFYs, steps of publications
    /// but not those that are paused. 0 when nothing is left to do.
    pub waiting: usize,
}

/// How the dialogs of one account stand, and whether it has publications.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Live dialogs.
    pub dialogs: usize,
    /// Those whose phone said that they are gone: left alone until they change.
    pub dead: usize,
    /// Those that wait before they are tried again.
    pub paused: usize,
    /// Those with a claim or a NOTIFY under way.
    pub working: usize,
    /// Publications of the account.
    pub publications: usize,
}

impl Reconciler {
    /// What an account's phones must show; `None` when no source has said it yet.
    #[must_use]
    pub fn desired(&self, account: &Account) -> Option<Summary> {
        self.accounts.get(account).and_then(|state| state.desired)
    }

    /// What the phones of an account show, as far as they acknowledged it.
    pub fn delivered_to(&self, account: &Account) -> impl Iterator<Item = (RowId, Summary)> {
        let rows = self.accounts.get(account).map(|state| &*state.dialogs);
        rows.unwrap_or_default().iter().filter_map(|row| {
            let delivered = self.dialogs.get(row).and_then(DialogState::delivered);
            delivered.map(|summary| (*row, summary))
        })
    }

    /// Whether nothing of this account is under way or about to be: what is left is to be tried
    /// again later, or nothing.
    #[must_use]
    pub fn is_settled(&self, account: &Account, now: Instant) -> bool {
        let Some(state) = self.accounts.get(account) else { return true };
        let soon = now + self.settings.min_interval.max(self.settings.settle);
        let working = |row| self.dialogs.get(row).is_some_and(|dialog| dialog.phase.is_working());
        !state.queued
            && !state.finding
            && state.due().is_none_or(|due| due > soon)
            && !state.dialogs.iter().any(working)
            && self.publications.is_settled(account, soon)
    }

    /// Whether every phone of this account that was found has acknowledged what it must show, or
    /// said that it is gone. False for an account that is not told here.
    #[must_use]
    pub fn is_told(&self, account: &Account) -> bool {
        let Some(state) = self.accounts.get(account) else { return false };
        let told = |row| {
            self.dialogs.get(row).is_none_or(|dialog| {
                dialog.phase == Phase::Dead
                    || !dialog.phase.is_working() && dialog.is_told(state.desired)
            })
        };
        !state.queued && !state.finding && state.dialogs.iter().all(told)
    }

    /// Why nothing of an account is under way.
    #[must_use]
    pub fn standing(&self, account: &Account, now: Instant) -> Standing {
        let rows = self.accounts.get(account).map(|state| &*state.dialogs);
        let publications = self.publications.of(account).count();
        let mut standing = Standing { publications, ..Standing::default() };
        for dialog in rows.unwrap_or_default().iter().filter_map(|row| self.dialogs.get(row)) {
            standing.dialogs += 1;
            standing.dead += usize::from(dialog.phase == Phase::Dead);
            standing.working += usize::from(dialog.phase.is_working());
            let paused = dialog.pause().is_some_and(|pause| pause.until() > now);
            standing.paused += usize::from(paused);
        }
        standing
    }

    /// Whether this row was seen as it is now: the same dialog, not refreshed since, and the server
    /// has sent no NOTIFY of its own. Then a look-up would bring nothing new, for a dead row neither.
    #[must_use]
    pub fn knows(&self, dialog: &Dialog) -> bool {
        self.dialogs.get(&dialog.row).is_some_and(|state| {
            state.identity == dialog.identity()
                && state.version == dialog.version()
                && !state.is_due_again(dialog)
        })
    }

    /// How much there is and is left to do, in no time.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        let in_line = self.lookups.len() + self.ready.len() + self.timers.len();
        Backlog {
            accounts: self.accounts.len(),
            dialogs: self.dialogs.len(),
            waiting: in_line + self.finding + self.in_flight,
        }
    }

    /// Counts everything: for `status`, not for the hot path.
    #[must_use]
    pub fn census(&self) -> Census {
        let mut census = Census {
            accounts: self.accounts.values().filter(|state| state.desired.is_some()).count(),
            dialogs: self.dialogs.len(),
            in_flight: self.in_flight,
            publications: self.publications.len(),
            published: self.tallies().iter().map(|(_, _, current)| current).sum(),
            ..Census::default()
        };
        for dialog in self.dialogs.values() {
            let desired = self.desired(&dialog.account);
            census.dead += usize::from(dialog.phase == Phase::Dead);
            census.delivered += usize::from(dialog.is_told(desired));
        }
        for state in self.accounts.values() {
            census.waiting += usize::from(self.waits(state));
        }
        census
    }
}
