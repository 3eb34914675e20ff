//! The command line of externnotify, as Asterisk writes it:
//! `CONTEXT MAILBOX [NEW [OLD [URGENT]]]`.

use std::ffi::OsString;
use std::path::PathBuf;

use mwid_core::mailbox::{Mailbox, NameError};
use thiserror::Error;

use super::Doors;
use super::notice::number;

/// What `--help` prints.
pub(super) const USAGE: &str = "\
Tells mwid that a voicemail box changed. Asterisk runs it (voicemail.conf):

    externnotify = /usr/bin/mwid-externnotify

Usage: mwid-externnotify [OPTIONS] CONTEXT MAILBOX [NEW [OLD [URGENT]]]
       mwid externnotify [OPTIONS] CONTEXT MAILBOX [NEW [OLD [URGENT]]]

  CONTEXT      voicemail context; \"\" is the context of MAILBOX, or default
  MAILBOX      number, or number@context
  NEW          new messages without the urgent ones
  OLD          heard messages
  URGENT       urgent messages
               Counts are used where mwid cannot count the spool itself.

Options:
  --socket PATH  where mwid listens [default: /run/mwid/externnotify.sock]
  --drop DIR     where to leave the notice until mwid has it safe
                 [default: /var/lib/mwid/drop]
  --help         print this

Exit codes: 0 left for mwid or delivered, 1 neither, 2 bad arguments.
";

/// What the arguments ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Help,
    Send(Arguments),
}

/// The arguments of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) mailbox: Mailbox,
    pub(super) counts: Option<[u32; 3]>,
    pub(super) socket: PathBuf,
    pub(super) drop: PathBuf,
}

/// Why the arguments were refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum ArgumentError {
    #[error("{missing} is missing; write CONTEXT MAILBOX [NEW [OLD [URGENT]]]")]
    Missing { missing: &'static str },
    #[error("{value:?} is one argument too many; write CONTEXT MAILBOX [NEW [OLD [URGENT]]]")]
    TooMany { value: OsString },
    #[error("the option {option} is unknown; there are --socket PATH, --drop DIR and --help")]
    Unknown { option: String },
    #[error("{name} is {value:?}, which is no number of messages")]
    Count { name: &'static str, value: OsString },
    #[error("{value:?} is not UTF-8")]
    Encoding { value: OsString },
    #[error("MAILBOX is in context {inner:?}, but CONTEXT is {outer:?}")]
    TwoContexts { inner: String, outer: String },
    #[error(transparent)]
    Name(#[from] NameError),
}

/// Reads the arguments that follow the name of the command. `doors` are where the daemon is unless
/// they say otherwise.
pub(super) fn parse(
    args: impl Iterator<Item = OsString>,
    doors: Doors,
) -> Result<Wish, ArgumentError> {
    let Doors { mut socket, mut drop } = doors;
    let mut words = Vec::new();
    let mut args = args.peekable();
    let mut options = true;
    while let Some(arg) = args.next() {
        // Options come first: what follows is data, whatever it looks like.
        if !options || !arg.as_encoded_bytes().starts_with(b"--") {
            options = false;
            words.push(arg);
            continue;
        }
        let text = arg.to_str().ok_or(ArgumentError::Encoding { value: arg.clone() })?;
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(OsString::from(value))),
            None => (text, None),
        };
        let mut path = |missing| {
            let value = value.clone().or_else(|| args.next());
            value.map(PathBuf::from).ok_or(ArgumentError::Missing { missing })
        };
        match name {
            "--" => options = false,
            "--help" => return Ok(Wish::Help),
            "--socket" => socket = path("the PATH of --socket")?,
            "--drop" => drop = path("the DIR of --drop")?,
            _ => return Err(ArgumentError::Unknown { option: name.to_owned() }),
        }
    }
    let mut words = words.into_iter();
    let context = text(words.next(), "CONTEXT")?;
    let mailbox = mailbox(&text(words.next(), "MAILBOX")?, &context)?;
    let counts = counts(&mut words)?;
    match words.next() {
        Some(value) => Err(ArgumentError::TooMany { value }),
        None => Ok(Wish::Send(Arguments { mailbox, counts, socket, drop })),
    }
}

fn text(arg: Option<OsString>, missing: &'static str) -> Result<String, ArgumentError> {
    let arg = arg.ok_or(ArgumentError::Missing { missing })?;
    arg.into_string().map_err(|value| ArgumentError::Encoding { value })
}

fn mailbox(mailbox: &str, context: &str) -> Result<Mailbox, ArgumentError> {
    let (number, inner) = match mailbox.split_once('@') {
        Some((number, inner)) => (number, Some(inner)),
        None => (mailbox, None),
    };
    let context = match inner {
        Some(inner) if context.is_empty() || inner == context => inner,
        Some(inner) => {
            let (inner, outer) = (inner.to_owned(), context.to_owned());
            return Err(ArgumentError::TwoContexts { inner, outer });
        }
        None if context.is_empty() => "default",
        None => context,
    };
    Ok(Mailbox::new(number, context)?)
}

/// An old Asterisk gives fewer counts; those that it does not know are 0.
fn counts(words: &mut impl Iterator<Item = OsString>) -> Result<Option<[u32; 3]>, ArgumentError> {
    let mut counts = None;
    for (index, name) in ["NEW", "OLD", "URGENT"].into_iter().enumerate() {
        let Some(value) = words.next() else { break };
        let count = value.to_str().and_then(number).ok_or(ArgumentError::Count { name, value })?;
        counts.get_or_insert([0; 3])[index] = count;
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::externnotify::{DEFAULT_DROP, DEFAULT_SOCKET};

    fn parsed(args: &[&str]) -> Result<Wish, ArgumentError> {
        parse(args.iter().map(OsString::from), Doors::default())
    }

    fn sent(args: &[&str]) -> Arguments {
        match parsed(args) {
            Ok(Wish::Send(arguments)) => arguments,
            other => panic!("{args:?} gave {other:?}"),
        }
    }

    #[test]
    fn asterisk_writes_it_like_this() {
        let call = sent(&["default", "202", "1", "0", "0"]);
        assert_eq!(
            (call.mailbox.to_string(), call.counts),
            ("202@default".into(), Some([1, 0, 0]))
        );
        assert_eq!((call.socket, call.drop), (DEFAULT_SOCKET.into(), DEFAULT_DROP.into()));
        assert_eq!(sent(&["example.com", "300", "0", "0", "2"]).counts, Some([0, 0, 2]));
        assert_eq!(sent(&["", "202"]).mailbox.to_string(), "202@default");
        assert_eq!(sent(&["", "202@a"]).mailbox.to_string(), "202@a");
        assert_eq!(sent(&["a", "202@a", "3"]).counts, Some([3, 0, 0]));
    }

    #[test]
    fn options_come_first() {
        let call = sent(&["--socket", "/s", "--drop=/d", "--", "default", "--202"]);
        assert_eq!((call.socket, call.drop), ("/s".into(), "/d".into()));
        assert_eq!(call.mailbox.number(), "--202");
        assert_eq!(parsed(&["--help"]), Ok(Wish::Help));
        assert!(USAGE.contains(DEFAULT_SOCKET) && USAGE.contains(DEFAULT_DROP));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for bad in [
            &[][..],
            &["default"],
            &["--drop"],
            &["--sockets", "/s", "default", "202"],
            &["default", "202", "-1"],
            &["default", "202", "1", "x"],
            &["default", "202", "4294967296"],
            &["default", "202", ""],
            &["default", "202", "1", "2", "3", "4"],
            &["default", "../202"],
            &["default", "202\nEvil: 1"],
            &["..", "202"],
            &["b", "202@a"],
            &["", ""],
        ] {
            assert!(parsed(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
