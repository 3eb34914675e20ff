//! Whose folder the kernel watches: from its number for a watch to a name, and from what happened
//! in the folder to what it means.
//!
//! The kernel knows a folder only once, whatever leads to it: of two names for one folder
//! (`example.com -> default`) both get the same watch, which has two owners then.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;

use mwid_core::mailbox::Mailbox;

use super::count::{FOLDERS, is_message};

/// Who has a watched folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The folder that holds the contexts.
    Root,
    /// The folder of a context.
    Context(Box<str>),
    /// The folder of a mailbox, or one of its [`FOLDERS`].
    Mailbox(Mailbox),
}

/// What is in a watched folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// Folders.
    Folders,
    /// Messages.
    Messages,
}

/// Where an owner stands in the table. Worth nothing when its watches are gone, and then seen to be so.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot(u32);

/// What something happened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The folder that holds the contexts.
    Root,
    /// The folder of a context.
    Context(Box<str>),
    /// The folder of a mailbox, or one of its [`FOLDERS`].
    Mailbox(Mailbox),
    /// A message in one of the [`FOLDERS`] of a mailbox.
    Message(Mailbox),
}

/// The table. Small: there may be 400,000 watches.
#[derive(Debug)]
pub(super) struct Owners {
    /// Watch to its first owner.
    first: HashMap<i32, Held>,
    /// Its other owners: only for folders that have more than one name.
    others: HashMap<i32, Vec<Held>>,
    /// The owners, each once; the first is the root. `uses`: its watches.
    slots: Vec<(Owner, u32)>,
    free: Vec<Slot>,
}

/// A slot, and in the lowest bit what the folder holds.
#[derive(Clone, Copy, Debug)]
struct Held(u32);

impl Held {
    fn new(slot: Slot, holds: Holds) -> Self {
        Self(slot.0 << 1 | u32::from(holds == Holds::Messages))
    }

    fn slot(self) -> Slot {
        Slot(self.0 >> 1)
    }

    fn holds(self) -> Holds {
        if self.0 & 1 == 1 { Holds::Messages } else { Holds::Folders }
    }
}

impl Default for Owners {
    fn default() -> Self {
        Self {
            first: HashMap::new(),
            others: HashMap::new(),
            slots: vec![(Owner::Root, 1)],
            free: Vec::new(),
        }
    }
}

impl Owners {
    /// The kernel watches a folder of `owner`. `hint`: where the owner stood last; gives where it
    /// stands.
    pub(super) fn add(&mut self, watch: i32, owner: &Owner, holds: Holds, hint: Slot) -> Slot {
        let all =
            self.first.get(&watch).into_iter().chain(self.others.get(&watch).into_iter().flatten());
        if let Some(held) = all.copied().find(|held| self.owner(held.slot()) == Some(owner)) {
            return held.slot();
        }
        let slot = self.slot(owner, hint);
        let held = Held::new(slot, holds);
        if let Some(first) = self.first.get(&watch) {
            debug_assert_ne!(self.owner(first.slot()), Some(owner), "it would have been found");
            self.others.entry(watch).or_default().push(held);
        } else {
            self.first.insert(watch, held);
        }
        self.slots[slot.0 as usize].1 += 1;
        slot
    }

    fn owner(&self, slot: Slot) -> Option<&Owner> {
        self.slots.get(slot.0 as usize).map(|(owner, _)| owner)
    }

    fn slot(&mut self, owner: &Owner, hint: Slot) -> Slot {
        if self.owner(hint) == Some(owner) {
            return hint;
        }
        if let Some(slot) = self.free.pop() {
            self.slots[slot.0 as usize] = (owner.clone(), 0);
            return slot;
        }
        self.slots.push((owner.clone(), 0));
        Slot(u32::try_from(self.slots.len() - 1).expect("the kernel counts watches in 31 bits"))
    }

    /// The watch is gone. Gives whose it was.
    pub(super) fn remove(&mut self, watch: i32) -> Vec<Owner> {
        let others = self.others.remove(&watch).unwrap_or_default();
        let all: Vec<Held> = self.first.remove(&watch).into_iter().chain(others).collect();
        all.into_iter().map(|held| self.release(held.slot())).collect()
    }

    fn release(&mut self, slot: Slot) -> Owner {
        let (owner, uses) = &mut self.slots[slot.0 as usize];
        *uses -= 1;
        if *uses > 0 {
            return owner.clone();
        }
        self.free.push(slot);
        std::mem::replace(owner, Owner::Root)
    }

    /// Calls `found` with all that something happened to in a watched folder: to `name` in it, or to
    /// the folder itself. What says nothing about a count (a recording, a greeting, a bad name) is
    /// nothing.
    pub(super) fn resolve(&self, watch: i32, name: Option<&[u8]>, mut found: impl FnMut(Place)) {
        let all =
            self.first.get(&watch).into_iter().chain(self.others.get(&watch).into_iter().flatten());
        for held in all {
            let Some(owner) = self.owner(held.slot()) else { continue };
            owner.place(held.holds(), name).into_iter().for_each(&mut found);
        }
    }
}

impl Owner {
    fn place(&self, holds: Holds, name: Option<&[u8]>) -> Option<Place> {
        let Some(name) = name else { return Some(self.clone().into()) };
        let text = || std::ffi::OsStr::from_bytes(name).to_str();
        match (self, holds) {
            (Self::Root, _) => Some(Place::Context(text()?.into())),
            (Self::Context(context), _) => {
                Some(Place::Mailbox(Mailbox::new(text()?, context).ok()?))
            }
            (Self::Mailbox(mailbox), Holds::Folders) => FOLDERS
                .iter()
                .any(|it| it.as_bytes() == name)
                .then(|| Place::Mailbox(mailbox.clone())),
            (Self::Mailbox(mailbox), Holds::Messages) => {
                is_message(name).then(|| Place::Message(mailbox.clone()))
            }
        }
    }
}

impl From<Owner> for Place {
    fn from(owner: Owner) -> Self {
        match owner {
            Owner::Root => Self::Root,
            Owner::Context(context) => Self::Context(context),
            Owner::Mailbox(mailbox) => Self::Mailbox(mailbox),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).unwrap()
    }

    fn owner(text: &str) -> Owner {
        Owner::Mailbox(mailbox(text))
    }

    fn resolve(owners: &Owners, watch: i32, name: Option<&str>) -> Vec<Place> {
        let mut all = Vec::new();
        owners.resolve(watch, name.map(str::as_bytes), |place| all.push(place));
        all
    }

    /// `/` is watch 1, `/default` 2, `/default/202` 3, `/default/202/INBOX` 4.
    fn spool() -> Owners {
        let mut owners = Owners::default();
        owners.add(1, &Owner::Root, Holds::Folders, Slot::default());
        owners.add(2, &Owner::Context("default".into()), Holds::Folders, Slot::default());
        let slot = owners.add(3, &owner("202"), Holds::Folders, Slot::default());
        owners.add(4, &owner("202"), Holds::Messages, slot);
        owners
    }

    #[test]
    fn what_happens_in_a_folder_happens_to_a_place_or_to_nothing() {
        let owners = spool();
        assert_eq!(resolve(&owners, 1, None), [Place::Root]);
        for (watch, name) in [(1, Some("default")), (2, None)] {
            assert_eq!(resolve(&owners, watch, name), [Place::Context("default".into())]);
        }
        for (watch, name) in [(2, Some("202")), (3, None), (3, Some("INBOX")), (4, None)] {
            assert_eq!(resolve(&owners, watch, name), [Place::Mailbox(mailbox("202"))], "{name:?}");
        }
        assert_eq!(resolve(&owners, 4, Some("msg0001.txt")), [Place::Message(mailbox("202"))]);
        for (watch, name) in [
            (9, "msg0001.txt"),
            (3, "tmp"),
            (3, "msg0001.txt"),
            (3, "unavail.wav"),
            (4, "msg0001.wav"),
            (4, "INBOX"),
            (2, ".lock-1"),
            (2, "a@b"),
        ] {
            assert_eq!(resolve(&owners, watch, Some(name)), [], "{name}");
        }
    }

    #[test]
    fn one_folder_with_two_names_is_two_places() {
        let mut owners = spool();
        owners.add(2, &Owner::Context("example.com".into()), Holds::Folders, Slot::default());
        owners.add(4, &owner("202@example.com"), Holds::Messages, Slot::default());
        owners.add(4, &owner("202@example.com"), Holds::Messages, Slot::default());
        let both = ["202", "202@example.com"].map(mailbox);
        assert_eq!(resolve(&owners, 2, Some("202")), both.clone().map(Place::Mailbox));
        assert_eq!(resolve(&owners, 4, Some("msg0000.txt")), both.map(Place::Message));
        assert_eq!(owners.remove(4).len(), 2);
        assert_eq!(resolve(&owners, 4, Some("msg0000.txt")), []);
    }

    #[test]
    fn who_has_no_watch_any_more_makes_room_and_is_not_taken_for_another() {
        let mut owners = spool();
        let old = owners.add(3, &owner("202"), Holds::Folders, Slot::default());
        assert_eq!([owners.remove(3), owners.remove(4)], [[owner("202")], [owner("202")]]);
        owners.add(5, &owner("300"), Holds::Messages, Slot::default());
        assert_eq!(owners.slots.len(), 3, "it stands where the other one stood");
        owners.add(6, &owner("202"), Holds::Messages, old);
        assert_eq!(resolve(&owners, 5, None), [Place::Mailbox(mailbox("300"))]);
        assert_eq!(resolve(&owners, 6, None), [Place::Mailbox(mailbox("202"))]);
        assert_eq!(owners.remove(7), []);
    }
}
