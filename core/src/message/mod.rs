//! What the wire brought. A datagram is hostile until it has become a [`Message`]; an answer
//! becomes a [`Response`].
//!
//! Two stages. [`canonical`] rewrites the many shapes that phones and proxies give a message into
//! one, and knows then where each header is. `rsip` reads that form in the same way, and a test holds
//! the two together; what it gets wrong even then is done here by hand: URIs, Via and tags are looked
//! at but never rewritten, and a Request-URI may be anything.

mod canonical;
mod challenge;
mod error;
mod params;
mod response;
#[cfg(test)]
mod tests;

use std::ops::Range;

use canonical::Field;
pub(crate) use canonical::is_token_char;
pub use canonical::{
    Canonical, MAX_DATAGRAM, MAX_HEADERS, MAX_LINE, canonical, is_keep_alive, is_token,
};
pub use challenge::Challenge;
pub use error::{Excerpt, MessageError};
pub use response::{CSeq, Response, method};
/// The method of a request; [`method`] reads one.
pub use rsip::Method;

use params::param;
pub(crate) use params::split_text;

/// A SIP message, request or response, in canonical form. Header names match without regard to
/// case, and compact names have become long ones: ask for `Via`, never for `v`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Start line and header lines, canonical.
    head: String,
    start: Start,
    fields: Vec<Field>,
    body: Vec<u8>,
}

/// Where in the head the parts of the start line are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Start {
    Request { method: Range<usize>, uri: Range<usize> },
    Status { code: u16, reason: Range<usize> },
}

/// The first line of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLine<'a> {
    /// `NOTIFY sip:202@192.0.2.7 SIP/2.0`
    Request {
        /// The method as sent: a token.
        method: &'a str,
        /// The Request-URI as sent, of any scheme: visible, and without a space.
        uri: &'a str,
    },
    /// `SIP/2.0 200 OK`
    Status {
        /// The status code, 100 to 699.
        code: u16,
        /// The reason phrase, which may be empty.
        reason: &'a str,
    },
}

impl Message {
    /// Reads a datagram.
    ///
    /// # Errors
    /// [`MessageError`] when it is no message of SIP/2.0. Ask [`is_keep_alive`] first.
    pub fn parse(datagram: &[u8]) -> Result<Self, MessageError> {
        let Canonical { head, fields, body } = canonical(datagram)?;
        let line = head.lines().next().unwrap_or_default();
        let bad = || MessageError::StartLine { text: Excerpt::of(line.as_bytes()) };
        let start = Start::read(line).ok_or_else(bad)?;
        Ok(Self { start, fields, body: body.to_vec(), head })
    }

    /// The first line.
    #[must_use]
    pub fn start(&self) -> StartLine<'_> {
        match &self.start {
            Start::Request { method, uri } => StartLine::Request {
                method: &self.head[method.clone()],
                uri: &self.head[uri.clone()],
            },
            Start::Status { code, reason } => {
                StartLine::Status { code: *code, reason: &self.head[reason.clone()] }
            }
        }
    }

    fn start_text(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// The length of start line and headers in canonical form, in bytes.
    #[must_use]
    pub fn head_length(&self) -> usize {
        self.head.len()
    }

    /// Every header, in its order: name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|field| (field.name(&self.head), field.value(&self.head)))
    }

    /// Every value of this header, in its order. Only Via is split at its commas.
    pub fn headers<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let named = self.fields.iter().filter(move |field| field.is_named(name, &self.head));
        named.map(|field| field.value(&self.head))
    }

    /// The first value of this header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|field| field.is_named(name, &self.head))?;
        Some(field.value(&self.head))
    }

    /// The body, as long as Content-Length says.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The only value of this header; `None` when it is not there.
    fn at_most_one(&self, name: &'static str) -> Result<Option<&str>, MessageError> {
        let is_named = |field: &Field| field.is_named(name, &self.head);
        let Some(first) = self.fields.iter().position(is_named) else { return Ok(None) };
        if self.fields[first + 1..].iter().any(is_named) {
            return Err(MessageError::Repeated { name });
        }
        Ok(Some(self.fields[first].value(&self.head)))
    }

    pub(crate) fn exactly_one(&self, name: &'static str) -> Result<&str, MessageError> {
        self.at_most_one(name)?.ok_or(MessageError::Missing { name })
    }

    /// The topmost Via.
    ///
    /// # Errors
    /// When there is none.
    pub fn via(&self) -> Result<Via<'_>, MessageError> {
        self.header("Via").map(|value| Via { value }).ok_or(MessageError::Missing { name: "Via" })
    }

    /// CSeq.
    ///
    /// # Errors
    /// When it is not there exactly once, or makes no sense.
    pub fn cseq(&self) -> Result<CSeq<'_>, MessageError> {
        CSeq::read(self.exactly_one("CSeq")?)
    }

    /// Call-ID.
    ///
    /// # Errors
    /// When it is not there exactly once.
    pub fn call_id(&self) -> Result<&str, MessageError> {
        self.exactly_one("Call-ID")
    }

    /// The `tag` of From; `None` without one.
    ///
    /// # Errors
    /// When there are several From headers.
    pub fn from_tag(&self) -> Result<Option<&str>, MessageError> {
        Ok(self.at_most_one("From")?.and_then(|value| param(value, "tag")))
    }

    /// The `tag` of To; `None` without one.
    ///
    /// # Errors
    /// When there are several To headers.
    pub fn to_tag(&self) -> Result<Option<&str>, MessageError> {
        Ok(self.at_most_one("To")?.and_then(|value| param(value, "tag")))
    }
}

/// One value of Via (RFC 3261 §20.42): `SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK77`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    value: &'a str,
}

impl<'a> Via<'a> {
    /// The whole value, as sent.
    #[must_use]
    pub fn value(&self) -> &'a str {
        self.value
    }

    /// A parameter's value; the name matches without regard to case.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&'a str> {
        param(self.value, name)
    }

    /// The `branch` parameter.
    #[must_use]
    pub fn branch(&self) -> Option<&'a str> {
        self.param("branch")
    }
}

impl Start {
    fn read(line: &str) -> Option<Self> {
        match line.get(..8) {
            Some(version) if version.eq_ignore_ascii_case("SIP/2.0 ") => Self::status(line),
            _ => Self::request(line),
        }
    }

    /// `rsip` wants a space after the code and takes `+20` for one; phones leave the space out.
    fn status(line: &str) -> Option<Self> {
        let rest = line[8..].trim_start_matches(' ');
        let digits = rest.get(..3).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()))?;
        let code = digits.parse().ok().filter(|code| (100..700).contains(code))?;
        let after = &rest[3..];
        if !(after.is_empty() || after.starts_with(' ')) {
            return None;
        }
        let reason = after.trim();
        let start = line.len() - after.trim_start().len();
        Some(Self::Status { code, reason: start..start + reason.len() })
    }

    /// `rsip` insists on understanding the Request-URI, and does not understand IPv6 or `tel:`.
    fn request(line: &str) -> Option<Self> {
        let mut parts = line.trim_end().split(' ');
        let (method, uri, version) = (parts.next()?, parts.next()?, parts.next()?);
        let plain = parts.next().is_none() && uri.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_token(method) || uri.is_empty() || !plain || !version.eq_ignore_ascii_case("SIP/2.0")
        {
            return None;
        }
        let uri_start = method.len() + 1;
        Some(Self::Request { method: 0..method.len(), uri: uri_start..uri_start + uri.len() })
    }
}
