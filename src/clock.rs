//! What time it is, outside the core, which is told. A clock before 1970 says 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn since_1970() -> Duration {
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
