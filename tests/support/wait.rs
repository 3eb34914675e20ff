//! Waiting for a thing itself, with a deadline, instead of for time to pass.

use std::thread;
use std::time::{Duration, Instant};

/// How long a step may take that takes milliseconds on an idle machine.
pub const SOON: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(5);

/// Asks `look` until it gives something. Panics after `deadline`, naming `what` was waited for.
pub fn wait_for<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < deadline, "no {what} within {deadline:?}");
        thread::sleep(POLL);
    }
}
