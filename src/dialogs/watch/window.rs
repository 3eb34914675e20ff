//! Ids of rows that were seen, so that one which is committed after a higher one is not missed.
//!
//! A server gives out auto-increment ids at the INSERT and shows the row at the COMMIT: with two
//! writers a lower id may appear after a higher one. So what is read again and again reaches back
//! to where the ids stood some time ago, and what was seen already is passed over.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// How long after a higher id a lower one may still appear. A transaction that takes longer is left
/// to the next resync.
const GRACE: Duration = Duration::from_secs(30);

/// Marks closer together are one.
const GRAIN: Duration = Duration::from_millis(100);

/// Ids remembered at most: beyond them the window reaches back less.
const MOST: usize = 5000;

#[derive(Debug)]
pub(super) struct Window {
    last: i64,
    /// Where the ids stood when, oldest first.
    marks: VecDeque<(Instant, i64)>,
    /// The ids seen above the oldest mark.
    seen: BTreeSet<i64>,
}

impl Window {
    /// Everything up to `after` counts as seen.
    pub(super) fn new(after: i64) -> Self {
        Self { last: after, marks: VecDeque::new(), seen: BTreeSet::new() }
    }

    /// The highest id seen.
    pub(super) fn last(&self) -> i64 {
        self.last
    }

    /// A row was read; whether for the first time.
    pub(super) fn take(&mut self, id: i64, now: Instant) -> bool {
        if id > self.last {
            if self.marks.back().is_none_or(|(at, _)| now >= *at + GRAIN) {
                self.marks.push_back((now, self.last));
            }
            self.last = id;
        }
        self.seen.insert(id)
    }

    /// The id behind which rows may still appear.
    pub(super) fn floor(&mut self, now: Instant) -> i64 {
        while let Some((at, _)) = self.marks.front()
            && (now >= *at + GRACE || self.seen.len() > MOST)
        {
            self.marks.pop_front();
            let floor = self.marks.front().map_or(self.last, |(_, id)| *id);
            self.seen = self.seen.split_off(&floor.saturating_add(1));
        }
        self.marks.front().map_or(self.last, |(_, id)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_id_that_appears_later_is_taken_once() {
        let now = Instant::now();
        let mut window = Window::new(10);
        assert!(window.take(12, now));
        assert_eq!((window.last(), window.floor(now)), (12, 10));
        assert!(window.take(11, now + Duration::from_secs(5)));
        assert!(!window.take(11, now) && !window.take(12, now));
    }

    #[test]
    fn the_window_moves_on() {
        let now = Instant::now();
        let mut window = Window::new(0);
        for second in 0..100 {
            assert!(window.take(second + 1, now + Duration::from_secs(second as u64)));
        }
        assert_eq!(window.floor(now + Duration::from_secs(99)), 70);
        assert_eq!(window.seen.len(), 30);
        assert_eq!(window.floor(now + Duration::from_secs(200)), 100);
        assert!(window.seen.is_empty() && window.marks.is_empty());
    }

    #[test]
    fn the_window_is_bounded() {
        let now = Instant::now();
        let mut window = Window::new(0);
        for id in 1..=20_000 {
            window.take(id, now + Duration::from_millis(id as u64));
            window.floor(now + Duration::from_millis(id as u64));
            assert!(window.seen.len() <= MOST + 1 && window.marks.len() <= 60);
        }
    }
}
