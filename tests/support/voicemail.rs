//! Asterisk's side of the spool: what app_voicemail does to the files of a mailbox.

use std::fs;
use std::path::{Path, PathBuf};

/// What makes a message: the sound, then the text, with which the message counts.
const KINDS: [&str; 2] = ["wav", "txt"];

/// One mailbox of a spool. Its folders are made with its first message, and for a moment it is an
/// empty mailbox: whoever looks may see that.
#[derive(Clone, Debug)]
pub struct Voicemail {
    folder: PathBuf,
}

impl Voicemail {
    /// The mailbox `number@context` of the spool at `root`.
    pub fn of(root: &Path, mailbox: &str) -> Self {
        let (number, context) = mailbox.split_once('@').expect("number@context");
        Self { folder: root.join(context).join(number) }
    }

    /// Makes the folders before there is any message.
    pub fn open(&self) {
        for folder in ["tmp", "INBOX", "Old", "Urgent"] {
            fs::create_dir_all(self.folder.join(folder)).expect("our own folder");
        }
    }

    /// Somebody leaves a message.
    pub fn leave(&self) {
        self.record("INBOX");
    }

    /// Somebody leaves a message and marks it as urgent.
    pub fn leave_urgent(&self) {
        self.record("Urgent");
    }

    /// The oldest message of the INBOX is heard: it moves to the end of Old, the others move up.
    pub fn hear(&self) {
        let (inbox, old) = (self.count("INBOX"), self.count("Old"));
        assert!(inbox > 0, "{} has no new message", self.folder.display());
        fs::create_dir_all(self.folder.join("Old")).expect("our own folder");
        self.rename(&self.path("INBOX", 0), &self.path("Old", old));
        for number in 1..inbox {
            self.rename(&self.path("INBOX", number), &self.path("INBOX", number - 1));
        }
    }

    /// Recorded in `tmp`, then renamed into its folder.
    fn record(&self, folder: &str) {
        let recording = self.folder.join("tmp").join("recording");
        for folder in ["tmp", folder] {
            fs::create_dir_all(self.folder.join(folder)).expect("our own folder");
        }
        for kind in KINDS {
            fs::write(recording.with_extension(kind), kind).expect("our own folder");
        }
        self.rename(&recording, &self.path(folder, self.count(folder)));
    }

    fn rename(&self, from: &Path, to: &Path) {
        for kind in KINDS {
            let renamed = fs::rename(from.with_extension(kind), to.with_extension(kind));
            renamed
                .unwrap_or_else(|error| panic!("{} to {}: {error}", from.display(), to.display()));
        }
    }

    fn count(&self, folder: &str) -> usize {
        (0..).take_while(|number| self.path(folder, *number).with_extension("txt").exists()).count()
    }

    fn path(&self, folder: &str, number: usize) -> PathBuf {
        self.folder.join(folder).join(format!("msg{number:04}"))
    }
}
