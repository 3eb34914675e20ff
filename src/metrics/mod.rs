//! Metrics for Prometheus, at `/metrics` of the HTTP door.
//!
//! [`TABLE`] has one row for each: its name, kind, unit, labels and help, and how it is read. The page
//! that is scraped, docs/metrics.md, and the tests of the rules and of the dashboard all come from
//! it. While mwid works it only adds to plain numbers ([`Tally`], the counters of the loop and of
//! the parts); all else is done when somebody scrapes. No label names an account, a phone or an
//! address that comes from outside, so the number of series is bounded. [`Recent`] is what the status
//! page shows of the last minutes.

use std::fmt::Write as _;

mod changes;
mod histogram;
mod notifies;
mod process;
mod reading;
mod recent;
mod table;
mod tally;
mod text;

pub use histogram::Histogram;
pub use table::TABLE;
pub use text::CONTENT_TYPE;

pub(crate) use changes::Changes;
pub(crate) use notifies::Notifies;
pub(crate) use process::Process;
pub(crate) use reading::{Agent, Reading, WayReading};
pub(crate) use recent::Recent;
pub(crate) use tally::Tally;

use text::Samples;

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; 0 at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size, in the buckets of [`Histogram`].
    Histogram,
}

impl Kind {
    /// As Prometheus writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One row of the table.
#[derive(Debug)]
pub struct Metric {
    /// Its name. A counter ends in `_total`, a unit stands at the end otherwise.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// `seconds`, `bytes`, or nothing for a plain number.
    pub unit: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, in one line.
    pub help: &'static str,
    pub(crate) read: fn(&Reading, &mut Samples<'_>),
}

/// The page that Prometheus scrapes, in its text format. What does not exist here, a cluster for
/// example, has no lines.
#[must_use]
pub(crate) fn page(reading: &Reading) -> String {
    let mut text = String::with_capacity(16 * 1024);
    for metric in TABLE {
        text::write(metric, reading, &mut text);
    }
    text
}

/// docs/metrics.md, from the table.
#[must_use]
pub fn document() -> String {
    let mut text = String::from(include_str!("head.md"));
    text.push_str(
        "| metric | kind | unit | labels | what it says |\n| --- | --- | --- | --- | --- |\n",
    );
    for Metric { name, kind, unit, labels, help, .. } in TABLE {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let row = [&format!("`{name}`"), kind.name(), unit, &labels.join(", "), help];
        // Writing into a string cannot fail.
        let _ = writeln!(text, "| {} |", row.join(" | ").replace(" |  |", " | |"));
    }
    text
}
