//! Sources: who says that a mailbox may have changed. One file each; all say it as an
//! [`Observation`] on one channel.

use mwid_core::mailbox::Mailbox;
use mwid_core::summary::Summary;

pub mod externnotify;
pub mod spool;

/// What a source says: this mailbox holds these messages now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The mailbox.
    pub mailbox: Mailbox,
    /// Its counts.
    pub summary: Summary,
    /// Which source says so, for logs and counters: `spool`, `externnotify`, …
    pub source: &'static str,
}
