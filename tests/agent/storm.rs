//! More SUBSCRIBEs than anybody wants.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::bed::Bed;
use crate::phone::{Phone, counts};
use crate::support::sip::Message;

/// Resident memory of a process, in KiB.
fn resident(pid: u64) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Sends the same as fast as this machine can until it is told to stop; gives how often it did.
fn flood(phone: Phone, text: String, stop: Arc<AtomicBool>) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            phone.send(&text);
            sent += 1;
        }
        sent
    })
}

/// A source that is not trusted sends as fast as it can (some 150,000 a second); phones behind the
/// proxy are served, and so is one that is as little trusted, and answers from elsewhere.
#[test]
fn a_flood_is_said_once_and_counted_and_others_are_served() {
    let mut bed = Bed::new();
    // The flood comes from 127.0.0.1, the phones from 127.0.0.2.
    bed.set("trusted", "127.0.0.2");
    bed.set("realm", "example.com");
    bed.house.set("users", "202@example.com", "secret");
    let mwid = bed.start();
    let pid = mwid.status()["pid"].as_u64().unwrap();
    let before = resident(pid);
    let stop = Arc::new(AtomicBool::new(false));
    let mut attacker = bed.phone("202");
    let text = attacker.subscribe_text("600", "");
    let (flood, began) = (flood(attacker, text, stop.clone()), Instant::now());
    for _ in 0..8 {
        let mut phone = bed.phone_at("127.0.0.2", "202");
        let asked = Instant::now();
        // What the kernel had no room for, the phone sends again (Timer E), and so does mwid.
        let answer = phone.ask_again("600");
        println!("a phone was answered after {:?}", asked.elapsed());
        assert_eq!(answer.status(), Some(200));
        assert_eq!(counts(&phone.notify()), Some("2/1 (0/0)"));
    }
    let mut stranger = bed.phone_at("127.0.0.3", "202");
    assert_eq!(stranger.ask_again("600").status(), Some(401));
    mwid.until("the flood was seen", |status| status["agent"]["flooded"].as_u64() > Some(10_000));
    stop.store(true, Ordering::Relaxed);
    let sent = flood.join().unwrap();
    println!("{} datagrams in {:?}", sent, began.elapsed());
    let after = resident(pid);
    assert!(after < before + 64 * 1024, "{before} KiB, and {after} KiB after {sent} datagrams");
    assert_eq!(mwid.count("sends more requests than [agent] rate allows"), 1);
    assert_eq!(mwid.status()["agent"]["begun"], 8, "each once, however often it came");
}

/// One source at its rate sends the longest requests that there are, each another: little is kept.
#[test]
fn long_requests_take_no_memory_with_them() {
    let mut bed = Bed::new();
    bed.set("rate", "10000");
    let mwid = bed.start();
    let pid = mwid.status()["pid"].as_u64().unwrap();
    let mut phone = bed.phone("202");
    let before = resident(pid);
    let via = format!("Via: SIP/2.0/UDP h;branch=z9hG4bK1;y={}\r\n", "z".repeat(8_000)).repeat(7);
    for _ in 0..1_200 {
        let options = phone.subscribe_text("", &via).replace("SUBSCRIBE", "OPTIONS");
        assert_eq!(phone.send_again(&options).status(), Some(513));
    }
    let after = resident(pid);
    assert!(after < before + 32 * 1024, "{before} KiB, and {after} KiB after 67 MB of answers");
    phone.reboot();
    assert_eq!(counts(&phone.subscribe(600)), Some("2/1 (0/0)"));
}

/// What nobody waits for is a flood too, although it is no request.
#[test]
fn a_flood_of_answers_is_dropped_before_it_is_read() {
    let mut bed = Bed::new();
    bed.set("trusted", "127.0.0.2");
    let mwid = bed.start();
    let stop = Arc::new(AtomicBool::new(false));
    let text = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK0123456789abcdef0123456789abcdef\r\n\r\n";
    let flood = flood(bed.phone("202"), text.to_owned(), stop.clone());
    let mut phone = bed.phone_at("127.0.0.2", "202");
    assert_eq!(phone.ask_again("600").status(), Some(200));
    assert_eq!(counts(&phone.notify()), Some("2/1 (0/0)"));
    mwid.until("the flood was seen", |status| status["agent"]["flooded"].as_u64() > Some(10_000));
    stop.store(true, Ordering::Relaxed);
    flood.join().unwrap();
}

/// One phone behind the proxy has gone mad; the proxy's other phones are served.
#[test]
fn one_phone_that_floods_through_the_proxy_is_refused_and_others_are_served() {
    let mut bed = Bed::new();
    bed.set("rate", "20");
    bed.set("max_per_account", "5");
    let mwid = bed.start();
    let mut mad = bed.phone("202");
    // All at once, so that it is too much on a slow machine, too.
    for _ in 0..100 {
        mad.reboot();
        let text = mad.subscribe_text("600", "");
        mad.send(&text);
    }
    let is_refusal = |answer: &Message| {
        answer.status() == Some(500) && answer.header("Retry-After") == Some("1")
    };
    while !is_refusal(&mad.response_at_last()) {}
    mwid.until("nothing waits", |status| {
        let agent = &status["agent"];
        let done = ["begun", "refused"].map(|name| agent[name].as_u64().unwrap_or_default());
        Some(done.iter().sum()) == agent["requests"].as_u64()
    });
    let mut other = bed.phone("203");
    other.subscribe(600);
    assert_eq!(mwid.count("subscribes more often than [agent] rate allows"), 1);
}

/// A phone behind a proxy subscribes anew after every NOTIFY (baresip 1.0.0 left 8,756 rows).
#[test]
fn a_phone_that_subscribes_anew_after_every_notify_keeps_few_rows_and_others_are_served() {
    let mut bed = Bed::new();
    bed.set("rate", "10000");
    bed.set("max_per_account", "5");
    let mwid = bed.start();
    let mut mad = bed.phone("202");
    for _ in 0..200 {
        mad.reboot();
        let text = mad.subscribe_text("600", "");
        mad.send(&text);
        assert_eq!(mad.response_at_last().status(), Some(200));
    }
    assert!(bed.house.rows() <= 5, "{} rows", bed.house.rows());
    let mut other = bed.phone("203");
    other.subscribe(600);
    mwid.status();
}
