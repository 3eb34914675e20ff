//! The spool's thread: hears signals, counts what is due, walks through the whole spool now and
//! then in small steps, so that an arrival never waits for a long walk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mwid_core::mailbox::Mailbox;
use mwid_core::reconciler::Urgency;
use tokio::sync::mpsc;

use super::belief::Beliefs;
use super::health::{Condition, RootState};
use super::pending::Pending;
use super::signals::{Batch, Signals};
use super::tree::Tree;
use super::watch::{self, Watches};
use crate::config;
use crate::source::Observation;

/// Mailboxes that are counted before signals are heard again.
const STEP: usize = 8;
/// Between two looks at the root and the contexts: were they unmounted, replaced, removed?
const PULSE: Duration = Duration::from_secs(5);
/// The same while the root or a context is not readable.
const QUICK_PULSE: Duration = Duration::from_secs(1);
/// The shortest time between two sweeps, whatever the configuration says.
const SHORTEST: Duration = Duration::from_millis(10);

/// The thread has to end: nobody listens any more, or it was told to.
#[derive(Debug)]
pub(super) struct Closed;

/// Why everything is walked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    /// Every mailbox is counted and observed: the start, the rescan, lost events.
    Full,
    /// What changed since it was last counted is counted: polling.
    Sweep,
    /// Only contexts that came, went or were replaced are looked at.
    Pulse,
}

/// A walk under way.
#[derive(Debug)]
struct Progress {
    walk: Walk,
    started: Instant,
    contexts: VecDeque<Box<str>>,
    mailboxes: Vec<Mailbox>,
}

/// The thread's own state.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) settings: config::Spool,
    pub(super) signals: Arc<Signals>,
    pub(super) condition: Arc<Condition>,
    pub(super) watches: Option<Watches>,
    pub(super) tree: Tree,
    pub(super) pending: Pending,
    pub(super) beliefs: Beliefs,
    pub(super) bad_names: super::names::BadNames,
    /// To be said after this turn.
    pub(super) noted: Vec<Observation>,
    out: mpsc::Sender<Observation>,
    progress: Option<Progress>,
    /// Another full count was asked for during one.
    full_again: bool,
    next_full: Instant,
    next_sweep: Instant,
    pub(super) next_pulse: Instant,
    /// Asked for during a walk, which may have looked too early.
    pub(super) pulse_again: bool,
}

impl Worker {
    /// A worker that has looked at nothing yet, and what is known from before a restart.
    pub(super) fn new(
        settings: config::Spool,
        signals: Arc<Signals>,
        condition: Arc<Condition>,
        (beliefs, tree): (Beliefs, Tree),
        out: mpsc::Sender<Observation>,
    ) -> Self {
        let now = Instant::now();
        Self {
            settings,
            signals,
            condition,
            watches: None,
            tree,
            pending: Pending::default(),
            beliefs,
            bad_names: super::names::BadNames::default(),
            noted: Vec::new(),
            out,
            progress: None,
            full_again: false,
            next_full: now,
            next_sweep: now,
            next_pulse: now,
            pulse_again: false,
        }
    }

    /// Works until the handle is dropped or nobody receives.
    pub(super) fn run(mut self) {
        while self.turn().is_ok() {}
        self.condition.set(|health| health.root = RootState::Stopped);
    }

    fn turn(&mut self) -> Result<(), Closed> {
        self.start_due_walk();
        let until = match self.progress {
            Some(_) => Instant::now(),
            None => self.next_timer(),
        };
        let batch = self.signals.take(until);
        self.hear(batch)?;
        while let Some(mailbox) = self.pending.pop(Instant::now()) {
            self.recount(&mailbox, false, Urgency::Fresh)?;
        }
        self.step()?;
        for noted in std::mem::take(&mut self.noted) {
            self.say(noted)?;
        }
        let (mailboxes, folders) = (self.tree.mailboxes_counted(), self.tree.folders_watched());
        let bad_names = self.bad_names.len();
        self.condition.set(|health| {
            (health.mailboxes, health.folders_watched) = (mailboxes, folders);
            health.bad_names = bad_names;
        });
        Ok(())
    }

    /// Whether the spool is swept: told so, or because not everything can be watched.
    fn polls(&self) -> bool {
        self.watches.as_ref().is_none_or(|watches| watches.refused().is_some())
    }

    fn next_timer(&self) -> Instant {
        let sweep = self.polls().then_some(self.next_sweep);
        [self.pending.next(), sweep]
            .into_iter()
            .flatten()
            .fold(self.next_full.min(self.next_pulse), Instant::min)
    }

    fn start_due_walk(&mut self) {
        let now = Instant::now();
        if self.progress.is_some() {
            return;
        }
        if self.full_again || self.next_full <= now {
            self.full_again = false;
            self.start(Walk::Full);
        } else if self.polls() && self.next_sweep <= now {
            self.start(Walk::Sweep);
        } else if self.next_pulse <= now {
            self.start(Walk::Pulse);
        }
    }

    /// Starts a walk; a full count takes the place of any other.
    pub(super) fn start(&mut self, walk: Walk) {
        match &self.progress {
            Some(progress) if walk == Walk::Full && progress.walk == Walk::Full => {
                self.full_again = true;
                return;
            }
            Some(_) if walk != Walk::Full => return,
            _ => {}
        }
        if walk == Walk::Full
            && let Some(watches) = &mut self.watches
        {
            watches.forgive();
        }
        let started = Instant::now();
        self.pulse_again = false;
        let (walk, contexts) = self.list_root(walk);
        self.progress =
            Some(Progress { walk, started, contexts: contexts.into(), mailboxes: Vec::new() });
    }

    /// The next few mailboxes of the walk, or the next context.
    fn step(&mut self) -> Result<(), Closed> {
        let Some(progress) = &mut self.progress else { return Ok(()) };
        let walk = progress.walk;
        if !progress.mailboxes.is_empty() {
            let from = progress.mailboxes.len().saturating_sub(STEP);
            for mailbox in progress.mailboxes.split_off(from) {
                match walk {
                    Walk::Full | Walk::Pulse => self.recount(&mailbox, true, Urgency::CatchUp)?,
                    Walk::Sweep => self.sweep(&mailbox)?,
                }
            }
        } else if let Some(context) = progress.contexts.pop_front() {
            let mailboxes = self.list_context(&context, walk);
            if let Some(progress) = &mut self.progress {
                progress.mailboxes = mailboxes;
            }
        } else {
            self.finish()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Closed> {
        let Some(progress) = self.progress.take() else { return Ok(()) };
        let now = Instant::now();
        let broken = self.condition.structure_is_broken();
        let pause = if broken { QUICK_PULSE } else { PULSE };
        self.next_pulse = if self.pulse_again { now } else { now + pause };
        if progress.walk != Walk::Pulse {
            self.next_sweep = now + self.settings.poll.max(SHORTEST);
        }
        if progress.walk == Walk::Full {
            self.next_full = now + self.settings.rescan.max(SHORTEST);
            if self.tree.root.is_some() {
                self.condition.counted_all(progress.started);
                self.say_whether_also_polled();
            }
            // A context that cannot be read may hold more: what was not seen is not known then.
            if self.tree.root.is_some() && !broken {
                self.say(Observation::Complete)?;
            }
        }
        Ok(())
    }

    fn say_whether_also_polled(&self) {
        let refused = self.watches.as_ref().and_then(Watches::refused).map(|refused| {
            let needed = self.tree.watches_needed();
            // The limit is the user's: other processes of his have a part of it.
            let enough = (watch::limit() + needed + needed / 4).next_power_of_two();
            format!(
                "{refused}, the spool needs {needed}; it is polled every {} s in addition. \
                 sysctl fs.inotify.max_user_watches={enough} ends that",
                self.settings.poll.as_secs_f32(),
            )
        });
        self.condition.set(|health| {
            match (&refused, &health.also_polled) {
                (Some(text), None) => tracing::warn!("{text}"),
                (None, Some(_)) => tracing::info!("all of the spool is watched now"),
                _ => {}
            }
            health.also_polled = refused;
        });
    }

    fn hear(&mut self, batch: Batch) -> Result<(), Closed> {
        if batch.stop {
            return Err(Closed);
        }
        for (mailbox, given) in batch.nudges {
            self.heed_nudge(&mailbox, given)?;
        }
        let now = Instant::now();
        for (mailbox, change) in batch.changed {
            if self.pending.touch(&mailbox, change, now) {
                self.recount(&mailbox, false, Urgency::Fresh)?;
            }
        }
        for mailbox in batch.appeared {
            self.recount(&mailbox, true, Urgency::Fresh)?;
        }
        for context in batch.contexts {
            // Perhaps a new folder of the same name: its old watch is worth nothing.
            self.tree.watch_context(&context, false);
            for mailbox in self.list_context(&context, Walk::Pulse) {
                self.recount(&mailbox, true, Urgency::Fresh)?;
            }
        }
        for context in batch.forgotten {
            self.forget(&context)?;
        }
        if batch.root {
            (self.next_pulse, self.pulse_again) = (now, true);
        }
        if batch.rescan {
            self.start(Walk::Full);
        }
        Ok(())
    }

    /// Says it; waits while those who listen are busy.
    pub(super) fn say(&self, observation: Observation) -> Result<(), Closed> {
        self.out.blocking_send(observation).map_err(|_| Closed)
    }
}
