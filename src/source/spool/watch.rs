//! Watching: from the kernel's events to signals.

use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use notify::event::{ModifyKind, RenameMode};
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::pending::Change;
use super::place::{Place, Places};
use super::signals::Signals;

/// Where the kernel says how many folders one user may watch.
const LIMIT: &str = "/proc/sys/fs/inotify/max_user_watches";

/// The folders that the kernel watches for us.
#[derive(Debug)]
pub(super) struct Watches {
    watcher: RecommendedWatcher,
    /// Why the last folder could not be watched; no other one is tried then.
    refused: Option<String>,
}

impl Watches {
    /// Starts a watcher that fills `signals`.
    ///
    /// # Errors
    /// The kernel has no inotify instance left.
    pub(super) fn start(
        places: Arc<RwLock<Places>>,
        signals: Arc<Signals>,
    ) -> Result<Self, notify::Error> {
        let handler = move |event| {
            let places = places.read().unwrap_or_else(PoisonError::into_inner);
            translate(event, &places, &signals);
        };
        let watcher = notify::recommended_watcher(handler)?;
        Ok(Self { watcher, refused: None })
    }

    /// Watches a folder, not what is below it. True: it is watched. A folder that is not there or
    /// not readable is not; counting it says the same with a better text.
    pub(super) fn add(&mut self, folder: &Path) -> bool {
        if self.refused.is_some() {
            return false;
        }
        match self.watcher.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => true,
            Err(error) => {
                self.refused = refusal(&error);
                false
            }
        }
    }

    /// Why some folders are not watched, if so.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Lets [`Watches::add`] try again.
    pub(super) fn forgive(&mut self) {
        self.refused = None;
    }
}

/// How many folders this user's processes may watch in all; 0 when the kernel does not say.
pub(super) fn limit() -> usize {
    let text = std::fs::read_to_string(LIMIT).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

/// The text for an operator when an error concerns more than the one folder.
fn refusal(error: &notify::Error) -> Option<String> {
    match &error.kind {
        ErrorKind::MaxFilesWatch => {
            Some(format!("the kernel's limit of {} watched folders is reached", limit()))
        }
        ErrorKind::PathNotFound => None,
        ErrorKind::Io(error) if concerns_one_folder(error) => None,
        _ => Some(error.to_string()),
    }
}

fn concerns_one_folder(error: &io::Error) -> bool {
    use nix::errno::Errno::{EACCES, EIO, ELOOP, ENOENT, ENOTDIR, ESTALE};
    error.raw_os_error().is_some_and(|code| {
        [EACCES, EIO, ELOOP, ENOENT, ENOTDIR, ESTALE].iter().any(|&errno| errno as i32 == code)
    })
}

/// What an event means for a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Came,
    Went,
    /// Permissions or owner: of interest for folders only.
    Altered,
}

/// Reads of our own come back as `Access`; `Both` repeats a `From` and a `To`; a message that is
/// written to (`Data`) was counted when its name appeared.
fn meaning(kind: EventKind) -> Option<Meaning> {
    match kind {
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
            Some(Meaning::Came)
        }
        EventKind::Remove(_)
        | EventKind::Modify(ModifyKind::Name(
            RenameMode::From | RenameMode::Any | RenameMode::Other,
        )) => Some(Meaning::Went),
        EventKind::Modify(ModifyKind::Metadata(_)) => Some(Meaning::Altered),
        _ => None,
    }
}

fn translate(event: notify::Result<Event>, places: &Places, signals: &Signals) {
    let event = match event {
        Ok(event) if !event.need_rescan() => event,
        Ok(_) => {
            tracing::warn!(
                "the kernel dropped spool events, counting everything again; \
                 sysctl fs.inotify.max_queued_events= allows longer bursts"
            );
            return signals.tell(|batch| batch.rescan = true);
        }
        Err(error) => {
            tracing::warn!(%error, "watching the spool failed, counting everything again");
            return signals.tell(|batch| batch.rescan = true);
        }
    };
    let Some(meaning) = meaning(event.kind) else { return };
    for path in &event.paths {
        places.resolve(path, |place| {
            signals.tell(|batch| match (place, meaning) {
                (Place::Root, _) => batch.root = true,
                (Place::Context(context), _) => batch.context(context),
                (Place::Mailbox(mailbox), Meaning::Came | Meaning::Altered) => {
                    batch.appear(mailbox);
                }
                (Place::Mailbox(mailbox) | Place::Message(mailbox), Meaning::Went) => {
                    batch.change(mailbox, Change::Other);
                }
                (Place::Message(mailbox), Meaning::Came) => batch.change(mailbox, Change::Arrival),
                (Place::Message(_), Meaning::Altered) => {}
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use mwid_core::mailbox::Mailbox;
    use notify::event::{AccessKind, CreateKind, DataChange, Flag, MetadataKind, RemoveKind};

    use super::*;
    use crate::source::spool::signals::Batch;

    fn told(event: Event) -> Batch {
        let signals = Signals::default();
        translate(Ok(event), &Places::new("/s".into()), &signals);
        signals.take(Instant::now())
    }

    fn on(kind: EventKind, path: &str) -> Batch {
        told(Event::new(kind).add_path(path.into()))
    }

    const MESSAGE: &str = "/s/default/202/INBOX/msg0000.txt";

    #[test]
    fn a_lost_event_asks_for_a_full_count() {
        assert!(told(Event::new(EventKind::Other).set_flag(Flag::Rescan)).rescan);
    }

    #[test]
    fn a_rename_into_the_folder_is_an_arrival_and_out_of_it_is_not() {
        let mailbox = Mailbox::parse("202").unwrap();
        let rename = |mode| EventKind::Modify(ModifyKind::Name(mode));
        let came = on(rename(RenameMode::To), MESSAGE);
        assert_eq!(came.changed[&mailbox], Change::Arrival);
        let went = on(rename(RenameMode::From), MESSAGE);
        assert_eq!(went.changed[&mailbox], Change::Other);
        let removed = on(EventKind::Remove(RemoveKind::File), MESSAGE);
        assert_eq!(removed.changed[&mailbox], Change::Other);
    }

    #[test]
    fn reading_and_writing_a_message_say_nothing() {
        let data = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let owner = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
        for kind in [EventKind::Access(AccessKind::Read), data, owner] {
            assert!(on(kind, MESSAGE).changed.is_empty());
        }
    }

    #[test]
    fn a_new_folder_and_one_with_new_permissions_are_looked_at() {
        let owner = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
        for kind in [EventKind::Create(CreateKind::Folder), owner] {
            assert_eq!(on(kind, "/s/default/202/INBOX").appeared.len(), 1);
            assert_eq!(on(kind, "/s/default").contexts.len(), 1);
            assert!(on(kind, "/s").root);
        }
    }
}
