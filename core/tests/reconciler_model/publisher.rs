//! The servers of the model that publish: one that names what it has by entity-tags of its own, and
//! takes a new document for each that comes without; and one that has one for each account.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use mwid_core::mailbox::Account;
use mwid_core::publication::{ETag, Order, Outcome, TRIAL, Way, Wish};
use mwid_core::summary::Summary;

/// What is granted to a refresh, and to all that is not tagged.
const FULL: Duration = Duration::from_secs(120);

#[derive(Default)]
pub(crate) struct Publisher {
    documents: HashMap<(Account, Way), Vec<Document>>,
    tags: u64,
}

struct Document {
    etag: Option<ETag>,
    summary: Summary,
    ends: Instant,
}

impl Publisher {
    /// Everything is forgotten.
    pub(crate) fn restart(&mut self) {
        self.documents.clear();
    }

    /// What a phone could be told of an account.
    pub(crate) fn has(&self, account: &Account, way: Way, now: Instant) -> Vec<Summary> {
        let documents = self.documents.get(&(account.clone(), way)).into_iter().flatten();
        documents.filter(|it| it.ends > now).map(|it| it.summary).collect()
    }

    pub(crate) fn take(&mut self, order: &Order, now: Instant) -> Outcome {
        let Order { way, account, wish, etag } = order;
        let documents = self.documents.entry((account.clone(), *way)).or_default();
        documents.retain(|it| it.ends > now);
        let place = match etag {
            Some(_) => documents.iter().position(|it| it.etag == *etag),
            None if way.is_tagged() => None,
            None => (!documents.is_empty()).then_some(0),
        };
        let unknown = place.is_none() && (etag.is_some() || *wish == Wish::Remove);
        if unknown {
            return Outcome::Stale;
        }
        self.tags += 1;
        let etag = way.is_tagged().then(|| ETag::new(&format!("e{}", self.tags)).unwrap());
        let old = place.map(|place| documents.swap_remove(place));
        let (summary, expires) = match wish {
            Wish::Remove => return Outcome::Accepted { etag: None, expires: None },
            Wish::State(summary) if way.is_tagged() => (*summary, TRIAL),
            Wish::State(summary) => (*summary, FULL),
            // A refresh has no body: what was there stays.
            Wish::Refresh(_) => match old {
                Some(old) => (old.summary, FULL),
                None => return Outcome::Stale,
            },
        };
        documents.push(Document { etag: etag.clone(), summary, ends: now + expires });
        Outcome::Accepted { etag, expires: Some(expires) }
    }
}
