//! Publications: per account and way, what is desired against what its server took last.
//!
//! A publication ends by itself after a time that its server grants, so it is refreshed before that;
//! and its server names it by an entity-tag, which changes with every step. A step whose answer got
//! lost leaves it unknown: the next one states everything anew.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answers::AGAIN;
use super::queue::Urgency;
use super::state::Pause;
use super::view::{Progress, PublicationView};
use super::{Action, Ready, Reconciler, sorted};
use crate::mailbox::Account;
use crate::publication::{ETag, Order, Outcome, Way, Ways, Wish};
use crate::summary::Summary;

/// How often in a row a publication begins afresh at once because its server does not know it.
const MAX_STALE: u32 = 3;

/// How long a publication stays after its account went to another mwid: what came last counts, and
/// by then the other one has published its own. Without it the phones would see nothing for a while.
pub(super) const HANDOVER: Duration = Duration::from_secs(30);

/// The shortest time after which a publication is refreshed.
const MIN_REFRESH: Duration = Duration::from_secs(1);

/// Whose, by which way.
pub(super) type Key = (Account, Way);

/// What a ledger remembers of a publication from before a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// What its server called it last.
    pub etag: Option<ETag>,
    /// What its server took last; `None` when that is not known.
    pub accepted: Option<Summary>,
    /// When it ends at its server, absolute Unix seconds; `None` for never, or when that is not
    /// known.
    pub expires: Option<u64>,
}

/// All publications, each with one timer at most.
#[derive(Debug, Default)]
pub(super) struct Publications {
    states: HashMap<Key, State>,
    timers: BTreeSet<(Instant, Key)>,
    /// Something about them changed. In order: a seed of the model replays.
    changed: BTreeSet<Key>,
}

#[derive(Debug)]
pub(super) struct State {
    etag: Option<ETag>,
    /// `None`: not known, to be stated.
    accepted: Option<Summary>,
    /// When it ends at its server.
    expires: Option<Instant>,
    /// When it is to be refreshed.
    refresh: Option<Instant>,
    /// Its server may have it.
    exists: bool,
    /// The step that is under way was one at another server.
    is_doubted: bool,
    phase: Phase,
    urgency: Urgency,
    /// When it is looked at again.
    due: Option<Instant>,
    last_sent: Option<Instant>,
    pause: Option<Pause>,
    /// Nobody here wants it any more: it is removed after a while.
    leaving: Option<Leaving>,
    failures: u32,
    /// Times in a row that it was tried again at once.
    again: u32,
    /// Times in a row that its server did not know it.
    stale: u32,
    /// Why its last step came to nothing.
    why: Option<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    Soon,
    At(Instant),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Waits for the rate limit, in the line of this urgency.
    Ready(Urgency),
    InFlight(Wish),
}

impl State {
    fn new() -> Self {
        Self {
            etag: None,
            accepted: None,
            expires: None,
            refresh: None,
            exists: false,
            is_doubted: false,
            phase: Phase::Idle,
            urgency: Urgency::CatchUp,
            due: None,
            last_sent: None,
            pause: None,
            leaving: None,
            failures: 0,
            again: 0,
            stale: 0,
            why: None,
        }
    }

    /// What it needs now, for it to be as desired.
    fn wish(&self, way: Way, desired: Option<Summary>, now: Instant) -> Option<Wish> {
        let is_named = self.etag.is_some() || !way.is_tagged();
        let has_ended = self.expires.is_some_and(|end| end <= now);
        match desired {
            Some(summary) if self.accepted == Some(summary) => {
                let due = self.refresh.is_some_and(|at| at <= now);
                let wish = if is_named { Wish::Refresh(summary) } else { Wish::State(summary) };
                due.then_some(wish)
            }
            Some(summary) => Some(Wish::State(summary)),
            // One that has ended by itself needs no removal.
            None => (self.exists && is_named && !has_ended).then_some(Wish::Remove),
        }
    }

    pub(super) fn view(&self, way: Way, desired: Option<Summary>, now: Instant) -> PublicationView {
        let paused = self.pause.map(Pause::until).filter(|until| *until > now);
        let progress = match (self.phase, paused) {
            (Phase::InFlight(_), _) => Progress::UnderWay,
            (_, Some(until)) => Progress::Paused(until),
            _ if desired.is_none() => Progress::Leaving,
            _ if desired == self.accepted => Progress::Current,
            _ => Progress::Waiting,
        };
        PublicationView {
            way,
            accepted: self.accepted,
            has_etag: self.etag.is_some(),
            expires: self.expires,
            progress,
            why: self.why.clone(),
        }
    }

    /// The earliest time for the next step.
    fn earliest(&self, min_interval: Duration) -> Option<Instant> {
        let pace = self.last_sent.map(|sent| sent + min_interval);
        let leaving = match self.leaving {
            Some(Leaving::At(at)) => Some(at),
            Some(Leaving::Soon) | None => None,
        };
        pace.into_iter().chain(self.pause.map(Pause::until)).chain(leaving).max()
    }

    /// Nothing of it is at its server.
    fn begin_afresh(&mut self) {
        (self.etag, self.accepted) = (None, None);
        (self.expires, self.refresh) = (None, None);
    }
}

impl Publications {
    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    pub(super) fn is_settled(&self, account: &Account, soon: Instant) -> bool {
        self.of(account).all(|(key, state)| {
            state.phase == Phase::Idle
                && state.due.is_none_or(|due| due > soon)
                && !self.changed.contains(key)
        })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&Key, &State)> {
        self.states.iter()
    }

    /// The publications of an account.
    pub(super) fn of(&self, account: &Account) -> impl Iterator<Item = (&Key, &State)> {
        let key = |way| (account.clone(), way);
        let ways = Way::ALL.into_iter().filter(|_| !self.states.is_empty());
        ways.filter_map(move |way| self.states.get_key_value(&key(way)))
    }

    fn keys(&self, account: &Account) -> Vec<Key> {
        self.of(account).map(|(key, _)| key.clone()).collect()
    }

    fn schedule(&mut self, key: &Key, at: Instant) {
        let Some(state) = self.states.get_mut(key) else { return };
        if let Some(overtaken) = state.due.replace(at) {
            self.timers.remove(&(overtaken, key.clone()));
        }
        self.timers.insert((at, key.clone()));
    }

    fn unschedule(&mut self, key: &Key) {
        let due = self.states.get_mut(key).and_then(|state| state.due.take());
        if let Some(due) = due {
            self.timers.remove(&(due, key.clone()));
        }
    }
}

impl Reconciler {
    /// What a ledger knows from before a restart. To be called before anything else.
    pub fn remember_publications(
        &mut self,
        past: impl IntoIterator<Item = ((Account, Way), Published)>,
        now: Instant,
        unix: u64,
    ) {
        for (key, Published { etag, accepted, expires }) in past {
            let left = expires.map(|end| Duration::from_secs(end.saturating_sub(unix)));
            let refresh = left.map(|left| self.refresh_at(now, left));
            let expires = left.map(|left| now + left);
            let state = State { etag, accepted, expires, refresh, exists: true, ..State::new() };
            self.publications.states.insert(key, state);
        }
    }

    /// All accounts that there are have been set: what is still published of others is removed, a
    /// little later, unless `may_come` says that an account may still be set. Those that `is_told`
    /// elsewhere are another mwid's.
    pub fn withdraw(
        &mut self,
        may_come: impl Fn(&Account) -> bool,
        is_told: impl Fn(&Account) -> bool,
    ) {
        let unwanted = |key: &&Key| self.wanted(key).is_none() && !may_come(&key.0);
        let keys = self.publications.states.keys().filter(unwanted).cloned().collect();
        for key in sorted::<Key>(keys) {
            if is_told(&key.0) { self.hand_over(key) } else { self.leave(key) }
        }
    }

    /// Another mwid publishes it. Where the account alone names a publication, it is the other one's
    /// now.
    fn hand_over(&mut self, key: Key) {
        if key.1.is_tagged() {
            return self.leave(key);
        }
        if let Some(state) = self.publications.states.get_mut(&key) {
            state.exists = false;
            self.publications.changed.insert(key);
        }
    }

    /// It is to be removed, but not at once.
    fn leave(&mut self, key: Key) {
        if let Some(state) = self.publications.states.get_mut(&key) {
            state.leaving = Some(Leaving::Soon);
            self.publications.changed.insert(key);
        }
    }

    /// What servers took by this way is no longer known: another server, for example. All of it is
    /// stated anew.
    pub fn doubt(&mut self, way: Way) {
        let publications = &mut self.publications;
        for (key, state) in publications.states.iter_mut().filter(|(key, _)| key.1 == way) {
            (state.accepted, state.pause) = (None, None);
            state.is_doubted = matches!(state.phase, Phase::InFlight(_));
            publications.changed.insert(key.clone());
        }
    }

    /// What became of a step of a publication.
    pub fn handle_published(
        &mut self,
        way: Way,
        account: &Account,
        outcome: Outcome,
        now: Instant,
    ) {
        let key = (account.clone(), way);
        let Some(state) = self.publications.states.get_mut(&key) else { return };
        let Phase::InFlight(wish) = state.phase else { return };
        state.phase = Phase::Idle;
        self.in_flight -= 1;
        let is_doubted = std::mem::take(&mut state.is_doubted);
        state.again = if outcome == Outcome::Again { state.again + 1 } else { 0 };
        match outcome {
            Outcome::Accepted { etag, expires } => {
                (state.failures, state.stale, state.pause, state.why) = (0, 0, None, None);
                state.last_sent = Some(now);
                state.begin_afresh();
                match wish {
                    Wish::Remove => state.exists = false,
                    Wish::State(summary) | Wish::Refresh(summary) => {
                        state.etag = etag;
                        state.accepted = (!is_doubted).then_some(summary);
                        state.expires = expires.map(|expires| now + expires);
                        let refresh = expires.map(|expires| self.refresh_at(now, expires));
                        if let Some(state) = self.publications.states.get_mut(&key) {
                            state.refresh = refresh;
                        }
                    }
                }
            }
            Outcome::Stale => {
                state.begin_afresh();
                state.exists = false;
                state.stale += 1;
                state.last_sent = None;
                if state.stale > MAX_STALE {
                    state.stale = 0;
                    self.publish_later(&key, None, now);
                }
            }
            Outcome::Again if state.again > AGAIN => {
                state.again = 0;
                self.publish_later(&key, None, now);
            }
            Outcome::Again => {
                (state.last_sent, state.pause) = (None, None);
                if let Wish::Refresh(summary) = wish {
                    // Whatever became of it, a server that knows the entity-tag has this state.
                    state.accepted = Some(summary);
                }
            }
            Outcome::Later(pause) => self.publish_later(&key, pause, now),
        }
        self.consider_publication(&key, now);
    }

    /// Why the last step of a publication came to nothing, until one is accepted.
    pub fn explain(&mut self, way: Way, account: &Account, why: &str) {
        if let Some(state) = self.publications.states.get_mut(&(account.clone(), way)) {
            state.why = Some(why.into());
        }
    }

    /// Of each way, how many publications there are and how many are as they should be.
    #[must_use]
    pub fn tallies(&self) -> [(Way, usize, usize); Way::ALL.len()] {
        let mut tallies = Way::ALL.map(|way| (way, 0, 0));
        for (key, state) in &self.publications.states {
            let is_current = state.accepted.is_some() && state.accepted == self.wanted(key);
            let (_, known, current) = &mut tallies[key.1 as usize];
            *known += 1;
            *current += usize::from(is_current);
        }
        tallies
    }

    /// A server that gave no answer gives answers: whatever waits to be tried again need not.
    pub fn hurry_way(&mut self, way: Way) {
        self.end_pauses(|key| key.1 == way);
    }

    /// Between half and four fifths of the time that is left, so that they do not come all at once.
    fn refresh_at(&mut self, now: Instant, left: Duration) -> Instant {
        now + self.jitter.spread(left * 16 / 25).max(MIN_REFRESH)
    }

    /// What the publication must say; `None` when there must be none.
    pub(super) fn wanted(&self, (account, way): &Key) -> Option<Summary> {
        let state = self.accounts.get(account).filter(|state| state.ways.contains(*way));
        state.and_then(|state| state.desired)
    }

    /// An account's summary or its ways are others now.
    pub(super) fn set_publications(
        &mut self,
        account: &Account,
        ways: Ways,
        urgency: Urgency,
        force: bool,
    ) {
        for way in ways.publications() {
            let key = (account.clone(), way);
            self.publications.states.entry(key).or_insert_with(State::new);
        }
        for key in self.publications.keys(account) {
            let Some(state) = self.publications.states.get_mut(&key) else { continue };
            state.urgency = urgency;
            if force {
                state.accepted = None;
            }
            if urgency == Urgency::Fresh {
                state.pause = state.pause.filter(|pause| matches!(pause, Pause::Told(_)));
            }
            self.publications.changed.insert(key);
        }
    }

    /// Another mwid may have published something since.
    pub(super) fn doubt_publications(&mut self, account: &Account) {
        for key in self.publications.keys(account) {
            let Some(state) = self.publications.states.get_mut(&key) else { continue };
            (state.accepted, state.pause) = (None, None);
        }
    }

    /// Another mwid publishes the account from here on.
    pub(super) fn hand_over_publications(&mut self, account: &Account) {
        for key in self.publications.keys(account) {
            self.hand_over(key);
        }
    }

    /// Ends the pauses of these.
    pub(super) fn end_pauses(&mut self, of: impl Fn(&Key) -> bool) {
        let publications = &mut self.publications;
        for (key, state) in publications.states.iter_mut().filter(|(key, _)| of(key)) {
            if state.pause.take().is_some() {
                publications.changed.insert(key.clone());
            }
        }
    }

    /// Looks at those that changed or are due.
    pub(super) fn fire_publications(&mut self, now: Instant) {
        while let Some(key) = self.publications.changed.pop_first() {
            self.consider_publication(&key, now);
        }
        while self.publications.timers.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.publications.timers.pop_first() else { return };
            if let Some(state) = self.publications.states.get_mut(&key) {
                state.due = None;
            }
            self.consider_publication(&key, now);
        }
    }

    /// Decides whether a publication needs a step, and when.
    fn consider_publication(&mut self, key: &Key, now: Instant) {
        let desired = self.wanted(key);
        let min_interval = self.settings.min_interval;
        let Some(state) = self.publications.states.get_mut(key) else { return };
        if matches!(state.phase, Phase::InFlight(_)) {
            // Its answer will compare again.
            return;
        }
        let Some(wish) = state.wish(key.1, desired, now) else { return self.rest(key, desired) };
        state.leaving = match state.leaving {
            Some(Leaving::Soon) if wish == Wish::Remove => Some(Leaving::At(now + HANDOVER)),
            at => at.filter(|_| wish == Wish::Remove),
        };
        let urgency = match wish {
            Wish::Refresh(_) => Urgency::Due,
            Wish::State(_) | Wish::Remove => state.urgency,
        };
        let end = state.expires.filter(|_| wish == Wish::Remove);
        let earliest = state.earliest(min_interval).map(|at| end.map_or(at, |end| at.min(end)));
        match earliest.filter(|at| *at > now) {
            Some(at) => {
                state.phase = Phase::Idle;
                self.publications.schedule(key, at);
            }
            None if matches!(state.phase, Phase::Ready(line) if line >= urgency) => {}
            None => {
                // One that stood in a slower line stands in both then; the first that comes to it
                // counts, the other finds it no longer ready.
                state.phase = Phase::Ready(urgency);
                self.publications.unschedule(key);
                self.ready.push(urgency, Ready::Publication(key.clone()));
            }
        }
    }

    /// The publication is as desired: it waits for its refresh, or is forgotten.
    fn rest(&mut self, key: &Key, desired: Option<Summary>) {
        let Some(state) = self.publications.states.get_mut(key) else { return };
        state.phase = Phase::Idle;
        state.leaving = None;
        match (desired, state.refresh) {
            (Some(_), Some(at)) => self.publications.schedule(key, at),
            (Some(_), None) => self.publications.unschedule(key),
            (None, _) => {
                self.publications.unschedule(key);
                self.publications.states.remove(key);
            }
        }
    }

    /// It is a publication's turn: the newest counts go.
    pub(super) fn publish(&mut self, key: &Key, now: Instant) -> Option<Action> {
        let desired = self.wanted(key);
        let state = self.publications.states.get_mut(key)?;
        if !matches!(state.phase, Phase::Ready(_)) {
            return None;
        }
        let Some(wish) = state.wish(key.1, desired, now) else {
            self.rest(key, desired);
            return None;
        };
        state.phase = Phase::InFlight(wish);
        state.last_sent = Some(now);
        state.exists = true;
        // From here on nobody knows what the server has: the answer may get lost.
        state.accepted = None;
        let (account, way) = key.clone();
        self.in_flight += 1;
        Some(Action::Publish(Order { way, account, wish, etag: state.etag.clone() }))
    }

    /// After the time that the server asked for, or after our own growing back-off.
    fn publish_later(&mut self, key: &Key, told: Option<Duration>, now: Instant) {
        let Some(state) = self.publications.states.get_mut(key) else { return };
        state.failures = state.failures.saturating_add(1);
        state.urgency = Urgency::CatchUp;
        let own = self.jitter.spread(self.settings.backoff.pause(state.failures));
        state.pause = Some(Pause::after(told, own, now));
    }
}
