//! What the sources say, taken in: counts for the pure parts, and what the ledger must remember.

use mwid_core::mailbox::Mailbox;
use mwid_core::reconciler::Urgency;
use mwid_core::summary::Summary;

use super::Daemon;
use crate::ledger::{Given, Memory};
use crate::source::Observation;
use crate::source::externnotify::Call;

impl Daemon {
    pub(super) fn remember(&mut self, memory: Memory) {
        self.reconciler.remember(memory.dialogs);
        for Given { mailbox, summary, .. } in memory.mailboxes {
            self.counted(&mailbox, summary, Urgency::CatchUp);
            self.given.insert(mailbox, summary);
        }
    }

    pub(super) fn observe(&mut self, observation: Observation) {
        match observation {
            Observation::Counted { mailbox, summary, source, urgency, sure } => {
                self.counters.observed(source);
                if sure && self.given.remove(&mailbox).is_some() {
                    self.ledger.not_given(&mailbox);
                }
                self.counted(&mailbox, summary, urgency);
            }
            Observation::Given { mailbox, summary } => {
                self.counters.observed("externnotify");
                self.counted(&mailbox, summary, Urgency::Fresh);
                // The ledger has them since the call, unless the spool had the mailbox meanwhile.
                if !self.given.contains_key(&mailbox) {
                    self.given.insert(mailbox.clone(), summary);
                    self.ledger.given(Given { mailbox, summary, stamp: 0 }, None);
                }
            }
            Observation::Failed(mailbox) => self.mailboxes.fail(&mailbox),
            Observation::Complete => {
                if self.spool.is_some() {
                    tracing::info!(mailboxes = self.mailboxes.len(), "the spool has been counted");
                }
                for (account, summary) in self.mailboxes.complete() {
                    self.reconciler.set(&account, summary, Urgency::CatchUp, false);
                }
            }
        }
    }

    fn counted(&mut self, mailbox: &Mailbox, summary: Summary, urgency: Urgency) {
        match self.mailboxes.observe(mailbox, summary) {
            Ok(sums) => {
                for (account, summary) in sums {
                    self.reconciler.set(&account, summary, urgency, false);
                }
            }
            Err(error) => self.said.unmapped(mailbox, &error),
        }
    }

    /// Asterisk called: the spool counts the mailbox where it has it; where it does not, or there
    /// is no spool, the counts of the call are the truth. Until that is known the ledger has them.
    pub(super) fn call(&mut self, call: Call) {
        let Call { mailbox, given, stamp, mut receipt } = call;
        if let Some(summary) = given {
            self.given.insert(mailbox.clone(), summary);
            self.ledger.given(Given { mailbox: mailbox.clone(), summary, stamp }, receipt.take());
        }
        let nudged = self.spool.as_ref().is_some_and(|spool| spool.nudge(mailbox.clone(), given));
        match given {
            Some(summary) if !nudged => self.observe(Observation::Given { mailbox, summary }),
            None if self.spool.is_none() => tracing::warn!(
                %mailbox,
                "externnotify gave no counts and there is no spool to count; set [spool] enabled, or let Asterisk pass its counts"
            ),
            _ => {}
        }
        // Without counts there is nothing to remember: the spool is counted at every start.
        if let Some(receipt) = receipt {
            receipt.done();
        }
    }

    /// Stops the sources and takes in what they have said.
    pub(super) fn close_sources(&mut self) {
        self.externnotify = None;
        while let Ok(call) = self.calls.try_recv() {
            self.call(call);
        }
        self.spool = None;
        while let Ok(observation) = self.observations.try_recv() {
            self.observe(observation);
        }
    }
}
