//! Whatever fails in the middle of changes, every phone ends with what the spool holds.
//!
//! Real parts: the mwid binary as a process of its own, real folders, real databases, real UDP,
//! kill -9. Only the phones and the proxy are played, by a strict fleet that watches everything
//! that mwid sends. Each test prints what it saw: `cargo test --test faults -- --nocapture`.
//! The clock is moved by libfaketime, which answers mwid in the kernel's place.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(unreachable_pub, reason = "nothing of a test binary is reached from elsewhere")]

#[path = "../support/mod.rs"]
mod support;

mod clock;
mod database;
mod disk;
mod kill;
mod network;
mod restart;
mod server;
mod spool;
