//! Whatever may come in a datagram.

use std::time::Duration;

use proptest::prelude::*;

use crate::bed::Bed;
use crate::phone::{Phone, counts};

/// A SUBSCRIBE of a phone that is no longer one: `from` is replaced by `to`.
fn bent(phone: &mut Phone, from: &str, to: &str) -> String {
    let text = phone.subscribe_text("600", "");
    assert!(text.contains(from), "{from} stands in {text}");
    text.replace(from, to)
}

#[test]
fn what_is_wrong_is_answered_by_its_rule() {
    let mut bed = Bed::new();
    bed.set("min_expires", "60");
    let _mwid = bed.start();
    let mut phone = bed.phone("202");
    let contact = format!("Contact: <{}>\r\n", phone.contact());
    let long = format!("sip:{}@example.com", "a".repeat(5000));
    for (from, to, code, header) in [
        ("Expires: 600", "Expires: 59", 423, "Min-Expires"),
        ("Expires: 600", "Expires: -1", 400, "Warning"),
        ("Event: message-summary", "Event: presence", 489, "Allow-Events"),
        ("Event: message-summary\r\n", "", 400, "Warning"),
        ("Accept: application/simple-message-summary", "Accept: a/b", 406, "Accept"),
        ("Max-Forwards: 70", "Max-Forwards: 0", 483, "Warning"),
        ("Max-Forwards: 70", "Require: x, y", 420, "Unsupported"),
        ("SUBSCRIBE sip:202@example.com", "SUBSCRIBE tel:+49", 416, "Warning"),
        ("SUBSCRIBE sip:202@example.com", "SUBSCRIBE sip:example.com", 404, "Warning"),
        (contact.as_str(), "", 400, "Warning"),
        (contact.as_str(), "Contact: *\r\n", 400, "Warning"),
        (contact.as_str(), "Contact: <sip:a@b>, <sip:c@d>\r\n", 400, "Warning"),
        (contact.as_str(), "Contact: <sip:a@b>\r\nContact: <sip:c@d>\r\n", 400, "Warning"),
        ("To: <sip:202@example.com>", "To: <sip:202@example.com>;tag=none", 481, "Warning"),
        ("SUBSCRIBE sip:202@example.com", &format!("SUBSCRIBE {long}"), 404, "Warning"),
    ] {
        let text = bent(&mut phone, from, to);
        phone.send(&text);
        let answer = phone.response();
        assert_eq!(answer.status(), Some(code), "{from} -> {to}: {answer:?}");
        assert!(answer.header(header).is_some(), "{from} -> {to}: {answer:?}");
    }
    for method in ["PUBLISH", "NOTIFY", "INVITE"] {
        let text = phone.subscribe_text("600", "").replace("SUBSCRIBE", method);
        phone.send(&text);
        let answer = phone.response();
        assert_eq!(answer.status(), Some(405), "{method}");
        assert_eq!(answer.header("Allow"), Some("SUBSCRIBE, OPTIONS"));
    }
    assert_eq!(bed.house.rows(), 0, "none of these made a row");
}

#[test]
fn odd_shapes_that_are_right_are_understood() {
    let bed = Bed::new();
    let _mwid = bed.start();
    for (from, to) in [
        ("Event: ", "o: "),
        ("Contact: ", "m: "),
        ("Call-ID: ", "i : "),
        ("From: \"A phone\"", "f: \"A\r\n phone\""),
        ("To: ", "t: "),
        ("Content-Length: 0", "l: 0"),
        ("Event: message-summary", "Event:\r\n\tmessage-summary"),
        ("Via: SIP/2.0/UDP", "v: SIP/2.0/UDP"),
        ("Expires: 600", "Expires: 2147483647"),
        ("Expires: 600\r\n", ""),
        ("Accept: application/simple-message-summary", "Accept: */*"),
    ] {
        let mut phone = bed.phone("202");
        let text = bent(&mut phone, from, to);
        phone.send(&text);
        let answer = phone.response();
        assert_eq!(answer.status(), Some(200), "{from} -> {to}: {answer:?}");
        let expires: u32 = answer.header("Expires").unwrap().parse().unwrap();
        assert!(expires <= 7200, "{expires}");
        let tag = answer.parameter("To", "tag").unwrap().to_owned();
        phone.dialog = Some((tag, String::new()));
        assert_eq!(counts(&phone.notify()), Some("2/1 (0/0)"), "{from} -> {to}");
    }
}

/// RFC 3261 §18.2.2: the answer goes to where the request came from, whatever it says.
#[test]
fn rfc3581_4_an_answer_goes_to_nobody_who_is_only_named() {
    let bed = Bed::new();
    let _mwid = bed.start();
    let mut phone = bed.phone("202");
    let victim = bed.phone("203");
    let (own, other) = (phone.address().to_string(), victim.address().to_string());
    let via = format!("Via: SIP/2.0/UDP {own}");
    let named = bent(&mut phone, &via, &format!("Via: SIP/2.0/UDP {other}"));
    phone.send(&named);
    let answer = phone.response();
    assert_eq!(answer.status(), Some(200));
    assert_eq!(answer.parameter("Via", "received"), Some("127.0.0.1"));
    assert_eq!(answer.parameter("Via", "rport"), Some(own.rsplit(':').next().unwrap()));
    assert_eq!(victim.receive(Duration::from_millis(50)), None);
}

#[test]
fn rfc3261_12_2_2_a_cseq_that_falls_is_500_and_changes_nothing() {
    let bed = Bed::new();
    let _mwid = bed.start();
    let mut phone = bed.phone("202");
    phone.cseq = 10;
    phone.subscribe(600);
    phone.cseq = 5;
    assert_eq!(phone.ask("60", "").status(), Some(500));
    assert_eq!(bed.column("remote_cseq"), ["11"]);
    let mut thief = bed.phone("203");
    thief.call_id = phone.call_id.clone();
    thief.tag = phone.tag.clone();
    thief.dialog = phone.dialog.clone();
    thief.cseq = 20;
    assert_eq!(thief.ask("0", "").status(), Some(481), "the dialog is another user's");
}

#[test]
fn garbage_and_fuzzed_subscribes_are_refused_or_dropped_and_others_are_served() {
    let bed = Bed::new();
    let mwid = bed.start();
    let sender = bed.phone("202");
    // As long as a datagram can be.
    sender.send([0_u8; 65_507]);
    sender.send([b'a'; 65_507]);
    let text = bed.phone("202").subscribe_text("600", "");
    let padding = "x: y\r\n".repeat((65_507 - text.len()) / 6);
    sender.send(text.replace("Expires", &format!("{padding}Expires")));
    sender.send(b"");
    sender.send("SUBSCRIBE sip:a SIP/2.0\r\n\r\n");
    sender.send(format!("SUBSCRIBE sip:a SIP/2.0\r\nVia: {}\r\n\r\n", "x".repeat(60_000)));
    let text = bed.phone("202").subscribe_text("600", "");
    let mut runner = proptest::test_runner::TestRunner::default();
    let strategy = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8);
    runner
        .run(&strategy, |changes| {
            let mut bytes = text.clone().into_bytes();
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            sender.send(&bytes);
            Ok(())
        })
        .unwrap();
    for cut in (1..text.len()).step_by(7) {
        sender.send(&text.as_bytes()[..cut]);
    }
    let mut phone = bed.phone("202");
    let first = phone.subscribe(600);
    assert_eq!(counts(&first), Some("2/1 (0/0)"));
    let status = mwid.status();
    assert_eq!(status["debug"], false, "it lives: {status}");
}
