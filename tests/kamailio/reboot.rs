//! Phones that subscribe anew or refresh, through the real Kamailio, beside the real mwid: whatever
//! Kamailio itself sends them (a NOTIFY with an empty body), the last word is mwid's.

use std::thread;

use crate::support::kamailio;
use crate::support::mwid::Mwid;
use crate::support::phone::Phone;
use crate::support::sip::Message;
use crate::support::tables::Tables;
use crate::support::trace::Way;
use crate::support::{SOON, wait_for};

const PHONES: usize = 20;

#[test]
fn on_mariadb_with_triggers() {
    let tables = Tables::on_mariadb();
    the_last_word_is_mwids(&tables, "change-table");
}

#[test]
fn on_mariadb_without_triggers() {
    the_last_word_is_mwids(&Tables::on_mariadb(), "paging");
}

#[test]
fn on_postgresql_with_triggers() {
    the_last_word_is_mwids(&Tables::on_postgres(), "listen");
}

#[test]
fn on_postgresql_without_triggers() {
    the_last_word_is_mwids(&Tables::on_postgres(), "paging");
}

fn the_last_word_is_mwids(tables: &Tables, way: &str) {
    let kamailio = kamailio::Setup::on(tables).start();
    let setup = Mwid::on(tables.url()).through(kamailio.address()).with("database", "resync = 1");
    let mut mwid = setup.with("contexts", "default = example.com").start();
    if way != "paging" {
        // As an administrator would: printed by mwid, run by the database's own client.
        let printed = mwid.ask(&["sql"]);
        assert!(printed.status.success(), "{printed:?}");
        tables.sql(&String::from_utf8(printed.stdout).expect("mwid prints UTF-8"));
        mwid.stop();
        mwid.start();
    }
    let user = |number: usize| format!("{}", 200 + number);
    let leave = |number| mwid.mailbox(&format!("{}@default", user(number))).leave();
    (0..PHONES).for_each(leave);
    mwid.wait_for_status("/lamps/accounts", PHONES as u64);
    wait_for("the way", SOON, || (mwid.status()["watch"]["way"] == way).then_some(()));

    // All at once.
    let phones: Vec<Phone> = thread::scope(|scope| {
        let plug = |number| {
            let kamailio = &kamailio;
            scope.spawn(move || Phone::subscribe(kamailio, &user(number), "example.com"))
        };
        let plugged: Vec<_> = (0..PHONES).map(plug).collect();
        plugged.into_iter().map(|phone| phone.join().expect("it is subscribed")).collect()
    });
    all_show(&phones, "1/0 (0/0)");
    println!("{way}: new: {}", times(&phones, 1));

    phones.iter().for_each(Phone::refresh);
    wait_for("the servers' NOTIFYs and mwid's", SOON, || {
        phones.iter().all(|phone| phone.notifies().len() >= 4).then_some(())
    });
    all_show(&phones, "1/0 (0/0)");
    println!("{way}: refreshed: {}", times(&phones, 3));
    for phone in &phones {
        for notify in phone.notifies() {
            assert_eq!(phone.answers_to(notify.cseq())[0], 200, "{notify:?}\n{}", mwid.log());
        }
        phone.assert_dialog_is_whole();
    }

    // A voicemail at the very moment of a refresh.
    for (number, phone) in phones.iter().enumerate() {
        leave(number);
        phone.refresh();
    }
    all_show(&phones, "2/0 (0/0)");
    // The server may send the next CSeq between mwid's claim and its NOTIFY, which is refused then.
    for phone in &phones {
        let mut highest = 0;
        for notify in phone.notifies() {
            let expected = if notify.cseq() > highest { 200 } else { 500 };
            let answer = phone.answers_to(notify.cseq())[0];
            assert_eq!(answer, expected, "{notify:?}\n{}", mwid.log());
            highest = highest.max(notify.cseq());
        }
    }
}

/// Waits until the last NOTIFY that each phone accepted has these counts, and all have gone quiet.
fn all_show(phones: &[Phone], voice_message: &str) {
    for phone in phones {
        wait_for("the lamp", SOON, || {
            let last = accepted(phone).pop()?;
            (last.summary_line("Voice-Message") == Some(voice_message)).then_some(())
        });
    }
}

/// The NOTIFYs that it answered with 200, in order of arrival.
fn accepted(phone: &Phone) -> Vec<Message> {
    let mut notifies = phone.notifies();
    notifies.retain(|notify| phone.answers_to(notify.cseq()).contains(&200));
    notifies
}

/// How long after the server's own NOTIFY (the `nth` of each phone) mwid's came.
fn times(phones: &[Phone], nth: usize) -> String {
    let mut times: Vec<f64> = phones.iter().map(|phone| gap(phone, nth)).collect();
    times.sort_by(f64::total_cmp);
    let milliseconds = |place: usize| times[place] * 1000.0;
    format!(
        "mwid's NOTIFY came {:.1} ms after the server's (median), {:.1} to {:.1} ms",
        milliseconds(PHONES / 2),
        milliseconds(0),
        milliseconds(PHONES - 1)
    )
}

fn gap(phone: &Phone, nth: usize) -> f64 {
    let received = phone
        .messages()
        .into_iter()
        .filter(|entry| entry.way == Way::Received && entry.message.method() == Some("NOTIFY"));
    let times: Vec<f64> = received.map(|entry| entry.at).collect();
    times[nth] - times[nth - 1]
}
