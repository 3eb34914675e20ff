//! Accounts that no source knows: the voicemail system of sipX is asked for them.

use crate::house::{House, Mwid};
use crate::peer::Peer;
use crate::support::SUMMARY;
use crate::support::http::{HttpDouble, Say};

const BODY: &str = "Messages-Waiting: yes\nVoice-Message: 2/8 (0/2)\n";

/// A house that asks this voicemail system, a phone that watches 202, and its proxy.
fn house(voicemail: &HttpDouble) -> (Peer, House) {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set(
        "sipx",
        "voicemail",
        &format!("{}/cgi-bin/voicemail.cgi?plugin=mwi", voicemail.url()),
    );
    house.set("sipx", "ask_again", "1");
    house.set("sipx", "timeout", "1");
    house.set("database", "resync", "1");
    house.subscribe(&proxy, "202", "call");
    (proxy, house)
}

/// The subscription has been seen again since now.
fn seen_again(mwid: &Mwid, voicemail: &HttpDouble) {
    voicemail.wait_for(voicemail.asked().len() + 2);
    mwid.status();
}

#[test]
fn the_first_state_of_an_unknown_account_comes_from_the_voicemail_system() {
    let voicemail = HttpDouble::start(|_| Say::Answer(200, SUMMARY, BODY.to_owned()));
    let (proxy, house) = house(&voicemail);
    let mwid = house.start();
    proxy.shows("call", "2/8 (0/2)");
    let [asked] = &voicemail.asked()[..] else { panic!("once: {:?}", voicemail.asked()) };
    assert_eq!((asked.method.as_str(), asked.body.as_str()), ("GET", ""));
    assert_eq!(
        asked.target,
        "/cgi-bin/voicemail.cgi?plugin=mwi&identity=202@example.com&eventtype=message-summary"
    );
    assert_eq!(mwid.status()["counters"]["observed_by_sipx"], 1);
    // Now it is known, also over a restart.
    mwid.stop();
    let mwid = house.start();
    house.subscribe(&proxy, "203", "other");
    voicemail.wait_for(2);
    proxy.shows("other", "2/8 (0/2)");
    assert!(voicemail.asked()[1].target.contains("identity=203@example.com"));
    assert_eq!(mwid.stop().code(), Some(0));
}

#[test]
fn what_a_source_knows_is_not_asked_for() {
    let voicemail = HttpDouble::start(|_| Say::Answer(200, SUMMARY, BODY.to_owned()));
    let (proxy, house) = house(&voicemail);
    house.messages("example.com/202", 1, 0);
    house.subscribe(&proxy, "203", "other");
    let mwid = house.start();
    proxy.shows("call", "1/0 (0/0)");
    proxy.shows("other", "2/8 (0/2)");
    let asked = voicemail.asked();
    assert!(asked.iter().all(|asked| asked.target.contains("identity=203@")), "{asked:?}");
    // What the spool has from now on counts more than what was said.
    house.messages("example.com/203", 0, 1);
    proxy.shows("other", "0/1 (0/0)");
    assert_eq!(mwid.settled()["lamps"]["delivered"], 2);
}

#[test]
fn what_is_not_known_there_is_unknown_and_no_zero() {
    for answer in [
        Say::Answer(404, "text/html", "<html>Not Found</html>".to_owned()),
        Say::Answer(200, SUMMARY, String::new()),
        Say::Answer(500, "text/html", "<html>Traceback</html>".to_owned()),
        Say::Answer(200, "text/html", "<html>Please log in</html>".to_owned()),
        Say::Answer(200, SUMMARY, "Messages-Waiting: yes\n".to_owned()),
        Say::Answer(200, SUMMARY, format!("{BODY}X: {}\n", "a".repeat(20_000))),
        Say::Answer(200, SUMMARY, "a".repeat(100_000)),
        Say::Raw(Vec::new()),
        Say::Nothing,
    ] {
        let voicemail = HttpDouble::start(move |_| answer.clone());
        let (_proxy, house) = house(&voicemail);
        let mwid = house.start();
        seen_again(&mwid, &voicemail);
        assert_eq!(mwid.settled()["sip"]["notifies"], 0);
        assert_eq!(mwid.status()["counters"]["observed_by_sipx"], 0);
    }
}

#[test]
fn a_voicemail_system_that_fails_is_said_once_and_asked_again() {
    let mut count = 0;
    let voicemail = HttpDouble::start(move |_| {
        count += 1;
        match count {
            1..=3 => Say::Answer(503, "text/html", String::new()),
            _ => Say::Answer(200, SUMMARY, BODY.to_owned()),
        }
    });
    let (proxy, house) = house(&voicemail);
    let mwid = house.start();
    proxy.shows("call", "2/8 (0/2)");
    assert_eq!(mwid.count("in vain"), 1, "{}", mwid.logged());
    assert_eq!(voicemail.asked().len(), 4);
    let asked = mwid.log("sipx was asked for an account that no source knows");
    assert!(asked.contains("202@example.com"), "{asked}");
}

#[test]
fn another_voicemail_system_is_asked_after_a_reload() {
    let silent = HttpDouble::start(|_| Say::Answer(404, "text/html", String::new()));
    let (proxy, mut house) = house(&silent);
    let mwid = house.start();
    silent.wait_for(1);
    let voicemail = HttpDouble::start(|_| Say::Answer(200, SUMMARY, BODY.to_owned()));
    house.set("sipx", "voicemail", &format!("{}/vm", voicemail.url()));
    assert_eq!(house.mwid(&["reload"]).code, 0);
    proxy.shows("call", "2/8 (0/2)");
    assert_eq!(
        voicemail.asked()[0].target,
        "/vm?identity=202@example.com&eventtype=message-summary"
    );
    mwid.stop();
}
