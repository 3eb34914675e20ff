//! How the connection to the manager is.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// There is none, or nobody is logged in.
    Connecting,
    /// Logged in; all mailboxes are being read.
    Reading,
    /// Every change is heard.
    Following,
}

/// The source as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AmiHealth {
    /// Host and port of the manager.
    pub address: String,
    /// How far the connection has come.
    pub phase: Phase,
    /// For how long that has been so.
    pub since_seconds: u64,
    /// What the manager says it is.
    pub banner: Option<String>,
    /// Why the last connection ended; `None` while it follows.
    pub error: Option<String>,
    /// Connections that came to follow, since the start.
    pub connections: u64,
    /// Packets read since the start.
    pub packets: u64,
    /// Of them, changes of a mailbox.
    pub changes: u64,
    /// Mailboxes counted since the start.
    pub counted: u64,
    /// Names that are no mailbox.
    pub bad_names: u64,
}

impl AmiHealth {
    /// What is wrong now, in a few words.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.error.as_ref().map(|_| "Asterisk's manager is not heard".to_owned())
    }
}

impl fmt::Display for AmiHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, since_seconds, changes, .. } = self;
        match (self.phase, &self.error) {
            (Phase::Following, _) => {
                write!(f, "connected to {address} for {since_seconds} s, {changes} changes heard")
            }
            (Phase::Reading, _) => write!(f, "connected to {address}, mailboxes are being read"),
            (Phase::Connecting, None) => write!(f, "connecting to {address}"),
            (Phase::Connecting, Some(error)) => {
                write!(f, "not connected to {address} for {since_seconds} s: {error}")
            }
        }
    }
}

/// What an [`AmiHealth`] is made of.
#[derive(Debug)]
pub(super) struct Condition(Mutex<State>);

#[derive(Debug)]
struct State {
    since: Instant,
    health: AmiHealth,
}

impl Condition {
    pub(super) fn new(address: String) -> Self {
        let health = AmiHealth {
            address,
            phase: Phase::Connecting,
            since_seconds: 0,
            banner: None,
            error: None,
            connections: 0,
            packets: 0,
            changes: 0,
            counted: 0,
            bad_names: 0,
        };
        Self(Mutex::new(State { since: Instant::now(), health }))
    }

    pub(super) fn health(&self) -> AmiHealth {
        let state = self.lock();
        AmiHealth { since_seconds: state.since.elapsed().as_secs(), ..state.health.clone() }
    }

    /// The connection has come so far. False: it had before.
    pub(super) fn reached(&self, phase: Phase) -> bool {
        let mut state = self.lock();
        if state.health.phase == phase {
            return false;
        }
        state.health.phase = phase;
        state.since = Instant::now();
        if phase == Phase::Following {
            state.health.connections += 1;
            state.health.error = None;
        }
        true
    }

    /// The connection ended. True: it has not ended like this before, so that is worth a word.
    pub(super) fn failed(&self, error: String) -> bool {
        self.reached(Phase::Connecting);
        let old = self.lock().health.error.replace(error.clone());
        old.is_none_or(|old| old != error)
    }

    /// Something else happened.
    pub(super) fn note(&self, change: impl FnOnce(&mut AmiHealth)) {
        change(&mut self.lock().health);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
