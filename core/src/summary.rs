//! The message summary of RFC 3842: how many messages wait, and the body that says so.

use std::fmt;

use crate::mailbox::Account;
use crate::text::{Piece, put};

mod read;

pub use read::{BodyError, MAX_BODY};

/// The counts of one account or mailbox (RFC 3842 §3.5).
///
/// `new` and `old` are totals: they **include** the urgent ones, as `Voice-Message: new/old
/// (new-urgent/old-urgent)` means them. Asterisk's `externnotify` and its folders count urgent
/// messages apart; [`Summary::from_asterisk`] adds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Summary {
    /// New messages, urgent ones included.
    pub new: u32,
    /// Old (heard) messages, urgent ones included.
    pub old: u32,
    /// New urgent messages.
    pub new_urgent: u32,
    /// Old urgent messages.
    pub old_urgent: u32,
}

impl Summary {
    /// The counts as Asterisk has them: `INBOX`, `Old` and `Urgent` counted apart. Asterisk moves
    /// an urgent message that was heard to `Old`, so urgent ones are always new.
    #[must_use]
    pub fn from_asterisk(inbox: u32, old: u32, urgent: u32) -> Self {
        Self { new: inbox.saturating_add(urgent), old, new_urgent: urgent, old_urgent: 0 }
    }

    /// Whether the lamp is on (`Messages-Waiting`): there is a new message.
    #[must_use]
    pub fn waiting(&self) -> bool {
        self.new > 0
    }

    /// The counts of two mailboxes of one account together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            new: self.new.saturating_add(other.new),
            old: self.old.saturating_add(other.old),
            new_urgent: self.new_urgent.saturating_add(other.new_urgent),
            old_urgent: self.old_urgent.saturating_add(other.old_urgent),
        }
    }

    /// Writes the `application/simple-message-summary` body: `Messages-Waiting`, then
    /// `Message-Account`, then `Voice-Message`, each ended by CRLF (RFC 3842 §5.2).
    ///
    /// `voicemail` is the extension that a phone dials to hear its messages (`vmexten`); without
    /// one the account itself is named.
    pub fn write_body(&self, out: &mut Vec<u8>, account: &Account, voicemail: Option<&str>) {
        let user = voicemail.unwrap_or(account.user());
        self.write_status(out);
        put!(out, "Message-Account: sip:", user, "@", account.domain(), "\r\n");
        self.write_counts(out);
    }

    /// Writes the body as SIPxchange 2.4 and earlier had it: without `Message-Account`.
    pub fn write_old_body(&self, out: &mut Vec<u8>) {
        self.write_status(out);
        self.write_counts(out);
    }

    fn write_status(&self, out: &mut Vec<u8>) {
        put!(out, "Messages-Waiting: ", if self.waiting() { "yes" } else { "no" }, "\r\n");
    }

    fn write_counts(&self, out: &mut Vec<u8>) {
        put!(out, "Voice-Message: ", self, "\r\n");
    }
}

/// `3/5 (1/0)`, the value of `Voice-Message`.
impl Piece for Summary {
    #[inline]
    fn put(&self, out: &mut Vec<u8>) {
        let Self { new, old, new_urgent, old_urgent } = *self;
        put!(out, new, "/", old, " (", new_urgent, "/", old_urgent, ")");
    }
}

/// As in `Voice-Message`.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::with_capacity(32);
        self.put(&mut out);
        f.write_str(&String::from_utf8_lossy(&out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn body(summary: Summary, voicemail: Option<&str>) -> String {
        let mut out = Vec::new();
        summary.write_body(&mut out, &"202@example.com".parse().unwrap(), voicemail);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rfc3842_5_2_body_has_its_three_lines_in_order() {
        assert_eq!(
            body(Summary { new: 3, old: 5, new_urgent: 1, old_urgent: 0 }, Some("*97")),
            "Messages-Waiting: yes\r\nMessage-Account: sip:*97@example.com\r\nVoice-Message: 3/5 (1/0)\r\n"
        );
        assert_eq!(
            body(Summary::default(), None),
            "Messages-Waiting: no\r\nMessage-Account: sip:202@example.com\r\nVoice-Message: 0/0 (0/0)\r\n"
        );
    }

    #[test]
    fn the_body_of_sipxchange_2_4_has_two_lines() {
        let mut out = Vec::new();
        Summary { new: 3, old: 5, new_urgent: 1, old_urgent: 0 }.write_old_body(&mut out);
        assert_eq!(out, b"Messages-Waiting: yes\r\nVoice-Message: 3/5 (1/0)\r\n");
    }

    #[test]
    fn asterisk_counts_urgent_apart_and_rfc3842_does_not() {
        // Measured: externnotify said [0] [0] [2] for two urgent messages.
        assert_eq!(Summary::from_asterisk(0, 0, 2).to_string(), "2/0 (2/0)");
    }

    proptest! {
        #[test]
        fn sums_never_overflow_and_urgent_never_exceeds_the_total(
            a in any::<[u32; 3]>(), b in any::<[u32; 3]>()
        ) {
            let sum = Summary::from_asterisk(a[0], a[1], a[2])
                .plus(Summary::from_asterisk(b[0], b[1], b[2]));
            prop_assert!(sum.new_urgent <= sum.new);
            prop_assert!(sum.old_urgent <= sum.old);
            prop_assert_eq!(sum.new, (a[0].saturating_add(a[2])).saturating_add(b[0].saturating_add(b[2])));
        }
    }
}
