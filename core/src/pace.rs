//! How fast: growing back-off with jitter, and a rate limit for everything that leaves mwid.

use std::time::{Duration, Instant};

/// Small seeded generator for jitter (SplitMix64). Not for anything that must not be guessed.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// A generator; the same seed gives the same sequence, so a test can be replayed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A duration of 75 % to 125 % of the given one, so that many failures do not retry as one.
    pub fn spread(&mut self, pause: Duration) -> Duration {
        let percent = 75 + u32::try_from(self.next() % 51).unwrap_or(25);
        pause * percent / 100
    }

    /// A duration from nothing to the given one, so that many who begin at once do not begin as one.
    pub fn within(&mut self, longest: Duration) -> Duration {
        longest * u32::try_from(self.next() % 1000).unwrap_or(0) / 1000
    }
}

/// Growing pauses between retries: doubling from `min` to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after the first failure.
    pub min: Duration,
    /// The longest pause.
    pub max: Duration,
}

impl Backoff {
    /// The pause after so many failures in a row (1 for the first).
    #[must_use]
    pub fn pause(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        self.min.saturating_mul(1 << doublings).min(self.max)
    }
}

/// A token bucket: at most `rate` a second over any longer time, and only so many at once.
#[derive(Clone, Debug)]
pub struct Rate {
    per_token: Duration,
    burst: Duration,
    /// When the bucket was, or will be, full again.
    full_at: Option<Instant>,
}

impl Rate {
    /// A full bucket that gives a tenth of its rate at once. A rate of 0 counts as 1.
    #[must_use]
    pub fn new(rate: u32) -> Self {
        Self::with_burst(rate, rate / 10)
    }

    /// A full bucket that gives this many at once, one at least.
    #[must_use]
    pub fn with_burst(rate: u32, burst: u32) -> Self {
        let per_token = Duration::from_secs(1) / rate.max(1);
        Self { per_token, burst: per_token * burst.max(1), full_at: None }
    }

    /// When the next token is there: now, or later.
    #[must_use]
    pub fn next(&self, now: Instant) -> Instant {
        match self.full_at {
            Some(full_at) => {
                (full_at + self.per_token).checked_sub(self.burst).map_or(now, |at| at.max(now))
            }
            None => now,
        }
    }

    /// Whether all tokens are there.
    #[must_use]
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|full_at| full_at <= now)
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        if self.next(now) > now {
            return false;
        }
        self.full_at = Some(self.full_at.map_or(now, |at| at.max(now)) + self.per_token);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let backoff = Backoff { min: Duration::from_secs(5), max: Duration::from_secs(600) };
        let pauses: Vec<u64> = (1..10).map(|n| backoff.pause(n).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(backoff.pause(u32::MAX).as_secs(), 600);
    }

    #[test]
    fn jitter_stays_within_a_quarter() {
        let mut jitter = Jitter::new(1);
        let pauses: Vec<_> = (0..1000).map(|_| jitter.spread(Duration::from_secs(100))).collect();
        assert!(pauses.iter().all(|pause| (75..=125).contains(&pause.as_secs())));
        assert!(pauses.iter().any(|pause| pause.as_secs() < 80));
        assert!(pauses.iter().any(|pause| pause.as_secs() > 120));
    }

    #[test]
    fn a_rate_gives_a_tenth_at_once_and_the_rest_over_the_second() {
        let start = Instant::now();
        let mut rate = Rate::new(100);
        let mut now = start;
        let mut taken = 0;
        assert_eq!((0..50).filter(|_| rate.take(start)).count(), 10);
        while now < start + Duration::from_secs(10) {
            taken += u32::from(rate.take(now));
            now = rate.next(now).max(now + Duration::from_micros(1));
        }
        assert!((990..=1000).contains(&taken), "{taken} tokens in ten seconds");
    }
}
