//! Lines at one counter.

use std::collections::VecDeque;

/// How soon an account is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Start, rescan, retry.
    CatchUp,
    /// A publication that ends soon.
    Due,
    /// A voicemail was left or heard just now: ahead of everything else, but for a flood of the kind.
    Fresh,
}

/// A line keeps the room for this many.
const ROOM: usize = 1024;

/// So many fresh ones go ahead of one that waits: their flood holds nobody up for ever.
const AHEAD: u32 = 15;

/// Lines at one counter: fresh ones first, then what ends soon.
#[derive(Debug)]
pub(super) struct Queue<T> {
    fresh: VecDeque<T>,
    due: VecDeque<T>,
    catch_up: VecDeque<T>,
    /// Fresh ones that went ahead of those who still wait.
    ahead: u32,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        let line = VecDeque::new;
        Self { fresh: line(), due: line(), catch_up: line(), ahead: 0 }
    }

    pub(super) fn push(&mut self, urgency: Urgency, item: T) {
        match urgency {
            Urgency::Fresh => self.fresh.push_back(item),
            Urgency::Due => self.due.push_back(item),
            Urgency::CatchUp => self.catch_up.push_back(item),
        }
    }

    /// Gives back the room that a crowd took, once nobody waits.
    fn tidy(&mut self) {
        for line in [&mut self.fresh, &mut self.due, &mut self.catch_up] {
            if line.is_empty() && line.capacity() > ROOM {
                *line = VecDeque::new();
            }
        }
    }

    /// The next one; with `fresh_only`, none that may wait.
    pub(super) fn pop(&mut self, fresh_only: bool) -> Option<T> {
        let others_wait = !fresh_only && self.len() > self.fresh.len();
        let next = if others_wait && (self.fresh.is_empty() || self.ahead >= AHEAD) {
            self.ahead = 0;
            self.due.pop_front().or_else(|| self.catch_up.pop_front())
        } else {
            self.ahead += u32::from(others_wait);
            self.fresh.pop_front()
        };
        self.tidy();
        next
    }

    /// Those that are not `wanted` leave the line.
    pub(super) fn retain(&mut self, wanted: impl Fn(&T) -> bool) {
        for line in [&mut self.fresh, &mut self.due, &mut self.catch_up] {
            line.retain(&wanted);
        }
        self.tidy();
    }

    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.due.len() + self.catch_up.len()
    }

    /// How many of them are only to be caught up with.
    pub(super) fn catching_up(&self) -> usize {
        self.catch_up.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_fresh_ones_goes_ahead_and_holds_nobody_up_for_ever() {
        let mut queue = Queue::new();
        let slow = [Urgency::CatchUp, Urgency::CatchUp, Urgency::Due];
        slow.into_iter().for_each(|urgency| queue.push(urgency, urgency));
        for _ in 0..100 {
            queue.push(Urgency::Fresh, Urgency::Fresh);
        }
        assert_eq!(queue.pop(false), Some(Urgency::Fresh));
        let places: Vec<usize> = (2..=100)
            .filter(|_| queue.pop(false).is_some_and(|urgency| urgency != Urgency::Fresh))
            .collect();
        assert_eq!(places, [16, 32, 48]);
        queue.push(Urgency::CatchUp, Urgency::CatchUp);
        let rest: Vec<Urgency> = std::iter::from_fn(|| queue.pop(true)).collect();
        assert_eq!(rest, [Urgency::Fresh; 3], "who may wait is not asked for");
        assert_eq!(queue.pop(false), Some(Urgency::CatchUp));
    }
}
