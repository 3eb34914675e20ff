//! When to count: at once, or after a burst has ended. Pure: the time comes in.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use mwid_core::mailbox::Mailbox;

/// A mailbox is quiet when nothing changed in it for this long.
pub(super) const QUIET: Duration = Duration::from_millis(20);

/// A change is counted after this long even if others keep coming.
pub(super) const LONGEST: Duration = Duration::from_millis(200);

/// What happened in a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A message came in: a person is waiting for the lamp.
    Arrival,
    /// Anything else: often the start of a burst, as a deletion renumbers its folder.
    Other,
}

/// The mailboxes that will be counted later. Holds each mailbox once.
#[derive(Debug, Default)]
pub(super) struct Pending {
    entries: HashMap<Mailbox, Entry>,
    order: BTreeSet<(Instant, Mailbox)>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The first change that has not been counted.
    since: Instant,
    due: Instant,
    /// Whether there is something to count when it is due.
    dirty: bool,
}

impl Pending {
    /// Takes in a change. True: the mailbox was quiet, count it at once.
    pub(super) fn touch(&mut self, mailbox: &Mailbox, change: Change, now: Instant) -> bool {
        let Some(&old) = self.entries.get(mailbox) else {
            let at_once = change == Change::Arrival;
            self.put(mailbox, Entry { since: now, due: now + QUIET, dirty: !at_once });
            return at_once;
        };
        let since = if old.dirty { old.since } else { now };
        let due = (now + QUIET).min(since + LONGEST);
        self.put(mailbox, Entry { since, due, dirty: true });
        false
    }

    /// Asks for a count at `at`, or earlier if that is due anyway.
    pub(super) fn retry(&mut self, mailbox: &Mailbox, at: Instant) {
        if self.entries.get(mailbox).is_none_or(|old| !old.dirty || old.due > at) {
            self.put(mailbox, Entry { since: at, due: at, dirty: true });
        }
    }

    /// When to call [`Pending::pop`] again.
    pub(super) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(due, _)| *due)
    }

    /// A mailbox whose time has come. It counts as busy for [`QUIET`] from now on.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Mailbox> {
        while self.next().is_some_and(|due| due <= now) {
            let (_, mailbox) = self.order.pop_first()?;
            if self.entries.remove(&mailbox).is_some_and(|entry| entry.dirty) {
                self.put(&mailbox, Entry { since: now, due: now + QUIET, dirty: false });
                return Some(mailbox);
            }
        }
        None
    }

    fn put(&mut self, mailbox: &Mailbox, entry: Entry) {
        if let Some(old) = self.entries.insert(mailbox.clone(), entry) {
            self.order.remove(&(old.due, mailbox.clone()));
        }
        self.order.insert((entry.due, mailbox.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox() -> Mailbox {
        Mailbox::parse("202").unwrap()
    }

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn an_arrival_in_a_quiet_mailbox_is_counted_at_once_and_only_once() {
        let (mut pending, t0) = (Pending::default(), Instant::now());
        assert!(pending.touch(&mailbox(), Change::Arrival, t0));
        assert_eq!(pending.pop(t0 + ms(20)), None);
        assert_eq!(pending.next(), None);
        assert!(pending.touch(&mailbox(), Change::Arrival, t0 + ms(21)));
    }

    #[test]
    fn a_burst_is_counted_once_it_has_been_quiet_for_20_ms() {
        let (mut pending, t0) = (Pending::default(), Instant::now());
        assert!(!pending.touch(&mailbox(), Change::Other, t0));
        assert!(!pending.touch(&mailbox(), Change::Arrival, t0 + ms(15)));
        assert_eq!(pending.pop(t0 + ms(34)), None);
        assert_eq!(pending.pop(t0 + ms(35)), Some(mailbox()));
        assert_eq!(pending.pop(t0 + ms(100)), None);
    }

    #[test]
    fn an_endless_burst_is_counted_every_200_ms() {
        let (mut pending, t0) = (Pending::default(), Instant::now());
        let mut counted = Vec::new();
        for tick in 0..60 {
            let now = t0 + ms(10 * tick);
            pending.touch(&mailbox(), Change::Other, now);
            counted.extend(pending.pop(now).map(|_| 10 * tick));
        }
        assert_eq!(counted, [200, 410]);
    }

    #[test]
    fn a_change_overtakes_a_retry() {
        let (mut pending, t0) = (Pending::default(), Instant::now());
        pending.retry(&mailbox(), t0 + Duration::from_secs(60));
        assert!(!pending.touch(&mailbox(), Change::Other, t0));
        assert_eq!(pending.next(), Some(t0 + QUIET));
        pending.retry(&mailbox(), t0 + Duration::from_secs(60));
        assert_eq!(pending.pop(t0 + QUIET), Some(mailbox()));
    }
}
