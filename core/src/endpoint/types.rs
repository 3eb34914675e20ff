//! What goes into and comes out of an [`Endpoint`](super::Endpoint): plain data.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::Branch;
use crate::message::{Message, MessageError, Response};

/// Names a transaction within one endpoint; counted from 1, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub(super) u64);

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A table by transaction.
pub type TransactionMap<T> = HashMap<TransactionId, T, BuildHasherDefault<Spread>>;

/// Makes a hash of a number by one multiplication. For what nobody chooses, ids that are counted and
/// branches that are hashes under a secret of our own: nobody can make them collide.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("it is one number");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Why a transaction was not started. Nothing has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StartError {
    /// As many are in flight as the endpoint may hold.
    #[error(
        "{capacity} transactions are in flight, the most that are allowed; start it when one has completed"
    )]
    Full {
        /// The endpoint's capacity.
        capacity: usize,
    },
    /// The branch names a transaction that is still known.
    #[error("branch {branch} names another transaction; take a new branch for each")]
    BranchInUse {
        /// The branch.
        branch: Branch,
    },
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Whose.
    pub id: TransactionId,
    /// Where to.
    pub to: SocketAddr,
    /// The request.
    pub bytes: Arc<[u8]>,
    /// Which copy of it, counted from 1.
    pub copy: u32,
}

/// A transaction has ended: exactly one for each that was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// Which.
    pub id: TransactionId,
    /// Its branch.
    pub branch: Branch,
    /// Copies of the request that were sent.
    pub copies: u32,
    /// How long it took.
    pub elapsed: Duration,
    /// How it ended; [`outcome`](crate::outcome::outcome) says what that means.
    pub ending: Ending,
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a final answer (200 to 699).
    Final(Response),
    /// Timer F: there was none.
    TimedOut,
    /// Nothing listens where the request went (ICMP).
    Unreachable,
    /// A copy of the request could not be sent.
    NotSent {
        /// What the socket said.
        why: Box<str>,
    },
    /// By [`Endpoint::abandon`](super::Endpoint::abandon).
    Abandoned,
}

/// What a datagram was, for counters and for the debug log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A final answer to a transaction of ours.
    Answer {
        /// Which transaction.
        id: TransactionId,
        /// The status code.
        code: u16,
        /// It had its final answer already; this one was absorbed.
        retransmitted: bool,
    },
    /// A provisional answer to a transaction in flight.
    Provisional {
        /// Which transaction.
        id: TransactionId,
        /// The status code.
        code: u16,
    },
    /// An answer to nothing that we sent, or that we no longer know.
    Stray {
        /// The status code.
        code: u16,
    },
    /// A request.
    Request(Box<Message>),
    /// A datagram that keeps a NAT binding open.
    KeepAlive,
    /// No SIP message.
    Garbage(MessageError),
}

/// Counters since the endpoint was made. They only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transactions started.
    pub started: u64,
    /// Copies sent, first ones included.
    pub copies: u64,
    /// First final answers.
    pub answers: u64,
    /// Final answers after the first.
    pub retransmitted_answers: u64,
    /// Provisional answers.
    pub provisional: u64,
    /// Answers that belong to no transaction.
    pub strays: u64,
    /// Requests.
    pub requests: u64,
    /// Keep-alives.
    pub keep_alives: u64,
    /// Datagrams that are no SIP message.
    pub garbage: u64,
    /// Transactions that ended by Timer F.
    pub timed_out: u64,
    /// Transactions that ended by ICMP.
    pub unreachable: u64,
    /// Transactions whose request could not be sent.
    pub not_sent: u64,
    /// Transactions that were abandoned.
    pub abandoned: u64,
}

impl Stats {
    pub(super) fn count(&mut self, received: &Received) {
        *match received {
            Received::Answer { retransmitted: false, .. } => &mut self.answers,
            Received::Answer { retransmitted: true, .. } => &mut self.retransmitted_answers,
            Received::Provisional { .. } => &mut self.provisional,
            Received::Stray { .. } => &mut self.strays,
            Received::Request(_) => &mut self.requests,
            Received::KeepAlive => &mut self.keep_alives,
            Received::Garbage(_) => &mut self.garbage,
        } += 1;
    }

    /// Counts an end without an answer; answers are counted as they are received.
    pub(super) fn count_ending(&mut self, ending: &Ending) {
        *match ending {
            Ending::Final(_) => return,
            Ending::TimedOut => &mut self.timed_out,
            Ending::Unreachable => &mut self.unreachable,
            Ending::NotSent { .. } => &mut self.not_sent,
            Ending::Abandoned => &mut self.abandoned,
        } += 1;
    }
}
