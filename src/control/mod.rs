//! The control socket: how `mwid status` and its siblings talk to the running daemon.
//!
//! One JSON line asks, one JSON line answers; after the answer to `watch` each line is a
//! [`Line`](crate::feed::Line), until one side goes away. The daemon makes both the text that a person reads
//! and the data that a script does, so that the two never differ.

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

pub mod client;
pub mod server;

/// What can be asked of the running daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// How mwid is, and how much is left to do.
    Status,
    /// The rows of an account.
    ShowSubscription {
        /// User part of the account.
        user: String,
        /// Domain part of the account.
        domain: String,
    },
    /// All that is known of an account.
    ShowAccount {
        /// User part of the account.
        user: String,
        /// Domain part of the account.
        domain: String,
    },
    /// The accounts that wait, and why.
    ShowPending {
        /// How many of them are shown one by one.
        limit: u32,
    },
    /// A page of mailboxes.
    ShowMailboxes {
        /// Of this voicemail context alone.
        context: Option<String>,
        /// Those after this one, in their order.
        after: Option<String>,
        /// As many.
        limit: u32,
    },
    /// Tell the account's phones these counts, until its mailboxes are counted next.
    Notify {
        /// User part of the account.
        user: String,
        /// Domain part of the account.
        domain: String,
        /// New messages.
        new: u32,
        /// Old messages.
        old: u32,
    },
    /// Print each NOTIFY and its answer, or stop doing so.
    Debug {
        /// Whether to print.
        on: bool,
        /// Those of this account alone: `202@example.com`.
        #[serde(default)]
        account: Option<String>,
    },
    /// What happens from now on, line by line: of everybody, or of one account.
    Watch {
        /// `202@example.com`
        account: Option<String>,
    },
    /// The mailboxes of this context that are not where they were are gone for good.
    Forget {
        /// The voicemail context.
        context: String,
    },
    /// End the subscriptions that the agent took and take no new ones, or take them again.
    Drain {
        /// Whether to end them.
        on: bool,
    },
    /// Read the configuration again.
    Reload,
}

impl Command {
    /// Whether it asks for what comes after a first page.
    fn is_later_page(&self) -> bool {
        matches!(self, Self::ShowMailboxes { after: Some(_), .. })
    }
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// For a person.
    pub text: String,
    /// For a script.
    pub data: serde_json::Value,
    /// The exit code of the command: 0 when what was asked for is so.
    pub code: u8,
}

/// A command on its way to the daemon's loop, with where the answer goes.
#[derive(Debug)]
pub struct Request {
    /// The command.
    pub command: Command,
    /// Where the answer goes. Nobody may be left to hear it.
    pub reply: oneshot::Sender<Answer>,
}

impl Answer {
    /// Nothing was done, and why.
    #[must_use]
    pub fn refused(problem: impl Into<String>) -> Self {
        let text = problem.into();
        Self { data: serde_json::json!({ "error": text }), text, code: 1 }
    }
}

/// Asks the daemon from within its own process; `None` when it has stopped.
pub async fn ask(requests: &mpsc::Sender<Request>, command: Command) -> Option<Answer> {
    let (reply, answer) = oneshot::channel();
    requests.send(Request { command, reply }).await.ok()?;
    answer.await.ok()
}
