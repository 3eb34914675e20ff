//! What the loop adds up for metrics alone.

use std::time::Duration;

use mwid_core::reconciler::Verdict;

use super::{Changes, Histogram, Notifies};
use crate::clock;
use crate::delivery::Ended;

/// Since the start. Copied when somebody scrapes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    /// When that was, Unix seconds.
    pub(crate) started: f64,
    pub(crate) changes: Changes,
    pub(crate) notifies: Notifies,
    /// First copy to final answer.
    pub(crate) round_trip: Histogram,
    /// A change to the phone's 2xx.
    pub(crate) acknowledged: Histogram,
}

/// Begins now.
impl Default for Tally {
    fn default() -> Self {
        Self {
            started: clock::since_1970().as_secs_f64(),
            changes: Changes::default(),
            notifies: Notifies::default(),
            round_trip: Histogram::default(),
            acknowledged: Histogram::default(),
        }
    }
}

impl Tally {
    /// A NOTIFY has ended.
    pub(crate) fn notify(&mut self, verdict: Verdict, ended: Ended, took: Duration) {
        self.notifies.count(verdict, ended);
        if ended.is_answer() {
            self.round_trip.observe(took);
        }
    }
}
