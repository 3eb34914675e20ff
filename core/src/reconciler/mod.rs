//! The heart: works until what every phone acknowledged is what is true now.
//!
//! A source says what an account's summary is (*desired*); an answer says what a phone took
//! (*delivered*). The reconciler looks an account's dialogs up, claims a CSeq for each dialog
//! that differs, has a NOTIFY sent, and comes back later when that failed.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::dialog::{Dialog, Identity, RowId};
use crate::mailbox::Account;
use crate::pace::{Backoff, Jitter, Rate};
use crate::summary::Summary;

#[cfg(test)]
mod order_tests;
mod queue;
mod state;
#[cfg(test)]
mod tests;

use queue::Queue;
pub use queue::Urgency;
pub use state::Remembered;
use state::{AccountState, DialogState, Pause, Phase};

/// How much further a CSeq jumps after each 500 in a row: the server, or somebody else, counted
/// past us (design rule 4). After the last one the dialog waits like any other failure. The first
/// is 2: a phone that refuses n saw n + 1 or more, and to an equal CSeq many answer 200 and do
/// nothing, which would be taken for a delivery.
const JUMPS: [u32; 3] = [2, 10, 100];

/// How long after a phone took a NOTIFY its row is looked at again. Kamailio's notifier processes
/// come round every 5 s at the latest; the look-up must come after that.
const CHECK_AFTER: Duration = Duration::from_secs(6);

/// How often one version of a dialog is looked at again, and how often it is told again because of
/// that. The bound keeps two mwids that both count in one row from answering each other for ever.
const MAX_CHECKS: u8 = 2;

/// Dialogs that are gone are remembered up to this many, at about 50 bytes each.
const MAX_REMEMBERED: usize = 200_000;

/// How often in a row a dialog is tried again at once: more than there are proxies and challenges,
/// and an end for a proxy that challenges for ever.
const AGAIN: u32 = 10;

/// What governs the pace.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// At least this long between two NOTIFYs of one dialog (RFC 3842 §3.11: a second).
    pub min_interval: Duration,
    /// A new or refreshed dialog is told this long after it was first seen, so that the presence
    /// server's own NOTIFY, which goes out at the same time, comes before.
    pub settle: Duration,
    /// NOTIFYs a second, over all dialogs.
    pub rate: u32,
    /// Pauses between retries.
    pub backoff: Backoff,
    /// Look-ups in the database at the same time.
    pub max_lookups: usize,
    /// Dialogs with a claim or a NOTIFY under way at the same time.
    pub max_in_flight: usize,
}

/// What the reconciler asks for. Each is answered by the `handle_*` method that it names.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Look up the account's live dialogs; answer with [`Reconciler::handle_dialogs`].
    Find(Account),
    /// Claim a CSeq above the given one; answer with [`Reconciler::handle_claim`].
    Claim {
        /// For which dialog.
        dialog: Arc<Dialog>,
        /// The highest CSeq that mwid itself has used in it.
        above: u32,
    },
    /// Send a NOTIFY; answer with [`Reconciler::handle_verdict`].
    Notify {
        /// In which dialog.
        dialog: Arc<Dialog>,
        /// Whose counts.
        account: Account,
        /// The counts.
        summary: Summary,
        /// The CSeq claimed for it.
        cseq: u32,
    },
}

/// What became of a NOTIFY, in the reconciler's own terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The phone has it.
    Delivered,
    /// The subscription is gone: left alone until its row changes.
    Gone,
    /// The CSeq was too low: claim a higher one.
    TooLow,
    /// Try again at once, another way (another proxy, with credentials).
    Again,
    /// Try again later: after the given time, or after the growing back-off.
    Later(Option<Duration>),
}

/// How much there is and how much is left to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Accounts whose summary is known.
    pub accounts: usize,
    /// Accounts with something left to look up, to send or to retry.
    pub waiting: usize,
    /// Dialogs seen at the last look-up of their account.
    pub dialogs: usize,
    /// Dialogs whose phone acknowledged the current summary.
    pub delivered: usize,
    /// Dialogs with a claim or a NOTIFY under way.
    pub in_flight: usize,
    /// Dialogs left alone because their phone said that they are gone.
    pub dead: usize,
}

/// How the dialogs of one account stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Live ones.
    pub dialogs: usize,
    /// Those whose phone said that they are gone: left alone until they change.
    pub dead: usize,
    /// Those that wait before they are tried again.
    pub paused: usize,
    /// Those with a claim or a NOTIFY under way.
    pub working: usize,
}

/// Works until delivered is desired.
///
/// Calling contract: call a *command* or a *handle* method, then call
/// [`poll_action`](Self::poll_action) until it gives `None`; call it again at
/// [`poll_timeout`](Self::poll_timeout). Every action is answered exactly once.
///
/// - commands: [`remember`](Self::remember), [`set`](Self::set), [`acquire`](Self::acquire),
///   [`release`](Self::release), [`look_up`](Self::look_up), [`configure`](Self::configure), [`hurry`](Self::hurry), [`restart`](Self::restart)
/// - handles: [`handle_dialogs`](Self::handle_dialogs),
///   [`handle_lookup_failure`](Self::handle_lookup_failure), [`handle_claim`](Self::handle_claim),
///   [`handle_claim_failure`](Self::handle_claim_failure),
///   [`handle_verdict`](Self::handle_verdict)
/// - polls: [`poll_action`](Self::poll_action), [`poll_timeout`](Self::poll_timeout)
/// - getters: [`desired`](Self::desired), [`delivered_to`](Self::delivered_to),
///   [`is_settled`](Self::is_settled), [`standing`](Self::standing), [`knows`](Self::knows), [`census`](Self::census)
///
/// Invariants: one NOTIFY in flight per dialog (RFC 6665 §4.2.2), at most one per `min_interval`
/// and dialog, the first of a burst at once and the last always; what has not been sent is
/// replaced by what is newer; a CSeq is never below one that mwid used before in the dialog.
#[derive(Debug)]
pub struct Reconciler {
    settings: Settings,
    rate: Rate,
    jitter: Jitter,
    accounts: HashMap<Account, AccountState>,
    dialogs: HashMap<RowId, DialogState>,
    /// From before a restart; taken when the dialog is seen again.
    remembered: HashMap<Identity, Remembered>,
    lookups: Queue<Account>,
    ready: Queue<RowId>,
    answers: VecDeque<Action>,
    /// When to look an account up again: its `due`, once.
    timers: BTreeSet<(Instant, Account)>,
    /// Accounts whose rows are looked at again, soonest first.
    checks: VecDeque<(Instant, Account)>,
    finding: usize,
    in_flight: usize,
    /// The latest time that was told, in Unix seconds.
    unix: u64,
}

impl Reconciler {
    /// Nothing known yet. `seed` makes the jitter.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            rate: Rate::new(settings.rate),
            settings,
            jitter: Jitter::new(seed),
            accounts: HashMap::new(),
            dialogs: HashMap::new(),
            remembered: HashMap::new(),
            lookups: Queue::new(),
            ready: Queue::new(),
            answers: VecDeque::new(),
            timers: BTreeSet::new(),
            checks: VecDeque::new(),
            finding: 0,
            in_flight: 0,
            unix: 0,
        }
    }

    /// What a ledger knows from before a restart. To be called before anything else.
    pub fn remember(&mut self, past: impl IntoIterator<Item = (Identity, Remembered)>) {
        self.remembered.extend(past);
    }

    /// Another pace; what is under way stays under way.
    pub fn configure(&mut self, settings: Settings) {
        self.rate = Rate::new(settings.rate);
        self.settings = settings;
    }

    /// Looks every account up again: another database is read, whose rows have other ids. What is
    /// known of a dialog holds wherever its row is.
    pub fn restart(&mut self) {
        let idle =
            |(row, dialog): (&RowId, &DialogState)| (!dialog.phase.is_working()).then_some(*row);
        let rows: Vec<RowId> = self.dialogs.iter().filter_map(idle).collect();
        for row in rows {
            self.forget(row);
        }
        let accounts: Vec<Account> = self.accounts.keys().cloned().collect();
        for account in accounts {
            self.look_up(&account, Urgency::CatchUp);
        }
    }

    /// Ends every pause: what stood in the way may have been changed.
    pub fn hurry(&mut self) {
        self.dialogs.values_mut().for_each(|dialog| dialog.pause = None);
        let waits = self.accounts.iter().filter(|(_, state)| state.due.is_some());
        let accounts: Vec<Account> = waits.map(|(account, _)| account.clone()).collect();
        for account in accounts {
            self.look_up(&account, Urgency::CatchUp);
        }
    }

    /// This is what the account's phones must show. With `force` they are told even if they
    /// already acknowledged it.
    pub fn set(&mut self, account: &Account, summary: Summary, urgency: Urgency, force: bool) {
        let known = self.accounts.get(account).map(|state| state.desired);
        if known == Some(summary) && !force {
            return;
        }
        self.accounts
            .entry(account.clone())
            .and_modify(|state| state.desired = summary)
            .or_insert_with(|| AccountState::new(summary));
        for row in &self.accounts[account].dialogs {
            let Some(dialog) = self.dialogs.get_mut(row) else { continue };
            if force {
                dialog.delivered = None;
            }
            if urgency == Urgency::Fresh {
                dialog.pause = dialog.pause.filter(|pause| matches!(pause, Pause::Told(_)));
            }
        }
        self.look_up(account, urgency);
    }

    /// From here on this mwid tells the account's phones; another one may have done so until now.
    /// What they show is not known then, so all of them are told, with CSeqs above `floor`: no
    /// other one has come so far. (A row alone does not say: OpenSIPS rolls it back to its own
    /// count.) For an account that this one tells already it is the same as [`set`](Self::set).
    pub fn acquire(&mut self, account: &Account, summary: Summary, urgency: Urgency, floor: u32) {
        let is_new = !self.accounts.contains_key(account);
        self.set(account, summary, urgency, false);
        if let Some(state) = self.accounts.get_mut(account).filter(|_| is_new) {
            state.acquired = Some(floor);
        }
    }

    /// Another mwid tells the account's phones from here on: nothing new is sent to them, what is
    /// in flight ends by itself. How far each dialog was counted is remembered.
    pub fn release(&mut self, account: &Account) {
        let Some(state) = self.accounts.remove(account) else { return };
        self.finding -= usize::from(state.finding);
        if let Some(due) = state.due {
            self.timers.remove(&(due, account.clone()));
        }
        for row in state.dialogs {
            let own = self.dialogs.get_mut(&row).filter(|dialog| dialog.account == *account);
            let Some(dialog) = own else { continue };
            dialog.delivered = None;
            if matches!(dialog.phase, Phase::Claiming(_) | Phase::InFlight(_)) {
                dialog.released = true;
            } else {
                self.forget(row);
            }
        }
    }

    /// The accounts whose phones are told here.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.keys()
    }

    /// The account's rows may have changed: puts it in line for a look-up.
    pub fn look_up(&mut self, account: &Account, urgency: Urgency) {
        let Some(state) = self.accounts.get_mut(account) else { return };
        if state.finding {
            state.again = Some(state.again.unwrap_or(urgency).max(urgency));
            return;
        }
        if state.queued && urgency <= state.urgency {
            return;
        }
        state.queued = true;
        state.urgency = urgency;
        self.lookups.push(urgency, account.clone());
    }

    /// What an account's phones must show; `None` when no source has said it yet.
    #[must_use]
    pub fn desired(&self, account: &Account) -> Option<Summary> {
        self.accounts.get(account).map(|state| state.desired)
    }

    /// What the phones of an account show, as far as they acknowledged it.
    pub fn delivered_to(&self, account: &Account) -> impl Iterator<Item = (RowId, Summary)> {
        let rows = self.accounts.get(account).map(|state| state.dialogs.as_slice());
        rows.unwrap_or_default().iter().filter_map(|row| {
            let delivered = self.dialogs.get(row).and_then(|state| state.delivered);
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
            && state.due.is_none_or(|due| due > soon)
            && !state.dialogs.iter().any(working)
    }

    /// Why nothing of an account is under way.
    #[must_use]
    pub fn standing(&self, account: &Account, now: Instant) -> Standing {
        let rows = self.accounts.get(account).map(|state| state.dialogs.as_slice());
        let mut standing = Standing::default();
        for dialog in rows.unwrap_or_default().iter().filter_map(|row| self.dialogs.get(row)) {
            standing.dialogs += 1;
            standing.dead += usize::from(dialog.phase == Phase::Dead);
            standing.working += usize::from(dialog.phase.is_working());
            let paused = dialog.pause.is_some_and(|pause| pause.until() > now);
            standing.paused += usize::from(paused);
        }
        standing
    }

    /// Whether this row was seen as it is now: the same dialog, not refreshed since. Then a
    /// look-up would bring nothing new, for a dead row neither.
    #[must_use]
    pub fn knows(&self, dialog: &Dialog) -> bool {
        self.dialogs.get(&dialog.row).is_some_and(|state| {
            state.identity == dialog.identity() && state.version == dialog.version()
        })
    }

    /// Counts everything: for `status`, not for the hot path.
    #[must_use]
    pub fn census(&self) -> Census {
        let mut census = Census {
            accounts: self.accounts.len(),
            dialogs: self.dialogs.len(),
            in_flight: self.in_flight,
            ..Census::default()
        };
        for dialog in self.dialogs.values() {
            let desired = self.desired(&dialog.account);
            census.dead += usize::from(dialog.phase == Phase::Dead);
            census.delivered +=
                usize::from(dialog.delivered.is_some() && dialog.delivered == desired);
        }
        for state in self.accounts.values() {
            let working =
                |row| self.dialogs.get(row).is_some_and(|dialog| dialog.phase.is_working());
            let waits = state.queued || state.finding || state.due.is_some();
            census.waiting += usize::from(waits || state.dialogs.iter().any(working));
        }
        census
    }

    /// The account's live dialogs, newest first, as the database has them now.
    pub fn handle_dialogs(
        &mut self,
        account: &Account,
        found: Vec<Dialog>,
        now: Instant,
        unix: u64,
    ) {
        self.unix = unix;
        self.end_lookup(account);
        // Released during the look-up: its dialogs are another's.
        let Some(state) = self.accounts.get_mut(account) else { return };
        state.failures = 0;
        // Whoever still needs a later look is considered below, or scheduled by its own answer.
        if let Some(due) = state.due.take() {
            self.timers.remove(&(due, account.clone()));
        }
        let acquired = state.acquired.take();
        self.forget_missing(account, &found);
        for dialog in found {
            if dialog.remaining(unix) > 0 {
                self.consider(account, Arc::new(dialog), acquired, now);
            }
        }
    }

    /// The look-up failed; it is tried again after the growing back-off.
    pub fn handle_lookup_failure(&mut self, account: &Account, now: Instant) {
        self.end_lookup(account);
        let Some(state) = self.accounts.get_mut(account) else { return };
        state.failures = state.failures.saturating_add(1);
        let pause = self.jitter.spread(self.settings.backoff.pause(state.failures));
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
        let desired = self.accounts.get(&state.account).map(|account| account.desired);
        let (Some(cseq), Some(summary)) = (cseq, desired) else {
            self.in_flight -= 1;
            self.forget(row);
            return false;
        };
        state.high_water = state.high_water.max(cseq);
        if state.delivered == Some(summary) {
            // It changed back during the claim.
            self.in_flight -= 1;
            return false;
        }
        state.last_sent = Some(now);
        // From here on nobody knows what the phone shows: the answer may get lost.
        state.delivered = None;
        state.phase = Phase::InFlight(summary);
        let account = state.account.clone();
        self.answers.push_back(Action::Notify { dialog, account, summary, cseq });
        true
    }

    /// The claim failed; the account is looked up again after the growing back-off.
    pub fn handle_claim_failure(&mut self, row: RowId, now: Instant) {
        self.end_attempt(row);
        self.retry_later(row, None, now);
    }

    /// What became of the NOTIFY of a dialog.
    pub fn handle_verdict(&mut self, row: RowId, verdict: Verdict, now: Instant) {
        let Some(Phase::InFlight(summary)) = self.end_attempt(row) else { return };
        let Some(state) = self.dialogs.get_mut(&row) else { return };
        state.again = if verdict == Verdict::Again { state.again + 1 } else { 0 };
        match verdict {
            Verdict::Delivered => {
                state.delivered = Some(summary);
                state.failures = 0;
                state.too_low = 0;
                // Counted from here: a copy that was sent again arrived later than the first left.
                state.last_sent = Some(now);
                let account = state.account.clone();
                if state.checks < MAX_CHECKS {
                    state.checks += 1;
                    self.checks.push_back((now + CHECK_AFTER, account.clone()));
                }
                let next = now + self.settings.min_interval;
                if self.desired(&account) != Some(summary) {
                    self.schedule(&account, next);
                }
            }
            Verdict::Gone => {
                state.phase = Phase::Dead;
                state.failures = 0;
            }
            Verdict::TooLow => {
                let jump = JUMPS.get(state.too_low);
                let further = jump.unwrap_or(&JUMPS[0]) - 1;
                state.high_water = state.high_water.saturating_add(further);
                state.too_low = if jump.is_some() { state.too_low + 1 } else { 0 };
                match jump {
                    Some(_) => self.try_again(row),
                    None => self.retry_later(row, None, now),
                }
            }
            Verdict::Again if state.again > AGAIN => {
                state.again = 0;
                self.retry_later(row, None, now);
            }
            Verdict::Again => self.try_again(row),
            Verdict::Later(pause) => self.retry_later(row, pause, now),
        }
    }

    /// The next thing to do, if there is one now.
    pub fn poll_action(&mut self, now: Instant) -> Option<Action> {
        self.fire_timers(now);
        if let Some(action) = self.answers.pop_front() {
            return Some(action);
        }
        if self.in_flight < self.settings.max_in_flight {
            while !self.ready.is_empty() && self.rate.take(now) {
                let row = self.ready.pop(false).expect("the queue is not empty");
                if let Some(action) = self.claim(row) {
                    return Some(action);
                }
            }
            if self.finding < self.settings.max_lookups {
                return self.find();
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
        timer.into_iter().chain(check).chain(token).min()
    }

    fn find(&mut self) -> Option<Action> {
        // What was found waits in memory for the rate limit: do not find ahead of it.
        let fresh_only = self.ready.len() >= self.settings.max_in_flight;
        while let Some(account) = self.lookups.pop(fresh_only) {
            let Some(state) = self.accounts.get_mut(&account) else { continue };
            // A fresh change of an account that already waited stands in both lines.
            if !std::mem::replace(&mut state.queued, false) {
                continue;
            }
            state.finding = true;
            self.finding += 1;
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

    /// Ends the look-up of an account; puts it in line again if that was wanted meanwhile.
    fn end_lookup(&mut self, account: &Account) {
        let Some(state) = self.accounts.get_mut(account) else { return };
        if std::mem::replace(&mut state.finding, false) {
            self.finding -= 1;
        }
        if let Some(urgency) = state.again.take() {
            self.look_up(account, urgency);
        }
    }

    /// Rows that are no longer there are forgotten, but for what is still under way.
    fn forget_missing(&mut self, account: &Account, found: &[Dialog]) {
        let Some(state) = self.accounts.get_mut(account) else { return };
        let before = std::mem::take(&mut state.dialogs);
        let mut rows: Vec<RowId> = found.iter().map(|dialog| dialog.row).collect();
        for row in before {
            let own = self.dialogs.get(&row).filter(|dialog| dialog.account == *account);
            match own.map(|dialog| dialog.phase.is_working()) {
                Some(_) if found.iter().any(|dialog| dialog.row == row) => {}
                // Forgotten by the next look-up, when its attempt has ended.
                Some(true) => rows.push(row),
                Some(false) => self.forget(row),
                None => {}
            }
        }
        if let Some(state) = self.accounts.get_mut(account) {
            state.dialogs = rows;
        }
    }

    /// The row is gone. Servers that write their rows anew now and then bring the dialog back under
    /// another id: its CSeq must not fall then.
    fn forget(&mut self, row: RowId) {
        let Some(state) = self.dialogs.remove(&row) else { return };
        if self.remembered.len() >= MAX_REMEMBERED {
            let unix = self.unix;
            self.remembered.retain(|_, past| past.expires > unix);
        }
        if self.remembered.len() < MAX_REMEMBERED {
            self.remembered.insert(state.identity, state.remember());
        }
    }

    /// Decides whether a dialog needs a NOTIFY, and when.
    fn consider(
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
            if moved || state.identity != identity || state.version != version {
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
            state.delivered = None;
        }
        state.expires = dialog.expires;
        if state.version != version {
            // A refresh: the server answered it with an empty NOTIFY of its own, so the phone may
            // have forgotten; a dead row lives again, a failing one gets another chance at once.
            state.version = version;
            state.phase = Phase::Idle;
            state.pause = None;
            state.delivered = None;
            (state.since, state.checks, state.resends) = (None, 0, 0);
        }
        if state.is_overtaken(&dialog) && state.resends < MAX_CHECKS {
            state.resends += 1;
            state.delivered = None;
        }
        let settled = *state.since.get_or_insert(now) + self.settings.settle;
        let desired = self.accounts.get(account).map(|account| account.desired);
        if state.phase == Phase::Dead || state.delivered == desired {
            return;
        }
        let earliest = state.last_sent.map(|sent| sent + self.settings.min_interval);
        let pause = state.pause.map(Pause::until);
        let at = earliest.into_iter().chain(pause).chain([settled]).max().filter(|at| *at > now);
        match at {
            Some(at) => self.schedule(account, at),
            None => self.make_ready(row, dialog, urgency),
        }
    }

    /// Puts a dialog in line. One that stood in the slower line stands in both then; the first that
    /// comes to it claims, the other finds it no longer ready.
    fn make_ready(&mut self, row: RowId, dialog: Arc<Dialog>, urgency: Urgency) {
        let Some(state) = self.dialogs.get_mut(&row) else { return };
        state.phase = Phase::Ready(dialog, urgency);
        self.ready.push(urgency, row);
    }

    /// Ends the claim or the NOTIFY of a dialog; gives the phase that it was in, unless its account
    /// was released meanwhile.
    fn end_attempt(&mut self, row: RowId) -> Option<Phase> {
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
        state.delivered = None;
        let account = state.account.clone();
        if self.accounts.contains_key(&account) {
            self.look_up(&account, Urgency::CatchUp);
        } else {
            self.forget(row);
        }
        None
    }

    /// At once, but with a fresh reading of the row.
    fn try_again(&mut self, row: RowId) {
        let Some(state) = self.dialogs.get_mut(&row) else { return };
        state.last_sent = None;
        state.pause = None;
        let account = state.account.clone();
        self.look_up(&account, Urgency::Fresh);
    }

    /// After the time that the peer asked for, or after our own growing back-off.
    fn retry_later(&mut self, row: RowId, told: Option<Duration>, now: Instant) {
        let Some(state) = self.dialogs.get_mut(&row) else { return };
        state.failures = state.failures.saturating_add(1);
        let own = self.jitter.spread(self.settings.backoff.pause(state.failures));
        let pause = match told {
            Some(told) => Pause::Told(now + told + own.min(told / 10)),
            None => Pause::Backoff(now + own),
        };
        state.pause = Some(pause);
        let account = state.account.clone();
        if let Some(state) = self.accounts.get_mut(&account) {
            state.urgency = Urgency::CatchUp;
        }
        self.schedule(&account, pause.until());
    }

    fn schedule(&mut self, account: &Account, at: Instant) {
        let Some(state) = self.accounts.get_mut(account) else { return };
        if state.due.is_none_or(|due| at < due) {
            self.timers.insert((at, account.clone()));
            if let Some(overtaken) = state.due.replace(at) {
                self.timers.remove(&(overtaken, account.clone()));
            }
        }
    }

    fn fire_timers(&mut self, now: Instant) {
        while self.checks.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, account)) = self.checks.pop_front() else { return };
            self.look_up(&account, Urgency::CatchUp);
        }
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, account)) = self.timers.pop_first() else { return };
            let Some(state) = self.accounts.get_mut(&account) else { continue };
            state.due = None;
            let urgency = state.urgency;
            self.look_up(&account, urgency);
        }
    }
}
