//! Where messages are in ODBC or IMAP storage: no spool, only what Asterisk says by externnotify.

use std::process::Command;

use crate::support::SOON;
use crate::support::kamailio::{self, Kamailio};
use crate::support::mwid::{Mwid, Setup};
use crate::support::phone::Phone;
use crate::support::sip::Message;
use crate::support::tables::Tables;

fn without_spool(tables: &Tables, kamailio: &Kamailio) -> Setup {
    Mwid::on(tables.url())
        .through(kamailio.address())
        .with("spool", "enabled = no")
        .with("contexts", "default = example.com")
}

/// app_voicemail: `snprintf("%s %s %s %d %d %d &", externnotify, context, mailbox, new, old,
/// urgent)`, and that to /bin/sh.
fn as_asterisk(mwid: &Mwid, arguments: &str) {
    let line = format!("{} {arguments} &", mwid.externnotify());
    let shell = Command::new("/bin/sh").arg("-c").arg(line).output().expect("there is a shell");
    assert!(shell.status.success(), "{shell:?}");
    assert_eq!(String::from_utf8_lossy(&shell.stderr), "", "Asterisk's log stays clean");
}

#[test]
fn the_counts_of_externnotify_reach_the_phone() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let mwid = without_spool(&tables, &kamailio).start();

    // Two new ones, three old ones, one urgent, which Asterisk does not count as new.
    as_asterisk(&mwid, "default 202 2 3 1");
    let lit = phone.wait_for_lamp("3/3 (1/0)", SOON);
    assert_eq!(lit.summary_line("Messages-Waiting"), Some("yes"));
    // The context of `mailbox =` without one.
    as_asterisk(&mwid, "\"\" 202 0 6 0");
    let off = phone.wait_for_lamp("0/6 (0/0)", SOON);
    assert_eq!(off.summary_line("Messages-Waiting"), Some("no"));
    mwid.wait_for_status("/lamps/delivered", 1);
    assert_eq!(mwid.status()["counters"]["observed_by_externnotify"], 2);
    phone.assert_dialog_is_whole();
}

#[test]
fn what_externnotify_said_while_mwid_was_away_is_told_at_its_start() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let mut mwid = without_spool(&tables, &kamailio).start();

    mwid.stop();
    as_asterisk(&mwid, "default 202 1 0 0");
    as_asterisk(&mwid, "default 202 2 0 0");
    mwid.start();
    phone.wait_for_lamp("2/0 (0/0)", SOON);
    phone.assert_dialog_is_whole();
}

#[test]
fn a_spool_counts_for_itself_whatever_externnotify_says() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let mwid = Mwid::on(tables.url()).through(kamailio.address()).start();

    mwid.mailbox("202@example.com").leave();
    as_asterisk(&mwid, "example.com 202 7 7 7");
    phone.wait_for_lamp("1/0 (0/0)", SOON);
    mwid.mailbox("202@example.com").leave();
    as_asterisk(&mwid, "example.com 202 7 7 7");
    phone.wait_for_lamp("2/0 (0/0)", SOON);
    let seven = |notify: &Message| notify.body.contains('7');
    assert!(!phone.notifies().iter().any(seven), "the spool knows better");
}
