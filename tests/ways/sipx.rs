//! The status update notice of sipX, against a strict double of its `StatusEvent.cgi`.

use mwid::delivery::Published;
use mwid::delivery::sipx::Sipx;
use mwid_core::mailbox::Account;
use mwid_core::publication::{Order, Outcome, Way, Wish};
use mwid_core::summary::Summary;

use crate::support::SUMMARY;
use crate::support::http::{HttpDouble, Say};
use crate::{Runtime, accepted, config, new, order};

fn told(publisher: &HttpDouble, more: &str, order: &Order) -> Published {
    let path = "/cgi/StatusEvent.cgi";
    let config = config(&format!("[sipx]\npublisher = {}{path}\n{more}\n", publisher.url()));
    Runtime::new().wait(async {
        let sipx = Sipx::new(&config.sipx, Some("*97".to_owned())).unwrap().unwrap();
        sipx.deliver(order).await
    })
}

#[test]
fn a_change_is_a_get_with_a_body() {
    let publisher = HttpDouble::start(|_| Say::Answer(200, "text/html", String::new()));
    let wish = Wish::State(Summary { new: 2, old: 8, new_urgent: 0, old_urgent: 2 });
    let published = told(&publisher, "", &order(Way::Sipx, wish, None));
    assert_eq!(accepted(&published), (None, None));
    let [asked] = &publisher.asked()[..] else { panic!("one request") };
    assert_eq!(asked.method, "GET");
    assert_eq!(asked.target, "/cgi/StatusEvent.cgi?identity=202@example.com");
    assert_eq!(asked.header("content-type"), Some(SUMMARY));
    assert_eq!(
        asked.body,
        "Messages-Waiting: yes\r\nMessage-Account: sip:*97@example.com\r\nVoice-Message: 2/8 (0/2)\r\n"
    );
}

#[test]
fn a_post_and_the_body_of_2_4_are_there_for_who_wants_them() {
    let publisher = HttpDouble::start(|_| Say::Answer(200, "text/html", String::new()));
    told(&publisher, "method = post\nbody = 2.4", &order(Way::Sipx, new(3), None));
    let [asked] = &publisher.asked()[..] else { panic!("one request") };
    assert_eq!(asked.method, "POST");
    assert_eq!(asked.body, "Messages-Waiting: yes\r\nVoice-Message: 3/0 (0/0)\r\n");
}

#[test]
fn what_is_removed_has_no_messages() {
    let publisher = HttpDouble::start(|_| Say::Answer(202, "text/html", String::new()));
    accepted(&told(&publisher, "", &order(Way::Sipx, Wish::Remove, None)));
    assert!(publisher.asked()[0].body.ends_with("Voice-Message: 0/0 (0/0)\r\n"));
}

#[test]
fn an_identity_is_percent_encoded() {
    let publisher = HttpDouble::start(|_| Say::Answer(200, "text/html", String::new()));
    let account: Account = "a&b=c%20/?@example.com".parse().unwrap();
    told(&publisher, "", &Order { account, ..order(Way::Sipx, new(1), None) });
    let target = &publisher.asked()[0].target;
    assert_eq!(target, "/cgi/StatusEvent.cgi?identity=a%26b%3Dc%2520%2F%3F@example.com");
}

#[test]
fn a_refusal_is_tried_again_later_and_a_redirect_is_not_followed() {
    let publisher = HttpDouble::start(|_| {
        Say::Raw(
            b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n"
                .to_vec(),
        )
    });
    let published = told(&publisher, "", &order(Way::Sipx, new(1), None));
    assert_eq!(published.outcome, Outcome::Later(None));
    assert!(published.answer.starts_with("HTTP 302"), "{}", published.answer);
    assert_eq!(publisher.asked().len(), 1);
}
