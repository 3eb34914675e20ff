//! SIP PUBLISH (RFC 3903) through the whole daemon, against a presence server of the test.

use std::time::Duration;

use serde_json::{Value, json};

use crate::compositor::{Compositor, asked};
use crate::credentials::is_right;
use crate::house::House;
use crate::peer::Peer;

/// 202 has a message; these servers are told by PUBLISH, nobody by NOTIFY.
fn house(server: &Peer) -> House {
    let mut house = House::new(server);
    house.set("delivery", "use", "publish");
    house.messages("example.com/202", 1, 0);
    house
}

#[test]
fn rfc3903_11_2_a_423_is_asked_again_at_once_for_min_expires_and_so_is_the_next_change() {
    let compositor = Compositor::default();
    let server = Peer::scripted({
        let compositor = compositor.clone();
        move |heard| match asked(heard) {
            1..120 => vec![heard.answer(423, "Min-Expires: 120\r\n")],
            _ => vec![compositor.take(heard)],
        }
    });
    let house = house(&server);
    let mwid = house.start();
    mwid.log("published: 200");
    let heard = server.transactions(2);
    assert_eq!(heard.iter().map(asked).collect::<Vec<_>>(), [60, 120]);
    assert!(heard[0].cseq() < heard[1].cseq() && heard[0].header("Via") != heard[1].header("Via"));
    house.messages("example.com/202", 2, 0);
    let third = server.transactions(3).remove(2);
    assert_eq!((third.counts().as_str(), asked(&third)), ("2/0 (0/0)", 120));
    mwid.until("accepted", |status| status["counters"]["published"] == 2);
    let [document] = &compositor.documents()[..] else { panic!("one document") };
    assert_eq!(document.account, "sip:202@example.com");
    assert_eq!((document.counts.as_str(), document.asked), ("2/0 (0/0)", 120));
}

#[test]
fn a_503_with_retry_after_is_waited_for_and_the_newest_counts_go_then() {
    let compositor = Compositor::default();
    let server = Peer::scripted(|heard| vec![heard.answer(503, "Retry-After: 2\r\n")]);
    let house = house(&server);
    let mwid = house.start();
    mwid.log("not published, will be tried again: 503");
    server.script({
        let compositor = compositor.clone();
        move |heard| vec![compositor.take(heard)]
    });
    house.messages("example.com/202", 2, 0);
    let heard = server.transactions(2);
    let pause = heard[1].at - heard[0].at;
    assert!(pause >= Duration::from_secs(2), "{pause:?}");
    assert_eq!(heard[1].counts(), "2/0 (0/0)");
    mwid.log("answers again");
    assert_eq!(compositor.documents().len(), 1);
}

#[test]
fn rfc3261_17_1_4_icmp_refused_goes_to_the_next_presence_server_at_once() {
    let compositor = Compositor::default();
    let server = compositor.serve();
    let (_held, dead) = crate::proxies::nobody();
    let mut house = house(&server);
    house.set("publish", "server", &format!("{dead}, {}", server.address));
    let mwid = house.start();
    let line = mwid.log("does not listen at");
    assert!(line.contains(&dead), "{line}");
    server.told("202", "1/0 (0/0)");
    house.messages("example.com/202", 2, 0);
    server.told("202", "2/0 (0/0)");
    mwid.until("accepted", |status| status["counters"]["published"] == 2);
    assert_eq!(mwid.count("does not listen at"), 1);
    let [document] = &compositor.documents()[..] else { panic!("one document") };
    assert_eq!(document.counts, "2/0 (0/0)");
}

#[test]
fn rfc3261_17_1_2_2_a_lost_200_is_answered_to_a_copy_of_the_same_bytes() {
    let compositor = Compositor::default();
    let server = Peer::scripted({
        let (compositor, mut kept) = (compositor.clone(), Vec::new());
        move |heard| match heard.copy {
            1 => {
                kept = compositor.take(heard);
                Vec::new()
            }
            _ => vec![kept.clone()],
        }
    });
    let house = house(&server);
    let mwid = house.start();
    mwid.log("published: 200");
    let heard = server.heard();
    assert!(heard.len() >= 2 && heard.iter().all(|it| it.message == heard[0].message));
    let status = mwid.settled();
    assert_eq!((&status["counters"]["published"], compositor.documents().len()), (&json!(1), 1));
}

#[test]
fn rfc3903_4_1_a_change_whose_200_is_lost_for_good_begins_afresh_and_leaves_a_minute_at_most() {
    let compositor = Compositor::default();
    let server = compositor.serve();
    let mut house = house(&server);
    house.set("timers", "t1", "20");
    let mwid = house.start();
    mwid.log("published: 200");
    server.script({
        let compositor = compositor.clone();
        let mut lost = None;
        move |heard| {
            let call = heard.header("Call-ID").to_owned();
            if lost.is_none() {
                // It is taken, and no answer to it ever arrives.
                compositor.take(heard);
                lost = Some(call);
                return Vec::new();
            }
            if lost.as_ref() == Some(&call) { Vec::new() } else { vec![compositor.take(heard)] }
        }
    });
    house.messages("example.com/202", 2, 0);
    mwid.log("not published, will be tried again: no answer");
    mwid.until("afresh", |status| status["counters"]["published_afresh"] == 1);
    mwid.until("accepted", |status| status["counters"]["published"] == 2);
    let documents = compositor.documents();
    assert!(documents.iter().all(|it| it.counts == "2/0 (0/0)"), "{documents:?}");
    assert!(documents.len() == 2 && documents[0].asked <= 60, "{documents:?}");
    let tags: Vec<_> = server
        .transactions(4)
        .iter()
        .map(|it| it.message.header("SIP-If-Match").map(str::to_owned))
        .collect();
    assert_eq!(tags, [None, Some("e1".to_owned()), Some("e1".to_owned()), None]);
}

/// A server that asks for credentials until they are right.
fn guard(
    compositor: &Compositor,
    code: u16,
    challenge: &'static str,
    header: &'static str,
) -> Peer {
    let compositor = compositor.clone();
    Peer::scripted(move |heard| {
        let right = is_right(heard, header, "s3cret");
        vec![if right { compositor.take(heard) } else { heard.answer(code, challenge) }]
    })
}

#[test]
fn rfc8760_a_401_and_a_407_are_answered_with_sha_256_and_with_md5() {
    const SHA: &str =
        "Digest realm=\"presence\", nonce=\"n2\", qop=\"auth\", algorithm=SHA-256\r\n";
    const MD5: &str = "Digest realm=\"presence\", nonce=\"n1\", qop=\"auth\"\r\n";
    for (code, asks, answers) in [
        (401, "WWW-Authenticate", "Authorization"),
        (407, "Proxy-Authenticate", "Proxy-Authorization"),
    ] {
        for digest in [SHA, MD5] {
            let compositor = Compositor::default();
            let challenge: &str = Box::leak(format!("{asks}: {digest}").into_boxed_str());
            let server = guard(&compositor, code, challenge, answers);
            let mut house = house(&server);
            house.set("general", "auth_user", "mwid");
            house.set("general", "auth_password", "s3cret");
            // Who is named as the presence server needs no auth_realm.
            let named = if digest == SHA {
                ("general", "auth_realm", "presence".to_owned())
            } else {
                ("publish", "server", server.address.to_string())
            };
            house.set(named.0, named.1, &named.2);
            let mwid = house.start();
            mwid.log("published: 200");
            let heard = server.transactions(2);
            assert_eq!(heard[0].message.header(answers), None);
            let is_sha = heard[1].header(answers).contains("algorithm=SHA-256");
            assert_eq!(is_sha, digest == SHA, "{code}");
            // The next one carries them from the start.
            house.messages("example.com/202", 2, 0);
            assert_eq!(server.transactions(3)[2].counts(), "2/0 (0/0)");
            mwid.until("accepted", |status| status["counters"]["published"] == 2);
            assert_eq!(compositor.documents().len(), 1);
            assert_eq!(mwid.count("ERROR"), 0, "{}", mwid.logged());
        }
    }
}

#[test]
fn a_401_that_is_not_to_be_answered_is_said_loudly() {
    const ASKS: &str = "WWW-Authenticate: Digest realm=\"presence\", nonce=\"n\"\r\n";
    let server = Peer::scripted(|heard| vec![heard.answer(401, ASKS)]);
    let house = house(&server);
    let mwid = house.start();
    let line = mwid.log("a PUBLISH was challenged and cannot be answered");
    assert!(line.contains("ERROR") && line.contains("auth_user"), "{line}");
}

/// What `show subscription` prints of 202, without the seconds.
fn shown(house: &House) -> (i32, String) {
    let said = house.mwid(&["show", "subscription", "202", "example.com"]);
    let line = |line: &str| match line.split_once(" in ") {
        Some((before, _)) => before.to_owned(),
        None => line.to_owned(),
    };
    (said.code, said.out.lines().map(line).collect::<Vec<_>>().join("\n"))
}

#[test]
fn show_subscription_shows_what_is_published() {
    let compositor = Compositor::default();
    let server = Peer::scripted(|heard| vec![heard.answer(503, "Retry-After: 3600\r\n")]);
    let house = house(&server);
    let mwid = house.start();
    mwid.log("not published, will be tried again: 503");
    let wait = "MWI publication details for 202@example.com:\n  Way: publish\n  \
                Server has: not known\n  Entity-tag: (none)\n  Ends: not known\n  \
                State: tried again\n  Why: 503 Said By The Test";
    assert_eq!(shown(&house), (0, wait.to_owned()));
    server.script({
        let compositor = compositor.clone();
        move |heard| vec![compositor.take(heard)]
    });
    // Another process does not know the pause.
    mwid.stop();
    let mwid = house.start();
    mwid.log("published: 200");
    let current = "MWI publication details for 202@example.com:\n  Way: publish\n  \
                   Server has: 1/0 (0/0)\n  Entity-tag: known\n  Ends:";
    let (code, text) = shown(&house);
    assert_eq!((code, text.strip_suffix("\n  State: as it must be")), (0, Some(current)));
    let said = house.mwid(&["show", "subscription", "202", "example.com", "--json"]);
    let mut data: Value = serde_json::from_str(&said.out).unwrap();
    let left = data["publications"][0]["remaining_seconds"].take();
    assert!(left.as_u64().is_some_and(|left| left <= 60), "{left}");
    let publication = json!({
        "way": "publish", "state": "current", "accepted": "1/0 (0/0)", "has_etag": true,
        "remaining_seconds": null, "retry_seconds": null, "why": null,
    });
    let expected = json!({
        "account": "sip:202@example.com", "subscriptions": [], "publications": [publication],
    });
    assert_eq!(data, expected);
    let said = house.mwid(&["show", "subscription", "203", "example.com"]);
    assert_eq!((said.code, said.out.as_str()), (1, "Nothing is published of 203@example.com\n"));
}
