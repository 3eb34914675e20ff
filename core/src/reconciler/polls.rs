//! What the reconciler asks for next, and when it wants to be asked again.

use std::collections::VecDeque;
use std::time::Instant;

use super::queue::Urgency;
use super::state::Phase;
use super::{Action, Ready, Reconciler, SPREAD};
use crate::dialog::RowId;

impl Reconciler {
    /// The next thing to do, if there is one now.
    pub fn poll_action(&mut self, now: Instant) -> Option<Action> {
        self.fire_timers(now);
        if let Some(action) = self.answers.pop_front() {
            return Some(action);
        }
        if self.in_flight < self.settings.max_in_flight {
            while !self.ready.is_empty() && self.rate.take(now) {
                let action = match self.ready.pop(false).expect("the queue is not empty") {
                    Ready::Dialog(row) => self.claim(row),
                    Ready::Publication(key) => self.publish(&key, now),
                };
                if let Some(action) = action {
                    return Some(action);
                }
            }
            if self.finding < self.settings.max_lookups && self.room > 0 {
                return self.find(now);
            }
        }
        None
    }

    /// When to call [`poll_action`](Self::poll_action) again if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let check = self.checks.front().map(|(at, _)| *at);
        let may_claim = !self.ready.is_empty() && self.in_flight < self.settings.max_in_flight;
        let token = may_claim.then(|| self.rate.next(now));
        let crowd = self.crowd.filter(|at| *at > now);
        timer
            .into_iter()
            .chain(check)
            .chain(crowd)
            .chain(self.publications.poll_timeout())
            .chain(token)
            .min()
    }

    /// Whether a crowd is in line whose moment has not come. More than the rate gives at once is one.
    fn holds_crowd(&mut self, now: Instant) -> bool {
        let waiting = self.lookups.catching_up();
        if waiting == 0 {
            self.crowd = None;
        } else if self.crowd.is_none() && waiting > self.settings.rate as usize / 10 {
            self.crowd = Some(now + self.jitter.within(SPREAD));
        }
        self.crowd.is_some_and(|at| now < at)
    }

    fn find(&mut self, now: Instant) -> Option<Action> {
        // What was found waits in memory for the rate limit: do not find ahead of it.
        let fresh_only = self.holds_crowd(now) || self.ready.len() >= self.settings.max_in_flight;
        while let Some(account) = self.lookups.pop(fresh_only) {
            let Some(state) = self.accounts.get_mut(&account) else { continue };
            // A fresh change of an account that already waited stands in both lines.
            if !std::mem::replace(&mut state.queued, false) {
                continue;
            }
            state.finding = true;
            self.finding += 1;
            self.room -= 1;
            return Some(Action::Find(account));
        }
        None
    }

    fn claim(&mut self, row: RowId) -> Option<Action> {
        let state = self.dialogs.get_mut(&row)?;
        let Phase::Ready(dialog, _) = &state.phase else { return None };
        let dialog = dialog.clone();
        state.phase = Phase::Claiming(dialog.clone());
        self.in_flight += 1;
        Some(Action::Claim { dialog, above: state.high_water })
    }

    fn fire_timers(&mut self, now: Instant) {
        while self.checks.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, account)) = self.checks.pop_front() else { return };
            self.look_up(&account, Urgency::CatchUp);
        }
        if self.checks.is_empty() && self.checks.capacity() > 1024 {
            self.checks = VecDeque::new();
        }
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, account)) = self.timers.pop_first() else { return };
            let Some(state) = self.accounts.get_mut(&account) else { continue };
            state.delay().due = None;
            let urgency = state.urgency;
            self.look_up(&account, urgency);
        }
        self.fire_publications(now);
    }
}
