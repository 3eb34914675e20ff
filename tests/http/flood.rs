//! 10,000 connections at once.

use std::fs;
use std::io::{ErrorKind, Read};
use std::process::Command;

use socket2::{Domain, Socket, Type};

use crate::client::{address, ask, connect, house};
use crate::house::MWID;
use crate::peer::Peer;

const CLIENTS: usize = 10_000;

/// As many files as this needs, for this process; the daemon has its own limit.
fn allow_open_files() {
    let limit = format!("--nofile={}:", CLIENTS + 1000);
    let pid = std::process::id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &pid, &limit]).output();
    let raised = raised.expect("prlimit runs; apt-get install util-linux");
    assert!(raised.status.success(), "{raised:?}: this user may not open {CLIENTS} files");
}

fn connections(address: std::net::SocketAddr) -> Vec<Socket> {
    let connect = |_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        // Most of them wait in the kernel: mwid takes no more than it has places for.
        let _ = socket.connect(&address.into());
        socket
    };
    (0..CLIENTS).map(connect).collect()
}

#[test]
fn ten_thousand_connections_take_nothing_from_the_phones() {
    allow_open_files();
    let proxy = Peer::phones();
    let house = house(&proxy);
    house.subscribe(&proxy, "202", "call");
    let mut limited = Command::new("prlimit");
    limited.args(["--nofile=1024:1024", MWID]);
    let mwid = house.launch_by(limited);
    let door = address(&mwid);
    let flood = connections(door);
    let status =
        mwid.until("flooded", |status| status["http"]["connections"].as_u64() >= Some(500));
    assert!(status["http"]["connections"].as_u64() <= Some(512), "{status:#}");
    let files = fs::read_dir(format!("/proc/{}/fd", status["pid"])).unwrap().count();
    assert!(files < 700, "{files} open files");
    // The database, the sockets of externnotify and of the phones work as before.
    for new in 1..=3 {
        assert_eq!(house.externnotify(&["example.com", "202", &new.to_string(), "0", "0"]).code, 0);
        proxy.shows("call", &format!("{new}/0 (0/0)"));
    }
    drop(flood);
    assert_eq!(ask(door, "GET", "/v1/status", "").status, 200);
    assert!(!mwid.logged().contains("cannot accept"), "{}", mwid.logged());
}

#[test]
fn of_silent_clients_at_all_places_the_oldest_makes_room_for_one_that_speaks() {
    allow_open_files();
    let proxy = Peer::silent();
    let house = house(&proxy);
    let mwid = house.start();
    let door = address(&mwid);
    let mut oldest = connect(door);
    let _silent: Vec<_> = (0..510).map(|_| connect(door)).collect();
    mwid.until("full", |status| status["http"]["connections"] == 511);
    let mut youngest = connect(door);
    assert_eq!(ask(door, "GET", "/v1/status", "").status, 200);
    assert_eq!(oldest.read(&mut [0; 1]).unwrap(), 0, "it is closed");
    youngest.set_nonblocking(true).unwrap();
    let waits = youngest.read(&mut [0; 1]).unwrap_err();
    assert_eq!(waits.kind(), ErrorKind::WouldBlock, "the youngest stays");
}
