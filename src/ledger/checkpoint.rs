//! Brings what the journal (WAL) holds into the file, beside the thread that writes: that takes a
//! sync or two of the disk and up to thousands of pages, and the next CSeq must not wait for them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rusqlite::{Connection, OpenFlags};

use super::health::PATIENCE;

/// Rows that are written between two checkpoints: each takes about a page of 4 KiB in the journal.
const ROWS: usize = 2000;

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
    stop: Arc<AtomicBool>,
    /// Closed by the thread when it has ended.
    ended: Receiver<()>,
    rows: usize,
}

impl Checkpoints {
    /// Of the ledger at this path. Without a thread the writer does it all.
    pub(super) fn start(path: PathBuf) -> Self {
        let ((turn, turns), (alive, ended)) = (sync_channel(1), sync_channel(0));
        let gate = Gate::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (held, stopped) = (gate.clone(), stop.clone());
        let work = move || {
            run(&path, &held, &turns, &stopped);
            drop::<SyncSender<()>>(alive);
        };
        if let Err(error) = thread::Builder::new().name("checkpoints".to_owned()).spawn(work) {
            tracing::warn!(%error, "the ledger has no thread for checkpoints");
        }
        Self { gate, turn, stop, ended, rows: 0 }
    }

    /// So many rows were written.
    pub(super) fn written(&mut self, rows: usize) {
        self.rows += rows;
        if self.rows >= ROWS {
            self.rows = 0;
            // One that has not begun yet sees these, too.
            let _ = self.turn.try_send(());
        }
    }

    /// What is to be locked while the file is moved, made or closed.
    pub(super) fn gate(&self) -> Gate {
        self.gate.clone()
    }

    /// Ends the thread; waits for the checkpoint that is under way, unless the disk hangs.
    pub(super) fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.turn);
        if self.ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("a checkpoint of the ledger does not end; mwid stops without");
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

fn run(path: &Path, gate: &Gate, turns: &Receiver<()>, stop: &AtomicBool) {
    while turns.recv().is_ok() && !stop.load(Ordering::Relaxed) {
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
