//! The ways out that are asked for by HTTP, FIFO or datagram: each client by itself, against the
//! real Kamailio or a double of the others.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail, and tell why")]
#![allow(unreachable_pub, reason = "nothing of a test binary is reached from elsewhere")]
#![allow(dead_code, reason = "each test binary uses its own part of the support")]

#[path = "../support/compositor.rs"]
mod compositor;
#[path = "../support/daemon.rs"]
mod house;
#[path = "../support/peer.rs"]
mod peer;
#[path = "../support/mod.rs"]
mod support;

mod asking;
mod cluster;
mod daemon;
mod https;
mod kamailio;
mod opensips;
mod silence;
mod sipx;
mod trouble;

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use mwid::config::{self, Config};
use mwid::delivery::Published;
use mwid_core::mailbox::Account;
use mwid_core::publication::{ETag, Order, Outcome, Way, Wish};
use mwid_core::summary::Summary;

/// One runtime for the whole of a test, so that connections live on.
struct Runtime(tokio::runtime::Runtime);

impl Runtime {
    fn new() -> Self {
        Self(tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap())
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.block_on(future)
    }
}

fn config(text: &str) -> Config {
    let text = format!("[general]\nproxy = 127.0.0.1\n{text}");
    config::parse(Path::new("t.conf"), &text, &config::Process).unwrap().config
}

fn account() -> Account {
    "202@example.com".parse().unwrap()
}

fn new(count: u32) -> Wish {
    Wish::State(Summary { new: count, ..Summary::default() })
}

fn order(way: Way, wish: Wish, etag: Option<ETag>) -> Order {
    Order { way, account: account(), wish, etag }
}

/// The tag and the seconds of what was accepted.
#[track_caller]
fn accepted(published: &Published) -> (Option<ETag>, Option<Duration>) {
    match &published.outcome {
        Outcome::Accepted { etag, expires } => (etag.clone(), *expires),
        _ => panic!("not accepted: {published:?}"),
    }
}
