//! The sources: started, replaced after a reload, stopped.

use mwid_core::mailboxes::Mailboxes;

use super::{Daemon, lasts};
use crate::config::Config;
use crate::random;
use crate::source::ami::Ami;
use crate::source::spool::Spool;

impl Daemon {
    pub(super) fn replace_spool(&mut self, new: &Config) {
        self.spool = None;
        let observe = self.observe.clone();
        let past = lasts::expected(&self.ledger, &self.given);
        self.spool = new.spool.enabled.then(|| Spool::start(&new.spool, past, observe));
        self.mailboxes.doubt();
        if self.spool.is_some() {
            return;
        }
        // No count is to be waited for any more.
        if let Some(cluster) = &self.cluster {
            return cluster.no_spool();
        }
        self.hand_over(Mailboxes::open);
        self.darken_abandoned();
    }

    /// Where there is no spool the manager is also asked about what was in one.
    pub(super) fn replace_ami(&mut self, new: &Config) {
        self.ami = None;
        let mut known: Vec<_> = self.given.keys().cloned().collect();
        if !new.spool.enabled {
            known.extend(lasts::expected(&self.ledger, &self.given).mailboxes);
        }
        self.ami = Ami::start(&new.ami, known, self.call.clone(), random::number());
    }

    /// Stops the sources and takes in what they have said.
    pub(super) fn close_sources(&mut self) {
        self.ami = None;
        self.externnotify = None;
        while let Ok(call) = self.calls.try_recv() {
            self.call(call);
        }
        self.spool = None;
        while let Ok(observation) = self.observations.try_recv() {
            self.observe(observation);
        }
    }
}
