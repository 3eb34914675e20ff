//! Whether a dialog needs a NOTIFY, and when.

use std::sync::Arc;
use std::time::Instant;

use super::queue::Urgency;
use super::state::{DialogState, Pause, Phase};
use super::{Ready, Reconciler};
use crate::dialog::{Dialog, RowId};
use crate::mailbox::Account;

impl Reconciler {
    /// Decides whether a dialog needs a NOTIFY, and when.
    pub(super) fn consider(
        &mut self,
        account: &Account,
        dialog: Arc<Dialog>,
        acquired: Option<u32>,
        now: Instant,
    ) {
        let (identity, version) = (dialog.identity(), dialog.version());
        let row = dialog.row;
        let urgency = self.accounts.get(account).map_or(Urgency::CatchUp, |state| state.urgency);
        let remembered = &mut self.remembered;
        let mut recall = || match remembered.remove(&identity) {
            Some(past) => DialogState::remembered(account.clone(), &dialog, &past),
            None => DialogState::new(account.clone(), &dialog),
        };
        let state = self.dialogs.entry(row).or_insert_with(&mut recall);
        if state.phase.is_working() {
            if let Some(account) = self.accounts.get_mut(account) {
                account.acquired = account.acquired.max(acquired);
            }
            // Its answer will compare again, unless the row changed hands meanwhile.
            let moved = state.account != *account;
            let ended = state.ended != dialog.ended.is_some();
            if moved || ended || state.identity != identity || state.version != version {
                self.schedule(account, now + self.settings.min_interval);
            } else if matches!(state.phase, Phase::Ready(_, waits) if waits < urgency) {
                self.make_ready(row, dialog, urgency);
            }
            return;
        }
        if state.identity != identity {
            *state = recall();
        }
        if let Some(floor) = acquired {
            state.high_water = state.high_water.max(floor);
        }
        if state.account != *account {
            // Looked up by its watcher first, and now by the account that it belongs to.
            state.account = account.clone();
            state.doubt();
        }
        state.set_expires(dialog.expires);
        if state.version != version || state.ended != dialog.ended.is_some() {
            state.refresh(&dialog);
            self.whys.remove(&row);
        }
        if state.is_due_again(&dialog) {
            state.resends += 1;
            state.doubt();
        }
        let desired = self.accounts.get(account).and_then(|account| account.desired);
        let is_told = state.phase == Phase::Dead || state.is_told(desired);
        if !std::mem::replace(&mut state.seen, true) && !is_told {
            state.setback().settles = Some(now + self.settings.settle);
        }
        if is_told {
            return;
        }
        let pause = state.pause().map(Pause::until);
        let earliest = state.last_sent.map(|sent| sent + self.settings.min_interval);
        let at = earliest.max(pause).max(state.settles()).filter(|at| *at > now);
        match at {
            Some(at) => self.schedule(account, at),
            None => self.make_ready(row, dialog, urgency),
        }
    }

    /// Puts a dialog in line. One that stood in the slower line stands in both then; the first that
    /// comes to it claims, the other finds it no longer ready.
    pub(super) fn make_ready(&mut self, row: RowId, dialog: Arc<Dialog>, urgency: Urgency) {
        let Some(state) = self.dialogs.get_mut(&row) else { return };
        state.phase = Phase::Ready(dialog, urgency);
        self.ready.push(urgency, Ready::Dialog(row));
    }
}
