//! The real Kamailio on real databases, with real phones: alone, and with mwid beside it.

#[path = "../support/mod.rs"]
mod support;

mod agent;
mod commands;
mod externnotify;
mod lamps;
mod network;
mod publish;
mod reboot;
mod refusals;
mod server;
mod soon;
