//! Whether a dialog needs a NOTIFY, and when.

use std::sync::Arc;
use std::time::Instant;

use super::queue::Urgency;
use super::state::{DialogState, Pause, Phase};
use super::{Ready, Reconciler};
use crate::dialog::{Dialog, Identity, RowId};
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
        if !self.dialogs.contains_key(&row) && self.is_under_way(account, identity) {
            self.keep_floor(account, acquired);
            return self.schedule(account, now + self.settings.min_interval);
        }
        let remembered = &mut self.remembered;
        let mut recall = || match remembered.remove(&identity) {
            Some(past) => DialogState::remembered(account.clone(), &dialog, identity, &past),
            None => DialogState::new(account.clone(), &dialog, identity, version),
        };
        let state = self.dialogs.entry(row).or_insert_with(&mut recall);
        if state.phase.is_working() {
            // Its answer will compare again, unless the row changed hands meanwhile.
            let moved = state.account != *account;
            let ended = state.ended != dialog.ended.is_some();
            let is_slow = matches!(state.phase, Phase::Ready(_, waits) if waits < urgency);
            if moved || ended || state.identity != identity || state.version != version {
                self.schedule(account, now + self.settings.min_interval);
            } else if is_slow {
                self.make_ready(row, dialog, urgency);
            }
            return self.keep_floor(account, acquired);
        }
        if state.identity != identity {
            // Ids moved, and whose row this was has another one now: its CSeq must not fall there.
            let other = std::mem::replace(state, recall());
            self.whys.remove(&row);
            self.remembered.insert(other.identity, other.remember());
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
            state.refresh(&dialog, version);
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

    /// The next look-up of the account takes its dialogs over from there.
    fn keep_floor(&mut self, account: &Account, acquired: Option<u32>) {
        if let Some(account) = self.accounts.get_mut(account).filter(|_| acquired.is_some()) {
            let kept = &mut account.delay().acquired;
            *kept = (*kept).max(acquired);
        }
    }

    /// Whether this dialog is being told under the id of a row that is no longer there: a presence
    /// server wrote its rows anew, or another database is read. Its CSeq and its answer are that
    /// row's until it ends (RFC 6665 §4.2.2).
    fn is_under_way(&self, account: &Account, identity: Identity) -> bool {
        let rows = self.accounts.get(account).map(|state| &*state.dialogs).unwrap_or_default();
        let mut own = rows.iter().filter_map(|row| self.dialogs.get(row));
        own.any(|dialog| dialog.identity == identity && dialog.phase.is_working())
    }

    /// Puts a dialog in line. One that stood in the slower line stands in both then; the first that
    /// comes to it claims, the other finds it no longer ready.
    pub(super) fn make_ready(&mut self, row: RowId, dialog: Arc<Dialog>, urgency: Urgency) {
        let Some(state) = self.dialogs.get_mut(&row) else { return };
        state.phase = Phase::Ready(dialog, urgency);
        self.ready.push(urgency, Ready::Dialog(row));
    }
}
