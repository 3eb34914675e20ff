//! Several mwid on one database: only the owner of an account hands it to its reconciler.

use std::time::{Duration, Instant};

use mwid_core::mailbox::{Account, Mailbox};
use mwid_core::mailboxes::Mailboxes;
use mwid_core::publication::Ways;
use mwid_core::reconciler::{Desired, Urgency};
use mwid_core::summary::Summary;

use super::Daemon;
use crate::cluster::Event;

impl Daemon {
    /// Whether this mwid tells the phones of the account.
    pub(super) fn owns(&self, account: &Account) -> bool {
        self.cluster.as_ref().is_none_or(|cluster| cluster.owns(account, Instant::now()))
    }

    /// By which ways the account is told: those of the contexts of its mailboxes. Of one that has
    /// no mailbox any more nothing is published.
    pub(super) fn ways(&self, account: &Account) -> Ways {
        let delivery = &self.config.delivery;
        let mut members = self.mailboxes.members(account).peekable();
        if members.peek().is_none() {
            return delivery.ways.common(Ways::default());
        }
        members.fold(Ways::NONE, |ways, (mailbox, _)| ways.and(delivery.of(mailbox.context())))
    }

    /// An account's phones must show this, if they are ours.
    pub(super) fn desire(&mut self, account: &Account, summary: Summary, urgency: Urgency) {
        self.keep(account, summary);
        let now = Instant::now();
        let desired = Desired { summary, ways: self.ways(account) };
        match &self.cluster {
            None => self.reconciler.set(account, desired, urgency, false),
            Some(cluster) if cluster.owns(account, now) => {
                let floor = cluster.cseq_floor(now);
                self.reconciler.acquire(account, desired, urgency, floor);
            }
            Some(_) => {}
        }
        if urgency == Urgency::Fresh {
            self.reconciler.note_change(account, now);
        }
    }

    /// All accounts that there are are known: what is published of others is removed, unless a
    /// mailbox of theirs is only not counted yet.
    pub(super) fn withdraw(&mut self) {
        let now = Instant::now();
        let (mailboxes, cluster) = (&self.mailboxes, &self.cluster);
        let ours =
            |account: &Account| cluster.as_ref().is_none_or(|cluster| cluster.owns(account, now));
        let is_known = |account: &Account| mailboxes.members(account).next().is_some();
        self.reconciler.withdraw(
            |account| is_known(account) && ours(account),
            |account| is_known(account) && !ours(account),
        );
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
                    match summary {
                        Some(summary) => {
                            let before = self.mailboxes.count(&mailbox);
                            self.watch_count(&mailbox, before, summary, "cluster", false);
                            self.counted(&mailbox, summary, urgency);
                        }
                        None => self.mailboxes.fail(&mailbox),
                    }
                }
            }
            Event::Loaded => {
                tracing::info!(
                    mailboxes = self.mailboxes.len(),
                    "the counts of all mwid are known"
                );
                self.reassign();
            }
            Event::Whole => {
                // A mailbox in nobody's counts may be in a spool that is not counted yet.
                self.hand_over(Mailboxes::open);
                self.darken_abandoned();
                self.withdraw();
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
        self.lapse_after(Duration::ZERO);
    }

    /// Lets everything go when the lease has ended in a pause that our clock does not know of.
    pub(super) fn lapse_after(&mut self, pause: Duration) {
        let Some(cluster) = &self.cluster else { return };
        if cluster.lapse_after(pause, Instant::now()) {
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
        let desired = |(account, summary): (&Account, Summary)| {
            (account.clone(), Desired { summary, ways: self.ways(account) })
        };
        let gained: Vec<(Account, Desired)> = mine.map(desired).collect();
        let floor = cluster.cseq_floor(now);
        for account in &lost {
            self.reconciler.release(account);
        }
        for (account, desired) in &gained {
            self.reconciler.acquire(account, *desired, Urgency::CatchUp, floor);
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
