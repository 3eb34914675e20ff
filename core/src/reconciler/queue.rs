//! Lines at one counter.

use std::collections::VecDeque;

/// How soon an account is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Start, rescan, retry.
    CatchUp,
    /// A publication that ends soon.
    Due,
    /// A voicemail was left or heard just now: ahead of everything else.
    Fresh,
}

/// A line keeps the room for this many.
const ROOM: usize = 1024;

/// Lines at one counter: fresh ones first, then what ends soon.
#[derive(Debug)]
pub(super) struct Queue<T> {
    fresh: VecDeque<T>,
    due: VecDeque<T>,
    catch_up: VecDeque<T>,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self { fresh: VecDeque::new(), due: VecDeque::new(), catch_up: VecDeque::new() }
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
        let fresh = self.fresh.pop_front();
        let next = match fresh_only {
            true => fresh,
            false => fresh.or_else(|| self.due.pop_front()).or_else(|| self.catch_up.pop_front()),
        };
        self.tidy();
        next
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
