//! What the accounts show, remembered over a restart: so that a lamp goes dark whose mailbox or whose
//! mapping went away meanwhile.

use std::collections::HashMap;

use mwid_core::mailbox::{Account, Mailbox};
use mwid_core::reconciler::Urgency;
use mwid_core::summary::Summary;

use super::Daemon;
use super::intake::Heard;
use crate::ledger::{Last, Ledger, Member};
use crate::source::spool::Past;

/// What the spool has to look for. What a call gave is nowhere in it.
pub(super) fn expected(ledger: &Ledger, given: &HashMap<Mailbox, Heard>) -> Past {
    let (mut mailboxes, contexts) = ledger.counted_here();
    mailboxes.retain(|mailbox| !given.contains_key(mailbox));
    Past {
        given: given.iter().map(|(mailbox, given)| (mailbox.clone(), given.summary)).collect(),
        mailboxes,
        contexts,
    }
}

impl Daemon {
    /// What the accounts showed. A mailbox that lit one holds it back until it is counted: alone, for
    /// with others the table knows what it held.
    pub(super) fn remember_lasts(&mut self, past: Vec<Last>) {
        self.past = past;
        if let Some(cluster) = &self.cluster {
            if self.spool.is_none() {
                cluster.no_spool();
            }
            return;
        }
        let mut held = 0_usize;
        for Last { members, .. } in &self.past {
            let here = |it: &&Member| it.here && !self.given.contains_key(&it.mailbox);
            let expected: Vec<&Member> = members.iter().filter(here).collect();
            expected.iter().for_each(|it| self.mailboxes.fail(&it.mailbox));
            held += usize::from(!expected.is_empty());
        }
        if self.spool.is_none() {
            if held > 0 {
                tracing::warn!(
                    accounts = held,
                    "there were mailboxes in a spool, and now there is none to count them in: their \
                     lamps stay as they are until Asterisk calls for them"
                );
            }
            self.darken_abandoned();
        }
    }

    /// All that lights an account is known: darkens those that nothing lights any more.
    pub(super) fn darken_abandoned(&mut self) {
        let mut count = 0_usize;
        for Last { account, members, .. } in std::mem::take(&mut self.past) {
            let lit_by = members.iter().map(|member| member.mailbox.clone());
            if let Some((account, summary)) = self.mailboxes.abandon(&account, lit_by) {
                count += 1;
                self.desire(&account, summary, Urgency::CatchUp);
            }
        }
        if count > 0 {
            tracing::info!(
                accounts = count,
                "accounts whose mailboxes were mapped to others while mwid did not run go dark"
            );
        }
    }

    /// Remembers what the account's phones must show.
    pub(super) fn keep(&self, account: &Account, summary: Summary) {
        if summary == Summary::default() {
            if self.cluster.as_ref().is_some_and(|cluster| cluster.is_others(account)) {
                self.ledger.told_dark(account);
            } else {
                self.ledger.dark(account);
            }
            return;
        }
        let here = |mailbox: &Mailbox| match &self.cluster {
            None => !self.given.contains_key(mailbox),
            Some(cluster) => cluster.counts(mailbox),
        };
        let member = |mailbox: &Mailbox| Member { mailbox: mailbox.clone(), here: here(mailbox) };
        self.ledger.lit(account, summary, self.mailboxes.lit_by(account).map(member).collect());
    }

    /// An answer came, or there are no phones: forgets an account whose phones all show that there
    /// is no message.
    pub(super) fn forget_told(&self, account: &Account) {
        let has_messages =
            self.reconciler.desired(account).is_some_and(|it| it != Summary::default());
        if !has_messages && self.ledger.is_darkening(account) && self.reconciler.is_told(account) {
            self.ledger.told_dark(account);
        }
    }

    /// Accounts without messages that others tell need not be remembered here.
    pub(super) fn forget_others(&self) {
        let Some(cluster) = &self.cluster else { return };
        for Last { account, summary, .. } in self.ledger.lasts() {
            if summary == Summary::default() && cluster.is_others(&account) {
                self.ledger.told_dark(&account);
            }
        }
    }
}
