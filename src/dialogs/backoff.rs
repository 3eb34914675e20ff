//! A server that is down is asked again ever more slowly.

use std::time::{Duration, Instant};

use mwid_core::pace;

use super::error::StoreError;

/// Pauses after a failure of the database.
pub(super) const PAUSES: pace::Backoff =
    pace::Backoff { min: Duration::from_millis(200), max: Duration::from_secs(5) };

/// Remembers the last failed connection. While its pause lasts, callers get its error at once and
/// nobody connects; the pause doubles from 0.2 s to 5 s and ends with the first success.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Failure {
    until: Instant,
    /// In a row.
    count: u32,
    error: StoreError,
}

impl Backoff {
    /// The last error while its pause lasts, `None` when it is time to try.
    pub(super) fn refusal(&self, now: Instant) -> Option<StoreError> {
        self.failure.as_ref().filter(|failure| now < failure.until).map(|f| f.error.clone())
    }

    /// A connection failed. Several that were under way at once count as one.
    pub(super) fn failed(&mut self, now: Instant, error: &StoreError) {
        let count = match &self.failure {
            Some(failure) if now < failure.until => return,
            Some(failure) => failure.count.saturating_add(1),
            None => 1,
        };
        let until = now + PAUSES.pause(count);
        self.failure = Some(Failure { until, count, error: error.clone() });
    }

    /// A connection was made.
    pub(super) fn succeeded(&mut self) {
        self.failure = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> StoreError {
        StoreError::Timeout { at: "here".into(), after: Duration::from_secs(1) }
    }

    #[test]
    fn the_pause_doubles_up_to_five_seconds_and_ends_with_a_success() {
        let mut now = Instant::now();
        let mut backoff = Backoff::default();
        for expected in [200, 400, 800, 1600, 3200, 5000, 5000] {
            assert!(backoff.refusal(now).is_none());
            backoff.failed(now, &error());
            let pause = Duration::from_millis(expected);
            assert!(backoff.refusal(now + pause - Duration::from_millis(1)).is_some());
            now += pause;
        }
        backoff.succeeded();
        backoff.failed(now, &error());
        assert!(backoff.refusal(now + PAUSES.min).is_none());
    }

    #[test]
    fn failures_that_were_under_way_together_count_once() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        for _ in 0..4 {
            backoff.failed(now, &error());
        }
        assert!(backoff.refusal(now + PAUSES.min).is_none());
    }
}
