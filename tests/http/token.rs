//! Who may ask.

use std::fs;

use crate::client::{Response, address, ask, ask_with, house, say};
use crate::peer::Peer;

const SUMMARY: &str = "/v1/accounts/202@example.com/summary";
const BODY: &str = r#"{"new": 1, "old": 0}"#;

#[test]
fn without_the_token_nothing_is_done_or_told() {
    let proxy = Peer::phones();
    let mut house = house(&proxy);
    fs::write(house.path("token"), "c29tZXRoaW5n.secret~==\n").unwrap();
    house.set("http", "token_file", house.path("token").to_str().unwrap());
    house.subscribe(&proxy, "202", "call");
    let mwid = house.start();
    let door = address(&mwid);
    let wrong = [
        "",
        "Authorization: Bearer\r\n",
        "Authorization: Bearer \r\n",
        "Authorization: Bearer c29tZXRoaW5n.secret~=\r\n",
        "Authorization: Bearer c29tZXRoaW5n.secret~==x\r\n",
        "Authorization: Bearer C29tZXRoaW5n.secret~==\r\n",
        "Authorization: c29tZXRoaW5n.secret~==\r\n",
        "Authorization: Basic c29tZXRoaW5n.secret~==\r\n",
        "Authorization: Bearer \u{fc}\r\n",
        "Authorization: Basic \r\n",
        // mwid:c29tZXRoaW5n.secret~=, the token alone, the token as the user, the header cut.
        "Authorization: Basic bXdpZDpjMjl0WlhSb2FXNW4uc2VjcmV0fj0=\r\n",
        "Authorization: Basic YzI5dFpYUm9hVzVuLnNlY3JldH49PQ==\r\n",
        "Authorization: Basic YzI5dFpYUm9hVzVuLnNlY3JldH49PTo=\r\n",
        "Authorization: Basic bXdpZDpjMjl0WlhSb2FXNW4uc2VjcmV0fj09\u{fc}\r\n",
        "Authorization: Bearer x\r\nAuthorization: Bearer c29tZXRoaW5n.secret~==\r\n",
        "X-Token: c29tZXRoaW5n.secret~==\r\n",
    ];
    for lines in wrong {
        for (method, target) in [
            ("PUT", SUMMARY),
            ("GET", "/cgi/voicemail.cgi?identity=202@example.com"),
            ("GET", "/v1/status"),
            ("GET", "/v1/openapi.json"),
            ("GET", "/nothing"),
        ] {
            let response = ask_with(door, method, target, lines, BODY);
            response.refused(401, "token");
            let head = response.head.to_ascii_lowercase();
            for challenge in ["bearer realm=\"mwid\"", "basic realm=\"mwid\""] {
                assert!(head.contains(&format!("\r\nwww-authenticate: {challenge}")), "{head}");
            }
        }
    }
    for lines in [
        "Authorization: Bearer c29tZXRoaW5n.secret~==\r\n",
        "authorization: BEARER   c29tZXRoaW5n.secret~== \r\n",
        // mwid: and the token; nobody: and the token.
        "Authorization: Basic bXdpZDpjMjl0WlhSb2FXNW4uc2VjcmV0fj09\r\n",
        "authorization: basic OmMyOXRaWFJvYVc1bi5zZWNyZXR+PT0= \r\n",
    ] {
        assert_eq!(ask_with(door, "PUT", SUMMARY, lines, BODY).status, 204);
    }
    proxy.shows("call", "1/0 (0/0)");
    let status = mwid.status();
    assert_eq!(status["http"]["unauthorized"], wrong.len() * 5);
    assert_eq!(status["http"]["requests"], wrong.len() * 5 + 4);
    assert!(!mwid.logged().contains("c29tZXRoaW5n"), "the token is in the log");
}

#[test]
fn whoever_has_no_token_keeps_no_connection() {
    let proxy = Peer::silent();
    let mut house = house(&proxy);
    house.set("http", "token", "secret");
    let mwid = house.start();
    let door = address(&mwid);
    let asked = |lines: &str| format!("GET /v1/openapi.json HTTP/1.1\r\nHost: mwid\r\n{lines}\r\n");
    // Without `Connection: close`: that it is read to its end means that mwid has closed it.
    let refused = Response::parse(&say(door, asked("").as_bytes()));
    refused.refused(401, "token");
    assert_eq!(refused.header("connection"), Some("close"));
    // With the token two requests go over one connection.
    let shown = "Authorization: Bearer secret\r\n";
    let both = [asked(shown), asked(&format!("{shown}Connection: close\r\n"))].concat();
    let answers = String::from_utf8(say(door, both.as_bytes())).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
}

#[test]
fn a_token_opens_other_addresses_than_loopback_and_without_one_mwid_does_not_start() {
    let proxy = Peer::silent();
    let mut house = house(&proxy);
    house.set("http", "listen", "0.0.0.0:0");
    let mut mwid = house.launch();
    mwid.log("so clients must show a token");
    assert_eq!(mwid.ended(crate::peer::SOON).code(), Some(1));
    house.set("http", "token", "secret");
    let mwid = house.start();
    mwid.log("without TLS: everybody on the way can read the token");
    let door = (std::net::Ipv4Addr::LOCALHOST, address(&mwid).port()).into();
    ask(door, "GET", "/v1/status", "").refused(401, "");
    let shown = "Authorization: Bearer secret\r\n";
    assert_eq!(ask_with(door, "GET", "/v1/status", shown, "").status, 200);
}

#[test]
fn the_token_for_reading_opens_the_metrics_and_gives_no_counts() {
    let proxy = Peer::phones();
    let mut house = house(&proxy);
    house.set("http", "read_token", "look");
    let mwid = house.start();
    let door = address(&mwid);
    let (look, touch) = ("Authorization: Bearer look\r\n", "Authorization: Bearer touch\r\n");
    for target in ["/metrics", "/v1/status", "/v1/openapi.json"] {
        ask(door, "GET", target, "").refused(401, "show the token");
        ask_with(door, "GET", target, touch, "").refused(401, "this is not the token");
        assert_eq!(ask_with(door, "GET", target, look, "").status, 200);
    }
    let writes = [
        ("PUT", SUMMARY),
        ("POST", "/v1/accounts/202@example.com/resend"),
        ("GET", "/cgi/StatusEvent.cgi?identity=202@example.com"),
    ];
    for (method, target) in writes {
        ask(door, method, target, BODY).refused(401, "show the token");
        ask_with(door, method, target, look, BODY).refused(403, "read_token");
        ask_with(door, method, target, touch, BODY).refused(401, "this is not the token");
    }
    // With both, the other one opens everything.
    house.set("http", "token", "touch");
    assert_eq!(house.mwid(&["reload"]).code, 0);
    ask_with(door, "PUT", SUMMARY, look, BODY).refused(403, "read_token");
    assert_eq!(ask_with(door, "PUT", SUMMARY, touch, BODY).status, 204);
    assert_eq!(ask_with(door, "GET", "/metrics", touch, "").status, 200);
}

#[test]
fn a_page_of_another_site_gives_no_counts_through_somebodys_browser() {
    let proxy = Peer::phones();
    let house = house(&proxy);
    let mwid = house.start();
    let door = address(&mwid);
    let target = "/cgi/StatusEvent.cgi?identity=202@example.com";
    let body = "Messages-Waiting: yes\r\nVoice-Message: 1/0\r\n";
    for site in ["cross-site", "same-site", "x"] {
        let lines = format!("Sec-Fetch-Site: {site}\r\n");
        ask_with(door, "POST", target, &lines, body).refused(403, "another site");
    }
    for site in ["same-origin", "none"] {
        let lines = format!("Sec-Fetch-Site: {site}\r\n");
        assert_eq!(ask_with(door, "POST", target, &lines, body).status, 200);
    }
}

/// Whoever owns a name can make it lead to this machine once its page is loaded: then the page is of
/// the same site, as far as the browser knows.
#[test]
fn without_a_token_no_name_is_answered_that_somebody_elses_dns_can_lead_here() {
    let proxy = Peer::phones();
    let mut house = house(&proxy);
    let mwid = house.start();
    let door = address(&mwid);
    let asked = |host: &str, lines: &str| {
        let head = format!("GET /v1/status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        Response::parse(&say(door, format!("{head}{lines}\r\n").as_bytes()))
    };
    for host in ["rebound.example.com", "rebound.example.com:8080", "127.0.0.1.example.com", "a.b."]
    {
        asked(host, "").refused(403, "set a token");
    }
    for host in ["127.0.0.1", "127.0.0.1:8080", "[::1]:8080", "localhost:8080", "mwid", "vm1"] {
        assert_eq!(asked(host, "").status, 200, "{host}");
    }
    house.set("http", "token", "secret");
    assert_eq!(house.mwid(&["reload"]).code, 0);
    let shown = "Authorization: Bearer secret\r\n";
    assert_eq!(asked("mwid.example.com", shown).status, 200);
}
