//! Sources: who says that a mailbox may have changed. One file each; all say it as an
//! [`Observation`] on one channel.

use mwid_core::mailbox::Mailbox;
use mwid_core::reconciler::Urgency;
use mwid_core::summary::Summary;

pub mod externnotify;
pub mod spool;

/// What a source says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// A mailbox holds these messages now.
    Counted {
        /// The mailbox.
        mailbox: Mailbox,
        /// Its counts.
        summary: Summary,
        /// Which source says so, for logs and counters: `spool`, `externnotify`, …
        source: &'static str,
        /// Whether it just changed, or was only counted again.
        urgency: Urgency,
        /// Counts that externnotify gave need not be remembered any more. False while these
        /// messages may only be passing through the spool.
        sure: bool,
    },
    /// externnotify gave the counts of a mailbox that no spool can count: nobody else knows them.
    Given {
        /// The mailbox.
        mailbox: Mailbox,
        /// Its counts.
        summary: Summary,
    },
    /// A mailbox could not be counted; its last counts are no longer sure.
    Failed(Mailbox),
    /// The first full count has ended: what was not seen is not there.
    Complete,
}
