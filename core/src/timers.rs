//! The timers of a non-INVITE client transaction over UDP (RFC 3261 §17.1.2.2 and Table 4), and
//! the arithmetic of Timer E as a value of its own.

use std::time::Duration;

/// The longest T1, T2 or T4 that is taken at its word; a longer one counts as this.
const LONGEST: Duration = Duration::from_secs(3600);

/// The shortest Timer E. A T1 or T2 of zero would mean a copy without any pause, for ever.
const SHORTEST_E: Duration = Duration::from_millis(1);

/// T1, T2 and T4, from which every other timer follows. Any value is safe: one above an hour
/// counts as an hour, and Timer E never runs shorter than a millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// The estimated round-trip time: the first Timer E, and a 64th of Timer F.
    pub t1: Duration,
    /// The longest pause between two copies of a request.
    pub t2: Duration,
    /// How long a message may stay in the network.
    pub t4: Duration,
}

impl Default for Timers {
    /// 500 ms, 4 s and 5 s (RFC 3261 Table 4).
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
        }
    }
}

impl Timers {
    /// Timer F: how long a final answer is waited for, 64 × T1.
    #[must_use]
    pub fn timer_f(&self) -> Duration {
        self.t1.min(LONGEST) * 64
    }

    /// Timer K: how long retransmitted answers are absorbed after the first, T4 over UDP.
    #[must_use]
    pub fn timer_k(&self) -> Duration {
        self.t4.min(LONGEST)
    }
}

/// Timer E: the pause before the next copy of a request. A value; it knows no state and no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerE {
    interval: Duration,
    t2: Duration,
}

impl TimerE {
    /// The first Timer E: T1.
    #[must_use]
    pub fn first(timers: &Timers) -> Self {
        Self {
            interval: timers.t1.clamp(SHORTEST_E, LONGEST),
            t2: timers.t2.clamp(SHORTEST_E, LONGEST),
        }
    }

    /// The pause before the next copy; never zero.
    #[must_use]
    pub fn interval(self) -> Duration {
        self.interval
    }

    /// The Timer E that follows in state Trying: MIN(2 × this, T2).
    #[must_use]
    pub fn doubled(self) -> Self {
        Self { interval: (self.interval * 2).min(self.t2), ..self }
    }

    /// The Timer E that follows in state Proceeding: T2.
    #[must_use]
    pub fn slowed(self) -> Self {
        Self { interval: self.t2, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intervals(mut timer: TimerE, count: usize) -> Vec<u128> {
        let mut seen = Vec::new();
        for _ in 0..count {
            seen.push(timer.interval().as_millis());
            timer = timer.doubled();
        }
        seen
    }

    #[test]
    fn rfc3261_table_4_defaults() {
        let timers = Timers::default();
        assert_eq!(timers.timer_f(), Duration::from_secs(32));
        assert_eq!(timers.timer_k(), Duration::from_secs(5));
    }

    #[test]
    fn rfc3261_17_1_2_2_timer_e_doubles_up_to_t2() {
        let first = TimerE::first(&Timers::default());
        assert_eq!(intervals(first, 6), [500, 1000, 2000, 4000, 4000, 4000]);
        assert_eq!(first.slowed().interval(), Duration::from_secs(4));
    }

    #[test]
    fn no_configured_value_makes_timer_e_zero_or_overflows() {
        let zero = Timers { t1: Duration::ZERO, t2: Duration::ZERO, t4: Duration::ZERO };
        assert_eq!(intervals(TimerE::first(&zero), 3), [1, 1, 1]);
        let huge = Timers { t1: Duration::MAX, t2: Duration::MAX, t4: Duration::MAX };
        assert_eq!(huge.timer_f(), LONGEST * 64);
        assert_eq!(huge.timer_k(), LONGEST);
        assert_eq!(intervals(TimerE::first(&huge), 2), [3_600_000, 3_600_000]);
    }
}
