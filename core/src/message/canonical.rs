//! The canonical form: one way to write a message, out of the many that phones and proxies use.
//!
//! Lines end in CRLF, no line is folded, names are long and stand right before their colon, every
//! Via has a line of its own, the head is UTF-8 without control characters, and the body is as
//! long as Content-Length says. The parser behind it reads this form right, and few others.

use std::borrow::Cow;

use memchr::{memchr, memchr3};

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
    /// Where in the head the header lines are.
    pub(super) fields: Vec<Field>,
    /// The body: Content-Length bytes, or the rest of the datagram when there is none.
    pub body: &'a [u8],
}

/// A header line of a canonical head: `Name: value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// Where the name begins, and the line.
    start: usize,
    /// Where the name ends.
    colon: usize,
    /// Where the value ends.
    end: usize,
}

impl Field {
    pub(super) fn name<'a>(&self, head: &'a str) -> &'a str {
        &head[self.start..self.colon]
    }

    pub(super) fn value<'a>(&self, head: &'a str) -> &'a str {
        &head[self.colon + SEPARATOR.len()..self.end]
    }

    /// Whether this is its name. Most are of another length, and need not be looked at.
    #[inline]
    pub(super) fn is_named(&self, name: &str, head: &str) -> bool {
        self.colon - self.start == name.len() && self.name(head).eq_ignore_ascii_case(name)
    }
}

/// What stands between a name and its value.
const SEPARATOR: &[u8] = b": ";

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
    let mut head = Head::of(lines.rest);

    let first = lines.next_raw()?;
    head.push_text(first);
    head.text.extend_from_slice(b"\r\n");
    let mut content_length = None;
    loop {
        let number = lines.number + 1;
        let line = lines.next_unfolded()?;
        if line.is_empty() {
            break;
        }
        let (name, value) = name_and_value(&line)
            .ok_or_else(|| MessageError::HeaderLine { line: number, text: Excerpt::of(&line) })?;
        if name.eq_ignore_ascii_case(b"Content-Length") {
            if content_length.is_some() {
                return Err(MessageError::Repeated { name: "Content-Length" });
            }
            content_length = Some(length(value)?);
        }
        if name.eq_ignore_ascii_case(b"Via") {
            for via in split(value, b',').map(<[u8]>::trim_ascii).filter(|via| !via.is_empty()) {
                head.push(name, via)?;
            }
        } else {
            head.push(name, value)?;
        }
    }
    let body = body(lines.rest, content_length)?;
    let (head, fields) = head.finish();
    Ok(Canonical { head, fields, body })
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
        let end = memchr3(b'\n', b'\r', 0, self.rest).unwrap_or(self.rest.len());
        let (line, rest) = self.rest.split_at(end);
        let rest = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n"));
        let rest = rest.ok_or_else(|| self.why_no_line())?;
        self.rest = rest;
        self.number += 1;
        if line.len() > MAX_LINE {
            return Err(MessageError::LineTooLong { line: self.number, length: line.len() });
        }
        Ok(line)
    }

    /// What is wrong where CR or NUL, or the end of the datagram, stands before the end of a line.
    fn why_no_line(&self) -> MessageError {
        let Some(end) = memchr(b'\n', self.rest) else {
            return MessageError::NoBlankLine { lines: self.number };
        };
        let line = self.rest[..end].strip_suffix(b"\r").unwrap_or(&self.rest[..end]);
        let (number, length) = (self.number + 1, line.len());
        match line.iter().find(|byte| matches!(byte, b'\r' | 0)) {
            Some(found) if length <= MAX_LINE => {
                MessageError::Character { line: number, found: char::from(*found) }
            }
            _ => MessageError::LineTooLong { line: number, length },
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

/// Whether a text is nothing but visible ASCII, spaces and ends of lines, as nearly all are. Every byte
/// is looked at, because a loop that may stop early is not vectorized.
fn is_plain(text: &[u8]) -> bool {
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) | (byte == b'\r') | (byte == b'\n');
    text.iter().fold(true, |plain, byte| plain & is_plain(*byte))
}

/// The head as it is being written.
struct Head {
    text: Vec<u8>,
    fields: Vec<Field>,
    /// The whole datagram is plain: its lines go in as they are.
    is_plain: bool,
}

impl Head {
    fn of(datagram: &[u8]) -> Self {
        let text = Vec::with_capacity(datagram.len() + 64);
        Self { text, fields: Vec::with_capacity(16), is_plain: is_plain(datagram) }
    }

    fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), MessageError> {
        if self.fields.len() == MAX_HEADERS {
            return Err(MessageError::TooManyHeaders);
        }
        let start = self.text.len();
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(SEPARATOR);
        self.push_text(value);
        let (colon, end) = (start + name.len(), self.text.len());
        self.fields.push(Field { start, colon, end });
        self.text.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// UTF-8 as it is, anything else as Latin-1: what an old phone means by `Büro`. Control
    /// characters but for the tab become U+FFFD.
    fn push_text(&mut self, bytes: &[u8]) {
        if self.is_plain || is_plain(bytes) {
            return self.text.extend_from_slice(bytes);
        }
        let visible = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
        let text: String = match std::str::from_utf8(bytes) {
            Ok(text) => text.chars().map(visible).collect(),
            Err(_) => bytes.iter().map(|&byte| visible(byte.into())).collect(),
        };
        self.text.extend_from_slice(text.as_bytes());
    }

    fn finish(self) -> (String, Vec<Field>) {
        (String::from_utf8(self.text).expect("only text was written"), self.fields)
    }
}

/// Splits a line at its colon; the name is a token, in its long form.
fn name_and_value(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = line.iter().position(|byte| !is_token_byte(*byte)).filter(|end| *end > 0)?;
    let (name, rest) = line.split_at(end);
    let value = rest.trim_ascii_start().strip_prefix(b":")?;
    Some((long_name(name), value.trim_ascii()))
}

/// Whether this is a `token` of RFC 3261 §25.1: a header name, a method.
#[must_use]
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// Whether the character may stand in a `token`.
pub(crate) fn is_token_char(c: char) -> bool {
    u8::try_from(c).is_ok_and(is_token_byte)
}

fn is_token_byte(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let (mut table, mut byte) = ([false; 256], 0_u8);
        while byte < 128 {
            table[byte as usize] = byte.is_ascii_alphanumeric()
                || matches!(
                    byte,
                    b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~'
                );
            byte += 1;
        }
        table
    };
    TOKEN[usize::from(byte)]
}

/// The long form of a compact name (the IANA registry of SIP header fields); others stay.
fn long_name(name: &[u8]) -> &[u8] {
    let &[letter] = name else { return name };
    match letter.to_ascii_lowercase() {
        b'a' => b"Accept-Contact",
        b'b' => b"Referred-By",
        b'c' => b"Content-Type",
        b'd' => b"Request-Disposition",
        b'e' => b"Content-Encoding",
        b'f' => b"From",
        b'i' => b"Call-ID",
        b'j' => b"Reject-Contact",
        b'k' => b"Supported",
        b'l' => b"Content-Length",
        b'm' => b"Contact",
        b'n' => b"Identity-Info",
        b'o' => b"Event",
        b'r' => b"Refer-To",
        b's' => b"Subject",
        b't' => b"To",
        b'u' => b"Allow-Events",
        b'v' => b"Via",
        b'x' => b"Session-Expires",
        b'y' => b"Identity",
        _ => name,
    }
}
