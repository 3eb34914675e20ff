//! Without triggers: new ids by polling, refreshes by reading the whole table now and then.

use std::fmt;
use std::time::Instant;

use tokio::time::sleep_until;

use super::resync::{PAGE, Resync};
use super::sql::Number;
use super::window::Window;
use super::{Change, Stop, WatchError, Watcher, Way, every};
use crate::clock::unix;

/// Pages of new rows that are read at once; more are left to a resync.
const MOST_PAGES: usize = 20;

/// Why the table is not followed in a better way.
#[derive(Debug)]
pub(super) enum Reason {
    NoTriggers,
    Failed(WatchError),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTriggers => f.write_str(
                "the triggers are not installed, or this user may not see them: run mwid sql --apply",
            ),
            Self::Failed(error) => write!(f, "{error}"),
        }
    }
}

/// Follows the table until it is time to try a better way.
pub(super) async fn follow(watcher: &mut Watcher, reason: Reason) -> Result<(), Stop> {
    let newest = watcher.store.number(Number::NewestRow).await?;
    let mut window = Window::new(newest.unwrap_or(0));
    let mut resync = Resync::new(watcher.settings.resync);
    watcher.works(Way::Paging, Some(reason.to_string()));
    let began = Instant::now();
    let mut poll = every(watcher.pace.look_back);
    let mut recheck = every(watcher.pace.recheck);
    loop {
        tokio::select! {
            _ = poll.tick() => read_new(watcher, &mut window, &mut resync).await?,
            () = sleep_until(resync.due()) => resync.step(watcher).await?,
            _ = recheck.tick() => {
                // Another way begins with a resync: one that failed is tried when that is due.
                let early = matches!(reason, Reason::Failed(_))
                    && began.elapsed() < watcher.settings.resync;
                if watcher.recheck().await? && !early {
                    return Ok(());
                }
            }
        }
    }
}

async fn read_new(
    watcher: &mut Watcher,
    window: &mut Window,
    resync: &mut Resync,
) -> Result<(), Stop> {
    let began = Instant::now();
    let mut after = window.floor(began);
    for _ in 0..MOST_PAGES {
        let mut rows = watcher.store.page(after, unix(), PAGE as i64).await?;
        watcher.health().read(rows.len());
        let full = rows.len() == PAGE;
        after = rows.last().map_or(after, |last| last.row.id);
        rows.retain(|page| window.take(page.row.id, began));
        if !rows.is_empty() {
            watcher.health().changes(rows.len());
            watcher.tell(Change::Page(watcher.listed(rows))).await?;
        }
        if !full {
            watcher.health().lag(watcher.pace.look_back + began.elapsed());
            return Ok(());
        }
    }
    *window = Window::new(watcher.store.number(Number::NewestRow).await?.unwrap_or(0));
    resync.restart();
    Ok(())
}
