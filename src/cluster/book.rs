//! What the table says, in memory: who counts what in each mailbox, and the sums.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mwid_core::mailbox::Mailbox;
use mwid_core::summary::Summary;

use super::store::{Origin, Part};

/// What one node counts in a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    node: Arc<str>,
    summary: Summary,
    origin: Origin,
    /// It was not there when the table was read anew.
    vanished: bool,
}

/// The counts of all nodes.
#[derive(Debug, Default)]
pub(super) struct Book {
    mailboxes: HashMap<Mailbox, Vec<Entry>>,
    /// One copy of each name, whatever the number of rows.
    nodes: HashSet<Arc<str>>,
}

impl Book {
    pub(super) fn len(&self) -> usize {
        self.mailboxes.len()
    }

    /// Takes in a row. True when the sum of its mailbox may be another now.
    pub(super) fn apply(&mut self, part: &Part) -> bool {
        let node = match self.nodes.get(part.node.as_str()) {
            Some(node) => node.clone(),
            None => {
                let node: Arc<str> = part.node.as_str().into();
                self.nodes.insert(node.clone());
                node
            }
        };
        let Part { summary, origin, .. } = *part;
        let entry = Entry { node, summary, origin, vanished: false };
        let entries = self.mailboxes.entry(part.mailbox.clone()).or_default();
        match entries.iter_mut().find(|old| old.node == entry.node) {
            Some(old) => {
                let before = std::mem::replace(old, entry.clone());
                let known = |entry: &Entry| entry.origin != Origin::Unknown;
                before.summary != entry.summary || known(&before) != known(&entry)
            }
            None => {
                entries.push(entry);
                true
            }
        }
    }

    /// What the nodes count together; `None` while one of them has it and could never count it. What
    /// nobody has is empty.
    pub(super) fn sum(&self, mailbox: &Mailbox) -> Option<Summary> {
        let mut entries = self.mailboxes.get(mailbox).into_iter().flatten();
        entries.try_fold(Summary::default(), |sum, entry| {
            (entry.origin != Origin::Unknown).then(|| sum.plus(entry.summary))
        })
    }

    /// What this node counts in the mailbox.
    pub(super) fn of(&self, node: &str, mailbox: &Mailbox) -> Option<(Summary, Origin)> {
        let mut entries = self.mailboxes.get(mailbox)?.iter();
        let entry = entries.find(|entry| *entry.node == *node && !entry.vanished)?;
        Some((entry.summary, entry.origin))
    }

    /// The mailboxes that this node has in its spool.
    pub(super) fn counted_by<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Mailbox> {
        let own = move |entry: &Entry| {
            *entry.node == *node && entry.origin != Origin::Given && !entry.vanished
        };
        let mine = self.mailboxes.iter().filter(move |(_, entries)| entries.iter().any(own));
        mine.map(|(mailbox, _)| mailbox)
    }

    pub(super) fn mailboxes(&self) -> impl Iterator<Item = &Mailbox> {
        self.mailboxes.keys()
    }

    /// The table is read anew from its beginning: what does not come again will have vanished.
    pub(super) fn doubt(&mut self) {
        self.mailboxes.values_mut().flatten().for_each(|entry| entry.vanished = true);
    }

    /// Takes out what has vanished. Gives the mailboxes whose sums may be others now.
    pub(super) fn forget_vanished(&mut self) -> Vec<Mailbox> {
        let mut changed = Vec::new();
        for (mailbox, entries) in &mut self.mailboxes {
            let before = entries.len();
            entries.retain(|entry| !entry.vanished);
            if entries.len() < before {
                changed.push(mailbox.clone());
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(node: &str, number: &str, new: u32) -> Part {
        let summary = Summary { new, ..Summary::default() };
        let mailbox = Mailbox::new(number, "example.com").unwrap();
        Part { node: node.into(), mailbox, summary, origin: Origin::Counted }
    }

    fn new(book: &Book, number: &str) -> Option<u32> {
        book.sum(&Mailbox::new(number, "example.com").unwrap()).map(|summary| summary.new)
    }

    #[test]
    fn a_mailbox_is_the_sum_over_all_nodes() {
        let mut book = Book::default();
        assert!(book.apply(&part("a", "1", 2)) && book.apply(&part("b", "1", 3)));
        assert_eq!((new(&book, "1"), new(&book, "2")), (Some(5), Some(0)));
        assert!(!book.apply(&part("a", "1", 2)), "nothing new");
        assert!(book.apply(&part("a", "1", 0)));
        assert_eq!(new(&book, "1"), Some(3));
        assert_eq!(book.counted_by("a").count(), 1);
    }

    #[test]
    fn what_one_node_could_not_count_is_no_sum_whatever_the_others_count() {
        let mut book = Book::default();
        book.apply(&part("b", "1", 0));
        assert!(book.apply(&Part { origin: Origin::Unknown, ..part("a", "1", 0) }));
        assert_eq!((new(&book, "1"), book.counted_by("a").count()), (None, 1));
        assert!(book.apply(&part("a", "1", 0)), "now it is known to be empty");
        assert_eq!(new(&book, "1"), Some(0));
    }

    #[test]
    fn what_vanishes_counts_until_it_is_forgotten() {
        let mut book = Book::default();
        book.apply(&part("a", "1", 2));
        book.apply(&part("b", "1", 3));
        book.doubt();
        assert!(!book.apply(&part("b", "1", 3)));
        assert_eq!(new(&book, "1"), Some(5));
        assert_eq!(book.of("a", &part("a", "1", 0).mailbox), None);
        assert_eq!(book.forget_vanished().len(), 1);
        assert_eq!(new(&book, "1"), Some(3));
        assert!(book.forget_vanished().is_empty());
    }
}
