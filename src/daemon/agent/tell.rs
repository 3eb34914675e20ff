//! Whose phones are told because of a SUBSCRIBE, and when.

use std::time::Instant;

use mwid_core::dialog::{ACTIVE, Row};
use mwid_core::mailbox::Account;
use mwid_core::reconciler::Urgency;

use crate::daemon::Daemon;

impl Daemon {
    /// A row of an account was made or changed: its phones are told what is true. `expires` are the
    /// seconds of a new subscription.
    pub(super) fn tell_of(&mut self, account: Account, expires: Option<u32>, now: Instant) {
        // With several mwid its owner sees the row, too.
        if !self.owns(&account) {
            return;
        }
        if self.reconciler.desired(&account).is_none()
            && let Some(presence) = &mut self.presence
            && presence.patient_until.is_some_and(|until| until > now)
        {
            presence.waiting.insert(account, expires);
            return;
        }
        self.want_counts_of(&account, expires);
        self.reconciler.introduce(&account);
        self.reconciler.look_up(&account, Urgency::Fresh);
    }

    /// All is counted, or nobody waits for that any longer.
    pub(in crate::daemon) fn counts_are_known(&mut self, now: Instant) {
        let Some(presence) = &mut self.presence else { return };
        presence.patient_until = None;
        for (account, expires) in std::mem::take(&mut presence.waiting) {
            self.tell_of(account, expires, now);
        }
    }

    /// The watch of the table has seen this row of an account that nobody counts.
    pub(in crate::daemon) fn is_new_to_agent(&self, row: &Row, accounts: &[Account]) -> bool {
        row.status == Some(ACTIVE) && accounts.iter().any(|account| self.is_agents(account))
    }

    /// Whether the phones of an account are told something even when nobody counts it.
    pub(in crate::daemon) fn is_agents(&self, account: &Account) -> bool {
        let Some(presence) = &self.presence else { return false };
        presence.patient_until.is_none() && self.owns(account)
    }
}
