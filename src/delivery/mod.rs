//! Deliveries: ways to make a phone know. One file each. NOTIFY takes an [`Order`] and gives back
//! what became of it as a [`Verdict`] of the reconciler; all others take a step of a publication,
//! an [`Order`](publication::Order) of the core, and give back a [`Published`].

use std::sync::Arc;
use std::time::Duration;

use mwid_core::dialog::Dialog;
use mwid_core::endpoint::Ending;
use mwid_core::mailbox::Account;
use mwid_core::publication;
use mwid_core::reconciler::Verdict;
use mwid_core::summary::Summary;

mod credentials;
pub(crate) use credentials::masked;
#[cfg(fuzzing)]
pub mod fuzzing;
mod hops;
mod json_rpc;
pub mod kamailio_rpc;
mod line;
mod mi_lines;
mod mi_transport;
pub mod opensips_mi;
mod prompt;
mod pua;
mod publish;
mod publishers;
pub mod sip;
pub mod sipx;
mod xml_rpc;

pub use publishers::Publishers;

/// One summary for one dialog, with the CSeq that was claimed for it.
#[derive(Clone, Debug)]
pub struct Order {
    /// The subscription.
    pub dialog: Arc<Dialog>,
    /// Whose counts.
    pub account: Account,
    /// The counts; `None` when nobody knows them.
    pub summary: Option<Summary>,
    /// The CSeq.
    pub cseq: u32,
}

/// What became of an order.
#[derive(Clone, Debug)]
pub struct Report {
    /// The order.
    pub order: Order,
    /// What the reconciler does about it.
    pub verdict: Verdict,
    /// What happened, in words: `200 OK`, `no answer`, …
    pub answer: String,
    /// The same, for counters.
    pub ended: Ended,
    /// Copies of the request that were sent.
    pub copies: u32,
    /// From the first copy to the end.
    pub elapsed: Duration,
}

/// How a NOTIFY ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this final answer.
    Code(u16),
    /// Timer F: there was none.
    TimedOut,
    /// Nothing listens where it went (ICMP).
    Unreachable,
    /// It, or one of its copies, could not be sent.
    NotSent,
    /// mwid stops.
    Abandoned,
}

impl Ended {
    /// Whether somebody answered.
    #[must_use]
    pub fn is_answer(self) -> bool {
        matches!(self, Self::Code(_))
    }
}

impl Ended {
    /// The status code of the answer, where there was one.
    #[must_use]
    pub fn code(self) -> Option<u16> {
        match self {
            Self::Code(code) => Some(code),
            _ => None,
        }
    }
}

impl From<&Ending> for Ended {
    fn from(ending: &Ending) -> Self {
        match ending {
            Ending::Final(response) => Self::Code(response.code),
            Ending::TimedOut => Self::TimedOut,
            Ending::Unreachable => Self::Unreachable,
            Ending::NotSent { .. } => Self::NotSent,
            Ending::Abandoned => Self::Abandoned,
        }
    }
}

/// What became of a step of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// What the reconciler does about it.
    pub outcome: publication::Outcome,
    /// What happened, in words: `200 OK`, `no answer`, …
    pub answer: String,
    /// Its server gave no answer at all: the next account's step will not fare better.
    pub is_silent: bool,
}

/// How much of a strange answer goes into the log, in characters.
const MAX_SHOWN: usize = 120;

/// The beginning of what a server said, on one line.
fn cut(text: &str) -> String {
    text.chars().take(MAX_SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
