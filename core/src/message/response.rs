//! A final answer as mwid's rules need it: [`Response`], read once, owned, free of the datagram.

use std::time::Duration;

use rsip::Method;

use super::canonical::{Field, is_token};
use super::error::{Excerpt, MessageError};
use super::{Challenge, Message, StartLine};

/// A response, reduced to what decides about a transaction and a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code, 100 to 699.
    pub code: u16,
    /// The reason phrase, as sent; it may be empty.
    pub reason: Box<str>,
    /// Retry-After in seconds, without its comment and parameters; `None` when it is not there or
    /// makes no sense.
    pub retry_after: Option<Duration>,
    /// WWW-Authenticate and Proxy-Authenticate, in their order.
    pub challenges: Vec<Challenge>,
    /// SIP-ETag (RFC 3903 §11.3.1), as sent.
    pub sip_etag: Option<Box<str>>,
    /// Expires, in seconds; `None` when it is not there or makes no sense.
    pub expires: Option<Duration>,
    /// Min-Expires, in seconds; `None` when it is not there or makes no sense.
    pub min_expires: Option<Duration>,
}

/// The value of CSeq (RFC 3261 §20.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// The sequence number.
    pub number: u32,
    /// The method as sent; [`method`] makes a [`Method`] of it.
    pub method: &'a str,
}

impl<'a> CSeq<'a> {
    pub(super) fn read(value: &'a str) -> Result<Self, MessageError> {
        let bad = || MessageError::Value { name: "CSeq", value: Excerpt::of(value.as_bytes()) };
        let (number, method) = value.split_once([' ', '\t']).ok_or_else(bad)?;
        let method = method.trim_ascii();
        // `parse` alone would take "+7".
        if !number.bytes().all(|byte| byte.is_ascii_digit()) || !is_token(method) {
            return Err(bad());
        }
        Ok(Self { number: number.parse().map_err(|_| bad())?, method })
    }
}

/// A method by its name. Methods are case-sensitive (RFC 3261 §7.1), so `notify` is none; an
/// extension that `rsip` does not know is `None` too.
#[must_use]
pub fn method(name: &str) -> Option<Method> {
    match name {
        // What mwid itself sends, and is answered all day long.
        "NOTIFY" => Some(Method::Notify),
        "PUBLISH" => Some(Method::Publish),
        _ if name.bytes().all(|byte| byte.is_ascii_uppercase()) => name.parse().ok(),
        _ => None,
    }
}

impl Response {
    /// Reads a message that is a response. Whose it is, its Via and CSeq say (RFC 3261 §17.1.3): ask
    /// the message for them.
    ///
    /// # Errors
    /// [`MessageError`] when it is a request, or has not one Call-ID, or two From or To: what may
    /// be read in two ways is no answer.
    pub fn read(message: &Message) -> Result<Self, MessageError> {
        let StartLine::Status { code, reason } = message.start() else {
            let text = Excerpt::of(message.start_text().as_bytes());
            return Err(MessageError::StartLine { text });
        };
        message.call_id()?;
        message.at_most_one("From")?;
        message.at_most_one("To")?;
        Ok(Self {
            code,
            reason: reason.into(),
            retry_after: message.header("Retry-After").and_then(seconds),
            challenges: challenges(message),
            sip_etag: message.header("SIP-ETag").map(Into::into),
            expires: message.header("Expires").and_then(seconds),
            min_expires: message.header("Min-Expires").and_then(seconds),
        })
    }
}

fn challenges(message: &Message) -> Vec<Challenge> {
    let challenge = |field: &Field| {
        let proxy = field.is_named("Proxy-Authenticate", &message.head);
        (proxy || field.is_named("WWW-Authenticate", &message.head))
            .then(|| Challenge { proxy, value: field.value(&message.head).into() })
    };
    message.fields.iter().filter_map(challenge).collect()
}

/// The seconds of `120 (in a meeting);duration=60` (RFC 3261 §20.33), and of the bare `120` of others. A number too large for the
/// field (2³² − 1) counts as the largest.
fn seconds(value: &str) -> Option<Duration> {
    let end = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (digits, rest) = value.split_at(end);
    if digits.is_empty() || !(rest.is_empty() || rest.starts_with([' ', '\t', ';', '('])) {
        return None;
    }
    Some(Duration::from_secs(digits.parse::<u32>().unwrap_or(u32::MAX).into()))
}
