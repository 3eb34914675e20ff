//! A watch, and what it has told.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mwid::config::Database;
use mwid::dialogs::watch::{Change, Pace, Watch, WatchHealth, Way, Writer};
use mwid::dialogs::{DialogStore, Script, install};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::bed::{Bed, Kind};
use crate::support::SOON;

/// Quick enough for a test, slow enough for a busy machine.
pub const PACE: Pace = Pace {
    keep: Duration::from_secs(3),
    look_back: Duration::from_millis(100),
    recheck: Duration::from_millis(200),
};

/// A resync that a test does not live to see.
pub const NEVER: Duration = Duration::from_secs(86_400);

pub struct Seen {
    pub watch: Watch,
    changes: mpsc::Receiver<Change>,
    waiting: VecDeque<Change>,
}

/// A time at which every row of a test still lives, as an SQL literal.
pub fn tomorrow() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    (now + 86_400).to_string()
}

/// Inserts a live row of this account.
pub fn subscribe(bed: &Bed, user: &str) {
    let uri = format!("'sip:{user}@example.com'");
    bed.insert(&[&[("presentity_uri", &uri), ("expires", &tomorrow())]]);
}

pub async fn install(settings: &Database) {
    install::run(Script::Install, settings).await.unwrap();
}

pub async fn remove(settings: &Database) {
    install::run(Script::Remove, settings).await.unwrap();
}

/// The way that a kind of database offers with the triggers.
pub fn best(kind: Kind) -> Way {
    if kind == Kind::Postgres { Way::Listen } else { Way::ChangeTable }
}

impl Seen {
    /// A watch of the bed's table whose full reads are `resync` apart.
    pub fn start(bed: &Bed, resync: Duration) -> Self {
        Self::with(Database { resync, ..bed.settings.clone() })
    }

    pub fn with(settings: Database) -> Self {
        let store = DialogStore::new(&settings).unwrap();
        let (send, changes) = mpsc::channel(4);
        let watch = Watch::with_pace(&settings, store, send, Writer::Others, PACE);
        Self { watch, changes, waiting: VecDeque::new() }
    }

    /// The next thing that it tells.
    pub async fn next(&mut self) -> Change {
        if let Some(change) = self.waiting.pop_front() {
            return change;
        }
        match timeout(SOON, self.changes.recv()).await {
            Ok(change) => change.expect("the watch runs"),
            Err(_) => panic!("nothing was told: {}", self.watch.health()),
        }
    }

    /// Waits until the whole table has been read, and gives the rows' ids.
    pub async fn synced(&mut self) -> Vec<i64> {
        let mut ids = Vec::new();
        loop {
            match self.next().await {
                Change::Page(page) => ids.extend(page.iter().map(|listed| listed.row.id)),
                Change::Synced => return ids,
                Change::Accounts(_) | Change::Failed(_) => {}
            }
        }
    }

    /// The accounts of the next change, whichever way it was seen; at most one row at a time.
    pub async fn accounts(&mut self) -> Vec<String> {
        loop {
            let mut accounts: Vec<String> = match self.next().await {
                Change::Accounts(accounts) => {
                    accounts.iter().map(|a| a.user().to_owned()).collect()
                }
                Change::Page(page) => page
                    .iter()
                    .flat_map(|listed| listed.accounts.iter().map(|a| a.user().to_owned()))
                    .collect(),
                Change::Synced | Change::Failed(_) => continue,
            };
            accounts.sort();
            return accounts;
        }
    }

    /// Waits until an account is told of.
    pub async fn until(&mut self, user: &str) {
        while !self.accounts().await.contains(&user.to_owned()) {}
    }

    /// Waits until the health is as wanted; what is told meanwhile is kept.
    pub async fn until_health(&mut self, what: &str, is: impl Fn(&WatchHealth) -> bool) {
        let deadline = Instant::now() + SOON;
        loop {
            let health = self.watch.health();
            if is(&health) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {health}: {health:?}");
            if let Ok(change) = timeout(Duration::from_millis(10), self.changes.recv()).await {
                self.waiting.push_back(change.expect("the watch runs"));
            }
        }
    }

    pub async fn until_way(&mut self, way: Way) {
        self.until_health("another way", |health| health.way == Some(way)).await;
    }
}
