//! How each way that publishes fares: for the log, which names a failing one once, and for `status`.

use mwid_core::publication::{Outcome, Way};
use serde_json::{Value, json};

use super::Daemon;
use crate::delivery::Published;
use crate::metrics::WayReading;

/// The ways whose last step came to nothing, and none was accepted since.
#[derive(Debug, Default)]
pub(super) struct Failing([Option<Failure>; Way::ALL.len()]);

#[derive(Clone, Debug)]
pub(super) struct Failure {
    why: String,
    /// Its server gives no answer at all.
    is_silent: bool,
}

/// What came of a step, for its way.
pub(super) enum News {
    None,
    /// It fails, and did not before.
    Fails,
    /// It works, and did not before.
    Works {
        was_silent: bool,
    },
}

impl Failing {
    pub(super) fn note(&mut self, way: Way, published: &Published) -> News {
        let failure = &mut self.0[way as usize];
        match published.outcome {
            Outcome::Later(_) => {
                let Published { answer, is_silent, .. } = published;
                let before =
                    failure.replace(Failure { why: answer.clone(), is_silent: *is_silent });
                if before.is_none() { News::Fails } else { News::None }
            }
            Outcome::Accepted { .. } => match failure.take() {
                Some(failure) => News::Works { was_silent: failure.is_silent },
                None => News::None,
            },
            Outcome::Stale | Outcome::Again => News::None,
        }
    }

    pub(super) fn of(&self, way: Way) -> Option<&str> {
        self.0[way as usize].as_ref().map(|failure| failure.why.as_str())
    }
}

/// A line of `status`, and the same as facts.
pub(super) struct WayStatus {
    pub(super) line: String,
    pub(super) data: Value,
}

impl Daemon {
    /// The ways that are used, and those that still have something to remove.
    pub(super) fn ways_reading(&self) -> impl Iterator<Item = WayReading> {
        let is_shown = |(way, known, _): &(Way, usize, usize)| {
            *way != Way::Notify && (*known > 0 || self.config.delivery.uses(*way))
        };
        let reading = |(way, known, accepted)| {
            let works = self.said.failing.of(way).is_none();
            WayReading { way, known, accepted, works }
        };
        self.reconciler.tallies().into_iter().filter(is_shown).map(reading)
    }

    /// The same for `status`.
    pub(super) fn ways_status(&self) -> Vec<WayStatus> {
        let status = |WayReading { way, known, accepted, .. }| {
            let server = self.config.server_of(way);
            let server = server.unwrap_or_else(|| "not configured".to_owned());
            let why = self.said.failing.of(way);
            let fails = why.map(|why| format!("; it fails: {why}"));
            WayStatus {
                line: format!(
                    "  {way}: {server}, {known} publications, {accepted} of them accepted{}",
                    fails.unwrap_or_default()
                ),
                data: json!({
                    "way": way.name(), "server": server, "known": known, "accepted": accepted,
                    "error": why,
                }),
            }
        };
        self.ways_reading().map(status).collect()
    }
}
