//! Several mwid on one database: only the owner of an account hands it to its reconciler.

use std::time::Instant;

use mwid_core::mailbox::{Account, Mailbox};
use mwid_core::mailboxes::Mailboxes;
use mwid_core::reconciler::Urgency;
use mwid_core::summary::Summary;

use super::Daemon;
use crate::cluster::Event;

impl Daemon {
    /// Whether this mwid tells the phones of the account.
    pub(super) fn owns(&self, account: &Account) -> bool {
        self.cluster.as_ref().is_none_or(|cluster| cluster.owns(account, Instant::now()))
    }

    /// An account's phones must show this, if they are ours.
    pub(super) fn desire(&mut self, account: &Account, summary: Summary, urgency: Urgency) {
        self.keep(account, summary);
        let now = Instant::now();
        match &self.cluster {
            None => self.reconciler.set(account, summary, urgency, false),
            Some(cluster) if cluster.owns(account, now) => {
                let floor = cluster.cseq_floor(now);
                self.reconciler.acquire(account, summary, urgency, floor);
            }
            Some(_) => {}
        }
    }

    /// A mailbox holds this on this node: alone it is the truth, with others it is a part of it.
    pub(super) fn counted_here(
        &mut self,
        mailbox: &Mailbox,
        summary: Summary,
        urgency: Urgency,
        given: bool,
    ) {
        match &self.cluster {
            None => self.counted(mailbox, summary, urgency),
            Some(cluster) => cluster.publish(mailbox, summary, given),
        }
    }

    pub(super) fn cluster_event(&mut self, event: Event) {
        match event {
            Event::Sums(sums, urgency) => {
                for (mailbox, summary) in sums {
                    self.counted(&mailbox, summary, urgency);
                }
            }
            Event::Loaded => {
                tracing::info!(
                    mailboxes = self.mailboxes.len(),
                    "the counts of all mwid are known"
                );
                // A mailbox in nobody's counts may be in a spool that is not counted yet.
                self.hand_over(Mailboxes::open);
                self.darken_abandoned();
                self.reassign();
            }
            Event::Membership => self.reassign(),
            Event::Disputed(mailbox) => self.recount(mailbox),
        }
    }

    /// Another one sees something else in the same spool: who tells the phones counts once more.
    fn recount(&mut self, mailbox: Mailbox) {
        let accounts = self.mailboxes.accounts(&mailbox);
        if accounts.iter().any(|account| self.owns(account))
            && let Some(spool) = &self.spool
        {
            spool.nudge(mailbox, None);
        }
    }

    /// Lets everything go when the lease has ended.
    pub(super) fn lapse(&mut self) {
        let over = self.cluster.as_ref().is_some_and(|cluster| cluster.lapse(Instant::now()));
        if over {
            tracing::error!(
                "the lease in the cluster has ended: no phone is told anything until it is renewed"
            );
            self.reassign();
        }
    }

    /// Takes the accounts that are ours now, and lets those go that no longer are.
    pub(super) fn reassign(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        let now = Instant::now();
        let told = self.reconciler.accounts();
        let lost: Vec<Account> =
            told.filter(|account| !cluster.owns(account, now)).cloned().collect();
        let mine = self.mailboxes.all().filter(|(account, _)| {
            self.reconciler.desired(account).is_none() && cluster.owns(account, now)
        });
        let gained: Vec<(Account, Summary)> =
            mine.map(|(account, summary)| (account.clone(), summary)).collect();
        let floor = cluster.cseq_floor(now);
        for account in &lost {
            self.reconciler.release(account);
        }
        for (account, summary) in &gained {
            self.reconciler.acquire(account, *summary, Urgency::CatchUp, floor);
        }
        self.forget_others();
        if !lost.is_empty() || !gained.is_empty() {
            let health = cluster.health();
            tracing::info!(
                live = health.live.join(" "),
                gained = gained.len(),
                released = lost.len(),
                "accounts changed hands"
            );
        }
    }
}
