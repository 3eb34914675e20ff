//! The real Asterisk with real voicemail, and mwid at each of the doors through which it can hear of
//! a change: the spool, externnotify, the manager.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail, and tell why")]
#![allow(unreachable_pub, reason = "nothing of a test binary is reached from elsewhere")]
#![allow(dead_code, reason = "each test binary uses its own part")]

#[path = "../support/asterisk.rs"]
mod asterisk;
#[path = "../support/group.rs"]
mod group;
#[path = "../support/daemon.rs"]
mod house;
#[path = "../support/net.rs"]
mod net;
#[path = "../support/peer.rs"]
mod peer;

mod doors;
mod facts;
mod manager;
mod odbc;
mod phone;

use std::os::unix::fs::symlink;

use asterisk::{Asterisk, SECRET, USER};
use house::House;
use peer::Peer;

/// A house with the phone of 202 that hears of nothing yet.
fn deaf() -> (Peer, House) {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("contexts", "default", "example.com");
    house.set("spool", "enabled", "no");
    house.subscribe(&proxy, "202", "call");
    (proxy, house)
}

/// What voicemail.conf says of this house. Asterisk cuts it at 160 characters, arguments included.
fn externnotify(house: &House) -> String {
    let helper = house.path("e");
    symlink(env!("CARGO_BIN_EXE_mwid-externnotify"), &helper).unwrap();
    let (socket, drop) = (house.path("run/externnotify.sock"), house.path("drop"));
    format!("{} --socket {} --drop {}", helper.display(), socket.display(), drop.display())
}

/// Lets a house hear of the spool.
fn by_spool(house: &mut House, asterisk: &Asterisk) {
    house.set("spool", "enabled", "yes");
    house.set("spool", "path", asterisk.spool().to_str().unwrap());
}

/// Lets a house hear of the manager.
fn by_manager(house: &mut House, asterisk: &Asterisk) {
    house.set("ami", "host", &asterisk.manager());
    house.set("ami", "user", USER);
    house.set("ami", "secret", SECRET);
}
