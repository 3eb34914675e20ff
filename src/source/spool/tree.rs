//! What is known of the spool: its contexts and mailboxes as last seen.

use std::collections::{BTreeMap, HashMap};

use mwid_core::mailbox::Mailbox;
use mwid_core::summary::Summary;

use super::count::{FOLDERS, Identity, Seen};
use super::owners::Slot;

/// The place of a mailbox's own folder in [`Entry::watched`], after those of [`FOLDERS`].
pub(super) const SELF: usize = FOLDERS.len();

/// A mailbox as last seen. Small: there may be 100,000 of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    /// What was last observed, once it had a folder with messages.
    summary: Summary,
    has_summary: bool,
    /// What its folders looked like then.
    pub(super) seen: [Seen; 3],
    /// Which of its folders the kernel watches, its own last.
    pub(super) watched: [bool; 4],
    /// Where it stands among those whose folders the kernel watches.
    pub(super) slot: Slot,
    /// It went away with its context: that is no reason to believe that it is empty.
    pub(super) lost: bool,
    /// It held messages before a restart and has not been counted since.
    pub(super) remembered: bool,
    /// The listing of the context in which it was last found.
    pub(super) listing: u32,
}

impl Entry {
    /// Of before a restart. Lost until the folder of its context proves to be the one that it was.
    fn remembered() -> Self {
        Self { has_summary: true, lost: true, remembered: true, ..Self::default() }
    }

    /// Whether these counts say anything new.
    pub(super) fn is_news(&self, summary: Summary) -> bool {
        self.lost || self.remembered || !self.has_summary || self.summary != summary
    }

    /// Whether it had a folder with messages so far.
    pub(super) fn has_summary(&self) -> bool {
        self.has_summary
    }

    /// It was counted.
    pub(super) fn count(&mut self, summary: Summary) {
        (self.summary, self.has_summary) = (summary, true);
    }

    fn is_counted(&self) -> bool {
        self.has_summary && !self.remembered
    }

    fn folders_watched(&self) -> usize {
        self.watched.iter().filter(|&&watched| watched).count()
    }
}

/// A context as last seen.
#[derive(Debug, Default)]
pub(super) struct Context {
    /// Which folder it was.
    pub(super) identity: Option<Identity>,
    /// The inode that is remembered for the next start.
    pub(super) inode: Option<u64>,
    /// What the folder looked like when it was last listed.
    pub(super) seen: Seen,
    /// Whether the kernel watches the folder.
    pub(super) watched: bool,
    /// Its mailboxes.
    pub(super) mailboxes: HashMap<Mailbox, Entry>,
}

/// Everything that is known.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Which folder the root was.
    pub(super) root: Option<Identity>,
    /// The contexts by name.
    pub(super) contexts: BTreeMap<Box<str>, Context>,
    /// Counts the listings of contexts, to mark what was found in each.
    pub(super) listings: u32,
    folders_watched: usize,
    mailboxes_counted: usize,
}

impl Tree {
    /// What is there is not known yet, but what was.
    pub(super) fn expecting(mailboxes: Vec<Mailbox>, contexts: Vec<(Box<str>, u64)>) -> Self {
        let mut tree = Self::default();
        mailboxes.iter().for_each(|mailbox| tree.put(mailbox, Entry::remembered()));
        for (name, inode) in contexts {
            // One without mailboxes is not missed.
            if let Some(context) = tree.contexts.get_mut(&name) {
                context.inode = Some(inode);
            }
        }
        tree
    }

    /// A mailbox.
    pub(super) fn get(&self, mailbox: &Mailbox) -> Option<Entry> {
        self.contexts.get(mailbox.context())?.mailboxes.get(mailbox).copied()
    }

    /// Remembers a mailbox.
    pub(super) fn put(&mut self, mailbox: &Mailbox, entry: Entry) {
        self.account(entry, true);
        let context = self.contexts.entry(mailbox.context().into()).or_default();
        if let Some(old) = context.mailboxes.insert(mailbox.clone(), entry) {
            self.account(old, false);
        }
    }

    /// Forgets a mailbox.
    pub(super) fn remove(&mut self, mailbox: &Mailbox) {
        let context = self.contexts.get_mut(mailbox.context());
        if let Some(old) = context.and_then(|context| context.mailboxes.remove(mailbox)) {
            self.account(old, false);
        }
    }

    /// The mailboxes of a context.
    pub(super) fn mailboxes(&self, context: &str) -> Vec<Mailbox> {
        self.contexts
            .get(context)
            .map(|context| context.mailboxes.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// The folder of a context is gone, and every mailbox with it. The kernel watches none of it.
    pub(super) fn lose(&mut self, context: &str) {
        let Some(context) = self.contexts.get_mut(context) else { return };
        self.folders_watched -= usize::from(context.watched);
        (context.identity, context.seen, context.watched) = (None, Seen::DIRTY, false);
        for entry in context.mailboxes.values_mut() {
            self.folders_watched -= entry.folders_watched();
            entry.watched = [false; 4];
            entry.lost = true;
        }
        context.mailboxes.retain(|_, entry| entry.has_summary);
    }

    /// A context was listed for the first time since a restart: whether its folder, with this inode,
    /// is the one that it was. Then what is missing in it has been removed, and is looked for no
    /// more. Another folder may be the same one restored or moved, which has most of the mailboxes;
    /// or one under a mount that failed, which has none, or a few that Asterisk has made since.
    pub(super) fn believe(&mut self, context: &str, inode: u64) {
        let listing = self.listings;
        let Some(context) = self.contexts.get_mut(context) else { return };
        let remembered = context.mailboxes.values().filter(|entry| entry.remembered);
        let (mut all, mut found) = (0_usize, 0_usize);
        for entry in remembered {
            all += 1;
            found += usize::from(entry.listing == listing);
        }
        if context.inode == Some(inode) || found * 2 >= all {
            let remembered = context.mailboxes.values_mut().filter(|entry| entry.remembered);
            remembered.for_each(|entry| entry.lost = false);
        }
    }

    /// Forgets the mailboxes of a context that were lost. Gives them.
    pub(super) fn forget_lost(&mut self, context: &str) -> Vec<Mailbox> {
        let mailboxes = self.contexts.get(context).map(|context| &context.mailboxes);
        let lost = mailboxes.into_iter().flatten().filter(|(_, entry)| entry.lost);
        let lost: Vec<Mailbox> = lost.map(|(mailbox, _)| mailbox.clone()).collect();
        lost.iter().for_each(|mailbox| self.remove(mailbox));
        lost
    }

    /// The watcher is gone.
    pub(super) fn unwatch(&mut self) {
        for context in self.contexts.values_mut() {
            context.watched = false;
            context.mailboxes.values_mut().for_each(|entry| entry.watched = [false; 4]);
        }
        self.folders_watched = 0;
    }

    /// The kernel watches the folder of a context, or does not.
    pub(super) fn watch_context(&mut self, context: &str, watched: bool) {
        let Some(context) = self.contexts.get_mut(context) else { return };
        self.folders_watched -= usize::from(context.watched);
        self.folders_watched += usize::from(watched);
        context.watched = watched;
    }

    /// Folders of contexts and mailboxes that the kernel watches.
    pub(super) fn folders_watched(&self) -> usize {
        self.folders_watched
    }

    /// Mailboxes that have been counted.
    pub(super) fn mailboxes_counted(&self) -> usize {
        self.mailboxes_counted
    }

    /// Whether anything was ever counted here.
    pub(super) fn is_empty(&self) -> bool {
        self.contexts.values().all(|context| context.mailboxes.is_empty())
    }

    /// How many watches the whole of it needs, the root included.
    pub(super) fn watches_needed(&self) -> usize {
        let mailboxes: usize = self.contexts.values().map(|it| it.mailboxes.len()).sum();
        1 + self.contexts.len() + mailboxes * (FOLDERS.len() + 1)
    }

    fn account(&mut self, entry: Entry, added: bool) {
        let (folders, counted) = (entry.folders_watched(), usize::from(entry.is_counted()));
        if added {
            self.folders_watched += folders;
            self.mailboxes_counted += counted;
        } else {
            self.folders_watched -= folders;
            self.mailboxes_counted -= counted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_is_small_in_its_table() {
        assert!(size_of::<(Mailbox, Entry)>() <= 72, "{}", size_of::<Entry>());
    }
}
