//! The canonical form: one way to write a message, out of the many that phones and proxies use.
//!
//! Lines end in CRLF, no line is folded, names are long and stand right before their colon, every
//! Via has a line of its own, the head is UTF-8 without control characters, and the body is as
//! long as Content-Length says. The parser behind it reads this form right, and few others.

use std::borrow::Cow;

use super::error::{Excerpt, MessageError};
use super::params::split;

/// The longest datagram, in bytes: what the length field of UDP can say.
pub const MAX_DATAGRAM: usize = 65_535;
/// The longest line of a header section, in bytes, continuation lines included.
pub const MAX_LINE: usize = 8192;
/// The most header lines that one message may have.
pub const MAX_HEADERS: usize = 256;

/// A message in canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical<'a> {
    /// The start line and the header lines, each with its CRLF, without the blank line.
    pub head: String,
    /// The body: Content-Length bytes, or the rest of the datagram when there is none.
    pub body: &'a [u8],
}

/// Whether a datagram only keeps a NAT binding or a connection open: nothing, or nothing but CR,
/// LF (RFC 5626 §3.5.1) and NUL (what proxies' NAT pings send).
#[must_use]
pub fn is_keep_alive(datagram: &[u8]) -> bool {
    datagram.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

/// Brings a datagram into canonical form.
///
/// # Errors
/// [`MessageError`] when the datagram is no message, or one that was cut on its way.
pub fn canonical(datagram: &[u8]) -> Result<Canonical<'_>, MessageError> {
    if datagram.len() > MAX_DATAGRAM {
        return Err(MessageError::TooLong { length: datagram.len() });
    }
    // RFC 3261 §7.5: CRLFs before the start line are ignored.
    let start = datagram.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    let mut lines = Lines { rest: &datagram[start.unwrap_or(datagram.len())..], number: 0 };
    let mut head = Head { text: String::with_capacity(datagram.len() + 64), count: 0 };

    let first = lines.next_raw()?;
    head.push_text(first);
    head.text.push_str("\r\n");
    let mut content_length = None;
    loop {
        let number = lines.number + 1;
        let line = lines.next_unfolded()?;
        if line.is_empty() {
            break;
        }
        let (name, value) = name_and_value(&line)
            .ok_or_else(|| MessageError::HeaderLine { line: number, text: Excerpt::of(&line) })?;
        if name.eq_ignore_ascii_case("Content-Length") {
            if content_length.is_some() {
                return Err(MessageError::Repeated { name: "Content-Length" });
            }
            content_length = Some(length(value)?);
        }
        if name.eq_ignore_ascii_case("Via") {
            for via in split(value, b',').map(<[u8]>::trim_ascii).filter(|via| !via.is_empty()) {
                head.push(name, via)?;
            }
        } else {
            head.push(name, value)?;
        }
    }
    let body = body(lines.rest, content_length)?;
    Ok(Canonical { head: head.text, body })
}

/// RFC 3261 §18.3: over UDP, bytes after the announced body are discarded, and a body that is
/// shorter than announced is an error.
fn body(rest: &[u8], content_length: Option<usize>) -> Result<&[u8], MessageError> {
    let Some(announced) = content_length else { return Ok(rest) };
    rest.get(..announced).ok_or(MessageError::Truncated { announced, arrived: rest.len() })
}

fn length(value: &[u8]) -> Result<usize, MessageError> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| MessageError::Value { name: "Content-Length", value: Excerpt::of(value) })
}

/// The lines of a datagram, ended by LF or CRLF.
struct Lines<'a> {
    rest: &'a [u8],
    /// How many have been taken.
    number: usize,
}

impl<'a> Lines<'a> {
    fn next_raw(&mut self) -> Result<&'a [u8], MessageError> {
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        let end = end.ok_or(MessageError::NoBlankLine { lines: self.number })?;
        let (line, rest) = (&self.rest[..end], &self.rest[end + 1..]);
        self.rest = rest;
        self.number += 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > MAX_LINE {
            return Err(MessageError::LineTooLong { line: self.number, length: line.len() });
        }
        match line.iter().find(|byte| matches!(byte, b'\r' | 0)) {
            Some(&found) => Err(MessageError::Character { line: self.number, found: found.into() }),
            None => Ok(line),
        }
    }

    /// A line with the continuation lines that follow it, each fold replaced by one space
    /// (RFC 3261 §7.3.1). The blank line is never continued: what follows it is the body.
    fn next_unfolded(&mut self) -> Result<Cow<'a, [u8]>, MessageError> {
        let first = self.next_raw()?;
        let mut line = Cow::Borrowed(first);
        while !first.is_empty() && matches!(self.rest.first(), Some(b' ' | b'\t')) {
            let more = self.next_raw()?.trim_ascii();
            let whole = line.to_mut();
            whole.truncate(whole.trim_ascii_end().len());
            whole.push(b' ');
            whole.extend_from_slice(more);
            if whole.len() > MAX_LINE {
                return Err(MessageError::LineTooLong { line: self.number, length: whole.len() });
            }
        }
        Ok(line)
    }
}

/// Whether a line is nothing but visible ASCII and spaces, as nearly all are. Every byte is looked
/// at, because a loop that may stop early is not vectorized.
fn is_plain(line: &[u8]) -> bool {
    line.iter().fold(true, |plain, byte| plain & (b' '..=b'~').contains(byte))
}

/// The head as it is being written.
struct Head {
    text: String,
    count: usize,
}

impl Head {
    fn push(&mut self, name: &str, value: &[u8]) -> Result<(), MessageError> {
        self.count += 1;
        if self.count > MAX_HEADERS {
            return Err(MessageError::TooManyHeaders);
        }
        self.text.push_str(name);
        self.text.push_str(": ");
        self.push_text(value);
        self.text.push_str("\r\n");
        Ok(())
    }

    /// UTF-8 as it is, anything else as Latin-1: what an old phone means by `Büro`. Control
    /// characters but for the tab become U+FFFD.
    fn push_text(&mut self, bytes: &[u8]) {
        let visible = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
        match std::str::from_utf8(bytes) {
            Ok(text) if is_plain(bytes) => self.text.push_str(text),
            Ok(text) => self.text.extend(text.chars().map(visible)),
            Err(_) => self.text.extend(bytes.iter().map(|&byte| visible(byte.into()))),
        }
    }
}

/// Splits a line at its colon; the name is a token, in its long form.
fn name_and_value(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let name = std::str::from_utf8(line[..colon].trim_ascii_end()).ok()?;
    is_token(name).then(|| (long_name(name), line[colon + 1..].trim_ascii()))
}

/// Whether this is a `token` of RFC 3261 §25.1: a header name, a method.
#[must_use]
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_token_char)
}

/// Whether the character may stand in a `token`.
pub(crate) fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-.!%*_+`'~".contains(c)
}

/// The long form of a compact name (the IANA registry of SIP header fields); others stay.
fn long_name(name: &str) -> &str {
    let &[letter] = name.as_bytes() else { return name };
    match letter.to_ascii_lowercase() {
        b'a' => "Accept-Contact",
        b'b' => "Referred-By",
        b'c' => "Content-Type",
        b'd' => "Request-Disposition",
        b'e' => "Content-Encoding",
        b'f' => "From",
        b'i' => "Call-ID",
        b'j' => "Reject-Contact",
        b'k' => "Supported",
        b'l' => "Content-Length",
        b'm' => "Contact",
        b'n' => "Identity-Info",
        b'o' => "Event",
        b'r' => "Refer-To",
        b's' => "Subject",
        b't' => "To",
        b'u' => "Allow-Events",
        b'v' => "Via",
        b'x' => "Session-Expires",
        b'y' => "Identity",
        _ => name,
    }
}
