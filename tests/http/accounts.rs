//! JSON: `PUT …/summary`, `GET`, `POST …/resend`, `/v1/status`.

use serde_json::json;

use crate::client::{address, ask, ask_with, house};
use crate::house::{House, Mwid};
use crate::peer::Peer;

const ACCOUNT: &str = "/v1/accounts/202@example.com";
const SUMMARY: &str = "/v1/accounts/202@example.com/summary";

/// `presence.voicemail.out`, as the README of babble-drachtio-presence has it.
const README: &str = r#"{
    "entity": "202@example.com",
    "newcount": 3,
    "oldcount": 2,
    "newurgent": 1,
    "oldurgent": 0,
    "reason": "update"
}"#;

fn told(mwid: &Mwid, body: &str) {
    let response = ask(address(mwid), "PUT", SUMMARY, body);
    assert_eq!((response.status, response.body.as_str()), (204, ""), "{body}: {response:?}");
}

#[test]
fn presence_voicemail_out_lights_the_phone_in_the_names_of_its_readme_and_of_its_code() {
    let proxy = Peer::phones();
    let house = house(&proxy);
    house.subscribe(&proxy, "202", "call");
    let mwid = house.start();
    told(&mwid, README);
    proxy.shows("call", "3/2 (1/0)");
    told(&mwid, r#"{"new": 4, "old": 5, "reason": "init"}"#);
    proxy.shows("call", "4/5 (0/0)");
    told(&mwid, r#"{"entity": "sip:202@example.com", "new": 0.0, "oldcount": 4294967295}"#);
    proxy.shows("call", "0/4294967295 (0/0)");
    assert_eq!(mwid.status()["counters"]["observed_by_http"], 3);
    assert_eq!(mwid.status()["counters"]["observed_by_externnotify"], 0);
}

#[test]
fn a_name_in_a_path_is_decoded_once_and_gated() {
    let proxy = Peer::phones();
    let house = house(&proxy);
    house.subscribe(&proxy, "+44%201", "call");
    let mwid = house.start();
    let door = address(&mwid);
    for path in
        ["sip%3A%2B44%25201%40example.com", "+44%25201@example.com", "sip:+44%25201@example.com"]
    {
        let target = format!("/v1/accounts/{path}/summary");
        let response = ask(door, "PUT", &target, r#"{"new": 1, "old": 0}"#);
        assert_eq!(response.status, 204, "{path}: {response:?}");
    }
    proxy.shows("call", "1/0 (0/0)");
    for (path, status) in [
        ("202", 400),
        ("202@", 400),
        ("@example.com", 400),
        ("a%20b@example.com", 400),
        ("202@example.com%0d%0aVia:%20x", 400),
        ("202%00@example.com", 400),
        ("%ff@example.com", 400),
        ("202@example.com%2Fx", 400),
        ("..%2F202@example.com", 422),
        (".202@example.com", 422),
        ("202/3@example.com", 404),
    ] {
        let target = format!("/v1/accounts/{path}/summary");
        ask(door, "PUT", &target, r#"{"new": 1, "old": 0}"#).refused(status, "");
    }
    assert_eq!(mwid.status()["mailboxes"], 1);
}

#[test]
fn what_is_no_summary_is_refused_and_says_why() {
    let proxy = Peer::silent();
    let house = house(&proxy);
    let mwid = house.start();
    let door = address(&mwid);
    for (body, status, why) in [
        ("", 400, "no JSON object"),
        ("{", 400, "EOF"),
        ("new=1", 400, "no JSON object"),
        (&"[".repeat(4000), 400, "no JSON object"),
        (&format!("{{\"new\": {}", "[".repeat(4000)), 422, "sequence"),
        (&format!("{{\"x\": {}", "[".repeat(4000)), 422, "unknown field"),
        (r#"["202@example.com", 1, 0, 0, 0]"#, 400, "no JSON object"),
        ("7", 400, "no JSON object"),
        ("{}", 422, "missing field `newcount`"),
        (r#"{"new": 1}"#, 422, "missing field `oldcount`"),
        (r#"{"new": 1, "newcount": 1, "old": 0}"#, 422, "duplicate field `newcount`"),
        (r#"{"new": 1, "new": 1, "old": 0}"#, 422, "duplicate field"),
        (r#"{"new": -1, "old": 0}"#, 422, "-1"),
        (r#"{"new": 1.5, "old": 0}"#, 422, "1.5"),
        (r#"{"new": "1", "old": 0}"#, 422, "string \"1\""),
        (r#"{"new": null, "old": 0}"#, 422, "null"),
        (r#"{"new": 4294967296, "old": 0}"#, 422, "4294967296"),
        (r#"{"new": 1, "old": 0, "lamp": true}"#, 422, "unknown field `lamp`"),
        (r#"{"new": 1, "old": 0, "reason": "why not"}"#, 422, "unknown variant"),
        (r#"{"new": 1, "old": 0, "entity": null}"#, 422, "null"),
        (r#"{"new": 1, "old": 0, "entity": "202"}"#, 400, "not an account"),
        (
            r#"{"new": 1, "old": 0, "entity": "203@example.com"}"#,
            422,
            "the path says sip:202@example.com",
        ),
        (r#"{"new": 1, "old": 0, "newurgent": 2}"#, 422, "2 of 1 new"),
        (r#"{"new": 1, "old": 1, "oldurgent": 2}"#, 422, "2 of 1 old"),
        (r#"{"new": 1, "old": 0} x"#, 400, "trailing"),
    ] {
        ask(door, "PUT", SUMMARY, body).refused(status, why);
    }
    ask(door, "PUT", SUMMARY, b"{\"new\": 1, \"old\": 0, \"entity\": \"\xff\"}").refused(400, "");
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    ask_with(door, "PUT", SUMMARY, form, README).refused(415, "application/json");
    let json = "Content-Type: Application/JSON; charset=utf-8\r\n";
    assert_eq!(ask_with(door, "PUT", SUMMARY, json, README).status, 204);
    assert_eq!(mwid.status()["http"]["refused"], 27);
    assert_eq!(mwid.status()["counters"]["observed_by_http"], 1);
}

#[test]
fn an_account_is_shown_with_its_mailboxes_and_what_each_phone_acknowledged() {
    let proxy = Peer::phones();
    let mut house = house(&proxy);
    house.set("contexts", "default", "example.com");
    let phone = house.subscribe(&proxy, "202", "call");
    let mwid = house.start();
    assert_eq!(house.externnotify(&["default", "202", "1", "1", "0"]).code, 0);
    proxy.shows("call", "1/1 (0/0)");
    told(&mwid, r#"{"new": 2, "old": 0, "newurgent": 1}"#);
    proxy.shows("call", "3/1 (1/0)");
    mwid.settled();
    house.sql("INSERT INTO active_watchers (presentity_uri, watcher_username, watcher_domain, to_user, to_domain, event, to_tag, from_tag, callid, local_cseq, remote_cseq, contact, expires, status, version, socket_info, local_contact) SELECT presentity_uri, watcher_username, watcher_domain, to_user, to_domain, event, 'x', 'y', 'bad', local_cseq, remote_cseq, '', expires, status, version, socket_info, local_contact FROM active_watchers");
    let report = ask(address(&mwid), "GET", ACCOUNT, "").json();
    let summary = json!({ "newcount": 3, "oldcount": 1, "newurgent": 1, "oldurgent": 0 });
    assert_eq!((&report["account"], &report["summary"]), (&json!("sip:202@example.com"), &summary));
    let mut mailboxes = report["mailboxes"].as_array().unwrap().clone();
    mailboxes.sort_by_key(|it| it["mailbox"].to_string());
    let given = json!({ "newcount": 1, "oldcount": 1, "newurgent": 0, "oldurgent": 0 });
    let put = json!({ "newcount": 2, "oldcount": 0, "newurgent": 1, "oldurgent": 0 });
    assert_eq!(
        mailboxes,
        [
            json!({ "mailbox": "202@default", "summary": given, "source": "externnotify", "here": given }),
            json!({ "mailbox": "202@example.com", "summary": put, "source": "http", "here": put }),
        ]
    );
    let dialogs = report["dialogs"].as_array().unwrap();
    let dialog = |call_id| dialogs.iter().find(|it| it["call_id"] == call_id).unwrap();
    assert_eq!(dialogs.len(), 2);
    assert_eq!(dialog("call")["acknowledged"], summary);
    assert_eq!(dialog("call")["contact"], phone.contact);
    assert_eq!(dialog("call")["expires"], phone.expires);
    assert_eq!((&dialog("call")["cseq"], &dialog("call")["problem"]), (&json!(3), &json!(null)));
    assert_eq!(dialog("bad")["acknowledged"], json!(null));
    assert!(dialog("bad")["problem"].as_str().unwrap().contains("contact"), "{report:#}");
}

#[test]
fn an_account_that_nobody_knows_is_not_found_and_one_without_messages_is() {
    let proxy = Peer::phones();
    let house = house(&proxy);
    house.subscribe(&proxy, "203", "call");
    let mwid = house.start();
    let door = address(&mwid);
    for (method, path) in [("GET", ACCOUNT), ("POST", "/v1/accounts/202@example.com/resend")] {
        ask(door, method, path, "").refused(404, "nothing is known of sip:202@example.com");
    }
    // It is watched, and nobody said what waits for it.
    let report = ask(door, "GET", "/v1/accounts/203@example.com", "").json();
    assert_eq!(
        (&report["summary"], &report["dialogs"][0]["call_id"]),
        (&json!(null), &json!("call"))
    );
    told(&mwid, r#"{"new": 0, "old": 0}"#);
    let report = ask(door, "GET", ACCOUNT, "").json();
    assert_eq!((&report["summary"]["newcount"], &report["dialogs"]), (&json!(0), &json!([])));
}

#[test]
fn resend_tells_every_phone_again() {
    let proxy = Peer::phones();
    let house = house(&proxy);
    house.subscribe(&proxy, "202", "one");
    house.subscribe(&proxy, "202", "two");
    let mwid = house.start();
    told(&mwid, r#"{"new": 1, "old": 0}"#);
    proxy.shows("one", "1/0 (0/0)");
    proxy.shows("two", "1/0 (0/0)");
    assert_eq!(mwid.settled()["sip"]["notifies"], 2);
    told(&mwid, r#"{"new": 1, "old": 0}"#);
    assert_eq!(mwid.settled()["sip"]["notifies"], 2, "what is known is not said again");
    let response = ask(address(&mwid), "POST", "/v1/accounts/sip:202@example.com/resend", "");
    let counts = json!({ "newcount": 1, "oldcount": 0, "newurgent": 0, "oldurgent": 0 });
    assert_eq!((response.status, response.json()), (202, counts));
    mwid.until("told again", |status| status["sip"]["notifies"] == 4);
    assert_eq!(proxy.refused(), [""; 0]);
}

#[test]
fn the_status_is_that_of_the_command() {
    let proxy = Peer::silent();
    let house = house(&proxy);
    let mwid = house.start();
    let door = address(&mwid);
    let status = ask(door, "GET", "/v1/status", "").json();
    assert_eq!(status["pid"], mwid.status()["pid"]);
    assert_eq!(status["http"]["listen"], json!([door.to_string()]));
    assert_eq!(status["http"]["tls"], json!(false));
    let line = format!("\n  http: http://{door}: ");
    let said = house.mwid(&["status"]);
    assert!(said.out.contains(&line) && said.out.contains(" 1 requests, "), "{said:?}");
    let head = ask(door, "HEAD", "/v1/status", "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[test]
fn where_the_spool_has_the_mailbox_the_spool_is_believed() {
    let proxy = Peer::phones();
    let mut house = house(&proxy);
    house.set("spool", "enabled", "yes");
    house.subscribe(&proxy, "202", "call");
    house.subscribe(&proxy, "203", "other");
    house.messages("example.com/202", 2, 1);
    let mwid = house.start();
    proxy.shows("call", "2/1 (0/0)");
    told(&mwid, r#"{"new": 9, "old": 9}"#);
    let other = "/v1/accounts/203@example.com/summary";
    assert_eq!(ask(address(&mwid), "PUT", other, r#"{"new": 5, "old": 0}"#).status, 204);
    proxy.shows("other", "5/0 (0/0)");
    let report = ask(address(&mwid), "GET", ACCOUNT, "").json();
    assert_eq!(report["summary"]["newcount"], 2);
}

#[test]
fn a_mailbox_that_the_configuration_has_for_others_is_a_conflict() {
    let proxy = Peer::silent();
    let mut house = house(&proxy);
    house.set("mailboxes", "202@example.com", "sip:203@example.com");
    let mwid = house.start();
    let response = ask(address(&mwid), "PUT", SUMMARY, README);
    response.refused(409, "the mailbox 202@example.com is not one of sip:202@example.com");
}

#[test]
fn only_accounts_of_the_domains_may_be_named() {
    let proxy = Peer::silent();
    let mut house = house(&proxy);
    house.set("contexts", "default", "example.com");
    let allowed = |house: &House, domain: &str| {
        let mwid = house.start();
        let path = format!("/v1/accounts/202@{domain}");
        let body = r#"{"new": 1, "old": 0}"#;
        let put = ask(address(&mwid), "PUT", &format!("{path}/summary"), body);
        let get = ask(address(&mwid), "GET", &path, "");
        let cgi =
            ask(address(&mwid), "GET", &format!("/cgi/voicemail.cgi?identity=202@{domain}"), "");
        if put.status == 403 {
            put.refused(403, "is of no domain that [http] domains allows");
        }
        (put.status, get.status, cgi.status)
    };
    assert_eq!(allowed(&house, "example.com"), (204, 200, 200));
    for domain in ["example.org", "EXAMPLE.com", "sub.example.com", "example.com."] {
        assert_eq!(allowed(&house, domain), (403, 403, 403), "{domain}");
    }
    house.set("http", "domains", "example.org, example.net");
    assert_eq!(allowed(&house, "example.com"), (403, 403, 403));
    assert_eq!(allowed(&house, "example.net"), (204, 200, 200));
}

#[test]
fn while_the_database_is_away_an_account_cannot_be_shown_but_its_counts_are_taken() {
    let proxy = Peer::silent();
    let mut house = house(&proxy);
    house.set("database", "url", "mysql://u:hunter2@127.0.0.1:1/d");
    let mwid = house.start();
    told(&mwid, README);
    let response = ask(address(&mwid), "GET", ACCOUNT, "");
    assert_eq!(response.header("retry-after"), Some("5"));
    response.refused(503, "127.0.0.1:1");
    assert!(!response.body.contains("hunter2"), "{response:?}");
}

#[test]
fn an_account_is_shown_with_what_is_published_of_it() {
    let server = Peer::scripted(|heard| vec![heard.answer(200, "SIP-ETag: e1\r\nExpires: 60\r\n")]);
    let mut house = house(&server);
    house.set("delivery", "use", "publish");
    // Nobody asks a database then.
    house.set("database", "url", "mysql://u:hunter2@127.0.0.1:1/d");
    let mwid = house.start();
    ask(address(&mwid), "GET", ACCOUNT, "").refused(404, "nothing is known");
    told(&mwid, r#"{"new": 2, "old": 0}"#);
    mwid.until("published", |status| status["counters"]["published"] == 1);
    let mut report = ask(address(&mwid), "GET", ACCOUNT, "").json();
    let left = report["publications"][0]["remaining_seconds"].take();
    assert!(left.as_u64().is_some_and(|left| left <= 60), "{left}");
    assert_eq!(report["dialogs"], json!([]));
    let accepted = json!({ "newcount": 2, "oldcount": 0, "newurgent": 0, "oldurgent": 0 });
    let publication = json!({
        "way": "publish", "state": "current", "accepted": accepted, "has_etag": true,
        "remaining_seconds": null, "retry_seconds": null, "why": null,
    });
    assert_eq!(report["publications"], json!([publication]));
}
