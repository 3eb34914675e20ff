//! Whom mwid asks or tells beside the phones, after a reload.

use std::sync::Arc;

use super::Daemon;
use crate::capture::Capture;
use crate::config::Config;
use crate::delivery::Publishers;
use crate::random;
use crate::source::ask::Asker;
use crate::webhook::Webhook;

/// Those that another configuration names, where it names others.
pub(super) struct Clients {
    asker: Option<Asker>,
    publishers: Option<Publishers>,
    /// Another one, or none any more.
    webhook: Option<Option<Webhook>>,
}

impl Clients {
    /// Makes them all, before any takes the place of an old one.
    pub(super) fn prepare(
        old: &Config,
        new: &Config,
        publishers: &Publishers,
    ) -> Result<Self, String> {
        let is_hooked = new.webhook != old.webhook;
        let webhook = is_hooked.then(|| Webhook::start(new, random::number())).transpose();
        let asker = (is_hooked || new.sipx != old.sipx).then(|| Asker::new(new)).transpose();
        let is_other = !Publishers::are_same(old, new);
        let publishers = is_other.then(|| Publishers::new(new, Some((publishers, old))));
        Ok(Self {
            asker: asker.map_err(|error| error.to_string())?,
            publishers: publishers.transpose().map_err(|error| error.to_string())?,
            webhook: webhook.map_err(|error| error.to_string())?,
        })
    }
}

impl Daemon {
    pub(super) fn replace_clients(
        &mut self,
        clients: Clients,
        new: &Config,
        changed: &mut Vec<&'static str>,
    ) {
        if let Some(asker) = clients.asker {
            self.asker = asker;
        }
        if let Some(publishers) = clients.publishers {
            self.publishers = Arc::new(publishers);
            self.reconciler.hurry();
        }
        if let Some(webhook) = clients.webhook {
            if let (Some(new), Some(old)) = (&webhook, &self.webhook) {
                new.adopt(old);
            }
            self.webhook = webhook;
        }
        let old = &self.config;
        if new.capture != old.capture {
            self.capture = Capture::start(&new.capture);
        }
        for (name, is_other) in [
            ("[opensips-mi]", new.opensips_mi != old.opensips_mi),
            ("[kamailio-rpc]", new.kamailio_rpc != old.kamailio_rpc),
            ("[sipx]", new.sipx != old.sipx),
            ("[webhook]", new.webhook != old.webhook),
            ("[capture]", new.capture != old.capture),
        ] {
            if is_other {
                changed.push(name);
            }
        }
    }
}
