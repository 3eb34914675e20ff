//! Digest authentication, verified by the peer.

use std::time::Duration;

use digest_auth::{AuthContext, AuthorizationHeader, HttpMethod};

use mwid_core::message::StartLine;

use crate::house::House;
use crate::peer::{Heard, Peer};

const MD5: &str = "Proxy-Authenticate: Digest realm=\"proxy\", nonce=\"n1\", qop=\"auth\"\r\n";
const SHA: &str = "WWW-Authenticate: Digest realm=\"phone\", nonce=\"n2\", qop=\"auth\", \
                   algorithm=SHA-256\r\n";

/// Whether the header answers its challenge with this password, for this very request.
pub fn is_right(heard: &Heard, name: &str, password: &str) -> bool {
    let Some(value) = heard.message.header(name) else { return false };
    let given = AuthorizationHeader::parse(value).unwrap();
    let uri = heard.request_uri();
    assert_eq!((given.uri.as_str(), given.username.as_str()), (uri, "mwid"));
    let StartLine::Request { method, .. } = heard.message.start() else { return false };
    let method = HttpMethod(method.to_owned().into());
    let context = AuthContext::new_with_method("mwid", password, uri, None::<&[u8]>, method);
    let mut right = given.clone();
    right.digest(&context);
    right.response == given.response
}

fn house(proxy: &Peer) -> House {
    let mut house = House::new(proxy);
    house.set("general", "auth_user", "mwid");
    house.set("general", "auth_password", "s3cret");
    house.subscribe(proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    house
}

/// Asks for credentials until they are right.
fn guard(code: u16, challenge: &'static str, header: &'static str) -> Peer {
    Peer::scripted(move |heard| {
        let right = is_right(heard, header, "s3cret");
        vec![if right { heard.answer(200, "") } else { heard.answer(code, challenge) }]
    })
}

#[test]
fn rfc3261_22_3_a_407_with_md5_is_answered_in_the_same_dialog_with_a_new_cseq_and_branch() {
    let proxy = guard(407, MD5, "Proxy-Authorization");
    let house = house(&proxy);
    let mwid = house.start();
    mwid.log("delivered: 200");
    let heard = proxy.transactions(2);
    assert_eq!(heard[0].header("Call-ID"), heard[1].header("Call-ID"));
    assert_eq!(heard[0].header("From"), heard[1].header("From"));
    assert_eq!((heard[0].cseq(), heard[1].cseq()), (2, 3));
    assert_ne!(heard[0].header("Via"), heard[1].header("Via"));

    // The next NOTIFY carries credentials from the start.
    house.messages("example.com/202", 2, 0);
    assert_eq!(proxy.told("202", "2/0 (0/0)").cseq(), 4);
    mwid.settled();
    assert_eq!(proxy.transactions(3).len(), 3);
}

#[test]
fn rfc8760_a_401_with_sha_256_is_answered_when_its_realm_is_configured() {
    let proxy = guard(401, SHA, "Authorization");
    let mut house = house(&proxy);
    house.set("general", "auth_realm", "phone");
    let mwid = house.start();
    mwid.log("delivered: 200");
    let heard = proxy.transactions(2);
    assert!(heard[1].header("Authorization").contains("algorithm=SHA-256"));
}

#[test]
fn a_phone_that_asks_gets_no_digest_to_guess_at_and_that_is_said_loudly() {
    let proxy = Peer::scripted(|heard| vec![heard.answer(401, SHA)]);
    let house = house(&proxy);
    let mwid = house.start();
    let line = mwid.log("set it as auth_realm in [general]");
    assert!(line.contains("ERROR") && line.contains("\"phone\""), "{line}");
    for heard in proxy.transactions(2) {
        assert_eq!(heard.message.header("Authorization"), None);
    }
    assert_eq!(mwid.count("ERROR"), 1, "{}", mwid.logged());
}

#[test]
fn rfc3261_22_a_proxy_and_the_phone_behind_it_are_both_answered() {
    const PHONE: &str = "WWW-Authenticate: Digest realm=\"proxy\", nonce=\"n2\", qop=\"auth\"\r\n";
    let proxy = Peer::scripted(|heard| {
        let right = |header| is_right(heard, header, "s3cret");
        vec![match (right("Proxy-Authorization"), right("Authorization")) {
            (false, _) => heard.answer(407, MD5),
            (true, false) => heard.answer(401, PHONE),
            (true, true) => heard.answer(200, ""),
        }]
    });
    let mut house = house(&proxy);
    house.set("general", "auth_realm", "proxy");
    let mwid = house.start();
    mwid.log("delivered: 200");
    assert_eq!(proxy.transactions(3).len(), 3);
}

#[test]
fn two_proxies_with_nonces_of_their_own_are_both_answered() {
    const OTHER: &str =
        "Proxy-Authenticate: Digest realm=\"proxy\", nonce=\"other\", qop=\"auth\"\r\n";
    let nonce = |heard: &Heard, nonce: &str| {
        let header = heard.message.header("Proxy-Authorization").unwrap_or_default();
        header.contains(&format!("nonce=\"{nonce}\""))
    };
    let guarded = move |challenge: &'static str, own: &'static str| {
        Peer::scripted(move |heard| {
            let right = is_right(heard, "Proxy-Authorization", "s3cret") && nonce(heard, own);
            vec![if right { heard.answer(200, "") } else { heard.answer(407, challenge) }]
        })
    };
    let (first, second) = (guarded(MD5, "n1"), guarded(OTHER, "other"));
    let mut house = house(&first);
    house.set("general", "next_hop", "socket_info");
    house.subscribe(&second, "202", "other");
    let mwid = house.start();
    mwid.until("both told", |status| status["counters"]["delivered"] == 2);
    // From now on each gets its own at once.
    house.messages("example.com/202", 2, 0);
    mwid.until("both told", |status| status["counters"]["delivered"] == 4);
    assert_eq!((first.transactions(3).len(), second.transactions(3).len()), (3, 3));
    assert_eq!(mwid.count("ERROR"), 0, "{}", mwid.logged());
}

#[test]
fn rfc3261_22_4_the_digest_is_for_the_request_uri_that_is_sent() {
    let proxy = guard(407, MD5, "Proxy-Authorization");
    let mut house = house(&proxy);
    house.set("general", "request_uri", "aor");
    let mwid = house.start();
    mwid.log("delivered: 200");
    assert_eq!(proxy.transactions(2)[1].request_uri(), "sip:202@example.com");
}

#[test]
fn a_challenge_with_foreign_letters_does_not_end_mwid() {
    let bad = "Proxy-Authenticate: Digest a\u{e9}=\"x\"\r\n";
    let good = "Proxy-Authenticate: Digest realm=\"Z\u{fc}rich\", nonce=\"n\"\r\n";
    let proxy = Peer::scripted(move |heard| {
        let header = heard.message.header("Proxy-Authorization").unwrap_or_default();
        let right = header.contains("realm=\"Z\u{fc}rich\"");
        vec![match (right, heard.cseq()) {
            (true, _) => heard.answer(200, ""),
            (false, 2) => heard.answer(407, bad),
            (false, _) => heard.answer(407, good),
        }]
    });
    let house = house(&proxy);
    let mwid = house.start();
    mwid.log("delivered: 200");
    assert_eq!(mwid.count("something else than Digest"), 1);
}

#[test]
fn wrong_credentials_are_said_loudly_once_and_make_no_storm() {
    let proxy = guard(407, MD5, "Proxy-Authorization");
    let mut house = house(&proxy);
    house.set("general", "auth_password", "wrong");
    let mwid = house.start();
    let line = mwid.log("it refused auth_user and auth_password of [general]");
    assert!(line.contains("ERROR"), "{line}");
    // Two without and two with the answer: the second pair after a pause.
    let heard = proxy.transactions(4);
    assert!(heard[2].at - heard[1].at >= Duration::from_millis(740));
    mwid.until("refused twice", |status| status["counters"]["retried"] == 4);
    assert_eq!(mwid.count("ERROR"), 1, "{}", mwid.logged());

    house.set("general", "auth_password", "s3cret");
    assert_eq!(house.mwid(&["reload"]).code, 0);
    mwid.log("delivered: 200");
}

#[test]
fn without_credentials_a_challenge_is_said_once() {
    let proxy = Peer::scripted(|heard| vec![heard.answer(407, MD5)]);
    let house = House::new(&proxy);
    house.subscribe(&proxy, "202", "one");
    house.subscribe(&proxy, "202", "two");
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    mwid.log("set auth_user and auth_password in [general]");
    mwid.until("both refused", |status| status["counters"]["retried"] == 2);
    assert_eq!(mwid.count("ERROR"), 1);
}

#[test]
fn a_proxy_that_finds_every_nonce_stale_makes_no_storm() {
    let stale = "Proxy-Authenticate: Digest realm=\"p\", nonce=\"n\", qop=\"auth\", stale=true\r\n";
    let proxy = Peer::scripted(move |heard| vec![heard.answer(407, stale)]);
    let house = house(&proxy);
    let _mwid = house.start();
    let heard = proxy.transactions(12);
    let pause = heard[11].at - heard[10].at;
    assert!(pause >= Duration::from_millis(740), "{pause:?}");
}

#[test]
fn neither_password_nor_digest_is_ever_logged() {
    let proxy = guard(407, MD5, "Proxy-Authorization");
    let house = house(&proxy);
    let mwid = house.start();
    mwid.log("delivered: 200");
    house.mwid(&["debug", "on"]);
    house.messages("example.com/202", 2, 0);
    let heard = proxy.told("202", "2/0 (0/0)");
    let line = mwid.log("Proxy-Authorization: Digest username=\"mwid\"");
    assert!(line.contains("response=\"***\""), "{line}");
    let given = AuthorizationHeader::parse(heard.header("Proxy-Authorization")).unwrap();
    assert!(!mwid.logged().contains(&given.response), "{}", mwid.logged());
    assert!(!mwid.logged().contains("s3cret"));
    assert!(!house.mwid(&["status", "--json"]).out.contains("s3cret"));
}
