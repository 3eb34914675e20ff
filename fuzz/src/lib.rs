//! What several targets look at.

use mwid_core::dialog::Dialog;
use mwid_core::message::{Message, Response, StartLine, canonical};
use mwid_core::notify::{Hop, Notifier, Notify, RequestUri, Route};
use mwid_core::summary::Summary;

/// A second of 2026.
pub const UNIX: u64 = 1_795_000_000;

/// Reads a datagram and everything in it. What is believed must be the same when it is read again,
/// and hold nothing that could end a line.
pub fn message(bytes: &[u8]) -> Option<Message> {
    let message = match Message::parse(bytes) {
        Ok(message) => message,
        Err(error) => {
            assert!(error.to_string().len() < 500, "an error is short: {error}");
            return None;
        }
    };
    let form = canonical(bytes).expect("it was read");
    let again = [form.head.as_bytes(), b"\r\n", form.body].concat();
    assert_eq!(Message::parse(&again).as_ref(), Ok(&message), "its canonical form is the same");
    for (name, value) in message.iter() {
        one_line(name);
        one_line(value);
    }
    let _ = (Response::read(&message), message.cseq(), message.call_id());
    let _ = (message.from_tag(), message.to_tag(), message.via().map(|via| via.branch()));
    Some(message)
}

/// No CR, LF or NUL.
pub fn one_line(text: &str) {
    assert!(!text.contains(['\r', '\n', '\0']), "{text:?}");
}

/// The NOTIFY of a believed dialog is one message with the headers that it should have, and no
/// other: whatever stands in a row, it is where it belongs.
pub fn notify(dialog: &Dialog, summary: Summary) {
    let hop = Hop {
        authority: "proxy.example.com:5060".into(),
        resolved: "192.0.2.1:5060".into(),
        host: "192.0.2.9".into(),
        port: 5070,
    };
    for (request_uri, route) in [(RequestUri::Contact, Route::Auto), (RequestUri::Aor, Route::None)]
    {
        let notifier = Notifier {
            user_agent: "mwid".into(),
            contact_user: None,
            voicemail: None,
            request_uri,
            route,
        };
        let notify = Notify {
            dialog,
            account: &dialog.account,
            summary: Some(summary),
            cseq: 7,
            branch: "z9hG4bKfuzz",
            hop: &hop,
            unix: UNIX,
            authorization: &[],
        };
        let mut bytes = Vec::new();
        notify.write(&notifier, &mut bytes);
        assert!(bytes.len() < 65_508, "{} bytes are no datagram", bytes.len());
        let text = String::from_utf8(bytes).expect("what is believed is text");
        let message = message(text.as_bytes()).unwrap_or_else(|| panic!("no message: {text}"));
        let uri = notify.request_uri(&notifier);
        assert_eq!(message.start(), StartLine::Request { method: "NOTIFY", uri }, "{text}");
        headers(&message, dialog, &text);
        assert_eq!(Summary::read_body(message.body()), Ok(summary), "{text}");
    }
}

fn headers(message: &Message, dialog: &Dialog, text: &str) {
    let names: Vec<&str> = message.iter().map(|it| it.0).filter(|it| *it != "Route").collect();
    let expected = [
        "Via",
        "Max-Forwards",
        "From",
        "To",
        "Call-ID",
        "CSeq",
        "Contact",
        "Event",
        "Subscription-State",
        "User-Agent",
        "Date",
        "Content-Type",
        "Content-Length",
    ];
    assert_eq!(names, expected, "{text}");
    assert_eq!(message.call_id(), Ok(&*dialog.call_id), "{text}");
    assert_eq!(message.from_tag(), Ok(Some(&*dialog.local_tag)), "{text}");
    assert_eq!(message.to_tag(), Ok(Some(&*dialog.remote_tag)), "{text}");
    assert_eq!(message.cseq().map(|cseq| (cseq.number, cseq.method)), Ok((7, "NOTIFY")), "{text}");
    let routes = message.headers("Route").count();
    assert!(routes <= dialog.route_set.len() + 1, "{text}");
}

/// Whether counts of nothing at all can have been read in this text: somebody must have said so.
pub fn says_nothing_waits(text: &[u8]) -> bool {
    text.contains(&b'0') || text.to_ascii_lowercase().windows(2).any(|two| two == b"no")
}
