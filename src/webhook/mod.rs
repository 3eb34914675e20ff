//! `[webhook]`: an application is told what phones do and what they acknowledged, in the events of
//! babble-drachtio-presence (event.rs), by POSTs that are tried again (post.rs).
//!
//! The loop only puts an event into a queue. [`LANES`] tasks post them, each the events of its own
//! accounts, so that those of one account come in order and a slow answer holds up only some. What
//! the application is *asked* goes another way: `source::ask`.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use mwid_core::mailbox::Account;
use mwid_core::pace::{Backoff, Jitter};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::Config;
use crate::http_client::ClientError;

mod event;
mod post;
mod queue;

pub use event::{Event, SUMMARY_TYPE};
pub use post::{Fault, Poster};
pub use queue::WebhookHealth;

use queue::{Lane, Record};

/// Events that are posted at once.
const LANES: usize = 4;

/// Between two tries.
const BACKOFF: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(60) };

/// Posts events until it is dropped.
#[derive(Debug)]
pub struct Webhook {
    lanes: Vec<Arc<Lane>>,
    record: Arc<Record>,
    closing: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// What a task posts with.
struct Post {
    lane: Arc<Lane>,
    record: Arc<Record>,
    poster: Poster,
    tries: u32,
    jitter: Jitter,
    closing: watch::Receiver<bool>,
}

impl Webhook {
    /// Posts to the address of `[webhook] url`; `None` without one. `seed` is for the jitter.
    ///
    /// # Errors
    /// [`ClientError`] when that cannot be asked.
    pub fn start(config: &Config, seed: u64) -> Result<Option<Self>, ClientError> {
        let Some(poster) = Poster::new(&config.webhook)? else { return Ok(None) };
        let record = Arc::new(Record::default());
        let lanes: Vec<_> = (0..LANES).map(|_| Arc::new(Lane::default())).collect();
        let (closing, closed) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for (lane, number) in lanes.iter().zip(0..) {
            let post = Post {
                lane: lane.clone(),
                record: record.clone(),
                poster: poster.clone(),
                tries: config.webhook.tries,
                jitter: Jitter::new(seed.wrapping_add(number)),
                closing: closed.clone(),
            };
            tasks.spawn(post.run());
        }
        Ok(Some(Self { lanes, record, closing, tasks }))
    }

    /// Lets an event of this account be posted, after those that wait.
    pub fn tell(&self, account: &Account, event: &Event<'_>) {
        let mut hasher = DefaultHasher::new();
        account.hash(&mut hasher);
        let lane = usize::try_from(hasher.finish() % LANES as u64).unwrap_or(0);
        self.lanes[lane].push(event.body(), &self.record);
    }

    /// Takes over what another one has not posted yet.
    pub fn adopt(&self, other: &Self) {
        for (own, others) in self.lanes.iter().zip(&other.lanes) {
            own.adopt(others);
        }
    }

    /// How it is.
    #[must_use]
    pub fn health(&self) -> WebhookHealth {
        self.record.health(self.lanes.iter().map(|lane| lane.len()).sum())
    }

    /// Posts what waits, once each, until `deadline`.
    pub async fn close(mut self, deadline: std::time::Instant) {
        self.closing.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let ended = tokio::time::timeout_at(Instant::from_std(deadline), all).await;
        let waiting = self.health().waiting;
        if ended.is_err() && waiting > 0 {
            tracing::warn!(waiting, "the webhook did not take all events before mwid stopped");
        }
    }
}

impl Post {
    async fn run(mut self) {
        loop {
            while let Some((number, body)) = self.lane.first() {
                self.deliver(&body).await;
                self.lane.done(number);
            }
            if *self.closing.borrow() {
                return;
            }
            tokio::select! {
                () = self.lane.filled() => {}
                changed = self.closing.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Posts one event until it is taken, or for as often as it may be.
    async fn deliver(&mut self, body: &[u8]) {
        for failures in 1.. {
            let fault = match self.poster.post(body.to_vec()).await {
                Ok(_) => return self.record.taken(),
                Err(fault) => fault,
            };
            self.record.failed(&fault);
            let is_last = failures >= self.tries || *self.closing.borrow();
            let Some(pause) = fault.pause(BACKOFF.pause(failures)).filter(|_| !is_last) else {
                return self.record.given_up();
            };
            tokio::select! {
                () = tokio::time::sleep(self.jitter.spread(pause)) => {}
                // Tried once more, now.
                _ = self.closing.changed() => {}
            }
        }
    }
}
