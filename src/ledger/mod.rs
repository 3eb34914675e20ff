//! The ledger: mwid's own durable memory, one SQLite file.
//!
//! It remembers, per dialog, the highest CSeq that was sent and the summary that the phone last
//! acknowledged, and the counts of mailboxes that only a call gave (externnotify, HTTP). What must not be
//! forgotten is written before the bytes go out ([`Ledger::sending`]), everything else in batches.
//!
//! What it says of dialogs is a memory, not a truth: without it every phone is told once more. So a
//! damaged ledger is set aside, one that cannot be written is moved away, and neither keeps mwid
//! from starting. What a call gave is the only truth that there is: it stays in its file, or its
//! client gets no answer, until it is written here ([`Ledger::given`]), a ledger that was moved away
//! (`ledger.db.given`) is still read for it, and a new one is filled with it.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use mwid_core::dialog::{Dialog, Identity};
use mwid_core::mailbox::Mailbox;
use mwid_core::reconciler::Remembered;
use mwid_core::summary::Summary;
use tokio::sync::oneshot;

use crate::lock::{self, Lock, LockError};
use crate::source::Receipt;

mod file;
mod given;
mod writer;

pub use given::Given;

use writer::{Order, Writer};

/// The ledger, open until dropped. Dropping it writes what is left.
#[derive(Debug)]
pub struct Ledger {
    /// `None` only while dropping.
    orders: Option<mpsc::Sender<Order>>,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
    _lock: Option<Lock>,
}

/// What was remembered from the time before.
#[derive(Debug, Default)]
pub struct Memory {
    /// The dialogs.
    pub dialogs: Vec<(Identity, Remembered)>,
    /// The mailboxes that only a call gave.
    pub mailboxes: Vec<Given>,
}

/// How the ledger is, for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Where it is.
    pub path: PathBuf,
    /// Why it cannot be written now.
    pub error: Option<String>,
}

impl Ledger {
    /// Opens the ledger, or a new one where there is none that can be read.
    ///
    /// # Errors
    /// [`LockError`] only when another mwid has it: two of them must never count CSeqs in one
    /// ledger. Everything else is said in the log and in [`state`](Self::state).
    pub fn open(path: &Path, unix: u64) -> Result<(Self, Memory), LockError> {
        // When this fails, opening the file does too, and says so.
        let _ = file::make_folder(path);
        let lock = match lock::take(path) {
            Ok(lock) => Some(lock),
            Err(held @ LockError::Held { .. }) => return Err(held),
            // No folder, no right to write: then there is no ledger file either.
            Err(LockError::Io { .. }) => None,
        };
        let state = Arc::new(Mutex::new(State { path: path.to_owned(), error: None }));
        let mut writer = Writer::new(path.to_owned(), state.clone());
        let memory = writer.open(unix);
        let (orders, inbox) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || writer.run(&inbox))
            .map_err(|source| LockError::Io { path: path.to_owned(), source })?;
        Ok((Self { orders: Some(orders), state, thread: Some(thread), _lock: lock }, memory))
    }

    /// A NOTIFY with this CSeq is about to be sent: from now on it is not known what the phone
    /// shows. Ready when that is written, so that a CSeq that was sent is never sent again.
    pub fn sending(&self, dialog: &Dialog, cseq: u32) -> impl Future<Output = ()> + use<> {
        let (done, written) = oneshot::channel();
        self.order(Order::Sending { dialog: writer::Facts::of(dialog), cseq, done });
        async move {
            // The writer answers even when it could not write: the lamp comes before the ledger.
            let _ = written.await;
        }
    }

    /// This CSeq was claimed and no NOTIFY carries it: the phone still shows what it did.
    pub fn unused(&self, dialog: &Dialog, cseq: u32) {
        self.order(Order::Unused { dialog: writer::Facts::of(dialog), cseq });
    }

    /// The phone acknowledged the NOTIFY with this CSeq.
    pub fn delivered(&self, dialog: &Dialog, cseq: u32, summary: Summary) {
        self.order(Order::Delivered { dialog: writer::Facts::of(dialog), cseq, summary });
    }

    /// The phone said that the subscription is gone.
    pub fn dead(&self, dialog: &Dialog) {
        self.order(Order::Dead { dialog: writer::Facts::of(dialog) });
    }

    /// A call gave counts, which are the truth unless the spool has the mailbox. The receipt is
    /// done as soon as they are written, to the disk, or newer ones have a file of their own.
    pub fn given(&self, given: Given, receipt: Option<Receipt>) {
        self.order(Order::Given { given, receipt });
    }

    /// The spool has the mailbox after all.
    pub fn not_given(&self, mailbox: &Mailbox) {
        self.order(Order::NotGiven { mailbox: mailbox.clone() });
    }

    /// How the ledger is now.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // The thread ends only after the sender is gone.
            let _ = orders.send(order);
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed by itself.
            let _ = thread.join();
        }
    }
}
