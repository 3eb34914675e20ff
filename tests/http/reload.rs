//! Another `[http]` while mwid runs.

use std::net::TcpListener;

use serde_json::Value;

use crate::client::{address, ask, ask_with, house};
use crate::house::House;
use crate::peer::Peer;

#[track_caller]
fn reload(house: &House, code: i32, text: &str) {
    let said = house.mwid(&["reload"]);
    assert!(said.code == code && said.out.contains(text), "{said:?}");
}

#[test]
fn token_and_domains_change_on_the_same_socket() {
    let proxy = Peer::silent();
    let mut house = house(&proxy);
    let mwid = house.start();
    let door = address(&mwid);
    assert_eq!(ask(door, "GET", "/v1/status", "").status, 200);
    house.set("http", "token", "secret");
    reload(&house, 0, "[http]");
    ask(door, "GET", "/v1/status", "").refused(401, "");
    let shown = "Authorization: Bearer secret\r\n";
    assert_eq!(ask_with(door, "GET", "/v1/status", shown, "").status, 200);
    let target = "/v1/accounts/202@example.com";
    ask_with(door, "GET", target, shown, "").refused(404, "");
    // The domains are those of the accounts.
    house.set("contexts", "default", "example.net");
    reload(&house, 0, "[contexts]");
    ask_with(door, "GET", target, shown, "").refused(403, "");
    assert_eq!(mwid.status()["http"]["requests"], 5, "the counters go on");
}

#[test]
fn the_door_is_opened_moved_and_closed() {
    let proxy = Peer::silent();
    let mut house = House::new(&proxy);
    let mwid = house.start();
    assert_eq!(mwid.status()["http"], Value::Null);
    house.set("http", "listen", "127.0.0.1:0, [::1]:0");
    reload(&house, 0, "[http]");
    let listen = mwid.status()["http"]["listen"].clone();
    let doors: Vec<std::net::SocketAddr> =
        listen.as_array().unwrap().iter().map(|it| it.as_str().unwrap().parse().unwrap()).collect();
    assert!(doors[0].is_ipv4() && doors[1].is_ipv6(), "{doors:?}");
    for &door in &doors {
        assert_eq!(ask(door, "GET", "/v1/status", "").status, 200);
    }
    // One that is taken: everything stays as it is.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    house.set("http", "listen", &taken.local_addr().unwrap().to_string());
    reload(&house, 1, "cannot listen on [http] listen");
    assert_eq!(ask(doors[1], "GET", "/v1/status", "").status, 200);
    house.set("http", "listen", "[::1]:0");
    reload(&house, 0, "[http]");
    assert_eq!(ask(doors[1], "GET", "/v1/status", "").status, 200);
    mwid.until("closed", |_| std::net::TcpStream::connect(doors[0]).is_err());
    house.set("http", "listen", "");
    reload(&house, 0, "[http]");
    mwid.until("closed", |_| std::net::TcpStream::connect(doors[1]).is_err());
    assert_eq!(mwid.status()["http"], Value::Null);
}

#[test]
fn an_address_that_is_taken_is_named_and_mwid_does_not_start() {
    let proxy = Peer::silent();
    let mut house = House::new(&proxy);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    house.set("http", "listen", &address);
    let mut mwid = house.launch();
    mwid.log(&format!("cannot listen on [http] listen = {address}"));
    assert_eq!(mwid.ended(crate::peer::SOON).code(), Some(1));
}
