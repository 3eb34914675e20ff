//! What externnotify gave, as the ledger has it or will have it: nobody else remembers it.

use std::collections::HashMap;

use mwid_core::mailbox::Mailbox;
use mwid_core::summary::Summary;

use crate::source::externnotify::Receipt;

/// The counts of a mailbox that no spool has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The mailbox.
    pub mailbox: Mailbox,
    /// Its counts.
    pub summary: Summary,
    /// When they were given, nanoseconds since 1970; 0 when that is not known.
    pub stamp: u64,
}

/// All counts that were given, to fill a new ledger with, and the files that go when they are
/// written. At most one file for each mailbox.
#[derive(Debug, Default)]
pub(super) struct AllGiven {
    counts: HashMap<Mailbox, (Summary, u64)>,
    unwritten: HashMap<Mailbox, Receipt>,
}

impl AllGiven {
    /// From before a restart.
    pub(super) fn remember(&mut self, past: &[Given]) {
        for Given { mailbox, summary, stamp } in past {
            self.counts.insert(mailbox.clone(), (*summary, *stamp));
        }
    }

    /// Newer counts: their file is there already, so that of the older ones may go.
    pub(super) fn give(&mut self, given: &Given, receipt: Option<Receipt>) {
        let Given { mailbox, summary, stamp } = given;
        self.counts.insert(mailbox.clone(), (*summary, *stamp));
        if let Some(receipt) = receipt
            && let Some(older) = self.unwritten.insert(mailbox.clone(), receipt)
        {
            older.done();
        }
    }

    /// The spool has the mailbox.
    pub(super) fn take_back(&mut self, mailbox: &Mailbox) {
        self.counts.remove(mailbox);
        if let Some(receipt) = self.unwritten.remove(mailbox) {
            receipt.done();
        }
    }

    /// All of it is in the ledger, so no file is needed any more.
    pub(super) fn written(&mut self) {
        self.unwritten.drain().for_each(|(_, receipt)| receipt.done());
    }

    /// Whether the next commit takes the place of a file.
    pub(super) fn has_files(&self) -> bool {
        !self.unwritten.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Given> {
        let given = |(mailbox, (summary, stamp)): (&Mailbox, &(Summary, u64))| Given {
            mailbox: mailbox.clone(),
            summary: *summary,
            stamp: *stamp,
        };
        self.counts.iter().map(given)
    }
}
