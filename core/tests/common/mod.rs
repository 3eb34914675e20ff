//! What the models share.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The seeds to run: those of every run, or the one that `SEED` names.
pub(crate) fn seeds() -> RangeInclusive<u64> {
    match std::env::var("SEED") {
        Ok(seed) => seed.parse().unwrap()..=seed.parse().unwrap(),
        Err(_) => 0..=400,
    }
}

/// Seeded uniform numbers (a 64-bit LCG, its upper half): the same ones with every version of
/// every crate.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    pub(crate) fn millis(&mut self, bound: u64) -> Duration {
        Duration::from_millis(self.below(bound))
    }
}
