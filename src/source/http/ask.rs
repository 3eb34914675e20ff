//! What the door asks the daemon's loop, and what it is told.

use mwid_core::mailbox::{Account, Mailbox, NameError};
use mwid_core::summary::Summary;
use serde::Serialize;
use thiserror::Error;
use tokio::sync::oneshot;

/// Where an answer goes. Nobody may be left to hear it.
pub type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// A question on its way to the loop.
#[derive(Debug)]
pub enum Ask {
    /// The mailbox of this name holds these messages. Ready when they are taken in; then it may
    /// be waited until they are in the ledger.
    Give {
        /// The account: its user is the mailbox, its domain the context.
        account: Account,
        /// The counts.
        summary: Summary,
        /// Where the answer goes.
        reply: Reply<oneshot::Receiver<()>>,
    },
    /// What waits for this account?
    Summary {
        /// The account.
        account: Account,
        /// Where the answer goes.
        reply: Reply<Summary>,
    },
    /// All that is known of this account.
    Account {
        /// The account.
        account: Account,
        /// Where the answer goes.
        reply: Reply<AccountReport>,
    },
    /// Tell all phones of this account once more.
    Resend {
        /// The account.
        account: Account,
        /// Where the answer goes.
        reply: Reply<Summary>,
    },
}

/// Why the loop did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Nobody has ever said what waits for this account, and no phone watches it.
    #[error("nothing is known of {0}")]
    Unknown(Account),
    /// The account is known, or may be; its counts are not known now.
    #[error(
        "what waits for {0} is not known now: it is not counted yet, or a mailbox cannot be read"
    )]
    Unsure(Account),
    /// The configuration has this mailbox for others.
    #[error("[contexts] and [mailboxes] say that the mailbox {mailbox} is not one of {account}")]
    NotItsMailbox {
        /// The account.
        account: Account,
        /// The mailbox of the same name.
        mailbox: Mailbox,
    },
    /// An account that can have no mailbox of its name.
    #[error("{0}")]
    NoMailbox(#[from] NameError),
    /// Another mwid tells this account.
    #[error("{account} is told by {}; ask there", node.as_deref().unwrap_or("nobody now"))]
    Elsewhere {
        /// The account.
        account: Account,
        /// Which one.
        node: Option<String>,
    },
    /// The database does not answer.
    #[error("{0}")]
    Database(String),
}

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

/// All that is known of an account.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AccountReport {
    /// `sip:202@example.com`
    pub account: String,
    /// What its phones must show: the sum of its mailboxes. `None` while that is not known.
    pub summary: Option<Counts>,
    /// The mailboxes that light it.
    pub mailboxes: Vec<MailboxReport>,
    /// Its live subscriptions.
    pub dialogs: Vec<DialogReport>,
    /// What presence servers were told of it.
    pub publications: Vec<PublicationReport>,
}

impl AccountReport {
    /// Itself, unless nothing is known of the account.
    #[must_use]
    pub fn known(self) -> Option<Self> {
        let is_nothing =
            self.mailboxes.is_empty() && self.dialogs.is_empty() && self.publications.is_empty();
        (!is_nothing).then_some(self)
    }
}

/// One mailbox of an account.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MailboxReport {
    /// `202@default`
    pub mailbox: String,
    /// What it holds; `None` while that is not known.
    pub summary: Option<Counts>,
}

/// One live subscription of an account, as the database has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DialogReport {
    /// The row.
    pub id: i64,
    /// Call-ID.
    pub call_id: Option<String>,
    /// The phone's remote target.
    pub contact: Option<String>,
    /// When the subscription ends, Unix seconds.
    pub expires: Option<i64>,
    /// The CSeq that was last on the wire.
    pub cseq: Option<i64>,
    /// What the phone last acknowledged; `None` when it is not known what it shows.
    pub acknowledged: Option<Counts>,
    /// Why mwid cannot use the row.
    pub problem: Option<String>,
}

/// What one server was told of an account, by one way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PublicationReport {
    /// `publish`, `opensips-mi`, …
    pub way: &'static str,
    /// `current`, `waiting`, `under way`, `paused` or `leaving`.
    pub state: &'static str,
    /// What the server took last; `None` when that is not known.
    pub accepted: Option<Counts>,
    /// Whether the server's entity-tag is known.
    pub has_etag: bool,
    /// Seconds until it ends at the server, unless it is refreshed; `None` for never, or when that
    /// is not known.
    pub remaining_seconds: Option<u64>,
    /// Seconds until it is tried again.
    pub retry_seconds: Option<u64>,
    /// Why the last step came to nothing.
    pub why: Option<String>,
}
