//! What came of what the reconciler asked for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::queue::Urgency;
use super::state::{AccountState, Delay, Pause, Phase};
use super::{Action, MAX_CHECKS, Reconciler, Verdict};
use crate::dialog::{Dialog, RowId};
use crate::mailbox::Account;
use crate::publication::Way;

/// How much further a CSeq jumps after each 500 in a row: the server, or somebody else, counted
/// past us (design rule 4). After the last one the dialog waits like any other failure. The first
/// is 2: a phone that refuses n saw n + 1 or more, and to an equal CSeq many answer 200 and do
/// nothing, which would be taken for a delivery.
const JUMPS: [u32; 3] = [2, 10, 100];

/// How long after a phone took a NOTIFY its row is looked at again. Kamailio's notifier processes
/// come round every 5 s at the latest; the look-up must come after that.
pub(super) const CHECK_AFTER: Duration = Duration::from_secs(6);

/// How often in a row a dialog or a publication is tried again at once: more than there are proxies and challenges,
/// and an end for a proxy that challenges for ever.
pub(super) const AGAIN: u32 = 10;

impl Reconciler {
    /// The account's live dialogs, newest first, as the database has them now.
    pub fn handle_dialogs(
        &mut self,
        account: &Account,
        found: Vec<Dialog>,
        now: Instant,
        unix: u64,
    ) {
        self.end_lookup(account);
        // Released during the look-up: its dialogs are another's.
        let told = |state: &&mut AccountState| state.ways.contains(Way::Notify);
        let Some(state) = self.accounts.get_mut(account).filter(told) else { return };
        // Whoever still needs a later look is considered below, or scheduled by its own answer.
        let Delay { due, acquired, .. } = state.end_delay();
        if let Some(due) = due {
            self.timers.remove(&(due, account.clone()));
        }
        self.forget_missing(account, &found);
        self.forget_stranger(account);
        for dialog in found {
            if dialog.remaining(unix) > 0 {
                self.consider(account, Arc::new(dialog), acquired, now);
            }
        }
        self.remembered.tidy();
    }

    /// The answer is of a database that is no longer read, whose rows have other ids: the account is
    /// looked up anew.
    pub fn handle_outdated(&mut self, account: &Account) {
        let urgency = self.accounts.get(account).map(|state| state.urgency);
        self.end_lookup(account);
        self.look_up(account, urgency.unwrap_or(Urgency::CatchUp));
    }

    /// The look-up failed; it is tried again after the growing back-off.
    pub fn handle_lookup_failure(&mut self, account: &Account, now: Instant) {
        self.end_lookup(account);
        let Some(state) = self.accounts.get_mut(account) else { return };
        let failures = &mut state.delay().failures;
        *failures = failures.saturating_add(1);
        let pause = self.jitter.spread(self.settings.backoff.pause(*failures));
        self.schedule(account, now + pause);
    }

    /// A CSeq was claimed, or (`None`) the row is gone. Gives whether a NOTIFY will carry it. When
    /// none does, the row is ahead of what was sent all the same: whoever remembers what was sent
    /// must remember that too, or it looks as if the server had counted further.
    pub fn handle_claim(&mut self, row: RowId, cseq: Option<u32>, now: Instant) -> bool {
        let Some(state) = self.dialogs.get_mut(&row) else { return false };
        if state.released {
            state.high_water = state.high_water.max(cseq.unwrap_or_default());
            self.end_attempt(row);
            return false;
        }
        let Phase::Claiming(dialog) = std::mem::replace(&mut state.phase, Phase::Idle) else {
            return false;
        };
        let account = self.accounts.get(&state.account);
        let (Some(cseq), Some(summary)) = (cseq, account.map(|account| account.desired)) else {
            self.in_flight -= 1;
            self.forget(row);
            return false;
        };
        state.high_water = state.high_water.max(cseq);
        if state.is_told(summary) {
            // It changed back during the claim.
            self.in_flight -= 1;
            return false;
        }
        state.last_sent = Some(now);
        // The answer may get lost.
        state.doubt();
        state.phase = Phase::InFlight(Box::new(summary));
        let account = state.account.clone();
        self.answers.push_back(Action::Notify { dialog, account, summary, cseq });
        true
    }

    /// The claim failed; the account is looked up again after the growing back-off.
    pub fn handle_claim_failure(&mut self, row: RowId, now: Instant) {
        self.end_attempt(row);
        self.retry_later(row, None, now);
    }

    /// The claim was taken back before anybody was asked: its row is in a database that is no longer
    /// read. To be followed by [`restart`](Self::restart).
    pub fn handle_unclaimed(&mut self, row: RowId) {
        let account = self.dialogs.get(&row).map(|dialog| dialog.account.clone());
        self.end_attempt(row);
        let Some(account) = account else { return };
        let urgency = self.accounts.get(&account).map(|state| state.urgency);
        self.look_up(&account, urgency.unwrap_or(Urgency::CatchUp));
    }

    /// What became of the NOTIFY of a dialog.
    pub fn handle_verdict(&mut self, row: RowId, verdict: Verdict, now: Instant) {
        let Some(Phase::InFlight(summary)) = self.end_attempt(row) else { return };
        let summary = *summary;
        let Some(state) = self.dialogs.get_mut(&row) else { return };
        match verdict {
            Verdict::Delivered => {
                state.deliver(summary);
                self.whys.remove(&row);
                // Counted from here: a copy that was sent again arrived later than the first left.
                state.last_sent = Some(now);
                let account = state.account.clone();
                if self.settings.shared && state.checks < MAX_CHECKS {
                    state.checks += 1;
                    self.checks.push_back((now + CHECK_AFTER, account.clone()));
                }
                let next = now + self.settings.min_interval;
                if self.desired(&account) != summary {
                    self.schedule(&account, next);
                }
            }
            Verdict::Gone => {
                state.phase = Phase::Dead;
                state.recover();
            }
            Verdict::TooLow => {
                let setback = state.setback();
                setback.again = 0;
                let jump = JUMPS.get(setback.too_low);
                let further = jump.unwrap_or(&JUMPS[0]) - 1;
                setback.too_low = if jump.is_some() { setback.too_low + 1 } else { 0 };
                state.high_water = state.high_water.saturating_add(further);
                match jump {
                    Some(_) => self.try_again(row),
                    None => self.retry_later(row, None, now),
                }
            }
            Verdict::Again => {
                let again = &mut state.setback().again;
                *again += 1;
                if *again > AGAIN {
                    *again = 0;
                    self.retry_later(row, None, now);
                } else {
                    self.try_again(row);
                }
            }
            Verdict::Later(pause) => {
                state.setback().again = 0;
                self.retry_later(row, pause, now);
            }
        }
    }

    /// Ends the look-up of an account; puts it in line again if that was wanted meanwhile.
    pub(super) fn end_lookup(&mut self, account: &Account) {
        let Some(state) = self.accounts.get_mut(account) else { return };
        if std::mem::replace(&mut state.finding, false) {
            self.finding -= 1;
        }
        if let Some(urgency) = state.again.take() {
            self.look_up(account, urgency);
        }
    }

    /// Rows that are no longer there are forgotten, but for what is still under way.
    pub(super) fn forget_missing(&mut self, account: &Account, found: &[Dialog]) {
        let Some(state) = self.accounts.get_mut(account) else { return };
        let rows = found.iter().map(|dialog| dialog.row).collect();
        let before = std::mem::replace(&mut state.dialogs, rows);
        for row in before.iter().copied() {
            let own = self.dialogs.get(&row).filter(|dialog| dialog.account == *account);
            match own.map(|dialog| dialog.phase.is_working()) {
                Some(_) if found.iter().any(|dialog| dialog.row == row) => {}
                // Forgotten by the next look-up, when its attempt has ended.
                Some(true) => {
                    let state = self.accounts.get_mut(account);
                    state.into_iter().for_each(|state| state.dialogs.push(row));
                }
                Some(false) => self.forget(row),
                None => {}
            }
        }
    }

    /// An account whose counts nobody knows is there for its phones alone.
    fn forget_stranger(&mut self, account: &Account) {
        let Some(state) = self.accounts.get(account) else { return };
        if state.desired.is_none() && state.dialogs.is_empty() && !state.queued {
            self.accounts.remove(account);
        }
    }

    /// Ends the claim or the NOTIFY of a dialog; gives the phase that it was in, unless its account
    /// was released meanwhile.
    pub(super) fn end_attempt(&mut self, row: RowId) -> Option<Phase> {
        let state = self.dialogs.get_mut(&row)?;
        if !matches!(state.phase, Phase::Claiming(_) | Phase::InFlight(_)) {
            return None;
        }
        self.in_flight -= 1;
        let phase = std::mem::replace(&mut state.phase, Phase::Idle);
        if !std::mem::take(&mut state.released) {
            return Some(phase);
        }
        // Released meanwhile, and perhaps acquired again: nobody knows what the phone shows.
        state.doubt();
        let account = state.account.clone();
        if self.accounts.contains_key(&account) {
            self.look_up(&account, Urgency::CatchUp);
        } else {
            self.forget(row);
        }
        None
    }

    /// At once, but with a fresh reading of the row.
    pub(super) fn try_again(&mut self, row: RowId) {
        let Some(state) = self.dialogs.get_mut(&row) else { return };
        state.last_sent = None;
        state.end_pause(|_| true);
        let account = state.account.clone();
        self.look_up(&account, Urgency::Fresh);
    }

    /// After the time that the peer asked for, or after our own growing back-off.
    pub(super) fn retry_later(&mut self, row: RowId, told: Option<Duration>, now: Instant) {
        let Some(state) = self.dialogs.get_mut(&row) else { return };
        let setback = state.setback();
        setback.failures = setback.failures.saturating_add(1);
        let own = self.jitter.spread(self.settings.backoff.pause(setback.failures));
        let pause = Pause::after(told, own, now);
        setback.pause = Some(pause);
        let account = state.account.clone();
        if let Some(state) = self.accounts.get_mut(&account) {
            state.urgency = Urgency::CatchUp;
        }
        self.schedule(&account, pause.until());
    }
}
