//! The voicemail folders: may they be read?

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use mwid_core::mailbox::Mailbox;

use super::{Report, inotify};
use crate::config::Config;
use crate::source::spool::{context_of, list, mailbox_of};

/// Problems that are shown one by one.
const SHOWN: usize = 3;

/// The folders of a mailbox that are counted, and so watched with it.
const FOLDERS: [&str; 3] = ["INBOX", "Old", "Urgent"];

/// What was found on the way through the folders.
#[derive(Default)]
struct Walk {
    contexts: usize,
    mailboxes: Vec<Mailbox>,
    /// Folders that can be neither, by their names.
    skipped: usize,
    problems: Vec<String>,
    failed: usize,
}

impl Walk {
    fn problem(&mut self, path: &Path, error: &io::Error) {
        self.failed += 1;
        if self.problems.len() < SHOWN {
            self.problems.push(format!("{}: {error}", path.display()));
        }
    }

    /// The folders in a folder that mwid looks at.
    fn folders(&mut self, path: &Path) -> Vec<OsString> {
        list(path).unwrap_or_else(|error| {
            self.problem(path, &error);
            Vec::new()
        })
    }

    fn root(&mut self, root: &Path) {
        for name in self.folders(root) {
            match context_of(&name) {
                Ok(Some(context)) => self.context(&root.join(context), context),
                Ok(None) => {}
                Err(_) => self.skipped += 1,
            }
        }
    }

    fn context(&mut self, path: &Path, context: &str) {
        self.contexts += 1;
        for name in self.folders(path) {
            match mailbox_of(&name, context) {
                Ok(mailbox) => {
                    self.mailbox(&path.join(name));
                    self.mailboxes.push(mailbox);
                }
                Err(_) => self.skipped += 1,
            }
        }
    }

    fn mailbox(&mut self, path: &Path) {
        for folder in FOLDERS {
            let folder = path.join(folder);
            match fs::read_dir(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.problem(&folder, &error);
                }
                _ => {}
            }
        }
    }

    /// How many folders mwid watches, those included that are made with the first message.
    fn watches(&self) -> usize {
        1 + self.contexts + self.mailboxes.len() * (FOLDERS.len() + 1)
    }
}

/// Gives the mailboxes that are there; `None` where the spool is not used or not there.
pub(super) fn look(config: &Config, report: &mut Report) -> Option<Vec<Mailbox>> {
    if !config.spool.enabled {
        report.ok("spool", "not used: [spool] enabled = no");
        return None;
    }
    let root = &config.spool.path;
    if let Err(error) = fs::read_dir(root) {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => {
                "mount it, or name it in [spool] path; [spool] enabled = no where messages are in ODBC or IMAP storage"
            }
            io::ErrorKind::NotADirectory => "name the folder of the contexts in [spool] path",
            _ => {
                "mwid's user must be in the group of the folders, asterisk: Group=asterisk in the unit, and chmod g+rx on each"
            }
        };
        report.fail("spool", format!("{}: {error}", root.display()), remedy);
        return None;
    }
    let mut walk = Walk::default();
    walk.root(root);
    said(root, &walk, report);
    inotify::look(config, walk.watches(), report);
    Some(walk.mailboxes)
}

fn said(root: &Path, walk: &Walk, report: &mut Report) {
    let at = root.display();
    let mut counted =
        format!("{at}: contexts {}, mailboxes {}", walk.contexts, walk.mailboxes.len());
    if walk.skipped > 0 {
        let skipped =
            format!(", {} folders skipped: no mailbox can have their names", walk.skipped);
        counted.push_str(&skipped);
    }
    if walk.failed > 0 {
        let more = walk.failed - walk.problems.len();
        let more = if more > 0 { format!("\nand {more} more") } else { String::new() };
        let (failed, problems) = (walk.failed, walk.problems.join("\n"));
        report.fail(
            "spool",
            format!("{counted}; {failed} folders cannot be read\n{problems}{more}"),
            match root.join("lost+found").exists() {
                true => format!("find {at} -path {at}/lost+found -prune -o -exec chgrp asterisk {{}} + -exec chmod g+rX {{}} +"),
                false => format!("chgrp -R asterisk {at} && chmod -R g+rX {at}"),
            },
        );
    } else if walk.mailboxes.is_empty() {
        report.warn(
            "spool",
            format!("{counted}: it is empty"),
            "is it the folder that holds the contexts, and is it mounted?",
        );
    } else {
        report.ok("spool", format!("{counted}, all readable"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_watches_are_needed_as_the_spool_takes() {
        let mailboxes = ["1", "2", "3"].map(|it| Mailbox::parse(it).unwrap()).to_vec();
        let walk = Walk { contexts: 2, mailboxes, ..Walk::default() };
        assert_eq!(walk.watches(), 15, "the root, two contexts, and four folders of each mailbox");
    }
}
