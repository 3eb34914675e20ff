//! The status page of the real daemon, in a real browser without a window.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail, and tell why")]
#![allow(unreachable_pub, reason = "nothing of a test binary is reached from elsewhere")]
#![allow(dead_code, reason = "other test binaries use other parts of the house")]

#[path = "../http/client.rs"]
mod client;
#[path = "../support/daemon.rs"]
mod house;
#[path = "../support/peer.rs"]
mod peer;

mod browser;
mod page;
