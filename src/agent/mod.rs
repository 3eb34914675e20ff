//! What mwid's own presence agent ([`mwid_core::agent`]) needs of the outside: what the configuration
//! says about it, and who its users are. The loop drives it (`daemon`), its rows are in [`crate::dialogs`].

use std::collections::HashMap;
use std::time::Duration;

use mwid_core::agent::{Algorithm, Expiry, Permissions, Settings};

use crate::config::Config;

pub mod users;

/// What governs the agent; `None` without `[agent] listen`. `algorithms` are those that users have
/// secrets for.
#[must_use]
pub fn settings(config: &Config, algorithms: Vec<Algorithm>) -> Option<Settings> {
    let agent = &config.agent;
    let listen = agent.listen.as_ref()?;
    // The configuration puts the host of `listen` there when nothing else was said.
    let host = config.general.bindip.as_deref().unwrap_or(&listen.host);
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let shared = config.watchers.shared.iter().cloned().collect::<HashMap<_, _>>();
    Some(Settings {
        authority: format!("{host}:{}", listen.port),
        server: config.general.useragent.clone(),
        expiry: Expiry {
            min: seconds(agent.min_expires),
            default: seconds(agent.expires),
            max: seconds(agent.max_expires),
        },
        trusted: agent.trusted.clone(),
        realm: agent.realm.clone(),
        algorithms,
        nonce_lifetime: agent.nonce_lifetime.as_secs(),
        rate: agent.rate,
        permissions: Permissions { shared, own_box: agent.own_box.clone() },
        timer_j: config.timers.t1 * 64,
    })
}
