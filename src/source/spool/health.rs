//! How the spool is: for `mwid status`, and for a log that says each thing once.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mwid_core::mailbox::Mailbox;
use serde::Serialize;

use crate::clock;

/// Troubles that a [`SpoolHealth`] lists; all are counted.
const LISTED: usize = 100;
/// Troubles that are logged one by one in each [`WINDOW`].
const LOGGED: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// A snapshot of the spool source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpoolHealth {
    /// The folder that holds the contexts.
    pub path: PathBuf,
    /// Whether and how it is watched.
    pub root: RootState,
    /// Mailboxes that have been counted.
    pub mailboxes: usize,
    /// Folders of contexts and mailboxes that the kernel watches.
    pub folders_watched: usize,
    /// Why the spool is polled in addition to being watched, when it is.
    pub also_polled: Option<String>,
    /// What cannot be counted now, at most 100 of it.
    pub troubles: Vec<Trouble>,
    /// How much cannot be counted now.
    pub troubles_total: usize,
    /// Folders whose names cannot be those of a context or mailbox.
    pub bad_names: usize,
    /// The last time that everything was counted.
    pub last_full_count: Option<FullCount>,
}

impl SpoolHealth {
    /// What is wrong now, in a few words.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        match (&self.root, self.troubles_total) {
            (RootState::Absent { .. }, _) => Some("the spool cannot be read".to_owned()),
            (RootState::Stopped, _) => Some("the spool is no longer watched".to_owned()),
            (_, 0) => None,
            (_, total) => Some(format!("{total} mailboxes or contexts cannot be counted")),
        }
    }
}

/// One line for `mwid status`.
impl fmt::Display for SpoolHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.root {
            RootState::Starting => write!(f, "{path}, not looked at yet")?,
            RootState::Watching => write!(f, "{path}, watched")?,
            RootState::Polling => write!(f, "{path}, polled")?,
            RootState::Absent { error } => return write!(f, "{path} cannot be read: {error}"),
            RootState::Stopped => return write!(f, "{path}, no longer watched"),
        }
        write!(f, ", {} mailboxes", self.mailboxes)?;
        if let Some(why) = &self.also_polled {
            write!(f, ", also polled: {why}")?;
        }
        if let Some(first) = self.troubles.first() {
            let Self { troubles_total, .. } = self;
            write!(f, ", {troubles_total} cannot be counted ({}: {})", first.subject, first.error)?;
        }
        Ok(())
    }
}

/// Whether and how the root is watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum RootState {
    /// Not looked at yet.
    Starting,
    /// The kernel says what changes.
    Watching,
    /// The times of the folders are compared.
    Polling,
    /// Not there or not readable; tried again every second.
    Absent {
        /// What the system says.
        error: String,
    },
    /// The source has ended.
    Stopped,
}

/// Something in the spool that cannot be counted. It is tried again until it can.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// The mailbox, the context or the root.
    pub subject: Subject,
    /// The last error.
    pub error: String,
    /// Since when, Unix seconds.
    pub since: u64,
    /// How many times it was tried.
    pub attempts: u32,
}

/// A count of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FullCount {
    /// When it ended, Unix seconds.
    pub at: u64,
    /// How long it took, milliseconds.
    pub took_ms: u64,
}

/// What a trouble is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The folder of all contexts.
    Root,
    /// A folder of mailboxes.
    Context(Box<str>),
    /// A mailbox.
    Mailbox(Mailbox),
}

/// As it is shown.
impl Serialize for Subject {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("spool"),
            Self::Context(context) => write!(f, "context {context}"),
            Self::Mailbox(mailbox) => write!(f, "mailbox {mailbox}"),
        }
    }
}

/// The state behind the snapshots, shared by the spool's thread and those who ask.
#[derive(Debug)]
pub(super) struct Condition(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Without its troubles.
    health: SpoolHealth,
    troubles: BTreeMap<Subject, Trouble>,
    window: Instant,
    logged: u32,
}

impl Condition {
    pub(super) fn new(path: PathBuf) -> Self {
        let health = SpoolHealth {
            path,
            root: RootState::Starting,
            mailboxes: 0,
            folders_watched: 0,
            also_polled: None,
            troubles: Vec::new(),
            troubles_total: 0,
            bad_names: 0,
            last_full_count: None,
        };
        let troubles = BTreeMap::new();
        Self(Mutex::new(State { health, troubles, window: Instant::now(), logged: 0 }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The snapshot, with the troubles of these subjects.
    pub(super) fn health(&self, is_shown: impl Fn(&Subject) -> bool) -> SpoolHealth {
        let state = self.lock();
        let troubles = state.troubles.values().filter(|trouble| is_shown(&trouble.subject));
        SpoolHealth {
            troubles: troubles.take(LISTED).cloned().collect(),
            troubles_total: state.troubles.len(),
            ..state.health.clone()
        }
    }

    /// Changes anything but the troubles.
    pub(super) fn set(&self, change: impl FnOnce(&mut SpoolHealth)) {
        change(&mut self.lock().health);
    }

    /// Everything was counted, since `started`.
    pub(super) fn counted_all(&self, started: Instant) {
        let took_ms = started.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        self.set(|health| health.last_full_count = Some(FullCount { at: clock::unix(), took_ms }));
    }

    /// Notes a trouble, logs a new one, and says how long to wait before the next try.
    pub(super) fn trouble(&self, subject: Subject, error: String) -> Duration {
        let mut state = self.lock();
        if let Some(old) = state.troubles.get_mut(&subject) {
            old.error = error;
            old.attempts = old.attempts.saturating_add(1);
            return FIRST_RETRY.saturating_mul(1 << (old.attempts - 1).min(6)).min(LAST_RETRY);
        }
        if state.may_log() {
            tracing::warn!(%subject, error, "not counted, nothing is sent for it; trying again");
        }
        let trouble =
            Trouble { subject: subject.clone(), error, since: clock::unix(), attempts: 1 };
        state.troubles.insert(subject, trouble);
        FIRST_RETRY
    }

    /// A trouble is over, if there was one.
    pub(super) fn well(&self, subject: &Subject) {
        let mut state = self.lock();
        if state.troubles.remove(subject).is_some() && state.may_log() {
            tracing::info!(%subject, "counted again");
        }
    }

    /// Whether the root or a context cannot be looked into.
    pub(super) fn structure_is_broken(&self) -> bool {
        let state = self.lock();
        let first = state.troubles.keys().next();
        matches!(first, Some(Subject::Root | Subject::Context(_)))
    }

    /// Whether there is a trouble with this.
    pub(super) fn is_troubled(&self, subject: &Subject) -> bool {
        self.lock().troubles.contains_key(subject)
    }
}

impl State {
    /// Some lines, then silence for the rest of the window: a dead disk has 100,000 mailboxes.
    fn may_log(&mut self) -> bool {
        if self.window.elapsed() > WINDOW {
            (self.window, self.logged) = (Instant::now(), 0);
        }
        self.logged += 1;
        if self.logged == LOGGED + 1 {
            tracing::warn!("more of the spool is concerned; `mwid status` lists it");
        }
        self.logged <= LOGGED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_grow_to_a_minute_and_end_with_the_trouble() {
        let condition = Condition::new("/s".into());
        let subject = Subject::Mailbox(Mailbox::parse("202").unwrap());
        let waits: Vec<u64> = (0..8)
            .map(|_| condition.trouble(subject.clone(), "EIO".to_owned()).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(
            condition.health(|_| true).troubles[0].subject.to_string(),
            "mailbox 202@default"
        );
        assert!(!condition.structure_is_broken());
        condition.well(&subject);
        assert_eq!(condition.health(|_| true).troubles_total, 0);
    }

    #[test]
    fn a_snapshot_is_json_of_bounded_size() {
        let condition = Condition::new("/s".into());
        condition.trouble(Subject::Root, "not there".to_owned());
        for number in 0..500 {
            let mailbox = Mailbox::parse(&number.to_string()).unwrap();
            condition.trouble(Subject::Mailbox(mailbox), "EIO".to_owned());
        }
        condition.set(|health| health.root = RootState::Absent { error: "not there".to_owned() });
        assert!(condition.structure_is_broken());
        let json = serde_json::to_value(condition.health(|_| true)).unwrap();
        assert_eq!(json["root"]["state"], "absent");
        assert_eq!(json["troubles"].as_array().unwrap().len(), 100);
        assert_eq!(json["troubles_total"], 501);
    }
}
