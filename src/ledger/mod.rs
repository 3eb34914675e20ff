//! The ledger: mwid's own durable memory, one SQLite file.
//!
//! It remembers, per dialog, the highest CSeq that was sent and the summary that the phone last
//! acknowledged; per publication its entity-tag and the summary that its server last took; the counts
//! of mailboxes that only a call gave (externnotify, HTTP); and the last summary of each account with
//! the mailboxes that lit it. What must not be forgotten is written before the bytes go out
//! ([`Ledger::sending`], [`Ledger::publishing`]), everything else in batches.
//!
//! What it says of dialogs is a memory, not a truth: without it every phone is told once more. So a
//! damaged ledger is set aside (what calls gave is read from it first), one of another user is copied,
//! one that cannot be written or does not answer is moved away, and none keeps mwid from starting; only a mailbox or a mapping that went away in between goes unnoticed then. What a
//! call gave is the only truth that there is: it stays in its file, or its
//! client gets no answer, until it is written here ([`Ledger::given`]), a ledger that was moved away
//! (`ledger.db.given`) is still read for it, and a new one is filled with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use mwid_core::dialog::{Dialog, Identity};
use mwid_core::mailbox::{Account, Mailbox};
use mwid_core::publication::{self, Way};
use mwid_core::reconciler::{Published, Remembered};
use mwid_core::summary::Summary;
use tokio::sync::oneshot;

use crate::lock::{self, Lock, LockError};
use crate::source::Receipt;

mod checkpoint;
mod file;
mod given;
mod health;
mod last;
mod order;
mod owner;
mod publications;
mod writer;

pub use given::Given;
pub use last::{Last, Member};

use health::{Health, PATIENCE};
use last::Lasts;
use order::Order;
use writer::Writer;

/// The ledger, open until dropped. Dropping it writes what is left.
#[derive(Debug)]
pub struct Ledger {
    health: Arc<Health>,
    lasts: Lasts,
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
    /// What servers published of accounts.
    pub publications: Vec<((Account, Way), Published)>,
    /// Which servers these were.
    pub servers: Vec<(Way, String)>,
    /// The accounts whose phones may show messages.
    pub accounts: Vec<Last>,
    /// Which folder each context of the spool was, by its inode.
    pub contexts: Vec<(Box<str>, u64)>,
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
        let was_here = file::was_here(path);
        // When this fails, opening the file does too, and says so.
        let _ = file::make_folder(path);
        let lock = match lock::take(path) {
            Ok(lock) => Some(lock),
            Err(held @ LockError::Held { .. }) => return Err(held),
            // No folder, no right to write: then there is no ledger file either, and opening that says so.
            Err(error @ LockError::Io { .. }) => {
                if was_here {
                    tracing::warn!("nothing keeps a second mwid away from the ledger: {error}");
                }
                None
            }
        };
        owner::finish(path);
        if was_here && file::is_lost(path) {
            tracing::warn!(
                "the ledger {} is missing or empty, though mwid has run with it before (a power loss?): every phone is told once more, counts that only calls gave are not known until the next call, and the lamp of a mailbox that is gone may stay as it is",
                path.display()
            );
        }
        let (orders, inbox) = mpsc::channel();
        let health = Arc::new(Health::new(path.to_owned(), orders));
        let lasts = Lasts::default();
        let mut writer = Writer::new(path.to_owned(), health.clone(), lasts.clone());
        let memory = writer.open(unix);
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || writer.run(&inbox))
            .map_err(|source| LockError::Io { path: path.to_owned(), source })?;
        let thread = Some(thread);
        Ok((Self { health, lasts, thread, _lock: lock }, memory))
    }

    /// NOTIFYs with these CSeqs are about to be sent: from now on it is not known what their phones
    /// show. Ready when that is written, so that a CSeq that was sent is never sent again.
    pub fn sending(&self, notifies: Vec<(Arc<Dialog>, u32)>) -> impl Future<Output = ()> + use<> {
        let (done, written) = oneshot::channel();
        self.order(Order::Sending { notifies, done });
        self.wait(written)
    }

    /// A step of a publication is about to be taken: from now on it is not known what its server has.
    /// Ready when that is written, so that a restart states it anew.
    pub fn publishing(&self, step: &publication::Order) -> impl Future<Output = ()> + use<> {
        let (done, written) = oneshot::channel();
        let (account, way) = (step.account.clone(), step.way);
        self.order(Order::Publishing { account, way, done });
        self.wait(written)
    }

    /// What came of a step of a publication. `unix` is now, in Unix seconds.
    pub fn published(&self, step: &publication::Order, outcome: &publication::Outcome, unix: u64) {
        let (account, way) = (step.account.clone(), step.way);
        match publications::after(step, outcome, unix) {
            Some(Some(published)) => self.order(Order::Published { account, way, published }),
            Some(None) => self.order(Order::Unpublished { account, way }),
            None => {}
        }
    }

    /// A way's server is this one from now on: what another one took is no longer known.
    pub fn serve(&self, way: Way, server: String) {
        self.order(Order::Server { way, server });
    }

    /// This CSeq was claimed and no NOTIFY carries it: the phone still shows what it did.
    pub fn unused(&self, dialog: &Arc<Dialog>, cseq: u32) {
        self.order(Order::Unused { dialog: dialog.clone(), cseq });
    }

    /// The phone acknowledged the NOTIFY with this CSeq.
    pub fn delivered(&self, dialog: &Arc<Dialog>, cseq: u32, summary: Summary) {
        self.order(Order::Delivered { dialog: dialog.clone(), cseq, summary });
    }

    /// The phone said that the subscription is gone.
    pub fn dead(&self, dialog: &Arc<Dialog>) {
        self.order(Order::Dead { dialog: dialog.clone() });
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

    /// The account's phones must show this, because of these mailboxes. Only what changed is written.
    pub fn lit(&self, account: &Account, summary: Summary, by: Vec<Member>) {
        let order = self.lasts.lock().light(account, summary, by);
        order.into_iter().for_each(|order| self.order(order));
    }

    /// The account's phones must show that there is no message.
    pub fn dark(&self, account: &Account) {
        let order = self.lasts.lock().darken(account);
        order.into_iter().for_each(|order| self.order(order));
    }

    /// Whether the account has no message, and may have phones that do not show that yet.
    #[must_use]
    pub fn is_darkening(&self, account: &Account) -> bool {
        self.lasts.lock().is_darkening(account)
    }

    /// All phones of the account show that there is no message, or others see to that.
    pub fn told_dark(&self, account: &Account) {
        let order = self.lasts.lock().forget(account);
        order.into_iter().for_each(|order| self.order(order));
    }

    /// A context of the spool is the folder with this inode.
    pub fn context(&self, context: &str, inode: u64) {
        let order = self.lasts.lock().context(context, inode);
        order.into_iter().for_each(|order| self.order(order));
    }

    /// The accounts whose phones may show messages, and what lit them.
    #[must_use]
    pub fn lasts(&self) -> Vec<Last> {
        self.lasts.lock().all().0
    }

    /// The mailboxes of those accounts that were counted in this mwid's spool, each once for every
    /// account that it lights, and which folder each context of it was.
    #[must_use]
    pub fn counted_here(&self) -> (Vec<Mailbox>, Vec<(Box<str>, u64)>) {
        let known = self.lasts.lock();
        (known.counted_here(), known.contexts())
    }

    /// How the ledger is now.
    #[must_use]
    pub fn state(&self) -> State {
        self.health.state()
    }

    fn order(&self, order: Order) {
        self.health.order(order);
    }

    /// The writer answers even when it could not write, and is left behind when it does not answer:
    /// the lamp comes before the ledger.
    fn wait(&self, written: oneshot::Receiver<()>) -> impl Future<Output = ()> + use<> {
        let health = self.health.clone();
        async move {
            if tokio::time::timeout(PATIENCE, written).await.is_err() {
                health.leave_behind();
            }
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let is_left = self.health.close();
        if let Some(thread) = self.thread.take().filter(|_| !is_left) {
            // A panic of the thread has been printed by itself.
            let _ = thread.join();
        }
    }
}
