//! The agent in `mwid status` and in the metrics.

use serde_json::{Value, json};

use super::Presence;
use super::sweep::Drain;
use crate::config::Config;
use crate::daemon::Daemon;
use crate::metrics;

impl Daemon {
    /// The agent as a line of `mwid status`.
    pub(in crate::daemon) fn agent_line(&self) -> Option<(&'static str, String, Value)> {
        self.presence.as_ref().map(|presence| presence.line(&self.config))
    }
}

impl Presence {
    /// For the metrics.
    pub(in crate::daemon) fn reading(&self) -> metrics::Agent {
        metrics::Agent { subscriptions: self.rows, stats: *self.agent.stats() }
    }

    /// For `mwid status`: in words, and as data.
    fn line(&self, config: &Config) -> (&'static str, String, Value) {
        let stats = self.agent.stats();
        let listen = config.agent.listen.as_ref().map(ToString::to_string).unwrap_or_default();
        let drain = match self.drain {
            Drain::No => String::new(),
            Drain::UnderWay(ended) => format!(", draining: {ended} ended so far"),
            Drain::Done(ended) => format!(", drained: {ended} were ended, new ones are refused"),
        };
        let text = format!(
            "udp:{listen}, {} subscriptions, {} requests, {} refused, {} dropped{drain}",
            self.rows,
            stats.requests,
            stats.refused,
            stats.flooded + stats.dropped
        );
        let data = json!({
            "listen": format!("udp:{listen}"),
            "subscriptions": self.rows,
            "draining": self.drain != Drain::No,
            "requests": stats.requests, "copies": stats.copies, "flooded": stats.flooded,
            "hasty": stats.hasty, "dropped": stats.dropped, "begun": stats.begun, "refreshed": stats.refreshed,
            "ended": stats.ended, "refused": stats.refused,
            "wrong_credentials": stats.wrong_credentials,
        });
        ("agent", text, data)
    }
}
