//! The thread that writes: many orders, one commit.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mwid_core::dialog::Dialog;
use mwid_core::mailbox::Mailbox;
use mwid_core::summary::Summary;
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use super::{Memory, State, file};

/// What nobody waits for is written within this time.
const BATCH: Duration = Duration::from_millis(100);

/// Orders in one commit, at most.
const MAX_BATCH: usize = 4096;

/// Between two tries to make a new ledger after the old one could not be written.
const RETRY: Duration = Duration::from_secs(10);

/// What the ledger keeps of a dialog.
#[derive(Debug)]
pub(super) struct Facts {
    call_id: Box<str>,
    local_tag: Box<str>,
    remote_tag: Box<str>,
    remote_cseq: u32,
    expires: u64,
    contact: Box<str>,
}

impl Facts {
    pub(super) fn of(dialog: &Dialog) -> Self {
        Self {
            call_id: dialog.call_id.clone(),
            local_tag: dialog.local_tag.clone(),
            remote_tag: dialog.remote_tag.clone(),
            remote_cseq: dialog.remote_cseq,
            expires: dialog.expires,
            contact: dialog.remote_target.clone(),
        }
    }
}

#[derive(Debug)]
pub(super) enum Order {
    Sending { dialog: Facts, cseq: u32, done: oneshot::Sender<()> },
    Delivered { dialog: Facts, cseq: u32, summary: Summary },
    Dead { dialog: Facts },
    Given { mailbox: Mailbox, summary: Summary },
    NotGiven { mailbox: Mailbox },
}

pub(super) struct Writer {
    path: PathBuf,
    state: Arc<Mutex<State>>,
    /// `None` while there is no file that can be written.
    connection: Option<Connection>,
    retry: Instant,
}

impl Writer {
    pub(super) fn new(path: PathBuf, state: Arc<Mutex<State>>) -> Self {
        Self { path, state, connection: None, retry: Instant::now() }
    }

    /// Opens the file; sets one that cannot be used aside and makes a new one.
    pub(super) fn open(&mut self, unix: u64) -> Memory {
        let path = self.path.display();
        let problem = match file::open(&self.path, unix) {
            Ok((connection, memory)) => {
                self.connection = Some(connection);
                return memory;
            }
            // Nothing is wrong with it, but it could not be kept true.
            Err(problem) if problem.is_no_room() => {
                self.give_up(&format!("the disk is full ({problem})"));
                self.renew(unix);
                return Memory::default();
            }
            Err(problem) => problem,
        };
        match file::set_aside(&self.path, unix) {
            Ok(aside) => tracing::error!(
                "the ledger {path} cannot be used: {problem}; it is kept as {} and a new one is made: every phone is told once more",
                aside.display()
            ),
            Err(error) => tracing::error!(
                "the ledger {path} cannot be used: {problem}; nor can it be set aside: {error}"
            ),
        }
        self.renew(unix);
        Memory::default()
    }

    pub(super) fn run(mut self, inbox: &Receiver<Order>) {
        let mut batch = Vec::new();
        while let Ok(first) = inbox.recv() {
            batch.push(first);
            let until = Instant::now() + BATCH;
            while batch.len() < MAX_BATCH {
                // Whoever waits is not kept waiting; but whatever is there already comes along.
                let patience = if batch.iter().any(Order::is_waited_for) {
                    Duration::ZERO
                } else {
                    until.saturating_duration_since(Instant::now())
                };
                match inbox.recv_timeout(patience) {
                    Ok(order) => batch.push(order),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
            }
            self.write(&batch);
            for order in batch.drain(..) {
                if let Order::Sending { done, .. } = order {
                    // Whoever waited may have gone.
                    let _ = done.send(());
                }
            }
        }
    }

    fn write(&mut self, batch: &[Order]) {
        if self.connection.is_none() && Instant::now() >= self.retry {
            self.renew(unix());
        }
        let Some(connection) = &mut self.connection else { return };
        if let Err(error) = commit(connection, batch) {
            self.give_up(&error.to_string());
        }
    }

    /// The file cannot be written: what it says would soon be wrong, and a wrong memory is worse
    /// than none. It is removed, which needs no room on the disk.
    fn give_up(&mut self, error: &str) {
        self.connection = None;
        self.retry = Instant::now() + RETRY;
        let path = self.path.display();
        let fate = match file::remove(&self.path) {
            Ok(()) => "it is removed".to_owned(),
            Err(error) => {
                format!("nor can it be removed ({error}): remove it before the next start")
            }
        };
        tracing::error!(
            "the ledger {path} cannot be written: {error}; {fate}; mwid goes on without and tries again every {} s",
            RETRY.as_secs()
        );
        self.say(Some(error.to_owned()));
    }

    /// Makes a new ledger. What mwid knows stays in its memory; what it does next is written.
    fn renew(&mut self, unix: u64) {
        self.retry = Instant::now() + RETRY;
        match file::open(&self.path, unix) {
            Ok((connection, _)) => {
                let was_broken = self.say(None);
                if was_broken {
                    tracing::info!("the ledger {} is written again", self.path.display());
                }
                self.connection = Some(connection);
            }
            Err(error) => {
                if !self.say(Some(error.to_string())) {
                    tracing::error!(
                        "there is no ledger at {}: {error}; mwid goes on without: after a restart every phone is told once more",
                        self.path.display()
                    );
                }
            }
        }
    }

    /// Notes what is wrong; gives whether something was before.
    fn say(&self, error: Option<String>) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut state.error, error).is_some()
    }
}

impl Order {
    fn is_waited_for(&self) -> bool {
        matches!(self, Self::Sending { .. })
    }
}

fn commit(connection: &mut Connection, batch: &[Order]) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction()?;
    for order in batch {
        apply(&transaction, order)?;
    }
    transaction.commit()
}

fn apply(connection: &Connection, order: &Order) -> Result<usize, rusqlite::Error> {
    match order {
        Order::Sending { dialog, cseq, .. } => upsert(connection, dialog, *cseq),
        Order::Delivered { dialog, cseq, summary } => {
            let Summary { new, old, new_urgent, old_urgent } = summary;
            connection
                .prepare_cached(
                    "UPDATE dialogs SET new = ?5, old = ?6, new_urgent = ?7, old_urgent = ?8
                     WHERE call_id = ?1 AND local_tag = ?2 AND remote_tag = ?3 AND high_water = ?4",
                )?
                .execute(params![
                    dialog.call_id,
                    dialog.local_tag,
                    dialog.remote_tag,
                    cseq,
                    new,
                    old,
                    new_urgent,
                    old_urgent
                ])
        }
        Order::Dead { dialog } => connection
            .prepare_cached(
                "UPDATE dialogs SET dead = 1
                 WHERE call_id = ?1 AND local_tag = ?2 AND remote_tag = ?3",
            )?
            .execute(params![dialog.call_id, dialog.local_tag, dialog.remote_tag]),
        Order::Given { mailbox, summary } => {
            let Summary { new, old, new_urgent, old_urgent } = summary;
            connection
                .prepare_cached("INSERT OR REPLACE INTO mailboxes VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
                .execute(params![
                    mailbox.context(),
                    mailbox.number(),
                    new,
                    old,
                    new_urgent,
                    old_urgent
                ])
        }
        Order::NotGiven { mailbox } => connection
            .prepare_cached("DELETE FROM mailboxes WHERE context = ?1 AND number = ?2")?
            .execute(params![mailbox.context(), mailbox.number()]),
    }
}

fn upsert(connection: &Connection, dialog: &Facts, cseq: u32) -> Result<usize, rusqlite::Error> {
    connection
        .prepare_cached(
            "INSERT INTO dialogs (call_id, local_tag, remote_tag, high_water, remote_cseq, expires, contact)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET high_water = max(high_water, ?4), remote_cseq = ?5,
             expires = ?6, contact = ?7, dead = 0,
             new = NULL, old = NULL, new_urgent = NULL, old_urgent = NULL",
        )?
        .execute(params![
            dialog.call_id, dialog.local_tag, dialog.remote_tag, cseq, dialog.remote_cseq,
            i64::try_from(dialog.expires).unwrap_or(i64::MAX), dialog.contact
        ])
}

fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
