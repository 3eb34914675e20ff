//! Events that wait, bounded, and what became of all of them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::Notify;

use super::Fault;

/// Events that wait in a lane, about 300 bytes each. When there are more, the oldest are dropped.
pub(super) const MAX_WAITING: usize = 1_024;

/// The events of some accounts, in order.
#[derive(Debug, Default)]
pub(super) struct Lane {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The first is being posted.
    events: VecDeque<(u64, Vec<u8>)>,
    numbers: u64,
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, body: Vec<u8>, record: &Record) {
        let mut waiting = self.lock();
        if waiting.events.len() >= MAX_WAITING {
            // Not the first: it is on its way.
            waiting.events.remove(1);
            record.dropped();
        }
        waiting.numbers += 1;
        let number = waiting.numbers;
        waiting.events.push_back((number, body));
        self.filled.notify_one();
    }

    /// The one to be posted now.
    pub(super) fn first(&self) -> Option<(u64, Vec<u8>)> {
        self.lock().events.front().cloned()
    }

    /// This one is posted, or given up.
    pub(super) fn done(&self, number: u64) {
        let mut waiting = self.lock();
        if waiting.events.front().is_some_and(|(first, _)| *first == number) {
            waiting.events.pop_front();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lock().events.len()
    }

    /// Waits until there is one more.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Takes over those of another lane, before any of its own.
    pub(super) fn adopt(&self, other: &Self) {
        let events = std::mem::take(&mut other.lock().events);
        let mut waiting = self.lock();
        for (_, body) in events {
            waiting.numbers += 1;
            let number = waiting.numbers;
            waiting.events.push_back((number, body));
        }
        self.filled.notify_one();
    }
}

/// What became of the events.
#[derive(Debug, Default)]
pub(super) struct Record {
    taken: AtomicU64,
    given_up: AtomicU64,
    dropped: AtomicU64,
    is_dropping: AtomicBool,
    /// Why they are not taken, while they are not.
    error: Mutex<Option<String>>,
}

impl Record {
    fn error(&self) -> MutexGuard<'_, Option<String>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn taken(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
        self.is_dropping.store(false, Ordering::Relaxed);
        if self.error().take().is_some() {
            tracing::info!("the webhook takes events again");
        }
    }

    /// Said when it begins.
    pub(super) fn failed(&self, fault: &Fault) {
        if self.error().replace(fault.to_string()).is_none() {
            tracing::warn!(
                "the webhook does not take an event: {fault}; look at [webhook] url and token, and at the application there"
            );
        }
    }

    pub(super) fn given_up(&self) {
        self.given_up.fetch_add(1, Ordering::Relaxed);
    }

    /// Said when it begins.
    fn dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        if !self.is_dropping.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "more events wait for the webhook than mwid keeps: the oldest are dropped and counted"
            );
        }
    }

    pub(super) fn health(&self, waiting: usize) -> WebhookHealth {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WebhookHealth {
            taken: count(&self.taken),
            waiting,
            given_up: count(&self.given_up),
            dropped: count(&self.dropped),
            error: self.error().clone(),
        }
    }
}

/// A webhook as it is now; the counters since the start, or since another address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WebhookHealth {
    /// Events that were taken.
    pub taken: u64,
    /// Events that wait.
    pub waiting: usize,
    /// Events that were refused, or tried often enough.
    pub given_up: u64,
    /// Events that there was no room for.
    pub dropped: u64,
    /// Why the last one was not taken.
    pub error: Option<String>,
}

impl WebhookHealth {
    /// What is wrong now, in a few words.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.error.is_some().then(|| "the webhook does not take events".to_owned())
    }
}

impl fmt::Display for WebhookHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { taken, waiting, given_up, dropped, error } = self;
        write!(
            f,
            "{taken} events taken, {waiting} waiting, {given_up} given up, {dropped} dropped"
        )?;
        match error {
            Some(error) => write!(f, "; not taken now: {error}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_too_many_wait_the_oldest_are_dropped_but_not_the_one_under_way() {
        let (lane, record) = (Lane::default(), Record::default());
        for number in 0..MAX_WAITING + 5 {
            lane.push(number.to_string().into_bytes(), &record);
        }
        assert_eq!(record.health(lane.len()).dropped, 5);
        assert_eq!(lane.len(), MAX_WAITING);
        let (number, body) = lane.first().unwrap();
        assert_eq!(body, b"0");
        lane.done(number);
        lane.done(number);
        assert_eq!(lane.first().unwrap().1, b"6", "after those that were dropped");
        let other = Lane::default();
        other.adopt(&lane);
        assert_eq!((lane.len(), other.len()), (0, MAX_WAITING - 1));
        assert_eq!(other.first().unwrap().1, b"6");
    }
}
