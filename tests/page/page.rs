//! What a reader sees, and what a stranger cannot do.

use std::fs;
use std::path::PathBuf;

use mwid::demo::phone::Subscription;

use crate::browser::Browser;
use crate::client::{address, ask, ask_with};
use crate::house::{House, Mwid, insert, subscription};
use crate::peer::Peer;

/// A word that would run if it were taken for HTML.
const TRAP: &str = "<img/src=x/onerror=document.title='trapped'>";

const LOOK: &str = "Authorization: Bearer look\r\n";

/// A mailbox that cannot be counted.
fn unreadable(house: &House, mailbox: &str) {
    let folder = house.path("spool").join(mailbox);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("INBOX"), b"no folder").unwrap();
}

fn house(proxy: &Peer) -> House {
    let mut house = House::new(proxy);
    house.set("http", "listen", "127.0.0.1:0");
    house.set("contexts", "default", "example.com");
    house.set("general", "next_hop", "socket_info");
    house
}

/// Accounts that are told, one whose phone does not want to be, and a row with a trap in it.
fn busy(house: &House, proxy: &Peer, unwilling: &Peer) -> Mwid {
    house.subscribe(proxy, "202", "call-202");
    house.subscribe(proxy, "202", "second-202");
    house.subscribe(proxy, "203", "call-203");
    let trapped = house.subscribe(proxy, "204", "call-204");
    house.subscribe(unwilling, "205", "call-205");
    for (mailbox, new, old) in [("202", 2, 1), ("203", 0, 0), ("204", 1, 0), ("205", 1, 0)] {
        house.messages(&format!("default/{mailbox}"), new, old);
    }
    let contact = format!("sip:{TRAP}@192.0.2.1");
    let id = trapped.call_id;
    let update = "UPDATE active_watchers SET contact = ?1 WHERE callid = ?2";
    house.database().execute(update, (contact, id)).unwrap();
    let mwid = house.start();
    proxy.shows("call-202", "2/1 (0/0)");
    proxy.shows("call-203", "0/0 (0/0)");
    mwid
}

/// Where a person may look at them.
fn keep(name: &str, picture: &[u8]) {
    assert!(picture.starts_with(b"\x89PNG") && picture.len() > 10_000, "{name} is a picture");
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("page");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), picture).unwrap();
}

#[test]
fn a_reader_sees_health_who_waits_what_was_told_and_an_account() {
    let (proxy, unwilling) = (Peer::phones(), Peer::says(486));
    let mut house = house(&proxy);
    house.set("http", "read_token", "look");
    let mwid = busy(&house, &proxy, &unwilling);
    let door = format!("http://{}", address(&mwid));
    let mut browser = Browser::start();
    browser.screen(1280, 900, false, "light");
    browser.open(&format!("{door}/"));
    // Nothing is shown before the token is.
    let text = browser.until(&["locked", "Token"]);
    assert!(!text.contains("Database") && !text.contains("202"), "{text}");
    browser.enter("token", "wrong");
    browser.until(&["This is not the token."]);
    browser.enter("token", "look");
    let text = browser.until(&[
        "Health",
        "Database\nworks",
        "Spool\nworks",
        "delivered",
        "200 OK",
        "1 account, because:",
    ]);
    assert!(text.contains("202@example.com") && !text.contains("locked"), "{text}");
    browser.enter("search", "202@example.com");
    browser.until(&[
        "202@example.com: 2 new, 1 old",
        "202@default",
        "shows 2 new, 1 old",
        "call-202",
    ]);
    keep("desktop-light.png", &browser.picture());
    browser.screen(390, 844, true, "dark");
    let wide = "document.documentElement.scrollWidth";
    assert_eq!(browser.value(wide), 390, "nothing sticks out on a phone");
    keep("phone-dark.png", &browser.picture());
    browser.enter("search", "nobody@example.com");
    browser.until(&["nothing is known of sip:nobody@example.com"]);
    // It stays open when the page is loaded again, and shows what comes meanwhile.
    browser.open(&format!("{door}/#203%40example.com"));
    browser.until(&["203@example.com: 0 new, 0 old"]);
    house.messages("default/203", 4, 0);
    proxy.shows("call-203", "4/0 (0/0)");
    browser.look_again();
    browser.until(&["203@example.com: 4 new, 0 old", "shows 4 new, 0 old"]);
    assert_eq!(browser.complaints, Vec::<String>::new());
    let elsewhere = browser.loaded.iter().find(|it| !it.starts_with(&door) && *it != "data:,");
    assert_eq!(elsewhere, None, "the page loads from nowhere else");
}

#[test]
fn what_strangers_wrote_is_text_and_troubles_are_said() {
    let (proxy, unwilling) = (Peer::phones(), Peer::says(486));
    let house = house(&proxy);
    let mwid = busy(&house, &proxy, &unwilling);
    let door = format!("http://{}", address(&mwid));
    let mut browser = Browser::start();
    browser.open(&format!("{door}/#204%40example.com"));
    browser.until(&["204@example.com: 1 new, 0 old", TRAP]);
    browser.open(&format!("{door}/?again#{}", TRAP.replace('\'', "%27")));
    browser.until(&["NOTIFYs of the last 15 minutes"]);
    assert_ne!(browser.value("document.title"), "trapped");
    assert_eq!(browser.value("document.images.length"), 0);
    // The policy holds even if the page were fooled.
    browser.value("document.body.insertAdjacentHTML('beforeend', `<img src=x onerror=\"document.title='trapped'\"><p id=after>after</p>`)");
    browser.until(&["after"]);
    assert_ne!(browser.value("document.title"), "trapped");
    fs::rename(house.path("spool"), house.path("elsewhere")).unwrap();
    mwid.until("in trouble", |status| status["troubles"][0].is_string());
    browser.look_again();
    browser.until(&["in trouble", "Trouble", "the spool cannot be read", "Spool\nfails"]);
    browser.screen(390, 844, true, "light");
    keep("phone-trouble.png", &browser.picture());
    drop(mwid);
    browser.look_again();
    browser.until(&["mwid does not answer"]);
}

#[test]
fn the_page_says_nothing_by_itself_and_its_answers_are_bounded_by_the_token_and_the_domains() {
    let proxy = Peer::phones();
    let mut house = house(&proxy);
    house.set("http", "token", "touch");
    house.set("http", "read_token", "look");
    house.set("http", "domains", "other.example");
    let mwid = busy(&house, &proxy, &Peer::says(486));
    let door = address(&mwid);
    let page = ask(door, "GET", "/", "");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    for part in ["default-src 'none'", "script-src 'sha256-", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    ask(door, "POST", "/", "").refused(405, "POST");
    for target in ["/v1/pending", "/v1/recent"] {
        ask(door, "GET", target, "").refused(401, "show the token");
        let shown = ask_with(door, "GET", target, LOOK, "");
        assert_eq!(shown.status, 200);
        assert!(
            !shown.body.contains("example.com"),
            "of no domain that may be named: {}",
            shown.body
        );
        assert!(shown.json().is_object());
    }
}

/// Two customers on one platform: what one is shown has no word of the other, whose many troubles take
/// no place from its own.
#[test]
fn what_another_domain_has_is_not_shown_and_takes_no_place() {
    let proxy = Peer::says(486);
    let mut house = house(&proxy);
    house.set("contexts", "acme", "acme.example");
    house.set("contexts", "zeta", "zeta.example");
    house.set("http", "read_token", "look");
    house.set("http", "domains", "zeta.example");
    house.set("timers", "retry_min", "600");
    house.set("timers", "retry_max", "600");
    // More than are named one by one, and all of them before the other's in their order.
    for number in 0..210 {
        unreadable(&house, &format!("acme/{number}"));
    }
    unreadable(&house, "zeta/300");
    house.messages("acme/700", 1, 0);
    let unwilling = Subscription {
        domain: "acme.example".to_owned(),
        ..subscription(&proxy, "700", "call-acme")
    };
    insert(&house.database(), &unwilling, &proxy.address.to_string());
    proxy.subscribe(unwilling);
    let mwid = house.start();
    let door = address(&mwid);
    mwid.until("refused and counted", |status| {
        status["counters"]["retried"] == 1 && status["spool"]["troubles_total"] == 211
    });
    assert_eq!(house.mwid(&["debug", "on", "700", "acme.example"]).code, 0);
    let page = |target: &str| {
        let shown = ask_with(door, "GET", target, LOOK, "");
        assert!(!shown.body.contains("acme"), "{target}: {}", shown.body);
        shown.json()
    };
    let pending = page("/v1/pending");
    assert_eq!(pending["waiting"], 1, "{pending:#}");
    assert_eq!(pending["reasons"][0]["reason"], "a mailbox cannot be counted now");
    let named = &pending["accounts"][0];
    assert_eq!(named["account"], "sip:300@zeta.example", "{pending:#}");
    assert_eq!(named["reason"], "its mailbox 300@zeta cannot be counted now");
    let status = page("/v1/status");
    assert_eq!(status["spool"]["troubles_total"], 211);
    assert_eq!(status["spool"]["troubles"][0]["subject"], "mailbox 300@zeta", "{status:#}");
    page("/v1/recent");
    // For the operator at the machine all is shown.
    let said = house.mwid(&["show", "pending", "--limit", "300"]).out;
    for shown in ["700@acme.example", "209@acme.example", "486 Said By The Test"] {
        assert!(said.contains(shown), "{shown}: {said}");
    }
}
