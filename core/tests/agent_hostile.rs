//! Whatever a SUBSCRIBE may look like: it is answered once at most, to where it came from, with the
//! bytes of an answer, and what is stored of it makes a NOTIFY.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mwid_core::agent::{Action, Agent, Algorithm, Expiry, Permissions, Settings, Stored};
use mwid_core::dialog::{Dialog, Row};
use mwid_core::message::{Message, StartLine};
use proptest::prelude::*;
use proptest::sample::{Index, select};

const UNIX: u64 = 1_800_000_000;
const MAX_EXPIRES: u64 = 7200;

fn agent() -> Agent {
    let settings = Settings {
        authority: "10.0.0.9:5070".into(),
        server: "mwid".into(),
        expiry: Expiry { min: 60, default: 3600, max: 7200 },
        trusted: vec!["10.0.0.1/32".parse().unwrap()],
        realm: Some("example.com".into()),
        algorithms: Algorithm::ALL.into(),
        nonce_lifetime: 300,
        rate: 1000,
        permissions: Permissions { own_box: vec!["*97".into()], ..Permissions::default() },
        timer_j: Duration::from_secs(32),
    };
    Agent::new(settings, [7; 32])
}

const LINES: [&str; 12] = [
    "SUBSCRIBE sip:202@example.com SIP/2.0",
    "Via: SIP/2.0/UDP 10.0.0.1:5060;rport;branch=z9hG4bK1",
    "Max-Forwards: 70",
    "Record-Route: <sip:10.0.0.1;lr>",
    "From: \"A phone\" <sip:202@example.com>;tag=phone",
    "To: <sip:202@example.com>",
    "Call-ID: c@phone",
    "CSeq: 4 SUBSCRIBE",
    "Contact: <sip:202@10.0.0.7:5062;ob>",
    "Event: message-summary",
    "Expires: 600",
    "Authorization: Digest username=\"202\", realm=\"example.com\", nonce=\"0\", uri=\"sip:a\", \
     response=\"0\", algorithm=MD5, cnonce=\"c\", qop=auth, nc=00000001",
];

/// Lines that phones, proxies and attackers really send.
const ODD: [&str; 30] = [
    "v: SIP/2.0/UDP [2001:db8::1]:5060;received=203.0.113.9;branch=z9hG4bK2",
    "Via: SIP/2.0/UDP 203.0.113.9;rport=9;maddr=203.0.113.9;branch=z9hG4bK3, SIP/2.0/UDP a",
    "f: <sip:203@example.com>;tag=other",
    "t: sip:202@example.com;tag=ours",
    "i: another",
    "m: *",
    "m: <sip:a@b>, <sip:c@d>",
    "Contact: <sip:202@10.0.0.7>;x=\"\r\n y\"",
    "o: message-summary;id=7",
    "Event: presence",
    "Event:\r\n message-summary ; id = \"8\"",
    "Expires: 2147483647",
    "Expires: 99999999999999999999",
    "Expires: -1",
    "Expires: 0",
    "CSeq: 4294967296 SUBSCRIBE",
    "CSeq: 2147483648 SUBSCRIBE",
    "CSeq: 4 NOTIFY",
    "Max-Forwards: 0",
    "Require: a\"b, c",
    "Accept: a/b",
    "Record-Route: <sip:evil\"{}@x;lr>, sip:y",
    "Route: <sip:203.0.113.9;lr>",
    "l: 99999",
    "Content-Length: -1",
    "SUBSCRIBE sip:202@example.com SIP/2.0",
    "SUBSCRIBE sip:%0d%0aX-Evil:1@example.com SIP/2.0",
    "To: <sip:202@example.com>;tag=\"a\u{0}b\"",
    "From: <sip:202@example.com?X-Evil=1>;tag=phone\tX-Evil: 1",
    " X-Evil: folded",
];

/// One thing that is done to a request.
#[derive(Clone, Debug)]
enum Change {
    Drop(Index),
    Insert(Index, String),
    Replace(Index, String),
    Cut(Index),
    Byte(Index, u8),
}

fn change() -> impl Strategy<Value = Change> {
    let odd = || prop_oneof![select(&ODD[..]).prop_map(str::to_owned), ".{0,80}"];
    prop_oneof![
        any::<Index>().prop_map(Change::Drop),
        (any::<Index>(), odd()).prop_map(|(at, line)| Change::Insert(at, line)),
        (any::<Index>(), odd()).prop_map(|(at, line)| Change::Replace(at, line)),
        any::<Index>().prop_map(Change::Cut),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
    ]
}

fn request(changes: &[Change]) -> Vec<u8> {
    let mut lines: Vec<String> = LINES.map(str::to_owned).to_vec();
    for change in changes {
        match change {
            Change::Drop(at) if lines.len() > 1 => drop(lines.remove(at.index(lines.len()))),
            Change::Insert(at, line) => lines.insert(at.index(lines.len()), line.clone()),
            Change::Replace(at, line) => {
                let at = at.index(lines.len());
                lines[at].clone_from(line);
            }
            Change::Drop(_) | Change::Cut(_) | Change::Byte(..) => {}
        }
    }
    let mut bytes = format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes();
    for change in changes {
        match change {
            Change::Cut(at) if bytes.len() > 1 => bytes.truncate(at.index(bytes.len()).max(1)),
            Change::Byte(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            _ => {}
        }
    }
    bytes
}

/// What is to be stored must make a NOTIFY, and fit into the table.
fn check_row(row: &Row) -> Result<(), TestCaseError> {
    let dialog = Dialog::from_row(&Row { id: 1, status: Some(1), ..row.clone() });
    let dialog = dialog.map_err(|error| TestCaseError::fail(error.to_string()))?;
    let account = dialog.account.to_string();
    prop_assert!(account == "sip:202@example.com" || row.from_user.as_deref() != Some("202"));
    prop_assert!(row.expires <= i64::try_from(UNIX + MAX_EXPIRES).ok());
    for value in [&row.callid, &row.from_tag, &row.from_user, &row.to_user, &row.event_id] {
        prop_assert!(value.as_ref().is_none_or(|value| value.len() <= 255), "{row:?}");
    }
    Ok(())
}

/// Does what the agent asks for.
fn serve(agent: &mut Agent) -> Result<(), TestCaseError> {
    while let Some(action) = agent.poll_action() {
        match action {
            Action::User { ticket, .. } => drop(agent.handle_user(ticket, Ok(None), UNIX)),
            Action::Insert { ticket, row, .. } => {
                check_row(&row)?;
                let account = row.presentity_uri.as_deref().unwrap().parse().unwrap();
                agent.handle_stored(ticket, Stored::Done(account), UNIX);
            }
            Action::Update { ticket, dialog, expires, .. } => {
                prop_assert!(expires <= UNIX + MAX_EXPIRES);
                prop_assert!(!dialog.local_tag.is_empty() && !dialog.remote_tag.is_empty());
                agent.handle_stored(ticket, Stored::Unknown, UNIX);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn a_subscribe_of_any_shape_is_answered_once_and_only_to_its_sender(
        changes in prop::collection::vec(change(), 0..6),
        trusted in any::<bool>(),
    ) {
        let bytes = request(&changes);
        let Ok(message) = Message::parse(&bytes) else { return Ok(()) };
        let from: SocketAddr =
            if trusted { "10.0.0.1:5060" } else { "192.0.2.66:5060" }.parse().unwrap();
        let mut agent = agent();
        agent.handle_request(Instant::now(), UNIX, from, &message);
        serve(&mut agent)?;
        let replies: Vec<_> = std::iter::from_fn(|| agent.poll_reply()).collect();
        prop_assert!(replies.len() <= 1, "{replies:?}");
        for reply in replies {
            prop_assert_eq!(reply.to.ip(), from.ip());
            let text = String::from_utf8_lossy(&reply.bytes).into_owned();
            let answer = Message::parse(&reply.bytes).unwrap();
            let is_answer = matches!(answer.start(), StartLine::Status { code: 200..700, .. });
            prop_assert!(is_answer, "{text}");
            for name in ["Call-ID", "CSeq", "From"] {
                prop_assert_eq!(answer.header(name), message.header(name), "{}", text);
            }
            let begins = matches!(answer.start(), StartLine::Status { code: 200, .. });
            let has_tag = answer.to_tag().unwrap().is_some();
            prop_assert!(has_tag || !begins, "no tag in what makes a dialog: {text}");
            prop_assert_eq!(answer.headers("X-Evil").next(), None, "{}", text);
            prop_assert_eq!(answer.headers("Via").count(), message.headers("Via").count());
        }
        prop_assert!(trusted || agent.poll_changed().is_none(), "nobody knows a stranger");
    }
}
