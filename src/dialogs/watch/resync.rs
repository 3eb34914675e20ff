//! The whole table, page by page, at a pace that nobody feels.

use std::time::Duration;

use tokio::time::Instant;

use super::{Change, Stop, Watcher};
use crate::clock::unix;

/// Rows of a page.
pub(super) const PAGE: usize = 500;

/// At most twenty pages a second: 100,000 subscriptions take ten seconds.
const PAUSE: Duration = Duration::from_millis(50);

/// A reading of the table, and when the next one begins.
#[derive(Debug)]
pub(super) struct Resync {
    period: Duration,
    due: Instant,
    /// Where the reading under way has come to.
    after: Option<i64>,
}

impl Resync {
    /// The first reading is due now, the others `period` after one has ended.
    pub(super) fn new(period: Duration) -> Self {
        Self { period, due: Instant::now(), after: None }
    }

    /// When to call [`step`](Self::step).
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Begins from the start, now.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.period);
    }

    /// Reads a page and tells of it.
    pub(super) async fn step(&mut self, watcher: &Watcher) -> Result<(), Stop> {
        watcher.health().resyncing(true);
        let after = self.after.unwrap_or(i64::MIN);
        let rows = watcher.store.page(after, unix(), PAGE as i64).await?;
        watcher.health().read(rows.len());
        let last = rows.last().map(|last| last.row.id).filter(|_| rows.len() == PAGE);
        if !rows.is_empty() {
            watcher.tell(Change::Page(watcher.listed(rows))).await?;
        }
        self.after = last;
        if last.is_some() {
            self.due = Instant::now() + PAUSE;
        } else {
            self.due = Instant::now() + self.period;
            watcher.health().resyncing(false);
            watcher.tell(Change::Synced).await?;
        }
        Ok(())
    }
}
