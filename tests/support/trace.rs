//! Reads the file that SIPp's `-trace_msg` writes.

use super::sip::Message;

/// Whether the phone sent or received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the phone.
    Sent,
    /// By the phone.
    Received,
}

/// One message that the phone saw.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Sent or received.
    pub way: Way,
    /// When, in seconds of its day.
    pub at: f64,
    /// The message.
    pub message: Message,
}

const RULE: &str = "-----------------------------------------------";
const SENT: &str = "UDP message sent (";
const RECEIVED: &str = "UDP message received [";

/// All messages of a trace, in order. One that SIPp is still writing is left for the next time.
///
/// Each is a line that tells way and length in bytes, a blank line, and so many bytes; rules with
/// a time stand between them. A message that the scenario did not expect is told of twice, the
/// second time without a length: that one is passed over.
pub fn parse(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut rest = text;
    let mut at = 0.0;
    while let Some((line, after)) = rest.split_once('\n') {
        rest = after;
        if let Some(time) = line.strip_prefix(RULE) {
            at = seconds(time.rsplit(' ').next().unwrap_or_default());
        }
        let (way, length) = if let Some(length) = line.strip_prefix(SENT) {
            (Way::Sent, length)
        } else if let Some(length) = line.strip_prefix(RECEIVED) {
            (Way::Received, length)
        } else {
            continue;
        };
        let digits = length.find(|c: char| !c.is_ascii_digit()).unwrap_or(length.len());
        let length: usize = length[..digits].parse().expect("SIPp writes the length");
        let Some(bytes) = rest.strip_prefix('\n').and_then(|after| after.get(..length)) else {
            break;
        };
        if let Some(message) = Message::parse(bytes) {
            entries.push(Entry { way, at, message });
        }
        rest = &rest[length + 1..];
    }
    entries
}

/// 09:46:24.331040, or 09:46:24:331.040 as other versions of SIPp write it.
fn seconds(time: &str) -> f64 {
    let mut parts = time.split(':').map(|part| part.parse().unwrap_or(0.0));
    let mut next = || parts.next().unwrap_or(0.0);
    next() * 3600.0 + next() * 60.0 + next() + next() / 1000.0
}
