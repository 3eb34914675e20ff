//! Questions to the database that wait for a place there, and go together then.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mwid_core::dialog::Dialog;
use mwid_core::mailbox::Account;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::delivery::Order;
use crate::dialogs::{StoreError, together};

/// What the reconciler asked for and has not been begun.
pub(super) struct Lines {
    pub(super) finds: Line<Account>,
    /// Dialogs, and above which CSeq.
    pub(super) claims: Line<(Arc<Dialog>, u32)>,
    /// Those whose CSeq the ledger is to have first.
    pub(super) notifies: Vec<Order>,
    /// As many other questions at once.
    pub(super) places: Arc<Semaphore>,
}

impl Lines {
    /// `places`: as many questions of each kind at once. `timeout`: of the database.
    pub(super) fn new(places: usize, timeout: Duration) -> Self {
        Self {
            finds: Line::new(places, timeout),
            claims: Line::new(places, timeout),
            notifies: Vec::new(),
            places: Arc::new(Semaphore::new(places)),
        }
    }

    /// Another database, or another number of connections. Who waits keeps waiting, who is under way
    /// ends by himself.
    pub(super) fn configure(&mut self, places: usize, timeout: Duration) {
        self.finds.configure(places, timeout);
        self.claims.configure(places, timeout);
        self.places = Arc::new(Semaphore::new(places));
    }

    /// The dialogs for which no claim was begun: it is not to be made any more.
    pub(super) fn take_claims(&mut self) -> impl Iterator<Item = Arc<Dialog>> {
        self.claims.waiting.drain(..).map(|(dialog, _)| dialog)
    }
}

/// So many go together at first.
const CAREFUL: usize = 4;

/// Those of one kind. Who is alone goes at once; the more wait, the fewer questions each of them costs.
/// As many go together as the database answers well within its time: where it reads the whole table
/// for each of them, few do.
pub(super) struct Line<T> {
    waiting: VecDeque<T>,
    places: Arc<Semaphore>,
    most: usize,
    timeout: Duration,
}

/// A question under way. Its place is free when this is gone.
pub(super) struct Turn {
    begun: Instant,
    size: usize,
    place: OwnedSemaphorePermit,
}

/// How a question went.
pub(super) struct Went {
    /// Of the line that it stood in.
    places: Arc<Semaphore>,
    took: Duration,
    size: usize,
    outcome: Outcome,
}

/// What the database made of a question.
#[derive(Clone, Copy)]
enum Outcome {
    Answered,
    Late,
    /// That says nothing of how many may go together.
    Failed,
}

impl Turn {
    /// Frees the place.
    pub(super) fn end<'a>(self, errors: impl Iterator<Item = &'a StoreError>) -> Went {
        let outcome = errors.fold(Outcome::Answered, |outcome, error| match (outcome, error) {
            (Outcome::Late, _) | (_, StoreError::Timeout { .. }) => Outcome::Late,
            _ => Outcome::Failed,
        });
        let places = Arc::clone(self.place.semaphore());
        Went { places, took: self.begun.elapsed(), size: self.size, outcome }
    }
}

impl<T> Line<T> {
    fn new(places: usize, timeout: Duration) -> Self {
        let places = Arc::new(Semaphore::new(places));
        Self { waiting: VecDeque::new(), places, most: CAREFUL, timeout }
    }

    fn configure(&mut self, places: usize, timeout: Duration) {
        let waiting = std::mem::take(&mut self.waiting);
        *self = Self { waiting, ..Self::new(places, timeout) };
    }

    /// For so many more there is a place now.
    pub(super) fn room(&self) -> usize {
        (self.places.available_permits() * self.most).saturating_sub(self.waiting.len())
    }

    pub(super) fn push(&mut self, question: T) {
        self.waiting.push_back(question);
    }

    /// Those whose turn it is, if there is a place.
    pub(super) fn next(&mut self) -> Option<(Vec<T>, Turn)> {
        if self.waiting.is_empty() {
            return None;
        }
        // Whoever has a place gives it back before the loop hears from him, and looks here again.
        let place = self.places.clone().try_acquire_owned().ok()?;
        let size = together(self.waiting.len().min(self.most));
        let turn = Turn { begun: Instant::now(), size, place };
        Some((self.waiting.drain(..size).collect(), turn))
    }

    /// Learns how many may go together. Nothing, and false, from a database that is no longer asked.
    pub(super) fn learn(&mut self, went: &Went) -> bool {
        let Went { ref places, took, size, outcome } = *went;
        if !Arc::ptr_eq(places, &self.places) {
            return false;
        }
        match outcome {
            Outcome::Late => self.most = self.most.min(size / 2).max(1),
            Outcome::Answered if size == self.most && took < self.timeout / 8 => {
                self.most = together(size * 2);
            }
            Outcome::Answered | Outcome::Failed => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use mwid_core::pace::Backoff;
    use mwid_core::reconciler::{Action, Reconciler, Settings, Urgency};
    use mwid_core::summary::Summary;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    fn late() -> StoreError {
        StoreError::Timeout { at: "here".into(), after: TIMEOUT }
    }

    fn reconciler() -> Reconciler {
        let settings = Settings {
            min_interval: TIMEOUT,
            settle: Duration::ZERO,
            rate: 100_000,
            backoff: Backoff { min: TIMEOUT, max: TIMEOUT },
            max_lookups: super::super::MAX_LOOKUPS,
            max_in_flight: 1000,
            shared: true,
        };
        Reconciler::new(settings, 1)
    }

    #[test]
    fn those_that_wait_for_a_place_go_together_in_their_order() {
        let mut line = Line::new(1, TIMEOUT);
        assert!(line.next().is_none(), "nobody waits");
        line.push(0);
        let (first, turn) = line.next().unwrap();
        assert_eq!(first, [0], "who is alone waits for nobody");
        (1..=6).for_each(|number| line.push(number));
        assert!(line.next().is_none(), "there is no place");
        line.learn(&turn.end([].iter()));
        let (second, turn) = line.next().unwrap();
        assert_eq!(second, [1, 2, 3, 4]);
        drop(turn);
        assert_eq!(line.next().unwrap().0, [5, 6]);
    }

    #[test]
    fn more_go_together_while_the_database_is_quick_and_fewer_when_it_is_not() {
        let mut line = Line::new(1, TIMEOUT);
        (0..1000).for_each(|number| line.push(number));
        let mut sizes = Vec::new();
        let mut turn = |line: &mut Line<i32>, error: Option<StoreError>, took: Duration| {
            let (questions, turn) = line.next().unwrap();
            sizes.push(questions.len());
            line.learn(&Went { took, ..turn.end(error.iter()) });
        };
        for _ in 0..5 {
            turn(&mut line, None, Duration::ZERO);
        }
        turn(&mut line, Some(late()), TIMEOUT);
        turn(&mut line, Some(late()), TIMEOUT);
        turn(&mut line, None, TIMEOUT / 2);
        turn(&mut line, None, Duration::ZERO);
        turn(&mut line, None, Duration::ZERO);
        assert_eq!(sizes, [4, 8, 16, 32, 32, 32, 16, 8, 8, 16]);
    }

    #[test]
    fn another_database_is_not_judged_by_the_former_one() {
        let mut line = Line::new(1, TIMEOUT);
        (0..100).for_each(|number| line.push(number));
        let (_, former) = line.next().unwrap();
        line.configure(1, TIMEOUT);
        let (_, turn) = line.next().expect("who is under way there takes no place here");
        assert!(!line.learn(&former.end([late()].iter())));
        assert!(line.learn(&turn.end([].iter())));
        assert_eq!(line.next().unwrap().0.len(), 2 * CAREFUL);
    }

    /// A start with many accounts, at a database that takes its time.
    #[test]
    fn what_an_event_changed_is_looked_up_next_however_many_wait() {
        let account = |user: u32| Account::new(&user.to_string(), "example.com").unwrap();
        let now = Instant::now();
        let mut reconciler = reconciler();
        for user in 0..1000 {
            reconciler.set(&account(user), Summary::default(), Urgency::CatchUp, false);
        }
        let mut line = Line::new(2, TIMEOUT);
        let mut ask = |reconciler: &mut Reconciler| {
            reconciler.allow_look_ups(line.room());
            while let Some(Action::Find(account)) = reconciler.poll_action(now) {
                line.push(account);
            }
            std::iter::from_fn(|| line.next()).collect::<Vec<_>>()
        };
        let mut under_way = ask(&mut reconciler);
        assert_eq!(under_way.len(), 2);
        reconciler.set(&account(5000), Summary::default(), Urgency::Fresh, false);
        assert!(ask(&mut reconciler).is_empty(), "there is no place");
        drop(under_way.pop());
        assert!(ask(&mut reconciler)[0].0.contains(&account(5000)));
    }

    #[test]
    fn no_more_are_asked_for_than_there_is_room_for() {
        let mut line = Line::new(2, TIMEOUT);
        assert_eq!(line.room(), 2 * CAREFUL);
        (0..3).for_each(|number| line.push(number));
        let turn = line.next().unwrap().1;
        assert_eq!(line.room(), CAREFUL - 1, "one of the three still waits");
        let _other = line.next().unwrap();
        assert_eq!(line.room(), 0);
        drop(turn);
        assert_eq!(line.room(), CAREFUL);
    }
}
