//! What one scrape sees: a copy of what the parts say of themselves.

use mwid_core::publication::Way;
use mwid_core::reconciler::Census;

use super::Process;
use crate::capture::CaptureHealth;
use crate::cluster;
use crate::daemon::Counters;
use crate::dialogs::watch::WatchHealth;
use crate::source::ami::AmiHealth;
use crate::source::spool::SpoolHealth;
use crate::source::{externnotify, http};
use crate::webhook::WebhookHealth;

/// How mwid is now. `None` is what is not used.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) process: Process,
    pub(crate) counters: Counters,
    pub(crate) census: Census,
    pub(crate) mailboxes: usize,
    pub(crate) sip: mwid_core::endpoint::Stats,
    pub(crate) suspended_proxies: usize,
    pub(crate) spool: Option<SpoolHealth>,
    pub(crate) ami: Option<AmiHealth>,
    pub(crate) externnotify: Option<externnotify::Stats>,
    pub(crate) http: Option<http::Stats>,
    pub(crate) watch: Option<WatchHealth>,
    /// Rows can be read.
    pub(crate) reads: bool,
    /// CSeqs can be claimed.
    pub(crate) claims: bool,
    pub(crate) ledger_works: bool,
    pub(crate) agent: Option<Agent>,
    pub(crate) ways: Vec<WayReading>,
    pub(crate) webhook: Option<WebhookHealth>,
    pub(crate) capture: Option<CaptureHealth>,
    pub(crate) cluster: Option<cluster::Health>,
}

/// The presence agent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agent {
    pub(crate) subscriptions: u64,
    pub(crate) stats: mwid_core::agent::Stats,
}

/// A way that publishes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WayReading {
    pub(crate) way: Way,
    pub(crate) known: usize,
    pub(crate) accepted: usize,
    pub(crate) works: bool,
}
