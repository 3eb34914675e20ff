//! What the tests run against: real servers, started and ended by the tests themselves.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(unreachable_pub, reason = "nothing of a test binary is reached from elsewhere")]
#![allow(clippy::print_stderr, reason = "a failed test tells what its servers said")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

pub mod fleet;
pub mod group;
pub mod held_up;
pub mod http;
pub mod https;
pub mod kamailio;
pub mod mariadb;
pub mod mwid;
pub mod net;
pub mod opensips_mi;
pub mod phone;
pub mod postgres;
pub mod process;
pub mod relay;
pub mod server;
pub mod sidecar;
pub mod sip;
pub mod tables;
pub mod trace;
pub mod voicemail;

use std::time::{Duration, Instant};

/// How long a step may take that takes milliseconds on an idle machine.
pub const SOON: Duration = Duration::from_secs(20);

/// The type of message summaries (RFC 3842 §3.4).
pub const SUMMARY: &str = "application/simple-message-summary";

/// The user of every test database.
pub const USER: &str = "mwid";
/// Its password: one that must be escaped wherever somebody forgot to.
pub const PASSWORD: &str = "s3cr:t@/%?#";

/// Asks until there is an answer, for at most `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
