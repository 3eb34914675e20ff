//! Asking: who knows the counts of an account that has a subscription and that no source has
//! spoken of? One file for each way to ask; the [`book`] knows who was asked for, and when.
//!
//! What comes back is taken in as a call of that source would be. No answer is no zero: an account
//! that nobody knows stays unknown, and is asked for again some minutes later, when its
//! subscription is seen again.

use std::time::Instant;

use mwid_core::mailbox::Account;
use mwid_core::summary::Summary;

use crate::config::Config;
use crate::http_client::ClientError;

mod book;
pub mod sipx;

use book::Book;

/// What came of asking for an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// These messages.
    Counts(Summary),
    /// The one who was asked does not know the account, in words.
    Nothing(String),
    /// He could not be asked, or did not answer as he should, in words.
    Failed(String),
}

/// Everybody who can be asked, by what name of a source.
#[derive(Clone, Debug)]
pub struct Oracle {
    sipx: sipx::Voicemail,
}

impl Oracle {
    /// Asks for an account. The name is that of the source, for counters and the log.
    pub async fn ask(&self, account: &Account) -> (&'static str, Found) {
        (sipx::SIPX, self.sipx.ask(account).await)
    }
}

/// Who is asked, and for whom he has to be.
///
/// - [`want`](Self::want): an account was seen that nobody knows;
/// - [`next`](Self::next): gives the accounts to ask for, as many at once as are allowed;
/// - [`done`](Self::done): each of them was asked for.
#[derive(Debug)]
pub struct Asker {
    oracle: Option<Oracle>,
    book: Book,
    is_failing: bool,
}

impl Asker {
    /// One that asks whom the configuration names; nobody without one.
    ///
    /// # Errors
    /// [`ClientError`] when an address cannot be asked.
    pub fn new(config: &Config) -> Result<Self, ClientError> {
        let sipx = sipx::Voicemail::new(&config.sipx)?;
        let oracle = sipx.map(|sipx| Oracle { sipx });
        Ok(Self { oracle, book: Book::new(config.sipx.ask_again), is_failing: false })
    }

    /// An account has a subscription, and no source knows it.
    pub fn want(&mut self, account: &Account, now: Instant) {
        if self.oracle.is_some() {
            self.book.want(account, now);
        }
    }

    /// The next one to ask for, and who is to be asked. `None` while enough are asked for.
    pub fn next(&mut self, now: Instant) -> Option<(Account, Oracle)> {
        let oracle = self.oracle.as_ref()?;
        Some((self.book.next(now)?, oracle.clone()))
    }

    /// An account that [`next`](Self::next) gave was asked for, or need not be any more. Says
    /// whether that failed for the first time since it last worked.
    pub fn done(&mut self, found: Option<&Found>) -> bool {
        self.book.done();
        let Some(found) = found else { return false };
        let fails = matches!(found, Found::Failed(_));
        let failed = std::mem::replace(&mut self.is_failing, fails);
        fails && !failed
    }
}
