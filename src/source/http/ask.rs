//! What the door asks the daemon's loop, and what it is told.

use mwid_core::mailbox::{Account, Mailbox, NameError};
use mwid_core::summary::Summary;
use serde_json::Value;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::report::{AccountReport, PendingReport};

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
    /// How are you? What `mwid status` says, without what may not be named.
    Status {
        /// Where the answer goes.
        reply: Reply<Value>,
    },
    /// Who waits, and why? Of those who may be named.
    Pending {
        /// How many are named one by one.
        limit: usize,
        /// Where the answer goes.
        reply: Reply<PendingReport>,
    },
    /// What was told in the last minutes? Of those who may be named.
    Recent {
        /// Where the answer goes.
        reply: Reply<Value>,
    },
    /// Everything that is counted?
    Metrics {
        /// Where the answer goes.
        reply: Reply<String>,
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
