//! How long something took, counted by size.

use std::time::Duration;

/// The upper bounds of the buckets, in seconds: from a phone in the next room to 64 × T1 and a
/// retry after it.
pub(super) const BOUNDS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 32.0, 60.0, 120.0,
];

/// The bucket that this belongs to: the number of its bound, or one more than there are.
pub(super) fn bucket(took: Duration) -> usize {
    let seconds = took.as_secs_f64();
    BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len())
}

/// Buckets that are counted in place: no allocation, no lock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Histogram {
    /// By bound, and the rest.
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&mut self, took: Duration) {
        self.counts[bucket(took)] += 1;
        self.sum = self.sum.saturating_add(took);
    }

    /// Each bound, and how many were not above it; the rest is in [`count`](Self::count).
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        BOUNDS.iter().zip(&self.counts).scan(0, |below, (bound, count)| {
            *below += count;
            Some((*bound, *below))
        })
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long they took together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_what_is_not_above_its_bound_and_all_below() {
        let mut histogram = Histogram::default();
        for millis in [0, 1, 2, 33_000, 121_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let buckets: Vec<(f64, u64)> = histogram.buckets().collect();
        assert_eq!(buckets[0], (0.001, 2), "a bound belongs to its bucket");
        assert_eq!(buckets[1], (0.0025, 3));
        assert_eq!(buckets[13], (32.0, 3));
        assert_eq!(buckets[15], (120.0, 4));
        assert_eq!((histogram.count(), histogram.sum()), (5, Duration::from_millis(154_003)));
        assert!(BOUNDS.is_sorted());
    }
}
