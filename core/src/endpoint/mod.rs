//! Every client transaction of one UDP socket: which bytes to send when, and which answer is
//! whose (RFC 3261 §17.1.2, §17.1.3).

mod branch;
#[cfg(test)]
mod tests;
mod types;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

pub use branch::Branch;
pub use types::{Completed, Ending, Received, StartError, Stats, TransactionId, Transmit};

use crate::message::{
    Message, MessageError, Method, Response, StartLine, is_keep_alive, method as method_by_name,
};
use crate::timers::Timers;
use crate::transaction::{Fired, Heard, State, Transaction};
use branch::{Branches, Key};

/// Room for this many is kept when nobody is under way: a crowd gives its own back.
const ROOM: usize = 1024;

/// As far into a datagram [`Endpoint::awaits`] looks for a branch: an answer has one Via, ours, and
/// senders put it first.
const GLANCE: usize = 1024;

/// All client transactions of one UDP socket, without the socket and without a clock.
///
/// # Calling contract
///
/// * **Getters** look: [`in_flight`](Self::in_flight), [`stats`](Self::stats),
///   [`awaits`](Self::awaits).
/// * **Commands** begin something: [`branch`](Self::branch) makes the branch that the bytes of a
///   request must carry in their Via, [`start`](Self::start) starts its transaction,
///   [`abandon`](Self::abandon) ends all, [`set_timers`](Self::set_timers) is for what starts
///   later.
/// * **`handle_*`** tell what happened: [`handle_datagram`](Self::handle_datagram) for everything
///   that the socket received, [`handle_unreachable`](Self::handle_unreachable) when it reported
///   an ICMP error, [`handle_not_sent`](Self::handle_not_sent) when it does not take a datagram,
///   [`handle_timeout`](Self::handle_timeout) at the time that `poll_timeout` said,
///   or later.
/// * **`poll_*`** say what to do. After any command or `handle_*`, call
///   [`poll_transmit`](Self::poll_transmit) and [`poll_event`](Self::poll_event) until they return
///   `None`, then sleep until [`poll_timeout`](Self::poll_timeout) or until something happens.
///
/// `now` must not go backwards. A call that comes late sends late, but never a burst: a
/// transaction has at most one copy waiting in `poll_transmit`.
///
/// Each started transaction gives exactly one [`Completed`]. Afterwards it is kept for Timer K to
/// absorb retransmitted answers; such a transaction is not in flight, and makes room when room is
/// needed. `poll_timeout` is `None` when there is neither the one nor the other.
///
/// ```
/// use std::time::{Duration, Instant};
/// use mwid_core::endpoint::{Ending, Endpoint};
/// use mwid_core::message::Method;
/// use mwid_core::timers::Timers;
///
/// let (start, proxy) = (Instant::now(), "192.0.2.1:5060".parse()?);
/// let mut endpoint = Endpoint::new(Timers::default(), 0x5eed, 1000);
/// let branch = endpoint.branch();
/// let notify = format!("NOTIFY sip:202@192.0.2.7 SIP/2.0\r\nVia: SIP/2.0/UDP h;branch={branch}\r\n…");
/// let id = endpoint.start(start, branch, 7, Method::Notify, proxy, notify.into_bytes().into())?;
/// let mut copies = 0;
/// while let Some(now) = endpoint.poll_timeout() {
///     while let Some(transmit) = endpoint.poll_transmit() {
///         copies = transmit.copy; // send_to(transmit.bytes, transmit.to)
///     }
///     endpoint.handle_timeout(now); // the clock says so; here time flies
/// }
/// let completed = endpoint.poll_event().expect("every transaction completes");
/// assert_eq!((completed.id, copies), (id, 11));
/// assert!(matches!(completed.ending, Ending::TimedOut));
/// assert_eq!(completed.elapsed, Duration::from_secs(32));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Endpoint {
    timers: Timers,
    capacity: usize,
    branches: Branches,
    started: u64,
    /// Keys are hashes under our own secret, so nobody can make them collide.
    transactions: HashMap<Key, Entry, BuildHasherDefault<DefaultHasher>>,
    /// The next deadline of each transaction in flight.
    in_flight: BTreeSet<(Instant, Key)>,
    /// Timer K of each completed one.
    lingering: BTreeSet<(Instant, Key)>,
    transmits: VecDeque<Key>,
    events: VecDeque<Completed>,
    stats: Stats,
}

#[derive(Debug)]
struct Entry {
    id: TransactionId,
    branch: Branch,
    cseq: u32,
    method: Method,
    to: SocketAddr,
    bytes: Arc<[u8]>,
    /// Copies handed out by `poll_transmit`.
    copies: u32,
    /// A copy waits in `transmits`.
    queued: bool,
    transaction: Transaction,
}

impl Endpoint {
    /// An endpoint that holds at most `capacity` transactions. `seed` makes its branches: it must
    /// be random, secret, and another one in each process.
    #[must_use]
    pub fn new(timers: Timers, seed: u128, capacity: usize) -> Self {
        Self {
            timers,
            capacity,
            branches: Branches::new(seed),
            started: 0,
            transactions: HashMap::default(),
            in_flight: BTreeSet::new(),
            lingering: BTreeSet::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Transactions whose final answer is still waited for.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// What has been sent and received since the start.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Other timers for the transactions that start from now on.
    pub fn set_timers(&mut self, timers: Timers) {
        self.timers = timers;
    }

    /// A new branch, for one transaction.
    pub fn branch(&mut self) -> Branch {
        self.branches.next()
    }

    /// Starts a transaction and queues its first copy. `bytes` is the whole request, with
    /// `branch` in its topmost Via and `cseq` and `method` in its CSeq; `to` is where it goes.
    ///
    /// # Errors
    /// [`StartError`] when `capacity` transactions are in flight, or `branch` has been used.
    pub fn start(
        &mut self,
        now: Instant,
        branch: Branch,
        cseq: u32,
        method: Method,
        to: SocketAddr,
        bytes: Arc<[u8]>,
    ) -> Result<TransactionId, StartError> {
        let key = Key::of(&branch);
        if self.transactions.contains_key(&key) {
            return Err(StartError::BranchInUse { branch });
        }
        if self.in_flight.len() >= self.capacity {
            return Err(StartError::Full { capacity: self.capacity });
        }
        if self.transactions.len() >= self.capacity
            && let Some((_, oldest)) = self.lingering.pop_first()
        {
            self.transactions.remove(&oldest);
        }
        self.started += 1;
        let id = TransactionId(self.started);
        let transaction = Transaction::new(now, &self.timers);
        let deadline = transaction.poll_timeout().expect("a new transaction runs Timer E");
        let entry =
            Entry { id, branch, cseq, method, to, bytes, copies: 0, queued: true, transaction };
        self.transactions.insert(key, entry);
        self.in_flight.insert((deadline, key));
        self.transmits.push_back(key);
        self.stats.started += 1;
        Ok(id)
    }

    /// Whether a datagram has the branch of a transaction in it, as the answer to a request of ours
    /// has. Only its first bytes are looked at, and nothing is believed: it tells what nobody could
    /// make up from what anybody can send in any number.
    #[must_use]
    pub fn awaits(&self, datagram: &[u8]) -> bool {
        let start = &datagram[..datagram.len().min(GLANCE)];
        branch::keys(start).any(|key| self.transactions.contains_key(&key))
    }

    /// Takes what the socket received and says what it was. An answer belongs to the transaction
    /// whose branch is in its topmost Via and whose method and number are in its CSeq
    /// (RFC 3261 §17.1.3); the address that it came from need not be the one that was sent to.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        _from: SocketAddr,
        datagram: &[u8],
    ) -> Received {
        let received = if is_keep_alive(datagram) {
            Received::KeepAlive
        } else {
            Message::parse(datagram)
                .and_then(|message| self.handle_message(now, message))
                .unwrap_or_else(Received::Garbage)
        };
        self.stats.count(&received);
        received
    }

    fn handle_message(&mut self, now: Instant, message: Message) -> Result<Received, MessageError> {
        let StartLine::Status { code, .. } = message.start() else {
            return Ok(Received::Request(Box::new(message)));
        };
        let (via, cseq) = (message.via()?, message.cseq()?);
        // RFC 3261 §8.1.3.3: a second Via means that the answer is not for us.
        let misrouted = message.headers("Via").nth(1).is_some();
        let Some(key) = via.branch().and_then(Key::parse).filter(|_| !misrouted) else {
            return Ok(Received::Stray { code });
        };
        let matches = |entry: &&mut Entry| {
            cseq.number == entry.cseq && method_by_name(cseq.method) == Some(entry.method)
        };
        let Some(entry) = self.transactions.get_mut(&key).filter(matches) else {
            return Ok(Received::Stray { code });
        };
        let id = entry.id;
        // What may be read in two ways is no answer, a provisional one neither.
        let answer = match entry.transaction.state() {
            State::Trying | State::Proceeding => Some(Response::read(&message)?),
            State::Completed | State::Terminated => None,
        };
        let before = entry.transaction.poll_timeout();
        match entry.transaction.handle_answer(now, code) {
            Heard::Provisional => Ok(Received::Provisional { id, code }),
            Heard::Retransmission => Ok(Received::Answer { id, code, retransmitted: true }),
            Heard::Final => {
                let response = answer.expect("an answer is final only before Completed");
                let after = entry.transaction.poll_timeout();
                if let Some(deadline) = before {
                    self.in_flight.remove(&(deadline, key));
                }
                self.lingering.extend(after.map(|deadline| (deadline, key)));
                let completed = entry.completed(now, Ending::Final(response));
                self.events.push_back(completed);
                Ok(Received::Answer { id, code, retransmitted: false })
            }
        }
    }

    /// The socket reported that nothing listens at `to` (ICMP; RFC 3261 §17.1.4). Every
    /// transaction toward it that has heard nothing completes as [`Ending::Unreachable`]. One that
    /// has heard a provisional answer is known there and keeps waiting.
    pub fn handle_unreachable(&mut self, now: Instant, to: SocketAddr) {
        self.complete_all(
            now,
            || Ending::Unreachable,
            |entry| entry.to == to && entry.transaction.state() == State::Trying,
        );
    }

    /// The socket does not take the datagrams of this transaction: they are too long, or a
    /// firewall forbids them. It alone completes, as [`Ending::NotSent`] (RFC 3261 §17.1.4).
    pub fn handle_not_sent(&mut self, now: Instant, id: TransactionId, why: &str) {
        self.complete_all(now, || Ending::NotSent { why: why.into() }, |entry| entry.id == id);
    }

    /// Ends every transaction in flight as [`Ending::Abandoned`], for a shutdown that cannot wait
    /// any longer. Their answers, if they still come, are strays.
    pub fn abandon(&mut self, now: Instant) {
        self.complete_all(now, || Ending::Abandoned, |_| true);
    }

    /// Completes those in flight that `which` picks, in the order in which they were started.
    fn complete_all(
        &mut self,
        now: Instant,
        ending: impl Fn() -> Ending,
        which: impl Fn(&Entry) -> bool,
    ) {
        let transactions = &self.transactions;
        let picked = |key: &Key| transactions.get(key).filter(|entry| which(entry));
        let mut keys: Vec<(TransactionId, Instant, Key)> = self
            .in_flight
            .iter()
            .filter_map(|&(deadline, key)| picked(&key).map(|entry| (entry.id, deadline, key)))
            .collect();
        keys.sort_unstable_by_key(|&(id, ..)| id);
        for (_, deadline, key) in keys {
            self.in_flight.remove(&(deadline, key));
            self.complete(now, key, ending());
        }
    }

    /// Removes a transaction that got no final answer.
    fn complete(&mut self, now: Instant, key: Key, ending: Ending) {
        if let Some(mut entry) = self.transactions.remove(&key) {
            self.stats.count_ending(&ending);
            self.events.push_back(entry.completed(now, ending));
        }
    }

    /// Lets every timer fire that is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, key)) = pop_due(&mut self.lingering, now) {
            self.transactions.remove(&key);
        }
        if self.transactions.is_empty() && self.transactions.capacity() > ROOM {
            self.transactions = HashMap::default();
        }
        while let Some((_, key)) = pop_due(&mut self.in_flight, now) {
            let Some(entry) = self.transactions.get_mut(&key) else { continue };
            match entry.transaction.handle_timeout(now) {
                // Timer K runs only for those that linger.
                Some(Fired::F | Fired::K) => {
                    self.complete(now, key, Ending::TimedOut);
                    continue;
                }
                Some(Fired::E) if !entry.queued => {
                    entry.queued = true;
                    self.transmits.push_back(key);
                }
                Some(Fired::E) | None => {}
            }
            self.in_flight.extend(entry.transaction.poll_timeout().map(|at| (at, key)));
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; `None` when there is nothing to
    /// wait for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let first = |deadlines: &BTreeSet<(Instant, Key)>| deadlines.first().map(|&(at, _)| at);
        [first(&self.in_flight), first(&self.lingering)].into_iter().flatten().min()
    }

    /// The next datagram to send. What the socket does not take is lost, as on any network; the
    /// next copy follows by Timer E.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        loop {
            let key = self.transmits.pop_front()?;
            let Some(entry) = self.transactions.get_mut(&key) else { continue };
            // An answer may have come while the copy was waiting.
            if std::mem::take(&mut entry.queued) {
                entry.copies += 1;
                self.stats.copies += 1;
                let (id, to, copy) = (entry.id, entry.to, entry.copies);
                return Some(Transmit { id, to, bytes: Arc::clone(&entry.bytes), copy });
            }
        }
    }

    /// The next transaction that completed.
    pub fn poll_event(&mut self) -> Option<Completed> {
        self.events.pop_front()
    }
}

impl Entry {
    /// The event of this transaction's end. Nothing is sent after it, so the bytes can go.
    fn completed(&mut self, now: Instant, ending: Ending) -> Completed {
        self.queued = false;
        self.bytes = Arc::default();
        Completed {
            id: self.id,
            branch: self.branch,
            copies: self.copies,
            elapsed: self.transaction.elapsed(now),
            ending,
        }
    }
}

fn pop_due(deadlines: &mut BTreeSet<(Instant, Key)>, now: Instant) -> Option<(Instant, Key)> {
    let &(at, _) = deadlines.first()?;
    if at <= now { deadlines.pop_first() } else { None }
}
