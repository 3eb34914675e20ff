//! Brings what the journal (WAL) holds into the file, beside the thread that writes: that takes a
//! sync or two of the disk and up to thousands of pages, and the next CSeq must not wait for them.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rusqlite::{Connection, OpenFlags};

/// Orders that are written between two checkpoints: each takes about a page of 4 KiB in the journal.
const ORDERS: usize = 2000;

/// Pages in the journal at which the writer brings the rest of them into the file by itself: only
/// then, or when nothing is written, the journal begins anew.
pub(super) const MOST_PAGES: u32 = 4 * 2000;

/// The thread, and how far it is to its next turn.
#[derive(Debug)]
pub(super) struct Checkpoints {
    /// Held while it has the file open: it must not be moved or closed then. SQLite removes the journal
    /// of a file by its name when nobody has that file any more.
    gate: Gate,
    turn: SyncSender<()>,
    thread: Option<JoinHandle<()>>,
    orders: usize,
}

impl Checkpoints {
    /// Of the ledger at this path. Without a thread the writer does it all.
    pub(super) fn start(path: PathBuf) -> Self {
        let (turn, turns) = sync_channel(1);
        let gate = Gate::default();
        let held = gate.clone();
        let thread = thread::Builder::new()
            .name("checkpoints".to_owned())
            .spawn(move || run(&path, &held, &turns))
            .inspect_err(|error| tracing::warn!(%error, "the ledger has no thread for checkpoints"))
            .ok();
        Self { gate, turn, thread, orders: 0 }
    }

    /// So many orders were written.
    pub(super) fn written(&mut self, orders: usize) {
        self.orders += orders;
        if self.orders >= ORDERS {
            self.orders = 0;
            // One that has not begun yet sees these, too.
            let _ = self.turn.try_send(());
        }
    }

    /// What is to be locked while the file is moved, made or closed.
    pub(super) fn gate(&self) -> Gate {
        self.gate.clone()
    }

    /// Ends the thread; waits for the checkpoint that is under way.
    pub(super) fn end(self) {
        drop(self.turn);
        if let Some(thread) = self.thread {
            // A panic of the thread has been printed by itself.
            let _ = thread.join();
        }
    }
}

/// Keeps the file from being opened for a checkpoint.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate(Arc<Mutex<()>>);

impl Gate {
    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(path: &Path, gate: &Gate, turns: &Receiver<()>) {
    while turns.recv().is_ok() {
        let _held = gate.lock();
        if let Err(error) = checkpoint(path) {
            // The writer meets the same trouble and says what to do about it.
            tracing::debug!(%error, "no checkpoint of the ledger");
        }
    }
}

/// As far as nobody is in the way. Never makes the file.
fn checkpoint(path: &Path) -> Result<(), rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
