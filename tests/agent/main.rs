//! mwid's own presence agent: phones that know nothing but RFC 6665 subscribe to the real daemon.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail, and tell why")]
#![allow(unreachable_pub, reason = "nothing of a test binary is reached from elsewhere")]

#[path = "../support/daemon.rs"]
#[allow(dead_code, reason = "made for all tests of the daemon")]
mod house;
#[path = "../support/peer.rs"]
#[allow(dead_code, reason = "made for all tests of the daemon")]
mod peer;
#[path = "../support/mod.rs"]
mod support;

mod bed;
mod capture;
mod cluster;
mod databases;
mod hostile;
mod life;
mod passwords;
mod phone;
mod restart;
mod storm;
mod webhook;
