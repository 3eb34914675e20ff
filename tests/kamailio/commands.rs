//! The commands of an operator, with a real phone at the other end.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::SOON;
use crate::support::kamailio::{self, Kamailio};
use crate::support::mwid::{Mwid, Setup};
use crate::support::phone::{Answer, Phone};
use crate::support::tables::Tables;

const WHO: [&str; 2] = ["202", "example.com"];

fn setup(tables: &Tables, kamailio: &Kamailio) -> Setup {
    // The commands, not the rate limit, are what is looked at.
    Mwid::on(tables.url()).through(kamailio.address()).with("timers", "min_interval = 0")
}

/// What a command printed, after its exit code was the expected one.
fn text(asked: &Output, code: i32) -> &str {
    assert_eq!(asked.status.code(), Some(code), "{asked:?}");
    assert_eq!(String::from_utf8_lossy(&asked.stderr), "", "{asked:?}");
    std::str::from_utf8(&asked.stdout).expect("commands print UTF-8")
}

fn data(asked: &Output, code: i32) -> Value {
    serde_json::from_str(text(asked, code)).expect("--json prints JSON")
}

#[test]
fn notify_tells_the_phone_and_prints_its_answer() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let mwid = setup(&tables, &kamailio).start();
    let contact = phone.contact();

    let asked = mwid.ask(&["notify", "202", "example.com", "3", "5"]);
    let expected = format!(
        "Notify 202@example.com with 3 new messages and 5 old messages was sent\n  \
         {contact}: 200 OK (CSeq 2)\n"
    );
    assert_eq!(text(&asked, 0), expected);
    let seen = phone.wait_for_lamp("3/5 (0/0)", SOON);
    assert_eq!(seen.cseq(), 2);

    // Again the same counts: a command is carried out, whatever the phone acknowledged.
    let asked = mwid.ask(&["notify", "202", "example.com", "3", "5", "--json"]);
    let expected = json!({
        "account": "sip:202@example.com", "new": 3, "old": 5, "delivered": 1,
        "phones": [{
            "contact": contact, "call_id": phone.call_id(), "cseq": 3, "copies": 1,
            "answer": "200 OK", "delivered": true,
        }],
        "publications": [],
    });
    assert_eq!(data(&asked, 0), expected);
    phone.wait_for_count(3, SOON);
    phone.assert_dialog_is_whole();
}

#[test]
fn notify_fails_when_no_phone_took_it() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let phone = Phone::of("202", "example.com").answering(Answer::Gone).subscribe(&kamailio);
    let mwid = setup(&tables, &kamailio).start();

    let asked = mwid.ask(&["notify", "202", "example.com", "1", "0"]);
    let expected = format!(
        "Notify 202@example.com with 1 new messages and 0 old messages was sent, \
         but no phone acknowledged it\n  {}: 481 Subscription does not exist (CSeq 2)\n",
        phone.contact()
    );
    assert_eq!(text(&asked, 1), expected);
    let asked = mwid.ask(&["notify", "999", "example.com", "1", "0"]);
    let expected = "No subscription of 999@example.com was found, nothing was sent\n";
    assert_eq!(text(&asked, 1), expected);
    let asked = mwid.ask(&["notify", "20 2", "example.com", "1", "0", "--json"]);
    assert!(data(&asked, 1)["error"].is_string());
    assert_eq!(mwid.ask(&["notify", "202", "example.com", "-1", "0"]).status.code(), Some(2));
}

#[test]
fn show_subscription_prints_the_rows_in_the_words_of_res_zonkey_mwi() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let mwid = setup(&tables, &kamailio).start();
    let show = |shows: &str| {
        let row = tables.row(&phone.call_id(), "expires, local_cseq").expect("it is subscribed");
        format!(
            "MWI subscription details for 202@example.com:\n  To tag: {}\n  From tag: {}\n  \
             Call-ID: {}\n  Expires: {}\n  CSeq: {}\n  Contact: {}\n  Phone shows: {shows}\n",
            phone.server_tag(),
            phone.tag(),
            phone.call_id(),
            row[0],
            row[1],
            phone.contact()
        )
    };

    let asked = mwid.ask(&["show", "subscription", "202", "example.com"]);
    assert_eq!(before_the_end(text(&asked, 0)), show("not known"));
    text(&mwid.ask(&["notify", "202", "example.com", "3", "5"]), 0);
    let asked = mwid.ask(&["show", "subscription", "202", "example.com"]);
    assert_eq!(before_the_end(text(&asked, 0)), show("3/5 (0/0)"));

    let asked = mwid.ask(&["show", "subscription", "202", "example.com", "--json"]);
    let shown = data(&asked, 0);
    let subscription = &shown["subscriptions"][0];
    assert_eq!(shown["account"], "sip:202@example.com");
    assert_eq!(shown["subscriptions"].as_array().map(Vec::len), Some(1));
    assert_eq!(subscription["callid"], phone.call_id().as_str());
    assert_eq!(subscription["acknowledged"], "3/5 (0/0)");
    assert_eq!(subscription["problem"], Value::Null);

    let asked = mwid.ask(&["show", "subscription", "999", "example.com"]);
    assert_eq!(text(&asked, 1), "No subscription of 999@example.com was found\n");
    let asked = mwid.ask(&["show", "subscription", "999", "example.com", "--json"]);
    assert_eq!(data(&asked, 1)["subscriptions"], json!([]));
}

/// Without the seconds that are left.
fn before_the_end(said: &str) -> String {
    let (words, ends) = said.split_once("  Ends in: ").expect("it says when the subscription ends");
    assert!(ends.ends_with(" s\n"), "{said}");
    words.to_owned()
}

#[test]
fn status_tells_whether_everything_works() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let mut mwid = setup(&tables, &kamailio).start();
    mwid.mailbox("202@example.com").leave();
    phone.wait_for_lamp("1/0 (0/0)", SOON);
    mwid.wait_for_status("/lamps/delivered", 1);

    let asked = mwid.ask(&["status"]);
    let said = text(&asked, 0);
    assert_eq!(said.lines().next(), Some("Module ENABLED"));
    assert!(said.contains("MariaDB") && said.contains("Kamailio schema"), "{said}");
    assert!(said.contains(&format!("proxy: {}\n", kamailio.address())), "{said}");
    assert!(said.contains("1 accounts, 1 phones seen, 1 of them up to date"), "{said}");
    assert!(!said.contains("kamailio@"), "no password: {said}");
    let status = mwid.status();
    assert_eq!(status["enabled"], true);
    assert_eq!(status["database"]["flavour"], "Kamailio");
    assert_ne!(status["counters"]["delivered"], 0);

    tables.sql("RENAME TABLE active_watchers TO hidden");
    let asked = mwid.ask(&["status"]);
    assert!(text(&asked, 1).starts_with("Module DISABLED\n"), "{asked:?}");
    tables.sql("RENAME TABLE hidden TO active_watchers");
    text(&mwid.ask(&["status"]), 0);

    mwid.stop();
    let asked = mwid.ask(&["status"]);
    assert_eq!((asked.status.code(), asked.stdout.as_slice()), (Some(3), &b""[..]));
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(said.starts_with("mwid: mwid does not run: nobody listens on "), "{said}");
}

#[test]
fn debug_prints_each_notify_and_its_answer() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let mwid = setup(&tables, &kamailio).start();
    let request = format!("NOTIFY {} SIP/2.0", phone.contact());
    let times = |what: &str| mwid.log().matches(what).count();
    let notify = |new: &str| text(&mwid.ask(&["notify", WHO[0], WHO[1], new, "0"]), 0).to_owned();

    notify("1");
    assert_eq!(times(&request), 0);
    assert_eq!(text(&mwid.ask(&["debug", "on"]), 0), "Debug enabled\n");
    notify("2");
    assert_eq!((times(&request), times("SIP/2.0 200 OK")), (1, 1));
    assert!(mwid.log().contains("\nVoice-Message: 2/0 (0/0)\n"));
    let asked = mwid.ask(&["debug", "off", "--json"]);
    assert_eq!(data(&asked, 0), json!({ "debug": false, "all": false, "accounts": [] }));
    notify("3");
    assert_eq!(times(&request), 1);
}

#[test]
fn reload_changes_the_next_notify() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let setup = setup(&tables, &kamailio);
    let mwid = setup.clone().start();
    let mailbox = mwid.mailbox("202@example.com");
    mailbox.leave();
    let first = phone.wait_for_lamp("1/0 (0/0)", SOON);
    assert_eq!(first.summary_line("Message-Account"), Some("sip:202@example.com"));

    mwid.write(setup.with("general", "vmexten = *97"));
    let asked = mwid.ask(&["reload"]);
    assert!(text(&asked, 0).starts_with("Configuration reloaded: [general]\n"), "{asked:?}");
    mailbox.leave();
    let second = phone.wait_for_lamp("2/0 (0/0)", SOON);
    assert_eq!(second.summary_line("Message-Account"), Some("sip:*97@example.com"));

    phone.assert_dialog_is_whole();
}
