//! The thread that writes: many orders, one commit.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mwid_core::dialog::Dialog;
use mwid_core::mailbox::Mailbox;
use mwid_core::summary::Summary;
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use super::file::FileError;
use super::given::AllGiven;
use super::{Given, Memory, State, file};
use crate::clock;
use crate::source::Receipt;

/// What nobody waits for is written within this time.
const BATCH: Duration = Duration::from_millis(100);

/// Orders in one commit, at most.
const MAX_BATCH: usize = 4096;

/// Between two times that what ended long ago is dropped.
const PRUNE: Duration = Duration::from_secs(3600);

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
    Unused { dialog: Facts, cseq: u32 },
    Delivered { dialog: Facts, cseq: u32, summary: Summary },
    Dead { dialog: Facts },
    Given { given: Given, receipt: Option<Receipt> },
    NotGiven { mailbox: Mailbox },
}

pub(super) struct Writer {
    path: PathBuf,
    state: Arc<Mutex<State>>,
    /// `None` while there is no file that can be written.
    connection: Option<Connection>,
    given: AllGiven,
    /// The file has all that was given until its last commit.
    whole: bool,
    retry: Instant,
    pruned: Instant,
}

impl Writer {
    pub(super) fn new(path: PathBuf, state: Arc<Mutex<State>>) -> Self {
        let (given, retry) = (AllGiven::default(), Instant::now());
        Self { path, state, connection: None, given, whole: false, retry, pruned: retry }
    }

    /// Opens the file; one that cannot be used is put aside and a new one is made. Takes over what
    /// is left of one that was moved away.
    pub(super) fn open(&mut self, unix: u64) -> Memory {
        let away = file::moved_away(&self.path);
        let mut memory = match file::open(&self.path, unix) {
            Ok((connection, memory)) => {
                self.connection = Some(connection);
                memory
            }
            Err(problem) => {
                self.whole = !away.exists();
                self.put_aside(&problem, unix);
                Memory::default()
            }
        };
        let moved = away.exists();
        // A ledger that has anything given was filled, in one commit, with all of it.
        self.whole = self.connection.is_some() && (!moved || !memory.mailboxes.is_empty());
        if moved {
            take_over(&away, &mut memory, unix);
        }
        self.given.remember(&memory.mailboxes);
        match self.connection {
            None => self.renew(unix),
            Some(_) if moved => self.fill(),
            Some(_) => {}
        }
        memory
    }

    fn put_aside(&mut self, problem: &FileError, unix: u64) {
        if problem.is_no_room() {
            // Nothing is wrong with it, but it could not be kept true.
            return self.give_up(&format!("the disk is full ({problem})"));
        }
        let path = self.path.display();
        match file::set_aside(&self.path, unix) {
            Ok(aside) => tracing::error!(
                "the ledger {path} cannot be used: {problem}; it is kept as {} and a new one is made: every phone is told once more",
                aside.display()
            ),
            Err(error) => tracing::error!(
                "the ledger {path} cannot be used: {problem}; nor can it be set aside: {error}"
            ),
        }
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
            self.write(&mut batch);
            for order in batch.drain(..) {
                if let Order::Sending { done, .. } = order {
                    // Whoever waited may have gone.
                    let _ = done.send(());
                }
            }
        }
    }

    fn write(&mut self, batch: &mut [Order]) {
        for order in &mut *batch {
            match order {
                Order::Given { given, receipt } => self.given.give(given, receipt.take()),
                Order::NotGiven { mailbox } => self.given.take_back(mailbox),
                _ => {}
            }
        }
        if self.connection.is_none() && Instant::now() >= self.retry {
            self.renew(clock::unix());
        }
        let Some(connection) = &mut self.connection else { return };
        let pruning = self.pruned.elapsed() >= PRUNE;
        if pruning {
            self.pruned = Instant::now();
        }
        let forced = self.given.has_receipts();
        let write = |to: &Connection| {
            if pruning {
                file::prune(to, clock::unix())?;
            }
            batch.iter().try_for_each(|order| apply(to, order))
        };
        match commit(connection, forced, write) {
            Ok(()) => self.given.written(),
            Err(error) => self.give_up(&error.to_string()),
        }
    }

    /// The file cannot be written: what it says of dialogs would soon be wrong, and a wrong memory
    /// is worse than none. It is moved away, which needs no room on the disk; or removed when it
    /// never got all that was given, as then one that did is there already.
    fn give_up(&mut self, error: &str) {
        self.connection = None;
        self.retry = Instant::now() + RETRY;
        let path = self.path.display();
        let whole = std::mem::replace(&mut self.whole, false);
        let (gone, done) = match whole {
            true => (file::move_away(&self.path), "it is moved away"),
            false => (file::remove(&self.path), "it is removed"),
        };
        let fate = match gone {
            Ok(()) => done.to_owned(),
            Err(error) => {
                let away = file::moved_away(&self.path);
                format!(
                    "nor can it be moved away ({error}): rename it to {} before the next start",
                    away.display()
                )
            }
        };
        tracing::error!(
            "the ledger {path} cannot be written: {error}; {fate}; mwid goes on without and tries again every {} s",
            RETRY.as_secs()
        );
        self.say(Some(error.to_owned()));
    }

    /// Brings all that was given into the file. What was moved away has done its work then.
    fn fill(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        match commit(connection, true, |to| self.given.iter().try_for_each(|it| give(to, &it))) {
            Ok(()) => {
                self.whole = true;
                self.given.written();
                if let Err(error) = file::remove(&file::moved_away(&self.path)) {
                    tracing::warn!(%error, "the ledger that was moved away cannot be removed");
                }
            }
            Err(error) => self.give_up(&error.to_string()),
        }
    }

    /// Makes a new ledger, with all that was given. What mwid knows of dialogs stays in its memory;
    /// what it does next is written.
    fn renew(&mut self, unix: u64) {
        self.retry = Instant::now() + RETRY;
        match file::open(&self.path, unix) {
            Ok((connection, _)) => {
                let was_broken = self.say(None);
                if was_broken {
                    tracing::info!("the ledger {} is written again", self.path.display());
                }
                self.connection = Some(connection);
                self.fill();
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

/// What is given in a ledger that was moved away, unless the new one knows better.
fn take_over(away: &Path, memory: &mut Memory, unix: u64) {
    match file::read_given(away) {
        Ok(mut old) => {
            let known: HashSet<_> = memory.mailboxes.iter().map(|it| it.mailbox.clone()).collect();
            old.retain(|given| !known.contains(&given.mailbox));
            memory.mailboxes.extend(old);
        }
        Err(problem) => {
            let fate = match file::set_aside(away, unix) {
                Ok(aside) => format!("it is kept as {}", aside.display()),
                Err(error) => format!("nor can it be set aside: {error}"),
            };
            tracing::error!(
                "what calls gave cannot be read from {}: {problem}; {fate}",
                away.display()
            );
        }
    }
}

impl Order {
    fn is_waited_for(&self) -> bool {
        match self {
            Self::Sending { .. } => true,
            Self::Given { receipt, .. } => receipt.as_ref().is_some_and(Receipt::is_waited_for),
            _ => false,
        }
    }
}

/// One transaction. `forced`: it is on the disk when this returns, which takes its time.
fn commit(
    connection: &mut Connection,
    forced: bool,
    work: impl FnOnce(&Connection) -> Result<(), rusqlite::Error>,
) -> Result<(), rusqlite::Error> {
    connection.pragma_update(None, "synchronous", if forced { "FULL" } else { "NORMAL" })?;
    let transaction = connection.transaction()?;
    work(&transaction)?;
    transaction.commit()
}

fn apply(connection: &Connection, order: &Order) -> Result<(), rusqlite::Error> {
    match order {
        Order::Sending { dialog, cseq, .. } => upsert(connection, dialog, *cseq)?,
        Order::Unused { dialog, cseq } => connection
            .prepare_cached(
                "UPDATE dialogs SET high_water = max(high_water, ?4)
                 WHERE call_id = ?1 AND local_tag = ?2 AND remote_tag = ?3",
            )?
            .execute(params![dialog.call_id, dialog.local_tag, dialog.remote_tag, cseq])?,
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
                ])?
        }
        Order::Dead { dialog } => connection
            .prepare_cached(
                "UPDATE dialogs SET dead = 1
                 WHERE call_id = ?1 AND local_tag = ?2 AND remote_tag = ?3",
            )?
            .execute(params![dialog.call_id, dialog.local_tag, dialog.remote_tag])?,
        Order::Given { given, .. } => return give(connection, given),
        Order::NotGiven { mailbox } => connection
            .prepare_cached("DELETE FROM mailboxes WHERE context = ?1 AND number = ?2")?
            .execute(params![mailbox.context(), mailbox.number()])?,
    };
    Ok(())
}

fn give(connection: &Connection, given: &Given) -> Result<(), rusqlite::Error> {
    let Given { mailbox, summary, stamp } = given;
    let Summary { new, old, new_urgent, old_urgent } = summary;
    let stamp = i64::try_from(*stamp).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO mailboxes
             (context, number, new, old, new_urgent, old_urgent, stamp)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            mailbox.context(),
            mailbox.number(),
            new,
            old,
            new_urgent,
            old_urgent,
            stamp
        ])?;
    Ok(())
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
