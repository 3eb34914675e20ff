//! Accounts that have a subscription and that no source knows: somebody else is asked for them.

use std::time::Instant;

use mwid_core::mailbox::{Account, Mailbox};

use super::Daemon;
use super::work::Done;
use crate::clock;
use crate::source::Call;
use crate::source::ask::{Found, Wanted};

impl Daemon {
    /// A subscription to these accounts was seen.
    pub(super) fn want_counts(&mut self, accounts: &[Account]) {
        for account in accounts {
            self.want_counts_of(account, None);
        }
    }

    /// The same of one account. `expires` are the seconds of a new subscription.
    pub(super) fn want_counts_of(&mut self, account: &Account, expires: Option<u32>) {
        if self.reconciler.desired(account).is_none() && self.is_unknown(account) {
            self.asker.want(account, expires, Instant::now());
        }
    }

    /// Asks for those that are still unknown, once the sources have said what they know.
    pub(super) fn ask(&mut self) {
        if self.mailboxes.is_awaited() {
            return;
        }
        while let Some((wanted, oracle)) = self.asker.next(Instant::now()) {
            let Wanted { account, expires } = wanted;
            if !self.is_unknown(&account) {
                self.asker.done(None);
                continue;
            }
            self.work.spawn(async move {
                let (source, found) = oracle.ask(&account, expires).await;
                Done::Asked(account, source, found)
            });
        }
    }

    fn is_unknown(&self, account: &Account) -> bool {
        !self.mailboxes.has_counted(account) && self.owns(account)
    }

    pub(super) fn handle_asked(&mut self, account: &Account, source: &'static str, found: Found) {
        let is_news = self.asker.done(Some(&found));
        let summary = match found {
            Found::Counts(summary) => summary,
            Found::Nothing(words) => {
                return tracing::debug!(%account, "{source} knows nothing of the account: {words}");
            }
            Found::Failed(words) if is_news => {
                return tracing::warn!(%account, "{source} was asked for an account that no source knows, in vain: {words}; it is asked again when its subscription is seen again");
            }
            Found::Failed(words) => {
                return tracing::debug!(%account, "{source} was asked in vain: {words}");
            }
        };
        // A source has spoken of it meanwhile: that is newer.
        if self.mailboxes.has_counted(account) {
            return;
        }
        match Mailbox::new(account.user(), account.domain()) {
            Ok(mailbox) => {
                tracing::info!(%account, %summary, "{source} was asked for an account that no source knows");
                let stamp = clock::unix_nanos();
                let given = Some(summary);
                self.call(Call { mailbox, given, stamp, receipt: None, source });
            }
            Err(error) => tracing::warn!(%account, "the account is no mailbox: {error}"),
        }
    }
}
