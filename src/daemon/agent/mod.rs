//! mwid's own presence agent in the loop: requests go to the core, what it asks for to the database,
//! its answers to the socket, and the accounts that changed to the reconciler.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mwid_core::agent::{Agent, Algorithm, Begun, Changed, Reply, Secrets, Stored, Ticket};
use mwid_core::mailbox::Account;
use mwid_core::message::Message;
use tokio::sync::Semaphore;

use super::{Daemon, StartError, connections};
use crate::agent::settings;
use crate::agent::users::Users;
use crate::capture::Direction;
use crate::clock::unix;
use crate::config::{Config, DatabaseUrl};
use crate::dialogs::StoreError;
use crate::dialogs::agent::prepare;
use crate::random;
use crate::transport::Sent;
use crate::webhook::Event;

mod errands;
mod status;
mod sweep;
mod tell;

use sweep::{Drain, Sweep};

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
    /// Whether the columns of users were looked at, or are.
    looked: bool,
    /// With several mwid: the rows that had ended at the last sweep.
    ended: HashSet<i64>,
    next_sweep: Instant,
    sweeping: bool,
    drain: Drain,
    /// Accounts whose counts may be known in a moment, the seconds of a new subscription, and until
    /// when that is waited for.
    waiting: HashMap<Account, Option<u32>>,
    patient_until: Option<Instant>,
}

/// Something that was waited for beside the loop.
pub(super) enum OfAgent {
    User(Ticket, Result<Option<Secrets>, StoreError>),
    Stored(Ticket, Result<Stored, StoreError>),
    /// Whether the columns of users could be looked at, at the first sweep; and the sweep.
    Swept(Result<(), StoreError>, Result<Sweep, StoreError>),
}

/// SQLite has one connection, whose thread commits whatever waits as one: the more, the fewer syncs.
const SQLITE_PLACES: usize = 128;

/// As many questions at once; each connection of a server has some waiting behind it.
fn places(config: &Config) -> usize {
    match config.database.url {
        DatabaseUrl::Sqlite(_) => SQLITE_PLACES,
        _ => connections(config).saturating_mul(4),
    }
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
            looked: false,
            ended: HashSet::new(),
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
        self.looked = false;
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
}

impl Daemon {
    /// Whether a datagram may be looked at. Without an agent only answers are expected, and everything
    /// may. What a request of ours waits for is never a flood, however many phones answer at once.
    pub(super) fn admits(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> bool {
        let Some(presence) = &mut self.presence else { return true };
        let admitted = self.delivery.awaits(datagram) || presence.agent.admits(now, from);
        if !admitted {
            self.said.flood(from, now, self.config.agent.rate);
        }
        admitted
    }

    /// A request came. Without an agent it is nobody's.
    pub(super) fn take_request(&mut self, now: Instant, from: SocketAddr, request: &Message) {
        let Some(presence) = &mut self.presence else { return };
        let before = presence.agent.stats().hasty;
        presence.agent.handle_request(now, unix(), from, request);
        if presence.agent.stats().hasty > before {
            let watcher = request.header("From").unwrap_or_default();
            self.said.hasty(watcher, self.config.agent.rate);
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
                Sent::Ok => {
                    self.debug.show(reply.to, 1, &reply.bytes, "sent to", None);
                    self.mirror(reply.to, &reply.bytes, Direction::Out);
                }
                // Whoever asked asks again.
                Sent::Lost | Sent::Refused(_) | Sent::Unreachable => {}
            }
        }
    }

    pub(super) fn handle_of_agent(&mut self, done: OfAgent, now: Instant) {
        match done {
            OfAgent::User(ticket, found) => self.handle_user(ticket, found),
            OfAgent::Stored(ticket, stored) => self.handle_stored(ticket, stored),
            OfAgent::Swept(looked, swept) => {
                if let Err(error) = looked {
                    self.users_failed(&error);
                    self.presence.iter_mut().for_each(|presence| presence.looked = false);
                }
                self.handle_swept(swept, now);
            }
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
