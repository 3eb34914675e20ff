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

pub mod application;
mod book;
pub mod sipx;

use book::Book;
pub use book::Wanted;

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
    application: Option<application::Application>,
    sipx: Option<sipx::Voicemail>,
}

impl Oracle {
    /// Everybody that the configuration names; `None` when it names nobody.
    fn new(config: &Config) -> Result<Option<Self>, ClientError> {
        let application = application::Application::new(&config.webhook)?;
        let sipx = sipx::Voicemail::new(&config.sipx)?;
        let is_anybody = application.is_some() || sipx.is_some();
        Ok(is_anybody.then_some(Self { application, sipx }))
    }

    /// Asks for an account, one after the other until somebody knows. The name is that of the
    /// source, for counters and the log.
    pub async fn ask(&self, account: &Account, expires: Option<u32>) -> (&'static str, Found) {
        let mut last = (application::WEBHOOK, Found::Nothing("nobody is asked".to_owned()));
        if let Some(application) = &self.application {
            last.1 = application.ask(account, expires).await;
        }
        let (Some(sipx), Found::Nothing(_) | Found::Failed(_)) = (&self.sipx, &last.1) else {
            return last;
        };
        match (sipx.ask(account).await, &last.1) {
            // Who failed may know.
            (Found::Nothing(_), Found::Failed(_)) => last,
            (found, _) => (sipx::SIPX, found),
        }
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
        let oracle = Oracle::new(config)?;
        let again = [
            config.webhook.url.as_ref().map(|_| config.webhook.ask_again),
            config.sipx.voicemail.as_ref().map(|_| config.sipx.ask_again),
        ];
        let again = again.into_iter().flatten().min().unwrap_or(config.sipx.ask_again);
        Ok(Self { oracle, book: Book::new(again), is_failing: false })
    }

    /// An account has a subscription, and no source knows it. `expires` are the seconds of a new one.
    pub fn want(&mut self, account: &Account, expires: Option<u32>, now: Instant) {
        if self.oracle.is_some() {
            self.book.want(account, expires, now);
        }
    }

    /// The next one to ask for, and who is to be asked. `None` while enough are asked for.
    pub fn next(&mut self, now: Instant) -> Option<(Wanted, Oracle)> {
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
