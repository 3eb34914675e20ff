//! Dialogs that are gone, or not seen yet since a restart: how far each was counted.

use std::collections::{BTreeSet, HashMap};

use super::state::Remembered;
use crate::dialog::Identity;

/// Dialogs that are gone are remembered up to this many, at about 100 bytes each.
const MAX_REMEMBERED: usize = 200_000;

/// By identity, and in the order in which the subscriptions end: when there are too many, the one
/// that ends first makes room.
#[derive(Debug, Default)]
pub(super) struct Memory {
    dialogs: HashMap<Identity, Remembered>,
    /// Unix seconds of each.
    ends: BTreeSet<(u64, Identity)>,
}

impl Memory {
    /// What a ledger knows, however much it is.
    pub(super) fn extend(&mut self, past: impl IntoIterator<Item = (Identity, Remembered)>) {
        for (identity, past) in past {
            self.put(identity, past);
        }
    }

    pub(super) fn insert(&mut self, identity: Identity, past: Remembered) {
        self.put(identity, past);
        if self.dialogs.len() > MAX_REMEMBERED
            && let Some((_, first)) = self.ends.pop_first()
        {
            self.dialogs.remove(&first);
        }
    }

    fn put(&mut self, identity: Identity, past: Remembered) {
        if let Some(old) = self.dialogs.insert(identity, past) {
            self.ends.remove(&(old.expires, identity));
        }
        self.ends.insert((past.expires, identity));
    }

    pub(super) fn remove(&mut self, identity: &Identity) -> Option<Remembered> {
        let past = self.dialogs.remove(identity)?;
        self.ends.remove(&(past.expires, *identity));
        Some(past)
    }

    /// Gives room back once most of what a ledger knew has been taken over.
    pub(super) fn tidy(&mut self) {
        let (len, capacity) = (self.dialogs.len(), self.dialogs.capacity());
        if capacity > 1024 && len < capacity / 8 {
            self.dialogs.shrink_to(len * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconciler::tests::dialog;

    fn past(expires: u64) -> Remembered {
        let version = dialog(1, "202", 0).version();
        Remembered { high_water: 7, delivered: None, dead: false, version, expires }
    }

    fn identity(number: u64) -> Identity {
        Identity::of(&number.to_string(), "a", "b")
    }

    #[test]
    fn when_too_many_are_gone_the_one_that_ends_first_makes_room_for_the_newest() {
        let mut memory = Memory::default();
        let max = u64::try_from(MAX_REMEMBERED).unwrap();
        // The last to come is not the last to end.
        for number in 0..max {
            memory.insert(identity(number), past(1_000_000 + max - number));
        }
        memory.insert(identity(max), past(1_500_000));
        assert_eq!(memory.dialogs.len(), MAX_REMEMBERED);
        assert_eq!(memory.remove(&identity(max)).map(|past| past.high_water), Some(7));
        assert_eq!(memory.remove(&identity(max - 1)), None, "it ended first");
        assert!(memory.remove(&identity(0)).is_some());
        assert_eq!(memory.dialogs.len(), memory.ends.len());
    }

    #[test]
    fn what_is_remembered_again_with_another_end_is_there_once() {
        let mut memory = Memory::default();
        memory.extend([(identity(1), past(5))]);
        memory.insert(identity(1), past(9));
        assert_eq!(memory.ends.len(), 1);
        assert_eq!(memory.remove(&identity(1)).map(|past| past.expires), Some(9));
        assert!(memory.dialogs.is_empty() && memory.ends.is_empty());
    }
}
