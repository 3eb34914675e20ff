//! The root and the contexts: what is in them, and whether they are still the same folders. A
//! context or root that is gone (or another one: unmounted, restored, a link turned round) is a
//! trouble, never a zero.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use mwid_core::mailbox::{Mailbox, NameError};

use super::count::{Identity, Seen, look};
use super::health::{RootState, Subject};
use super::owners::{Holds, Owner, Slot};
use super::watch::Watches;
use super::worker::{Closed, Walk, Worker};
use crate::config::Watch;
use crate::source::Observation;

impl Worker {
    /// Looks at the root. Says which contexts are to be listed, and how: a root that is not the
    /// one that it was turns any walk into a full count.
    pub(super) fn list_root(&mut self, walk: Walk) -> (Walk, Vec<Box<str>>) {
        match self.open_root(walk) {
            Ok((walk, folders)) => {
                let contexts = self.contexts_of(folders);
                let missing = self.missing(&contexts);
                if contexts.is_empty() && !self.tree.is_empty() {
                    self.lose_root("it is empty, and was not before: is it mounted?".to_owned());
                } else {
                    self.root_is_well();
                    missing.iter().for_each(|name| self.lose_context(name, "it is gone"));
                }
                (walk, contexts)
            }
            Err(error) => {
                self.lose_root(error.to_string());
                (walk, Vec::new())
            }
        }
    }

    fn open_root(&mut self, walk: Walk) -> io::Result<(Walk, Vec<OsString>)> {
        let path = self.settings.path.clone();
        let identity = Identity::of(&fs::metadata(&path)?);
        let same = self.tree.root == Some(identity);
        if !same {
            self.renew();
            self.tree.root = Some(identity);
        }
        // A root that was moved away and back is the same, and its watch was removed on the way.
        if let Some(watches) = &mut self.watches {
            watches.add(&path, &Owner::Root, Holds::Folders, &mut Slot::default());
        }
        let folders = list(&path)?;
        Ok((if same { walk } else { Walk::Full }, folders))
    }

    /// A new watcher for a new root.
    fn renew(&mut self) {
        self.watches = None;
        self.tree.unwatch();
        if self.settings.watch == Watch::Poll {
            return;
        }
        match Watches::start(Arc::clone(&self.signals)) {
            Ok(watches) => self.watches = Some(watches),
            Err(error) => tracing::warn!(
                %error,
                "the spool cannot be watched and is polled instead; \
                 sysctl fs.inotify.max_user_instances= allows more watchers"
            ),
        }
    }

    fn root_is_well(&self) {
        self.condition.well(&Subject::Root);
        let state = if self.watches.is_some() { RootState::Watching } else { RootState::Polling };
        self.condition.set(|health| health.root = state);
    }

    /// The root cannot be seen: everything below it is lost, not empty.
    fn lose_root(&mut self, error: String) {
        let error = format!("{}: {error}", self.settings.path.display());
        self.condition.trouble(Subject::Root, error.clone());
        self.condition.set(|health| health.root = RootState::Absent { error });
        (self.tree.root, self.watches) = (None, None);
        let contexts: Vec<Box<str>> = self.tree.contexts.keys().cloned().collect();
        contexts.iter().for_each(|context| self.tree.lose(context));
        self.tree.contexts.retain(|_, context| !context.mailboxes.is_empty());
    }

    fn contexts_of(&mut self, folders: Vec<OsString>) -> Vec<Box<str>> {
        let mut contexts = Vec::new();
        for name in folders {
            match context_of(&name) {
                Ok(context) => contexts.extend(context.map(Into::into)),
                Err(error) => {
                    self.bad_names.meet(&self.settings.path.join(&name), error.as_ref());
                }
            }
        }
        contexts
    }

    fn missing(&self, contexts: &[Box<str>]) -> Vec<Box<str>> {
        let present: std::collections::HashSet<&Box<str>> = contexts.iter().collect();
        self.tree.contexts.keys().filter(|name| !present.contains(name)).cloned().collect()
    }

    /// The folder of a context is gone or unreadable, and with it every mailbox.
    fn lose_context(&mut self, name: &str, error: &str) {
        self.tree.lose(name);
        let subject = Subject::Context(name.into());
        let lost = self.tree.contexts.get(name).map_or(0, |context| context.mailboxes.len());
        let path = self.settings.path.join(name);
        if lost == 0 && matches!(look(&path), Ok(None)) {
            self.tree.contexts.remove(name);
            self.condition.well(&subject);
            return;
        }
        let error = format!(
            "{}: {error}; the {lost} mailboxes that were in it keep their last state. \
             `mwid forget {name}` if they are gone for good",
            path.display()
        );
        self.condition.trouble(subject, error);
    }

    /// Looks at a context. Says which of its mailboxes are to be counted: for a pulse those that
    /// came, went or were lost, else all.
    pub(super) fn list_context(&mut self, name: &str, walk: Walk) -> Vec<Mailbox> {
        let path = self.settings.path.join(name);
        let metadata = match look(&path) {
            Ok(Some(metadata)) if metadata.is_dir() => metadata,
            Ok(Some(_)) => {
                // A plain file beside the contexts is nobody's business unless it took the
                // place of one.
                if self.tree.contexts.contains_key(name) {
                    self.lose_context(name, "it is not a folder");
                }
                return Vec::new();
            }
            Ok(None) => {
                if self.tree.contexts.contains_key(name) {
                    self.lose_context(name, "it is gone");
                }
                return Vec::new();
            }
            Err(error) => {
                self.tree.contexts.entry(name.into()).or_default();
                self.lose_context(name, &error.to_string());
                return Vec::new();
            }
        };
        let identity = Identity::of(&metadata);
        let seen = Seen::before_reading(&metadata, SystemTime::now());
        let context = self.tree.contexts.entry(name.into()).or_default();
        let same = context.identity == Some(identity);
        let troubled = self.condition.is_troubled(&Subject::Context(name.into()));
        match walk {
            Walk::Sweep if same && !troubled && context.seen.still(&path) => {
                return self.tree.mailboxes(name);
            }
            Walk::Pulse if same && !troubled && (context.watched || self.watches.is_none()) => {
                return Vec::new();
            }
            _ => {}
        }
        if context.identity.is_some() && !same {
            self.tree.lose(name);
        }
        self.watch_context(name, &path, !same || walk == Walk::Full);
        match list(&path) {
            Ok(folders) => {
                let context = self.tree.contexts.entry(name.into()).or_default();
                (context.identity, context.seen) = (Some(identity), seen);
                let due = self.mailboxes_of((name, &path), folders, walk, identity.inode());
                self.say_what_is_lost(name);
                due
            }
            Err(error) => {
                let error = format!("{}: {error}", path.display());
                self.condition.trouble(Subject::Context(name.into()), error);
                self.tree.mailboxes(name)
            }
        }
    }

    fn watch_context(&mut self, name: &str, path: &Path, rewatch: bool) {
        let watched = self.tree.contexts.get(name).is_some_and(|context| context.watched);
        if let Some(watches) = &mut self.watches
            && (rewatch || !watched)
        {
            let owner = Owner::Context(name.into());
            let watched = watches.add(path, &owner, Holds::Folders, &mut Slot::default());
            self.tree.watch_context(name, watched);
        }
    }

    /// Takes in the listing of a context.
    fn mailboxes_of(
        &mut self,
        (context, path): (&str, &Path),
        folders: Vec<OsString>,
        walk: Walk,
        inode: u64,
    ) -> Vec<Mailbox> {
        self.tree.listings = self.tree.listings.wrapping_add(1);
        let listing = self.tree.listings;
        let mut due = Vec::new();
        for name in folders {
            let mailbox = match mailbox_of(&name, context) {
                Ok(mailbox) => mailbox,
                Err(error) => {
                    self.bad_names.meet(&path.join(name), error.as_ref());
                    continue;
                }
            };
            let known = self.tree.get(&mailbox);
            let mut entry = known.unwrap_or_default();
            entry.listing = listing;
            self.tree.put(&mailbox, entry);
            if walk != Walk::Pulse || known.is_none() || entry.lost {
                due.push(mailbox);
            }
        }
        self.tree.believe(context, inode);
        let Some(context) = self.tree.contexts.get(context) else { return due };
        let gone =
            |(_, entry): &(&Mailbox, &super::tree::Entry)| entry.listing != listing && !entry.lost;
        due.extend(context.mailboxes.iter().filter(gone).map(|(mailbox, _)| mailbox.clone()));
        due
    }

    /// Mailboxes that were in the folder before it was replaced and are not in it now.
    fn say_what_is_lost(&mut self, name: &str) {
        let Some(context) = self.tree.contexts.get(name) else { return };
        let listing = self.tree.listings;
        let lost = context
            .mailboxes
            .values()
            .filter(|entry| entry.lost && entry.listing != listing)
            .count();
        let subject = Subject::Context(name.into());
        if lost == 0 {
            self.condition.well(&subject);
            return self.note_folder(name);
        }
        let error = format!(
            "{}: it is not the folder that it was, and {lost} mailboxes are not in it; they keep \
             their last state. Is it mounted? `mwid forget {name}` if they are gone for good",
            self.settings.path.join(name).display()
        );
        self.condition.trouble(subject, error);
        self.next_pulse = Instant::now();
    }

    /// All that was in a context is in this folder: by it the context is known after a restart.
    fn note_folder(&mut self, name: &str) {
        let Some(context) = self.tree.contexts.get_mut(name) else { return };
        let inode = context.identity.map(Identity::inode);
        if let Some(inode) = inode.filter(|_| context.inode != inode) {
            context.inode = Some(inode);
            self.noted.push(Observation::Listed { context: name.into(), inode });
        }
    }

    /// What is lost in a context is gone for good, says an operator.
    pub(super) fn forget(&mut self, name: &str) -> Result<(), Closed> {
        let lost = self.tree.forget_lost(name);
        tracing::info!(context = name, mailboxes = lost.len(), "gone for good, says the operator");
        for mailbox in &lost {
            self.emptied(mailbox)?;
        }
        self.condition.well(&Subject::Context(name.into()));
        self.next_pulse = Instant::now();
        // Complete, perhaps, without them.
        self.start(Walk::Full);
        Ok(())
    }
}

/// The context that a folder in the root is; `None`: it is the file system's own.
///
/// # Errors
/// It cannot be a context: by its name, or, without a [`NameError`], because that is no UTF-8.
pub(crate) fn context_of(name: &OsStr) -> Result<Option<&str>, Option<NameError>> {
    if name == "lost+found" {
        return Ok(None);
    }
    let name = name.to_str().ok_or(None)?;
    // The name of a context is checked by making a mailbox in it.
    Mailbox::new("0", name).map_err(Some)?;
    Ok(Some(name))
}

/// The mailbox that a folder in a context is.
///
/// # Errors
/// As for [`context_of`].
pub(crate) fn mailbox_of(name: &OsStr, context: &str) -> Result<Mailbox, Option<NameError>> {
    Mailbox::new(name.to_str().ok_or(None)?, context).map_err(Some)
}

/// The folders in a folder, and the links that lead to one or nowhere. Hidden ones are not ours.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn list(path: &Path) -> io::Result<Vec<OsString>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let kind = entry.file_type()?;
        let is_folder = kind.is_dir() || kind.is_symlink() && !leads_to_a_file(&entry);
        if is_folder && !name.as_bytes().starts_with(b".") {
            folders.push(name);
        }
    }
    Ok(folders)
}

fn leads_to_a_file(entry: &DirEntry) -> bool {
    fs::metadata(entry.path()).is_ok_and(|metadata| !metadata.is_dir())
}
