//! When something is to be done about which transaction.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use super::branch::Key;
use super::{ROOM, TransactionId};

/// When something is to be done, and about which transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    pub(super) id: TransactionId,
    pub(super) key: Key,
}

/// Deadlines, the earliest first.
///
/// All first Timers E are equally long, and so are all Timers K: nearly every deadline is later than
/// those before it, and most of the first kind are taken back in that order, too, as the answers
/// come. Those stand in a queue, where that costs next to nothing. The few others have a tree.
///
/// Invariant: the queue is in order, and neither begins with one that was taken back nor has more of
/// these than others, apart from a few.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    queue: VecDeque<Queued>,
    /// How many of the queue were taken back.
    gone: usize,
    others: BTreeSet<Deadline>,
}

#[derive(Debug)]
struct Queued {
    at: Instant,
    id: TransactionId,
    /// `None`: taken back.
    key: Option<Key>,
}

impl Queued {
    fn place(&self) -> (Instant, TransactionId) {
        (self.at, self.id)
    }
}

impl Deadlines {
    pub(super) fn insert(&mut self, deadline: Deadline) {
        let Deadline { at, id, key } = deadline;
        if self.queue.back().is_none_or(|last| last.place() < (at, id)) {
            self.queue.push_back(Queued { at, id, key: Some(key) });
        } else {
            self.others.insert(deadline);
        }
    }

    /// Takes one back that was inserted.
    pub(super) fn remove(&mut self, deadline: &Deadline) {
        let place = (deadline.at, deadline.id);
        if let Ok(index) = self.queue.binary_search_by_key(&place, Queued::place)
            && self.queue[index].key.take().is_some()
        {
            self.gone += 1;
            self.tidy();
        } else {
            self.others.remove(deadline);
        }
    }

    fn tidy(&mut self) {
        while self.queue.front().is_some_and(|first| first.key.is_none()) {
            self.queue.pop_front();
            self.gone -= 1;
        }
        if self.gone > ROOM && self.gone > self.queue.len() / 2 {
            self.queue.retain(|queued| queued.key.is_some());
            self.gone = 0;
        }
        if self.queue.is_empty() && self.queue.capacity() > ROOM {
            self.queue = VecDeque::new();
        }
    }

    /// The earliest.
    pub(super) fn first(&self) -> Option<Instant> {
        let queued = self.queue.front().map(|queued| queued.at);
        queued.into_iter().chain(self.others.first().map(|other| other.at)).min()
    }

    /// Takes the earliest out.
    pub(super) fn pop(&mut self) -> Option<Key> {
        let first = self.first()?;
        if let Some(other) = self.others.first().filter(|other| other.at == first) {
            let other = *other;
            self.others.remove(&other);
            return Some(other.key);
        }
        let key = self.queue.pop_front().and_then(|queued| queued.key);
        self.tidy();
        key
    }

    /// Takes the earliest out if it is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Key> {
        self.first().filter(|at| *at <= now).and_then(|_| self.pop())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::branch::Branches;
    use proptest::prelude::*;
    use std::time::Duration;

    /// So many, all at the same time.
    fn deadlines(at: Instant, count: usize) -> Vec<Deadline> {
        let mut branches = Branches::new(1);
        let ids = (0..).map(TransactionId);
        ids.take(count).map(|id| Deadline { at, id, key: branches.next().key() }).collect()
    }

    #[test]
    fn those_that_were_taken_back_do_not_pile_up_behind_one_that_stays() {
        let all = deadlines(Instant::now(), 10_000);
        let mut deadlines = Deadlines::default();
        deadlines.insert(all[0]);
        for deadline in &all[1..] {
            deadlines.insert(*deadline);
            deadlines.remove(deadline);
        }
        assert!(deadlines.queue.len() <= ROOM + 2, "{}", deadlines.queue.len());
        assert_eq!(deadlines.pop(), Some(all[0].key));
        assert_eq!((deadlines.first(), deadlines.queue.len()), (None, 0));
    }

    proptest! {
        /// The same as one ordered set, whatever is done.
        #[test]
        fn the_earliest_is_always_first(
            steps in prop::collection::vec((0..20_u64, any::<prop::sample::Index>(), 0..4_u8), 0..200)
        ) {
            let start = Instant::now();
            let (mut deadlines, mut model) = (Deadlines::default(), BTreeSet::new());
            let new = super::tests::deadlines(start, steps.len());
            for ((millis, index, what), deadline) in steps.into_iter().zip(new) {
                let at = start + Duration::from_millis(millis);
                match (what, model.len()) {
                    (0 | 1, _) | (_, 0) => {
                        deadlines.insert(Deadline { at, ..deadline });
                        model.insert(Deadline { at, ..deadline });
                    }
                    (2, size) => {
                        let deadline = *model.iter().nth(index.index(size)).unwrap();
                        deadlines.remove(&deadline);
                        deadlines.remove(&deadline);
                        model.remove(&deadline);
                    }
                    _ => {
                        let first = model.first().map(|first| first.at).filter(|first| *first <= at);
                        let popped = deadlines.pop_due(at);
                        prop_assert_eq!(popped.is_some(), first.is_some());
                        let size = model.len();
                        model.retain(|it| Some(it.key) != popped || Some(it.at) != first);
                        prop_assert_eq!(model.len(), size - usize::from(popped.is_some()));
                    }
                }
                prop_assert_eq!(deadlines.first(), model.first().map(|first| first.at));
            }
        }
    }
}
