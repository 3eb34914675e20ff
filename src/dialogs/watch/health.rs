//! How well the table is watched, and what that costs.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::WatchError;
use crate::config;
use crate::dialogs::error::StoreError;

/// How the table is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// PostgreSQL tells by itself.
    Listen,
    /// Triggers fill a small table, which is polled.
    ChangeTable,
    /// New ids are polled, the whole table is read now and then.
    Paging,
}

/// Who makes and changes the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Writer {
    /// A presence server, or the agent of another mwid: the watch sees what they do.
    Others,
    /// This mwid's own agent alone, which says so itself: the watch finds what somebody else did.
    Agent,
}

/// A watch as it is now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WatchHealth {
    /// The way in use; `None` before the database has answered.
    pub way: Option<Way>,
    /// Who makes and changes the rows.
    pub writer: Writer,
    /// Why it is not a better one.
    pub reason: Option<String>,
    /// For how long this way has been in use.
    pub since_seconds: u64,
    /// What is wrong now. While it is, nothing new is seen.
    pub error: Option<String>,
    /// How late a new subscription is seen, in milliseconds.
    pub lag_ms: Option<f64>,
    /// Rows read in a second, over the last ten or more.
    pub rows_per_second: f64,
    /// Rows read since the start.
    pub rows_read: u64,
    /// New or refreshed rows seen since the start.
    pub changes: u64,
    /// Of them, those that name no account.
    pub rubbish: u64,
    /// Why the change table is not trimmed by this mwid.
    pub untrimmed: Option<String>,
    /// How often the whole table has been read.
    pub resyncs: u64,
    /// Whether it is being read now.
    pub resyncing: bool,
    /// `[database] watch_poll`, in milliseconds.
    pub poll_ms: u128,
    /// `[database] resync`, in seconds.
    pub resync_seconds: u64,
    /// How far the database's clock is ahead of this machine's, when that is more than half a minute.
    pub clock_skew_seconds: i64,
}

impl WatchHealth {
    /// What is wrong now, in a few words.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        match (&self.error, self.clock_skew_seconds) {
            (Some(_), _) => Some("new subscriptions are not seen".to_owned()),
            (None, 0) => None,
            (None, skew) => Some(Skew(skew).to_string()),
        }
    }
}

impl fmt::Display for WatchHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(error) = &self.error {
            return write!(f, "new ones are not seen: {error}");
        }
        match (self.way, self.writer) {
            (None, _) => return f.write_str("waiting for the database"),
            (Some(_), Writer::Agent) => write!(
                f,
                "mwid's own: a phone that subscribes or refreshes is told at once; all rows are read \
                 every {} s",
                self.resync_seconds
            )?,
            (Some(way), Writer::Others) => self.write_way(f, way)?,
        }
        if let Some(reason) = self.reason.as_ref().filter(|_| self.writer == Writer::Others) {
            write!(f, "; why no better way: {reason}")?;
        }
        write!(f, "; cost: {:.1} rows read a second", self.rows_per_second)?;
        if self.resyncing {
            f.write_str("; the whole table is being read")?;
        }
        if self.clock_skew_seconds != 0 {
            write!(f, "; {}", Skew(self.clock_skew_seconds))?;
        }
        match &self.untrimmed {
            Some(error) => write!(f, "; mwid_changes grows: {error}"),
            None => Ok(()),
        }
    }
}

impl WatchHealth {
    fn write_way(&self, f: &mut fmt::Formatter<'_>, way: Way) -> fmt::Result {
        let Self { poll_ms, resync_seconds, .. } = self;
        match way {
            // Most of a tenth of a second is `[timers] settle`.
            Way::Listen => f.write_str(
                "LISTEN: PostgreSQL tells of each; a phone that subscribes or refreshes is told \
                 after about 0.1 s",
            ),
            Way::ChangeTable => write!(
                f,
                "change table: mwid_changes is read every {poll_ms} ms; a phone that subscribes or \
                 refreshes is told after 0.1 to {:.1} s",
                0.1 + *poll_ms as f64 / 1000.0
            ),
            Way::Paging => write!(
                f,
                "paging: new rows are looked for every second, all rows are read every \
                 {resync_seconds} s; a phone that subscribes is told after about 1 s, one that \
                 refreshes after up to {resync_seconds} s"
            ),
        }
    }
}

/// The database's clock beside ours, in seconds; more is ahead.
struct Skew(i64);

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.0 > 0 { "ahead of" } else { "behind" };
        write!(f, "the database's clock is {} s {side} this machine's", self.0.unsigned_abs())
    }
}

/// Two clocks further apart than this many seconds are worth a word.
const APART: u64 = 30;

/// What a [`WatchHealth`] is made of.
#[derive(Debug)]
pub(super) struct Health {
    way: Option<Way>,
    writer: Writer,
    reason: Option<String>,
    since: Instant,
    error: Option<String>,
    lag: Option<Duration>,
    rows_read: u64,
    changes: u64,
    rubbish: u64,
    untrimmed: Option<String>,
    resyncs: u64,
    resyncing: bool,
    poll: Duration,
    resync: Duration,
    skew: i64,
    rate: Rate,
}

/// Rows read a second: over a window of ten seconds, and the one before.
#[derive(Debug)]
struct Rate {
    began: Instant,
    rows: u64,
    before: f64,
}

const RATE_WINDOW: Duration = Duration::from_secs(10);

impl Health {
    pub(super) fn new(settings: &config::Database, writer: Writer) -> Self {
        let now = Instant::now();
        Self {
            way: None,
            writer,
            reason: None,
            since: now,
            error: None,
            lag: None,
            rows_read: 0,
            changes: 0,
            rubbish: 0,
            untrimmed: None,
            resyncs: 0,
            resyncing: false,
            poll: settings.watch_poll,
            resync: settings.resync,
            skew: 0,
            rate: Rate { began: now, rows: 0, before: 0.0 },
        }
    }

    /// Said when it begins, and once. What fails for everybody is said by whoever is told of it.
    pub(super) fn failed(&mut self, error: &WatchError) {
        if self.error.is_none() && !matches!(error, WatchError::Store(_)) {
            tracing::warn!("new subscriptions are not seen: {error}; mwid keeps trying");
        }
        self.error = Some(error.to_string());
        self.resyncing = false;
    }

    pub(super) fn works(&mut self, way: Way, reason: Option<String>) {
        let changed = self.way != Some(way) || self.reason != reason;
        if changed {
            (self.way, self.reason, self.since, self.lag) =
                (Some(way), reason, Instant::now(), None);
        }
        if self.error.take().is_some() || changed {
            tracing::info!("subscriptions: {}", self.report());
        }
    }

    pub(super) fn read(&mut self, rows: usize) {
        let now = Instant::now();
        self.rows_read += rows as u64;
        self.rate.roll(now);
        self.rate.rows += rows as u64;
    }

    pub(super) fn changes(&mut self, rows: usize) {
        self.changes += rows as u64;
    }

    pub(super) fn rubbish(&mut self) {
        self.rubbish += 1;
    }

    pub(super) fn untrimmed(&mut self, error: &StoreError) {
        if self.untrimmed.is_none() {
            tracing::warn!("mwid_changes cannot be trimmed and grows: {error}");
        }
        self.untrimmed = Some(error.to_string());
    }

    pub(super) fn lag(&mut self, lag: Duration) {
        self.lag = Some(lag);
    }

    pub(super) fn resyncing(&mut self, resyncing: bool) {
        if self.resyncing && !resyncing {
            self.resyncs += 1;
        }
        self.resyncing = resyncing;
    }

    /// How many seconds the database's clock is ahead of ours: said when it begins and when it ends.
    pub(super) fn clocks(&mut self, ahead: i64) {
        let before = std::mem::replace(&mut self.skew, 0);
        if ahead.unsigned_abs() > APART {
            self.skew = ahead;
            if before == 0 {
                tracing::warn!(
                    "{}: subscriptions end by this machine's, so lamps go wrong if the presence server keeps the other time; have all machines set by NTP",
                    Skew(ahead)
                );
            }
        } else if before != 0 {
            tracing::info!("the database's clock and this machine's agree again");
        }
    }

    pub(super) fn report(&mut self) -> WatchHealth {
        let now = Instant::now();
        self.rate.roll(now);
        WatchHealth {
            way: self.way,
            writer: self.writer,
            reason: self.reason.clone(),
            since_seconds: (now - self.since).as_secs(),
            error: self.error.clone(),
            lag_ms: self.lag.map(|lag| lag.as_secs_f64() * 1000.0),
            rows_per_second: self.rate.now(now),
            rows_read: self.rows_read,
            changes: self.changes,
            rubbish: self.rubbish,
            untrimmed: self.untrimmed.clone(),
            resyncs: self.resyncs,
            resyncing: self.resyncing,
            poll_ms: self.poll.as_millis(),
            resync_seconds: self.resync.as_secs(),
            clock_skew_seconds: self.skew,
        }
    }
}

impl Rate {
    fn roll(&mut self, now: Instant) {
        let length = now - self.began;
        if length >= RATE_WINDOW {
            self.before = self.rows as f64 / length.as_secs_f64();
            (self.began, self.rows) = (now, 0);
        }
    }

    /// The window before, and what of this one exceeds it.
    fn now(&self, now: Instant) -> f64 {
        let length = (now - self.began).as_secs_f64().max(1.0);
        self.before.max(self.rows as f64 / length)
    }
}
