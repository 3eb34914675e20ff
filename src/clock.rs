//! What time it is, outside the core, which is told. A clock before 1970 says 1970.
//!
//! Subscriptions end by the wall clock, which somebody may set; mwid's own pauses and leases go by
//! [`Instant`], which nobody can. [`Jumps`] sees when the two part.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// By how much the clock may stray between two looks: a clock that is slewed strays by 500 µs a
/// second, one that is set back over a leap second by a second.
const STRAY: Duration = Duration::from_secs(5);

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// The wall clock, since 1970.
#[must_use]
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Now, in Unix seconds.
#[must_use]
pub fn unix() -> u64 {
    since_1970().as_secs()
}

/// Now, in nanoseconds since 1970.
#[must_use]
pub fn unix_nanos() -> u64 {
    u64::try_from(since_1970().as_nanos()).unwrap_or(u64::MAX)
}

/// The wall clock was set, or the machine slept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jump {
    /// By this much further than the time that passed.
    Forwards(Duration),
    /// By this much less.
    Backwards(Duration),
}

impl fmt::Display for Jump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forwards(by) => write!(f, "forwards by {} s", by.as_secs()),
            Self::Backwards(by) => write!(f, "backwards by {} s", by.as_secs()),
        }
    }
}

/// Watches the wall clock against one that is never set. Pure: the times come in.
#[derive(Debug)]
pub struct Jumps {
    wall: Duration,
    at: Instant,
}

impl Jumps {
    /// `wall` is the time since 1970, `now` the same moment on the other clock.
    #[must_use]
    pub fn new(wall: Duration, now: Instant) -> Self {
        Self { wall, at: now }
    }

    /// When to [`look`](Self::look) again at the latest.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.at + LOOK
    }

    /// Whether the wall clock jumped since the last look.
    pub fn look(&mut self, wall: Duration, now: Instant) -> Option<Jump> {
        let expected = self.wall + now.saturating_duration_since(self.at);
        (self.wall, self.at) = (wall, now);
        let jump = match wall.checked_sub(expected) {
            Some(ahead) => (Jump::Forwards(ahead), ahead),
            None => (Jump::Backwards(expected - wall), expected - wall),
        };
        (jump.1 > STRAY).then_some(jump.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Duration = Duration::from_secs(1_795_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_jump_is_seen_once_and_by_how_far() {
        let start = Instant::now();
        let mut jumps = Jumps::new(NOON, start);
        assert_eq!(jumps.due(), start + SECOND);
        assert_eq!(jumps.look(NOON + SECOND, start + SECOND), None);
        let year = SECOND * 31_536_000;
        let jump = jumps.look(NOON + 2 * SECOND + year, start + 2 * SECOND);
        assert_eq!(jump, Some(Jump::Forwards(year)));
        assert_eq!(jumps.look(NOON + 3 * SECOND + year, start + 3 * SECOND), None);
        let back = jumps.look(NOON + 4 * SECOND, start + 4 * SECOND);
        assert_eq!(back, Some(Jump::Backwards(year)));
        assert_eq!(back.map(|jump| jump.to_string()).as_deref(), Some("backwards by 31536000 s"));
    }

    #[test]
    fn a_clock_that_is_slewed_does_not_jump_however_far_it_comes() {
        let start = Instant::now();
        let (mut jumps, mut wall) = (Jumps::new(NOON, start), NOON);
        for second in 1..1000 {
            wall += SECOND + SECOND / 10;
            assert_eq!(jumps.look(wall, start + SECOND * second), None);
        }
    }

    #[test]
    fn a_process_that_stood_still_sees_no_jump() {
        let start = Instant::now();
        let mut jumps = Jumps::new(NOON, start);
        assert_eq!(jumps.look(NOON + 3600 * SECOND, start + 3600 * SECOND), None);
    }
}
