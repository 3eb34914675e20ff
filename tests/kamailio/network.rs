//! Networks and proxies that fail.

use std::net::{Ipv4Addr, UdpSocket};

use crate::support::SOON;
use crate::support::kamailio;
use crate::support::mwid::Mwid;
use crate::support::net::UdpPort;
use crate::support::phone::Phone;
use crate::support::relay::{Loss, Relay, Way};
use crate::support::sip::Message;
use crate::support::tables::Tables;

#[test]
fn two_lost_copies_are_sent_again() {
    let tables = Tables::on_mariadb();
    let relay = Relay::new(Loss::FirstCopies(2));
    let kamailio = kamailio::Setup::on(&tables).also_known_as(relay.address()).start();
    relay.connect(kamailio.address());
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let mwid = Mwid::on(tables.url()).through(relay.address()).start();

    mwid.mailbox("202@example.com").leave();
    let lit = phone.wait_for_lamp("1/0 (0/0)", SOON);
    mwid.wait_for_status("/lamps/delivered", 1);
    assert_eq!(phone.answers_to(lit.cseq()), [200]);
    let lamp = |notify: &Message| notify.summary_line("Voice-Message") == Some("1/0 (0/0)");
    assert_eq!(phone.notifies().into_iter().filter(lamp).count(), 1);

    let mut copies = relay.passages();
    copies.retain(|passage| passage.way == Way::Out && passage.message().is_some_and(|m| lamp(&m)));
    let lost: Vec<bool> = copies.iter().map(|copy| copy.lost).collect();
    assert_eq!(lost, [true, true, false]);
    assert!(copies.iter().all(|copy| copy.bytes == copies[0].bytes), "copies are copies");
}

#[test]
fn a_proxy_that_was_down_is_caught_up_with() {
    let tables = Tables::on_mariadb();
    let mut kamailio = kamailio::Setup::on(&tables).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let setup = Mwid::on(tables.url()).through(kamailio.address());
    let mwid = setup.with("timers", "retry_min = 1\nretry_max = 1").start();

    kamailio.stop();
    mwid.mailbox("202@example.com").leave();
    // The second one: it was tried again while the proxy was still down.
    mwid.wait_for_status("/sip/unreachable", 2);
    let proxy = kamailio.address().to_string();
    assert_eq!(mwid.status()["suspended_proxies"], serde_json::json!([proxy]));
    mwid.mailbox("202@example.com").leave();

    kamailio.start();
    phone.wait_for_lamp("2/0 (0/0)", SOON);
    phone.assert_dialog_is_whole();
    mwid.wait_for_status("/lamps/delivered", 1);
    assert_eq!(mwid.status()["suspended_proxies"], serde_json::json!([]));
}

#[test]
fn the_next_proxy_is_tried_at_once_when_nobody_listens_at_the_first() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let dead = UdpPort::claim();
    let setup = Mwid::on(tables.url()).through(dead.address()).through(kamailio.address());
    // A retry would come too late for this test.
    let mwid = setup.with("timers", "retry_min = 600").start();

    mwid.mailbox("202@example.com").leave();
    phone.wait_for_lamp("1/0 (0/0)", SOON);
    phone.assert_dialog_is_whole();
    mwid.wait_for_status("/lamps/delivered", 1);
    mwid.mailbox("202@example.com").leave();
    phone.wait_for_lamp("2/0 (0/0)", SOON);
    assert_eq!(mwid.status()["sip"]["unreachable"], 1, "then the dead one is passed over");
}

#[test]
fn the_next_proxy_is_tried_when_the_first_is_silent() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on 127.0.0.1");
    let silent = (silent.local_addr().expect("it is bound"), silent);
    let setup = Mwid::on(tables.url()).through(silent.0).through(kamailio.address());
    // Timer F after 64 · 20 ms.
    let mwid = setup.with("timers", "t1 = 20\nretry_min = 600").start();

    mwid.mailbox("202@example.com").leave();
    phone.wait_for_lamp("1/0 (0/0)", SOON);
    phone.assert_dialog_is_whole();
    mwid.wait_for_status("/lamps/delivered", 1);
    assert_eq!(mwid.status()["sip"]["timed_out"], 1);
}

#[test]
fn a_proxy_may_be_a_name() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let proxy = format!("localhost:{}", kamailio.address().port());
    let mwid = Mwid::on(tables.url()).through(&proxy).start();

    mwid.mailbox("202@example.com").leave();
    phone.wait_for_lamp("1/0 (0/0)", SOON);
    phone.assert_dialog_is_whole();
    assert_eq!(mwid.status()["proxies"], serde_json::json!([proxy]));
}

/// The stock script writes where a phone behind NAT really is into its Contact: set_contact_alias().
#[test]
fn a_phone_behind_nat_gets_its_notify_through_the_snippet() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).with_nat().start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    // Its own Contact leads nowhere.
    let inside = "sip:202@10.255.0.9:5060;ob";
    let alias = phone.address().to_string().replace(':', "~");
    let sql = "UPDATE active_watchers SET contact = 'INSIDE;alias=ALIAS~1' WHERE callid = 'CALL'";
    let sql = sql.replace("INSIDE", inside).replace("ALIAS", &alias);
    tables.sql(&sql.replace("CALL", &phone.call_id()));
    let mwid = Mwid::on(tables.url()).through(kamailio.address()).start();

    mwid.mailbox("202@example.com").leave();
    let lit = phone.wait_for_lamp("1/0 (0/0)", SOON);
    assert_eq!(lit.request_uri(), Some(inside), "the phone knows no alias");
    mwid.wait_for_status("/lamps/delivered", 1);
    phone.assert_dialog_is_whole();
}

#[test]
fn what_the_proxy_cannot_send_is_tried_again() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let contact = phone.contact();
    let point_at = |contact: &str| {
        let sql = "UPDATE active_watchers SET contact = 'CONTACT' WHERE callid = 'CALL'";
        tables.sql(&sql.replace("CONTACT", contact).replace("CALL", &phone.call_id()));
    };
    point_at("sip:202@nowhere.invalid");
    let setup = Mwid::on(tables.url()).through(kamailio.address());
    let mwid = setup.with("timers", "retry_min = 1\nretry_max = 1").start();
    mwid.mailbox("202@example.com").leave();
    mwid.wait_for_status("/counters/retried", 2);
    let counters = &mwid.status()["counters"];
    assert_eq!([&counters["cseq_too_low"], &counters["gone"]], [0, 0], "{counters}");

    point_at(&contact);
    phone.wait_for_lamp("1/0 (0/0)", SOON);
    phone.assert_dialog_is_whole();
}
