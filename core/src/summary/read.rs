//! Reads the body that [`Summary::write_body`] writes, as others write it: RFC 3842's shape, sipX
//! 2.4's without `Message-Account`, LF for CRLF, any case.

use thiserror::Error;

use super::Summary;
use crate::message::is_token;

/// The longest body that is read, in bytes. Three lines have about 100; optional headers of each
/// message (RFC 3842 §3.5) may follow them.
pub const MAX_BODY: usize = 16 * 1024;

/// How much of a bad line an error repeats, in characters.
const SHOWN: usize = 60;

/// Why a body is no message summary.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BodyError {
    /// More than [`MAX_BODY`] bytes.
    #[error("the summary has {0} bytes; at most {MAX_BODY} are read")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("the summary is not UTF-8")]
    Encoding,
    /// No `name: value`, or a control character.
    #[error("line {line} of the summary is no header: {text:?}")]
    NoHeader {
        /// Counted from 1.
        line: usize,
        /// What stands there, cut short.
        text: String,
    },
    /// A value that is not what RFC 3842 has there.
    #[error("line {line} of the summary: {text:?} is not {wanted}")]
    Value {
        /// Counted from 1.
        line: usize,
        /// What stands there, cut short.
        text: String,
        /// What should.
        wanted: &'static str,
    },
    /// More urgent messages than messages: the urgent ones are a part of the others.
    #[error("line {line} of the summary: more urgent messages than messages in {text:?}")]
    Urgent {
        /// Counted from 1.
        line: usize,
        /// What stands there, cut short.
        text: String,
    },
    /// `Messages-Waiting` or `Voice-Message` a second time.
    #[error("line {line} of the summary has {name} a second time")]
    Twice {
        /// Counted from 1.
        line: usize,
        /// The header.
        name: &'static str,
    },
    /// No `Messages-Waiting`: something else than a message summary.
    #[error("the summary has no Messages-Waiting line")]
    NoStatus,
    /// `Messages-Waiting: yes` alone.
    #[error(
        "the summary says that messages wait, but has no Voice-Message line that says how many"
    )]
    NoCounts,
}

const STATUS: &str = "Messages-Waiting";
const VOICE: &str = "Voice-Message";
const COUNTS: &str = "new/old or new/old (new-urgent/old-urgent)";

impl Summary {
    /// Reads an `application/simple-message-summary` body (RFC 3842 §5.2).
    ///
    /// The counts of `Voice-Message` are the truth; without them `Messages-Waiting: no` alone is
    /// all zero. Other headers, other kinds of messages and blank lines are passed over.
    ///
    /// # Errors
    /// [`BodyError`] says what is wrong, and in which line.
    pub fn read_body(body: &[u8]) -> Result<Self, BodyError> {
        if body.len() > MAX_BODY {
            return Err(BodyError::TooLong(body.len()));
        }
        let text = std::str::from_utf8(body).map_err(|_| BodyError::Encoding)?;
        let (mut waiting, mut counts) = (None, None);
        let mut is_ours = true;
        for (index, raw) in text.split('\n').enumerate() {
            let line = index + 1;
            let raw = raw.strip_suffix('\r').unwrap_or(raw);
            let is_folded = raw.starts_with([' ', '\t']) && !is_ours;
            if raw.trim_matches([' ', '\t']).is_empty() || is_folded {
                continue;
            }
            let no_header = || BodyError::NoHeader { line, text: cut(raw) };
            let (name, value) = header(raw).ok_or_else(no_header)?;
            is_ours = true;
            if name.eq_ignore_ascii_case(STATUS) {
                once(&mut waiting, status(value, line)?, line, STATUS)?;
            } else if name.eq_ignore_ascii_case(VOICE) {
                once(&mut counts, voice(value, line)?, line, VOICE)?;
            } else {
                is_ours = false;
            }
        }
        match (waiting, counts) {
            (None, _) => Err(BodyError::NoStatus),
            (Some(_), Some(counts)) => Ok(counts),
            (Some(false), None) => Ok(Self::default()),
            (Some(true), None) => Err(BodyError::NoCounts),
        }
    }
}

fn once<T>(
    slot: &mut Option<T>,
    value: T,
    line: usize,
    name: &'static str,
) -> Result<(), BodyError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(BodyError::Twice { line, name }),
    }
}

/// Name and value; the name is a token, and no control character stands in the line.
fn header(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    let name = name.trim_end_matches([' ', '\t']);
    let is_text = !value.contains(|c: char| c.is_control() && c != '\t');
    (is_token(name) && is_text).then(|| (name, value.trim_matches([' ', '\t'])))
}

fn status(value: &str, line: usize) -> Result<bool, BodyError> {
    match value {
        _ if value.eq_ignore_ascii_case("yes") => Ok(true),
        _ if value.eq_ignore_ascii_case("no") => Ok(false),
        _ => Err(BodyError::Value { line, text: cut(value), wanted: "yes or no" }),
    }
}

fn voice(value: &str, line: usize) -> Result<Summary, BodyError> {
    let error = || BodyError::Value { line, text: cut(value), wanted: COUNTS };
    let (totals, urgent) = match value.split_once('(') {
        None => (value, None),
        Some((totals, rest)) => (totals, Some(rest.strip_suffix(')').ok_or_else(error)?)),
    };
    let (new, old) = pair(totals).ok_or_else(error)?;
    let (new_urgent, old_urgent) = urgent.map_or(Some((0, 0)), pair).ok_or_else(error)?;
    if new_urgent > new || old_urgent > old {
        return Err(BodyError::Urgent { line, text: cut(value) });
    }
    Ok(Summary { new, old, new_urgent, old_urgent })
}

/// `3/5`, with white space around each.
fn pair(text: &str) -> Option<(u32, u32)> {
    let (left, right) = text.split_once('/')?;
    Some((count(left)?, count(right)?))
}

/// `msgcount`: digits only, so neither `+1` nor `-1`.
fn count(text: &str) -> Option<u32> {
    let digits = text.trim_matches([' ', '\t']);
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn cut(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<String, String> {
        Summary::read_body(text.as_bytes())
            .map(|summary| summary.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn rfc3842_5_2_and_the_older_shape_are_read() {
        for (body, counts) in [
            (
                "Messages-Waiting: yes\r\nMessage-Account: sip:202@example.com\r\nVoice-Message: 3/5 (1/0)\r\n",
                "3/5 (1/0)",
            ),
            ("Messages-Waiting: yes\nVoice-Message: 2/8 (0/2)\n", "2/8 (0/2)"),
            ("messages-waiting:YES\nVOICE-MESSAGE : 2 / 8( 0/2 )", "2/8 (0/2)"),
            (
                "Messages-Waiting: yes\r\nVoice-Message: 4/8\r\nFax-Message: 1/2 (0/0)\r\n",
                "4/8 (0/0)",
            ),
            ("Messages-Waiting: no\r\n", "0/0 (0/0)"),
            ("Messages-Waiting: no\r\nVoice-Message: 0/4294967295 (0/0)\r\n", "0/4294967295 (0/0)"),
        ] {
            assert_eq!(read(body), Ok(counts.to_owned()), "{body:?}");
        }
    }

    #[test]
    fn rfc3842_3_5_optional_headers_of_messages_may_follow() {
        let body = "Messages-Waiting: yes\r\nMessage-Account: sip:alice@vmail.example.com\r\n\
             Voice-Message: 4/8 (1/2)\r\n\r\nTo: <alice@atlanta.example.com>\r\n\
             Subject: carpool\r\n tomorrow?\r\nDate: Sun, 18 Jun 2000 21:45:27 -0700\r\n";
        assert_eq!(read(body), Ok("4/8 (1/2)".to_owned()));
    }

    #[test]
    fn what_is_no_summary_is_refused_by_its_line() {
        for (body, error) in [
            ("", "the summary has no Messages-Waiting line"),
            ("Voice-Message: 1/0 (0/0)\r\n", "the summary has no Messages-Waiting line"),
            ("<html>\n", "line 1 of the summary is no header: \"<html>\""),
            (
                "Messages-Waiting: yes\r\n",
                "the summary says that messages wait, but has no Voice-Message line that says how many",
            ),
            ("Messages-Waiting: maybe\n", "line 1 of the summary: \"maybe\" is not yes or no"),
            (
                "Messages-Waiting: no\nMessages-Waiting: no\n",
                "line 2 of the summary has Messages-Waiting a second time",
            ),
            (
                "Messages-Waiting: no\nVoice-Message:\n 1/0\n",
                "line 2 of the summary: \"\" is not new/old or new/old (new-urgent/old-urgent)",
            ),
            ("Messages-Waiting: no\n 1/0\n", "line 2 of the summary is no header: \" 1/0\""),
            ("Messages-Waiting: no\nX\0: 1\n", "line 2 of the summary is no header: \"X\\0: 1\""),
            (
                "Messages-Waiting: yes\nVoice-Message: 1/0 (2/0)\n",
                "line 2 of the summary: more urgent messages than messages in \"1/0 (2/0)\"",
            ),
        ] {
            assert_eq!(read(body), Err(error.to_owned()), "{body:?}");
        }
        for counts in [
            "",
            "1",
            "1/",
            "-1/0",
            "+1/0",
            "4294967296/0",
            "1/0 (0/0",
            "1/0 0/0)",
            "1/0 (0/0) x",
            "1/0 (0)",
            "١/0",
        ] {
            let body = format!("Messages-Waiting: yes\nVoice-Message: {counts}\n");
            assert!(read(&body).unwrap_err().contains("line 2"), "{counts:?}");
        }
        assert_eq!(Summary::read_body(b"Messages-Waiting: n\xff"), Err(BodyError::Encoding));
        let long = vec![b'a'; MAX_BODY + 1];
        assert_eq!(Summary::read_body(&long), Err(BodyError::TooLong(MAX_BODY + 1)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(new: u32, old: u32, urgent: [u32; 2]) {
            let summary = Summary {
                new, old, new_urgent: urgent[0].min(new), old_urgent: urgent[1].min(old),
            };
            let mut body = Vec::new();
            summary.write_body(&mut body, &"202@example.com".parse().unwrap(), Some("*97"));
            prop_assert_eq!(Summary::read_body(&body), Ok(summary));
        }

        #[test]
        fn no_bytes_make_it_panic(
            body in prop::collection::vec(any::<u8>(), 0..200),
            tail in "(Messages-Waiting|Voice-Message|[ -~]{0,9})[: ]{0,3}[0-9/() \t\r\n]{0,30}",
        ) {
            let _ = Summary::read_body(&body);
            let mixed = [b"Messages-Waiting: yes\n", tail.as_bytes()].concat();
            if let Ok(summary) = Summary::read_body(&mixed) {
                prop_assert!(summary.new_urgent <= summary.new && summary.old_urgent <= summary.old);
            }
        }
    }
}
