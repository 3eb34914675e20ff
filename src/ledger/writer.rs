//! The thread that writes: many orders, one commit.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::checkpoint::Checkpoints;
use super::file::FileError;
use super::given::AllGiven;
use super::health::Health;
use super::last::{Last, Lasts};
use super::order::{Order, apply, give, keep, keep_context};
use super::{Memory, file, owner};
use crate::clock;

/// What nobody waits for is written within this time.
const BATCH: Duration = Duration::from_millis(100);

/// Orders in one commit, at most.
const MAX_BATCH: usize = 4096;

/// Between two times that what ended long ago is dropped.
const PRUNE: Duration = Duration::from_secs(3600);

/// Between two tries to make a new ledger after the old one could not be written.
const RETRY: Duration = Duration::from_secs(10);

pub(super) struct Writer {
    path: PathBuf,
    health: Arc<Health>,
    /// `None` while there is no file that can be written.
    connection: Option<Connection>,
    checkpoints: Checkpoints,
    given: AllGiven,
    lasts: Lasts,
    /// The file has all that was given until its last commit.
    whole: bool,
    retry: Instant,
    pruned: Instant,
}

impl Writer {
    pub(super) fn new(path: PathBuf, health: Arc<Health>, lasts: Lasts) -> Self {
        let (given, retry) = (AllGiven::default(), Instant::now());
        let checkpoints = Checkpoints::start(path.clone());
        let (connection, whole, pruned) = (None, false, retry);
        Self { path, health, connection, checkpoints, given, lasts, whole, retry, pruned }
    }

    /// Opens the file; one that cannot be used is put aside and a new one is made. Takes over what
    /// is left of one that was moved away.
    pub(super) fn open(&mut self, unix: u64) -> Memory {
        let away = file::moved_away(&self.path);
        let mut moved = away.exists();
        let opened = file::open(&self.path, unix).or_else(|problem| {
            owner::take_over(&self.path, problem, unix)?;
            file::open(&self.path, unix)
        });
        let mut memory = match opened {
            Ok((connection, memory)) => {
                self.connection = Some(connection);
                memory
            }
            Err(problem) => {
                self.whole = !moved;
                let saved = self.put_aside(&problem, unix);
                // Moved away just now, and not read yet.
                moved |= saved.is_none() && away.exists();
                saved.unwrap_or_default()
            }
        };
        // A ledger that has anything given was filled, in one commit, with all of it.
        self.whole = self.connection.is_some() && (!moved || !memory.mailboxes.is_empty());
        if moved {
            take_over(&away, &mut memory, unix);
        }
        self.given.remember(&memory.mailboxes);
        self.lasts.lock().remember(&memory);
        match self.connection {
            None => self.renew(unix),
            Some(_) if moved => self.fill(),
            Some(_) => {}
        }
        memory
    }

    /// Gives what could be read all the same.
    fn put_aside(&mut self, problem: &FileError, unix: u64) -> Option<Memory> {
        if problem.is_no_room() {
            // Nothing is wrong with it, but it could not be kept true.
            self.give_up(&format!("the disk is full ({problem})"));
            return None;
        }
        if problem.is_busy()
            && let Ok(memory) = file::read(&self.path)
        {
            self.give_up(&format!("another program holds it ({problem})"));
            return Some(memory);
        }
        let saved = file::salvage(&self.path).ok();
        let what = match &saved {
            Some(memory) => format!(
                "the counts of {} mailboxes that calls gave and what {} accounts show are taken over",
                memory.mailboxes.len(),
                memory.accounts.len()
            ),
            None => "the counts that calls gave are not known until the next call".to_owned(),
        };
        let path = self.path.display();
        let (cause, problem) = match owner::remedy(&self.path, problem) {
            Some(remedy) => (owner::WORD, format!("{problem}: {remedy}")),
            None => (problem.word(), problem.to_string()),
        };
        match file::set_aside(&self.path, cause, unix) {
            Ok(aside) => tracing::error!(
                "the ledger {path} cannot be used: {problem}; it is kept as {} and a new one is made: every phone is told once more; {what}",
                aside.display()
            ),
            Err(error) => tracing::error!(
                "the ledger {path} cannot be used: {problem}; nor can it be set aside: {error}"
            ),
        }
        saved
    }

    pub(super) fn run(mut self, inbox: &Receiver<Order>) {
        let mut batch = Vec::new();
        while let Ok(first) = inbox.recv() {
            let mut is_waited_for = first.is_waited_for();
            batch.push(first);
            let until = Instant::now() + BATCH;
            while batch.len() < MAX_BATCH {
                // Whoever waits is not kept waiting; but whatever is there already comes along.
                let next = match is_waited_for {
                    true => inbox.try_recv().ok(),
                    false => {
                        inbox.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
                    }
                };
                let Some(order) = next else { break };
                is_waited_for |= order.is_waited_for();
                batch.push(order);
            }
            let rows = batch.iter().map(Order::rows).sum();
            // What calls gave goes to the disk, which takes its time: no NOTIFY waits for that.
            batch.sort_by_key(Order::is_given);
            let mut given = batch.split_off(batch.partition_point(|order| !order.is_given()));
            self.write(&batch, false);
            for order in batch.drain(..) {
                if let Order::Sending { done, .. } | Order::Publishing { done, .. } = order {
                    // Whoever waited may have gone.
                    let _ = done.send(());
                }
            }
            given.iter_mut().for_each(|order| self.take_given(order));
            self.write(&given, self.given.has_receipts());
            if self.health.done(rows) {
                self.come_back(inbox);
            }
        }
        self.checkpoints.end();
        if let Some(connection) = &self.connection
            && let Err(error) = commit(connection, true, |to| file::end(to).map(drop))
        {
            tracing::warn!(%error, "the ledger could not be closed cleanly");
        }
    }

    /// mwid went on without: what the file says of dialogs is no longer true.
    fn come_back(&mut self, inbox: &Receiver<Order>) {
        let rest = self.health.come_back(inbox);
        rest.into_iter().for_each(|mut order| self.take_given(&mut order));
        if self.connection.is_some() {
            self.give_up("it did not answer in time");
        }
    }

    fn take_given(&mut self, order: &mut Order) {
        match order {
            Order::Given { given, receipt } => self.given.give(given, receipt.take()),
            Order::NotGiven { mailbox } => self.given.take_back(mailbox),
            _ => {}
        }
    }

    /// One commit. `forced`: it is on the disk then, and with it all that was given.
    fn write(&mut self, orders: &[Order], forced: bool) {
        if orders.is_empty() {
            return;
        }
        if self.connection.is_none() && Instant::now() >= self.retry {
            self.renew(clock::unix());
        }
        let Some(connection) = &self.connection else { return };
        let pruning = self.pruned.elapsed() >= PRUNE;
        if pruning {
            self.pruned = Instant::now();
        }
        let write = |to: &Connection| {
            if pruning {
                file::prune(to, clock::unix())?;
            }
            orders.iter().try_for_each(|order| apply(to, order))
        };
        match commit(connection, forced, write) {
            Ok(()) => {
                if forced {
                    self.given.written();
                }
                self.checkpoints.written(orders.iter().map(Order::rows).sum());
            }
            Err(error) => self.give_up(&error.to_string()),
        }
    }

    /// The file cannot be written: what it says of dialogs would soon be wrong, and a wrong memory
    /// is worse than none. It is moved away, which needs no room on the disk; or removed when it
    /// never got all that was given, as then one that did is there already.
    fn give_up(&mut self, error: &str) {
        let gate = self.checkpoints.gate();
        let _held = gate.lock();
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
        self.health.say(Some(error.to_owned()));
    }

    /// Brings all that was given and what all accounts show into the file. What was moved away has
    /// done its work then.
    fn fill(&mut self) {
        let Some(connection) = &self.connection else { return };
        // Copied: the daemon's loop must not wait for the disk.
        let (lasts, contexts) = self.lasts.lock().all();
        let given = &self.given;
        let write = |to: &Connection| {
            given.iter().try_for_each(|it| give(to, &it))?;
            for Last { account, summary, members } in &lasts {
                keep(to, account, *summary, Some(members))?;
            }
            contexts.iter().try_for_each(|(it, inode)| keep_context(to, it, *inode).map(drop))
        };
        match commit(connection, true, write) {
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

    /// Makes a new ledger, with all that `fill` brings. What mwid knows of dialogs stays in its memory;
    /// what it does next is written.
    fn renew(&mut self, unix: u64) {
        self.retry = Instant::now() + RETRY;
        let gate = self.checkpoints.gate();
        let held = gate.lock();
        let opened = file::open(&self.path, unix);
        drop(held);
        match opened {
            Ok((connection, _)) => {
                let was_broken = self.health.say(None);
                if was_broken {
                    tracing::info!("the ledger {} is written again", self.path.display());
                }
                self.connection = Some(connection);
                self.fill();
            }
            Err(error) => {
                let error = match owner::remedy(&self.path, &error) {
                    Some(remedy) => format!("{error}: {remedy}"),
                    None => error.to_string(),
                };
                if !self.health.say(Some(error.clone())) {
                    tracing::error!(
                        "there is no ledger at {}: {error}; mwid goes on without: after a restart every phone is told once more",
                        self.path.display()
                    );
                }
            }
        }
    }
}

/// What a ledger that was moved away says of mailboxes and accounts, unless the new one knows better.
fn take_over(away: &Path, memory: &mut Memory, unix: u64) {
    match file::read_moved(away) {
        Ok(mut old) => {
            let known: HashSet<_> = memory.mailboxes.iter().map(|it| it.mailbox.clone()).collect();
            old.mailboxes.retain(|given| !known.contains(&given.mailbox));
            memory.mailboxes.append(&mut old.mailboxes);
            let known: HashSet<_> = memory.accounts.iter().map(|it| it.account.clone()).collect();
            old.accounts.retain(|last| !known.contains(&last.account));
            memory.accounts.append(&mut old.accounts);
            // Of two the last is believed.
            old.contexts.append(&mut memory.contexts);
            memory.contexts = old.contexts;
        }
        Err(problem) => {
            let fate = match file::set_aside(away, problem.word(), unix) {
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

/// One transaction. `forced`: it is on the disk when this returns, which takes its time.
fn commit(
    connection: &Connection,
    forced: bool,
    work: impl FnOnce(&Connection) -> Result<(), rusqlite::Error>,
) -> Result<(), rusqlite::Error> {
    // SQLite parses a statement anew unless it is kept. A transaction that fails ends with the file.
    let run = |sql| connection.prepare_cached(sql)?.execute([]).map(drop);
    if forced {
        connection.pragma_update(None, "synchronous", "FULL")?;
    }
    run("BEGIN")?;
    work(connection)?;
    run("COMMIT")?;
    if forced {
        connection.pragma_update(None, "synchronous", "NORMAL")?;
    }
    Ok(())
}
