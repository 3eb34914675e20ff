//! Sources: who says that a mailbox may have changed. One file each; all say it as an
//! [`Observation`] on one channel.

use mwid_core::mailbox::Mailbox;
use mwid_core::reconciler::Urgency;
use mwid_core::summary::Summary;

pub mod ami;
pub mod ask;
pub mod externnotify;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod http;
mod receipt;
pub mod spool;
mod voicemail_out;

pub use receipt::Receipt;

/// Somebody outside said that a mailbox changed, and perhaps what it holds now.
#[derive(Debug)]
pub struct Call {
    /// The mailbox.
    pub mailbox: Mailbox,
    /// Its counts, when they were given.
    pub given: Option<Summary>,
    /// When that was, nanoseconds since 1970; they may be newer.
    pub stamp: u64,
    /// Who waits until the counts are safe.
    pub receipt: Option<Receipt>,
    /// Which source says so, for counters: `externnotify`, `http`, `ami`.
    pub source: &'static str,
}

/// What a source says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// A mailbox holds these messages now.
    Counted {
        /// The mailbox.
        mailbox: Mailbox,
        /// Its counts.
        summary: Summary,
        /// Why it was counted, for counters: `spool`, or `call` when a call asked for it.
        source: &'static str,
        /// Whether it just changed, or was only counted again.
        urgency: Urgency,
        /// Counts that a call gave need not be remembered any more. False while these
        /// messages may only be passing through the spool.
        sure: bool,
    },
    /// A call gave the counts of a mailbox that no spool can count: nobody else knows them.
    Given {
        /// The mailbox.
        mailbox: Mailbox,
        /// Its counts.
        summary: Summary,
    },
    /// A mailbox could not be counted; its last counts are no longer sure.
    Failed(Mailbox),
    /// A context of the spool is the folder with this inode: after a restart that tells it from
    /// another one, an empty mount point for example.
    Listed {
        /// The context.
        context: Box<str>,
        /// Its folder.
        inode: u64,
    },
    /// The first full count has ended: what was not seen is not there.
    Complete,
}
