//! The heart: works until what every phone acknowledged is what is true now.
//!
//! A source says what an account's summary is (*desired*); an answer says what a phone took
//! (*delivered*). The reconciler looks an account's dialogs up, claims a CSeq for each dialog
//! that differs, has a NOTIFY sent, and comes back later when that failed. In the same way it keeps
//! what servers publish of the account: see `publications`.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use crate::dialog::{Dialog, Identity, RowId};
use crate::mailbox::Account;
use crate::pace::{Backoff, Jitter, Rate};
use crate::publication::{self, Way, Ways};
use crate::summary::Summary;

mod answers;
mod census;
mod consider;
mod latency;
mod memory;
#[cfg(test)]
mod order_tests;
mod pending;
#[cfg(test)]
mod pending_tests;
mod polls;
mod publications;
#[cfg(test)]
mod publications_tests;
mod queue;
mod state;
#[cfg(test)]
mod tests;
mod view;

pub use census::{Backlog, Census, Standing};
use memory::Memory;
pub use pending::{Pending, Wait};
pub use publications::Published;
use publications::{Key, Publications};
use queue::Queue;
pub use queue::Urgency;
use state::{AccountState, DialogState, Pause, Phase};
pub use state::{Desired, Remembered};
pub use view::{DialogView, Progress, PublicationView};

/// How often one version of a dialog is looked at again, and how often it is told again because of
/// that. The bound keeps two mwids that both count in one row from answering each other for ever.
const MAX_CHECKS: u8 = 2;

/// A crowd that is to be caught up with is begun with at a random moment within this: several mwid
/// that start, or see a database come back, at the same moment do not ask as one.
const SPREAD: Duration = Duration::from_secs(2);

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
    /// Whether a presence server writes in the rows, too, and sends NOTIFYs of its own: then a dialog
    /// that was told is looked at again, for it may have been told something else since.
    pub shared: bool,
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
        /// The counts; `None` when nobody knows them.
        summary: Option<Summary>,
        /// The CSeq claimed for it.
        cseq: u32,
    },
    /// Take a publication one step on; answer with [`Reconciler::handle_published`].
    Publish(publication::Order),
}

/// Who is in line for the rate limit.
#[derive(Debug)]
enum Ready {
    Dialog(RowId),
    Publication(Key),
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

/// Works until delivered is desired.
///
/// Calling contract: call a *command* or a *handle* method, then call
/// [`poll_action`](Self::poll_action) until it gives `None`; call it again at
/// [`poll_timeout`](Self::poll_timeout). Every action is answered exactly once.
///
/// - commands: [`remember`](Self::remember), [`remember_publications`](Self::remember_publications),
///   [`set`](Self::set), [`introduce`](Self::introduce), [`acquire`](Self::acquire),
///   [`release`](Self::release), [`withdraw`](Self::withdraw), [`doubt`](Self::doubt), [`look_up`](Self::look_up),
///   [`look_up_all`](Self::look_up_all), [`allow_look_ups`](Self::allow_look_ups), [`note_change`](Self::note_change), [`configure`](Self::configure), [`hurry`](Self::hurry), [`hurry_way`](Self::hurry_way), [`restart`](Self::restart)
/// - handles: [`handle_dialogs`](Self::handle_dialogs), [`handle_outdated`](Self::handle_outdated),
///   [`handle_lookup_failure`](Self::handle_lookup_failure), [`handle_claim`](Self::handle_claim),
///   [`handle_claim_failure`](Self::handle_claim_failure), [`handle_unclaimed`](Self::handle_unclaimed),
///   [`handle_verdict`](Self::handle_verdict), [`handle_published`](Self::handle_published)
/// - polls: [`poll_action`](Self::poll_action), [`poll_timeout`](Self::poll_timeout)
/// - getters: [`desired`](Self::desired), [`delivered_to`](Self::delivered_to),
///   [`is_settled`](Self::is_settled), [`is_told`](Self::is_told), [`standing`](Self::standing), [`knows`](Self::knows), [`backlog`](Self::backlog), [`census`](Self::census), [`tallies`](Self::tallies),
///   [`dialogs_of`](Self::dialogs_of), [`publications`](Self::publications), [`pending`](Self::pending), [`waited`](Self::waited)
///
/// Invariants: one NOTIFY in flight per dialog (RFC 6665 §4.2.2) and one step per publication, at
/// most one per `min_interval` of each, the first of a burst at once and the last always; what has
/// not been sent is replaced by what is newer; a CSeq is never below one that mwid used before in
/// the dialog.
#[derive(Debug)]
pub struct Reconciler {
    settings: Settings,
    rate: Rate,
    jitter: Jitter,
    accounts: HashMap<Account, AccountState, RandomState>,
    dialogs: HashMap<RowId, DialogState, RandomState>,
    /// Why the last attempt of a dialog came to nothing, of those that have not succeeded since.
    whys: HashMap<RowId, Arc<str>>,
    /// From before a restart; taken when the dialog is seen again.
    remembered: Memory,
    lookups: Queue<Account>,
    /// When the crowd that is in line for a look-up is begun with.
    crowd: Option<Instant>,
    publications: Publications,
    ready: Queue<Ready>,
    answers: VecDeque<Action>,
    /// When to look an account up again: its `due`, once.
    timers: BTreeSet<(Instant, Account)>,
    /// Accounts whose rows are looked at again, soonest first.
    checks: VecDeque<(Instant, Account)>,
    finding: usize,
    /// So many more look-ups whoever makes them has room for.
    room: usize,
    in_flight: usize,
}

impl Reconciler {
    /// Nothing known yet. `seed` makes the jitter.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            rate: Rate::new(settings.rate),
            settings,
            jitter: Jitter::new(seed),
            accounts: HashMap::default(),
            dialogs: HashMap::default(),
            whys: HashMap::new(),
            remembered: Memory::default(),
            lookups: Queue::new(),
            crowd: None,
            publications: Publications::default(),
            ready: Queue::new(),
            answers: VecDeque::new(),
            timers: BTreeSet::new(),
            checks: VecDeque::new(),
            finding: 0,
            room: usize::MAX,
            in_flight: 0,
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
    /// known of a dialog holds wherever its row is. Only what is under way still ends in the former
    /// row; who waits for the rate limit waits anew.
    pub fn restart(&mut self) {
        let left = |(row, dialog): (&RowId, &DialogState)| {
            let is_under_way = matches!(dialog.phase, Phase::Claiming(_) | Phase::InFlight(_));
            (!is_under_way).then_some(*row)
        };
        let rows = self.dialogs.iter().filter_map(left).collect();
        let fresh = |dialog: &&DialogState| matches!(dialog.phase, Phase::Ready(_, Urgency::Fresh));
        let fresh = self.dialogs.values().filter(fresh).map(|dialog| dialog.account.clone());
        let fresh = sorted::<Account>(fresh.collect());
        for row in sorted::<RowId>(rows) {
            self.forget(row);
        }
        self.ready.retain(|ready| matches!(ready, Ready::Publication(_)));
        self.look_up_all();
        for account in fresh {
            self.look_up(&account, Urgency::Fresh);
        }
    }

    /// Any account's rows may have changed, or whether they are live: the clock was set.
    pub fn look_up_all(&mut self) {
        for account in sorted(self.accounts.keys().cloned().collect()) {
            self.look_up(&account, Urgency::CatchUp);
        }
    }

    /// Whoever looks accounts up has room for so many more, until this is called again: the others wait
    /// here, where what is fresh goes ahead. Before the first call there is room for any number.
    pub fn allow_look_ups(&mut self, room: usize) {
        self.room = room;
    }

    /// Ends every pause: what stood in the way may have been changed.
    pub fn hurry(&mut self) {
        self.dialogs.values_mut().for_each(|dialog| dialog.end_pause(|_| true));
        let waits = self.accounts.iter().filter(|(_, state)| state.due().is_some());
        let accounts = waits.map(|(account, _)| account.clone()).collect();
        for account in sorted::<Account>(accounts) {
            self.look_up(&account, Urgency::CatchUp);
        }
        self.end_pauses(|_| true);
    }

    /// This is what the account's phones must show. With `force` they are told even if they
    /// already acknowledged it. A summary alone is told by NOTIFY.
    pub fn set(
        &mut self,
        account: &Account,
        desired: impl Into<Desired>,
        urgency: Urgency,
        force: bool,
    ) {
        let desired = desired.into();
        match self.accounts.get_mut(account) {
            Some(state) => {
                let known = (state.desired, state.ways);
                if known == (Some(desired.summary), desired.ways) && !force {
                    return;
                }
                (state.desired, state.ways) = (Some(desired.summary), desired.ways);
                if known.1.contains(Way::Notify) && !desired.ways.contains(Way::Notify) {
                    self.release_dialogs(account);
                }
            }
            None => {
                let state = AccountState::new(Some(desired.summary), desired.ways);
                self.accounts.insert(account.clone(), state);
            }
        }
        self.set_publications(account, desired.ways, urgency, force);
        for row in self.accounts[account].dialogs.iter() {
            let Some(dialog) = self.dialogs.get_mut(row) else { continue };
            if force {
                dialog.doubt();
            }
            if urgency == Urgency::Fresh {
                dialog.end_pause(|pause| !matches!(pause, Pause::Told(_)));
            }
        }
        self.look_up(account, urgency);
    }

    /// Phones subscribe to an account whose counts nobody knows: until somebody does, each is told
    /// just that, by an empty NOTIFY (RFC 6665 §4.2.1.2). To be followed by a look-up.
    pub fn introduce(&mut self, account: &Account) {
        self.accounts
            .entry(account.clone())
            .or_insert_with(|| AccountState::new(None, Ways::default()));
    }

    /// From here on this mwid tells the account's phones; another one may have done so until now.
    /// What they show is not known then, so all of them are told, with CSeqs above `floor`: no
    /// other one has come so far. (A row alone does not say: OpenSIPS rolls it back to its own
    /// count.) For an account that this one tells already it is the same as [`set`](Self::set).
    pub fn acquire(
        &mut self,
        account: &Account,
        desired: impl Into<Desired>,
        urgency: Urgency,
        floor: u32,
    ) {
        let is_new = !self.accounts.contains_key(account);
        if is_new {
            self.doubt_publications(account);
        }
        self.set(account, desired, urgency, false);
        if let Some(state) = self.accounts.get_mut(account).filter(|_| is_new) {
            state.delay().acquired = Some(floor);
        }
    }

    /// Another mwid tells the account's phones from here on: nothing new is sent to them, what is
    /// in flight ends by itself. How far each dialog was counted is remembered. What is published
    /// here is removed a little later, when the other one has published it too.
    pub fn release(&mut self, account: &Account) {
        self.release_dialogs(account);
        if self.accounts.remove(account).is_some() {
            self.hand_over_publications(account);
        }
    }

    fn release_dialogs(&mut self, account: &Account) {
        let Some(state) = self.accounts.get_mut(account) else { return };
        let left = AccountState::new(state.desired, state.ways);
        let state = std::mem::replace(state, left);
        self.finding -= usize::from(state.finding);
        if let Some(due) = state.due() {
            self.timers.remove(&(due, account.clone()));
        }
        for row in state.dialogs.iter().copied() {
            let own = self.dialogs.get_mut(&row).filter(|dialog| dialog.account == *account);
            let Some(dialog) = own else { continue };
            dialog.doubt();
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

    /// The account's rows may have changed: puts it in line for a look-up, if it is told by NOTIFY.
    pub fn look_up(&mut self, account: &Account, urgency: Urgency) {
        let Some(state) = self.accounts.get_mut(account) else { return };
        if !state.ways.contains(Way::Notify) {
            return;
        }
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

    /// The row is gone. Servers that write their rows anew now and then bring the dialog back under
    /// another id: its CSeq must not fall then.
    fn forget(&mut self, row: RowId) {
        self.whys.remove(&row);
        let Some(state) = self.dialogs.remove(&row) else { return };
        self.remembered.insert(state.identity, state.remember());
    }

    fn schedule(&mut self, account: &Account, at: Instant) {
        let Some(state) = self.accounts.get_mut(account) else { return };
        if state.due().is_none_or(|due| at < due) {
            self.timers.insert((at, account.clone()));
            if let Some(overtaken) = state.delay().due.replace(at) {
                self.timers.remove(&(overtaken, account.clone()));
            }
        }
    }
}

/// The same order in every run, which that of a hash map is not: a seed of the model replays.
fn sorted<T: Ord>(mut found: Vec<T>) -> Vec<T> {
    found.sort_unstable();
    found
}
