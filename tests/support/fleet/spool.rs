//! Asterisk's voicemail folders, and what people do to them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use mwid_core::summary::Summary;

use super::random::Random;

/// The context of every mailbox: it is the domain of its account.
pub const CONTEXT: &str = "example.com";

/// The number of the first mailbox.
const FIRST: usize = 1000;

/// The folders whose messages a phone is told of.
const FOLDERS: [&str; 3] = ["INBOX", "Old", "Urgent"];

/// Nobody keeps more messages than this in a folder for ever.
const FULL: usize = 20;

/// `count` mailboxes, all empty in the beginning.
#[derive(Debug)]
pub struct Spool {
    root: PathBuf,
    count: usize,
    changes: AtomicUsize,
}

impl Spool {
    /// Makes the folders.
    pub fn new(root: &Path, count: usize) -> Self {
        let spool = Self { root: root.to_owned(), count, changes: AtomicUsize::new(0) };
        for index in 0..count {
            for folder in FOLDERS {
                fs::create_dir_all(spool.mailbox(index).join(folder)).expect("our own folder");
            }
        }
        spool
    }

    /// The folder that holds the contexts.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How many mailboxes there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The user part of a mailbox's account.
    pub fn user(index: usize) -> String {
        (FIRST + index).to_string()
    }

    /// How often a mailbox was changed.
    pub fn changes(&self) -> usize {
        self.changes.load(Ordering::Relaxed)
    }

    /// Somebody leaves, hears or deletes a message somewhere; some mailboxes are busier.
    pub fn change(&self, random: &mut Random) {
        let index = random.index(self.count).min(random.index(self.count));
        let inbox = self.messages(index, "INBOX");
        let old = self.messages(index, "Old");
        let urgent = self.messages(index, "Urgent");
        match random.below(10) {
            _ if old > FULL => self.delete(index, "Old", random.index(old)),
            _ if urgent > FULL => self.delete(index, "Urgent", random.index(urgent)),
            0..=2 if inbox > 0 => self.hear(index, inbox, old),
            3 | 4 if inbox > 0 => self.delete(index, "INBOX", random.index(inbox)),
            5 if old > 0 => self.delete(index, "Old", random.index(old)),
            6 => self.leave_in(index, "Urgent"),
            _ => self.leave(index),
        }
    }

    /// Somebody leaves a message.
    pub fn leave(&self, index: usize) {
        self.leave_in(index, "INBOX");
    }

    /// What the mailbox holds, counted anew.
    pub fn truth(&self, index: usize) -> Summary {
        let count = |folder| u32::try_from(self.messages(index, folder)).expect("not that many");
        let [inbox, old, urgent] = FOLDERS.map(count);
        Summary { new: inbox + urgent, old, new_urgent: urgent, old_urgent: 0 }
    }

    /// What each mailbox holds.
    pub fn truths(&self) -> Vec<Summary> {
        (0..self.count).map(|index| self.truth(index)).collect()
    }

    /// Recorded in `tmp`, then renamed into its folder, as Asterisk does it.
    fn leave_in(&self, index: usize, folder: &str) {
        self.count_change();
        let recording = self.mailbox(index).join("tmp");
        fs::create_dir_all(&recording).expect("our own folder");
        fs::write(recording.join("rec.txt"), "[message]\n").expect("our own folder");
        let number = self.messages(index, folder);
        rename(&recording.join("rec.txt"), &self.message(index, folder, number));
    }

    /// The oldest message moves to Old, the others move up.
    fn hear(&self, index: usize, inbox: usize, old: usize) {
        self.count_change();
        rename(&self.message(index, "INBOX", 0), &self.message(index, "Old", old));
        self.close_gap(index, "INBOX", 0, inbox);
    }

    fn delete(&self, index: usize, folder: &str, number: usize) {
        self.count_change();
        let count = self.messages(index, folder);
        fs::remove_file(self.message(index, folder, number)).expect("it is there");
        self.close_gap(index, folder, number, count);
    }

    /// Asterisk numbers a folder anew when a message has left it: a burst of renames.
    fn close_gap(&self, index: usize, folder: &str, gap: usize, count: usize) {
        for number in gap + 1..count {
            let message = |number| self.message(index, folder, number);
            rename(&message(number), &message(number - 1));
        }
    }

    fn count_change(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    fn mailbox(&self, index: usize) -> PathBuf {
        self.root.join(CONTEXT).join(Self::user(index))
    }

    fn message(&self, index: usize, folder: &str, number: usize) -> PathBuf {
        self.mailbox(index).join(folder).join(format!("msg{number:04}.txt"))
    }

    fn messages(&self, index: usize, folder: &str) -> usize {
        fs::read_dir(self.mailbox(index).join(folder)).expect("our own folder").count()
    }
}

fn rename(from: &Path, to: &Path) {
    fs::rename(from, to)
        .unwrap_or_else(|error| panic!("{} to {}: {error}", from.display(), to.display()));
}
