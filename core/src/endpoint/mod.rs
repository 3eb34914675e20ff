//! Every client transaction of one UDP socket: which bytes to send when, and which answer is
//! whose (RFC 3261 §17.1.2, §17.1.3).

mod branch;
mod deadlines;
#[cfg(test)]
mod tests;
mod types;

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

pub use branch::Branch;
pub use types::{
    Completed, Ending, Received, Spread, StartError, Stats, TransactionId, TransactionMap, Transmit,
};

use crate::message::{
    CSeq, Message, MessageError, Method, Response, StartLine, is_keep_alive,
    method as method_by_name,
};
use crate::timers::Timers;
use crate::transaction::{Fired, Heard, State, Transaction};
use branch::{Branches, Key};
use deadlines::{Deadline, Deadlines};

type Table<T> = HashMap<Key, T, BuildHasherDefault<Spread>>;

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
    /// Those whose final answer is still waited for.
    in_flight: Table<Entry>,
    /// When Timer E or F of each of them fires next.
    deadlines: Deadlines,
    /// Those that have it, for as long as Timer K runs.
    completed: Table<Lingering>,
    /// Timer K of each of them.
    lingering: Deadlines,
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
    /// Its place among the deadlines.
    due: Instant,
    transaction: Transaction,
}

/// What is still known of a completed transaction: whose answer is not new.
#[derive(Debug)]
struct Lingering {
    id: TransactionId,
    cseq: u32,
    method: Method,
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
            in_flight: Table::default(),
            deadlines: Deadlines::default(),
            completed: Table::default(),
            lingering: Deadlines::default(),
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
        let key = branch.key();
        if self.is_known(&key) {
            return Err(StartError::BranchInUse { branch });
        }
        if self.in_flight.len() >= self.capacity {
            return Err(StartError::Full { capacity: self.capacity });
        }
        if self.in_flight.len() + self.completed.len() >= self.capacity
            && let Some(oldest) = self.lingering.pop()
        {
            self.completed.remove(&oldest);
        }
        self.started += 1;
        let id = TransactionId(self.started);
        let transaction = Transaction::new(now, &self.timers);
        let due = transaction.poll_timeout().expect("a new transaction runs Timer E");
        let (copies, queued) = (0, true);
        let entry = Entry { id, branch, cseq, method, to, bytes, copies, queued, due, transaction };
        self.in_flight.insert(key, entry);
        self.deadlines.insert(Deadline { at: due, id, key });
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
        branch::keys(start).any(|key| self.is_known(&key))
    }

    fn is_known(&self, key: &Key) -> bool {
        self.in_flight.contains_key(key) || self.completed.contains_key(key)
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
        let key = via.branch().and_then(|branch| Key::parse(branch.as_bytes()));
        let Some(key) = key.filter(|_| !misrouted) else {
            return Ok(Received::Stray { code });
        };
        let is_own = |entry: &&mut Entry| answers(cseq, entry.cseq, entry.method);
        let Some(entry) = self.in_flight.get_mut(&key).filter(is_own) else {
            return Ok(self.late(&key, cseq, code));
        };
        let id = entry.id;
        // What may be read in two ways is no answer, a provisional one neither.
        let response = Response::read(&message)?;
        match entry.transaction.handle_answer(now, code) {
            Heard::Provisional => Ok(Received::Provisional { id, code }),
            Heard::Final => {
                self.complete(now, key, Ending::Final(response));
                Ok(Received::Answer { id, code, retransmitted: false })
            }
            Heard::Retransmission => unreachable!("what has its final answer is not in flight"),
        }
    }

    /// What an answer to nothing in flight is: one more to a completed transaction, or a stray.
    fn late(&self, key: &Key, cseq: CSeq<'_>, code: u16) -> Received {
        match self.completed.get(key).filter(|it| answers(cseq, it.cseq, it.method)) {
            Some(&Lingering { id, .. }) => Received::Answer { id, code, retransmitted: true },
            None => Received::Stray { code },
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
        let picked = self.in_flight.iter().filter(|(_, entry)| which(entry));
        let mut keys: Vec<(TransactionId, Key)> =
            picked.map(|(key, entry)| (entry.id, *key)).collect();
        keys.sort_unstable();
        for (_, key) in keys {
            self.complete(now, key, ending());
        }
    }

    /// Ends a transaction in flight. One that has its final answer lingers until Timer K fires.
    fn complete(&mut self, now: Instant, key: Key, ending: Ending) {
        let Some(entry) = self.in_flight.remove(&key) else { return };
        let Entry { id, cseq, method, due, .. } = entry;
        self.deadlines.remove(&Deadline { at: due, id, key });
        let transaction = &entry.transaction;
        if let (State::Completed, Some(at)) = (transaction.state(), transaction.poll_timeout()) {
            self.completed.insert(key, Lingering { id, cseq, method });
            self.lingering.insert(Deadline { at, id, key });
        }
        self.stats.count_ending(&ending);
        self.events.push_back(entry.completed(now, ending));
    }

    /// Lets every timer fire that is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(key) = self.lingering.pop_due(now) {
            self.completed.remove(&key);
        }
        while let Some(key) = self.deadlines.pop_due(now) {
            let Some(entry) = self.in_flight.get_mut(&key) else { continue };
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
            entry.due = entry.transaction.poll_timeout().unwrap_or(now);
            self.deadlines.insert(Deadline { at: entry.due, id: entry.id, key });
        }
    }

    /// Gives back what a crowd needed.
    fn tidy(&mut self) {
        if self.in_flight.is_empty() && self.in_flight.capacity() > ROOM {
            self.in_flight = Table::default();
        }
        if self.completed.is_empty() && self.completed.capacity() > ROOM {
            self.completed = Table::default();
        }
        if self.transmits.is_empty() && self.transmits.capacity() > ROOM {
            self.transmits = VecDeque::new();
        }
        if self.events.capacity() > ROOM {
            self.events = VecDeque::new();
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; `None` when there is nothing to
    /// wait for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.deadlines.first(), self.lingering.first()].into_iter().flatten().min()
    }

    /// The next datagram to send. What the socket does not take is lost, as on any network; the
    /// next copy follows by Timer E.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        loop {
            let key = self.transmits.pop_front()?;
            let Some(entry) = self.in_flight.get_mut(&key) else { continue };
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
        let event = self.events.pop_front();
        if event.is_none() {
            self.tidy();
        }
        event
    }
}

impl Entry {
    /// The event of this transaction's end.
    fn completed(self, now: Instant, ending: Ending) -> Completed {
        Completed {
            id: self.id,
            branch: self.branch,
            copies: self.copies,
            elapsed: self.transaction.elapsed(now),
            ending,
        }
    }
}

/// Whether an answer with this CSeq is one to a request with that one.
fn answers(answer: CSeq<'_>, cseq: u32, method: Method) -> bool {
    answer.number == cseq && method_by_name(answer.method) == Some(method)
}
