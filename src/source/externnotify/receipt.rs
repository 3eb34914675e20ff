//! Which files of the drop folder were handed on, and the receipts that remove them.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::file_name::FileName;

/// Files that are handed on and not removed yet, at most.
const ROOM: usize = 65_536;
/// Files that were removed and may still be named by a datagram in the queue of the socket.
const RECENT: usize = 1024;

/// The files of the drop folder that this run knows.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    handed_on: HashSet<FileName>,
    removed: VecDeque<FileName>,
    /// Files that cannot be removed; they stay among those handed on.
    stuck: u64,
    said_missing: bool,
}

/// What came of taking a file.
#[derive(Debug)]
pub(super) enum Taken {
    /// It is new.
    New(FileReceipt),
    /// It was handed on before.
    Known,
    /// Too many files are handed on already.
    NoRoom,
}

impl Files {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, known: Mutex::default() }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the file needs no look: it was handed on.
    pub(super) fn is_known(&self, name: FileName) -> bool {
        self.lock().is_known(name)
    }

    /// Takes a file, once: its datagram and the collector may both come with it.
    pub(super) fn take(self: &Arc<Self>, name: FileName) -> Taken {
        let mut known = self.lock();
        if known.is_known(name) {
            return Taken::Known;
        }
        if known.handed_on.len() >= ROOM {
            return Taken::NoRoom;
        }
        known.handed_on.insert(name);
        Taken::New(FileReceipt { files: Arc::clone(self), name })
    }

    /// Files that were handed on and cannot be removed.
    pub(super) fn stuck(&self) -> u64 {
        self.lock().stuck
    }

    fn remove(&self, name: FileName) {
        let removed = fs::remove_file(self.folder.join(name.to_string()));
        let mut known = self.lock();
        match removed {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if !std::mem::replace(&mut known.said_missing, true) {
                    tracing::warn!(
                        folder = %self.folder.display(), %name,
                        "a call named a file that is not there; mwid-externnotify and [control] drop must mean the same folder"
                    );
                }
            }
            Err(error) => {
                known.stuck += 1;
                if known.stuck == 1 {
                    tracing::error!(
                        folder = %self.folder.display(), %name, %error,
                        "a dropped notice that was read cannot be removed; mwid's user must be able to write in the folder"
                    );
                }
                return;
            }
        }
        known.forget(name);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is_known(&self, name: FileName) -> bool {
        self.handed_on.contains(&name) || self.removed.contains(&name)
    }

    fn forget(&mut self, name: FileName) {
        self.handed_on.remove(&name);
        if self.removed.len() >= RECENT {
            self.removed.pop_front();
        }
        self.removed.push_back(name);
    }
}

/// The file of a call. It stays, also over a crash, until the call is [`done`](Self::done); a
/// receipt that is dropped leaves it for the next start.
#[derive(Debug)]
pub struct FileReceipt {
    files: Arc<Files>,
    name: FileName,
}

impl FileReceipt {
    /// What the call said is safe, or of no use any more: removes the file.
    pub fn done(self) {
        self.files.remove(self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(stamp: u64) -> FileName {
        FileName { stamp, process: 1, number: 0 }
    }

    fn files() -> (tempfile::TempDir, Arc<Files>) {
        let folder = tempfile::tempdir().unwrap();
        let files = Arc::new(Files::new(folder.path().to_owned()));
        (folder, files)
    }

    #[test]
    fn a_file_is_taken_once_and_goes_when_its_call_is_done() {
        let (folder, files) = files();
        let path = folder.path().join(name(7).to_string());
        fs::write(&path, "").unwrap();
        let Taken::New(receipt) = files.take(name(7)) else { panic!("not taken") };
        assert!(matches!(files.take(name(7)), Taken::Known));
        assert!(path.exists() && files.is_known(name(7)));
        receipt.done();
        assert!(!path.exists());
        // Its datagram comes late.
        assert!(matches!(files.take(name(7)), Taken::Known));
    }

    #[test]
    fn a_file_that_cannot_be_removed_is_not_taken_again() {
        let (folder, files) = files();
        fs::create_dir(folder.path().join(name(7).to_string())).unwrap();
        let Taken::New(receipt) = files.take(name(7)) else { panic!("not taken") };
        receipt.done();
        assert!(matches!(files.take(name(7)), Taken::Known));
        assert_eq!(files.stuck(), 1);
    }

    #[test]
    fn what_is_known_is_bounded() {
        let (_folder, files) = files();
        let room = ROOM as u64;
        let mut receipts: Vec<_> = (0..room).map(|stamp| files.take(name(stamp))).collect();
        assert!(matches!(files.take(name(room)), Taken::NoRoom));
        for receipt in receipts.drain(..RECENT + 10) {
            let Taken::New(receipt) = receipt else { panic!("not taken") };
            receipt.done();
        }
        assert!(matches!(files.take(name(room)), Taken::New(_)));
        assert_eq!(files.lock().removed.len(), RECENT);
    }
}
