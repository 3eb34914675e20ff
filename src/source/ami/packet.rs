//! What the manager sends: lines `Key: value`, each ended by CRLF, and an empty line behind each
//! packet. Most packets are events that mwid has no use for; they are passed over line by line, and
//! nothing of them is kept.

use super::error::AmiError;

/// The longest line that is looked at, in bytes; the rest of a longer one is passed over, as is the
/// line: nothing that mwid reads is that long.
pub(super) const MAX_LINE: usize = 8 * 1024;

/// The longest packet, in bytes.
pub(super) const MAX_PACKET: usize = 256 * 1024;

/// The most of a hostile text that is printed, in characters.
const SHOWN: usize = 80;

/// One thing that the manager said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    /// The first line of a connection.
    Banner(String),
    /// An event `MessageWaiting`.
    Changed(Counts),
    /// An event `VoicemailUserEntry`; the mailbox is without its context.
    User {
        /// The mailbox, with its totals.
        counts: Counts,
        /// Its context.
        context: String,
    },
    /// The event `VoicemailUserEntryComplete`.
    ListEnd {
        /// Of which action.
        id: Option<u64>,
    },
    /// A response to an action.
    Answer(Answer),
    /// An event that mwid has no use for.
    Other,
}

/// A mailbox and numbers about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// The mailbox, as it was written.
    pub(super) mailbox: String,
    /// `New`, `NewMessageCount`: urgent ones included.
    pub(super) new: Option<u32>,
    /// `Old`, `OldMessageCount`.
    pub(super) old: Option<u32>,
    /// Of which action.
    pub(super) id: Option<u64>,
}

/// A response to an action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Which action: our own number of it.
    pub(super) id: Option<u64>,
    /// Whether it was done.
    pub(super) success: bool,
    /// Words for people.
    pub(super) message: String,
    /// What a login has to answer.
    pub(super) challenge: Option<String>,
    /// Whether a list follows.
    pub(super) list: bool,
    /// `NewMessages`: without the urgent ones.
    pub(super) new: Option<u32>,
    /// `OldMessages`
    pub(super) old: Option<u32>,
    /// `UrgMessages`
    pub(super) urgent: Option<u32>,
}

/// Finds packets in a stream of bytes. Its memory is bounded whatever comes.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    /// The line in `partial` is too long: its rest is passed over.
    overlong: bool,
    /// Whether the banner has been read.
    greeted: bool,
    /// Bytes of the packet so far.
    size: usize,
    packet: Option<Packet>,
}

impl Scanner {
    /// Takes bytes from `input` up to the end of the next packet; `None` when all are taken.
    ///
    /// # Errors
    /// [`AmiError`] for what no manager sends; the connection is of no use then.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Packet>, AmiError> {
        while let Some(end) = input.iter().position(|&byte| byte == b'\n') {
            let line = &input[..end];
            *input = &input[end + 1..];
            self.grow(line.len() + 1)?;
            let taken = if std::mem::take(&mut self.overlong) || line.len() > MAX_LINE {
                self.partial.clear();
                continue;
            } else if self.partial.is_empty() {
                self.line(line)?
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                let taken = self.line(&whole)?;
                whole.clear();
                self.partial = whole;
                taken
            };
            if let Some(packet) = taken {
                self.size = 0;
                return Ok(Some(packet));
            }
        }
        let rest = std::mem::take(input);
        self.grow(rest.len())?;
        self.overlong |= self.partial.len() + rest.len() > MAX_LINE;
        if self.overlong {
            self.partial.clear();
        } else {
            self.partial.extend_from_slice(rest);
        }
        Ok(None)
    }

    fn grow(&mut self, bytes: usize) -> Result<(), AmiError> {
        self.size += bytes;
        if self.size > MAX_PACKET { Err(AmiError::TooLong { limit: MAX_PACKET }) } else { Ok(()) }
    }

    /// One line, without its LF. Gives the packet that it ends.
    fn line(&mut self, line: &[u8]) -> Result<Option<Packet>, AmiError> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !self.greeted {
            self.greeted = true;
            return Ok(Some(Packet::Banner(cut(line))));
        }
        if line.is_empty() {
            return Ok(self.packet.take());
        }
        match &mut self.packet {
            Some(Packet::Other) => {}
            Some(packet) => {
                if let Some((key, value)) = split(line) {
                    packet.field(key, value);
                }
            }
            None => {
                let first = split(line).and_then(|(key, value)| Packet::begin(key, value));
                self.packet = Some(first.ok_or_else(|| AmiError::Rubbish { line: cut(line) })?);
            }
        }
        Ok(None)
    }
}

impl Packet {
    /// The packet that this line is the first of.
    fn begin(key: &[u8], value: &[u8]) -> Option<Self> {
        if key.eq_ignore_ascii_case(b"Response") {
            let success = !value.eq_ignore_ascii_case(b"Error");
            return Some(Self::Answer(Answer { success, ..Answer::default() }));
        }
        key.eq_ignore_ascii_case(b"Event").then(|| match value {
            b"MessageWaiting" => Self::Changed(Counts::default()),
            b"VoicemailUserEntry" => {
                Self::User { counts: Counts::default(), context: String::new() }
            }
            b"VoicemailUserEntryComplete" => Self::ListEnd { id: None },
            _ => Self::Other,
        })
    }

    fn field(&mut self, key: &[u8], value: &[u8]) {
        match self {
            Self::Changed(counts) => counts.field(key, value),
            Self::User { context, .. } if key == b"VMContext" => *context = text(value),
            Self::User { counts, .. } => counts.field(key, value),
            Self::ListEnd { id } if key == b"ActionID" => *id = number(value),
            Self::Answer(answer) => answer.field(key, value),
            Self::ListEnd { .. } | Self::Banner(_) | Self::Other => {}
        }
    }
}

impl Counts {
    fn field(&mut self, key: &[u8], value: &[u8]) {
        match key {
            b"Mailbox" | b"VoiceMailbox" => self.mailbox = text(value),
            b"New" | b"NewMessageCount" => self.new = number(value),
            b"Old" | b"OldMessageCount" => self.old = number(value),
            b"ActionID" => self.id = number(value),
            _ => {}
        }
    }
}

impl Answer {
    fn field(&mut self, key: &[u8], value: &[u8]) {
        match key {
            b"ActionID" => self.id = number(value),
            b"Message" => self.message = cut(value),
            b"Challenge" => self.challenge = Some(text(value)),
            b"EventList" => self.list = value.eq_ignore_ascii_case(b"start"),
            b"NewMessages" => self.new = number(value),
            b"OldMessages" => self.old = number(value),
            b"UrgMessages" => self.urgent = number(value),
            _ => {}
        }
    }
}

/// `Key: value`; the value may be empty, or absent with its space.
fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let (key, value) = (&line[..colon], &line[colon + 1..]);
    Some((key, value.trim_ascii()))
}

/// A text that is looked at by its own gate later; what is not UTF-8 does not pass that.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// The beginning of a text, for people.
fn cut(value: &[u8]) -> String {
    let value = &value[..value.len().min(4 * SHOWN)];
    String::from_utf8_lossy(value).chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

/// Digits only: no sign, no space.
fn number<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(value).ok()?.parse().ok())?
}

#[cfg(test)]
mod tests;
