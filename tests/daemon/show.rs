//! `mwid show account`, `show pending`, `show mailboxes`.

use std::fs;

use serde_json::{Value, json};

use crate::house::House;
use crate::peer::Peer;

fn counts(new: u32, old: u32) -> Value {
    json!({ "newcount": new, "oldcount": old, "newurgent": 0, "oldurgent": 0 })
}

fn account(house: &House, user: &str) -> (i32, Value) {
    let said = house.mwid(&["show", "account", user, "example.com", "--json"]);
    (said.code, serde_json::from_str(&said.out).unwrap())
}

#[test]
fn an_account_is_shown_with_who_counts_it_and_what_each_phone_answered() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("mailboxes", "900@default", "202@example.com");
    house.set("mailboxes", "202@example.com", "202@example.com");
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 3, 1);
    let mwid = house.start();
    proxy.shows("call", "3/1 (0/0)");
    assert_eq!(house.externnotify(&["default", "900", "2", "0", "0"]).code, 0);
    proxy.shows("call", "5/1 (0/0)");
    mwid.settled();

    let (code, shown) = account(&house, "202");
    assert_eq!((code, &shown["account"]), (0, &json!("sip:202@example.com")), "{shown:#}");
    assert_eq!((&shown["summary"], &shown["told"]), (&counts(5, 1), &counts(5, 1)));
    assert_eq!((&shown["waits"], &shown["problem"]), (&Value::Null, &Value::Null), "{shown:#}");
    let mut mailboxes = shown["mailboxes"].as_array().unwrap().clone();
    mailboxes.sort_by_key(|it| it["mailbox"].to_string());
    let [spool, call] = &mailboxes[..] else { panic!("{shown:#}") };
    assert_eq!((&spool["source"], &spool["summary"]), (&json!("spool"), &counts(3, 1)));
    assert_eq!((&call["source"], &call["here"]), (&json!("externnotify"), &counts(2, 0)));
    let dialog = &shown["dialogs"][0];
    assert_eq!((&dialog["state"], &dialog["acknowledged"]), (&json!("current"), &counts(5, 1)));
    assert_eq!((&dialog["cseq"], &dialog["sent_cseq"]), (&json!(3), &json!(3)));
    assert_eq!((&dialog["answer"], &dialog["retry_seconds"]), (&Value::Null, &Value::Null));
    assert!(dialog["last_seconds"].is_u64() && dialog["remaining_seconds"].as_u64() > Some(3000));

    let said = house.mwid(&["show", "account", "202", "example.com"]);
    assert_eq!(said.code, 0);
    for line in [
        "Account 202@example.com\n  messages: 5/1 (0/0)\n",
        "900@default      2/0 (0/0)  externnotify\n",
    ] {
        assert!(said.out.contains(line), "no {line:?} in {}", said.out);
    }
    let phone = said.out.lines().last().unwrap();
    assert!(phone.starts_with("  sip:202@127.0.0.1:") && phone.ends_with("  call"), "{phone}");
    assert!(phone.contains("  5/1 (0/0)  ") && phone.contains("  acknowledged, "), "{phone}");

    // Another daemon knows what was given before it, and not by whom.
    assert!(mwid.stop().success());
    let mwid = house.start();
    mwid.until("known", |status| status["lamps"]["delivered"] == 1);
    let (_, shown) = account(&house, "202");
    let sources: Vec<_> =
        shown["mailboxes"].as_array().unwrap().iter().map(|it| it["source"].clone()).collect();
    assert!(sources.contains(&json!("call")), "{shown:#}");
    let said = house.mwid(&["show", "account", "202", "example.com"]);
    assert!(said.out.contains("  acknowledged before the start  call\n"), "{}", said.out);
}

#[test]
fn what_was_answered_and_when_it_is_tried_again_is_shown_of_a_phone_that_refuses() {
    let proxy = Peer::says(486);
    let mut house = House::new(&proxy);
    house.set("timers", "retry_min", "600");
    house.set("timers", "retry_max", "600");
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    mwid.until("refused", |status| status["counters"]["retried"] == 1);
    let (code, shown) = account(&house, "202");
    let dialog = &shown["dialogs"][0];
    assert_eq!((code, &dialog["state"]), (0, &json!("paused")), "{shown:#}");
    assert_eq!(
        (&dialog["answer"], &dialog["acknowledged"]),
        (&json!("486 Said By The Test"), &Value::Null)
    );
    assert!((400..=800).contains(&dialog["retry_seconds"].as_u64().unwrap()), "{shown:#}");
    let waits = &shown["waits"];
    assert_eq!(
        (&waits["wait"], &waits["reason"]),
        (&json!("retry"), &json!("486 Said By The Test"))
    );
    assert_eq!((&waits["left"], &waits["summary"]), (&json!(1), &counts(1, 0)));
    let said = house.mwid(&["show", "account", "202", "example.com"]);
    assert!(said.out.contains("\n  waits: 486 Said By The Test; again in "), "{}", said.out);
    assert!(
        said.out.contains("  tried again in ") && said.out.contains("  not known  "),
        "{}",
        said.out
    );
}

#[test]
fn nobody_is_no_account_and_a_database_that_is_down_hides_only_the_phones() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.messages("example.com/202", 1, 0);
    fs::remove_file(house.path("dialogs.db")).unwrap();
    let mwid = house.start();
    mwid.until("failed", |status| status["counters"]["database_errors"] != 0);
    let (code, shown) = account(&house, "202");
    assert_eq!((code, &shown["summary"]), (1, &counts(1, 0)), "{shown:#}");
    assert!(shown["problem"].as_str().unwrap().contains("dialogs.db"), "{shown:#}");
    assert_eq!(shown["waits"]["wait"], "look-up failed");
    let said = house.mwid(&["show", "account", "202", "example.com"]);
    assert!(said.out.contains("\n  subscriptions: not known: no connection to "), "{}", said.out);
    let said = house.mwid(&["show", "pending"]);
    assert_eq!(said.code, 0);
    assert!(said.out.starts_with("1 account waits\n  ACCOUNTS  WHY\n  1         its subscriptions cannot be looked up: no connection to "), "{}", said.out);

    house.create_database();
    mwid.until("found", |status| status["lamps"]["waiting"] == 0);
    assert_eq!(house.mwid(&["show", "pending"]).out, "No account waits\n");
    let said = house.mwid(&["show", "account", "203", "example.com"]);
    let nobody = "Nothing is known of 203@example.com: it has no mailbox and no subscription\n";
    assert_eq!((said.code, said.out.as_str()), (1, nobody));
    let said = house.mwid(&["show", "account", "a b", "example.com"]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("\"a b\" contains ' '"), "{said:?}");
}

#[test]
fn accounts_that_wait_are_counted_by_reason_and_shown_up_to_the_limit() {
    let proxy = Peer::scripted(|heard| {
        let code = if heard.request_uri().starts_with("sip:300@") { 503 } else { 486 };
        vec![heard.answer(code, "")]
    });
    let mut house = House::new(&proxy);
    house.set("timers", "retry_min", "600");
    house.set("timers", "retry_max", "600");
    for user in ["202", "203", "204", "300"] {
        house.subscribe(&proxy, user, user);
        house.messages(&format!("example.com/{user}"), 1, 0);
    }
    // Not counted: nobody may look into it.
    fs::create_dir_all(house.path("spool/example.com/205/INBOX")).unwrap();
    fs::remove_dir(house.path("spool/example.com/205/INBOX")).unwrap();
    fs::write(house.path("spool/example.com/205/INBOX"), b"no folder").unwrap();
    let mwid = house.start();
    mwid.until("refused", |status| status["counters"]["retried"].as_u64() >= Some(4));
    let said = house.mwid(&["show", "pending", "--limit", "2", "--json"]);
    let pending: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &pending["waiting"]), (0, &json!(5)), "{pending:#}");
    assert_eq!(pending["reasons"][0], json!({ "accounts": 3, "reason": "486 Said By The Test" }));
    assert_eq!(pending["reasons"].as_array().unwrap().len(), 3, "{pending:#}");
    let first: Vec<_> =
        pending["accounts"].as_array().unwrap().iter().map(|it| &it["account"]).collect();
    assert_eq!(first, ["sip:202@example.com", "sip:203@example.com"]);
    let all = house.mwid(&["show", "pending"]).out;
    assert!(all.contains("  its mailbox 205@example.com cannot be counted now\n"), "{all}");
    let two = house.mwid(&["show", "pending", "--limit", "2"]).out;
    assert!(two.ends_with("\n  and 3 more\n"), "{two}");
}

#[test]
fn every_mailbox_is_shown_once_over_all_pages_and_a_reader_may_go_away() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("mailboxes", "5@other", "5@example.com, boss@example.com");
    for number in 0..1001 {
        fs::create_dir_all(house.path(&format!("spool/example.com/{number}/INBOX"))).unwrap();
    }
    house.messages("other/5", 2, 0);
    let mwid = house.start();
    mwid.until("counted", |status| status["mailboxes"] == 1002);
    let said = house.mwid(&["show", "mailboxes"]);
    assert_eq!((said.code, said.out.lines().count()), (0, 1003));
    assert!(
        said.out.starts_with("  MAILBOX                   MESSAGES      SOURCE        LIGHTS\n")
    );
    let said = house.mwid(&["show", "mailboxes", "--json"]);
    let lines: Vec<Value> = said.out.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let names: std::collections::BTreeSet<_> =
        lines.iter().map(|it| it["mailbox"].as_str().unwrap()).collect();
    assert_eq!((lines.len(), names.len()), (1002, 1002));
    let said = house.mwid(&["show", "mailboxes", "other", "--json"]);
    let line: Value = serde_json::from_str(&said.out).unwrap();
    let lights = json!(["sip:5@example.com", "sip:boss@example.com"]);
    assert_eq!((&line["summary"], &line["accounts"]), (&counts(2, 0), &lights));
    let said = house.mwid(&["show", "mailboxes", "nowhere"]);
    assert_eq!((said.code, said.out.as_str()), (1, "No mailbox of context nowhere is known\n"));
    let piped = format!(
        "{} --config {} show mailboxes | head -1",
        crate::house::MWID,
        house.config().display()
    );
    let output = std::process::Command::new("sh").arg("-c").arg(piped).output().unwrap();
    assert_eq!((output.stdout.split(|byte| *byte == b'\n').count(), output.stderr.len()), (2, 0));
}
