//! The agent by its answers and its rows, in virtual time.

use std::time::Duration;

use super::*;
use crate::mailbox::Account;

const UNIX: u64 = 1_800_000_000;
const PROXY: &str = "10.0.0.1:5060";
const STRANGER: &str = "192.0.2.66:5060";

fn settings() -> Settings {
    let mut permissions = Permissions { own_box: vec!["*97".into()], ..Permissions::default() };
    permissions.shared.insert(account("sales@example.com"), vec![account("202@example.com")]);
    Settings {
        authority: "10.0.0.9:5070".into(),
        server: "mwid".into(),
        expiry: Expiry { min: 60, default: 3600, max: 7200 },
        trusted: vec!["10.0.0.1/32".parse().unwrap()],
        realm: Some("example.com".into()),
        algorithms: Algorithm::ALL.into(),
        nonce_lifetime: 300,
        rate: 1000,
        permissions,
        timer_j: Duration::from_secs(32),
    }
}

fn account(text: &str) -> Account {
    text.parse().unwrap()
}

struct Bed {
    agent: Agent,
    now: Instant,
    branch: u32,
}

/// A SUBSCRIBE to be sent.
struct Request<'a> {
    method: &'a str,
    target: &'a str,
    to_tag: &'a str,
    cseq: u32,
    more: &'a str,
}

const SUBSCRIBE: Request<'static> =
    Request { method: "SUBSCRIBE", target: "sip:202@example.com", to_tag: "", cseq: 1, more: "" };

impl Bed {
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        Self { agent: Agent::new(settings, [9; 32]), now: Instant::now(), branch: 0 }
    }

    fn text(&mut self, request: &Request<'_>) -> String {
        self.branch += 1;
        let Request { method, target, to_tag, cseq, more } = request;
        let to_tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
        format!(
            "{method} {target} SIP/2.0\r\n\
             Via: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK{}\r\n\
             From: <sip:202@example.com>;tag=phone\r\nTo: <{target}>{to_tag}\r\n\
             Call-ID: c@phone\r\nCSeq: {cseq} {method}\r\nEvent: message-summary\r\n\
             Contact: <sip:202@10.0.0.7:5062>\r\n{more}\r\n",
            self.branch
        )
    }

    /// Sends a request; gives what the agent answers at once.
    fn send(&mut self, from: &str, request: &Request<'_>) -> Option<String> {
        let text = self.text(request);
        self.send_text(from, &text)
    }

    fn send_text(&mut self, from: &str, text: &str) -> Option<String> {
        let from = from.parse().unwrap();
        if self.agent.admits(self.now, from) {
            let message = Message::parse(text.as_bytes()).unwrap();
            self.agent.handle_request(self.now, UNIX, from, &message);
        }
        self.reply()
    }

    fn reply(&mut self) -> Option<String> {
        let reply = self.agent.poll_reply()?;
        Some(String::from_utf8(reply.bytes.to_vec()).unwrap())
    }

    fn code(&mut self, from: &str, request: &Request<'_>) -> u16 {
        let reply = self.send(from, request).expect("it is answered at once");
        code(&reply)
    }

    /// Stores whatever the agent wants to be stored; gives the answer.
    fn store(&mut self, stored: Stored) -> String {
        let ticket = match self.agent.poll_action().expect("something is to be stored") {
            Action::Insert { ticket, .. } | Action::Update { ticket, .. } => ticket,
            other @ Action::User { .. } => panic!("{other:?}"),
        };
        self.agent.handle_stored(ticket, stored, UNIX);
        self.reply().expect("what was stored is answered")
    }

    fn done(&mut self) -> String {
        self.store(Stored::Done(account("202@example.com")))
    }
}

fn code(reply: &str) -> u16 {
    reply.strip_prefix("SIP/2.0 ").unwrap()[..3].parse().unwrap()
}

fn header<'a>(reply: &'a str, name: &str) -> Option<&'a str> {
    reply.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn rfc6665_4_2_1_1_a_subscription_is_stored_answered_and_then_its_account_is_told() {
    let mut bed = Bed::new();
    let more = "Record-Route: <sip:10.0.0.1;lr>\r\nExpires: 600\r\n";
    assert_eq!(bed.send(PROXY, &Request { more, ..SUBSCRIBE }), None, "not before it is stored");
    let Some(Action::Insert { ticket, row, status }) = bed.agent.poll_action() else { panic!() };
    assert_eq!(status, ACTIVE);
    assert_eq!(row.expires, i64::try_from(UNIX + 600).ok());
    assert_eq!(row.local_contact.as_deref(), Some("sip:10.0.0.9:5070"));
    assert_eq!(row.socket_info.as_deref(), Some("udp:10.0.0.9:5070"));
    let tag = row.to_tag.clone().unwrap();
    bed.agent.handle_stored(ticket, Stored::Done(account("202@example.com")), UNIX);
    let reply = bed.reply().unwrap();
    assert_eq!(code(&reply), 200);
    assert_eq!(header(&reply, "Expires"), Some("600"));
    assert_eq!(header(&reply, "Contact"), Some("<sip:10.0.0.9:5070>"));
    assert_eq!(header(&reply, "Record-Route"), Some("<sip:10.0.0.1;lr>"));
    assert!(header(&reply, "To").unwrap().ends_with(&format!(";tag={tag}")));
    let begun = Begun { call_id: "c@phone".into(), expires: 600 };
    let changed = Changed { account: account("202@example.com"), begun: Some(begun) };
    assert_eq!(bed.agent.poll_changed(), Some(changed));
    assert_eq!(bed.agent.poll_changed(), None);
}

#[test]
fn rfc6665_4_2_1_4_a_refresh_changes_its_dialog() {
    let mut bed = Bed::new();
    let refresh = Request { target: "sip:10.0.0.9:5070", to_tag: "ours", cseq: 2, ..SUBSCRIBE };
    assert_eq!(bed.send(PROXY, &refresh), None);
    let Some(Action::Update { ticket, dialog, expires, ends }) = bed.agent.poll_action() else {
        panic!()
    };
    assert_eq!((expires, ends), (UNIX + 3600, None));
    assert_eq!((dialog.local_tag.as_str(), dialog.remote_tag.as_str()), ("ours", "phone"));
    assert_eq!((dialog.remote_cseq, dialog.contact.as_deref()), (2, Some("sip:202@10.0.0.7:5062")));
    bed.agent.handle_stored(ticket, Stored::Done(account("202@example.com")), UNIX);
    let reply = bed.reply().unwrap();
    assert_eq!((code(&reply), header(&reply, "Expires")), (200, Some("3600")));
    assert_eq!(header(&reply, "To"), Some("<sip:10.0.0.9:5070>;tag=ours"), "no second tag");
    assert_eq!(bed.agent.stats().refreshed, 1);
}

#[test]
fn rfc6665_4_4_3_expires_0_ends_a_dialog_or_fetches_the_state() {
    let mut bed = Bed::new();
    let more = "Expires: 0\r\n";
    bed.send(PROXY, &Request { to_tag: "ours", cseq: 2, more, ..SUBSCRIBE });
    let Some(Action::Update { expires, ends, .. }) = bed.agent.poll_action() else { panic!() };
    assert_eq!((expires, ends), (UNIX + FAREWELL, Some(TIMEOUT)));
    bed.send(PROXY, &Request { more, ..SUBSCRIBE });
    let Some(Action::Insert { row, status, .. }) = bed.agent.poll_action() else { panic!() };
    assert_eq!((row.expires, status), (i64::try_from(UNIX + FAREWELL).ok(), TERMINATED));
}

#[test]
fn rfc6665_4_2_2_a_refresh_without_the_right_any_more_is_403_and_ends_its_subscription() {
    let mut bed = Bed::new();
    let sales = account("sales@example.com");
    let refresh = Request { target: "sip:10.0.0.9:5070", to_tag: "ours", cseq: 2, ..SUBSCRIBE };
    bed.send(PROXY, &refresh);
    assert_eq!(code(&bed.store(Stored::Done(sales.clone()))), 200, "it may");
    assert!(bed.agent.poll_changed().is_some());
    bed.agent.configure(Settings { permissions: Permissions::default(), ..settings() });
    bed.send(PROXY, &Request { cseq: 3, ..refresh });
    let reply = bed.store(Stored::Done(sales.clone()));
    assert_eq!((code(&reply), header(&reply, "Expires")), (403, None));
    assert_eq!(bed.agent.poll_changed(), None, "it is not told once more what it may not know");
    let Some(Action::Update { ticket, dialog, expires, ends }) = bed.agent.poll_action() else {
        panic!()
    };
    assert_eq!((dialog.local_tag.as_str(), dialog.remote_cseq), ("ours", 3));
    assert_eq!((expires, ends), (UNIX + FAREWELL, Some("rejected")));
    bed.agent.handle_stored(ticket, Stored::Done(sales.clone()), UNIX);
    assert_eq!(bed.reply(), None, "one answer");
    assert_eq!(bed.agent.poll_changed(), Some(Changed { account: sales.clone(), begun: None }));
    assert_eq!((bed.agent.stats().refreshed, bed.agent.stats().ended), (1, 1));
    // Who wants to go may go, and one's own account needs no right.
    bed.send(PROXY, &Request { cseq: 4, more: "Expires: 0\r\n", ..refresh });
    assert_eq!(code(&bed.store(Stored::Done(sales))), 200);
    bed.send(PROXY, &Request { cseq: 5, ..refresh });
    assert_eq!(code(&bed.done()), 200);
}

/// Asterisk's chan_sip, asked for a password in a refresh, forgets the To tag.
#[test]
fn a_new_subscription_at_our_contact_is_to_what_its_to_says() {
    let mut bed = Bed::new();
    let mut watched = |target: &str| {
        let line = format!("SUBSCRIBE {target} ");
        let text = bed.text(&SUBSCRIBE).replace("SUBSCRIBE sip:202@example.com ", &line);
        let reply = bed.send_text(PROXY, &text);
        match bed.agent.poll_action() {
            Some(Action::Insert { row, .. }) => Ok(row.presentity_uri.unwrap()),
            _ => Err(code(&reply.unwrap())),
        }
    };
    assert_eq!(watched("sip:10.0.0.9:5070"), Ok("sip:202@example.com".into()));
    assert_eq!(watched("sip:10.0.0.9"), Err(404), "another port is another agent");
    assert_eq!(watched("sip:203@10.0.0.9:5070"), Err(403), "a user is meant");
}

#[test]
fn rfc3261_12_2_2_an_unknown_dialog_is_481_and_a_cseq_out_of_order_500() {
    for (stored, expected, retry_after) in [
        (Stored::Unknown, 481, None),
        (Stored::OutOfOrder, 500, None),
        // One account's own trouble: a 503 would make a proxy leave us alone (RFC 3261 §21.5.4).
        (Stored::AccountFull, 500, Some("60")),
        (Stored::Full, 503, Some("60")),
        (Stored::Drained, 503, Some("60")),
        (Stored::Failed, 503, Some("10")),
    ] {
        let mut bed = Bed::new();
        bed.send(PROXY, &Request { to_tag: "ours", cseq: 2, ..SUBSCRIBE });
        let reply = bed.store(stored);
        assert_eq!(code(&reply), expected);
        assert_eq!(header(&reply, "Retry-After"), retry_after);
        assert_eq!(bed.agent.poll_changed(), None);
    }
}

#[test]
fn rfc3261_17_2_2_a_retransmitted_subscribe_gets_the_same_answer_and_makes_no_second_dialog() {
    let mut bed = Bed::new();
    let text = bed.text(&SUBSCRIBE);
    assert_eq!(bed.send_text(PROXY, &text), None);
    assert_eq!(bed.send_text(PROXY, &text), None, "absorbed while it is carried out");
    let reply = bed.done();
    assert_eq!(bed.agent.poll_action(), None, "one row");
    assert_eq!(bed.send_text(PROXY, &text), Some(reply));
    assert_eq!(bed.agent.poll_action(), None);
    assert_eq!((bed.agent.stats().requests, bed.agent.stats().copies), (1, 2));
}

#[test]
fn rfc3261_8_2_2_2_a_request_that_comes_by_two_ways_or_after_a_restart_is_one_dialog() {
    let mut bed = Bed::new();
    bed.send(PROXY, &SUBSCRIBE);
    let first = bed.done();
    let again = bed.send(PROXY, &SUBSCRIBE);
    assert_eq!(again, None, "another branch is another transaction");
    assert_eq!(header(&bed.done(), "To"), header(&first, "To"), "with the same tag");
    let mut restarted = Bed::with(settings());
    restarted.send(PROXY, &SUBSCRIBE);
    assert_eq!(header(&restarted.done(), "To"), header(&first, "To"));
}

#[test]
fn rfc3261_8_2_1_other_methods_are_405_with_allow_and_options_are_answered() {
    let mut bed = Bed::new();
    let options = bed.send(STRANGER, &Request { method: "OPTIONS", ..SUBSCRIBE }).unwrap();
    assert_eq!(code(&options), 200);
    assert_eq!(header(&options, "Allow-Events"), Some("message-summary"));
    for method in ["PUBLISH", "INVITE", "BYE", "subscribe"] {
        let reply = bed.send(PROXY, &Request { method, ..SUBSCRIBE }).unwrap();
        assert_eq!(code(&reply), 405, "{method}");
        assert_eq!(header(&reply, "Allow"), Some("SUBSCRIBE, OPTIONS"));
    }
    assert_eq!(bed.send(PROXY, &Request { method: "ACK", ..SUBSCRIBE }), None);
    assert_eq!(bed.code(PROXY, &Request { method: "CANCEL", ..SUBSCRIBE }), 481);
}

#[test]
fn refusals_say_what_would_be_taken() {
    let mut bed = Bed::new();
    let mut refused = |more: &str, name: &str| {
        let reply = bed.send(PROXY, &Request { more, ..SUBSCRIBE }).unwrap();
        (code(&reply), header(&reply, name).map(str::to_owned))
    };
    assert_eq!(refused("Expires: 5\r\n", "Min-Expires"), (423, Some("60".into())));
    assert_eq!(refused("Require: a\r\n", "Unsupported"), (420, Some("a".into())));
    let accept = Some("application/simple-message-summary".to_owned());
    assert_eq!(refused("Accept: a/b\r\n", "Accept"), (406, accept));
    assert_eq!(bed.agent.stats().refused, 3);
}

#[test]
fn only_what_a_notify_can_carry_is_stored() {
    let mut bed = Bed::new();
    let long = format!("Record-Route: <sip:{};lr>\r\n", "a".repeat(5000));
    assert_eq!(bed.code(PROXY, &Request { more: &long, ..SUBSCRIBE }), 400);
    let long = format!("Event: message-summary;id={}\r\n", "7".repeat(256));
    let text = bed.text(&SUBSCRIBE).replace("Event: message-summary\r\n", &long);
    let reply = bed.send_text(PROXY, &text).unwrap();
    assert_eq!(header(&reply, "Warning"), Some("399 mwid \"Event is too long\""));
    let text = bed.text(&SUBSCRIBE).replace("c@phone", &"c".repeat(300));
    let reply = bed.send_text(PROXY, &text).unwrap();
    assert!(reply.starts_with("SIP/2.0 400 Bad Request\r\n"), "{reply}");
    assert_eq!(header(&reply, "Warning"), Some("399 mwid \"Call-ID is too long\""));
    let odd = "Record-Route: sip:no.brackets\r\n";
    let reply = bed.send(PROXY, &Request { more: odd, ..SUBSCRIBE }).unwrap();
    let warning = header(&reply, "Warning").unwrap();
    assert!(warning.contains("Record-Route cannot stand in a NOTIFY"), "{warning}");
    let evil = "Contact: <sip:202@10.0.0.7\"{>\r\n";
    let refresh = Request { to_tag: "ours", cseq: 2, ..SUBSCRIBE };
    let text = bed.text(&refresh).replace("Contact: <sip:202@10.0.0.7:5062>\r\n", evil);
    let reply = bed.send_text(PROXY, &text).unwrap();
    assert_eq!(code(&reply), 400);
    assert!(reply.contains("Contact cannot stand in a NOTIFY"), "{reply}");
    assert_eq!(bed.agent.poll_action(), None);
    assert_eq!(bed.code(PROXY, &Request { target: "sip:example.com", ..SUBSCRIBE }), 404);
    assert_eq!(bed.code(PROXY, &Request { target: "tel:1", ..SUBSCRIBE }), 416);
}

#[test]
fn rfc6665_4_2_1_3_a_subscriber_may_watch_itself_and_what_is_shared_with_it() {
    let mut bed = Bed::new();
    let mut watched = |target: &str| {
        let reply = bed.send(PROXY, &Request { target, ..SUBSCRIBE });
        match bed.agent.poll_action() {
            Some(Action::Insert { row, .. }) => Ok(row.presentity_uri.unwrap()),
            _ => Err(code(&reply.unwrap())),
        }
    };
    assert_eq!(watched("sip:202@EXAMPLE.com"), Ok("sip:202@example.com".into()));
    assert_eq!(watched("sip:*97@example.com"), Ok("sip:202@example.com".into()));
    assert_eq!(watched("sip:sales@example.com"), Ok("sip:sales@example.com".into()));
    assert_eq!(watched("sip:203@example.com"), Err(403));
    assert_eq!(watched("sip:202@other.org"), Err(403));
}

/// The challenges of an answer: `WWW-Authenticate`, SHA-256 first.
fn nonce(reply: &str) -> &str {
    let challenge = header(reply, "WWW-Authenticate").unwrap();
    challenge.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap()
}

fn authorization(nonce: &str, user: &str, password: &str, nc: u32) -> String {
    let (algorithm, uri) = (Algorithm::Sha256, "sip:202@example.com");
    let ha1 = algorithm.ha1(user, "example.com", password);
    let ha2 = algorithm.hash(&format!("SUBSCRIBE:{uri}"));
    let response = algorithm.hash(&format!("{ha1}:{nonce}:{nc:08x}:c:auth:{ha2}"));
    format!(
        "Authorization: Digest username=\"{user}\", realm=\"example.com\", nonce=\"{nonce}\", \
         uri=\"{uri}\", response=\"{response}\", algorithm=SHA-256, cnonce=\"c\", qop=auth, \
         nc={nc:08x}\r\n"
    )
}

fn secrets(password: &str) -> Secrets {
    let sha256 = Some(Algorithm::Sha256.ha1("202", "example.com", password));
    Secrets { sha256, md5: None }
}

/// Answers the question for the user.
fn user(bed: &mut Bed, found: Result<Option<Secrets>, ()>) -> Option<Impostor> {
    let Some(Action::User { ticket, .. }) = bed.agent.poll_action() else { panic!() };
    bed.agent.handle_user(ticket, found, UNIX)
}

#[test]
fn rfc3261_22_2_a_stranger_is_asked_for_a_password_and_let_in_with_the_right_one() {
    let mut bed = Bed::new();
    let challenge = bed.send(STRANGER, &SUBSCRIBE).unwrap();
    assert_eq!(code(&challenge), 401);
    assert_eq!(header(&challenge, "Warning"), None, "nothing that helps an attacker");
    let more = authorization(nonce(&challenge), "202", "secret", 1);
    assert_eq!(bed.send(STRANGER, &Request { more: &more, ..SUBSCRIBE }), None);
    let asked = bed.agent.actions.front();
    assert!(
        matches!(asked, Some(Action::User { user, domain, .. }) if user == "202" && domain == "example.com"),
        "{asked:?}"
    );
    let impostor = user(&mut bed, Ok(Some(secrets("secret"))));
    assert!(impostor.is_none(), "{impostor:?}");
    assert_eq!(code(&bed.done()), 200);
    let replay = bed.send(STRANGER, &Request { more: &more, ..SUBSCRIBE }).unwrap();
    assert_eq!(code(&replay), 401);
    assert!(header(&replay, "WWW-Authenticate").unwrap().ends_with("stale=true"));
    let next = authorization(nonce(&challenge), "202", "secret", 2);
    assert_eq!(bed.send(STRANGER, &Request { more: &next, ..SUBSCRIBE }), None);
    assert!(matches!(bed.agent.poll_action(), Some(Action::User { .. })));
}

#[test]
fn a_wrong_password_and_a_user_that_is_not_there_get_the_same_answer() {
    for found in [Some(secrets("other")), None] {
        let mut bed = Bed::new();
        let challenge = bed.send(STRANGER, &SUBSCRIBE).unwrap();
        let more = authorization(nonce(&challenge), "202", "secret", 1);
        bed.send(STRANGER, &Request { more: &more, ..SUBSCRIBE });
        let impostor = user(&mut bed, Ok(found)).unwrap();
        assert_eq!((impostor.from.to_string().as_str(), &*impostor.user), (STRANGER, "202"));
        let reply = bed.reply().unwrap();
        assert_eq!(code(&reply), 401);
        assert!(!reply.contains("stale"), "{reply}");
        assert_eq!(bed.agent.poll_action(), None);
        assert_eq!(bed.agent.stats().wrong_credentials, 1);
    }
}

#[test]
fn rfc6665_4_2_1_3_a_password_does_not_make_somebody_else() {
    let mut bed = Bed::new();
    let challenge = bed.send(STRANGER, &SUBSCRIBE).unwrap();
    let more = authorization(nonce(&challenge), "203", "secret", 1);
    bed.send(STRANGER, &Request { more: &more, ..SUBSCRIBE });
    let sha256 = Some(Algorithm::Sha256.ha1("203", "example.com", "secret"));
    user(&mut bed, Ok(Some(Secrets { sha256, md5: None })));
    assert_eq!(code(&bed.reply().unwrap()), 403);
}

#[test]
fn a_stranger_is_refused_where_there_are_no_passwords_and_waits_where_nobody_can_be_asked() {
    let mut closed = Bed::with(Settings { realm: None, ..settings() });
    assert_eq!(closed.code(STRANGER, &SUBSCRIBE), 403);
    let mut bed = Bed::new();
    let challenge = bed.send(STRANGER, &SUBSCRIBE).unwrap();
    let more = authorization(nonce(&challenge), "202", "secret", 1);
    bed.send(STRANGER, &Request { more: &more, ..SUBSCRIBE });
    user(&mut bed, Err(()));
    assert_eq!(code(&bed.reply().unwrap()), 503);
}

#[test]
fn a_flood_from_one_source_is_dropped_and_others_are_served() {
    let mut bed = Bed::with(Settings { rate: 100, ..settings() });
    let mut answered = 0;
    for _ in 0..10_000 {
        answered += u32::from(bed.send(STRANGER, &SUBSCRIBE).is_some());
    }
    assert_eq!(answered, 10);
    assert_eq!(bed.agent.stats().flooded, 9_990);
    assert_eq!(bed.send(PROXY, &SUBSCRIBE), None);
    assert!(matches!(bed.agent.poll_action(), Some(Action::Insert { .. })));
}

#[test]
fn rfc3261_21_5_4_one_watcher_of_a_proxy_that_asks_too_often_is_500_and_others_are_served() {
    let mut bed = Bed::with(Settings { rate: 100, ..settings() });
    let replies: Vec<_> = (0..1000).filter_map(|_| bed.send(PROXY, &SUBSCRIBE)).collect();
    assert_eq!((replies.len(), bed.agent.stats().hasty), (900, 900));
    assert_eq!((code(&replies[0]), header(&replies[0], "Retry-After")), (500, Some("1")));
    let other = bed.text(&SUBSCRIBE).replace("sip:202@", "sip:203@");
    assert_eq!(bed.send_text(PROXY, &other), None, "it is carried out");
    assert_eq!(bed.agent.stats().flooded, 0);
    bed.now += Duration::from_millis(10);
    assert_eq!(bed.send(PROXY, &SUBSCRIBE), None, "and so is this one a little later");
}

#[test]
fn what_waits_for_the_database_is_bounded() {
    let mut bed = Bed::with(Settings { rate: 1_000_000, ..settings() });
    for cseq in 1.. {
        let Some(reply) = bed.send(PROXY, &Request { cseq, ..SUBSCRIBE }) else { continue };
        assert_eq!((code(&reply), bed.agent.pending.len()), (503, MAX_PENDING));
        return;
    }
}

/// Whatever anybody sends, what is kept of it is little.
#[test]
fn rfc3261_21_5_7_a_long_request_is_513_and_nothing_of_it_is_kept() {
    let mut bed = Bed::with(Settings { rate: 1_000_000, ..settings() });
    let long = "Via: SIP/2.0/UDP h;branch=z9hG4bKx;y=".to_owned() + &"z".repeat(8000) + "\r\n";
    let long = long.repeat(7);
    for method in ["SUBSCRIBE", "OPTIONS", "BYE"] {
        let reply = bed.send(STRANGER, &Request { method, more: &long, ..SUBSCRIBE }).unwrap();
        assert_eq!(code(&reply), 513);
        assert_eq!(reply.matches("Via: ").count(), 8);
        assert!(header(&reply, "To").unwrap().contains(";tag="));
        let text = bed.text(&Request { method, more: &long, ..SUBSCRIBE });
        assert_eq!(bed.send_text(STRANGER, &text), bed.send_text(STRANGER, &text), "no state");
    }
    assert_eq!(bed.send(STRANGER, &Request { method: "ACK", more: &long, ..SUBSCRIBE }), None);
    assert_eq!((bed.agent.transactions.bytes(), bed.agent.stats().copies), (0, 0));
    assert_eq!((bed.agent.stats().requests, bed.agent.stats().refused), (9, 9));
    // The longest that is taken.
    for (length, answer) in [(MAX_HEAD, 200), (MAX_HEAD + 1, 513)] {
        let bare = bed.text(&Request { method: "OPTIONS", more: "X: \r\n", ..SUBSCRIBE });
        let missing = length - Message::parse(bare.as_bytes()).unwrap().head_length();
        let text = bare.replace("X: ", &format!("X: {}", "z".repeat(missing)));
        assert_eq!(code(&bed.send_text(STRANGER, &text).unwrap()), answer);
    }
}

#[test]
fn long_answers_to_many_requests_have_bounded_room() {
    let mut bed = Bed::with(Settings { rate: 1_000_000, ..settings() });
    let more = format!("Via: SIP/2.0/UDP h;branch=z9hG4bKx;y={}\r\n", "z".repeat(7000));
    for _ in 0..6_000 {
        bed.now += Duration::from_millis(1);
        assert_eq!(bed.code(PROXY, &Request { method: "OPTIONS", more: &more, ..SUBSCRIBE }), 200);
    }
    let kept = bed.agent.transactions.bytes();
    assert!(kept <= ROOM.bytes && kept > ROOM.bytes / 2, "{kept}");
}
