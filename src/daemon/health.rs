//! How the daemon is, in a few words: for `mwid status` and for the service manager.

use std::time::Instant;

use mwid_core::publication::Way;

use super::Daemon;
use crate::service_manager::ServiceManager;

impl Daemon {
    /// Tells this service manager how it is, from now on.
    #[must_use]
    pub fn report_to(mut self, manager: ServiceManager) -> Self {
        self.manager = manager;
        self
    }

    /// A turn of the loop begins.
    pub(super) fn tick(&mut self, now: Instant) {
        self.manager.alive(now);
        self.watch_progress(now);
        if self.manager.wants_status(now) {
            let status = self.headline();
            self.manager.status(status);
        }
    }

    /// One line: how much there is, how much is left to do, and what is wrong.
    pub(super) fn headline(&self) -> String {
        let backlog = self.reconciler.backlog();
        let mut line = format!("{} accounts, {} phones", backlog.accounts, backlog.dialogs);
        match backlog.waiting {
            0 => line.push_str(", all told"),
            waiting => line.push_str(&format!(", {waiting} to be told")),
        }
        let database = self.said.database().map(|error| format!("database: {error}"));
        for trouble in database.into_iter().chain(self.troubles(None)) {
            line.push_str("; ");
            line.push_str(&trouble);
        }
        line
    }

    /// What is wrong but the database, each in a few words. `waiting` accounts are left to be told;
    /// where they were not counted, nothing is said of claims.
    pub(super) fn troubles(&self, waiting: Option<usize>) -> Vec<String> {
        let words = |is_so: bool, what: &str| is_so.then(|| what.to_owned());
        let cluster = self.cluster.as_ref().is_some_and(|it| it.health().error.is_some());
        let all = [
            self.spool.as_ref().and_then(|spool| spool.health().trouble()),
            self.ami.as_ref().and_then(|ami| ami.health().trouble()),
            self.watch.as_ref().and_then(|watch| watch.health().trouble()),
            waiting.and_then(|waiting| self.said.claim_trouble(waiting)),
            self.said.users.trouble(),
            self.said.storing.trouble(),
            self.webhook.as_ref().and_then(|webhook| webhook.health().trouble()),
            words(cluster, "the cluster's tables cannot be used"),
            words(self.said.reload_refused, "the last reload was refused"),
            words(self.ledger.state().error.is_some(), "the ledger cannot be written"),
        ];
        // A way that is not used any more may still have something to remove.
        let uses =
            |way| self.config.delivery.uses(way) || self.reconciler.tallies()[way as usize].1 > 0;
        let failing = |way: &Way| self.said.failing.of(*way).is_some() && uses(*way);
        let ways = Way::ALL.into_iter().filter(failing);
        let ways = ways.map(|way| format!("publishing by {way} fails"));
        let silent = self.delivery.suspended(Instant::now());
        let silent = silent.into_iter().map(|proxy| format!("{proxy} does not answer"));
        all.into_iter().flatten().chain(ways).chain(silent).collect()
    }
}
