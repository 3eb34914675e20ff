//! The daemon: one loop that feeds what the world says to the pure parts and does what they ask.
//!
//! Everything that waits (database, name look-ups) runs beside the loop and comes back as
//! [`work::Done`]; nothing in the loop blocks.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use mwid_core::endpoint::{Received, Transmit};
use mwid_core::mailbox::{Account, Mailbox};
use mwid_core::mailboxes::Mailboxes;
use mwid_core::pace::Backoff;
use mwid_core::reconciler::{Reconciler, Settings};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::capture::{Capture, Direction};
use crate::clock::{self, Jump, Jumps};
use crate::cluster::{self, Cluster, Event, JoinError};
use crate::config::{Config, Scope, Way};
use crate::control::{Answer, Request, server};
use crate::delivery::Publishers;
use crate::delivery::sip::{MAX_IN_FLIGHT, SipDelivery};
use crate::dialogs::watch::{Change, Watch, Writer};
use crate::dialogs::{DialogStore, StoreError};
use crate::http_client::ClientError;
use crate::ledger::{Given, Last, Ledger, Memory};
use crate::lock::LockError;
use crate::metrics::Recent;
use crate::random;
use crate::service_manager::ServiceManager;
use crate::source::ami::Ami;
use crate::source::ask::Asker;
use crate::source::externnotify::{Externnotify, Socket};
use crate::source::http::HttpError;
use crate::source::spool::{Past, Spool};
use crate::source::{Call, Observation};
use crate::transport::{BindError, MAX_DATAGRAM, Sent, Transport};
use crate::unix_socket::SocketError;
use crate::webhook::Webhook;

mod agent;
mod asking;
mod clients;
mod counters;
mod debug;
mod health;
mod http;
mod intake;
mod lasts;
mod line;
mod membership;
mod metrics;
mod publications;
mod reports;
mod requests;
mod show;
mod sources;
mod status;
mod watching;
mod ways;
mod work;

use agent::Presence;
pub(crate) use counters::Counters;
use counters::Said;
use debug::Debug;
use http::Doorway;
use intake::Heard;
use line::Lines;
use work::Done;

/// Observations and calls that wait for the loop; their senders wait when it is full.
const QUEUE: usize = 1024;

/// What the watch of the table has seen and the loop has not: pages have up to 500 rows.
const CHANGES: usize = 16;

/// Accounts that are looked up at the same time, many of them together.
const MAX_LOOKUPS: usize = 128;

/// Observations that are taken in before the loop looks at anything else: counting everything must not
/// wait for the phones that are told meanwhile.
const OBSERVATIONS: usize = 64;

/// Datagrams that are taken in before the loop looks at anything else.
const RECEIVE_BATCH: usize = 64;

/// As many may be refused in that time: each costs little more than its reception.
const REFUSED_BATCH: usize = 1024;

/// Answers of the database, and the like, that are taken in at once: while a flood comes, the loop
/// gets round less often.
const DONE_BATCH: usize = 256;

/// Why the daemon does not start. A database or a proxy that is down is no reason.
#[derive(Debug, Error)]
pub enum StartError {
    /// No UDP socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No control or externnotify socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Another mwid has the ledger.
    #[error(transparent)]
    Ledger(#[from] LockError),
    /// No place among several mwid.
    #[error(transparent)]
    Cluster(#[from] JoinError),
    /// An address that cannot be asked by HTTP.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// No random numbers.
    #[error("cannot read /dev/urandom: {0}")]
    Random(io::Error),
    /// A setting of `[database]` that no database can take, or a file that cannot be made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No place to listen for HTTP, or no certificate for it.
    #[error(transparent)]
    Http(#[from] HttpError),
}

/// The running daemon. [`run`](Self::run) is all that there is to do with it.
pub struct Daemon {
    config: Arc<Config>,
    /// Where `reload` reads the configuration again.
    path: PathBuf,
    started: Instant,
    mailboxes: Mailboxes,
    reconciler: Reconciler,
    delivery: SipDelivery,
    transport: Transport,
    /// A datagram that the kernel had no room for.
    unsent: Option<Transmit>,
    store: DialogStore,
    ledger: Ledger,
    /// Mailboxes whose counts a call gave, as the ledger has them.
    given: HashMap<Mailbox, Heard>,
    /// What phones may have shown before a restart: taken when all is known that lights an account.
    past: Vec<Last>,
    lines: Lines,
    work: JoinSet<Done>,
    /// With several mwid on one database.
    cluster: Option<Cluster>,
    events: mpsc::Receiver<Event>,
    /// With `[agent] listen`.
    presence: Option<Presence>,
    /// `None` where no phone is told by NOTIFY: then no database is needed.
    watch: Option<Watch>,
    change: mpsc::Sender<Change>,
    changes: mpsc::Receiver<Change>,
    /// Rows that are being deleted and steps of publications that are taken by `work`: a shutdown
    /// waits for them.
    unfinished: usize,
    asker: Asker,
    publishers: Arc<Publishers>,
    /// With `[webhook] url`.
    webhook: Option<Webhook>,
    spool: Option<Spool>,
    /// `None` only while stopping.
    externnotify: Option<Externnotify>,
    ami: Option<Ami>,
    call: mpsc::Sender<Call>,
    observe: mpsc::Sender<Observation>,
    observations: mpsc::Receiver<Observation>,
    calls: mpsc::Receiver<Call>,
    requests: mpsc::Receiver<Request>,
    waiters: Vec<requests::Waiter>,
    counters: Counters,
    recent: Recent,
    said: Said,
    jumps: Jumps,
    debug: Debug,
    control: server::Server,
    doorway: Doorway,
    manager: ServiceManager,
    /// With `[capture] hep`.
    capture: Option<Capture>,
}

/// Commands, NOTIFYs, Asterisk's calls and HTTP come in here.
type Sockets = (server::Server, Transport, Socket, Doorway);

/// The address of a daemon's loop, for its own process.
pub type Requests = mpsc::Sender<Request>;

impl Daemon {
    /// Opens the sockets and starts the sources, on a tokio runtime. The database is asked later, when it is needed.
    ///
    /// # Errors
    /// [`StartError`] when a socket cannot be had.
    pub fn start(config: Config, path: PathBuf) -> Result<(Self, Requests), StartError> {
        let ((observe, observations), (call, calls)) = (mpsc::channel(QUEUE), mpsc::channel(QUEUE));
        let ((request, requests), (change, changes)) = (mpsc::channel(16), mpsc::channel(CHANGES));
        let (control, transport, externnotify, doorway) = sockets(&config, &request)?;
        let (store, (cluster, events)) = (DialogStore::new(&config.database)?, join(&config)?);
        let delivery = SipDelivery::new(&config, secret_of_branches()?);
        let (asker, publishers) = (Asker::new(&config)?, Arc::new(Publishers::new(&config, None)?));
        let webhook = Webhook::start(&config, random::number())?;
        let presence = Presence::start(&config)?;
        // Last of what may fail: where another mwid has a socket, it has the ledger, and keeps it.
        let (ledger, memory) = Ledger::open(&config.state.path, clock::unix())?;
        let externnotify = Externnotify::start(externnotify, call.clone(), stamps(&memory));
        let given = given(&memory);
        let spool = spool(&config, lasts::expected(&ledger, &given), &observe);
        let complete = spool.is_none() && cluster.is_none();
        let mut daemon = Self {
            started: Instant::now(),
            mailboxes: Mailboxes::new(config.accounts.directory(), complete),
            reconciler: Reconciler::new(settings(&config), random::number()),
            delivery,
            asker,
            publishers,
            webhook,
            lines: Lines::new(connections(&config), config.database.timeout),
            watch: watch(&config, &store, &change),
            presence,
            capture: Capture::start(&config.capture),
            config: Arc::new(config),
            path,
            transport,
            unsent: None,
            change,
            changes,
            store,
            ledger,
            given,
            past: Vec::new(),
            work: JoinSet::new(),
            unfinished: 0,
            cluster,
            events,
            spool,
            externnotify: Some(externnotify),
            ami: None,
            call,
            observe,
            observations,
            calls,
            requests,
            waiters: Vec::new(),
            counters: Counters::default(),
            recent: Recent::new(Instant::now()),
            said: Said::default(),
            jumps: Jumps::new(clock::since_1970(), Instant::now()),
            debug: Debug::default(),
            control,
            doorway,
            manager: ServiceManager::default(),
        };
        daemon.remember(memory);
        daemon.replace_ami(&Arc::clone(&daemon.config));
        Ok((daemon, request))
    }

    /// The address that NOTIFYs are sent from.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.transport.local()
    }

    /// Runs until `stop` is ready, then ends what is in flight, within `[timers] shutdown`.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        tokio::pin!(stop);
        self.manager.ready();
        self.delivery.look_ahead(&self.config, Instant::now(), &self.transport);
        loop {
            self.advance();
            tokio::select! {
                () = &mut stop => break,
                () = self.turn(&mut buffer) => {}
            }
        }
        self.finish(&mut buffer).await;
    }

    /// Waits for one thing to happen, and takes it in.
    async fn turn(&mut self, buffer: &mut [u8]) {
        let timeout = self.timeout();
        let mut observed = Vec::new();
        tokio::select! {
            _ = self.transport.readable(), if self.is_open() => self.receive(buffer),
            _ = self.transport.writable(), if self.unsent.is_some() || !self.is_open() => {}
            Some(done) = self.work.join_next() => self.handle_all_done(done),
            1.. = self.observations.recv_many(&mut observed, OBSERVATIONS) => {
                observed.into_iter().for_each(|observation| self.observe(observation));
            }
            Some(call) = self.calls.recv() => self.call(call),
            Some(event) = self.events.recv() => self.cluster_event(event),
            Some(change) = self.changes.recv() => self.change(change),
            Some(request) = self.requests.recv() => self.request(request),
            Some(ask) = self.doorway.asks.recv() => self.http(ask),
            () = sleep_until(timeout) => self.delivery.handle_timeout(Instant::now()),
        }
    }

    /// Does whatever can be done now.
    fn advance(&mut self) {
        self.lapse();
        self.ask();
        let now = Instant::now();
        self.tick(now);
        self.look_at_clock(now);
        self.attend(now);
        self.reconciler.allow_look_ups(self.lines.finds.room());
        while let Some(action) = self.reconciler.poll_action(now) {
            self.act(action);
        }
        loop {
            while let Some(name) = self.delivery.poll_resolve() {
                self.resolve(name);
            }
            self.transmit();
            if !self.take_report(now) {
                break;
            }
            while let Some(action) = self.reconciler.poll_action(now) {
                self.act(action);
            }
        }
        self.ask_together();
        while let Some(failure) = self.delivery.poll_failure() {
            let waiting = self.reconciler.census().waiting;
            tracing::warn!(waiting, "{failure}; what is to be sent waits or goes to the next one");
        }
        self.answer_waiters(now);
    }

    fn timeout(&self) -> Option<Instant> {
        let waiters = self.waiters.iter().map(|waiter| waiter.deadline).min();
        let reconciler = self.reconciler.poll_timeout(Instant::now());
        let lease = self.cluster.as_ref().and_then(Cluster::lease_end);
        let presence = self.presence.as_ref().and_then(Presence::timeout);
        let alive = self.manager.due();
        let all = [self.delivery.poll_timeout(), reconciler, waiters, lease, presence, alive];
        all.into_iter().flatten().chain([self.jumps.due()]).min()
    }

    /// Subscriptions end by the wall clock: when that is set, others have ended than before, and
    /// some that had are live again.
    fn look_at_clock(&mut self, now: Instant) {
        let Some(jump) = self.jumps.look(clock::since_1970(), now) else { return };
        self.counters.clock_jumps += 1;
        let accounts = self.reconciler.accounts().count();
        tracing::warn!(
            "the system clock was set {jump}; subscriptions end by it, so all {accounts} accounts are looked up again"
        );
        if let Jump::Forwards(pause) = jump {
            // The machine may have slept while the others took over.
            self.lapse_after(pause);
        }
        self.reconciler.look_up_all();
    }

    /// Whether there is room for what follows from another datagram.
    fn is_open(&self) -> bool {
        self.presence.as_ref().is_none_or(Presence::is_open)
    }

    fn transmit(&mut self) {
        if !self.send_replies() {
            return;
        }
        loop {
            let Some(transmit) = self.unsent.take().or_else(|| self.delivery.poll_transmit())
            else {
                return;
            };
            match self.transport.try_send(transmit.to, &transmit.bytes) {
                Sent::Ok => {
                    let Transmit { id, to, copy, ref bytes } = transmit;
                    self.debug.show(to, copy, bytes, "sent to", self.delivery.account_of(id));
                    self.mirror(to, bytes, Direction::Out);
                }
                Sent::Full => {
                    self.unsent = Some(transmit);
                    return;
                }
                Sent::Lost => {}
                Sent::Refused(error) => {
                    self.said.not_sent(transmit.to, &error);
                    self.delivery.handle_not_sent(Instant::now(), &transmit, &error);
                }
                Sent::Unreachable => {
                    self.delivery.handle_unreachable(Instant::now(), transmit.to);
                }
            }
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        let now = Instant::now();
        while let Some(to) = self.transport.try_receive_error() {
            self.delivery.handle_unreachable(now, to);
        }
        let (mut taken, mut refused) = (0, 0);
        while taken < RECEIVE_BATCH && refused < REFUSED_BATCH {
            let Some((length, from)) = self.transport.try_receive(buffer) else { return };
            let datagram = &buffer[..length];
            if !self.admits(now, from, datagram) {
                refused += 1;
                continue;
            }
            taken += 1;
            let debug = &self.debug;
            let show = |of: Option<&Account>| debug.show(from, 1, datagram, "received from", of);
            let received = self.delivery.handle_datagram(now, from, datagram, show);
            if !matches!(received, Received::Garbage(_)) {
                self.mirror(from, datagram, Direction::In);
            }
            match received {
                Received::Garbage(error) => self.said.garbage(from, &error),
                Received::Request(request) => self.take_request(now, from, &request),
                _ => {}
            }
        }
    }

    /// `[capture]`: every message as it goes over the wire.
    fn mirror(&mut self, peer: SocketAddr, bytes: &[u8], direction: Direction) {
        if let Some(capture) = &mut self.capture {
            capture.mirror(&self.transport, peer, bytes, direction);
        }
    }

    /// Stops the sources and waits for the answers that are still to come.
    async fn finish(mut self, buffer: &mut [u8]) {
        self.manager.stopping();
        self.control.feed().close();
        self.close_sources();
        // A SUBSCRIBE that comes now is sent again, to the mwid that is started next.
        self.presence = None;
        self.events.close();
        if let Some(cluster) = &self.cluster {
            // Now: whoever takes the accounts over counts further than what is still in flight.
            cluster.let_go();
        }
        self.doorway.refuse();
        self.requests.close();
        while let Ok(request) = self.requests.try_recv() {
            requests::send(request.reply, Answer::refused("mwid is stopping"));
        }
        let deadline = Instant::now() + self.config.timers.shutdown;
        self.delivery.abandon_waiting();
        self.publishers.close();
        self.drain_reports();
        let in_flight = self.delivery.in_flight();
        if in_flight > 0 {
            tracing::info!(in_flight, "stopping: waiting for the answers that are still to come");
        }
        while (self.delivery.in_flight() > 0 || self.unfinished > 0) && Instant::now() < deadline {
            self.transmit();
            self.manager.alive(Instant::now());
            let until = self.delivery.poll_timeout().map_or(deadline, |at| at.min(deadline));
            tokio::select! {
                _ = self.transport.readable() => self.receive(buffer),
                _ = self.transport.writable(), if self.unsent.is_some() => {}
                // What else was asked for leads to nothing that could still be sent.
                Some(done) = self.work.join_next() => if let Ok(Done::Deleted(..) | Done::Published(..)) = done {
                    self.handle_done(done);
                },
                () = sleep_until(Some(until)) => self.delivery.handle_timeout(Instant::now()),
            }
            self.drain_reports();
        }
        self.delivery.abandon(Instant::now());
        self.drain_reports();
        for waiter in self.waiters.drain(..) {
            waiter.give_up("mwid is stopping");
        }
        if let Some(cluster) = self.cluster.take() {
            cluster.goodbye().await;
        }
        if let Some(webhook) = self.webhook.take() {
            webhook.close(deadline).await;
        }
        self.doorway.close().await;
        self.control.flush().await;
        tracing::info!("stopped");
    }

    /// Takes in what came of one NOTIFY or PUBLISH.
    fn take_report(&mut self, now: Instant) -> bool {
        if let Some(report) = self.delivery.poll_report() {
            self.handle_report(report, now);
        } else if let Some((order, published, elapsed)) = self.delivery.poll_published() {
            self.handle_published(&order, published, elapsed, now);
        } else {
            return false;
        }
        true
    }

    fn drain_reports(&mut self) {
        let now = Instant::now();
        while self.take_report(now) {}
    }
}

/// All that only one mwid can have; first that by which it says who it is.
fn sockets(config: &Config, request: &Requests) -> Result<Sockets, StartError> {
    let control = server::listen(&config.control.socket, request.clone())?;
    let transport = Transport::bind(&config.general)?;
    Ok((control, transport, Socket::bind(&config.control)?, Doorway::open(config)?))
}

/// The counts that calls gave.
fn given(memory: &Memory) -> HashMap<Mailbox, Heard> {
    let heard = |given: &Given| Heard { summary: given.summary, source: Heard::BEFORE };
    memory.mailboxes.iter().map(|given| (given.mailbox.clone(), heard(given))).collect()
}

/// When each of them was given.
fn stamps(memory: &Memory) -> impl Iterator<Item = (Mailbox, u64)> {
    memory.mailboxes.iter().map(|given| (given.mailbox.clone(), given.stamp))
}

fn spool(config: &Config, past: Past, observe: &mpsc::Sender<Observation>) -> Option<Spool> {
    config.spool.enabled.then(|| Spool::start(&config.spool, past, observe.clone()))
}

fn watch(config: &Config, store: &DialogStore, change: &mpsc::Sender<Change>) -> Option<Watch> {
    let needed = config.delivery.uses(Way::Notify);
    let (store, change) = (store.clone(), change.clone());
    needed.then(|| Watch::start(&config.database, store, change, writer(config)))
}

/// Who writes the rows of subscriptions. The agents of several mwid share one table.
fn writer(config: &Config) -> Writer {
    let is_alone = config.agent.listen.is_some() && config.spool.scope == Scope::Single;
    if is_alone { Writer::Agent } else { Writer::Others }
}

/// Joins the others, where there are any; the channel is closed where there are none.
fn join(config: &Config) -> Result<(Option<Cluster>, mpsc::Receiver<Event>), JoinError> {
    match cluster::Settings::of(config) {
        Some(settings) => {
            let (cluster, events) = Cluster::join(settings, random::number())?;
            Ok((Some(cluster), events))
        }
        None => Ok((None, mpsc::channel(1).1)),
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn secret_of_branches() -> Result<u128, StartError> {
    random::secret().map(u128::from_ne_bytes).map_err(StartError::Random)
}

fn settings(config: &Config) -> Settings {
    let timers = &config.timers;
    Settings {
        min_interval: timers.min_interval,
        settle: timers.settle,
        rate: timers.rate,
        backoff: Backoff { min: timers.retry_min, max: timers.retry_max },
        max_lookups: MAX_LOOKUPS,
        max_in_flight: MAX_IN_FLIGHT,
        shared: writer(config) == Writer::Others,
    }
}

/// SQLite has one, and its thread takes in what waits.
fn connections(config: &Config) -> usize {
    usize::try_from(config.database.connections).unwrap_or(1).max(1)
}
