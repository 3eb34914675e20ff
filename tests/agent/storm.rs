//! More SUBSCRIBEs than anybody wants.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::bed::Bed;
use crate::phone::counts;

/// Resident memory of a process, in KiB.
fn resident(pid: u64) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A source that is not trusted sends ten thousand a second; phones behind the proxy are served.
#[test]
fn a_flood_is_said_once_and_counted_and_others_are_served() {
    let mut bed = Bed::new();
    // The flood comes from 127.0.0.1, the phones from 127.0.0.2.
    bed.set("trusted", "127.0.0.2");
    bed.set("realm", "example.com");
    bed.house.set("users", "202@example.com", "secret");
    let mwid = bed.start();
    let before = resident(mwid.status()["pid"].as_u64().unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let flood = std::thread::spawn({
        let (stop, mut phone) = (stop.clone(), bed.phone("202"));
        move || {
            let mut sent = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                phone.cseq = 0;
                let text = phone.subscribe_text("600", "");
                phone.send(&text);
                sent += 1;
                if sent.is_multiple_of(10) {
                    // The pace of the flood.
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            sent
        }
    });
    for _ in 0..20 {
        let mut phone = bed.phone_at("127.0.0.2", "202");
        // What the kernel had no room for, the phone sends again (Timer E).
        let answer = phone.ask_again("600");
        assert_eq!(answer.status(), Some(200));
        assert_eq!(counts(&phone.notify()), Some("2/1 (0/0)"));
    }
    mwid.until("the flood was seen", |status| status["agent"]["flooded"].as_u64() > Some(10_000));
    stop.store(true, Ordering::Relaxed);
    let sent = flood.join().unwrap();
    let after = resident(mwid.status()["pid"].as_u64().unwrap());
    assert!(after < before + 64 * 1024, "{before} KiB, and {after} KiB after {sent} datagrams");
    assert_eq!(mwid.count("sends more requests than [agent] rate allows"), 1);
}

/// A phone behind a proxy subscribes anew after every NOTIFY (baresip 1.0.0 left 8,756 rows).
#[test]
fn a_phone_that_subscribes_anew_after_every_notify_keeps_few_rows_and_others_are_served() {
    let mut bed = Bed::new();
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
