//! Two and three mwid on one database: real processes, real databases, real spools.
//!
//! Only the phones are played, all behind one socket that watches every CSeq. Each test prints what
//! it saw: `cargo test --test cluster -- --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(unreachable_pub, reason = "nothing of a test binary is reached from elsewhere")]

#[path = "../support/mod.rs"]
mod support;

mod downtime;
mod membership;
mod outage;
mod platform;
mod sums;
mod takeover;
