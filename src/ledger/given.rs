//! What calls gave, as the ledger has it or will have it: nobody else remembers it.

use std::collections::HashMap;

use mwid_core::mailbox::Mailbox;
use mwid_core::summary::Summary;

use crate::source::Receipt;

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

/// All counts that were given, to fill a new ledger with, and the receipts that are done when they
/// are written. At most one file for each mailbox.
#[derive(Debug, Default)]
pub(super) struct AllGiven {
    counts: HashMap<Mailbox, (Summary, u64)>,
    unwritten: HashMap<Mailbox, Vec<Receipt>>,
}

impl AllGiven {
    /// From before a restart.
    pub(super) fn remember(&mut self, past: &[Given]) {
        for Given { mailbox, summary, stamp } in past {
            self.counts.insert(mailbox.clone(), (*summary, *stamp));
        }
    }

    /// Newer counts. Where they have a file already, that of the older ones may go.
    pub(super) fn give(&mut self, given: &Given, receipt: Option<Receipt>) {
        let Given { mailbox, summary, stamp } = given;
        self.counts.insert(mailbox.clone(), (*summary, *stamp));
        let Some(receipt) = receipt else { return };
        let waiting = self.unwritten.entry(mailbox.clone()).or_default();
        if receipt.is_file() {
            waiting.drain(..).for_each(Receipt::done);
        }
        waiting.retain(|older| older.is_file() || older.is_waited_for());
        waiting.push(receipt);
    }

    /// The spool has the mailbox.
    pub(super) fn take_back(&mut self, mailbox: &Mailbox) {
        self.counts.remove(mailbox);
        let waiting = self.unwritten.remove(mailbox).unwrap_or_default();
        waiting.into_iter().for_each(Receipt::done);
    }

    /// All of it is in the ledger: no file is needed any more, nobody waits any longer.
    pub(super) fn written(&mut self) {
        self.unwritten.drain().for_each(|(_, waiting)| waiting.into_iter().for_each(Receipt::done));
    }

    /// Whether the next commit takes the place of a file, or is what an answer promises.
    pub(super) fn has_receipts(&self) -> bool {
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

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn given(new: u32) -> Given {
        let summary = Summary { new, ..Summary::default() };
        Given { mailbox: Mailbox::parse("202").unwrap(), summary, stamp: 0 }
    }

    fn reply() -> (Option<Receipt>, oneshot::Receiver<()>) {
        let (reply, answer) = oneshot::channel();
        (Some(Receipt::Reply(reply)), answer)
    }

    #[test]
    fn nobody_is_answered_before_the_counts_are_written() {
        let mut all = AllGiven::default();
        let ((first, mut answer_1), (second, mut answer_2)) = (reply(), reply());
        all.give(&given(1), first);
        all.give(&given(2), second);
        assert!(all.has_receipts() && answer_1.try_recv().is_err() && answer_2.try_recv().is_err());
        all.written();
        assert_eq!((answer_1.try_recv(), answer_2.try_recv()), (Ok(()), Ok(())));
        assert!(!all.has_receipts());
    }

    #[test]
    fn who_went_away_is_forgotten() {
        let mut all = AllGiven::default();
        for new in 0..100 {
            all.give(&given(new), reply().0);
        }
        assert!(all.unwritten.values().all(|waiting| waiting.len() <= 1));
    }
}
