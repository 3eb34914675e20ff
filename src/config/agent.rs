//! What `[agent]` makes of other sections, and what it cannot go with.

use super::error::{ConfigError, Problem};
use super::parse::Given;
use super::{Cleanup, Config, FindBy, NextHop, Way};

/// Whether NOTIFYs find their way without `proxy`.
pub(super) fn goes_without_proxy(config: &Config, given: &Given) -> bool {
    match config.general.next_hop {
        NextHop::Dialog => true,
        NextHop::Proxy => {
            config.agent.listen.is_some() && given.get("general", "next_hop").is_none()
        }
        NextHop::SocketInfo => false,
    }
}

/// What follows from `[agent] listen` for the other sections.
pub(super) fn settle(config: &mut Config, given: &Given) {
    let Some(listen) = config.agent.listen.clone() else { return };
    let general = &mut config.general;
    if general.proxy.is_empty() && given.get("general", "next_hop").is_none() {
        general.next_hop = NextHop::Dialog;
    }
    general.bindport = listen.port;
    if general.bindip.is_none() {
        let address = listen.to_string();
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        general.bindip = Some(host.to_owned());
    }
    if given.get("general", "cleanup").is_none() {
        // The table is the agent's own, and a notifier forgets a subscription whose phone does not
        // know it (RFC 6665 §4.2.2).
        config.general.cleanup = Cleanup::Delete;
    }
    if given.get("timers", "settle").is_none() {
        // Nobody else sends these phones a NOTIFY.
        config.timers.settle = std::time::Duration::ZERO;
    }
}

/// What is wrong with an agent whose keys are right one by one.
pub(super) fn contradictions(config: &Config, given: &Given) -> Vec<ConfigError> {
    let agent = &config.agent;
    let mut errors = Vec::new();
    let mut push = |section, key, problem| {
        if !given.refused(section, key) {
            errors.push(ConfigError { line: given.line(section, key), problem });
        }
    };
    for (smaller, greater, wrong) in [
        ("min_expires", "expires", agent.min_expires > agent.expires),
        ("expires", "max_expires", agent.expires > agent.max_expires),
    ] {
        if wrong && !given.refused("agent", smaller) {
            let key = if given.line("agent", greater).is_some() { greater } else { smaller };
            push("agent", key, Problem::Order { section: "agent", smaller, greater });
        }
    }
    let Some(listen) = &agent.listen else { return errors };
    let nobody_known = agent.subscribers.is_none() && config.watchers.users.is_empty();
    let doubt = ["trusted", "realm", "subscribers"].iter().any(|key| given.refused("agent", key));
    match (&agent.realm, nobody_known) {
        _ if doubt => {}
        (None, true) if agent.trusted.is_empty() => {
            push("agent", "listen", Problem::NobodyMaySubscribe);
        }
        (None, false) => push("agent", "listen", Problem::NoRealm),
        (Some(_), true) => push("agent", "realm", Problem::NobodyInRealm),
        (None | Some(_), _) => {}
    }
    let anywhere = listen.host.parse().is_ok_and(|host: std::net::IpAddr| host.is_unspecified());
    if anywhere && config.general.bindip.is_none() {
        push("agent", "listen", Problem::ListenAnywhere { listen: listen.to_string() });
    }
    if config.general.bindport != 0 && config.general.bindport != listen.port {
        push("general", "bindport", Problem::TwoPorts);
    }
    if agent.max_per_account > config.database.max_dialogs {
        push("agent", "max_per_account", Problem::PerAccount);
    }
    if !config.delivery.uses(Way::Notify) {
        push("delivery", "use", Problem::NoNotify);
    }
    if config.database.find_by != FindBy::Presentity {
        push("database", "find_by", Problem::FindBy);
    }
    errors
}
