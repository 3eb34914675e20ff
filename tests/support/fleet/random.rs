//! Seeded numbers: a run that failed can be played again with `SEED=n`.

/// A 64-bit linear congruential generator; its upper half is uniform enough to disturb a daemon.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From `SEED` in the environment, or from `seed`.
    pub fn new(seed: u64) -> Self {
        let told = std::env::var("SEED").ok().map(|text| text.parse().expect("SEED is a number"));
        let mut random = Self(told.unwrap_or(seed));
        // Small seeds begin alike.
        random.below(2);
        random
    }

    /// From 0 up to, not including, `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// The same as an index.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("it is below a usize")
    }

    /// True in so many of 100 cases.
    pub fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < u64::from(percent)
    }

    /// Another one that goes its own way from here, for another thread.
    pub fn fork(&mut self) -> Self {
        Self(self.below(u64::MAX) ^ 0x5eed)
    }
}
