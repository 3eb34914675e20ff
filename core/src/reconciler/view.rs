//! What can be seen of the publications of one account.

use std::sync::Arc;
use std::time::Instant;

use super::Reconciler;
use crate::mailbox::Account;
use crate::publication::Way;
use crate::summary::Summary;

/// One publication, for whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicationView {
    /// By which way.
    pub way: Way,
    /// What its server took last; `None` when that is not known.
    pub accepted: Option<Summary>,
    /// Whether its server's entity-tag is known.
    pub has_etag: bool,
    /// When it ends at its server; `None` for never, or when that is not known.
    pub expires: Option<Instant>,
    /// What is done about it.
    pub progress: Progress,
    /// Why the last step came to nothing, in the words of its server or of its way.
    pub why: Option<Arc<str>>,
}

/// What is done about a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Its server has what it must.
    Current,
    /// It waits for its turn.
    Waiting,
    /// A step is under way: until its answer nobody knows what the server has.
    UnderWay,
    /// It is tried again then.
    Paused(Instant),
    /// Nobody here wants it any more: it is removed.
    Leaving,
}

impl Reconciler {
    /// The publications of an account, in the order of [`Way::ALL`].
    pub fn publications(
        &self,
        account: &Account,
        now: Instant,
    ) -> impl Iterator<Item = PublicationView> {
        self.publications
            .of(account)
            .map(move |(key, state)| state.view(key.1, self.wanted(key), now))
    }
}
