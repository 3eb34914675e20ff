//! The text that goes from the command to the daemon, as a datagram or as a dropped file:
//!
//! ```text
//! mwid-externnotify 1
//! stamp 1795000000123456789
//! mailbox 202
//! context default
//! counts 1 0 0
//! file 01795000000123456789-4242-0.call
//! ```
//!
//! Each line is ended by LF; `counts` (new without urgent, old, urgent) may be absent. `file` is in
//! a datagram whose text, without this line, was left in the drop folder under that name; its stamp
//! is that of the notice. A reader refuses any other text: both sides come from one release, and
//! the first line says which format.

use mwid_core::mailbox::{Mailbox, NameError};
use mwid_core::summary::Summary;
use thiserror::Error;

use super::file_name::FileName;

/// The longest text of a notice, in bytes.
pub const MAX_NOTICE: usize = 2048;

const VERSION: &str = "mwid-externnotify 1";

/// What Asterisk said, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// When the command was started, nanoseconds since 1970.
    pub stamp: u64,
    /// The mailbox.
    pub mailbox: Mailbox,
    /// New (without urgent), old and urgent messages.
    pub counts: Option<[u32; 3]>,
    /// The file of the drop folder that says the same.
    pub file: Option<FileName>,
}

/// Why a text is no notice.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoticeError {
    /// Not UTF-8, or not the lines that a notice has.
    #[error("line {line} is not `{expected}`")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What stands there in a notice.
        expected: &'static str,
    },
    /// A mailbox that cannot be.
    #[error(transparent)]
    Name(#[from] NameError),
    /// More than [`MAX_NOTICE`] bytes.
    #[error("longer than {MAX_NOTICE} bytes")]
    TooLong,
}

impl Notice {
    /// The counts as a summary.
    #[must_use]
    pub fn given(&self) -> Option<Summary> {
        self.counts.map(|[new, old, urgent]| Summary::from_asterisk(new, old, urgent))
    }

    /// The text. It is shorter than [`MAX_NOTICE`], as names are at most 253 bytes.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { stamp, mailbox, counts, file } = self;
        let (number, context) = (mailbox.number(), mailbox.context());
        let counts = counts.map_or_else(String::new, |[new, old, urgent]| {
            format!("counts {new} {old} {urgent}\n")
        });
        let file = file.map_or_else(String::new, |name| format!("file {name}\n"));
        format!("{VERSION}\nstamp {stamp}\nmailbox {number}\ncontext {context}\n{counts}{file}")
    }

    /// Reads a text that anybody may have written.
    ///
    /// # Errors
    /// [`NoticeError`] says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoticeError> {
        if bytes.len() > MAX_NOTICE {
            return Err(NoticeError::TooLong);
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|_| NoticeError::Line { line: 1, expected: VERSION })?;
        let mut lines = text.split_terminator('\n');
        if lines.next() != Some(VERSION) {
            return Err(NoticeError::Line { line: 1, expected: VERSION });
        }
        let mut field = |line, expected: &'static str| {
            let (key, _) = expected.split_once(' ').unwrap_or((expected, ""));
            let value = lines.next().and_then(|text| text.strip_prefix(key)?.strip_prefix(' '));
            value.ok_or(NoticeError::Line { line, expected })
        };
        let stamp = field(2, "stamp NANOSECONDS")?;
        let stamp =
            number(stamp).ok_or(NoticeError::Line { line: 2, expected: "stamp NANOSECONDS" })?;
        let mailbox = Mailbox::new(field(3, "mailbox NUMBER")?, field(4, "context CONTEXT")?)?;
        let mut rest = lines.enumerate().map(|(index, text)| (index + 5, text)).peekable();
        let counts = match rest.next_if(|(_, text)| !text.starts_with("file ")) {
            Some((line, text)) => {
                Some(parse_counts(text).ok_or(NoticeError::Line { line, expected: COUNTS })?)
            }
            None => None,
        };
        let file = match rest.next() {
            Some((line, text)) => {
                let name = text.strip_prefix("file ").and_then(FileName::parse);
                let own = name.filter(|name| name.stamp == stamp);
                Some(own.ok_or(NoticeError::Line { line, expected: FILE })?)
            }
            None => None,
        };
        if let Some((line, _)) = rest.next() {
            return Err(NoticeError::Line { line, expected: END });
        }
        if !text.ends_with('\n') {
            return Err(NoticeError::Line { line: text.split('\n').count(), expected: END });
        }
        Ok(Self { stamp, mailbox, counts, file })
    }
}

const COUNTS: &str = "counts NEW OLD URGENT";
const FILE: &str = "file STAMP-PROCESS-N.call";
const END: &str = "the end, after a newline";

fn parse_counts(line: &str) -> Option<[u32; 3]> {
    let mut words = line.strip_prefix("counts ")?.split(' ').map(number);
    let counts = [words.next()??, words.next()??, words.next()??];
    words.next().is_none().then_some(counts)
}

/// Digits only: no sign, no space.
pub(super) fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn notice() -> Notice {
        let mailbox = Mailbox::parse("202@example.com").unwrap();
        Notice { stamp: 1_795_000_000_123_456_789, mailbox, counts: Some([1, 2, 3]), file: None }
    }

    #[test]
    fn the_text_is_this_and_is_read_again() {
        let text = notice().to_text();
        assert_eq!(
            text,
            "mwid-externnotify 1\nstamp 1795000000123456789\nmailbox 202\ncontext example.com\n\
             counts 1 2 3\n"
        );
        assert_eq!(Notice::parse(text.as_bytes()), Ok(notice()));
        let silent = Notice { counts: None, ..notice() };
        assert_eq!(Notice::parse(silent.to_text().as_bytes()), Ok(silent));
        let file = Some(FileName { stamp: notice().stamp, process: 4242, number: 1 });
        let named = Notice { file, ..notice() };
        assert_eq!(named.to_text(), text + "file 01795000000123456789-4242-1.call\n");
        assert_eq!(Notice::parse(named.to_text().as_bytes()), Ok(named.clone()));
        let silent = Notice { counts: None, ..named };
        assert_eq!(Notice::parse(silent.to_text().as_bytes()), Ok(silent));
    }

    #[test]
    fn a_file_is_named_by_its_own_stamp_and_never_by_a_path() {
        let file = Some(FileName { stamp: notice().stamp, process: 4242, number: 1 });
        let text = Notice { file, ..notice() }.to_text();
        for (from, to) in [
            ("file 0179", "file 0178"),
            ("file 0179", "file ../0179"),
            ("file 0179", "file /0179"),
            ("file ", "file  "),
            ("file ", "files "),
            (".call", ""),
            ("-1.", "-01."),
        ] {
            let bad = text.replacen(from, to, 1);
            let wrong = Err(NoticeError::Line { line: 6, expected: FILE });
            assert_eq!(Notice::parse(bad.as_bytes()), wrong, "{bad}");
        }
    }

    #[test]
    fn urgent_messages_are_new_ones_too() {
        assert_eq!(notice().given().unwrap().to_string(), "4/2 (3/0)");
    }

    #[test]
    fn anything_else_is_refused_with_the_line() {
        let text = notice().to_text();
        for (from, to, line) in [
            ("y 1", "y 2", 1),
            ("stamp 1", "stamp -1", 2),
            ("stamp ", "stampede ", 2),
            ("mailbox ", "", 3),
            ("counts 1", "counts +1", 5),
            ("counts 1", "counts 4294967296", 5),
            ("3\n", "3 4\n", 5),
            ("3\n", "3\nmore\n", 6),
            ("3\n", "3", 5),
        ] {
            let bad = text.replacen(from, to, 1);
            match Notice::parse(bad.as_bytes()) {
                Err(NoticeError::Line { line: found, .. }) => assert_eq!(found, line, "{bad}"),
                other => panic!("{bad:?} gave {other:?}"),
            }
        }
        let evil = text.replace("202", "../../etc");
        assert!(matches!(Notice::parse(evil.as_bytes()), Err(NoticeError::Name(_))));
        assert_eq!(Notice::parse(&[b'a'; MAX_NOTICE + 1]), Err(NoticeError::TooLong));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in any::<Vec<u8>>(), tail in any::<String>()) {
            let _ = Notice::parse(&bytes);
            let _ = Notice::parse(format!("{VERSION}\nstamp 1\n{tail}").as_bytes());
        }

        #[test]
        fn every_notice_is_read_as_it_was_written(
            stamp in any::<u64>(), number in "[^/@.\\p{Cc}]{1,60}",
            counts in any::<Option<[u32; 3]>>(), file in any::<Option<[u32; 2]>>()
        ) {
            let mailbox = Mailbox::new(&number, "default").unwrap();
            let file = file.map(|[process, number]| FileName { stamp, process, number });
            let notice = Notice { stamp, mailbox, counts, file };
            prop_assert!(notice.to_text().len() <= MAX_NOTICE);
            prop_assert_eq!(Notice::parse(notice.to_text().as_bytes()), Ok(notice));
        }
    }
}
