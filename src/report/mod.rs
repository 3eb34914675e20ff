//! What an operator sees of the lamps: plain data, for `--json`, for HTTP and for a page; and the same
//! as aligned text, for a terminal. The daemon fills it in (src/daemon/reports.rs).

use mwid_core::summary::Summary;
use serde::Serialize;

mod account;
mod mailboxes;
mod pending;
mod table;

pub use account::{AccountReport, DialogReport, MailboxReport, PublicationReport};
pub use mailboxes::{MailboxLine, MailboxesReport};
pub use pending::{PendingAccount, PendingReport, Reason};
pub use table::Table;

/// Counts in the words of babble-drachtio-presence, which a PUT takes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// New messages, urgent ones included.
    pub newcount: u32,
    /// Old messages, urgent ones included.
    pub oldcount: u32,
    /// New urgent messages.
    pub newurgent: u32,
    /// Old urgent messages.
    pub oldurgent: u32,
}

impl From<Summary> for Counts {
    fn from(summary: Summary) -> Self {
        let Summary { new, old, new_urgent, old_urgent } = summary;
        Self { newcount: new, oldcount: old, newurgent: new_urgent, oldurgent: old_urgent }
    }
}

/// `3/5 (1/0)`, as `Voice-Message` has it (RFC 3842).
impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { newcount, oldcount, newurgent, oldurgent } = self;
        write!(f, "{newcount}/{oldcount} ({newurgent}/{oldurgent})")
    }
}

/// Counts for a person, who must not take what is not known for a zero.
fn shown(counts: Option<Counts>) -> String {
    counts.map_or_else(|| "not known".to_owned(), |counts| counts.to_string())
}
