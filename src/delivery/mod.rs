//! Deliveries: ways to make a phone know. One file each; each takes an [`Order`] and gives back
//! what became of it as a [`Verdict`] of the reconciler.

use std::sync::Arc;
use std::time::Duration;

use mwid_core::dialog::Dialog;
use mwid_core::mailbox::Account;
use mwid_core::reconciler::Verdict;
use mwid_core::summary::Summary;

mod credentials;
pub(crate) use credentials::masked;
mod hops;
pub mod notify;
mod prompt;

/// One summary for one dialog, with the CSeq that was claimed for it.
#[derive(Clone, Debug)]
pub struct Order {
    /// The subscription.
    pub dialog: Arc<Dialog>,
    /// Whose counts.
    pub account: Account,
    /// The counts.
    pub summary: Summary,
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
    /// Copies of the request that were sent.
    pub copies: u32,
    /// From the first copy to the end.
    pub elapsed: Duration,
}
