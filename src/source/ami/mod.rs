//! AMI: Asterisk's manager, a TCP connection on which it tells of every change of a mailbox.
//!
//! Nothing that the manager tells in passing is believed as a count. An event `MessageWaiting` only
//! says that a mailbox changed; its `New` holds the urgent messages without saying how many they
//! are, and it may be older than what is known already. The answer to `MailboxCount` has all three
//! numbers as they are when it is asked, so that is asked, one mailbox at a time:
//!
//! | when | what is asked |
//! | --- | --- |
//! | at every connection, and every `rescan` seconds | `VoicemailUsersList`; then `MailboxCount` of each that has new messages |
//! | then, too | `MailboxCount` of each that is known from before and was not listed |
//! | a `MessageWaiting` came | `MailboxCount` of its mailbox |
//! | nothing was heard for a while | `Ping` |
//!
//! So what happened while nobody listened is known after the next login. A mailbox that is no longer
//! listed is not thereby empty (users of Asterisk's realtime never are listed): it is asked for like
//! the others, and what Asterisk counts is believed. What could not be asked stays as it was.
//!
//! One limit is Asterisk's own: where messages are in a database (ODBC) that fails, `MailboxCount`
//! answers 0 without a word of the failure, and externnotify is run with 0. The next full read finds
//! what there is.

use std::sync::Arc;

use mwid_core::mailbox::Mailbox;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Call;
use crate::config;

mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod health;
mod packet;
mod session;
mod task;

pub use health::{AmiHealth, Phase};

use health::Condition;
use session::Pace;
use task::Task;

/// How its calls are marked.
pub const AMI: &str = "ami";

/// The running source. Dropping it closes the connection.
#[derive(Debug)]
pub struct Ami {
    condition: Arc<Condition>,
    task: JoinHandle<()>,
}

impl Ami {
    /// Connects, and again whenever the connection ends, until this is dropped. `None` where no
    /// manager is configured. This never fails: a manager that is down is a state, not an error.
    /// `known`: mailboxes whose counts were given before. Must be called in a tokio runtime.
    #[must_use]
    pub fn start(
        settings: &config::Ami,
        known: impl IntoIterator<Item = Mailbox>,
        calls: mpsc::Sender<Call>,
        seed: u64,
    ) -> Option<Self> {
        let (host, login) = (settings.host.clone()?, settings.login.clone()?);
        let condition = Arc::new(Condition::new(host.to_string()));
        let pace = Pace { timeout: settings.timeout, rescan: settings.rescan };
        let task = Task::new(host, login, pace, known, calls, seed);
        let task = tokio::spawn(task.run(Arc::clone(&condition)));
        Some(Self { condition, task })
    }

    /// How the source is now.
    #[must_use]
    pub fn health(&self) -> AmiHealth {
        self.condition.health()
    }
}

impl Drop for Ami {
    fn drop(&mut self) {
        self.task.abort();
    }
}
