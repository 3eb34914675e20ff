//! What becomes of orders, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use mwid_core::dialog::{Dialog, Row};
use mwid_core::message::Message;
use mwid_core::publication::{ETag, Way, Wish};
use mwid_core::summary::Summary;

use super::*;

const UNIX: u64 = 1_795_000_000;
const SECOND: Duration = Duration::from_secs(1);

struct Rig {
    delivery: SipDelivery,
    transport: Transport,
    now: Instant,
}

/// Runs with these proxies, on a socket of loopback that nothing is really sent from.
fn with(proxies: &[&str], test: impl FnOnce(&mut Rig)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let config = config(proxies);
    let transport = Transport::bind(&config.general).unwrap();
    let delivery = SipDelivery::new(&config, 1);
    test(&mut Rig { delivery, transport, now: Instant::now() });
}

fn config(proxies: &[&str]) -> Config {
    let mut config = Config::default();
    config.general.proxy = proxies.iter().map(|proxy| proxy.parse().unwrap()).collect();
    config.general.bindip = Some("127.0.0.1".into());
    config
}

fn order(id: i64) -> Order {
    let text = |value: &str| Some(value.to_owned());
    let dialog = Dialog::from_row(&Row {
        id,
        presentity_uri: text("sip:202@example.com"),
        from_user: text("202"),
        from_domain: text("example.com"),
        to_user: text("202"),
        to_domain: text("example.com"),
        to_tag: text("server"),
        from_tag: text("phone"),
        callid: Some(format!("call-{id}")),
        contact: text("sip:202@192.0.2.7"),
        expires: Some(i64::try_from(UNIX).unwrap() + 3600),
        local_contact: text("sip:192.0.2.1"),
        ..Row::default()
    });
    let dialog = Arc::new(dialog.unwrap());
    let summary = Summary { new: 1, ..Summary::default() };
    Order { account: dialog.account.clone(), dialog, summary: Some(summary), cseq: 7 }
}

impl Rig {
    fn order(&mut self, id: i64) {
        self.delivery.send(order(id), self.now, UNIX, &self.transport);
    }

    /// The datagram that is to be sent now, of which there must be one.
    fn sent(&mut self) -> Transmit {
        self.delivery.poll_transmit().expect("a datagram")
    }

    fn answer(&mut self, to: &Transmit, code: u16, lines: &str) {
        let request = Message::parse(&to.bytes).unwrap();
        let mut text = format!("SIP/2.0 {code} x\r\n");
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            text.push_str(&format!("{name}: {}\r\n", request.header(name).unwrap()));
        }
        text.push_str(&format!("{lines}Content-Length: 0\r\n\r\n"));
        self.delivery.handle_datagram(self.now, to.to, text.as_bytes(), |_| {});
    }

    /// Runs until Timer F has ended everything.
    fn time_out(&mut self) {
        while self.delivery.in_flight() > 0 {
            self.now = self.delivery.poll_timeout().unwrap();
            self.delivery.handle_timeout(self.now);
            while self.delivery.poll_transmit().is_some() {}
        }
    }

    fn verdicts(&mut self) -> Vec<(i64, Verdict)> {
        let reports = std::iter::from_fn(|| self.delivery.poll_report());
        reports.map(|report| (report.order.dialog.row.0, report.verdict)).collect()
    }

    fn verdict(&mut self) -> Verdict {
        let verdicts = self.verdicts();
        assert_eq!(verdicts.len(), 1, "every order is reported once");
        verdicts[0].1
    }
}

#[test]
fn an_answer_is_a_verdict() {
    for (code, lines, verdict) in [
        (200, "", Verdict::Delivered),
        (202, "", Verdict::Delivered),
        (481, "", Verdict::Gone),
        (500, "", Verdict::TooLow),
        (500, "Retry-After: 9\r\n", Verdict::Later(Some(9 * SECOND))),
        (480, "Retry-After: 9\r\n", Verdict::Later(Some(9 * SECOND))),
        (408, "", Verdict::Later(None)),
        (486, "", Verdict::Later(None)),
        (407, "Proxy-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n", Verdict::Later(None)),
        (503, "", Verdict::Later(None)),
        (503, "Retry-After: 9\r\n", Verdict::Later(Some(9 * SECOND))),
    ] {
        with(&["127.0.0.1:5070"], |rig| {
            rig.order(1);
            let sent = rig.sent();
            rig.answer(&sent, code, lines);
            assert_eq!(rig.verdict(), verdict, "{code} {lines}");
            assert_eq!(rig.delivery.in_flight(), 0);
        });
    }
}

#[test]
fn a_503_goes_to_the_next_proxy_and_after_the_last_one_waits() {
    with(&["127.0.0.1:5070", "127.0.0.1:5071"], |rig| {
        rig.order(1);
        let first = rig.sent();
        rig.answer(&first, 503, "");
        assert_eq!(rig.verdict(), Verdict::Again);
        rig.order(1);
        let second = rig.sent();
        assert_eq!((first.to.port(), second.to.port()), (5070, 5071));
        rig.answer(&second, 503, "Retry-After: 20\r\n");
        assert_eq!(rig.verdict(), Verdict::Later(Some(20 * SECOND)));
        assert_eq!(rig.delivery.suspended(rig.now).len(), 2);
    });
}

#[test]
fn timer_f_at_a_proxy_that_says_nothing_goes_to_the_next() {
    with(&["127.0.0.1:5070", "127.0.0.1:5071"], |rig| {
        rig.order(1);
        rig.time_out();
        assert_eq!(rig.verdict(), Verdict::Again);
        assert_eq!(rig.delivery.suspended(rig.now), ["127.0.0.1:5070"]);
    });
}

#[test]
fn timer_f_at_a_proxy_that_answers_others_is_the_phones_affair() {
    with(&["127.0.0.1:5070", "127.0.0.1:5071"], |rig| {
        rig.order(1);
        rig.sent();
        rig.order(2);
        let other = rig.sent();
        rig.now += SECOND;
        rig.answer(&other, 200, "");
        assert_eq!(rig.verdicts(), [(2, Verdict::Delivered)]);
        rig.time_out();
        assert_eq!(rig.verdicts(), [(1, Verdict::Later(None))]);
        assert_eq!(rig.delivery.suspended(rig.now), [""; 0]);
    });
}

#[test]
fn a_100_alone_shows_that_the_proxy_is_there() {
    with(&["127.0.0.1:5070", "127.0.0.1:5071"], |rig| {
        rig.order(1);
        let sent = rig.sent();
        rig.answer(&sent, 100, "");
        rig.time_out();
        assert_eq!(rig.verdict(), Verdict::Later(None));
        assert_eq!(rig.delivery.suspended(rig.now), [""; 0]);
    });
}

#[test]
fn icmp_ends_all_that_went_there_and_nothing_else() {
    with(&["127.0.0.1:5070", "127.0.0.1:5071"], |rig| {
        rig.order(1);
        rig.order(2);
        rig.delivery.handle_unreachable(rig.now, "127.0.0.1:5079".parse().unwrap());
        assert_eq!(rig.verdicts(), []);
        rig.delivery.handle_unreachable(rig.now, "127.0.0.1:5070".parse().unwrap());
        assert_eq!(rig.verdicts(), [(1, Verdict::Again), (2, Verdict::Again)]);
        rig.order(3);
        rig.delivery.handle_unreachable(rig.now, "127.0.0.1:5071".parse().unwrap());
        assert_eq!(rig.verdicts(), [(3, Verdict::Later(None))]);
    });
}

#[test]
fn a_datagram_that_cannot_be_sent_is_the_affair_of_its_own_order() {
    with(&["127.0.0.1:5070", "127.0.0.1:5071"], |rig| {
        rig.order(1);
        let sent = rig.sent();
        rig.order(2);
        let error = io::Error::from_raw_os_error(nix::libc::EMSGSIZE);
        rig.delivery.handle_not_sent(rig.now, &sent, &error);
        let report = rig.delivery.poll_report().unwrap();
        assert_eq!((report.order.dialog.row.0, report.verdict), (1, Verdict::Later(None)));
        assert!(report.answer.contains("Message too long"), "{}", report.answer);
        assert_eq!(rig.verdicts(), [], "the other waits for its answer");
        assert_eq!(rig.delivery.suspended(rig.now), [""; 0]);
    });
}

#[test]
fn orders_wait_for_the_address_of_their_proxy() {
    with(&["proxy.example.com"], |rig| {
        rig.order(1);
        rig.order(2);
        let name = rig.delivery.poll_resolve().unwrap();
        assert_eq!(rig.delivery.poll_resolve(), None, "one look-up for both");
        assert!(rig.delivery.poll_transmit().is_none());
        assert_eq!(rig.delivery.in_flight(), 2);
        let found = Ok(vec!["127.0.0.1:5060".parse().unwrap()]);
        rig.delivery.handle_resolved(&name, found, rig.now, UNIX, &rig.transport);
        assert_eq!(
            (rig.sent().to, rig.sent().to.port()),
            ("127.0.0.1:5060".parse().unwrap(), 5060)
        );
    });
}

#[test]
fn a_subscription_that_ended_while_its_notify_waited_is_looked_up_again_and_told_nothing() {
    with(&["proxy.example.com"], |rig| {
        rig.order(1);
        let name = rig.delivery.poll_resolve().unwrap();
        let found = Ok(vec!["127.0.0.1:5060".parse().unwrap()]);
        rig.delivery.handle_resolved(&name, found, rig.now, UNIX + 3600, &rig.transport);
        assert!(rig.delivery.poll_transmit().is_none());
        assert_eq!(rig.verdict(), Verdict::Again);
        rig.delivery.send(order(1), rig.now, UNIX + 3599, &rig.transport);
        let last = String::from_utf8(rig.sent().bytes.to_vec()).unwrap();
        assert!(last.contains("Subscription-State: active;expires=1\r\n"), "{last}");
    });
}

#[test]
fn a_proxy_without_an_address_gives_way_to_the_next() {
    with(&["proxy.example.com", "127.0.0.1:5071"], |rig| {
        rig.order(1);
        let name = rig.delivery.poll_resolve().unwrap();
        let none = Err(std::io::Error::other("no such name"));
        rig.delivery.handle_resolved(&name, none, rig.now, UNIX, &rig.transport);
        assert_eq!(rig.verdict(), Verdict::Again);
        rig.order(1);
        assert_eq!(rig.sent().to.port(), 5071);
    });
}

#[test]
fn another_configuration_frees_those_that_wait_for_an_address() {
    with(&["proxy.example.com"], |rig| {
        rig.order(1);
        let name = rig.delivery.poll_resolve().unwrap();
        rig.delivery.configure(&config(&["127.0.0.1:5071"]), rig.now, &rig.transport);
        assert_eq!(rig.verdict(), Verdict::Again);
        // The look-up of the old name ends afterwards, and concerns nobody.
        let found = Ok(vec!["127.0.0.1:5060".parse().unwrap()]);
        rig.delivery.handle_resolved(&name, found, rig.now, UNIX, &rig.transport);
        let none = Err(std::io::ErrorKind::NotFound.into());
        rig.delivery.handle_resolved(&name, none, rig.now, UNIX, &rig.transport);
        assert_eq!((rig.verdicts(), rig.delivery.poll_failure()), (vec![], None));
        rig.order(1);
        assert_eq!(rig.sent().to.port(), 5071);
    });
}

#[test]
fn a_shutdown_does_not_wait_for_the_address_of_a_proxy() {
    with(&["proxy.example.com"], |rig| {
        rig.order(1);
        let name = rig.delivery.poll_resolve().unwrap();
        rig.delivery.abandon_waiting();
        assert_eq!(rig.verdict(), Verdict::Later(None));
        assert_eq!(rig.delivery.in_flight(), 0);
        let found = Ok(vec!["127.0.0.1:5060".parse().unwrap()]);
        rig.delivery.handle_resolved(&name, found, rig.now, UNIX, &rig.transport);
        assert!(rig.verdicts().is_empty() && rig.delivery.poll_transmit().is_none());
    });
}

#[test]
fn the_end_of_mwid_is_not_the_end_of_a_subscription() {
    with(&["127.0.0.1:5070"], |rig| {
        rig.order(1);
        rig.delivery.abandon(rig.now);
        assert_eq!(rig.verdict(), Verdict::Later(None));
        assert_eq!(rig.delivery.suspended(rig.now), [""; 0]);
    });
}

fn step(wish: Wish) -> publication::Order {
    let account = "202@example.com".parse().unwrap();
    let etag = Some(ETag::new("a.1.2").unwrap());
    publication::Order { way: Way::Publish, account, wish, etag }
}

impl Rig {
    /// Sends a step of a publication; gives its datagram.
    fn publish(&mut self, wish: Wish) -> Transmit {
        self.delivery.publish(step(wish), self.now, UNIX, &self.transport);
        self.sent()
    }

    fn published(&mut self) -> publication::Outcome {
        let (order, published, _) = self.delivery.poll_published().expect("a step has ended");
        assert_eq!(order.way, Way::Publish);
        published.outcome
    }
}

const STATE: Wish = Wish::State(Summary { new: 1, old: 0, new_urgent: 0, old_urgent: 0 });

fn header(datagram: &Transmit, name: &str) -> String {
    Message::parse(&datagram.bytes).unwrap().header(name).unwrap_or_default().to_owned()
}

#[test]
fn rfc3903_4_the_entity_tag_and_the_time_come_from_the_answer() {
    with(&["127.0.0.1:5070"], |rig| {
        let sent = rig.publish(STATE);
        assert!(sent.bytes.starts_with(b"PUBLISH sip:202@example.com SIP/2.0\r\n"));
        assert_eq!(header(&sent, "SIP-If-Match"), "a.1.2");
        rig.answer(&sent, 200, "SIP-ETag: b.1.3\r\nExpires: 55\r\n");
        let etag = Some(ETag::new("b.1.3").unwrap());
        let expires = Some(Duration::from_secs(55));
        assert_eq!(rig.published(), publication::Outcome::Accepted { etag, expires });
        let sent = rig.publish(Wish::Remove);
        assert_eq!(header(&sent, "Expires"), "0");
        rig.answer(&sent, 412, "");
        assert_eq!(rig.published(), publication::Outcome::Stale);
    });
}

#[test]
fn rfc3903_11_2_a_423_is_asked_again_for_as_long_as_the_server_wants() {
    with(&["127.0.0.1:5070"], |rig| {
        let sent = rig.publish(STATE);
        assert_eq!(header(&sent, "Expires"), "60");
        rig.answer(&sent, 423, "Min-Expires: 300\r\n");
        assert_eq!(rig.published(), publication::Outcome::Again);
        let sent = rig.publish(STATE);
        assert_eq!(header(&sent, "Expires"), "300");
    });
}

#[test]
fn what_a_publish_is_refused_with_is_no_reason_to_hurry() {
    with(&["127.0.0.1:5070"], |rig| {
        for (code, lines, pause) in [
            (403, "", None),
            (404, "", None),
            (489, "", None),
            (500, "", None),
            (480, "Retry-After: 30\r\n", Some(30 * SECOND)),
            (503, "Retry-After: 20\r\n", Some(20 * SECOND)),
        ] {
            let sent = rig.publish(STATE);
            rig.answer(&sent, code, lines);
            assert_eq!(rig.published(), publication::Outcome::Later(pause), "{code}");
        }
    });
}

#[test]
fn a_publish_goes_to_the_next_server_when_one_does_not_answer() {
    with(&["127.0.0.1:5070", "127.0.0.1:5071"], |rig| {
        let sent = rig.publish(STATE);
        rig.delivery.handle_unreachable(rig.now, sent.to);
        assert_eq!(rig.published(), publication::Outcome::Again);
        assert_eq!(rig.publish(STATE).to.port(), 5071);
    });
}
