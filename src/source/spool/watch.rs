//! Watching: from the kernel's events to signals.

use std::io::{self, PipeReader, PipeWriter};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::owners::{Holds, Owner, Owners, Place, Slot};
use super::pending::Change;
use super::signals::Signals;

/// Where the kernel says how many folders one user may watch.
const LIMIT: &str = "/proc/sys/fs/inotify/max_user_watches";

/// Events that are read at once, in bytes.
const BUFFER: usize = 16_384;

/// Nothing that comes of reading a folder: that would be told of every count.
const WANTED: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// The folders that the kernel watches for us. Dropping it ends its thread.
#[derive(Debug)]
pub(super) struct Watches {
    shared: Arc<Shared>,
    /// Why the last folder could not be watched; no other one is tried then.
    refused: Option<String>,
    _stop: PipeWriter,
}

#[derive(Debug)]
struct Shared {
    inotify: OwnedFd,
    /// Held while a watch is made or removed: no event meets a watch that is not in it yet.
    owners: Mutex<Owners>,
    signals: Arc<Signals>,
    /// Why nothing is heard any more.
    deaf: OnceLock<String>,
}

impl Watches {
    /// Starts a watcher that fills `signals`.
    ///
    /// # Errors
    /// The kernel has no inotify instance or no thread left.
    pub(super) fn start(signals: Arc<Signals>) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let (owners, deaf) = (Mutex::default(), OnceLock::new());
        let shared = Arc::new(Shared { inotify, owners, signals, deaf });
        let (stopped, stop) = io::pipe()?;
        let heard = Arc::clone(&shared);
        thread::Builder::new().name("inotify".to_owned()).spawn(move || heard.run(&stopped))?;
        Ok(Self { shared, refused: None, _stop: stop })
    }

    /// Watches a folder, not what is below it. `slot` is where its owner stands. True: it is watched.
    /// A folder that is not there or not readable is not; counting it says the same with a better text.
    pub(super) fn add(
        &mut self,
        folder: &Path,
        owner: &Owner,
        holds: Holds,
        slot: &mut Slot,
    ) -> bool {
        if self.refused.is_some() {
            return false;
        }
        let mut owners = self.shared.owners();
        match inotify::add_watch(&self.shared.inotify, folder, WANTED) {
            Ok(watch) => {
                *slot = owners.add(watch, owner, holds, *slot);
                true
            }
            Err(error) => {
                self.refused = refusal(error);
                false
            }
        }
    }

    /// Why some folders are not watched, if so.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.as_ref().or(self.shared.deaf.get()).map(String::as_str)
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
fn refusal(error: Errno) -> Option<String> {
    match error {
        Errno::NOSPC => {
            Some(format!("the kernel's limit of {} watched folders is reached", limit()))
        }
        Errno::ACCESS | Errno::IO | Errno::LOOP | Errno::NOENT | Errno::NOTDIR | Errno::STALE => {
            None
        }
        error => Some(error.to_string()),
    }
}

/// What an event means for a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Came,
    Went,
    /// Permissions or owner: of interest for folders only.
    Altered,
}

fn meaning(events: ReadFlags) -> Option<Meaning> {
    let came = ReadFlags::CREATE | ReadFlags::MOVED_TO | ReadFlags::MOVE_SELF;
    let went =
        ReadFlags::DELETE | ReadFlags::MOVED_FROM | ReadFlags::DELETE_SELF | ReadFlags::UNMOUNT;
    match events {
        _ if events.intersects(came) => Some(Meaning::Came),
        _ if events.intersects(went) => Some(Meaning::Went),
        _ if events.contains(ReadFlags::ATTRIB) => Some(Meaning::Altered),
        _ => None,
    }
}

impl Shared {
    fn owners(&self) -> MutexGuard<'_, Owners> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, stopped: &PipeReader) {
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
        loop {
            let mut wait =
                [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
            match poll(&mut wait, None) {
                Ok(_) if !wait[1].revents().is_empty() => return,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return self.give_up(error),
            }
            let mut events = Reader::new(&self.inotify, &mut buffer);
            loop {
                match events.next() {
                    Ok(event) => self.hear(&event),
                    Err(Errno::AGAIN | Errno::INTR) => break,
                    Err(error) => return self.give_up(error),
                }
            }
        }
    }

    /// From here on the spool is polled.
    fn give_up(&self, error: Errno) {
        tracing::error!(%error, "watching the spool failed, it is polled instead");
        // It is said once.
        let _ = self.deaf.set(format!("watching failed: {error}"));
        self.signals.tell(|batch| batch.rescan = true);
    }

    fn hear(&self, event: &Event<'_>) {
        let (watch, events) = (event.wd(), event.events());
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            tracing::warn!(
                "the kernel dropped spool events, counting everything again; \
                 sysctl fs.inotify.max_queued_events= allows longer bursts"
            );
            return self.signals.tell(|batch| batch.rescan = true);
        }
        let mut owners = self.owners();
        if events.contains(ReadFlags::IGNORED) {
            owners.remove(watch);
            return;
        }
        let Some(meaning) = meaning(events) else { return };
        if events.contains(ReadFlags::MOVE_SELF) {
            // It has another name now, or none here. Whoever has it under its new name looks again.
            let _ = inotify::remove_watch(&self.inotify, watch);
            let gone = owners.remove(watch);
            return gone.into_iter().for_each(|owner| self.tell(owner.into(), meaning));
        }
        let name = event.file_name().map(|name| name.to_bytes());
        owners.resolve(watch, name, |place| self.tell(place, meaning));
    }

    fn tell(&self, place: Place, meaning: Meaning) {
        self.signals.tell(|batch| match (place, meaning) {
            (Place::Root, _) => batch.root = true,
            (Place::Context(context), _) => batch.context(context),
            (Place::Mailbox(mailbox), Meaning::Came | Meaning::Altered) => batch.appear(mailbox),
            (Place::Mailbox(mailbox) | Place::Message(mailbox), Meaning::Went) => {
                batch.change(mailbox, Change::Other);
            }
            (Place::Message(mailbox), Meaning::Came) => batch.change(mailbox, Change::Arrival),
            (Place::Message(_), Meaning::Altered) => {}
        });
    }
}
