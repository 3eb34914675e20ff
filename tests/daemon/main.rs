//! The whole daemon without a proxy: the real binary, SQLite, and peers that do as they are told.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail, and tell why")]
#![allow(unreachable_pub, reason = "nothing of a test binary is reached from elsewhere")]

#[path = "../support/compositor.rs"]
mod compositor;
#[path = "../support/held_up.rs"]
mod held_up;
#[path = "../support/daemon.rs"]
mod house;
#[path = "../support/peer.rs"]
mod peer;

mod accounts;
mod answers;
mod commands;
mod control_socket;
mod credentials;
mod database;
mod downtime;
mod externnotify;
mod file_first;
mod hostile;
mod log;
mod manager;
mod pace;
mod proxies;
mod publish;
mod reload;
mod service_manager;
mod show;
mod shutdown;
mod users;
mod watch;
