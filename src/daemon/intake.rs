//! What the sources say, taken in: counts for the pure parts, and what the ledger must remember.

use std::time::Instant;

use mwid_core::mailbox::{Account, Mailbox};
use mwid_core::mailboxes::Mailboxes;
use mwid_core::reconciler::Urgency;
use mwid_core::summary::Summary;

use super::Daemon;
use crate::ledger::{Given, Memory};
use crate::source::ami::AMI;
use crate::source::http::HTTP;
use crate::source::{Call, Observation};

/// What a call gave, and which.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    pub(super) summary: Summary,
    /// `externnotify`, `http`, …
    pub(super) source: &'static str,
}

impl Heard {
    /// A call before a restart: the ledger knows what it gave, and not which it was.
    pub(super) const BEFORE: &str = "call";
}

impl Daemon {
    pub(super) fn remember(&mut self, memory: Memory) {
        let clustered = self.cluster.is_some();
        self.reconciler.remember(memory.dialogs.into_iter().map(|(identity, mut past)| {
            if clustered {
                // Another one may have told it something else meanwhile.
                past.delivered = None;
            }
            (identity, past)
        }));
        self.remember_publications(memory.publications, &memory.servers);
        for Given { mailbox, summary, .. } in memory.mailboxes {
            match &self.cluster {
                None => self.counted(&mailbox, summary, Urgency::CatchUp),
                Some(cluster) => cluster.remember(&mailbox, summary),
            }
        }
        self.remember_lasts(memory.accounts);
    }

    pub(super) fn observe(&mut self, observation: Observation) {
        match observation {
            Observation::Counted { mailbox, summary, source, urgency, sure } => {
                self.counters.observed(source);
                self.heard(&mailbox, summary, source, urgency == Urgency::Fresh);
                if sure && self.given.remove(&mailbox).is_some() {
                    self.ledger.not_given(&mailbox);
                }
                self.counted_here(&mailbox, summary, urgency, false);
            }
            Observation::Given { mailbox, summary } => {
                let source = self.given.get(&mailbox).map_or(Heard::BEFORE, |heard| heard.source);
                self.heard(&mailbox, summary, source, true);
                // The ledger has them since the call, unless the spool had the mailbox meanwhile.
                if !self.given.contains_key(&mailbox) {
                    let heard = Heard { summary, source: Heard::BEFORE };
                    self.given.insert(mailbox.clone(), heard);
                    let mailbox = mailbox.clone();
                    self.ledger.given(Given { mailbox, summary, stamp: 0 }, None);
                }
                self.counted_here(&mailbox, summary, Urgency::Fresh, true);
            }
            Observation::Failed(mailbox) => match &self.cluster {
                None => self.mailboxes.fail(&mailbox),
                Some(cluster) => cluster.fail(&mailbox),
            },
            Observation::Listed { context, inode } => self.ledger.context(&context, inode),
            Observation::Complete => {
                if self.spool.is_some() {
                    self.said.counted(self.mailboxes.len());
                }
                match &self.cluster {
                    None => {
                        self.hand_over(Mailboxes::complete);
                        self.darken_abandoned();
                        self.withdraw();
                    }
                    Some(cluster) if self.spool.is_some() => cluster.counted_all(),
                    Some(_) => {}
                }
                self.counts_are_known(Instant::now());
            }
        }
    }

    /// A source says what a mailbox holds: counted when that is something else than before. Of what
    /// was not known before only fresh news is a change, and only of a mailbox that is not empty: a
    /// start counts everything for the first time.
    fn heard(&mut self, mailbox: &Mailbox, now: Summary, source: &str, is_fresh: bool) {
        let before = self.known_here(mailbox);
        let is_comparable = is_fresh || before.is_some();
        if is_comparable && before.unwrap_or_default() != now {
            let who = match source {
                Heard::BEFORE => self.given.get(mailbox).map_or(source, |heard| heard.source),
                source => source,
            };
            self.counters.tally.changes.count(who);
        }
        self.watch_count(mailbox, before, now, source, is_fresh);
    }

    /// Hands over the sums that were held back.
    pub(super) fn hand_over(&mut self, held: fn(&mut Mailboxes) -> Vec<(Account, Summary)>) {
        for (account, summary) in held(&mut self.mailboxes) {
            self.desire(&account, summary, Urgency::CatchUp);
        }
    }

    pub(super) fn counted(&mut self, mailbox: &Mailbox, summary: Summary, urgency: Urgency) {
        match self.mailboxes.observe(mailbox, summary) {
            Ok(sums) => {
                for (account, summary) in sums {
                    self.desire(&account, summary, urgency);
                }
            }
            Err(error) => self.said.unmapped(mailbox, &error),
        }
    }

    /// Somebody called: the spool counts the mailbox where it has it; where it does not, or there
    /// is no spool, the counts of the call are the truth. Until that is known the ledger has them.
    pub(super) fn call(&mut self, call: Call) {
        let Call { mailbox, given, stamp, mut receipt, source } = call;
        self.counters.observed(source);
        if let Some(summary) = given {
            if let Some(externnotify) =
                self.externnotify.as_ref().filter(|_| [AMI, HTTP].contains(&source))
            {
                externnotify.overtake(&mailbox, stamp);
            }
            self.given.insert(mailbox.clone(), Heard { summary, source });
            self.ledger.given(Given { mailbox: mailbox.clone(), summary, stamp }, receipt.take());
        }
        let nudged = self.spool.as_ref().is_some_and(|spool| spool.nudge(mailbox.clone(), given));
        match given {
            Some(summary) if !nudged => self.observe(Observation::Given { mailbox, summary }),
            None if self.spool.is_none() => tracing::warn!(
                %mailbox,
                "{source} gave no counts and there is no spool to count; set [spool] enabled, or let Asterisk pass its counts"
            ),
            _ => {}
        }
        // Without counts there is nothing to remember: the spool is counted at every start.
        if let Some(receipt) = receipt {
            receipt.done();
        }
    }
}
