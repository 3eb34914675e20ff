//! The spool: Asterisk's voicemail folders, `<path>/<context>/<mailbox>/{INBOX,Old,Urgent}`.
//!
//! A thread of its own counts every mailbox at the start, then whenever the kernel says that one
//! changed, and all of them again every `rescan` seconds. Where the kernel says nothing (NFS) or
//! cannot watch everything, a sweep compares the times of the folders.
//!
//! What is counted is said; what cannot be counted is tried again and never guessed:
//!
//! | what happened | what is observed |
//! | --- | --- |
//! | a folder of a mailbox is missing | 0 messages in it |
//! | the folder of a mailbox was removed from its context | 0 messages, once |
//! | a folder is there and cannot be read | nothing, until it can |
//! | the root or a context is gone, empty after an unmount, or another folder than before | nothing, until it is back |
//! | the same, seen from before a restart: a mailbox or context that was there is not | the same |
//! | a call counted messages, and the mailbox has none | what the call counted (belief.rs) |
//! | a mailbox has none of its three folders and never had | nothing: its messages are elsewhere |

use std::path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use mwid_core::mailbox::Mailbox;
use mwid_core::summary::Summary;
use tokio::sync::mpsc;

use super::Observation;
use crate::config;

mod belief;
mod count;
mod counting;
#[cfg(fuzzing)]
pub mod fuzzing;
mod health;
mod listing;
mod names;
mod owners;
mod pending;
mod signals;
mod tree;
mod watch;
mod worker;

pub(crate) use listing::{context_of, list, mailbox_of};

pub use health::{FullCount, RootState, SpoolHealth, Subject, Trouble};

use belief::Beliefs;
use health::Condition;
use signals::Signals;
use tree::Tree;
use worker::Worker;

/// What is known from before a restart.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// What calls said and no folder has confirmed.
    pub given: Vec<(Mailbox, Summary)>,
    /// Mailboxes that held messages: looked for, and counted as empty where they are gone.
    pub mailboxes: Vec<Mailbox>,
    /// Which folder each context was, by its inode.
    pub contexts: Vec<(Box<str>, u64)>,
}

/// The running source. Dropping it ends its thread, at the latest when the receiver of the
/// observations takes one or is dropped.
#[derive(Debug)]
pub struct Spool {
    signals: Arc<Signals>,
    condition: Arc<Condition>,
    thread: Option<JoinHandle<()>>,
}

impl Spool {
    /// Starts to count and to watch. This never fails: a spool that is not there yet is a state
    /// ([`RootState::Absent`]), not an error. Observations wait while `observations` is full.
    #[must_use]
    pub fn start(
        settings: &config::Spool,
        past: Past,
        observations: mpsc::Sender<Observation>,
    ) -> Self {
        let mut beliefs = Beliefs::default();
        past.given.iter().for_each(|(mailbox, given)| beliefs.hear(mailbox, *given));
        let tree = Tree::expecting(past.mailboxes, past.contexts);
        let mut settings = settings.clone();
        settings.path = path::absolute(&settings.path).unwrap_or(settings.path);
        let signals = Arc::new(Signals::default());
        let condition = Arc::new(Condition::new(settings.path.clone()));
        let (heard, shown) = (Arc::clone(&signals), Arc::clone(&condition));
        let thread = thread::Builder::new()
            .name("spool".to_owned())
            .spawn(move || Worker::new(settings, heard, shown, (beliefs, tree), observations).run())
            .inspect_err(|error| tracing::error!(%error, "no thread for the spool"))
            .ok();
        Self { signals, condition, thread }
    }

    /// externnotify named a mailbox. It is counted at once; where the spool has no such mailbox,
    /// cannot read it or holds no messages of it, `given` is observed. Never blocks. False: too many mailboxes are waiting,
    /// `given` was not taken; everything will be counted instead.
    pub fn nudge(&self, mailbox: Mailbox, given: Option<Summary>) -> bool {
        self.signals.nudge(mailbox, given)
    }

    /// Counts everything now and says all of it.
    pub fn rescan(&self) {
        self.signals.tell(|batch| batch.rescan = true);
    }

    /// The mailboxes of this context that are not where they were are gone for good: they are
    /// observed as empty. False: none is missed there.
    pub fn forget(&self, context: &str) -> bool {
        let is_missed = self.condition.is_troubled(&Subject::Context(context.into()));
        if is_missed {
            self.signals.tell(|batch| batch.forget(context));
        }
        is_missed
    }

    /// How the source is now.
    #[must_use]
    pub fn health(&self) -> SpoolHealth {
        self.health_of(|_| true)
    }

    /// The same, with the troubles of these subjects; all are counted.
    #[must_use]
    pub fn health_of(&self, is_shown: impl Fn(&Subject) -> bool) -> SpoolHealth {
        let mut health = self.condition.health(is_shown);
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            health.root = RootState::Stopped;
        }
        health
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.signals.tell(|batch| batch.stop = true);
    }
}
