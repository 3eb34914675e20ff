//! mwid's own presence agent in the loop: requests go to the core, what it asks for to the database,
//! its answers to the socket, and the accounts that changed to the reconciler.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mwid_core::agent::{Action, Agent, Algorithm, Begun, Changed, Reply, Secrets, Stored, Ticket};
use mwid_core::dialog::Row;
use mwid_core::mailbox::Account;
use mwid_core::message::Message;
use mwid_core::reconciler::Urgency;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::work::Done;
use super::{Daemon, StartError, places};
use crate::agent::settings;
use crate::agent::users::Users;
use crate::clock::unix;
use crate::config::Config;
use crate::control::Answer;
use crate::dialogs::agent::{Swept, prepare};
use crate::dialogs::{DialogStore, StoreError};
use crate::random;
use crate::transport::Sent;
use crate::webhook::Event;

/// Between two looks for subscriptions whose time is over.
const SWEEP: Duration = Duration::from_secs(1);

/// Subscriptions that are ended at a time, and rows that are deleted.
const BATCH: u32 = 500;

/// After how many sweeps the rows are counted again.
const COUNT_EVERY: u32 = 10;

/// How long a phone waits for counts that are being made just after the start, at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// A daemon's agent.
pub(super) struct Presence {
    agent: Agent,
    users: Arc<Users>,
    algorithms: Vec<Algorithm>,
    /// Questions of the agent to the database at once. Its own, so that no storm of SUBSCRIBEs
    /// keeps the reconciler's waiting.
    places: Arc<Semaphore>,
    /// An answer that the kernel had no room for. While there is one, no request is read.
    unsent: Option<Reply>,
    /// Rows of the table, as far as it is known.
    rows: u64,
    sweeps: u32,
    next_sweep: Instant,
    sweeping: bool,
    drain: Drain,
    /// Accounts whose counts may be known in a moment, the seconds of a new subscription, and until when that is waited for.
    waiting: HashMap<Account, Option<u32>>,
    patient_until: Option<Instant>,
}

/// Whether phones shall subscribe elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drain {
    No,
    /// So many were ended so far.
    UnderWay(usize),
    Done(usize),
}

/// Something that was waited for beside the loop.
pub(super) enum OfAgent {
    User(Ticket, Result<Option<Secrets>, StoreError>),
    Stored(Ticket, Result<Stored, StoreError>),
    Swept(Result<Sweep, StoreError>),
}

/// What a sweep brought.
pub(super) struct Sweep {
    swept: Swept,
    drained: Option<Swept>,
    rows: Option<u64>,
}

impl Presence {
    /// The agent of this configuration, if it has one.
    pub(super) fn start(config: &Config) -> Result<Option<Self>, StartError> {
        if config.agent.listen.is_none() {
            return Ok(None);
        }
        prepare(&config.database)?;
        let users = Arc::new(Users::new(config)?);
        let algorithms = users.algorithms();
        let Some(settings) = settings(config, algorithms.clone()) else { return Ok(None) };
        let now = Instant::now();
        Ok(Some(Self {
            agent: Agent::new(settings, random::secret().map_err(StartError::Random)?),
            users,
            algorithms,
            places: Arc::new(Semaphore::new(places(config))),
            unsent: None,
            rows: 0,
            sweeps: 0,
            next_sweep: now,
            sweeping: false,
            drain: Drain::No,
            waiting: HashMap::new(),
            patient_until: config.spool.enabled.then(|| now + PATIENCE),
        }))
    }

    /// Another configuration.
    pub(super) fn configure(&mut self, config: &Config) -> Result<(), StoreError> {
        self.users = Arc::new(Users::new(config)?);
        self.algorithms = self.users.algorithms();
        if let Some(settings) = settings(config, self.algorithms.clone()) {
            self.agent.configure(settings);
        }
        Ok(())
    }

    pub(super) fn timeout(&self) -> Option<Instant> {
        let sweep = (!self.sweeping).then_some(self.next_sweep);
        let patience = self.patient_until.filter(|_| !self.waiting.is_empty());
        [sweep, patience].into_iter().flatten().min()
    }

    /// Whether more requests may be read.
    pub(super) fn is_open(&self) -> bool {
        self.unsent.is_none()
    }

    /// For `mwid status`: in words, and as data.
    pub(super) fn line(&self, config: &Config) -> (&'static str, String, Value) {
        let stats = self.agent.stats();
        let listen = config.agent.listen.as_ref().map(ToString::to_string).unwrap_or_default();
        let drain = match self.drain {
            Drain::No => String::new(),
            Drain::UnderWay(ended) => format!(", draining: {ended} ended so far"),
            Drain::Done(ended) => format!(", drained: {ended} were ended, new ones are refused"),
        };
        let text = format!(
            "udp:{listen}, {} subscriptions, {} requests, {} refused, {} dropped{drain}",
            self.rows,
            stats.requests,
            stats.refused,
            stats.flooded + stats.dropped
        );
        let data = json!({
            "listen": format!("udp:{listen}"),
            "subscriptions": self.rows,
            "draining": self.drain != Drain::No,
            "requests": stats.requests, "copies": stats.copies, "flooded": stats.flooded,
            "dropped": stats.dropped, "begun": stats.begun, "refreshed": stats.refreshed,
            "ended": stats.ended, "refused": stats.refused,
            "wrong_credentials": stats.wrong_credentials,
        });
        ("agent", text, data)
    }
}

impl Daemon {
    /// A request came. Without an agent it is nobody's.
    pub(super) fn take_request(&mut self, now: Instant, from: SocketAddr, request: &Message) {
        let Some(presence) = &mut self.presence else { return };
        let before = presence.agent.stats().flooded;
        presence.agent.handle_request(now, unix(), from, request);
        if presence.agent.stats().flooded > before {
            self.said.flood(from, now, self.config.agent.rate);
        }
    }

    /// Does what the agent asks for: its answers go out before the NOTIFYs that follow from them
    /// (RFC 6665 §4.2.1.2).
    pub(super) fn attend(&mut self, now: Instant) {
        while let Some(action) = self.presence.as_mut().and_then(|it| it.agent.poll_action()) {
            self.act_for_agent(action);
        }
        self.send_replies();
        while let Some(changed) = self.presence.as_mut().and_then(|it| it.agent.poll_changed()) {
            let Changed { account, begun } = changed;
            if let (Some(webhook), Some(Begun { call_id, expires })) = (&self.webhook, &begun) {
                let (account, expires) = (&account, *expires);
                webhook.tell(account, &Event::SubscribeIn { account, call_id, expires });
            }
            self.tell_of(account, begun.map(|begun| begun.expires), now);
        }
        let Some(presence) = &mut self.presence else { return };
        if presence.patient_until.is_some_and(|until| until <= now) {
            self.counts_are_known(now);
        }
        self.sweep(now);
    }

    /// Sends the agent's answers; `false` while the socket takes no more.
    pub(super) fn send_replies(&mut self) -> bool {
        loop {
            let Some(presence) = &mut self.presence else { return true };
            let reply = presence.unsent.take().or_else(|| presence.agent.poll_reply());
            let Some(reply) = reply else { return true };
            match self.transport.try_send(reply.to, &reply.bytes) {
                Sent::Full => {
                    presence.unsent = Some(reply);
                    return false;
                }
                Sent::Ok => self.show(reply.to, 1, &reply.bytes, "sent to"),
                // Whoever asked asks again.
                Sent::Lost | Sent::Refused(_) | Sent::Unreachable => {}
            }
        }
    }

    fn act_for_agent(&mut self, action: Action) {
        let Some(presence) = &mut self.presence else { return };
        let (store, places) = (self.store.clone(), presence.places.clone());
        match action {
            Action::User { ticket, user, domain } => {
                let users = presence.users.clone();
                self.work.spawn(async move {
                    let _place = places.acquire().await;
                    Done::OfAgent(OfAgent::User(ticket, users.find(&user, &domain).await))
                });
            }
            Action::Insert { ticket, row, status } => {
                let bound = self.config.agent.max_per_account;
                if let Some(refused) = presence.refuses(&self.config) {
                    return presence.agent.handle_stored(ticket, refused);
                }
                self.work.spawn(async move {
                    let _place = places.acquire().await;
                    let stored = store.insert(&row, status, unix(), bound).await;
                    Done::OfAgent(OfAgent::Stored(ticket, stored))
                });
            }
            Action::Update { ticket, dialog, expires, status } => {
                self.work.spawn(async move {
                    let _place = places.acquire().await;
                    let stored = store.update(&dialog, expires, status, unix()).await;
                    Done::OfAgent(OfAgent::Stored(ticket, stored))
                });
            }
        }
    }

    pub(super) fn handle_of_agent(&mut self, done: OfAgent, now: Instant) {
        match done {
            OfAgent::User(ticket, found) => self.handle_user(ticket, found),
            OfAgent::Stored(ticket, stored) => self.handle_stored(ticket, stored),
            OfAgent::Swept(swept) => self.handle_swept(swept, now),
        }
    }

    fn handle_user(&mut self, ticket: Ticket, found: Result<Option<Secrets>, StoreError>) {
        let found = found.map_err(|error| self.database_failed(&error));
        let Some(presence) = &mut self.presence else { return };
        presence.agent.handle_user(ticket, found, unix());
        presence.learn(&self.config);
    }

    fn handle_stored(&mut self, ticket: Ticket, stored: Result<Stored, StoreError>) {
        let stored = stored.unwrap_or_else(|error| {
            self.database_failed(&error);
            Stored::Failed
        });
        let Some(presence) = &mut self.presence else { return };
        let before = presence.agent.stats().begun;
        presence.agent.handle_stored(ticket, stored);
        presence.rows += presence.agent.stats().begun - before;
    }

    /// A row was deleted whose phone knows that it has ended.
    pub(super) fn count_deleted(&mut self, was_there: bool) {
        if let Some(presence) = &mut self.presence {
            presence.rows = presence.rows.saturating_sub(u64::from(was_there));
        }
    }

    /// A row of an account was made or changed: its phones are told what is true. `expires` are the
    /// seconds of a new subscription.
    fn tell_of(&mut self, account: Account, expires: Option<u32>, now: Instant) {
        // With several mwid its owner sees the row, too.
        if !self.owns(&account) {
            return;
        }
        if self.reconciler.desired(&account).is_none()
            && let Some(presence) = &mut self.presence
            && presence.patient_until.is_some_and(|until| until > now)
        {
            presence.waiting.insert(account, expires);
            return;
        }
        self.want_counts_of(&account, expires);
        self.reconciler.introduce(&account);
        self.reconciler.look_up(&account, Urgency::Fresh);
    }

    /// All is counted, or nobody waits for that any longer.
    pub(super) fn counts_are_known(&mut self, now: Instant) {
        let Some(presence) = &mut self.presence else { return };
        presence.patient_until = None;
        for (account, expires) in std::mem::take(&mut presence.waiting) {
            self.tell_of(account, expires, now);
        }
    }

    /// The watch of the table has seen this row of an account that nobody counts.
    pub(super) fn is_new_to_agent(&self, row: &Row, accounts: &[Account]) -> bool {
        let Some(presence) = &self.presence else { return false };
        let is_ours = row.status == Some(mwid_core::dialog::ACTIVE);
        is_ours
            && presence.patient_until.is_none()
            && accounts.iter().any(|account| self.owns(account))
    }

    fn sweep(&mut self, now: Instant) {
        let Some(presence) = &mut self.presence else { return };
        if presence.sweeping || presence.next_sweep > now {
            return;
        }
        presence.sweeping = true;
        let (store, places) = (self.store.clone(), presence.places.clone());
        let first = presence.sweeps == 0;
        let counts = presence.sweeps.is_multiple_of(COUNT_EVERY);
        presence.sweeps = presence.sweeps.wrapping_add(1).max(1);
        let drain = matches!(presence.drain, Drain::UnderWay(_));
        let contact = drain.then(|| contact(&self.config)).flatten();
        let rate = self.config.timers.rate;
        let users = first.then(|| presence.users.clone());
        self.work.spawn(async move {
            let _place = places.acquire().await;
            if let Some(users) = users
                && let Err(error) = users.look().await
            {
                tracing::error!("[agent] subscribers: {error}");
            }
            let swept = look_after(&store, first, counts, contact, rate).await;
            Done::OfAgent(OfAgent::Swept(swept))
        });
    }

    fn handle_swept(&mut self, swept: Result<Sweep, StoreError>, now: Instant) {
        let Some(presence) = &mut self.presence else { return };
        presence.sweeping = false;
        presence.learn(&self.config);
        presence.next_sweep = now + SWEEP;
        let Sweep { swept, drained, rows } = match swept {
            Ok(sweep) => sweep,
            Err(error) => return self.database_failed(&error),
        };
        if swept.ended >= BATCH as usize || swept.deleted >= BATCH.into() {
            presence.next_sweep = now;
        }
        presence.rows = rows.unwrap_or(presence.rows.saturating_sub(swept.deleted));
        if let (Drain::UnderWay(before), Some(drained)) = (presence.drain, &drained) {
            presence.drain = match drained.ended {
                0 => Drain::Done(before),
                ended => Drain::UnderWay(before + ended),
            };
            if drained.ended == 0 {
                tracing::info!(ended = before, "drained: every subscription was ended");
            }
        }
        self.said.database_works();
        for account in
            swept.accounts.into_iter().chain(drained.into_iter().flat_map(|it| it.accounts))
        {
            self.tell_of(account, None, now);
        }
    }

    /// Another configuration of the agent.
    pub(super) fn replace_agent(
        &mut self,
        new: &Config,
        changed: &mut Vec<&'static str>,
    ) -> Result<(), String> {
        if let Some(presence) = &mut self.presence {
            if new.database != self.config.database {
                prepare(&new.database).map_err(|error| error.to_string())?;
            }
            presence.configure(new).map_err(|error| error.to_string())?;
        }
        if new.agent != self.config.agent || new.watchers != self.config.watchers {
            changed.push("[agent], [users] and [watch]");
        }
        Ok(())
    }

    /// The agent as a line of `mwid status`.
    pub(super) fn agent_line(&self) -> Option<(&'static str, String, Value)> {
        self.presence.as_ref().map(|presence| presence.line(&self.config))
    }

    /// `mwid drain`
    pub(super) fn drain(&mut self, on: bool) -> Answer {
        let Some(presence) = &mut self.presence else {
            return Answer::refused("there is nothing to drain: [agent] listen is not set");
        };
        let text = if on {
            if presence.drain == Drain::No {
                presence.drain = Drain::UnderWay(0);
                presence.next_sweep = Instant::now();
            }
            format!(
                "Draining: {} subscriptions are ended, so that their phones subscribe elsewhere; new \
                 ones are refused until mwid drain --off or a restart",
                presence.rows
            )
        } else {
            presence.drain = Drain::No;
            "Subscriptions are taken".to_owned()
        };
        tracing::info!("{text}");
        Answer { text, data: json!({ "draining": on, "subscriptions": presence.rows }), code: 0 }
    }
}

impl Presence {
    /// Asks by the hashes that users have, once the columns of their table are known.
    fn learn(&mut self, config: &Config) {
        let algorithms = self.users.algorithms();
        if algorithms != self.algorithms
            && let Some(settings) = settings(config, algorithms.clone())
        {
            self.agent.configure(settings);
            self.algorithms = algorithms;
        }
    }

    /// Why no new subscription is taken now, if so.
    fn refuses(&self, config: &Config) -> Option<Stored> {
        if self.drain != Drain::No {
            Some(Stored::Drained)
        } else if self.rows >= config.agent.max_subscriptions.into() {
            Some(Stored::Full)
        } else {
            None
        }
    }
}

/// Our Contact in the dialogs, as the agent wrote it into their rows.
fn contact(config: &Config) -> Option<String> {
    settings(config, Vec::new()).map(|settings| format!("sip:{}", settings.authority))
}

async fn look_after(
    store: &DialogStore,
    first: bool,
    counts: bool,
    contact: Option<String>,
    rate: u32,
) -> Result<Sweep, StoreError> {
    let now = unix();
    let mut swept = store.sweep(now, BATCH).await?;
    if first {
        // Those of before the start may not have been told.
        swept.accounts.extend(store.ended(now).await?);
    }
    let drained = match contact {
        // As many as can be told before their rows are deleted.
        Some(contact) => Some(store.drain(&contact, now, rate.min(BATCH)).await?),
        None => None,
    };
    let rows = if counts { Some(store.count().await?) } else { None };
    Ok(Sweep { swept, drained, rows })
}
