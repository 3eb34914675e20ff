//! `mwid status`, `show subscription`, `notify`, `debug`, and who may ask.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::house::House;
use crate::peer::Peer;

/// The fields of `mwid status --json`, group by group. A script may rely on each.
const FIELDS: [(&str, &[&str]); 6] = [
    (
        "",
        &[
            "enabled",
            "version",
            "pid",
            "uptime_seconds",
            "socket",
            "proxies",
            "suspended_proxies",
            "mailboxes",
            "debug",
        ],
    ),
    ("/lamps", &["accounts", "waiting", "dialogs", "delivered", "in_flight", "dead"]),
    (
        "/sip",
        &[
            "notifies",
            "copies",
            "answers",
            "timed_out",
            "unreachable",
            "not_sent",
            "strays",
            "requests",
            "garbage",
        ],
    ),
    ("/database", &["url", "server", "flavour", "table"]),
    ("/externnotify", &["calls", "garbage", "dropped", "bad_files", "stale", "stuck"]),
    (
        "/counters",
        &[
            "observed_by_spool",
            "observed_by_externnotify",
            "observed_by_http",
            "observed_by_ami",
            "observed_by_sipx",
            "lookups",
            "claims",
            "delivered",
            "gone",
            "cseq_too_low",
            "retried",
            "database_errors",
            "bad_rows",
            "capped_lookups",
        ],
    ),
];

#[test]
fn status_says_enabled_and_its_json_has_every_field() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 2, 1);
    let mwid = house.start();
    proxy.shows("call", "2/1 (0/0)");
    mwid.settled();

    let said = house.mwid(&["status"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(said.out.lines().next(), Some("Module ENABLED"));
    assert!(
        said.out.contains("lamps: 1 accounts, 1 phones seen, 1 of them up to date"),
        "{said:?}"
    );
    assert!(!said.out.contains("TROUBLE"), "{said:?}");
    let ways = said.out.lines().find(|line| line.starts_with("  subscriptions: ")).unwrap();
    for words in ["paging: ", "after up to 300 s", "run mwid sql --apply", "cost: "] {
        assert!(ways.contains(words), "{ways}");
    }

    let said = house.mwid(&["status", "--json"]);
    assert_eq!(said.code, 0);
    let status: Value = serde_json::from_str(&said.out).unwrap();
    for (group, names) in FIELDS {
        for name in names {
            let pointer = format!("{group}/{name}");
            assert!(status.pointer(&pointer).is_some(), "no {pointer} in {status:#}");
        }
    }
    assert_eq!(status["enabled"], true);
    assert_eq!(status["lamps"]["delivered"], 1);
    assert_eq!(status["spool"]["root"]["state"], "watching");
}

#[test]
fn status_says_disabled_with_exit_code_1_while_the_database_cannot_be_used() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    fs::remove_file(house.path("dialogs.db")).unwrap();
    let mwid = house.start();
    let said = house.mwid(&["status"]);
    assert_eq!(said.code, 1);
    assert_eq!(said.out.lines().next(), Some("Module DISABLED"));
    assert!(said.out.contains("dialogs.db"), "{said:?}");
    let said = house.mwid(&["status", "--json"]);
    let status: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &status["enabled"]), (1, &Value::Bool(false)));
    assert!(status["database"]["error"].as_str().unwrap().contains("dialogs.db"));
    house.create_database();
    assert_eq!(mwid.status()["enabled"], true);
}

#[test]
fn every_command_exits_with_3_when_the_daemon_does_not_run() {
    let house = House::new(&Peer::silent());
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["show", "subscription", "202", "example.com"],
        &["show", "account", "202", "example.com"],
        &["show", "pending"],
        &["show", "mailboxes", "--json"],
        &["notify", "202", "example.com", "1", "0"],
        &["debug", "on"],
        &["reload"],
    ] {
        let said = house.mwid(arguments);
        assert_eq!((said.code, said.out.as_str()), (3, ""), "{arguments:?}");
        assert!(said.err.starts_with("mwid: mwid does not run: nobody listens on "), "{said:?}");
        assert!(said.err.contains("control.sock"), "{said:?}");
    }
}

#[test]
fn what_is_no_number_of_messages_is_named_with_what_is_expected() {
    let house = House::new(&Peer::silent());
    for (counts, argument) in [
        (["x", "1"], "'x' for '<NEW>'"),
        (["1", "0x"], "'0x' for '<OLD>'"),
        (["-1", "3"], "'-1' for '<NEW>'"),
    ] {
        let said = house.mwid(&["notify", "202", "example.com", counts[0], counts[1]]);
        let expected = format!("{argument}: how many messages: a number from 0 to 4294967295");
        assert!(said.code == 2 && said.err.contains(&expected), "{said:?}");
    }
}

#[test]
fn show_subscription_prints_the_lines_of_res_zonkey_mwi() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    let subscription = house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 3, 0);
    let mwid = house.start();
    proxy.shows("call", "3/0 (0/0)");
    mwid.settled();
    let said = house.mwid(&["show", "subscription", "202", "example.com"]);
    let expected = format!(
        "MWI subscription details for 202@example.com:\n  To tag: server-call\n  \
         From tag: phone-call\n  Call-ID: call\n  Expires: {}\n  CSeq: 2\n  Contact: {}\n  \
         Phone shows: 3/0 (0/0)\n",
        subscription.expires, subscription.contact
    );
    // One line more than theirs, since Unix seconds say little to a person.
    let (words, ends) = said.out.split_once("  Ends in: ").unwrap();
    assert_eq!((said.code, words), (0, expected.as_str()));
    let left: u64 = ends.strip_suffix(" s\n").unwrap().parse().unwrap();
    assert!((3000..=3600).contains(&left), "{said:?}");

    let said = house.mwid(&["show", "subscription", "202", "example.com", "--json"]);
    let shown: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(shown["account"], "sip:202@example.com");
    let row = &shown["subscriptions"][0];
    assert_eq!((&row["callid"], &row["local_cseq"]), (&Value::from("call"), &Value::from(2)));
    assert_eq!(row["acknowledged"], "3/0 (0/0)");
    assert_eq!(row["problem"], Value::Null);
}

#[test]
fn show_subscription_of_nobody_exits_with_1() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    let _mwid = house.start();
    let said = house.mwid(&["show", "subscription", "203", "example.com"]);
    assert_eq!(said.code, 1);
    assert_eq!(said.out, "No subscription of 203@example.com was found\n");
    let said = house.mwid(&["show", "subscription", "a b", "example.com"]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("\"a b\" contains ' '"), "{said:?}");
}

#[test]
fn show_subscription_names_what_is_wrong_with_a_row_and_prints_no_control_character() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.subscribe(&proxy, "202", "call");
    house.sql("UPDATE active_watchers SET contact = 'sip:202@h' || char(27) || '[2J'");
    let _mwid = house.start();
    let said = house.mwid(&["show", "subscription", "202", "example.com"]);
    assert_eq!(said.code, 0);
    let problem = "Problem: active_watchers row 1: column contact contains '\\u{1b}'";
    assert!(said.out.contains(problem), "{said:?}");
    assert!(!said.out.contains('\u{1b}'), "{said:?}");
}

#[test]
fn notify_tells_the_phones_and_says_so() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.subscribe(&proxy, "202", "one");
    house.subscribe(&proxy, "202", "two");
    let _mwid = house.start();
    let said = house.mwid(&["notify", "202", "example.com", "4", "2"]);
    assert_eq!(said.code, 0, "{said:?}");
    let first = "Notify 202@example.com with 4 new messages and 2 old messages was sent";
    assert_eq!(said.out.lines().next(), Some(first));
    assert_eq!(said.out.matches("200 OK (CSeq 2)").count(), 2, "{said:?}");
    proxy.shows("one", "4/2 (0/0)");
    proxy.shows("two", "4/2 (0/0)");

    // Told again even though they know it.
    let said = house.mwid(&["notify", "202", "example.com", "4", "2", "--json"]);
    let told: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &told["delivered"]), (0, &Value::from(2)));
    assert_eq!(told["phones"][0]["answer"], "200 OK");
    assert_eq!(told["phones"][0]["cseq"], 3);
    assert_eq!(proxy.refused(), [""; 0]);
}

#[test]
fn notify_of_nobody_says_that_nothing_was_sent() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    let _mwid = house.start();
    let said = house.mwid(&["notify", "203", "example.com", "1", "0"]);
    let expected = "No subscription of 203@example.com was found, nothing was sent\n";
    assert_eq!((said.code, said.out.as_str()), (1, expected));
}

#[test]
fn notify_says_that_it_waits_for_the_database_and_is_sent_when_that_is_back() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    fs::rename(house.path("dialogs.db"), house.path("away.db")).unwrap();
    let _mwid = house.start();
    let said = house.mwid(&["notify", "202", "example.com", "1", "0"]);
    assert_eq!(said.code, 1);
    assert!(said.out.starts_with("Notify 202@example.com waits: no connection to "), "{said:?}");
    fs::rename(house.path("away.db"), house.path("dialogs.db")).unwrap();
    house.subscribe(&proxy, "202", "call");
    proxy.shows("call", "1/0 (0/0)");
}

#[test]
fn debug_prints_notify_and_answer_as_they_were_on_the_wire_until_it_is_off() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.subscribe(&proxy, "202", "call");
    let mwid = house.start();
    assert_eq!(house.mwid(&["notify", "202", "example.com", "1", "0"]).code, 0);
    assert_eq!(mwid.count("NOTIFY sip:"), 0);

    let said = house.mwid(&["debug", "on"]);
    assert_eq!((said.code, said.out.as_str()), (0, "Debug enabled\n"));
    assert_eq!(house.mwid(&["notify", "202", "example.com", "2", "0"]).code, 0);
    mwid.log("CSeq: 3 NOTIFY");
    let heard = proxy.told("202", "2/0 (0/0)");
    mwid.log("SIP/2.0 200 OK");
    // What comes after both.
    mwid.log("cseq=3");
    let log = mwid.logged();
    for (name, value) in heard.message.iter() {
        assert!(log.contains(&format!("\n{name}: {value}\n")), "no {name} in {log}");
    }
    assert!(log.contains("\nMessages-Waiting: yes\nMessage-Account: sip:202@example.com\n"));
    assert!(log.contains(&format!("sent to {}\nNOTIFY sip:202@", proxy.address)), "{log}");
    assert!(log.contains(&format!("received from {}\nSIP/2.0 200 OK\n", proxy.address)), "{log}");

    let said = house.mwid(&["debug", "off"]);
    assert_eq!((said.code, said.out.as_str()), (0, "Debug disabled\n"));
    assert_eq!(house.mwid(&["notify", "202", "example.com", "3", "0"]).code, 0);
    proxy.told("202", "3/0 (0/0)");
    mwid.log("cseq=4");
    assert_eq!(mwid.count("CSeq: 4 NOTIFY"), 0);
}

#[test]
fn debug_of_one_account_prints_its_messages_and_no_others() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.subscribe(&proxy, "202", "call");
    house.subscribe(&proxy, "203", "other");
    let mwid = house.start();
    let said = house.mwid(&["debug", "on", "202", "example.com"]);
    assert_eq!((said.code, said.out.as_str()), (0, "Debug enabled for 202@example.com\n"));
    assert_eq!(mwid.status()["debug_accounts"][0], "sip:202@example.com");
    assert_eq!(house.mwid(&["notify", "203", "example.com", "7", "0"]).code, 0);
    assert_eq!(house.mwid(&["notify", "202", "example.com", "8", "0"]).code, 0);
    mwid.log("Voice-Message: 8/0");
    mwid.log("SIP/2.0 200 OK");
    assert_eq!(mwid.count("Voice-Message: 7/0"), 0);
    assert_eq!((mwid.count("sent to"), mwid.count("received from")), (1, 1));
    assert_eq!(house.mwid(&["debug", "on", "a b", "example.com"]).code, 1);
    assert_eq!(house.mwid(&["debug", "on", "202"]).code, 2);

    let said = house.mwid(&["debug", "off"]);
    assert_eq!((said.code, said.out.as_str()), (0, "Debug disabled\n"));
    assert_eq!(house.mwid(&["notify", "202", "example.com", "9", "0"]).code, 0);
    proxy.told("202", "9/0 (0/0)");
    assert_eq!((mwid.count("sent to"), mwid.count("received from")), (1, 1));
}

#[test]
fn a_second_daemon_on_the_same_paths_refuses_and_the_first_goes_on() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    let _first = house.start();
    let mut second = house.launch();
    let line = second.log("in use by another mwid (pid ");
    assert!(line.contains("stop it, or give this one paths of its own"), "{line}");
    assert_eq!(second.ended(crate::peer::SOON).code(), Some(1));
    assert_eq!(house.mwid(&["status"]).code, 0);
}

#[test]
fn only_owner_and_group_may_use_the_sockets_and_the_drop_folder() {
    let house = House::new(&Peer::silent());
    let _mwid = house.start();
    for (name, wanted) in
        [("run/control.sock", 0o660), ("run/externnotify.sock", 0o660), ("drop", 0o770)]
    {
        let mode = fs::metadata(house.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, wanted, "{name} has the mode {mode:o}");
    }
}
