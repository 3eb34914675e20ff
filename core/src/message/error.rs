//! Why a datagram is no SIP message.

use std::fmt;

use thiserror::Error;

use super::canonical::{MAX_DATAGRAM, MAX_HEADERS, MAX_LINE};

/// Why a datagram was refused. The text never holds more than 80 characters of it. Nothing is to
/// be done but to drop the datagram and count it; the sender is named by the caller.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// More than UDP can carry.
    #[error("the datagram has {length} bytes; at most {MAX_DATAGRAM} are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// NUL, or a CR that ends no line, before the blank line.
    #[error("line {line} contains {found:?}, which no header section may")]
    Character {
        /// Which line, counted from 1.
        line: usize,
        /// `'\0'` or `'\r'`.
        found: char,
    },
    /// A header line longer than [`MAX_LINE`].
    #[error("line {line} has {length} bytes; at most {MAX_LINE} are allowed")]
    LineTooLong {
        /// Which line, counted from 1.
        line: usize,
        /// Its length in bytes, continuation lines included.
        length: usize,
    },
    /// More header lines than [`MAX_HEADERS`].
    #[error("more than {MAX_HEADERS} header lines")]
    TooManyHeaders,
    /// The header section does not end: the message was cut, or it is none.
    #[error("no blank line ends the header section after line {lines}; the message was cut")]
    NoBlankLine {
        /// How many lines there are.
        lines: usize,
    },
    /// The first line is neither a request line nor a status line of SIP/2.0.
    #[error("the first line is neither a SIP/2.0 request nor a status: {text}")]
    StartLine {
        /// The line.
        text: Excerpt,
    },
    /// A line of the header section that is not `Name: value`.
    #[error("line {line} is not \"Name: value\": {text}")]
    HeaderLine {
        /// Which line, counted from 1.
        line: usize,
        /// The line.
        text: Excerpt,
    },
    /// A header that must be there.
    #[error("there is no {name} header")]
    Missing {
        /// The header.
        name: &'static str,
    },
    /// A header that may be there only once.
    #[error("there is more than one {name} header")]
    Repeated {
        /// The header.
        name: &'static str,
    },
    /// A header whose value cannot be understood.
    #[error("the {name} header makes no sense: {value}")]
    Value {
        /// The header.
        name: &'static str,
        /// Its value.
        value: Excerpt,
    },
    /// Content-Length announces more than arrived (RFC 3261 §18.3).
    #[error("Content-Length is {announced}, but only {arrived} bytes of body arrived")]
    Truncated {
        /// What Content-Length says, in bytes.
        announced: usize,
        /// What is there, in bytes.
        arrived: usize,
    },
}

/// A few characters of a hostile value, escaped: at most 80, and none that could end a log line
/// or steer a terminal.
#[derive(Clone, PartialEq, Eq)]
pub struct Excerpt(Box<str>);

impl Excerpt {
    /// How many characters are kept, escapes included.
    const LENGTH: usize = 80;

    /// Cuts and escapes.
    #[must_use]
    pub fn of(value: &[u8]) -> Self {
        let start = &value[..value.len().min(4 * Self::LENGTH)];
        let mut kept = String::new();
        let mut length = 0;
        for c in String::from_utf8_lossy(start).chars() {
            length += c.escape_debug().count();
            if length > Self::LENGTH {
                break;
            }
            kept.extend(c.escape_debug());
        }
        Self(kept.into())
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
