//! What an answer takes over from its request, and where it goes (RFC 3261 §8.2.6, §18.2, RFC 3581).

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use super::refusal::Refusal;
use super::uri::without_port;
use crate::message::{Message, MessageError, split_text};

/// A datagram to send: an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Where to.
    pub to: SocketAddr,
    /// The answer.
    pub bytes: Arc<[u8]>,
}

/// The address on a request: enough to answer it without keeping the request.
///
/// Invariant: every value came out of a canonical message, so none holds a control character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    to: SocketAddr,
    /// Every Via line, the topmost as it must come back.
    vias: String,
    from: Box<str>,
    to_header: Box<str>,
    has_to_tag: bool,
    call_id: Box<str>,
    cseq: Box<str>,
}

/// What else an answer says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Words<'a> {
    /// The tag for a To that has none (RFC 3261 §8.2.6.2).
    pub(super) tag: &'a str,
    /// Server.
    pub(super) server: &'a str,
    /// Whole header lines without their CRLF.
    pub(super) lines: &'a [String],
}

impl Envelope {
    /// Where the answer goes.
    pub(super) fn peer(&self) -> SocketAddr {
        self.to
    }

    /// Takes the address of a request that came from `from`.
    ///
    /// # Errors
    /// [`MessageError`] when a header is missing or doubled without which there can be no answer.
    pub(super) fn of(request: &Message, from: SocketAddr) -> Result<Self, MessageError> {
        let top = request.via()?.value();
        let (top, port) = answered_via(top, from);
        let mut vias = format!("Via: {top}\r\n");
        for via in request.headers("Via").skip(1) {
            let _ = write!(vias, "Via: {via}\r\n");
        }
        let only = |name| request.exactly_one(name).map(Box::from);
        Ok(Self {
            to: SocketAddr::new(from.ip(), port),
            vias,
            from: only("From")?,
            to_header: only("To")?,
            has_to_tag: request.to_tag()?.is_some(),
            call_id: only("Call-ID")?,
            cseq: only("CSeq")?,
        })
    }

    /// The answer.
    pub(super) fn answer(&self, code: u16, reason: &str, words: Words<'_>) -> Reply {
        let Self { vias, from, to_header, call_id, cseq, .. } = self;
        let mut text = format!("SIP/2.0 {code} {reason}\r\n{vias}From: {from}\r\nTo: {to_header}");
        if !self.has_to_tag && code > 100 {
            let _ = write!(text, ";tag={}", words.tag);
        }
        let _ = write!(text, "\r\nCall-ID: {call_id}\r\nCSeq: {cseq}\r\n");
        for line in words.lines {
            let _ = write!(text, "{line}\r\n");
        }
        let _ = write!(text, "Server: {}\r\nContent-Length: 0\r\n\r\n", words.server);
        Reply { to: self.to, bytes: text.into_bytes().into() }
    }

    /// The answer that refuses it.
    pub(super) fn refuse(&self, refusal: &Refusal, tag: &str, server: &str) -> Reply {
        let lines = refusal.lines();
        self.answer(refusal.code(), refusal.reason(), Words { tag, server, lines: &lines })
    }
}

/// The topmost Via as the answer carries it, and the port that the answer goes to: the source's when
/// the request asked for it with `rport` (RFC 3581 §4), the one of sent-by otherwise. The address is
/// always the one that the request came from: a sent-by may name anybody.
fn answered_via(via: &str, from: SocketAddr) -> (String, u16) {
    let mut pieces = split_text(via, b';');
    let sent = pieces.next().unwrap_or_default();
    let authority = sent.rsplit([' ', '\t']).next().unwrap_or_default();
    let host = without_port(authority);
    let mut text = sent.to_owned();
    let mut asked = false;
    for piece in pieces {
        let name = piece.split_once('=').map_or(piece, |(name, _)| name).trim();
        if name.eq_ignore_ascii_case("rport") {
            asked = true;
        } else if !name.eq_ignore_ascii_case("received") {
            let _ = write!(text, ";{piece}");
        }
    }
    let source = from.ip();
    let is_source = host.trim_matches(['[', ']']).parse() == Ok(source);
    if asked || !is_source {
        let _ = write!(text, ";received={source}");
    }
    if asked {
        let _ = write!(text, ";rport={}", from.port());
        return (text, from.port());
    }
    let port = authority[host.len()..].strip_prefix(':').and_then(|port| port.parse().ok());
    (text, port.filter(|port| *port != 0).unwrap_or(5060))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(via: &str, from: &str) -> (String, u16) {
        answered_via(via, from.parse().unwrap())
    }

    #[test]
    fn rfc3581_4_rport_is_filled_in_and_answered_to() {
        let (text, port) = via("SIP/2.0/UDP 10.0.0.7:5060;branch=z9hG4bK1;rport", "192.0.2.1:4711");
        assert_eq!(text, "SIP/2.0/UDP 10.0.0.7:5060;branch=z9hG4bK1;received=192.0.2.1;rport=4711");
        assert_eq!(port, 4711);
    }

    #[test]
    fn rfc3261_18_2_2_without_rport_the_port_of_sent_by_is_answered_at_the_source_address() {
        let foreign = via("SIP/2.0/UDP victim.example.com:99;branch=b", "192.0.2.1:4711");
        assert_eq!(
            foreign,
            ("SIP/2.0/UDP victim.example.com:99;branch=b;received=192.0.2.1".into(), 99)
        );
        let own = via("SIP/2.0/UDP 192.0.2.1;branch=b", "192.0.2.1:4711");
        assert_eq!(own, ("SIP/2.0/UDP 192.0.2.1;branch=b".into(), 5060));
        let six = via("SIP/2.0/UDP [2001:db8::1]:5070;branch=b", "[2001:db8::1]:4711");
        assert_eq!(six, ("SIP/2.0/UDP [2001:db8::1]:5070;branch=b".into(), 5070));
    }

    #[test]
    fn what_the_sender_says_of_its_own_source_is_not_repeated() {
        let (text, _) = via("SIP/2.0/UDP h;received=1.2.3.4;rport=7;branch=b", "192.0.2.1:4711");
        assert_eq!(text, "SIP/2.0/UDP h;branch=b;received=192.0.2.1;rport=4711");
    }

    #[test]
    fn rfc3261_8_2_6_an_answer_takes_over_what_it_must() {
        let request = "SUBSCRIBE sip:202@example.com SIP/2.0\r\n\
            v: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK2, SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK1\r\n\
            f: <sip:202@example.com>;tag=p\r\nTo: \"Box\" <sip:202@example.com>\r\n\
            i: abc@phone\r\nCSeq: 7 SUBSCRIBE\r\nl: 0\r\n\r\n";
        let request = Message::parse(request.as_bytes()).unwrap();
        let envelope = Envelope::of(&request, "192.0.2.1:5060".parse().unwrap()).unwrap();
        let lines = ["Expires: 60".to_owned()];
        let reply = envelope.answer(200, "OK", Words { tag: "n", server: "mwid", lines: &lines });
        let expected = "SIP/2.0 200 OK\r\n\
            Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK2\r\n\
            Via: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK1\r\n\
            From: <sip:202@example.com>;tag=p\r\nTo: \"Box\" <sip:202@example.com>;tag=n\r\n\
            Call-ID: abc@phone\r\nCSeq: 7 SUBSCRIBE\r\nExpires: 60\r\nServer: mwid\r\n\
            Content-Length: 0\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&reply.bytes), expected);
        assert_eq!(reply.to.to_string(), "192.0.2.1:5060");
    }
}
