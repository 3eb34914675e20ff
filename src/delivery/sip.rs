//! What mwid itself says in SIP: in-dialog NOTIFYs through the proxy, and PUBLISHs to the presence
//! server. Both go through one endpoint and one socket.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::mem::{Discriminant, discriminant};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mwid_core::endpoint::{
    Branch, Completed, Ending, Endpoint, Received, Stats, TransactionId, TransactionMap, Transmit,
};
use mwid_core::mailbox::Account;
use mwid_core::message::Method;
use mwid_core::notify::{Hop, Notifier, Notify, Route};
use mwid_core::outcome::{Outcome, outcome};
use mwid_core::publication::{self, Way};
use mwid_core::publish::Publish;
use mwid_core::reconciler::Verdict;
use mwid_core::timers::Timers;

use super::credentials::{Answerable, Authenticator};
use super::hops::{Hops, Lookup, Resolved};
use super::prompt::Asker;
use super::publish::Publisher;
use super::{Ended, Order, Published, Report};
use crate::config::{Config, General, HostPort, NextHop};
use crate::transport::Transport;

#[cfg(test)]
mod tests;

/// NOTIFYs and PUBLISHs in flight at once: each keeps its bytes for up to 64·T1.
pub const MAX_IN_FLIGHT: usize = 16_384;

/// Room for this many is kept when none is in flight.
const ROOM: usize = 1024;

/// Builds requests, follows their transactions and says what the answers mean.
///
/// Calling contract, as the endpoint's: after each [`send`](Self::send), [`publish`](Self::publish) or `handle_*`
/// call, drain [`poll_resolve`](Self::poll_resolve), [`poll_transmit`](Self::poll_transmit),
/// [`poll_report`](Self::poll_report) and [`poll_published`](Self::poll_published); call [`handle_timeout`](Self::handle_timeout) at
/// [`poll_timeout`](Self::poll_timeout). Every order is reported exactly once.
#[derive(Debug)]
pub struct SipDelivery {
    endpoint: Endpoint,
    notifier: Notifier,
    /// The same without any Route.
    direct: Notifier,
    hops: Hops,
    authenticator: Authenticator,
    flights: TransactionMap<Flight>,
    /// A request is written here first: a copy of its own is no larger than it is.
    draft: Vec<u8>,
    publisher: Publisher,
    /// CSeqs of PUBLISHs, each a call of its own.
    cseq: u32,
    /// Jobs that wait for the address of their proxy.
    waiting: HashMap<Arc<HostPort>, Vec<Job>>,
    to_resolve: Vec<Arc<HostPort>>,
    reports: VecDeque<Report>,
    published: VecDeque<Step>,
    /// Why challenges cannot be answered: each said once.
    complained: HashSet<Discriminant<Answerable>>,
}

/// What became of a step of a publication, and how long it took.
pub type Step = (publication::Order, Published, Duration);

#[derive(Debug)]
enum Job {
    Notify(Order),
    Publish(publication::Order),
}

impl Job {
    fn method(&self) -> &'static str {
        match self {
            Self::Notify(_) => "NOTIFY",
            Self::Publish(_) => "PUBLISH",
        }
    }

    fn account(&self) -> &Account {
        match self {
            Self::Notify(order) => &order.account,
            Self::Publish(order) => &order.account,
        }
    }
}

#[derive(Debug)]
struct Flight {
    job: Job,
    /// How long the server of a PUBLISH was asked to keep it.
    asked: Duration,
    name: Arc<HostPort>,
    to: SocketAddr,
    started: Instant,
    /// The challenges that it carries an answer to.
    answered: Vec<Arc<Asker>>,
}

impl SipDelivery {
    /// Nothing in flight. `seed` makes the branches: random, secret, another in each process.
    #[must_use]
    pub fn new(config: &Config, seed: u128) -> Self {
        Self {
            endpoint: Endpoint::new(timers(config), seed, MAX_IN_FLIGHT),
            notifier: notifier(&config.general),
            direct: direct(&config.general),
            hops: hops(config),
            authenticator: Authenticator::new(config),
            flights: TransactionMap::default(),
            draft: Vec::new(),
            publisher: Publisher::new(config),
            cseq: 0,
            waiting: HashMap::new(),
            to_resolve: Vec::new(),
            reports: VecDeque::new(),
            published: VecDeque::new(),
            complained: HashSet::new(),
        }
    }

    /// Another configuration, for the requests that start from now on.
    pub fn configure(&mut self, config: &Config, now: Instant, transport: &Transport) {
        self.endpoint.set_timers(timers(config));
        self.notifier = notifier(&config.general);
        self.direct = direct(&config.general);
        self.hops = hops(config);
        self.publisher = Publisher::new(config);
        self.authenticator = Authenticator::new(config);
        self.complained.clear();
        // Whoever waited for an address under the old configuration is tried again under the new.
        for job in std::mem::take(&mut self.waiting).into_values().flatten() {
            self.report(job, Verdict::Again, "the configuration changed".to_owned());
        }
        self.look_ahead(config, now, transport);
    }

    /// Has the names of all proxies and servers that are used looked up, before anything goes there: one
    /// that has no address is said at once, and DNS may come later than mwid.
    pub fn look_ahead(&mut self, config: &Config, now: Instant, transport: &Transport) {
        let uses = |way| config.delivery.uses(way);
        let proxies = config.general.proxy.iter().filter(|_| uses(Way::Notify));
        let servers = config.publish_servers().iter().filter(|_| uses(Way::Publish));
        for name in proxies.chain(servers) {
            let name = Arc::new(name.clone());
            if let Lookup::Start = self.hops.look_up(&name, now, transport) {
                self.to_resolve.push(name);
            }
        }
    }

    /// Transactions that still wait for their final answer, and orders that wait for an address.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.endpoint.in_flight() + self.waiting.values().map(Vec::len).sum::<usize>()
    }

    /// Counters of the SIP side.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        self.endpoint.stats()
    }

    /// The proxies that are suspended now.
    #[must_use]
    pub fn suspended(&self, now: Instant) -> Vec<String> {
        self.hops.suspended(now)
    }

    /// Sends a NOTIFY, as soon as the address of its proxy is known. `unix` is now in Unix
    /// seconds.
    pub fn send(&mut self, order: Order, now: Instant, unix: u64, transport: &Transport) {
        let name = self.hops.choose(&order.dialog, now);
        self.submit(Job::Notify(order), name, now, unix, transport);
    }

    /// Takes a publication one step on, as soon as the address of its server is known.
    pub fn publish(
        &mut self,
        order: publication::Order,
        now: Instant,
        unix: u64,
        transport: &Transport,
    ) {
        let name = self.hops.choose_server(now);
        self.submit(Job::Publish(order), name, now, unix, transport);
    }

    fn submit(
        &mut self,
        job: Job,
        name: Option<Arc<HostPort>>,
        now: Instant,
        unix: u64,
        transport: &Transport,
    ) {
        let Some(name) = name else {
            let why = "there is no proxy, and no address in its dialog that UDP reaches";
            return self.report(job, Verdict::Later(None), why.to_owned());
        };
        match self.hops.look_up(&name, now, transport) {
            Lookup::Ready(resolved) => self.start(job, name, resolved, now, unix),
            Lookup::Start => {
                self.to_resolve.push(name.clone());
                self.waiting.entry(name).or_default().push(job);
            }
            Lookup::Wait => self.waiting.entry(name).or_default().push(job),
        }
    }

    fn start(
        &mut self,
        job: Job,
        name: Arc<HostPort>,
        resolved: Resolved,
        now: Instant,
        unix: u64,
    ) {
        if let Job::Notify(order) = &job
            && order.dialog.remaining(unix) == 0
        {
            // It waited too long for its turn. Whether the phone has refreshed it, its row says.
            let why = "the subscription ended while its NOTIFY waited";
            return self.report(job, Verdict::Again, why.to_owned());
        }
        let (to, hop) = resolved;
        let branch = self.endpoint.branch();
        let request = match &job {
            Job::Notify(order) => self.write_notify(order, &name, &hop, &branch, unix),
            Job::Publish(order) => self.write_publish(order, &name, &hop, &branch, unix),
        };
        let Written { method, cseq, answered, asked } = request;
        match self.endpoint.start(now, branch, cseq, method, to, self.draft.as_slice().into()) {
            Ok(id) => {
                let flight = Flight { job, asked, name, to, started: now, answered };
                self.flights.insert(id, flight);
            }
            Err(full) => self.report(job, Verdict::Later(None), full.to_string()),
        }
    }

    fn write_notify(
        &mut self,
        order: &Order,
        name: &HostPort,
        hop: &Hop,
        branch: &Branch,
        unix: u64,
    ) -> Written {
        let notify = Notify {
            dialog: &order.dialog,
            account: &order.account,
            summary: order.summary,
            cseq: order.cseq,
            branch: branch.as_str(),
            hop,
            unix,
            authorization: &[],
        };
        // A dialog without a route set leads straight to the phone: there is no proxy to name.
        let is_direct = order.dialog.route_set.is_empty() && !self.hops.is_proxy(name);
        let notifier = if is_direct { &self.direct } else { &self.notifier };
        let request_uri = notify.request_uri(notifier);
        let (authorization, answered) = self.authenticator.lines(name, "NOTIFY", request_uri);
        self.draft.clear();
        Notify { authorization: &authorization, ..notify }.write(notifier, &mut self.draft);
        let (method, asked) = (Method::Notify, Duration::ZERO);
        Written { method, cseq: order.cseq, answered, asked }
    }

    fn write_publish(
        &mut self,
        order: &publication::Order,
        name: &HostPort,
        hop: &Hop,
        branch: &Branch,
        unix: u64,
    ) -> Written {
        let asked = self.publisher.expires(order, name);
        // Below 2³¹ (RFC 3261 §8.1.1.5).
        self.cseq = self.cseq % 0x7fff_fffe + 1;
        let request_uri = order.account.as_str();
        let (authorization, answered) = self.authenticator.lines(name, "PUBLISH", request_uri);
        let publish = Publish {
            account: &order.account,
            wish: order.wish,
            etag: order.etag.as_ref(),
            expires: u32::try_from(asked.as_secs()).unwrap_or(u32::MAX),
            cseq: self.cseq,
            branch: branch.as_str(),
            hop,
            unix,
            authorization: &authorization,
        };
        self.draft.clear();
        publish.write(&self.notifier, &mut self.draft);
        Written { method: Method::Publish, cseq: self.cseq, answered, asked }
    }

    /// A name that [`poll_resolve`](Self::poll_resolve) gave was looked up.
    pub fn handle_resolved(
        &mut self,
        name: &HostPort,
        found: std::io::Result<Vec<SocketAddr>>,
        now: Instant,
        unix: u64,
        transport: &Transport,
    ) {
        let waiting = self.waiting.remove_entry(name);
        let (name, jobs) = waiting.unwrap_or_else(|| (Arc::new(name.clone()), Vec::new()));
        let resolved = self.hops.handle_resolved(&name, found, now, transport);
        for job in jobs {
            match &resolved {
                Some(resolved) => self.start(job, name.clone(), resolved.clone(), now, unix),
                None => {
                    let verdict = self.elsewhere_or_later(&job, &name, now);
                    self.report(job, verdict, format!("{name} has no address"));
                }
            }
        }
    }

    /// Whether a datagram has the branch of a request of ours in it: see [`Endpoint::awaits`].
    #[must_use]
    pub fn awaits(&self, datagram: &[u8]) -> bool {
        self.endpoint.awaits(datagram)
    }

    /// Whose NOTIFY or PUBLISH this is, while it is under way.
    #[must_use]
    pub fn account_of(&self, id: TransactionId) -> Option<&Account> {
        self.flights.get(&id).map(|flight| flight.job.account())
    }

    /// Takes what the socket received and says what it was; `heard` is told first whose NOTIFY or
    /// PUBLISH it answers.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        heard: impl FnOnce(Option<&Account>),
    ) -> Received {
        let received = self.endpoint.handle_datagram(now, from, datagram);
        heard(match &received {
            Received::Answer { id, .. } | Received::Provisional { id, .. } => self.account_of(*id),
            _ => None,
        });
        // One that says 503 is there and of no use.
        if let Received::Answer { id, code, .. } | Received::Provisional { id, code } = &received
            && *code != 503
            && let Some(flight) = self.flights.get(id)
        {
            self.hops.heard(&flight.name, now);
        }
        self.finish(now);
        received
    }

    /// ICMP said that nothing listens at `to`.
    pub fn handle_unreachable(&mut self, now: Instant, to: SocketAddr) {
        self.endpoint.handle_unreachable(now, to);
        self.finish(now);
    }

    /// The socket does not take this datagram; it may take others. Its order alone has failed.
    pub fn handle_not_sent(&mut self, now: Instant, transmit: &Transmit, error: &io::Error) {
        self.endpoint.handle_not_sent(now, transmit.id, &error.to_string());
        self.finish(now);
    }

    /// Lets every timer fire that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.endpoint.handle_timeout(now);
        self.finish(now);
    }

    /// Ends the orders that wait for an address: nothing of them has been sent, so a shutdown
    /// need not wait for them.
    pub fn abandon_waiting(&mut self) {
        for job in std::mem::take(&mut self.waiting).into_values().flatten() {
            self.report(job, Verdict::Later(None), "given up: mwid stops".to_owned());
        }
    }

    /// Ends everything that is in flight: a shutdown cannot wait any longer.
    pub fn abandon(&mut self, now: Instant) {
        self.abandon_waiting();
        self.endpoint.abandon(now);
        self.finish(now);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout()
    }

    /// The next name to look up.
    pub fn poll_resolve(&mut self) -> Option<HostPort> {
        self.to_resolve.pop().map(Arc::unwrap_or_clone)
    }

    /// What is wrong with a proxy or server, in words, once until it works again.
    pub fn poll_failure(&mut self) -> Option<String> {
        self.hops.poll_failure()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.endpoint.poll_transmit()
    }

    /// The next order that came to its end.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// The next step of a publication that came to its end.
    pub fn poll_published(&mut self) -> Option<Step> {
        self.published.pop_front()
    }

    fn finish(&mut self, now: Instant) {
        while let Some(completed) = self.endpoint.poll_event() {
            let Some(flight) = self.flights.remove(&completed.id) else { continue };
            let answer = words(&completed.ending, &flight.name);
            let verdict = self.verdict(&flight, &completed, now);
            let (copies, elapsed) = (completed.copies, completed.elapsed);
            match flight.job {
                Job::Notify(order) => {
                    let ended = Ended::from(&completed.ending);
                    self.reports.push_back(Report {
                        order,
                        verdict,
                        answer,
                        ended,
                        copies,
                        elapsed,
                    });
                }
                Job::Publish(order) => {
                    let (name, asked) = (&flight.name, flight.asked);
                    let outcome = match &completed.ending {
                        Ending::Final(it) => self.publisher.outcome(&order, name, asked, it),
                        _ => None,
                    };
                    if let (None, Verdict::Gone, Ending::Final(it)) =
                        (&outcome, verdict, &completed.ending)
                    {
                        self.publisher.refused(&order, name, it.code, &it.reason);
                    }
                    let outcome = outcome.unwrap_or_else(|| otherwise(verdict));
                    self.published.push_back((
                        order,
                        Published { outcome, answer, is_silent: false },
                        elapsed,
                    ));
                }
            }
        }
        if self.flights.is_empty() && self.flights.capacity() > ROOM {
            self.flights = TransactionMap::default();
        }
    }

    fn verdict(&mut self, flight: &Flight, completed: &Completed, now: Instant) -> Verdict {
        match outcome(&completed.ending) {
            Outcome::Delivered => {
                self.authenticator.accepted(&flight.name, &flight.answered);
                if !flight.answered.is_empty() {
                    self.complained.remove(&discriminant(&Answerable::Refused));
                }
                Verdict::Delivered
            }
            Outcome::Gone { .. } => Verdict::Gone,
            Outcome::CSeqTooLow => Verdict::TooLow,
            Outcome::RetryAfter { after, .. } => Verdict::Later(Some(after)),
            Outcome::Refused { .. } | Outcome::NotSent | Outcome::Abandoned => Verdict::Later(None),
            Outcome::Challenged { challenges, .. } => {
                let answerable = self.authenticator.take(
                    &flight.name,
                    flight.job.method(),
                    &challenges,
                    &flight.answered,
                );
                self.challenged(flight, &answerable)
            }
            Outcome::NextProxy { retry_after } => {
                self.hops.suspend(&flight.name, retry_after, now, "answers 503");
                match self.elsewhere_or_later(&flight.job, &flight.name, now) {
                    Verdict::Later(None) => Verdict::Later(retry_after),
                    elsewhere => elsewhere,
                }
            }
            Outcome::Unreachable => {
                let why = format!("does not listen at {}", flight.to);
                self.hops.suspend(&flight.name, None, now, &why);
                self.elsewhere_or_later(&flight.job, &flight.name, now)
            }
            Outcome::Unanswered if matches!(completed.ending, Ending::TimedOut) => {
                if self.hops.heard_since(&flight.name, flight.started) {
                    return Verdict::Later(None);
                }
                let why = format!("does not answer at {}", flight.to);
                self.hops.suspend(&flight.name, None, now, &why);
                self.elsewhere_or_later(&flight.job, &flight.name, now)
            }
            Outcome::Unanswered => Verdict::Later(None),
        }
    }

    fn challenged(&mut self, flight: &Flight, answerable: &Answerable) -> Verdict {
        let remedy: Cow<'_, str> = match answerable {
            Answerable::Yes => return Verdict::Again,
            Answerable::NoCredentials => "set auth_user and auth_password in [general]".into(),
            Answerable::Refused => "it refused auth_user and auth_password of [general]".into(),
            Answerable::Unsupported => "it wants something else than Digest with qop=auth".into(),
            Answerable::OtherRealm(realm) => {
                format!("its realm is {realm:?}, and not auth_realm of [general]").into()
            }
            Answerable::FarEnd(realm) => format!(
                "no proxy asks but who answers, for the realm {realm:?}; if auth_user is for that, \
                 set it as auth_realm in [general]{}",
                match flight.job {
                    Job::Notify(_) => "",
                    Job::Publish(_) => ", or name the presence server in [publish] server",
                }
            )
            .into(),
        };
        if self.complained.insert(discriminant(answerable)) {
            let (account, method) = (flight.job.account(), flight.job.method());
            tracing::error!(%account, proxy = %flight.name, "a {method} was challenged and cannot be answered: {remedy}");
        }
        Verdict::Later(None)
    }

    fn elsewhere_or_later(&self, job: &Job, failed: &HostPort, now: Instant) -> Verdict {
        let is_publish = matches!(job, Job::Publish(_));
        let is_other = self.hops.has_other(failed, is_publish, now);
        if is_other { Verdict::Again } else { Verdict::Later(None) }
    }

    fn report(&mut self, job: Job, verdict: Verdict, answer: String) {
        let elapsed = Duration::ZERO;
        match job {
            Job::Notify(order) => {
                let (ended, copies) = (Ended::NotSent, 0);
                self.reports.push_back(Report { order, verdict, answer, ended, copies, elapsed });
            }
            Job::Publish(order) => {
                let published = Published { outcome: otherwise(verdict), answer, is_silent: false };
                self.published.push_back((order, published, elapsed));
            }
        }
    }
}

/// What is known of the request in the draft.
struct Written {
    method: Method,
    cseq: u32,
    answered: Vec<Arc<Asker>>,
    asked: Duration,
}

/// What an answer that is not about the publication itself means for it.
fn otherwise(verdict: Verdict) -> publication::Outcome {
    match verdict {
        Verdict::Again => publication::Outcome::Again,
        Verdict::Later(pause) => publication::Outcome::Later(pause),
        Verdict::Delivered | Verdict::Gone | Verdict::TooLow => publication::Outcome::Later(None),
    }
}

/// Where a dialog without a route set leads: with `next_hop = dialog` to the phone itself.
fn direct(general: &General) -> Notifier {
    match general.next_hop {
        NextHop::Dialog => Notifier { route: Route::None, ..notifier(general) },
        NextHop::Proxy | NextHop::SocketInfo => notifier(general),
    }
}

/// What happened, in words that say whose fault it is.
fn words(ending: &Ending, hop: &HostPort) -> String {
    match ending {
        Ending::Final(response) => [&response.code.to_string(), " ", &response.reason].concat(),
        Ending::TimedOut => format!("no answer through {hop}"),
        Ending::Unreachable => format!("{hop} does not listen (ICMP)"),
        Ending::NotSent { why } => format!("it could not be sent: {why}"),
        Ending::Abandoned => "given up: mwid stops".to_owned(),
    }
}

fn hops(config: &Config) -> Hops {
    let servers = config.publish_servers().to_vec();
    Hops::new(config.general.proxy.clone(), servers, config.general.next_hop)
}

fn timers(config: &Config) -> Timers {
    let timers = &config.timers;
    Timers { t1: timers.t1, t2: timers.t2, t4: timers.t4 }
}

fn notifier(general: &General) -> Notifier {
    Notifier {
        user_agent: general.useragent.clone(),
        contact_user: general.contactuser.clone(),
        voicemail: general.vmexten.clone(),
        request_uri: general.request_uri,
        route: general.route,
    }
}
