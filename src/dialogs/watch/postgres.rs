//! PostgreSQL with the triggers of `mwid sql`: a connection of its own that listens.

use std::collections::HashSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use mwid_core::mailbox::Account;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Socket, tls::NoTlsStream};

use super::changes::RARELY;
use super::resync::Resync;
use super::{Change, Stop, WatchError, Watcher, Way, every};
use crate::config;
use crate::dialogs::error::{Cause, StoreError};
use crate::dialogs::postgres::Postgres;
use crate::random;

/// Notifications that wait; when they are full, PostgreSQL keeps the rest.
const QUEUE: usize = 1024;

/// Notifications that are told together.
const BATCH: usize = 500;

/// What the trigger of `sql/postgres/watch.sql` sends, or mwid to itself.
#[derive(Debug, Deserialize)]
struct Payload {
    presentity: Option<String>,
    user: Option<String>,
    domain: Option<String>,
    ping: Option<String>,
}

/// Follows the table until the triggers are gone.
pub(super) async fn follow(watcher: &mut Watcher, server: &config::Server) -> Result<(), Stop> {
    let mut ear = Ear::listen(watcher, server).await?;
    ear.ping();
    // Listening: whatever changes from here on is heard, so now the whole table can be read.
    let mut resync = Resync::new(watcher.settings.resync.saturating_mul(RARELY));
    let mut recheck = every(watcher.pace.recheck);
    loop {
        let deadline = ear.ping.as_ref().map(|ping| ping.sent + ear.timeout);
        tokio::select! {
            // What was heard counts before what was not.
            biased;
            payload = ear.payloads.recv() => match payload {
                Some(Ok(payload)) => ear.take(watcher, payload).await?,
                Some(Err(cause)) => return Err(ear.lost(cause).into()),
                None => return Err(ear.lost(Cause::new("it ended")).into()),
            },
            () = sleep_until(resync.due()), if ear.heard => resync.step(watcher).await?,
            () = until(deadline) => return Err(ear.silent().into()),
            _ = recheck.tick() => {
                if !watcher.recheck().await? {
                    return Ok(());
                }
                if ear.ping.is_none() {
                    ear.ping();
                }
            }
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The connection that listens.
struct Ear {
    client: Arc<Client>,
    payloads: mpsc::Receiver<Result<String, Cause>>,
    /// The driver of the connection, and pings on their way; they end with the ear.
    tasks: JoinSet<()>,
    at: String,
    timeout: Duration,
    /// What mwid sent to itself and has not heard yet.
    ping: Option<Ping>,
    /// Whether it has ever heard itself.
    heard: bool,
}

struct Ping {
    text: String,
    sent: Instant,
}

impl Ear {
    async fn listen(watcher: &Watcher, server: &config::Server) -> Result<Self, WatchError> {
        let at = watcher.settings.url.to_string();
        let patience = watcher.settings.timeout;
        let late = |_| StoreError::Timeout { at: at.clone(), after: patience };
        let failed = |error: tokio_postgres::Error| {
            let refused = error.as_db_error().is_some();
            let (at, cause) = (at.clone(), Cause::new(error));
            if refused { WatchError::Refused { at, cause } } else { WatchError::Lost { at, cause } }
        };
        let options = Postgres::options(&watcher.settings, server);
        let connecting = timeout(patience, options.connect(NoTls)).await.map_err(late)?;
        let (client, connection) = connecting.map_err(failed)?;
        let (send, payloads) = mpsc::channel(QUEUE);
        let mut tasks = JoinSet::new();
        tasks.spawn(drive(connection, send));
        let ear = Self {
            client: client.into(),
            payloads,
            tasks,
            at: at.clone(),
            timeout: patience,
            ping: None,
            heard: false,
        };
        let listening = ear.client.batch_execute("LISTEN mwid_changes");
        timeout(patience, listening).await.map_err(late)?.map_err(failed)?;
        Ok(ear)
    }

    /// Sends a word to itself: the connection may be cut off without anybody having said so. Does
    /// not wait: the answer may stand behind notifications that are taken meanwhile.
    fn ping(&mut self) {
        let text = format!("{:016x}", random::number());
        let sql = format!("NOTIFY mwid_changes, '{{\"ping\": \"{text}\"}}'");
        self.ping = Some(Ping { text, sent: Instant::now() });
        let client = Arc::clone(&self.client);
        // If it fails, nothing is heard.
        self.tasks.spawn(async move { drop(client.batch_execute(&sql).await) });
    }

    /// Tells of a notification, and of those that wait behind it.
    async fn take(&mut self, watcher: &mut Watcher, first: String) -> Result<(), Stop> {
        let mut accounts = HashSet::new();
        let mut next = Some(Ok(first));
        let mut taken = 0;
        while let Some(payload) = next {
            let payload = payload.map_err(|cause| self.lost(cause))?;
            taken += usize::from(self.hear(watcher, &payload, &mut accounts));
            next = if taken < BATCH { self.payloads.try_recv().ok() } else { None };
        }
        watcher.health().changes(taken);
        if accounts.is_empty() {
            return Ok(());
        }
        watcher.tell(Change::Accounts(accounts.into_iter().collect())).await
    }

    /// Whether it told of a row. Anybody may send anything on the channel.
    fn hear(
        &mut self,
        watcher: &mut Watcher,
        payload: &str,
        accounts: &mut HashSet<Account>,
    ) -> bool {
        let Ok(Payload { presentity, user, domain, ping }) = serde_json::from_str(payload) else {
            watcher.health().rubbish();
            return false;
        };
        if let Some(heard) = ping {
            // Other mwids send theirs on the same channel.
            if let Some(ping) = self.ping.take_if(|ping| ping.text == heard) {
                self.heard = true;
                watcher.works(Way::Listen, None);
                watcher.health().lag(ping.sent.elapsed());
            }
            return false;
        }
        accounts.extend(watcher.accounts(
            presentity.as_deref(),
            user.as_deref(),
            domain.as_deref(),
        ));
        true
    }

    fn lost(&self, cause: Cause) -> WatchError {
        WatchError::Lost { at: self.at.clone(), cause }
    }

    fn silent(&self) -> WatchError {
        if self.heard {
            return self.lost(Cause::new("nothing comes through it any more"));
        }
        WatchError::Silent { at: self.at.clone() }
    }
}

/// Moves the connection on and hands out what it hears.
async fn drive(
    mut connection: Connection<Socket, NoTlsStream>,
    payloads: mpsc::Sender<Result<String, Cause>>,
) {
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        let payload = match message {
            Ok(AsyncMessage::Notification(notification)) => Ok(notification.payload().to_owned()),
            Ok(_) => continue,
            Err(error) => Err(Cause::new(error)),
        };
        let ended = payload.is_err();
        if payloads.send(payload).await.is_err() || ended {
            return;
        }
    }
}
