//! `[webhook]`: an application hears of subscriptions and acknowledged NOTIFYs, and is asked.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::bed::Bed;
use crate::phone::counts;
use crate::support::http::{HttpDouble, Say};

const OUT: &str = r#"{"entity": "205@example.com", "newcount": 4, "oldcount": 5,
    "newurgent": 1, "oldurgent": 0, "reason": "init"}"#;

/// A bed whose events go there.
fn bed(application: &HttpDouble) -> Bed {
    let mut bed = Bed::new();
    bed.house.set("webhook", "url", &format!("{}/mwi?site=1", application.url()));
    bed.house.set("webhook", "token", "letmein");
    bed
}

/// An application that takes everything and says this about unknown accounts.
fn application(voicemail: Say) -> HttpDouble {
    HttpDouble::start(move |asked| match json_of(&asked.body)["event"].as_str() {
        Some("presence.voicemail.in") => voicemail.clone(),
        _ => Say::Answer(204, "text/plain", String::new()),
    })
}

fn json_of(body: &str) -> Value {
    serde_json::from_str(body).unwrap()
}

/// The events of this name so far.
fn events(application: &HttpDouble, name: &str) -> Vec<Value> {
    let all = application.asked().into_iter().map(|asked| json_of(&asked.body));
    all.filter(|event| event["event"] == name).collect()
}

/// Waits for so many of this name.
fn wait_for(application: &HttpDouble, name: &str, count: usize) -> Vec<Value> {
    crate::support::wait_for(&format!("{name} {count}"), crate::support::SOON, || {
        let found = events(application, name);
        (found.len() >= count).then_some(found)
    })
}

#[test]
fn a_new_subscription_and_what_its_phone_acknowledged_are_told_and_a_refresh_is_not() {
    let application = application(Say::Answer(404, "text/plain", String::new()));
    let bed = bed(&application);
    let mwid = bed.start();
    let mut phone = bed.phone("202");
    phone.subscribe(600);
    let sent = wait_for(&application, "mwid.state.sent", 1);
    assert_eq!((&sent[0]["newcount"], &sent[0]["oldcount"]), (&json!(2), &json!(1)));
    assert_eq!(sent[0]["callid"], phone.call_id.as_str());
    assert_eq!(sent[0]["contact"], phone.contact().as_str());
    assert_eq!(sent[0]["terminated"], false);
    assert_eq!(phone.ask("300", "").status(), Some(200));
    phone.notify();
    let sent = wait_for(&application, "mwid.state.sent", 2);
    assert!(sent[1]["cseq"].as_u64() > sent[0]["cseq"].as_u64(), "{sent:?}");
    let [begun] = &events(&application, "presence.subscribe.in")[..] else {
        panic!("once: {:?}", application.asked())
    };
    assert_eq!(begun["contenttype"], "application/simple-message-summary");
    assert_eq!((&begun["entity"], &begun["expires"]), (&json!("202@example.com"), &json!(600)));
    assert_eq!(begun["callid"], phone.call_id.as_str());
    assert_ne!(begun["id"], sent[0]["id"]);
    let asked = &application.asked()[0];
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/mwi?site=1"));
    assert_eq!(asked.header("Authorization"), Some("Bearer letmein"));
    assert_eq!(asked.header("Content-Type"), Some("application/json"));
    assert_eq!(events(&application, "presence.voicemail.in"), [] as [Value; 0], "it is known");
    let health = mwid.until("all were taken", |status| status["webhook"]["taken"] == 3);
    assert_eq!(health["webhook"]["error"], Value::Null);
    assert!(!mwid.logged().contains("letmein"), "{}", mwid.logged());
    assert_eq!(mwid.stop().code(), Some(0));
}

#[test]
fn what_no_source_knows_is_asked_and_the_answer_is_told() {
    let application = application(Say::Answer(200, "application/json", OUT.to_owned()));
    let bed = bed(&application);
    let mwid = bed.start();
    // Who reads the row first asks, and a row alone does not say that it is new.
    mwid.until("all rows are read", |status| status["watch"]["resyncs"].as_u64() >= Some(1));
    let mut phone = bed.phone("205");
    assert_eq!(phone.ask("600", "").status(), Some(200));
    phone.notify_until("4/5 (1/0)", |notify| counts(notify) == Some("4/5 (1/0)"));
    let [asked] = &events(&application, "presence.voicemail.in")[..] else {
        panic!("once: {:?}", application.asked())
    };
    assert_eq!((&asked["entity"], &asked["expires"]), (&json!("205@example.com"), &json!(600)));
    assert_eq!(asked["contenttype"], "application/simple-message-summary");
    assert_eq!(mwid.status()["counters"]["observed_by_webhook"], 1);
}

#[test]
fn an_application_may_answer_later_over_http() {
    let application = application(Say::Answer(202, "text/plain", String::new()));
    let mut bed = bed(&application);
    let door = crate::support::net::TcpPort::claim();
    bed.house.set("http", "listen", &format!("127.0.0.1:{}", door.number()));
    let mwid = bed.start();
    let mut phone = bed.phone("205");
    assert_eq!(phone.ask("600", "").status(), Some(200));
    wait_for(&application, "presence.voicemail.in", 1);
    let mut stream = TcpStream::connect(("127.0.0.1", door.number())).unwrap();
    let put = format!(
        "PUT /v1/accounts/205@example.com/summary HTTP/1.1\r\nHost: mwid\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{OUT}",
        OUT.len()
    );
    stream.write_all(put.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    phone.notify_until("4/5 (1/0)", |notify| counts(notify) == Some("4/5 (1/0)"));
    assert_eq!(mwid.status()["counters"]["observed_by_webhook"], 0);
}

#[test]
fn an_answer_that_is_none_is_no_zero() {
    for answer in [
        Say::Answer(404, "text/plain", String::new()),
        Say::Answer(200, "application/json", "{}".to_owned()),
        Say::Answer(200, "application/json", "[4, 5]".to_owned()),
        Say::Answer(200, "application/json", OUT.replace("205@", "206@")),
        Say::Answer(200, "application/json", OUT.replace("\"newcount\": 4", "\"newcount\": -1")),
        Say::Answer(200, "application/json", OUT.replace("\"newcount\": 4", "\"newcount\": 0")),
        Say::Answer(200, "text/html", "<html>Please log in</html>".to_owned()),
        Say::Answer(401, "text/plain", String::new()),
        Say::Answer(302, "text/plain", OUT.to_owned()),
        Say::Answer(200, "application/json", " ".repeat(100_000)),
    ] {
        let shown = format!("{answer:.200?}");
        let application = application(answer);
        let mut bed = bed(&application);
        bed.house.set("webhook", "tries", "1");
        bed.house.set("webhook", "ask_again", "1");
        bed.house.set("database", "resync", "1");
        let mwid = bed.start();
        let mut phone = bed.phone("205");
        assert_eq!(phone.ask("600", "").status(), Some(200));
        // The second question comes after the first answer was read.
        wait_for(&application, "presence.voicemail.in", 2);
        assert_eq!(mwid.status()["counters"]["observed_by_webhook"], 0, "{shown}");
        assert_eq!(counts(&phone.notify()), None, "{shown}");
    }
}

#[test]
fn an_application_that_fails_is_said_once_and_is_told_everything_later_in_order() {
    let mut count = 0;
    let application = HttpDouble::start(move |_| {
        count += 1;
        match count {
            1 => Say::Answer(503, "text/plain", String::new()),
            2 => Say::Raw(Vec::new()),
            _ => Say::Answer(200, "text/plain", String::new()),
        }
    });
    let bed = bed(&application);
    let mwid = bed.start();
    let mut phone = bed.phone("202");
    phone.subscribe(600);
    mwid.until("both were taken", |status| status["webhook"]["taken"] == 2);
    let told = application.asked();
    let ids: Vec<_> = told.iter().map(|asked| json_of(&asked.body)["id"].clone()).collect();
    assert_eq!(ids[0], ids[1], "the same event");
    assert_eq!(ids[0], ids[2], "until it is taken");
    assert_eq!(json_of(&told[2].body)["event"], "presence.subscribe.in");
    assert_eq!(json_of(&told[3].body)["event"], "mwid.state.sent", "and then the next");
    assert_eq!(mwid.count("the webhook does not take an event"), 1, "{}", mwid.logged());
    mwid.log("the webhook takes events again");
}

/// Nobody listens there: phones notice nothing, and nothing piles up for ever.
#[test]
fn without_its_application_mwid_serves_phones_and_stops_at_once() {
    let mut bed = Bed::new();
    let nobody = crate::support::net::TcpPort::claim();
    bed.house.set("webhook", "url", &format!("http://127.0.0.1:{}/", nobody.number()));
    let mwid = bed.start();
    let mut phones: Vec<_> = (0..3).map(|_| bed.phone("202")).collect();
    for phone in &mut phones {
        phone.subscribe(600);
    }
    let status = mwid.until("events wait", |status| {
        status["webhook"]["waiting"].as_u64() >= Some(6) && status["webhook"]["error"].is_string()
    });
    assert!(status["troubles"].to_string().contains("the webhook does not take events"));
    // Another address gets what waits.
    let application = application(Say::Answer(404, "text/plain", String::new()));
    bed.house.set("webhook", "url", &application.url());
    assert_eq!(bed.house.mwid(&["reload"]).code, 0);
    assert_eq!(wait_for(&application, "presence.subscribe.in", 3).len(), 3);
    wait_for(&application, "mwid.state.sent", 3);
    drop(application);
    let mut late = bed.phone("202");
    late.subscribe(600);
    assert_eq!(mwid.stop().code(), Some(0));
}
