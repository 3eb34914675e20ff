//! How long phones wait for a change: for histograms, nothing is decided by it.

use std::time::{Duration, Instant};

use super::Reconciler;
use crate::dialog::RowId;
use crate::mailbox::Account;

impl Reconciler {
    /// A change of this account came at this moment; to be called after [`set`](Self::set). Only the
    /// phones that are known now wait for it: one that subscribes later is told for another reason.
    pub fn note_change(&mut self, account: &Account, at: Instant) {
        let Some(state) = self.accounts.get_mut(account) else { return };
        state.changed = Some(at);
        for row in state.dialogs.iter() {
            let Some(dialog) = self.dialogs.get_mut(row) else { continue };
            dialog.awaits_change = dialog.delivered() != state.desired;
        }
    }

    /// How long the phone of this dialog waited for the change that it has just acknowledged, once;
    /// `None` when it was told for another reason, or has something newer to come.
    pub fn waited(&mut self, row: RowId, now: Instant) -> Option<Duration> {
        let dialog = self.dialogs.get_mut(&row).filter(|dialog| dialog.awaits_change)?;
        let account = self.accounts.get(&dialog.account)?;
        if dialog.delivered().is_none() || dialog.delivered() != account.desired {
            return None;
        }
        dialog.awaits_change = false;
        account.changed.map(|at| now.saturating_duration_since(at))
    }
}
