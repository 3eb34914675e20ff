//! Several proxies, and which of them is worth trying.

use std::net::UdpSocket;
use std::time::Duration;

use crate::house::{House, insert, subscription};
use crate::peer::{Heard, Peer};

/// An address on loopback where nobody listens. The socket holds the port: closed for UDP traffic
/// from elsewhere as it is connected to itself, so the kernel answers ICMP.
pub fn nobody() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    socket.connect(address).unwrap();
    (socket, address.to_string())
}

/// A phone of 202 with a message behind `phone`, reached through these proxies in turn.
fn house(phone: &Peer, proxies: &[&str]) -> House {
    let mut house = House::new(phone);
    house.set("general", "proxy", &proxies.join(", "));
    house.subscribe(phone, "202", "call");
    house.messages("example.com/202", 1, 0);
    house
}

fn address(peer: &Peer) -> String {
    peer.address.to_string()
}

#[test]
fn rfc3261_17_1_4_icmp_refused_goes_to_the_next_proxy_at_once() {
    let ((_held, dead), alive) = (nobody(), Peer::phones());
    let house = house(&alive, &[&dead, &address(&alive)]);
    let mwid = house.start();
    alive.shows("call", "1/0 (0/0)");
    let line = mwid.log("does not listen at");
    assert!(line.contains(&format!("the proxy {dead} ")), "{line}");
    let status = mwid.settled();
    assert_eq!(status["suspended_proxies"], serde_json::json!([dead]));
    let said = house.mwid(&["status"]).out;
    assert!(said.contains(&format!("; not answering: {dead}\n")), "{said}");
    let trouble = format!("Module ENABLED\n  TROUBLE: {dead} does not answer\n");
    assert!(said.starts_with(&trouble), "{said}");

    // While it is suspended the next change goes straight to the other.
    house.messages("example.com/202", 2, 0);
    alive.shows("call", "2/0 (0/0)");
    assert_eq!(mwid.settled()["sip"]["unreachable"], 1);
    assert_eq!(mwid.count("does not listen at"), 1);
}

#[test]
fn a_proxy_that_does_not_answer_until_timer_f_gives_way_to_the_next() {
    let (silent, alive) = (Peer::silent(), Peer::phones());
    let mut house = house(&alive, &[&address(&silent), &address(&alive)]);
    house.set("timers", "t1", "20");
    let mwid = house.start();
    alive.shows("call", "1/0 (0/0)");
    mwid.log("does not answer at");
    let (lost, told) = (silent.transactions(1).remove(0), alive.transactions(1).remove(0));
    assert!(lost.cseq() < told.cseq(), "the phone may have had the first one");
    assert!(told.at - lost.at >= Duration::from_millis(1200));
}

#[test]
fn a_503_goes_to_the_next_proxy_at_once_and_is_said_once() {
    let (busy, alive) = (Peer::says(503), Peer::phones());
    let house = house(&alive, &[&address(&busy), &address(&alive)]);
    let mwid = house.start();
    alive.shows("call", "1/0 (0/0)");
    house.messages("example.com/202", 2, 0);
    alive.shows("call", "2/0 (0/0)");
    mwid.settled();
    assert_eq!(busy.transactions(1).len(), 1);
    assert_eq!(mwid.count("answers 503"), 1);
    assert_eq!(mwid.count("answers again"), 0, "{}", mwid.logged());
}

#[test]
fn the_only_proxy_is_tried_again_and_both_ends_of_its_trouble_are_said_once() {
    let proxy = Peer::says(503);
    let house = house(&proxy, &[&address(&proxy)]);
    let mwid = house.start();
    proxy.transactions(2);
    assert_eq!((mwid.count("answers 503"), mwid.count("answers again")), (1, 0));
    proxy.script(|heard| vec![heard.answer(200, "")]);
    mwid.log("delivered: 200");
    assert_eq!((mwid.count("answers 503"), mwid.count("answers again")), (1, 1));
}

#[test]
fn a_proxy_whose_name_does_not_resolve_is_said_once_and_the_next_is_taken() {
    // A label of 70 letters: no name server is asked for such a name.
    let name = format!("{}.invalid:5060", "x".repeat(70));
    let alive = Peer::phones();
    let house = house(&alive, &[&name, &address(&alive)]);
    let mwid = house.start();
    alive.shows("call", "1/0 (0/0)");
    let line = mwid.log("does not resolve");
    assert!(line.contains(&format!("the proxy {name} does not resolve: ")), "{line}");
    house.messages("example.com/202", 2, 0);
    alive.shows("call", "2/0 (0/0)");
    assert_eq!(mwid.count("does not resolve"), 1);
}

#[test]
fn while_the_only_proxy_does_not_resolve_everything_waits_and_nothing_is_lost() {
    let name = format!("{}.invalid", "x".repeat(70));
    let proxy = Peer::phones();
    let mut house = house(&proxy, &[&name]);
    let mwid = house.start();
    mwid.until("tried twice", |status| status["counters"]["retried"].as_u64() >= Some(2));
    let status = mwid.until("waiting", |status| status["lamps"]["waiting"] == 1);
    assert_eq!(status["sip"]["notifies"], 0);
    assert_eq!(mwid.count("does not resolve"), 1);
    house.set("general", "proxy", &format!("localhost:{}", proxy.address.port()));
    assert_eq!(house.mwid(&["reload"]).code, 0);
    proxy.shows("call", "1/0 (0/0)");
}

#[test]
fn a_proxy_whose_name_does_not_resolve_is_said_before_anything_is_to_be_sent() {
    let name = |letter: &str| format!("{}.invalid:5060", letter.repeat(70));
    let mut house = House::new(&Peer::silent());
    house.set("general", "proxy", &name("x"));
    let mwid = house.start();
    mwid.log(&format!("the proxy {} does not resolve: ", name("x")));
    assert_eq!(mwid.status()["suspended_proxies"], serde_json::json!([name("x")]));
    house.set("general", "proxy", &name("y"));
    assert_eq!(house.mwid(&["reload"]).code, 0);
    mwid.log(&format!("the proxy {} does not resolve: ", name("y")));
    assert_eq!(mwid.status()["counters"]["lookups"], 0);
}

#[test]
fn next_hop_socket_info_sends_to_the_proxy_that_holds_the_subscription() {
    let (proxy, one, two) = (Peer::phones(), Peer::phones(), Peer::phones());
    let mut house = House::new(&proxy);
    house.set("general", "next_hop", "socket_info");
    let database = house.database();
    for (peer, call_id, socket) in [
        (&one, "one", one.address.to_string()),
        (&two, "two", two.address.to_string()),
        (&proxy, "none", "nonsense".to_owned()),
    ] {
        let subscription = subscription(peer, "202", call_id);
        insert(&database, &subscription, &socket);
        peer.subscribe(subscription);
    }
    // No URI of its own: the presence server's Contact of the third.
    house.sql("UPDATE active_watchers SET local_contact = 'sip:192.0.2.1' WHERE callid = 'none'");
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    one.shows("one", "1/0 (0/0)");
    two.shows("two", "1/0 (0/0)");
    proxy.shows("none", "1/0 (0/0)");
    mwid.settled();
    for peer in [&one, &two, &proxy] {
        assert_eq!(peer.transactions(1).len(), 1);
        assert_eq!(peer.refused(), [""; 0]);
    }
    let route = |heard: &Heard| heard.header("Route").to_owned();
    assert_eq!(route(&one.transactions(1)[0]), format!("<sip:{};lr>", one.address));
}
