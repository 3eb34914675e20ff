//! The HTTP door of the real daemon, by clients that write their own bytes.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail, and tell why")]
#![allow(unreachable_pub, reason = "nothing of a test binary is reached from elsewhere")]
#![allow(dead_code, reason = "other test binaries use other parts of the house")]

#[path = "../support/daemon.rs"]
mod house;
#[path = "../support/peer.rs"]
mod peer;

mod accounts;
mod client;
mod cluster;
mod contract;
mod examples;
mod flood;
mod hostile;
mod reload;
mod safe;
mod sipx;
mod tls;
mod token;
