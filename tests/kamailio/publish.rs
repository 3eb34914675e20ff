//! mwid as the publisher of the real Kamailio (RFC 3903): no subscription is looked up, Kamailio
//! itself tells the phones.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::support::kamailio::{self, Kamailio};
use crate::support::mwid::{self, Mwid};
use crate::support::phone::Phone;
use crate::support::sidecar::Sidecar;
use crate::support::tables::Tables;
use crate::support::{SOON, wait_for};

/// What got lost in a crash ends by itself, with the minute of its trial.
const LATER: Duration = Duration::from_secs(90);

/// A mwid that publishes there, and needs no database.
fn publisher(kamailio: &Kamailio) -> mwid::Setup {
    Mwid::on("mysql://nobody@127.0.0.1:1/nothing")
        .through(kamailio.address())
        .with("contexts", "default = example.com")
        .with("delivery", "use = publish")
        .with("timers", "min_interval = 0")
}

/// The documents of the account that Kamailio keeps and that have not ended.
fn documents(tables: &Tables, user: &str) -> Vec<String> {
    let sql = format!(
        "SELECT body FROM presentity WHERE username = '{user}' AND expires > UNIX_TIMESTAMP();"
    );
    let text = tables.sql(&sql);
    text.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect()
}

fn wait_for_one_document(tables: &Tables, counts: &str, deadline: Duration) {
    let expected = format!("Voice-Message: {counts}");
    wait_for(&format!("one document with {counts}"), deadline, || {
        let found = documents(tables, "202");
        (found.len() == 1 && found[0].contains(&expected)).then_some(())
    });
}

#[test]
fn a_phone_that_subscribes_later_gets_the_state_at_once_and_each_change() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let mwid = publisher(&kamailio).start();
    let mailbox = mwid.mailbox("202@default");
    mailbox.leave();
    mwid.wait_for_status("/publications/accepted", 1);
    assert_eq!(mwid.status()["enabled"], true, "without a database");

    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let first = phone.wait_for_count(1, SOON).remove(0);
    assert_eq!(first.summary_line("Voice-Message"), Some("1/0 (0/0)"));
    assert_eq!(first.summary_line("Message-Account"), Some("sip:202@example.com"));

    mailbox.hear();
    phone.wait_for_lamp("0/1 (0/0)", SOON);
    mailbox.leave_urgent();
    phone.wait_for_lamp("1/1 (1/0)", SOON);
    phone.wait_for_count(3, SOON);
    phone.refresh();
    let own = phone.wait_for_count(4, SOON).remove(3);
    assert_eq!(own.summary_line("Voice-Message"), Some("1/1 (1/0)"), "a refresh loses nothing");
    assert_eq!(own.cseq(), 4, "Kamailio counts alone");
    wait_for_one_document(&tables, "1/1 (1/0)", SOON);

    let told = mwid.ask(&["notify", "202", "example.com", "7", "8"]);
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.status.success() && text.contains("publish: 200"), "{text}");
    phone.wait_for_lamp("7/8 (0/0)", SOON);
    phone.assert_dialog_is_whole();
}

/// Waits until a document says this. More than `most` are never there, ended ones included.
fn wait_for_the_truth(tables: &Tables, counts: &str, most: usize) {
    let expected = format!("Voice-Message: {counts}");
    wait_for(&format!("a document with {counts}"), LATER, || {
        let all = tables.sql("SELECT body FROM presentity WHERE username = '202';");
        let there = all.matches("Voice-Message:").count();
        assert!(there <= most, "they stack up, {there} instead of {most} at {counts}: {all}");
        all.contains(&expected).then_some(())
    });
}

#[test]
fn after_100_changes_and_all_restarts_there_is_one_document_and_it_is_the_truth() {
    let tables = Tables::on_mariadb();
    let mut kamailio = kamailio::Setup::on(&tables).start();
    let setup = publisher(&kamailio).with("timers", "retry_min = 1");
    let mut mwid = setup.with("timers", "retry_max = 1").start();
    let mailbox = mwid.mailbox("202@default");
    // One, and one more for each answer that got lost: it ends with the minute of its trial.
    let mut most = 1;
    for change in 1..=100 {
        mailbox.leave();
        // In the middle of it.
        match change {
            20 | 40 | 60 => {
                mwid.stop();
                mwid.start();
                most += 1;
            }
            30 | 70 => {
                kamailio.stop();
                kamailio.start();
                most += 1;
            }
            _ => {}
        }
        wait_for_the_truth(&tables, &format!("{change}/0 (0/0)"), most);
    }
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let first = phone.wait_for_count(1, SOON).remove(0);
    assert_eq!(first.summary_line("Voice-Message"), Some("100/0 (0/0)"));
    wait_for_one_document(&tables, "100/0 (0/0)", LATER);
}

#[test]
fn a_document_is_kept_for_longer_than_kamailio_was_asked_to_keep_it_at_once() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let mwid = publisher(&kamailio).with("publish", "expires = 5").start();
    mwid.mailbox("202@default").leave();
    wait_for_one_document(&tables, "1/0 (0/0)", SOON);
    mwid.wait_for_status("/counters/refreshed", 2);
    wait_for_the_truth(&tables, "1/0 (0/0)", 1);
    assert_eq!(documents(&tables, "202").len(), 1, "it has not ended");
}

#[test]
fn what_is_no_longer_to_be_published_is_removed() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let mwid = publisher(&kamailio).start();
    mwid.mailbox("202@default").leave();
    wait_for_one_document(&tables, "1/0 (0/0)", SOON);
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    phone.wait_for_lamp("1/0 (0/0)", SOON);

    mwid.write(publisher(&kamailio).with("delivery_contexts", "default = notify"));
    let reloaded = mwid.ask(&["reload"]);
    assert!(reloaded.status.success(), "{reloaded:?}");
    wait_for("no document", SOON, || documents(&tables, "202").is_empty().then_some(()));
    mwid.wait_for_status("/publications/known", 0);
}

#[test]
fn rfc3903_4_1_kamailio_answers_412_when_it_forgot_and_mwid_begins_afresh() {
    let tables = Tables::on_mariadb();
    let mut kamailio = kamailio::Setup::on(&tables).start();
    let mwid = publisher(&kamailio).start();
    let mailbox = mwid.mailbox("202@default");
    mailbox.leave();
    wait_for_one_document(&tables, "1/0 (0/0)", SOON);
    kamailio.stop();
    tables.sql("DELETE FROM presentity;");
    kamailio.start();
    mailbox.leave();
    wait_for_one_document(&tables, "2/0 (0/0)", LATER);
    assert!(mwid.log().contains("412 "), "{}", mwid.log());
    assert_eq!(mwid.status()["counters"]["published_afresh"], 1);
}

#[test]
fn rfc3261_22_3_kamailio_asks_for_credentials_and_gets_them() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).with_auth().start();
    let setup = publisher(&kamailio).with("general", "auth_user = mwid");
    let mwid = setup.with("general", "auth_password = secret").start();
    let mailbox = mwid.mailbox("202@default");
    mailbox.leave();
    wait_for_one_document(&tables, "1/0 (0/0)", SOON);
    mailbox.leave();
    wait_for_one_document(&tables, "2/0 (0/0)", SOON);
    assert_eq!(mwid.status()["counters"]["publications_retried"], 1, "the first alone was asked");
}

#[test]
fn nobody_but_the_media_servers_may_publish() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    // 127.0.0.2 is this machine too, but none of MWID_SERVERS.
    let stranger = Sidecar::at(Ipv4Addr::new(127, 0, 0, 2));
    let publish = "PUBLISH sip:202@example.com SIP/2.0\r\n\
        Via: SIP/2.0/UDP 127.0.0.2;branch=z9hG4bKstranger;rport\r\n\
        Max-Forwards: 70\r\n\
        From: <sip:202@example.com>;tag=a\r\n\
        To: <sip:202@example.com>\r\n\
        Call-ID: stranger\r\n\
        CSeq: 1 PUBLISH\r\n\
        Event: message-summary\r\n\
        Expires: 60\r\n\
        Content-Type: application/simple-message-summary\r\n\
        Content-Length: 23\r\n\r\nMessages-Waiting: yes\r\n";
    assert_eq!(stranger.ask(publish, kamailio.address()), 403);
    assert_eq!(documents(&tables, "202"), [""; 0]);
}
