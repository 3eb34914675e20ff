//! From a file in the spool to a phone that shows it.

use mwid_core::dialog::MAX_CSEQ;

use crate::support::SOON;
use crate::support::kamailio::{self, Kamailio};
use crate::support::mwid::Mwid;
use crate::support::phone::{Answer, Phone};
use crate::support::sip::Message;
use crate::support::tables::Tables;

/// An mwid between these tables and this proxy.
fn mwid(tables: &Tables, kamailio: &Kamailio) -> Mwid {
    Mwid::on(tables.url()).through(kamailio.address()).start()
}

#[test]
fn a_voicemail_lights_the_lamp_on_mariadb() {
    a_voicemail_lights_the_lamp(&Tables::on_mariadb());
}

#[test]
fn a_voicemail_lights_the_lamp_on_postgresql() {
    a_voicemail_lights_the_lamp(&Tables::on_postgres());
}

fn a_voicemail_lights_the_lamp(tables: &Tables) {
    let kamailio = kamailio::Setup::on(tables).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let setup = Mwid::on(tables.url()).through(kamailio.address());
    let mwid = setup.with("contexts", "default = example.com").start();
    let mailbox = mwid.mailbox("202@default");

    mailbox.leave();
    let lit = phone.wait_for_lamp("1/0 (0/0)", SOON);
    assert_eq!(lit.summary_line("Messages-Waiting"), Some("yes"));
    assert_eq!(lit.summary_line("Message-Account"), Some("sip:202@example.com"));
    assert_is_in_the_dialog(&lit, &phone);
    phone.wait_for_count(2, SOON);
    assert_eq!(phone.answers_to(lit.cseq()), [200]);

    phone.refresh();
    let own = |notify: &Message| notify.body.is_empty() && notify.cseq() > lit.cseq();
    let own = phone.wait_for_notify(own, SOON);

    mailbox.hear();
    let off = phone.wait_for_lamp("0/1 (0/0)", SOON);
    assert_eq!(off.summary_line("Messages-Waiting"), Some("no"));
    assert!(off.cseq() > own.cseq());

    mailbox.leave_urgent();
    let urgent = phone.wait_for_lamp("1/1 (1/0)", SOON);
    assert_eq!(urgent.summary_line("Messages-Waiting"), Some("yes"));
    mwid.wait_for_status("/lamps/delivered", 1);

    phone.unsubscribe();
    let last = |notify: &Message| {
        notify.header("Subscription-State").is_some_and(|state| state.starts_with("terminated"))
    };
    phone.wait_for_notify(last, SOON);
    phone.assert_dialog_is_whole();
}

/// The first NOTIFY of mwid in the dialog of a phone that has seen one of Kamailio's own.
fn assert_is_in_the_dialog(notify: &Message, phone: &Phone) {
    phone.assert_dialog_is_whole();
    assert!((2..=MAX_CSEQ).contains(&notify.cseq()), "{notify:?}");
    assert_eq!(notify.request_uri(), Some(phone.contact().as_str()));
    let target = format!("<{}>", phone.target());
    assert_eq!(notify.header("Contact"), Some(target.as_str()), "the dialog stays Kamailio's");
    assert_eq!(notify.header("From").and_then(uri), Some("sip:202@example.com"));
    assert_eq!(notify.header("To").and_then(uri), Some("sip:202@example.com"));
    assert_eq!(notify.header("Event"), Some("message-summary"));
    let kind = "application/simple-message-summary";
    assert_eq!(notify.header("Content-Type"), Some(kind));
    let length = notify.header("Content-Length").and_then(|length| length.parse().ok());
    assert_eq!(length, Some(notify.body.len()));
    let state = notify.header("Subscription-State").expect("RFC 6665 §4.2.2 wants it");
    let left = state.strip_prefix("active;expires=").and_then(|left| left.parse::<u32>().ok());
    assert!(left.is_some_and(|left| (500..=600).contains(&left)), "{state} of 600 seconds");
}

/// The URI between angle brackets.
fn uri(value: &str) -> Option<&str> {
    value.split_once('<')?.1.split_once('>').map(|(uri, _)| uri)
}

#[test]
fn every_phone_of_the_account_lights_and_no_other() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let desk = Phone::subscribe(&kamailio, "202", "example.com");
    let home = Phone::of("917", "example.com").watching("sip:202@example.com").subscribe(&kamailio);
    let stranger = Phone::subscribe(&kamailio, "203", "example.com");
    let namesake = Phone::subscribe(&kamailio, "202", "example.org");
    let mwid = mwid(&tables, &kamailio);

    mwid.mailbox("202@example.com").leave();
    for phone in [&desk, &home] {
        phone.wait_for_lamp("1/0 (0/0)", SOON);
        phone.assert_dialog_is_whole();
    }
    for phone in [&stranger, &namesake] {
        assert_eq!(phone.notifies().len(), 1, "Kamailio's own");
    }

    let before = [&desk, &home].map(|phone| phone.notifies().len());
    mwid.mailbox("203@example.com").leave();
    stranger.wait_for_lamp("1/0 (0/0)", SOON);
    assert_eq!([&desk, &home].map(|phone| phone.notifies().len()), before);
    assert_eq!(namesake.notifies().len(), 1);
}

#[test]
fn a_phone_that_answers_481_is_left_alone_until_it_subscribes_anew() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let fine = Phone::subscribe(&kamailio, "202", "example.com");
    let gone = Phone::of("202", "example.com").answering(Answer::Gone).subscribe(&kamailio);
    let mwid = mwid(&tables, &kamailio);
    let mailbox = mwid.mailbox("202@example.com");

    mailbox.leave();
    fine.wait_for_lamp("1/0 (0/0)", SOON);
    let refused = gone.wait_for_count(2, SOON).remove(1);
    assert_eq!(gone.answers_to(refused.cseq()), [481]);
    mwid.wait_for_status("/lamps/dead", 1);

    mailbox.leave();
    fine.wait_for_lamp("2/0 (0/0)", SOON);
    mwid.wait_for_status("/lamps/delivered", 1);

    let again = Phone::subscribe(&kamailio, "202", "example.com");
    mailbox.leave();
    again.wait_for_lamp("3/0 (0/0)", SOON);
    again.assert_dialog_is_whole();
    fine.wait_for_lamp("3/0 (0/0)", SOON);
    fine.assert_dialog_is_whole();
    assert_eq!(gone.notifies().len(), 2, "Kamailio's own and the one that it refused");
}

#[test]
fn what_came_while_mwid_was_away_is_told_at_its_start() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let mut mwid = mwid(&tables, &kamailio);
    let mailbox = mwid.mailbox("202@example.com");
    mailbox.leave();
    phone.wait_for_lamp("1/0 (0/0)", SOON);

    mwid.stop();
    mailbox.leave();
    mailbox.hear();
    mwid.start();
    phone.wait_for_lamp("1/1 (0/0)", SOON);
    phone.assert_dialog_is_whole();
}
