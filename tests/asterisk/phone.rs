//! Asterisk as a phone: a second client of the presence agent, written by others. It subscribes by a
//! line `mwi =>` of chan_sip, and a hint is its lamp.

use nix::sys::signal::Signal;

use crate::asterisk::{Asterisk, Line, SOON, number, value};
use crate::house::{House, Mwid};
use crate::net::UdpPort;

/// An agent, and what it must be told to let Asterisk in.
struct Bed {
    house: House,
    port: UdpPort,
}

impl Bed {
    /// Everybody is asked for a password, by both hashes.
    fn new() -> Self {
        let mut bed = Self { house: House::bare(), port: UdpPort::claim() };
        bed.house.set("contexts", "default", "127.0.0.1");
        bed.house.set("users", "202@127.0.0.1", "secret");
        for (key, value) in [
            ("listen", format!("udp:{}", bed.port.address())),
            ("realm", "example.com".to_owned()),
            ("min_expires", "1".to_owned()),
        ] {
            bed.house.set("agent", key, &value);
        }
        bed.house.messages("default/202", 1, 0);
        bed
    }

    fn start(&self) -> Mwid {
        let mwid = self.house.start();
        mwid.log("the spool has been counted");
        mwid
    }

    fn line(&self, password: &str) -> String {
        format!("202:{password}@{}/202", self.port.address())
    }

    /// Messages come and go, and the lamp with them.
    fn follows(&self, asterisk: &Asterisk) {
        for new in [0, 2, 0, 1] {
            self.house.messages("default/202", new, 1);
            asterisk.lamp(new > 0);
        }
    }
}

#[test]
fn asterisk_shows_the_messages_also_after_kill_9_without_a_new_subscribe() {
    let bed = Bed::new();
    let mut mwid = bed.start();
    let asterisk = Asterisk::start_phone(&bed.line("secret"), 3600);
    asterisk.lamp(true);
    bed.follows(&asterisk);

    // What it heard, in numbers.
    let mut line = Line::log_in(&asterisk);
    bed.house.messages("default/202", 4, 2);
    asterisk.until("the counts", || {
        let heard = line.hear();
        let is_it = heard[0] == "Event: MessageWaiting" && number(&heard, "New") == 4;
        is_it.then(|| {
            assert_eq!(value(&heard, "Mailbox"), "202@SIP_Remote");
            assert_eq!(number(&heard, "Old"), 2);
        })
    });

    let asked = mwid.status()["agent"]["requests"].clone();
    assert_eq!(asked, 2, "one without a password, one with it");
    mwid.signal(Signal::SIGKILL);
    mwid.ended(SOON);
    bed.house.messages("default/202", 0, 2);
    let mwid = bed.start();
    asterisk.lamp(false);
    bed.follows(&asterisk);
    assert_eq!(mwid.status()["agent"]["requests"], 0);
    assert_eq!(bed.house.rows(), 1);
}

#[test]
fn asterisk_with_a_wrong_password_sees_nothing() {
    let bed = Bed::new();
    let mwid = bed.start();
    let asterisk = Asterisk::start_phone(&bed.line("guess"), 3600);
    mwid.until("its password is refused", |status| {
        status["agent"]["wrong_credentials"].as_u64() >= Some(1)
    });
    assert!(!asterisk.cli("core show hint 202").contains("InUse"));
    assert_eq!(bed.house.rows(), 0);
}

/// It refreshes in the moment in which its subscription ends, and after a 481 it never asks again.
#[test]
fn asterisk_refreshes_when_its_time_is_over_and_its_lamp_lives_on() {
    let mut bed = Bed::new();
    bed.house.set("agent", "trusted", "127.0.0.1");
    let mwid = bed.start();
    let asterisk = Asterisk::start_phone(&bed.line("secret"), 1);
    mwid.until("it refreshed", |status| status["agent"]["refreshed"].as_u64() >= Some(4));
    bed.follows(&asterisk);
    let status = mwid.status();
    assert_eq!((&status["agent"]["begun"], &status["agent"]["refused"]), (&1.into(), &0.into()));
    assert_eq!(bed.house.rows(), 1);
}

/// Asked for its password in a refresh, it forgets the To tag and asks our Contact.
#[test]
fn asterisk_that_is_asked_for_its_password_in_a_refresh_subscribes_anew_and_its_lamp_lives_on() {
    let bed = Bed::new();
    let mwid = bed.start();
    let asterisk = Asterisk::start_phone(&bed.line("secret"), 1);
    mwid.until("it came again", |status| status["agent"]["begun"].as_u64() >= Some(4));
    bed.follows(&asterisk);
}
