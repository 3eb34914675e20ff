//! The task that keeps this node alive in the tables, writes what it counts and reads the rest.

use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mwid_core::mailbox::Mailbox;
use mwid_core::reconciler::Urgency;
use mwid_core::summary::Summary;
use tokio::sync::{mpsc, watch};

use super::book::Book;
use super::state::Shared;
use super::store::{Beat, Count, Leave, Look, Origin, PAGE, Publish, Seen};
use super::{ClusterError, EVERYBODY, Event, Settings};
use crate::config::Scope;
use crate::dialogs::StoreError;
use crate::dialogs::session::Tables;

/// Rows that are written in one transaction.
const BATCH: usize = 500;

/// What the task remembers.
pub(super) struct Task {
    tables: Tables,
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    node: String,
    /// Under which name counts are written.
    writer: String,
    instance: String,
    lease: Duration,
    poll: Duration,
    script: String,
    book: Book,
    /// The number of changes at the last look, and the last row that was read.
    counter: Option<i64>,
    last: i64,
    /// When what vanished from the table is believed to be gone.
    forget_at: Option<Instant>,
    /// Rows were written and not read back: the book may not have them.
    unread: bool,
    /// The spool was counted in full, now or before a restart; `whole` once that has been read back.
    counted: bool,
    /// What this node counts is in the table.
    whole: bool,
    next_beat: Instant,
    beaten: bool,
    /// The view that was made known last.
    known_view: Option<i64>,
    /// In which way it does not work, as far as that was said.
    said: Option<Discriminant<ClusterError>>,
}

impl Task {
    pub(super) fn new(
        settings: &Settings,
        tables: Tables,
        shared: Arc<Shared>,
        events: mpsc::Sender<Event>,
        instance: u64,
    ) -> Self {
        let node = shared.lock().ownership.node().to_owned();
        let writer = if settings.scope == Scope::Shared { EVERYBODY } else { &node };
        Self {
            tables,
            shared,
            events,
            writer: writer.to_owned(),
            node,
            instance: format!("{instance:016x}"),
            lease: settings.cluster.lease,
            poll: settings.cluster.poll,
            script: settings.script(),
            book: Book::default(),
            counter: None,
            last: i64::MIN,
            forget_at: None,
            unread: true,
            counted: false,
            whole: false,
            next_beat: Instant::now(),
            beaten: false,
            known_view: None,
            said: None,
        }
    }

    /// Works until `stop` is true, then says goodbye.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let turned = tokio::select! {
                turned = self.turn() => turned,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            self.say(turned.err());
            let pause = tokio::time::sleep(self.poll.min(self.lease / 3));
            tokio::select! {
                () = pause => {}
                // While nothing works, waking earlier helps nobody.
                () = self.shared.wake.notified(), if self.shared.lock().error.is_none() => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
        if let Err(error) = self.leave().await {
            tracing::debug!("no goodbye: {error}");
        }
    }

    async fn turn(&mut self) -> Result<(), ClusterError> {
        if self.next_beat <= Instant::now() {
            self.beat().await?;
        }
        self.publish().await?;
        self.look().await?;
        let view = self.shared.lock().ownership.view();
        if self.known_view != Some(view) {
            // What was lost has been let go: the others may know.
            self.beat().await?;
        }
        Ok(())
    }

    /// Renews the lease.
    async fn beat(&mut self) -> Result<(), ClusterError> {
        let began = Instant::now();
        let view = self.shared.lock().ownership.view();
        let beat = Beat {
            node: self.node.clone(),
            instance: self.instance.clone(),
            lease: i64::try_from(self.lease.as_millis()).unwrap_or(i64::MAX),
            view,
            again: self.beaten,
        };
        if self.tables.ask(&beat).await.map_err(|error| self.explain(error))? {
            self.shared.lock().lose();
            self.tell(Event::Membership).await;
            return Err(ClusterError::Twin { node: self.node.clone() });
        }
        self.beaten = true;
        self.known_view = Some(view);
        self.next_beat = began + self.lease / 3;
        let mut state = self.shared.lock();
        if !state.leaving {
            state.lease = Some(began + self.lease);
        }
        Ok(())
    }

    /// Writes what differs from the table.
    async fn publish(&mut self) -> Result<(), ClusterError> {
        // Before the table was read nobody knows what differs.
        while self.shared.lock().loaded {
            let counts = self.unpublished();
            if counts.is_empty() {
                return Ok(());
            }
            self.unread = true;
            let publish = Publish { node: self.writer.clone(), counts };
            let written = self.tables.ask(&publish).await;
            let failed = match written {
                Ok(true) => None,
                Ok(false) => Some(ClusterError::NoCounter { script: self.script.clone() }),
                Err(error) => Some(self.explain(error)),
            };
            if let Some(error) = failed {
                return Err(error);
            }
            let mut state = self.shared.lock();
            state.published += publish.counts.len() as u64;
            for Count { mailbox, at, .. } in publish.counts {
                // Unless it was counted again meanwhile.
                if state.local.get(&mailbox).is_some_and(|local| local.at == at) {
                    state.dirty.remove(&mailbox);
                }
            }
        }
        Ok(())
    }

    /// The next counts to be written.
    fn unpublished(&self) -> Vec<Count> {
        let mut state = self.shared.lock();
        let mut counts = Vec::new();
        let mut done = Vec::new();
        for mailbox in &state.dirty {
            if counts.len() >= BATCH {
                break;
            }
            let Some(local) = state.local.get(mailbox) else { continue };
            let there = self.book.of(&self.writer, mailbox);
            let known = there == Some((local.summary, local.origin)) && !self.unread;
            if known || (local.old && there.is_some()) {
                done.push(mailbox.clone());
                continue;
            }
            let (mailbox, summary, origin) = (mailbox.clone(), local.summary, local.origin);
            counts.push(Count { mailbox, summary, origin, at: local.at });
        }
        for mailbox in &done {
            state.dirty.remove(mailbox);
        }
        counts
    }

    /// Reads who is alive and what has changed.
    async fn look(&mut self) -> Result<(), ClusterError> {
        loop {
            let look = Look { counter: self.counter, after: self.last };
            let seen = self.tables.ask(&look).await.map_err(|error| self.explain(error))?;
            self.see(&seen).await;
            let Some(counter) = seen.counter else {
                return Err(ClusterError::NoCounter { script: self.script.clone() });
            };
            if self.counter.is_some_and(|before| counter < before) {
                self.start_again();
                continue;
            }
            let whole = (seen.rows.len() as i64) < PAGE;
            self.take(seen).await;
            if whole {
                self.counter = Some(counter);
                self.unread = false;
                break;
            }
        }
        self.after_look().await;
        Ok(())
    }

    /// Somebody restored or replaced the tables: they are read from their beginning.
    fn start_again(&mut self) {
        tracing::warn!("the cluster's tables were set back; they are read anew");
        self.book.doubt();
        (self.counter, self.last, self.unread) = (None, i64::MIN, true);
        self.forget_at = Some(Instant::now() + self.lease);
        let mut state = self.shared.lock();
        let all: Vec<Mailbox> = state.local.keys().cloned().collect();
        state.dirty.extend(all);
        self.shared.wake.notify_one();
    }

    async fn see(&mut self, seen: &Seen) {
        let changed = {
            let mut state = self.shared.lock();
            if !seen.nodes.iter().any(|node| node.name == self.node) {
                // Our row is gone or too old: at once.
                self.next_beat = Instant::now();
            }
            state.clock = Some((Instant::now(), seen.now));
            let alive = state.lease.is_some_and(|end| Instant::now() < end);
            alive && !state.leaving && state.ownership.see(&seen.nodes)
        };
        if changed {
            self.tell(Event::Membership).await;
        }
    }

    /// Takes rows in, and tells the sums that are others now.
    async fn take(&mut self, seen: Seen) {
        let mut changed = Vec::new();
        let mut disputed = Vec::new();
        {
            let mut state = self.shared.lock();
            for row in seen.rows {
                self.last = self.last.max(row.revision);
                let Some(part) = row.part else {
                    state.bad_rows += 1;
                    continue;
                };
                if self.book.apply(&part) {
                    changed.push(part.mailbox.clone());
                }
                if part.node != self.writer {
                    continue;
                }
                let Some(local) = state.local.get(&part.mailbox) else { continue };
                let known = part.origin != Origin::Unknown;
                if local.summary == part.summary && known || local.old {
                    continue;
                }
                match self.shared.scope {
                    // Nobody else counts for this node.
                    Scope::Own | Scope::Single => {
                        state.dirty.insert(part.mailbox);
                        self.shared.wake.notify_one();
                    }
                    Scope::Shared
                        if local.origin != Origin::Given
                            && !state.dirty.contains(&part.mailbox) =>
                    {
                        disputed.push(part.mailbox);
                    }
                    Scope::Shared => {}
                }
            }
            state.mailboxes = self.book.len();
        }
        if self.shared.lock().loaded {
            self.tell_sums(changed, Urgency::Fresh).await;
            for mailbox in disputed {
                self.tell(Event::Disputed(mailbox)).await;
            }
        }
    }

    /// What can be said when the book is as the table was.
    async fn after_look(&mut self) {
        let first = {
            let mut state = self.shared.lock();
            state.looked = Some(Instant::now());
            !std::mem::replace(&mut state.loaded, true)
        };
        if first {
            self.counted = self.book.counted_by(&self.writer).next().is_some();
            self.tell_all().await;
            self.tell(Event::Loaded).await;
            self.shared.wake.notify_one();
        }
        if !self.whole && (self.counted || !self.shared.lock().has_spool) {
            self.whole = true;
            self.tell_all().await;
            self.tell(Event::Whole).await;
        }
        if self.forget_at.is_some_and(|at| at <= Instant::now()) {
            self.forget_at = None;
            let changed = self.book.forget_vanished();
            self.tell_sums(changed, Urgency::CatchUp).await;
        }
        let counted_all = std::mem::take(&mut self.shared.lock().counted_all);
        if counted_all && self.shared.scope == Scope::Own {
            self.empty_what_is_gone();
        }
        if counted_all && !self.counted {
            // What was counted is published and read back in the next turn.
            self.counted = true;
            self.shared.wake.notify_one();
        }
    }

    /// This node's spool was counted in full: what the table has of it beyond that was deleted while
    /// mwid did not run.
    fn empty_what_is_gone(&self) {
        let state = self.shared.lock();
        let gone: Vec<Mailbox> = self
            .book
            .counted_by(&self.writer)
            .filter(|mailbox| !state.local.contains_key(*mailbox))
            .cloned()
            .collect();
        drop(state);
        for mailbox in gone {
            self.shared.observe(&mailbox, Summary::default(), false);
        }
    }

    async fn tell_all(&self) {
        let all = self.book.mailboxes().cloned().collect();
        self.tell_sums(all, Urgency::CatchUp).await;
    }

    /// While this node has never counted, of what it may have itself nothing is told: the part of the
    /// others is not the sum.
    async fn tell_sums(&self, mailboxes: Vec<Mailbox>, urgency: Urgency) {
        let mut mailboxes = mailboxes;
        if !self.whole {
            mailboxes.retain(|mailbox| self.book.of(&self.writer, mailbox).is_some());
        }
        for page in mailboxes.chunks(usize::try_from(PAGE).unwrap_or(usize::MAX)) {
            let sum = |mailbox: &Mailbox| (mailbox.clone(), self.book.sum(mailbox));
            self.tell(Event::Sums(page.iter().map(sum).collect(), urgency)).await;
        }
    }

    async fn tell(&self, event: Event) {
        // The daemon listens as long as it runs.
        let _ = self.events.send(event).await;
    }

    /// Publishes what is left, and goes.
    async fn leave(&mut self) -> Result<(), ClusterError> {
        let published = self.publish().await;
        let leave = Leave { node: self.node.clone(), instance: self.instance.clone() };
        self.tables.ask(&leave).await.map_err(|error| self.explain(error))?;
        published
    }

    fn explain(&self, error: StoreError) -> ClusterError {
        match error {
            StoreError::MissingTable { at, table, cause } => {
                let cause = cause.to_string();
                ClusterError::NoTables { at, table, cause, script: self.script.clone() }
            }
            error => ClusterError::Store(error),
        }
    }

    /// Says what is wrong when it begins, or is wrong in another way, and when it works again.
    fn say(&mut self, error: Option<ClusterError>) {
        let kind = error.as_ref().map(discriminant);
        let before = std::mem::replace(&mut self.said, kind);
        let mut state = self.shared.lock();
        match &error {
            Some(error) if before != kind => tracing::error!(
                unpublished = state.dirty.len(),
                "{error}; nothing is told to any phone when the lease has ended, nothing is lost"
            ),
            None if before.is_some() => tracing::info!("the cluster works again"),
            _ => {}
        }
        state.error = error.map(|error| error.to_string());
    }
}
