//! The main delivery: in-dialog NOTIFYs through the proxy.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::mem::{Discriminant, discriminant};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mwid_core::endpoint::{Completed, Ending, Endpoint, Received, Stats, TransactionId, Transmit};
use mwid_core::message::Method;
use mwid_core::notify::{Notifier, Notify};
use mwid_core::outcome::{Outcome, outcome};
use mwid_core::reconciler::Verdict;
use mwid_core::timers::Timers;

use super::credentials::{Answerable, Authenticator};
use super::hops::{Hops, Lookup, Resolved};
use super::prompt::Asker;
use super::{Order, Report};
use crate::config::{Config, General, HostPort};
use crate::transport::Transport;

#[cfg(test)]
mod tests;

/// NOTIFYs in flight at once: each keeps its bytes for up to 64·T1.
pub const MAX_IN_FLIGHT: usize = 16_384;

/// Builds NOTIFYs, follows their transactions and says what the answers mean.
///
/// Calling contract, as the endpoint's: after each [`send`](Self::send) or `handle_*` call, drain
/// [`poll_resolve`](Self::poll_resolve), [`poll_transmit`](Self::poll_transmit) and
/// [`poll_report`](Self::poll_report); call [`handle_timeout`](Self::handle_timeout) at
/// [`poll_timeout`](Self::poll_timeout). Every order is reported exactly once.
#[derive(Debug)]
pub struct NotifyDelivery {
    endpoint: Endpoint,
    notifier: Notifier,
    hops: Hops,
    authenticator: Authenticator,
    flights: HashMap<TransactionId, Flight>,
    /// Orders that wait for the address of their proxy.
    waiting: HashMap<HostPort, Vec<Order>>,
    to_resolve: Vec<HostPort>,
    reports: VecDeque<Report>,
    /// Why challenges cannot be answered: each said once.
    complained: HashSet<Discriminant<Answerable>>,
}

#[derive(Debug)]
struct Flight {
    order: Order,
    name: HostPort,
    to: SocketAddr,
    started: Instant,
    /// The challenges that it carries an answer to.
    answered: Vec<Arc<Asker>>,
}

impl NotifyDelivery {
    /// Nothing in flight. `seed` makes the branches: random, secret, another in each process.
    #[must_use]
    pub fn new(config: &Config, seed: u128) -> Self {
        Self {
            endpoint: Endpoint::new(timers(config), seed, MAX_IN_FLIGHT),
            notifier: notifier(&config.general),
            hops: Hops::new(config.general.proxy.clone(), config.general.next_hop),
            authenticator: Authenticator::new(&config.general),
            flights: HashMap::new(),
            waiting: HashMap::new(),
            to_resolve: Vec::new(),
            reports: VecDeque::new(),
            complained: HashSet::new(),
        }
    }

    /// Another configuration, for the NOTIFYs that start from now on.
    pub fn configure(&mut self, config: &Config) {
        self.endpoint.set_timers(timers(config));
        self.notifier = notifier(&config.general);
        self.hops = Hops::new(config.general.proxy.clone(), config.general.next_hop);
        self.authenticator = Authenticator::new(&config.general);
        self.complained.clear();
        // Whoever waited for an address under the old configuration is tried again under the new.
        for order in std::mem::take(&mut self.waiting).into_values().flatten() {
            self.report(order, Verdict::Again, "the configuration changed".to_owned());
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
        match self.hops.look_up(&name, now, transport) {
            Lookup::Ready(resolved) => self.start(order, name, resolved, now, unix),
            Lookup::Start => {
                self.to_resolve.push(name.clone());
                self.waiting.entry(name).or_default().push(order);
            }
            Lookup::Wait => self.waiting.entry(name).or_default().push(order),
        }
    }

    fn start(&mut self, order: Order, name: HostPort, resolved: Resolved, now: Instant, unix: u64) {
        if order.dialog.remaining(unix) == 0 {
            // It waited too long for its turn. Whether the phone has refreshed it, its row says.
            let why = "the subscription ended while its NOTIFY waited";
            return self.report(order, Verdict::Again, why.to_owned());
        }
        let (to, hop) = resolved;
        let branch = self.endpoint.branch();
        let notify = Notify {
            dialog: &order.dialog,
            account: &order.account,
            summary: order.summary,
            cseq: order.cseq,
            branch: branch.as_str(),
            hop: &hop,
            unix,
            authorization: &[],
        };
        let request_uri = notify.request_uri(&self.notifier);
        let (authorization, answered) = self.authenticator.lines(&name, request_uri);
        let mut bytes = Vec::with_capacity(1024);
        Notify { authorization: &authorization, ..notify }.write(&self.notifier, &mut bytes);
        match self.endpoint.start(now, branch, order.cseq, Method::Notify, to, bytes.into()) {
            Ok(id) => {
                let flight = Flight { order, name, to, started: now, answered };
                self.flights.insert(id, flight);
            }
            Err(full) => self.report(order, Verdict::Later(None), full.to_string()),
        }
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
        let resolved = self.hops.handle_resolved(name, found, now, transport);
        for order in self.waiting.remove(name).unwrap_or_default() {
            match &resolved {
                Some(resolved) => self.start(order, name.clone(), resolved.clone(), now, unix),
                None => {
                    let verdict = self.elsewhere_or_later(name, now);
                    self.report(order, verdict, format!("{name} has no address"));
                }
            }
        }
    }

    /// Takes what the socket received and says what it was.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Received {
        let received = self.endpoint.handle_datagram(now, from, datagram);
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
        for order in std::mem::take(&mut self.waiting).into_values().flatten() {
            self.report(order, Verdict::Later(None), "given up: mwid stops".to_owned());
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
        self.to_resolve.pop()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.endpoint.poll_transmit()
    }

    /// The next order that came to its end.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    fn finish(&mut self, now: Instant) {
        while let Some(completed) = self.endpoint.poll_event() {
            let Some(flight) = self.flights.remove(&completed.id) else { continue };
            let verdict = self.verdict(&flight, &completed, now);
            self.reports.push_back(Report {
                answer: words(&completed.ending, &flight.name),
                verdict,
                copies: completed.copies,
                elapsed: completed.elapsed,
                order: flight.order,
            });
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
                let answerable =
                    self.authenticator.take(&flight.name, &challenges, &flight.answered);
                self.challenged(flight, &answerable)
            }
            Outcome::NextProxy { retry_after } => {
                self.hops.suspend(&flight.name, retry_after, now, "answers 503");
                match self.elsewhere_or_later(&flight.name, now) {
                    Verdict::Later(None) => Verdict::Later(retry_after),
                    elsewhere => elsewhere,
                }
            }
            Outcome::Unreachable => {
                let why = format!("does not listen at {}", flight.to);
                self.hops.suspend(&flight.name, None, now, &why);
                self.elsewhere_or_later(&flight.name, now)
            }
            Outcome::Unanswered if matches!(completed.ending, Ending::TimedOut) => {
                if self.hops.heard_since(&flight.name, flight.started) {
                    return Verdict::Later(None);
                }
                let why = format!("does not answer at {}", flight.to);
                self.hops.suspend(&flight.name, None, now, &why);
                self.elsewhere_or_later(&flight.name, now)
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
                "not the proxy asks but who is behind it, for the realm {realm:?}; if auth_user is \
                 for that, set it as auth_realm in [general]"
            )
            .into(),
        };
        if self.complained.insert(discriminant(answerable)) {
            let Order { account, dialog, .. } = &flight.order;
            tracing::error!(%account, call_id = %dialog.call_id, proxy = %flight.name, "a NOTIFY was challenged and cannot be answered: {remedy}");
        }
        Verdict::Later(None)
    }

    fn elsewhere_or_later(&self, failed: &HostPort, now: Instant) -> Verdict {
        if self.hops.has_other(failed, now) { Verdict::Again } else { Verdict::Later(None) }
    }

    fn report(&mut self, order: Order, verdict: Verdict, answer: String) {
        let elapsed = std::time::Duration::ZERO;
        self.reports.push_back(Report { order, verdict, answer, copies: 0, elapsed });
    }
}

/// What happened, in words that say whose fault it is.
fn words(ending: &Ending, proxy: &HostPort) -> String {
    match ending {
        Ending::Final(response) => format!("{} {}", response.code, response.reason),
        Ending::TimedOut => format!("no answer through the proxy {proxy}"),
        Ending::Unreachable => format!("the proxy {proxy} does not listen (ICMP)"),
        Ending::NotSent { why } => format!("it could not be sent: {why}"),
        Ending::Abandoned => "given up: mwid stops".to_owned(),
    }
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
