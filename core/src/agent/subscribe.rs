//! A SUBSCRIBE that is believed (RFC 6665 §4.2.1.1), read in the order in which a UAS looks at a
//! request (RFC 3261 §8.2).

use super::refusal::Refusal;
use super::uri::{SipUri, uri_of};
use crate::mailbox::Account;
use crate::message::{Message, StartLine, is_token, split_text};

/// The only event package.
pub(super) const PACKAGE: &str = "message-summary";

/// The only body type of it (RFC 3842 §3.5).
const BODY: &str = "application/simple-message-summary";

/// Lengths of subscriptions, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Anything shorter is refused with 423, but for 0.
    pub min: u32,
    /// What a SUBSCRIBE without Expires gets (RFC 3842 §3.4: a duration of hours to days).
    pub default: u32,
    /// Anything longer is shortened to this.
    pub max: u32,
}

/// What a phone asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscribe {
    /// The address of record of the Request-URI, or of the To where that names the agent. In a
    /// dialog it says nothing.
    pub(super) target: Option<Account>,
    /// The From: who says that it asks.
    pub(super) watcher: Option<Account>,
    pub(super) from_user: Option<String>,
    pub(super) from_domain: String,
    pub(super) from_tag: String,
    pub(super) to_user: Option<String>,
    pub(super) to_domain: String,
    /// `None` asks for a new dialog.
    pub(super) to_tag: Option<String>,
    pub(super) call_id: String,
    pub(super) cseq: u32,
    /// The remote target; only in a dialog it may be left out.
    pub(super) contact: Option<String>,
    /// Record-Route, its values joined by commas.
    pub(super) record_route: String,
    pub(super) event_id: Option<String>,
    /// The seconds that are granted; 0 ends the subscription, or only fetches the state.
    pub(super) expires: u32,
}

impl Subscribe {
    /// Reads a SUBSCRIBE that came to the agent whose Contact is `<sip:authority>`.
    pub(super) fn read(
        request: &Message,
        expiry: &Expiry,
        authority: &str,
    ) -> Result<Self, Refusal> {
        let target = target(request)?;
        hops_and_extensions(request)?;
        let event_id = event_id(request)?;
        acceptable(request)?;
        let from = address(request, "From")?;
        let to = address(request, "To")?;
        let bad = |error: crate::message::MessageError| Refusal::bad(error.to_string());
        let cseq = request.cseq().map_err(bad)?;
        let to_tag = request.to_tag().map_err(bad)?.map(str::to_owned);
        let from_tag = request.from_tag().map_err(bad)?;
        let contact = contact(request)?;
        if contact.is_none() && to_tag.is_none() {
            return Err(Refusal::bad("there is no Contact"));
        }
        let is_ours = target.user.is_none() && target.authority.eq_ignore_ascii_case(authority);
        Ok(Self {
            // A chan_sip that is asked for its password in a refresh sends it to our Contact, and
            // without the To tag: a new subscription to what its To says.
            target: if is_ours { to.account() } else { target.account() },
            watcher: from.account(),
            from_user: from.user.map(str::to_owned),
            from_domain: from.host.to_owned(),
            from_tag: from_tag.ok_or_else(|| Refusal::bad("From has no tag"))?.to_owned(),
            to_user: to.user.map(str::to_owned),
            to_domain: to.host.to_owned(),
            to_tag,
            call_id: request.call_id().map_err(bad)?.to_owned(),
            cseq: cseq.number,
            contact,
            record_route: request.headers("Record-Route").collect::<Vec<_>>().join(", "),
            event_id,
            expires: expires(request, expiry)?,
        })
    }
}

fn target(request: &Message) -> Result<SipUri<'_>, Refusal> {
    let StartLine::Request { uri, .. } = request.start() else {
        return Err(Refusal::bad("not a request"));
    };
    SipUri::read(uri).ok_or(Refusal::UnsupportedUriScheme)
}

fn hops_and_extensions(request: &Message) -> Result<(), Refusal> {
    match request.header("Max-Forwards").map(str::parse::<u8>) {
        Some(Ok(0)) => return Err(Refusal::TooManyHops),
        Some(Err(_)) => return Err(Refusal::bad("Max-Forwards is no number below 256")),
        _ => {}
    }
    let required: Vec<&str> = list(request, "Require").collect();
    if required.is_empty() { Ok(()) } else { Err(Refusal::BadExtension(required.join(", "))) }
}

/// The `id` of the Event header (RFC 6665 §8.2.1).
fn event_id(request: &Message) -> Result<Option<String>, Refusal> {
    let mut events = request.headers("Event");
    let event = events.next().ok_or_else(|| Refusal::bad("there is no Event"))?;
    if events.next().is_some() {
        return Err(Refusal::bad("there is more than one Event"));
    }
    let mut pieces = split_text(event, b';');
    if pieces.next() != Some(PACKAGE) {
        return Err(Refusal::BadEvent);
    }
    let id = pieces.find_map(|piece| {
        let (name, value) = piece.split_once('=')?;
        name.trim().eq_ignore_ascii_case("id").then(|| value.trim().to_owned())
    });
    match id {
        Some(id) if !is_token(&id) => Err(Refusal::bad("the id of Event is no token")),
        id => Ok(id),
    }
}

/// Without Accept the package's own type is meant (RFC 6665 §3.1.3).
fn acceptable(request: &Message) -> Result<(), Refusal> {
    if request.header("Accept").is_none() {
        return Ok(());
    }
    let taken = list(request, "Accept").any(|range| {
        let range = range.split_once(';').map_or(range, |(range, _)| range).trim();
        [BODY, "application/*", "*/*"].iter().any(|known| range.eq_ignore_ascii_case(known))
    });
    if taken { Ok(()) } else { Err(Refusal::NotAcceptable) }
}

fn address<'a>(request: &'a Message, name: &'static str) -> Result<SipUri<'a>, Refusal> {
    let value = request.exactly_one(name).map_err(|error| Refusal::bad(error.to_string()))?;
    SipUri::read(uri_of(value)).ok_or_else(|| Refusal::bad(format!("{name} is no sip: address")))
}

fn contact(request: &Message) -> Result<Option<String>, Refusal> {
    let mut contacts = request.headers("Contact").flat_map(|value| split_text(value, b','));
    let Some(contact) = contacts.next() else { return Ok(None) };
    if contacts.next().is_some() {
        return Err(Refusal::bad("there is more than one Contact"));
    }
    let uri = uri_of(contact);
    match SipUri::read(uri) {
        Some(_) => Ok(Some(uri.to_owned())),
        None => Err(Refusal::bad("Contact is no sip: URI")),
    }
}

fn expires(request: &Message, expiry: &Expiry) -> Result<u32, Refusal> {
    let mut values = request.headers("Expires");
    let Some(value) = values.next() else { return Ok(expiry.default.min(expiry.max)) };
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    if values.next().is_some() || !digits {
        return Err(Refusal::bad("Expires is no number of seconds"));
    }
    // More than 32 bits is more than any maximum (RFC 3261 §20.19).
    match value.parse::<u32>().unwrap_or(u32::MAX) {
        0 => Ok(0),
        seconds if seconds < expiry.min => Err(Refusal::IntervalTooBrief(expiry.min)),
        seconds => Ok(seconds.min(expiry.max)),
    }
}

/// The values of a header that is a list. Only what may stand in an answer again: visible ASCII.
fn list<'a>(request: &'a Message, name: &'static str) -> impl Iterator<Item = &'a str> {
    let values = request.headers(name).flat_map(|value| split_text(value, b','));
    values.filter(|value| {
        !value.is_empty() && value.chars().all(|c| c == ' ' || c.is_ascii_graphic())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPIRY: Expiry = Expiry { min: 60, default: 3600, max: 7200 };

    /// A SUBSCRIBE without the header `without`, and with the lines `more`.
    fn read(without: &str, more: &str) -> Result<Subscribe, Refusal> {
        let lines = [
            "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1",
            "Max-Forwards: 70",
            "From: <sip:202@Example.com>;tag=phone",
            "To: <sip:*97@example.com>",
            "Call-ID: c@phone",
            "CSeq: 4 SUBSCRIBE",
            "Contact: <sip:202@192.0.2.1:5062;transport=udp>;+sip.instance=\"<urn:x>\"",
            "Event: message-summary",
        ];
        let kept = lines.iter().filter(|line| !line.starts_with(&format!("{without}:")));
        let head: String = kept.map(|line| format!("{line}\r\n")).collect();
        let text = format!("SUBSCRIBE sip:*97@Example.com:5060 SIP/2.0\r\n{head}{more}\r\n");
        Subscribe::read(&Message::parse(text.as_bytes()).unwrap(), &EXPIRY, "agent:5070")
    }

    fn refused(without: &str, more: &str) -> u16 {
        read(without, more).unwrap_err().code()
    }

    #[test]
    fn a_plain_subscribe_is_believed() {
        let subscribe =
            read("-", "Record-Route: <sip:a;lr>\r\nRecord-Route: <sip:b;lr>\r\n").unwrap();
        assert_eq!(subscribe.target.unwrap().to_string(), "sip:*97@example.com");
        assert_eq!(subscribe.watcher.unwrap().to_string(), "sip:202@example.com");
        assert_eq!(subscribe.contact.as_deref(), Some("sip:202@192.0.2.1:5062;transport=udp"));
        assert_eq!(subscribe.record_route, "<sip:a;lr>, <sip:b;lr>");
        assert_eq!((subscribe.cseq, subscribe.expires), (4, 3600));
        assert_eq!(subscribe.to_tag, None);
    }

    #[test]
    fn rfc6665_4_2_1_1_expires_is_shortened_never_extended_refused_or_zero() {
        let granted = |line: &str| read("-", line).map(|it| it.expires);
        assert_eq!(granted("Expires: 0\r\n"), Ok(0));
        assert_eq!(granted("Expires: 60\r\n"), Ok(60));
        assert_eq!(granted("Expires: 2147483647\r\n"), Ok(7200));
        assert_eq!(granted("Expires: 99999999999999\r\n"), Ok(7200));
        assert_eq!(granted("Expires: 59\r\n"), Err(Refusal::IntervalTooBrief(60)));
        assert_eq!(refused("-", "Expires: -1\r\n"), 400);
        assert_eq!(refused("-", "Expires: 60\r\nExpires: 70\r\n"), 400);
    }

    #[test]
    fn rfc6665_8_3_2_another_event_package_is_489_and_none_is_400() {
        assert_eq!(refused("Event", "Event: presence\r\n"), 489);
        assert_eq!(refused("Event", "Event: Message-Summary\r\n"), 489, "packages have a case");
        assert_eq!(refused("Event", ""), 400);
        let with_id = read("Event", "o: message-summary ; id=7.x\r\n").unwrap();
        assert_eq!(with_id.event_id.as_deref(), Some("7.x"));
        assert_eq!(refused("Event", "Event: message-summary;id=\"a b\"\r\n"), 400);
    }

    #[test]
    fn rfc3261_21_4_7_what_cannot_be_accepted_is_406() {
        assert_eq!(refused("-", "Accept: application/pidf+xml\r\n"), 406);
        assert_eq!(refused("-", "Accept:\r\n"), 406);
        for taken in [
            "application/pidf+xml, Application/Simple-Message-Summary;q=0.5",
            "*/*",
            "application/*",
        ] {
            assert!(read("-", &format!("Accept: {taken}\r\n")).is_ok(), "{taken}");
        }
    }

    #[test]
    fn rfc3261_8_1_1_8_there_is_one_contact() {
        assert_eq!(refused("Contact", ""), 400);
        assert_eq!(refused("Contact", "Contact: *\r\n"), 400);
        assert_eq!(refused("-", "Contact: <sip:b@b>\r\n"), 400);
        assert_eq!(refused("Contact", "m: <sip:a@b>, <sip:c@d>\r\n"), 400);
        assert_eq!(refused("Contact", "Contact: <tel:1>\r\n"), 400);
    }

    #[test]
    fn rfc3261_8_2_2_extensions_hops_and_schemes_are_looked_at() {
        assert_eq!(
            read("-", "Require: eventlist, x\r\n").unwrap_err(),
            Refusal::BadExtension("eventlist, x".into())
        );
        assert_eq!(refused("Max-Forwards", "Max-Forwards: 0\r\n"), 483);
        assert_eq!(refused("Max-Forwards", "Max-Forwards: many\r\n"), 400);
        let tel = "SUBSCRIBE tel:+49 SIP/2.0\r\nVia: SIP/2.0/UDP h\r\n\r\n";
        let tel = Subscribe::read(&Message::parse(tel.as_bytes()).unwrap(), &EXPIRY, "agent:5070");
        assert_eq!(tel, Err(Refusal::UnsupportedUriScheme));
    }

    #[test]
    fn what_a_dialog_needs_must_be_there() {
        for header in ["From", "To", "Call-ID", "CSeq"] {
            assert_eq!(refused(header, ""), 400, "{header}");
        }
        assert_eq!(refused("From", "From: <sip:202@example.com>\r\n"), 400, "no tag");
        assert_eq!(refused("From", "From: <tel:1>;tag=a\r\n"), 400);
    }
}
