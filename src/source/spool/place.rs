//! From paths to names: which mailbox a path in the spool belongs to.
//!
//! Folders are watched under their real path, because the kernel knows a folder only once: of two
//! names for one folder (`example.com -> default`) it would report changes under one of them.
//! [`Places`] knows which names lead to a real path.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use mwid_core::mailbox::Mailbox;

use super::count::{FOLDERS, is_message};

/// What a path in the spool is.
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

/// The real paths of the spool.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The root, links resolved.
    root: PathBuf,
    /// Real path to the names that lead there; only for names that are links.
    names: HashMap<PathBuf, Vec<Name>>,
    contexts: HashMap<Box<str>, PathBuf>,
    mailboxes: HashMap<Mailbox, PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Context(Box<str>),
    Mailbox(Mailbox),
}

impl Places {
    /// A spool whose root, links resolved, is `root`.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, ..Self::default() }
    }

    /// The root, links resolved.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The real folder of a context.
    pub(super) fn context(&self, context: &str) -> PathBuf {
        self.contexts.get(context).cloned().unwrap_or_else(|| self.root.join(context))
    }

    /// The real folder of a mailbox.
    pub(super) fn mailbox(&self, mailbox: &Mailbox) -> PathBuf {
        match self.mailboxes.get(mailbox) {
            Some(path) => path.clone(),
            None => self.context(mailbox.context()).join(mailbox.number()),
        }
    }

    /// Whether [`Places::link_context`] would change nothing.
    pub(super) fn knows_context(&self, context: &str, real: Option<&Path>) -> bool {
        self.contexts.get(context).map(PathBuf::as_path) == real
    }

    /// Whether [`Places::link_mailbox`] would change nothing.
    pub(super) fn knows_mailbox(&self, mailbox: &Mailbox, real: Option<&Path>) -> bool {
        self.mailboxes.get(mailbox).map(PathBuf::as_path) == real
    }

    /// The folder of a context is a link to `real`, or (`None`) no link.
    pub(super) fn link_context(&mut self, context: &str, real: Option<PathBuf>) {
        let old = match &real {
            Some(real) => self.contexts.insert(context.into(), real.clone()),
            None => self.contexts.remove(context),
        };
        self.rename(&Name::Context(context.into()), old, real);
    }

    /// The folder of a mailbox is a link to `real`, or (`None`) no link.
    pub(super) fn link_mailbox(&mut self, mailbox: &Mailbox, real: Option<PathBuf>) {
        let old = match &real {
            Some(real) => self.mailboxes.insert(mailbox.clone(), real.clone()),
            None => self.mailboxes.remove(mailbox),
        };
        self.rename(&Name::Mailbox(mailbox.clone()), old, real);
    }

    fn rename(&mut self, name: &Name, old: Option<PathBuf>, new: Option<PathBuf>) {
        if let Some(old) = old
            && let Some(names) = self.names.get_mut(&old)
        {
            names.retain(|other| other != name);
            if names.is_empty() {
                self.names.remove(&old);
            }
        }
        if let Some(new) = new {
            self.names.entry(new).or_default().push(name.clone());
        }
    }

    /// Calls `found` with every place that the real path `path` is. A path that says nothing about
    /// a count (a recording, a greeting, a bad name) is none.
    pub(super) fn resolve(&self, path: &Path, mut found: impl FnMut(Place)) {
        if let Ok(rest) = path.strip_prefix(&self.root) {
            below_root(rest).into_iter().for_each(&mut found);
        }
        if self.names.is_empty() {
            return;
        }
        for real in path.ancestors().take(4) {
            let (Some(names), Ok(rest)) = (self.names.get(real), path.strip_prefix(real)) else {
                continue;
            };
            for name in names {
                let place = match name {
                    Name::Context(context) => below_context(context, rest),
                    Name::Mailbox(mailbox) => below_mailbox(mailbox.clone(), rest),
                };
                place.into_iter().for_each(&mut found);
            }
        }
    }
}

/// The first component of a path and what follows it.
fn split(path: &Path) -> Option<(&OsStr, &Path)> {
    let mut components = path.iter();
    let first = components.next()?;
    Some((first, components.as_path()))
}

fn below_root(rest: &Path) -> Option<Place> {
    match split(rest) {
        None => Some(Place::Root),
        Some((context, rest)) => below_context(context.to_str()?, rest),
    }
}

fn below_context(context: &str, rest: &Path) -> Option<Place> {
    match split(rest) {
        None => Some(Place::Context(context.into())),
        Some((number, rest)) => below_mailbox(Mailbox::new(number.to_str()?, context).ok()?, rest),
    }
}

fn below_mailbox(mailbox: Mailbox, rest: &Path) -> Option<Place> {
    let Some((folder, rest)) = split(rest) else { return Some(Place::Mailbox(mailbox)) };
    if !FOLDERS.iter().any(|name| folder == *name) {
        return None;
    }
    match split(rest) {
        None => Some(Place::Mailbox(mailbox)),
        Some((file, _)) => is_message(file.as_bytes()).then_some(Place::Message(mailbox)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(places: &Places, path: &str) -> Vec<Place> {
        let mut all = Vec::new();
        places.resolve(Path::new(path), |place| all.push(place));
        all
    }

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).unwrap()
    }

    #[test]
    fn a_path_is_a_place_or_nothing() {
        let places = Places::new("/s".into());
        assert_eq!(resolve(&places, "/s"), [Place::Root]);
        assert_eq!(resolve(&places, "/s/default"), [Place::Context("default".into())]);
        for folder in ["/s/default/202", "/s/default/202/INBOX"] {
            assert_eq!(resolve(&places, folder), [Place::Mailbox(mailbox("202"))]);
        }
        let message = "/s/default/202/Urgent/msg0001.txt";
        assert_eq!(resolve(&places, message), [Place::Message(mailbox("202"))]);
        for nothing in [
            "/elsewhere/default/202/INBOX",
            "/s/default/202/tmp",
            "/s/default/202/tmp/msg0001.txt",
            "/s/default/202/INBOX/msg0001.wav",
            "/s/default/202/unavail.wav",
            "/s/default/.lock-1",
            "/s/default/a@b/INBOX",
        ] {
            assert_eq!(resolve(&places, nothing), [], "{nothing}");
        }
    }

    #[test]
    fn one_folder_with_two_names_is_two_places() {
        let mut places = Places::new("/s".into());
        places.link_context("example.com", Some("/s/default".into()));
        places.link_mailbox(&mailbox("300"), Some("/s/default/202".into()));
        let all = resolve(&places, "/s/default/202/INBOX/msg0000.txt");
        let expected = ["202", "300", "202@example.com"].map(|it| Place::Message(mailbox(it)));
        assert_eq!(all, expected);
        assert_eq!(places.mailbox(&mailbox("7@example.com")), Path::new("/s/default/7"));

        places.link_context("example.com", Some("/away".into()));
        places.link_mailbox(&mailbox("300"), None);
        let all = resolve(&places, "/s/default/202/INBOX/msg0000.txt");
        assert_eq!(all, [Place::Message(mailbox("202"))]);
        assert_eq!(places.mailbox(&mailbox("300")), Path::new("/s/default/300"));
    }
}
