//! What the spool's thread is told: changes from the kernel, nudges from other parts. One slot
//! that is filled by many and emptied by one. Filling never blocks for long and never grows past
//! a bound: when there is no more room, a full count takes the place of what did not fit.

use std::collections::{HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mwid_core::mailbox::Mailbox;
use mwid_core::summary::Summary;

use super::pending::Change;

/// Names in each of the tables of a [`Batch`].
const ROOM: usize = 65_536;

/// What came in since the slot was last emptied.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Mailboxes with a message that came or went.
    pub(super) changed: HashMap<Mailbox, Change>,
    /// Mailboxes with a new folder.
    pub(super) appeared: HashSet<Mailbox>,
    /// Contexts that came, went or changed their nature.
    pub(super) contexts: HashSet<Box<str>>,
    /// The root came, went or changed its nature.
    pub(super) root: bool,
    /// What externnotify said.
    pub(super) nudges: HashMap<Mailbox, Option<Summary>>,
    /// Contexts whose missing mailboxes are gone for good.
    pub(super) forgotten: HashSet<Box<str>>,
    /// Count everything.
    pub(super) rescan: bool,
    /// End the thread.
    pub(super) stop: bool,
}

impl Batch {
    fn is_empty(&self) -> bool {
        !(self.root || self.rescan || self.stop)
            && self.changed.is_empty()
            && self.appeared.is_empty()
            && self.contexts.is_empty()
            && self.nudges.is_empty()
            && self.forgotten.is_empty()
    }

    /// An arrival counts at once only if nothing else happened in the mailbox.
    pub(super) fn change(&mut self, mailbox: Mailbox, change: Change) {
        if self.changed.len() >= ROOM && !self.changed.contains_key(&mailbox) {
            self.rescan = true;
            return;
        }
        self.changed
            .entry(mailbox)
            .and_modify(|old| {
                if change == Change::Other {
                    *old = Change::Other;
                }
            })
            .or_insert(change);
    }

    /// A mailbox, or one of its folders, came into being.
    pub(super) fn appear(&mut self, mailbox: Mailbox) {
        if self.appeared.len() < ROOM {
            self.appeared.insert(mailbox);
        } else {
            self.rescan = true;
        }
    }

    /// A context came, went or changed its nature.
    pub(super) fn context(&mut self, context: Box<str>) {
        if self.contexts.len() < ROOM {
            self.contexts.insert(context);
        } else {
            self.rescan = true;
        }
    }

    /// An operator says that what is missing in a context is gone for good. Bounded by those that
    /// are missed.
    pub(super) fn forget(&mut self, context: &str) {
        self.forgotten.insert(context.into());
    }

    /// False: there was no room for the counts given.
    fn nudge(&mut self, mailbox: Mailbox, given: Option<Summary>) -> bool {
        if self.nudges.len() >= ROOM && !self.nudges.contains_key(&mailbox) {
            self.rescan = true;
            return given.is_none();
        }
        let slot = self.nudges.entry(mailbox).or_default();
        *slot = given.or(*slot);
        true
    }
}

/// The slot.
#[derive(Debug, Default)]
pub(super) struct Signals {
    slot: Mutex<Batch>,
    bell: Condvar,
}

impl Signals {
    fn lock(&self) -> MutexGuard<'_, Batch> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something in and rings.
    pub(super) fn tell(&self, put: impl FnOnce(&mut Batch)) {
        let mut batch = self.lock();
        put(&mut batch);
        if !batch.is_empty() {
            self.bell.notify_one();
        }
    }

    /// Puts a nudge in and rings. False: its counts were not taken, there are too many.
    pub(super) fn nudge(&self, mailbox: Mailbox, given: Option<Summary>) -> bool {
        let mut kept = false;
        self.tell(|batch| kept = batch.nudge(mailbox, given));
        kept
    }

    /// Empties the slot, waiting for something in it until `until` at most.
    pub(super) fn take(&self, until: Instant) -> Batch {
        let mut batch = self.lock();
        while batch.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            batch = self.bell.wait_timeout(batch, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::take(&mut *batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_mailboxes_than_fit_become_one_full_count() {
        let signals = Signals::default();
        for number in 0..ROOM + 5 {
            let mailbox = Mailbox::parse(&number.to_string()).unwrap();
            signals.tell(|batch| batch.change(mailbox.clone(), Change::Arrival));
            let kept = signals.nudge(mailbox, Some(Summary::default()));
            assert_eq!(kept, number < ROOM);
        }
        let batch = signals.take(Instant::now());
        assert_eq!((batch.changed.len(), batch.nudges.len()), (ROOM, ROOM));
        assert!(batch.rescan);
        assert!(signals.take(Instant::now()).is_empty());
    }

    #[test]
    fn the_last_counts_given_for_a_mailbox_win() {
        let signals = Signals::default();
        let mailbox = Mailbox::parse("202").unwrap();
        let given = Summary::from_asterisk(2, 0, 0);
        signals.nudge(mailbox.clone(), Some(Summary::default()));
        signals.nudge(mailbox.clone(), Some(given));
        signals.nudge(mailbox.clone(), None);
        assert_eq!(signals.take(Instant::now()).nudges[&mailbox], Some(given));
    }
}
