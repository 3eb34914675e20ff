//! MySQL and SQLite with the triggers of `mwid sql`: they fill the table `mwid_changes`.
//!
//! Several mwids read it, each for itself, and each trims it. It may be emptied or filled with
//! rubbish by anybody at any time.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::resync::Resync;
use super::sql::{ChangeRow, Number};
use super::window::Window;
use super::{Change, Stop, WatchError, Watcher, Way, every};

/// Rows of one read.
const BATCH: usize = 500;

/// Reads in a row that may be full. Further behind than that, the whole table is read instead.
const MOST_BATCHES: usize = 20;

/// Rows of one DELETE, and how many of these may follow each other.
const TRIM_BATCH: i64 = 1000;
const MOST_TRIMS: usize = 20;

/// How many of the newest rows are read at the start: transactions that were under way then may
/// put theirs between them.
const BEFORE: i64 = 100;

/// With triggers, the whole table is read so much less often.
pub(super) const RARELY: u32 = 10;

/// Follows the change table until it is no longer there.
pub(super) async fn follow(watcher: &mut Watcher) -> Result<(), Stop> {
    let newest = watcher.store.number(Number::NewestChange).await?.unwrap_or(0);
    let mut reader = Reader {
        window: Window::new(newest.saturating_sub(BEFORE).max(0)),
        resync: Resync::new(watcher.settings.resync.saturating_mul(RARELY)),
        trim: Trimmer { keep: watcher.pace.keep, marks: VecDeque::new() },
        polled: Instant::now(),
    };
    watcher.works(Way::ChangeTable, None);
    let mut poll = every(watcher.settings.watch_poll);
    let mut look_back = every(watcher.pace.look_back);
    let mut trim = every(watcher.pace.keep / 6);
    let mut recheck = every(watcher.pace.recheck);
    loop {
        tokio::select! {
            _ = poll.tick() => reader.read_new(watcher).await?,
            _ = look_back.tick() => reader.look_back(watcher).await?,
            _ = trim.tick() => reader.trim(watcher).await?,
            () = sleep_until(reader.resync.due()) => reader.resync.step(watcher).await?,
            _ = recheck.tick() => {
                if !watcher.recheck().await? {
                    return Ok(());
                }
            }
        }
    }
}

struct Reader {
    window: Window,
    resync: Resync,
    trim: Trimmer,
    polled: Instant,
}

impl Reader {
    /// Rows above the highest id seen: one range read, almost free when there is none.
    async fn read_new(&mut self, watcher: &mut Watcher) -> Result<(), Stop> {
        let began = Instant::now();
        if began > self.polled + watcher.pace.keep / 2 {
            // The process or the database stood still: others may have trimmed what it missed.
            self.resync.restart();
        }
        self.polled = began;
        for _ in 0..MOST_BATCHES {
            let rows = watcher.store.changes(self.window.last(), BATCH as i64).await?;
            let full = rows.len() == BATCH;
            self.take(watcher, rows).await?;
            if !full {
                watcher.health().lag(watcher.settings.watch_poll + began.elapsed());
                return Ok(());
            }
        }
        self.start_over(watcher).await
    }

    /// Rows that were committed late, and whether the table was emptied and counts from 1 again.
    async fn look_back(&mut self, watcher: &mut Watcher) -> Result<(), Stop> {
        let newest = watcher.store.number(Number::NewestChange).await?;
        if newest.is_some_and(|newest| newest < self.window.last()) {
            self.window = Window::new(0);
            self.resync.restart();
            return Ok(());
        }
        let mut after = self.window.floor(Instant::now());
        let end = self.window.last();
        while after < end {
            let rows = watcher.store.changes(after, BATCH as i64).await?;
            let last = rows.last().map_or(end, |row| row.id);
            after = if rows.len() == BATCH { last } else { end };
            self.take(watcher, rows).await?;
        }
        Ok(())
    }

    /// Far behind: what is left unread is found by reading the whole table.
    async fn start_over(&mut self, watcher: &mut Watcher) -> Result<(), Stop> {
        let newest = watcher.store.number(Number::NewestChange).await?;
        self.window = Window::new(newest.unwrap_or(0));
        self.resync.restart();
        Ok(())
    }

    async fn take(&mut self, watcher: &mut Watcher, rows: Vec<ChangeRow>) -> Result<(), Stop> {
        watcher.health().read(rows.len());
        let now = Instant::now();
        let mut accounts = HashSet::new();
        let mut taken = 0;
        for row in rows {
            if row.id == i64::MAX {
                return Err(WatchError::Exhausted.into());
            }
            if self.window.take(row.id, now) {
                taken += 1;
                let ChangeRow { presentity, user, domain, .. } = row;
                accounts.extend(watcher.accounts(
                    presentity.as_deref(),
                    user.as_deref(),
                    domain.as_deref(),
                ));
            }
        }
        watcher.health().changes(taken);
        if accounts.is_empty() {
            return Ok(());
        }
        watcher.tell(Change::Accounts(accounts.into_iter().collect())).await
    }

    async fn trim(&mut self, watcher: &mut Watcher) -> Result<(), Stop> {
        let Some(upto) = self.trim.upto(self.window.last(), Instant::now()) else { return Ok(()) };
        for _ in 0..MOST_TRIMS {
            match watcher.store.trim(upto, TRIM_BATCH).await {
                Ok(TRIM_BATCH_U64..) => {}
                Ok(_) => return Ok(()),
                Err(error) if error.is_transient() => return Err(error.into()),
                Err(error) => {
                    // Another mwid may be allowed to; this one can read all the same.
                    watcher.health().untrimmed(&error);
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

const TRIM_BATCH_U64: u64 = TRIM_BATCH.cast_unsigned();

/// Says what is old enough to be deleted, by this process's own clock: nobody's clock can make it
/// delete too early, and no rubbish in the table can keep it from it.
#[derive(Debug)]
struct Trimmer {
    keep: Duration,
    /// Where the ids stood when, oldest first.
    marks: VecDeque<(Instant, i64)>,
}

impl Trimmer {
    /// The id up to which rows are older than `keep`, given the highest one now.
    fn upto(&mut self, last: i64, now: Instant) -> Option<i64> {
        // The table was emptied: the marks mean other rows.
        self.marks.retain(|(_, id)| *id <= last);
        self.marks.push_back((now, last));
        let old = self.marks.iter().take_while(|(at, _)| now >= *at + self.keep).count();
        self.marks.drain(..old).next_back().map(|(_, id)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_that_have_been_there_long_enough_are_trimmed() {
        let start = Instant::now();
        let mut trimmer = Trimmer { keep: Duration::from_secs(180), marks: VecDeque::new() };
        let mut upto = |last, seconds| trimmer.upto(last, start + Duration::from_secs(seconds));
        assert_eq!(upto(10, 0), None);
        assert_eq!(upto(20, 90), None);
        assert_eq!(upto(30, 180), Some(10));
        assert_eq!(upto(30, 300), Some(20));
        // Emptied: it counts from 1 again.
        assert_eq!(upto(2, 330), None);
        assert_eq!(upto(5, 480), None);
        assert_eq!(upto(5, 510), Some(2));
    }
}
