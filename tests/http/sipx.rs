//! sipXpbx's message waiting interface, both sides, as its document says.

use crate::client::{address, ask, house};
use crate::peer::Peer;

const EVENT: &str = "/cgi/StatusEvent.cgi?identity=202@example.com";
const REQUEST: &str = "/cgi/voicemail.cgi?identity=202@example.com&eventtype=message-summary";
const RFC: &str =
    "Messages-Waiting: yes\r\nMessage-Account: sip:202@example.com\r\nVoice-Message: 3/5 (1/0)\r\n";
const OLD: &str = "Messages-Waiting: yes\r\nVoice-Message: 4/5 (0/2)\r\n";

#[test]
fn a_status_event_is_a_get_with_a_body_and_lights_the_phone() {
    let proxy = Peer::phones();
    let house = house(&proxy);
    house.subscribe(&proxy, "202", "call");
    let mwid = house.start();
    let door = address(&mwid);
    let response = ask(door, "GET", EVENT, RFC);
    assert_eq!((response.status, response.body.as_str()), (200, ""), "{response:?}");
    proxy.shows("call", "3/5 (1/0)");
    assert_eq!(
        ask(door, "GET", "/cgi/StatusEvent.cgi?identity=sip:202@example.com", OLD).status,
        200
    );
    proxy.shows("call", "4/5 (0/2)");
    let unix = "Messages-Waiting: no\nVoice-Message: 0/9\n";
    assert_eq!(ask(door, "POST", EVENT, unix).status, 200);
    proxy.shows("call", "0/9 (0/0)");
    assert_eq!(mwid.status()["counters"]["observed_by_http"], 3);
}

#[test]
fn a_status_request_is_answered_from_what_is_known() {
    let proxy = Peer::phones();
    let mut house = house(&proxy);
    house.set("general", "vmexten", "*97");
    let mwid = house.start();
    let door = address(&mwid);
    // Nobody is guessed to have no messages.
    ask(door, "GET", REQUEST, "").refused(404, "nothing is known of sip:202@example.com");
    assert_eq!(house.externnotify(&["example.com", "202", "2", "5", "1"]).code, 0);
    mwid.until("called", |status| status["mailboxes"] == 1);
    let answer = ask(door, "GET", REQUEST, "");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/simple-message-summary"));
    let body = "Messages-Waiting: yes\r\nMessage-Account: sip:*97@example.com\r\nVoice-Message: 3/5 (1/0)\r\n";
    assert_eq!(answer.body, body);
    for same in [
        "/cgi/voicemail.cgi?identity=sip%3A202@example.com",
        &format!("{REQUEST}&format=rfc3842&x=y"),
    ] {
        assert_eq!(ask(door, "GET", same, "").body, body);
    }
    let old = ask(door, "GET", &format!("{REQUEST}&format=2.4"), "");
    assert_eq!(old.header("content-type"), Some("application/simple-message-summary"));
    assert_eq!(old.body, "Messages-Waiting: yes\r\nVoice-Message: 3/5 (1/0)\r\n");
}

#[test]
fn what_one_says_the_other_side_is_told() {
    let proxy = Peer::silent();
    let house = house(&proxy);
    let mwid = house.start();
    let door = address(&mwid);
    assert_eq!(ask(door, "GET", EVENT, OLD).status, 200);
    assert_eq!(ask(door, "GET", &format!("{REQUEST}&format=2.4"), "").body, OLD);
    assert_eq!(ask(door, "GET", EVENT, "Messages-Waiting: no\r\n").status, 200);
    let body = "Messages-Waiting: no\r\nVoice-Message: 0/0 (0/0)\r\n";
    assert_eq!(ask(door, "GET", &format!("{REQUEST}&format=2.4"), "").body, body);
}

#[test]
fn what_is_not_counted_yet_is_asked_for_later_and_is_no_zero() {
    let proxy = Peer::silent();
    let mut house = house(&proxy);
    house.set("spool", "enabled", "yes");
    // Never there: the first full count does not end.
    house.set("spool", "path", house.path("nowhere").to_str().unwrap());
    let mwid = house.start();
    let answer = ask(address(&mwid), "GET", REQUEST, "");
    answer.refused(503, "what waits for sip:202@example.com is not known now");
    assert_eq!(answer.header("retry-after"), Some("5"));
}

#[test]
fn a_mailbox_that_cannot_be_read_any_more_is_no_zero() {
    let proxy = Peer::silent();
    let mut house = house(&proxy);
    house.set("spool", "enabled", "yes");
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    mwid.log("the spool has been counted");
    assert_eq!(ask(address(&mwid), "GET", REQUEST, "").status, 200);
    // Not a folder any more.
    let inbox = house.path("spool/example.com/202/INBOX");
    std::fs::remove_dir_all(&inbox).unwrap();
    std::fs::write(&inbox, "").unwrap();
    mwid.until("held back", |_| ask(address(&mwid), "GET", REQUEST, "").status == 503);
}

#[test]
fn what_is_no_status_event_is_refused() {
    let proxy = Peer::silent();
    let house = house(&proxy);
    let mwid = house.start();
    let door = address(&mwid);
    for (query, why) in [
        ("", "identity is missing"),
        ("?ident=202@example.com", "identity is missing"),
        ("?identity", "not an account"),
        ("?identity=", "not an account"),
        ("?identity=202", "not an account"),
        ("?identity=202@example.com&identity=202@example.com", "given twice"),
        ("?identity=202@example.com&identity=203@example.com", "given twice"),
        ("?identity=%ff@example.com", "not UTF-8"),
        ("?identity=a%20b@example.com", "not allowed there"),
        ("?identity=202@example.com%0d%0aEvil:%201", "not allowed there"),
        ("?identity=sips:202@example.com", "not allowed there"),
    ] {
        ask(door, "GET", &format!("/cgi/StatusEvent.cgi{query}"), RFC).refused(400, why);
        ask(door, "GET", &format!("/cgi/voicemail.cgi{query}"), "").refused(400, why);
    }
    for (body, why) in [
        ("", "Messages-Waiting"),
        ("<html>hello</html>", "line 1"),
        ("Messages-Waiting: perhaps\r\n", "line 1"),
        ("Messages-Waiting: yes\r\n", "how many"),
        ("Messages-Waiting: yes\r\nVoice-Message: 1/0 (2/0)\r\n", "urgent"),
        ("Messages-Waiting: yes\r\nVoice-Message: -1/0\r\n", "line 2"),
        ("Messages-Waiting: yes\r\nVoice-Message: 1/0\r\nVoice-Message: 2/0\r\n", "line 3"),
    ] {
        ask(door, "GET", EVENT, body).refused(400, why);
    }
    ask(door, "GET", EVENT, b"Messages-Waiting: \xff\r\n").refused(400, "UTF-8");
    for (extra, why) in [
        ("&eventtype=dialog", "there is only message-summary"),
        ("&eventtype=message-summary&eventtype=message-summary", "given twice"),
        ("&format=3", "there are rfc3842 and 2.4"),
    ] {
        let target = format!("/cgi/voicemail.cgi?identity=202@example.com{extra}");
        ask(door, "GET", &target, "").refused(400, why);
    }
    assert_eq!(mwid.status()["mailboxes"], 0);
}
