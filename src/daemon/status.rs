//! `mwid status`: one snapshot of everything.

use std::time::Instant;

use mwid_core::publication::Way;
use mwid_core::reconciler::Census;
use serde_json::{Value, json};

use super::Daemon;
use super::ways::WayStatus;
use crate::capture::Capture;
use crate::cluster::Health;
use crate::control::Answer;
use crate::dialogs::watch::Watch;
use crate::dialogs::{Probe, StoreError};
use crate::source::ami::Ami;
use crate::source::externnotify::Externnotify;
use crate::source::spool::{SpoolHealth, Subject};
use crate::webhook::Webhook;

/// What the loop knows; the database is asked beside it.
pub(super) struct Snapshot {
    database: String,
    census: Census,
    suspended: Vec<String>,
    in_flight: usize,
    ways: Vec<WayStatus>,
    /// Each source, and how it is.
    sources: Vec<(&'static str, String, Value)>,
    /// `None` where no phone is told by NOTIFY.
    watch: Option<(String, Value)>,
    /// What is wrong but the database.
    troubles: Vec<String>,
    cluster: Option<(Health, usize)>,
    data: Value,
}

impl Daemon {
    /// Names the accounts and mailboxes of those domains alone that `may_name` lets through.
    pub(super) fn snapshot(&self, may_name: impl Fn(&str) -> bool) -> Snapshot {
        let census = self.reconciler.census();
        let suspended = self.delivery.suspended(Instant::now());
        let spool = self.spool_health(&may_name);
        let ami = self.ami.as_ref().map(Ami::health);
        let unused = || ("spool", "not used".to_owned(), Value::Null);
        let spool_line = spool.map_or_else(unused, |it| ("spool", it.to_string(), json!(it)));
        let ami_line = ami.map(|it| ("ami", it.to_string(), json!(it)));
        let http_line = self.doorway.stats().map(|it| ("http", it.to_string(), json!(it)));
        let webhook = self.webhook.as_ref().map(Webhook::health);
        let webhook_line = webhook.map(|it| ("webhook", it.to_string(), json!(it)));
        let watch = self.watch.as_ref().map(Watch::health);
        let capture = self.capture.as_ref().map(Capture::health);
        let capture_line = capture.map(|it| ("capture", it.to_string(), json!(it)));
        let ledger = self.ledger.state();
        let data = json!({
            "ledger": { "path": ledger.path, "error": ledger.error },
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "socket": self.transport.local().to_string(),
            "proxies": self.proxies(),
            "suspended_proxies": suspended,
            "mailboxes": self.mailboxes.len(),
            "lamps": {
                "accounts": census.accounts, "waiting": census.waiting, "dialogs": census.dialogs,
                "delivered": census.delivered, "in_flight": census.in_flight, "dead": census.dead,
            },
            "publications": {
                "known": census.publications, "accepted": census.published,
                "waiting": census.publications.saturating_sub(census.published),
            },
            "sip": self.sip_facts(),
            "externnotify": self.externnotify.as_ref().map(Externnotify::stats),
            "counters": self.counters,
            "configuration": { "path": self.path, "digest": self.config.digest() },
            "debug": self.debug.is_on(),
            "debug_accounts": self.debugged(&may_name),
        });
        Snapshot {
            database: self.config.database.url.to_string(),
            census,
            suspended,
            ways: self.ways_status(),
            in_flight: self.delivery.in_flight(),
            sources: [
                Some(spool_line),
                ami_line,
                http_line,
                self.agent_line(),
                webhook_line,
                capture_line,
            ]
            .into_iter()
            .flatten()
            .collect(),
            watch: watch.map(|watch| (watch.to_string(), json!(watch))),
            troubles: self.troubles(Some(census.waiting)),
            cluster: self.cluster.as_ref().map(|cluster| (cluster.health(), census.accounts)),
            data,
        }
    }
}

impl Daemon {
    fn sip_facts(&self) -> Value {
        let sip = self.delivery.stats();
        json!({
            "notifies": sip.started, "copies": sip.copies, "answers": sip.answers,
            "timed_out": sip.timed_out, "unreachable": sip.unreachable,
            "not_sent": sip.not_sent, "strays": sip.strays,
            "requests": sip.requests, "garbage": sip.garbage,
        })
    }

    fn debugged(&self, may_name: impl Fn(&str) -> bool) -> Vec<String> {
        let shown = self.debug.accounts().filter(|account| may_name(account.domain()));
        shown.map(ToString::to_string).collect()
    }

    fn spool_health(&self, may_name: impl Fn(&str) -> bool) -> Option<SpoolHealth> {
        let is_shown = |subject: &Subject| self.is_of_domain(subject, &may_name);
        self.spool.as_ref().map(|spool| spool.health_of(is_shown))
    }

    /// Whether a lamp of such a domain depends on it.
    fn is_of_domain(&self, subject: &Subject, may_name: impl Fn(&str) -> bool) -> bool {
        match subject {
            Subject::Root => true,
            Subject::Context(context) => {
                let contexts = &self.config.accounts.contexts;
                let mapped = contexts.iter().find(|(name, _)| **name == **context);
                may_name(mapped.map_or(context, |(_, domain)| domain))
            }
            Subject::Mailbox(mailbox) => {
                let accounts = self.mailboxes.accounts(mailbox);
                accounts.iter().any(|account| may_name(account.domain()))
            }
        }
    }

    /// The proxies, where anything goes to them.
    fn proxies(&self) -> Vec<String> {
        let publishes = self.config.delivery.uses(Way::Publish);
        let is_asked = self.watch.is_some() || publishes && self.config.publish.server.is_empty();
        let proxies = self.config.general.proxy.iter().filter(|_| is_asked);
        proxies.map(ToString::to_string).collect()
    }
}

/// The first line is res_zonkey_mwi's; the exit code is 1 when the database cannot be used.
pub(super) fn answer(snapshot: Snapshot, probe: Option<Result<Probe, StoreError>>) -> Answer {
    let failure = probe.as_ref().and_then(|probe| probe.as_ref().err());
    let enabled = failure.is_none();
    let mut lines = vec![format!("Module {}", if enabled { "ENABLED" } else { "DISABLED" })];
    let database = failure.map(|_| "the database cannot be used".to_owned());
    // In a few words each: the lines of each part say more.
    let troubles: Vec<_> = database.into_iter().chain(snapshot.troubles).collect();
    if !troubles.is_empty() {
        lines.push(format!("  TROUBLE: {}", troubles.join("; ")));
    }
    let (census, in_flight) = (snapshot.census, snapshot.in_flight);
    let Snapshot { database, suspended, ways, sources, watch, cluster, mut data, .. } = snapshot;
    data["troubles"] = json!(troubles);
    lines.push(format!("  mwid {} (pid {})", env!("CARGO_PKG_VERSION"), std::process::id()));
    let (line, facts) = database_line(&database, probe.as_ref());
    lines.push(line);
    data["database"] = facts;
    let tells_dialogs = watch.is_some();
    if let Some((text, health)) = watch {
        lines.push(format!("  subscriptions: {text}"));
        data["watch"] = health;
    }
    for (name, text, health) in sources {
        lines.push(format!("  {name}: {text}"));
        if !health.is_null() {
            data[name] = health;
        }
    }
    let mut code = u8::from(!enabled);
    if let Some((health, owned)) = cluster {
        lines.push(format!("  cluster: {health}, {owned} accounts are told here"));
        code |= u8::from(health.error.is_some());
        data["cluster"] = json!(health);
        data["cluster"]["owned"] = json!(owned);
    }
    if let Some(error) = data["ledger"]["error"].as_str() {
        lines.push(format!("  ledger: cannot be written: {error}"));
    }
    if tells_dialogs || data["proxies"][0].is_string() {
        lines.push(proxy_line(&data, &suspended));
    }
    lines.push(format!(
        "  lamps: {} accounts, {} phones seen, {} of them up to date, {} gone by their own word, {in_flight} NOTIFYs in flight, {} accounts waiting",
        census.accounts, census.dialogs, census.delivered, census.dead, census.waiting
    ));
    data["publications"]["ways"] = ways.iter().map(|way| way.data.clone()).collect();
    lines.extend(ways.into_iter().map(|way| way.line));
    data["enabled"] = json!(enabled);
    Answer { text: lines.join("\n"), data, code }
}

/// The line of the database, and the same as facts.
fn database_line(url: &str, probe: Option<&Result<Probe, StoreError>>) -> (String, Value) {
    match probe {
        None => ("  database: not used, no phone is told by NOTIFY".to_owned(), Value::Null),
        Some(Ok(probe)) => (
            format!(
                "  database: {url}, {}, {} schema, table {}",
                probe.server, probe.flavour, probe.table
            ),
            json!({
                "url": url, "server": probe.server,
                "flavour": probe.flavour.to_string(), "table": probe.table,
            }),
        ),
        Some(Err(error)) => {
            (format!("  database: {error}"), json!({ "url": url, "error": error.to_string() }))
        }
    }
}

fn proxy_line(data: &Value, suspended: &[String]) -> String {
    let proxies = data["proxies"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let proxies = proxies.collect::<Vec<_>>().join(", ");
    match suspended.is_empty() {
        _ if proxies.is_empty() => "  proxy: none, NOTIFYs go where their dialogs lead".to_owned(),
        true => format!("  proxy: {proxies}"),
        false => format!("  proxy: {proxies}; not answering: {}", suspended.join(", ")),
    }
}
