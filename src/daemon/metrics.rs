//! What is counted of NOTIFYs, and what is scraped: a copy of what the loop and its parts count.

use std::time::Instant;

use mwid_core::reconciler::Verdict;
use serde_json::Value;

use super::Daemon;
use super::agent::Presence;
use crate::capture::Capture;
use crate::cluster::Cluster;
use crate::delivery::Report;
use crate::dialogs::watch::Watch;
use crate::metrics::{self, Process, Reading};
use crate::source::ami::Ami;
use crate::source::externnotify::Externnotify;
use crate::source::spool::Spool;
use crate::webhook::Webhook;

impl Daemon {
    /// A NOTIFY has ended, and the reconciler knows it.
    pub(super) fn count(&mut self, report: Report, now: Instant) {
        let Report { verdict, ended, elapsed, .. } = report;
        self.counters.tally.notify(verdict, ended, elapsed);
        let waited = match verdict {
            Verdict::Delivered => self.reconciler.waited(report.order.dialog.row, now),
            _ => None,
        };
        if let Some(waited) = waited {
            self.counters.tally.acknowledged.observe(waited);
        }
        let may_be_named = self.doorway.may_name(report.order.account.domain());
        self.recent.note(report, waited, may_be_named, now);
    }

    /// The last minutes of NOTIFYs.
    pub(super) fn recently(&self) -> Value {
        self.recent.json(Instant::now())
    }

    /// The page that Prometheus reads.
    pub(super) fn metrics(&self) -> String {
        metrics::page(&self.reading())
    }

    fn reading(&self) -> Reading {
        let census = self.reconciler.census();
        Reading {
            process: Process::read(),
            counters: self.counters,
            mailboxes: self.mailboxes.len(),
            sip: *self.delivery.stats(),
            suspended_proxies: self.delivery.suspended(Instant::now()).len(),
            spool: self.spool.as_ref().map(Spool::health),
            ami: self.ami.as_ref().map(Ami::health),
            externnotify: self.externnotify.as_ref().map(Externnotify::stats),
            http: self.doorway.stats(),
            watch: self.watch.as_ref().map(Watch::health),
            reads: self.said.reads(),
            claims: self.said.claim_trouble(census.waiting).is_none(),
            ledger_works: self.ledger.state().error.is_none(),
            agent: self.presence.as_ref().map(Presence::reading),
            ways: self.ways_reading().collect(),
            webhook: self.webhook.as_ref().map(Webhook::health),
            capture: self.capture.as_ref().map(Capture::health),
            cluster: self.cluster.as_ref().map(Cluster::health),
            census,
        }
    }
}
