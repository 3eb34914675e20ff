//! Where NOTIFYs and PUBLISHs go first: the proxies and presence servers, their addresses, and which of them is worth trying.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use mwid_core::dialog::Dialog;
use mwid_core::notify::{Hop, route_uri};

use crate::config::{HostPort, NextHop};
use crate::transport::Transport;

/// How long the address of a name is believed, and our own that routes to it: both are looked up
/// when they are used, but not for every NOTIFY of a burst.
const ADDRESS_LIFE: Duration = Duration::from_secs(10);

/// How long a proxy that failed stands behind the others, unless it said how long.
const SUSPENSION: Duration = Duration::from_secs(30);

/// `socket_info` comes from a database: at most this many next hops are remembered.
const MAX_HOPS: usize = 1024;

/// A next hop whose address is known.
pub(super) type Resolved = (SocketAddr, Arc<Hop>);

/// What is known of a next hop's address.
pub(super) enum Lookup {
    Ready(Resolved),
    /// Somebody must resolve the name and call [`Hops::handle_resolved`].
    Start,
    /// That is already under way.
    Wait,
}

#[derive(Debug, Default)]
struct State {
    /// And until when that is believed.
    resolved: Option<(Resolved, Instant)>,
    resolving: bool,
    suspended_until: Option<Instant>,
    heard: Option<Instant>,
    /// Said once, until it works again.
    failing: bool,
}

/// The proxies in order of preference, and the other next hops that rows named.
#[derive(Debug)]
pub(super) struct Hops {
    proxies: Vec<Arc<HostPort>>,
    /// Where PUBLISH goes.
    servers: Vec<Arc<HostPort>>,
    next_hop: NextHop,
    states: HashMap<Arc<HostPort>, State, RandomState>,
    /// What is wrong with one of them, to be said.
    failures: VecDeque<String>,
}

impl Hops {
    pub(super) fn new(proxies: Vec<HostPort>, servers: Vec<HostPort>, next_hop: NextHop) -> Self {
        let [proxies, servers] =
            [proxies, servers].map(|names| names.into_iter().map(Arc::new).collect());
        let (states, failures) = (HashMap::default(), VecDeque::new());
        Self { proxies, servers, next_hop, states, failures }
    }

    /// Where the NOTIFY of a dialog goes now; `None` when there is nowhere to go.
    pub(super) fn choose(&self, dialog: &Dialog, now: Instant) -> Option<Arc<HostPort>> {
        let own = match self.next_hop {
            NextHop::SocketInfo => dialog.socket_info.as_deref().and_then(udp_socket),
            NextHop::Dialog => of_dialog(dialog),
            NextHop::Proxy => None,
        };
        own.map(Arc::new).or_else(|| self.best(&self.proxies, now))
    }

    /// Where a PUBLISH goes now; `None` when no server is configured any more.
    pub(super) fn choose_server(&self, now: Instant) -> Option<Arc<HostPort>> {
        self.best(&self.servers, now)
    }

    /// Whether a next hop is one of the configured proxies, and not what a row named.
    pub(super) fn is_proxy(&self, name: &HostPort) -> bool {
        has(&self.proxies, name)
    }

    /// The first that is not suspended; when all are, the one that is so the shortest.
    fn best(&self, names: &[Arc<HostPort>], now: Instant) -> Option<Arc<HostPort>> {
        if let [only] = names {
            return Some(Arc::clone(only));
        }
        let pause = |name: &&Arc<HostPort>| self.suspended_until(name, now).map(|it| it - now);
        names.iter().min_by_key(pause).cloned()
    }

    fn suspended_until(&self, name: &HostPort, now: Instant) -> Option<Instant> {
        self.states.get(name)?.suspended_until.filter(|until| *until > now)
    }

    /// Whether another try could go to a proxy, or for a PUBLISH to a server, that is not known to
    /// be down.
    pub(super) fn has_other(&self, failed: &HostPort, is_publish: bool, now: Instant) -> bool {
        let names = if is_publish { &self.servers } else { &self.proxies };
        has(names, failed) && names.iter().any(|name| self.suspended_until(name, now).is_none())
    }

    /// Where NOTIFYs and PUBLISHs go, each once.
    fn configured(&self) -> impl Iterator<Item = &HostPort> {
        let others = self.servers.iter().filter(|server| !has(&self.proxies, server));
        self.proxies.iter().chain(others).map(|name| &**name)
    }

    /// The proxies that are suspended now, for `status`.
    pub(super) fn suspended(&self, now: Instant) -> Vec<String> {
        let suspended = |proxy: &&HostPort| self.suspended_until(proxy, now).is_some();
        self.configured().filter(suspended).map(ToString::to_string).collect()
    }

    /// The address of a next hop.
    pub(super) fn look_up(
        &mut self,
        name: &Arc<HostPort>,
        now: Instant,
        transport: &Transport,
    ) -> Lookup {
        if let Some((resolved, until)) = self.states.get(name).and_then(|it| it.resolved.as_ref())
            && *until > now
        {
            return Lookup::Ready(resolved.clone());
        }
        if self.states.len() >= MAX_HOPS && !self.states.contains_key(name) {
            let (proxies, servers) = (&self.proxies, &self.servers);
            self.states
                .retain(|name, state| state.resolving || has(proxies, name) || has(servers, name));
        }
        let state = self.states.entry(Arc::clone(name)).or_default();
        if let Ok(address) = name.host.parse::<IpAddr>() {
            let resolved = describe(name, SocketAddr::new(address, name.port), transport);
            state.resolved = Some((resolved.clone(), now + ADDRESS_LIFE));
            return Lookup::Ready(resolved);
        }
        if std::mem::replace(&mut state.resolving, true) { Lookup::Wait } else { Lookup::Start }
    }

    /// A name was looked up. Gives the hop, or nothing when there is no address to send to. Nothing is
    /// said of a name that only a former configuration had looked up.
    pub(super) fn handle_resolved(
        &mut self,
        name: &Arc<HostPort>,
        found: std::io::Result<Vec<SocketAddr>>,
        now: Instant,
        transport: &Transport,
    ) -> Option<Resolved> {
        let state = self.states.get_mut(name)?;
        if !std::mem::replace(&mut state.resolving, false) {
            return None;
        }
        let problem = match found {
            Ok(addresses) => match addresses.into_iter().find(|to| transport.reaches(*to)) {
                Some(to) => {
                    let resolved = describe(name, to, transport);
                    state.resolved = Some((resolved.clone(), now + ADDRESS_LIFE));
                    return Some(resolved);
                }
                None => "has no address of the family that mwid's socket has".to_owned(),
            },
            Err(error) => format!("does not resolve: {error}"),
        };
        self.suspend(name, None, now, &problem);
        None
    }

    /// The next hop failed: it stands behind the others for a while, and its name is resolved
    /// again. Said once.
    pub(super) fn suspend(
        &mut self,
        name: &Arc<HostPort>,
        pause: Option<Duration>,
        now: Instant,
        why: &str,
    ) {
        // One phone that is switched off is no matter for the log.
        let worth_a_word =
            self.next_hop != NextHop::Dialog || self.configured().any(|it| *it == **name);
        let state = self.states.entry(Arc::clone(name)).or_default();
        state.suspended_until = Some(now + pause.unwrap_or(SUSPENSION));
        state.resolved = None;
        if worth_a_word && !std::mem::replace(&mut state.failing, true) {
            self.failures.push_back(format!("the proxy {name} {why}"));
        }
    }

    /// What is wrong with a next hop, once until it works again.
    pub(super) fn poll_failure(&mut self) -> Option<String> {
        self.failures.pop_front()
    }

    /// The next hop answered, whatever it said.
    pub(super) fn heard(&mut self, name: &HostPort, now: Instant) {
        let Some(state) = self.states.get_mut(name) else { return };
        state.heard = Some(now);
        state.suspended_until = None;
        if std::mem::replace(&mut state.failing, false) {
            tracing::info!(proxy = %name, "the proxy {name} answers again");
        }
    }

    /// Whether the next hop answered anything since then. One that did is up: a NOTIFY that had
    /// no answer is then the phone's affair.
    pub(super) fn heard_since(&self, name: &HostPort, since: Instant) -> bool {
        self.states.get(name).and_then(|state| state.heard).is_some_and(|heard| heard >= since)
    }
}

fn has(names: &[Arc<HostPort>], name: &HostPort) -> bool {
    names.iter().any(|it| **it == *name)
}

fn describe(name: &HostPort, to: SocketAddr, transport: &Transport) -> Resolved {
    let hop = Hop {
        authority: name.to_string(),
        resolved: to.to_string(),
        host: transport.host_toward(to),
        port: transport.local().port(),
    };
    (to, Arc::new(hop))
}

/// The first Route, or without one the remote target (RFC 3261 §12.2.1.1, §8.1.2). Looked up as an
/// address and no more: neither NAPTR nor SRV.
fn of_dialog(dialog: &Dialog) -> Option<HostPort> {
    let first = dialog.route_set.first().map(|entry| route_uri(entry));
    of_uri(first.unwrap_or(&dialog.remote_target))
}

/// Where a `sip:` URI leads over UDP: `maddr` where it has one, its host otherwise.
fn of_uri(uri: &str) -> Option<HostPort> {
    let (scheme, rest) = uri.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("sip") {
        return None;
    }
    let rest = rest.split_once('@').map_or(rest, |(_, host)| host);
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    let mut pieces = rest.split(';');
    let there: HostPort = pieces.next()?.parse().ok()?;
    let maddr = pieces.find_map(|piece| {
        let (name, value) = piece.split_once('=')?;
        name.eq_ignore_ascii_case("maddr").then_some(value)
    });
    match maddr {
        Some(host) => Some(HostPort { port: there.port, ..host.parse().ok()? }),
        None => Some(there),
    }
}

/// `udp:192.0.2.1:5060`, as both servers write `socket_info`. Other transports are not mwid's.
fn udp_socket(socket_info: &str) -> Option<HostPort> {
    let address: SocketAddr = socket_info.strip_prefix("udp:")?.parse().ok()?;
    Some(HostPort { host: address.ip().to_string(), port: address.port() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::General;
    use mwid_core::dialog::Row;

    fn name(text: &str) -> Arc<HostPort> {
        Arc::new(text.parse().unwrap())
    }

    fn hops(proxies: &[&str]) -> Hops {
        let proxies = proxies.iter().map(|proxy| proxy.parse().unwrap()).collect();
        Hops::new(proxies, Vec::new(), NextHop::Proxy)
    }

    fn best(hops: &Hops, now: Instant) -> Arc<HostPort> {
        hops.best(&hops.proxies, now).unwrap()
    }

    /// Runs with a socket on loopback.
    fn with_transport(test: impl FnOnce(&Transport)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let general = General { bindip: Some("127.0.0.1".into()), ..General::default() };
        test(&Transport::bind(&general).unwrap());
    }

    fn found(address: &str) -> std::io::Result<Vec<SocketAddr>> {
        Ok(vec!["[::1]:5060".parse().unwrap(), address.parse().unwrap()])
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_proxy_that_is_not_suspended_is_the_best() {
        let (mut hops, now) = (hops(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]), Instant::now());
        assert_eq!(best(&hops, now), name("192.0.2.1"));
        hops.suspend(&name("192.0.2.1"), Some(60 * SECOND), now, "is down");
        assert_eq!(best(&hops, now), name("192.0.2.2"));
        assert!(hops.has_other(&name("192.0.2.1"), false, now));
        hops.suspend(&name("192.0.2.2"), Some(20 * SECOND), now, "is down");
        hops.suspend(&name("192.0.2.3"), None, now, "is down");
        assert!(!hops.has_other(&name("192.0.2.3"), false, now));
        assert_eq!(best(&hops, now), name("192.0.2.2"), "all are: the one that is so the shortest");
        assert_eq!(hops.suspended(now).len(), 3);
        assert_eq!(best(&hops, now + 40 * SECOND), name("192.0.2.2"));
        assert_eq!(best(&hops, now + 61 * SECOND), name("192.0.2.1"));
    }

    #[test]
    fn a_proxy_that_answers_is_no_longer_suspended() {
        let (mut hops, now) = (hops(&["192.0.2.1", "192.0.2.2"]), Instant::now());
        hops.suspend(&name("192.0.2.1"), None, now, "is down");
        assert!(!hops.heard_since(&name("192.0.2.1"), now));
        hops.heard(&name("192.0.2.1"), now + SECOND);
        assert_eq!(best(&hops, now + SECOND), name("192.0.2.1"));
        assert!(hops.heard_since(&name("192.0.2.1"), now));
        assert!(!hops.heard_since(&name("192.0.2.1"), now + 2 * SECOND));
    }

    #[test]
    fn a_next_hop_that_is_no_proxy_has_no_other() {
        let hops = hops(&["192.0.2.1", "192.0.2.2"]);
        assert!(!hops.has_other(&name("192.0.2.9"), false, Instant::now()));
    }

    #[test]
    fn an_address_needs_no_look_up_and_stays() {
        with_transport(|transport| {
            let (mut hops, now) = (hops(&["127.0.0.1:5070"]), Instant::now());
            let proxy = name("127.0.0.1:5070");
            for at in [now, now + 3600 * SECOND] {
                let Lookup::Ready((to, hop)) = hops.look_up(&proxy, at, transport) else {
                    panic!("an address is known");
                };
                assert_eq!(to.to_string(), "127.0.0.1:5070");
                assert_eq!((hop.host.as_str(), hop.port), ("127.0.0.1", transport.local().port()));
            }
        });
    }

    #[test]
    fn via_follows_the_route_to_an_address() {
        with_transport(|transport| {
            let (mut hops, now) = (hops(&["127.0.0.1:5070"]), Instant::now());
            let mut host = |at, transport: &Transport| match hops.look_up(
                &name("127.0.0.1:5070"),
                at,
                transport,
            ) {
                Lookup::Ready((_, hop)) => hop.host.clone(),
                _ => panic!("an address is known"),
            };
            assert_eq!(host(now, transport), "127.0.0.1");
            // Seen from elsewhere, as after a change of the route.
            let general = General { bindip: Some("192.0.2.9".into()), ..General::default() };
            let moved = Transport::bind(&general).unwrap();
            assert_eq!(host(now + SECOND, &moved), "127.0.0.1", "believed for a while");
            assert_eq!(host(now + 11 * SECOND, &moved), "192.0.2.9");
        });
    }

    #[test]
    fn a_name_is_looked_up_once_for_all_who_wait_and_again_when_its_address_is_old() {
        with_transport(|transport| {
            let (mut hops, now) = (hops(&["proxy.example.com"]), Instant::now());
            let proxy = name("proxy.example.com");
            assert!(matches!(hops.look_up(&proxy, now, transport), Lookup::Start));
            assert!(matches!(hops.look_up(&proxy, now, transport), Lookup::Wait));
            let resolved = hops.handle_resolved(&proxy, found("127.0.0.1:5060"), now, transport);
            let (to, hop) = resolved.unwrap();
            assert_eq!(to.to_string(), "127.0.0.1:5060", "not the one of the other family");
            assert_eq!(hop.authority, "proxy.example.com:5060");
            assert!(matches!(hops.look_up(&proxy, now, transport), Lookup::Ready(_)));
            let later = now + 11 * SECOND;
            assert!(matches!(hops.look_up(&proxy, later, transport), Lookup::Start));
        });
    }

    #[test]
    fn a_name_without_an_address_is_suspended_and_looked_up_again_at_the_next_try() {
        with_transport(|transport| {
            let (mut hops, now) = (hops(&["proxy.example.com", "192.0.2.2"]), Instant::now());
            let proxy = name("proxy.example.com");
            let none = || Err(std::io::Error::other("no such name"));
            hops.look_up(&proxy, now, transport);
            assert!(hops.handle_resolved(&proxy, none(), now, transport).is_none());
            assert_eq!(best(&hops, now), name("192.0.2.2"));
            assert!(matches!(hops.look_up(&proxy, now, transport), Lookup::Start));
            let other_family = Ok(vec!["[::1]:5060".parse().unwrap()]);
            assert!(hops.handle_resolved(&proxy, other_family, now, transport).is_none());
            hops.look_up(&proxy, now, transport);
            let resolved = hops.handle_resolved(&proxy, found("127.0.0.1:5060"), now, transport);
            assert!(resolved.is_some());
        });
    }

    #[test]
    fn a_failure_makes_a_name_be_looked_up_again() {
        with_transport(|transport| {
            let (mut hops, now) = (hops(&["proxy.example.com"]), Instant::now());
            let proxy = name("proxy.example.com");
            hops.look_up(&proxy, now, transport);
            hops.handle_resolved(&proxy, found("127.0.0.1:5060"), now, transport);
            hops.suspend(&proxy, None, now, "does not listen");
            assert!(matches!(hops.look_up(&proxy, now, transport), Lookup::Start));
        });
    }

    #[test]
    fn next_hops_of_a_database_are_forgotten_before_they_fill_the_memory() {
        with_transport(|transport| {
            let (mut hops, now) = (hops(&["127.0.0.1"]), Instant::now());
            hops.suspend(&name("127.0.0.1"), None, now, "is down");
            for port in 1..5000 {
                hops.look_up(&name(&format!("127.0.0.1:{port}")), now, transport);
            }
            assert!(hops.states.len() <= MAX_HOPS);
            assert_eq!(hops.suspended(now).len(), 1, "the proxies are not forgotten");
        });
    }

    #[test]
    fn rfc3261_8_1_2_the_first_route_is_the_next_hop_or_else_the_remote_target() {
        let dialog = |routes: &[&str], target: &str| {
            let row = Row {
                presentity_uri: Some("sip:a@b".into()),
                from_domain: Some("b".into()),
                to_domain: Some("b".into()),
                to_tag: Some("t".into()),
                from_tag: Some("f".into()),
                callid: Some("c".into()),
                contact: Some(target.into()),
                record_route: Some(routes.join(", ")),
                expires: Some(1),
                local_contact: Some("sip:us".into()),
                ..Row::default()
            };
            Dialog::from_row(&row).unwrap()
        };
        let hops = Hops::new(Vec::new(), Vec::new(), NextHop::Dialog);
        let next = |routes: &[&str], target: &str| {
            hops.choose(&dialog(routes, target), Instant::now()).map(|hop| hop.to_string())
        };
        let hop = |text: &str| Some(text.to_owned());
        let routes = ["\"P\" <sip:proxy.example.com;lr>;x=1", "<sip:192.0.2.2;lr>"];
        assert_eq!(next(&routes, "sip:a@192.0.2.7"), hop("proxy.example.com:5060"));
        assert_eq!(next(&["<sip:u@[2001:db8::1]:5070;lr>"], "sip:a@h"), hop("[2001:db8::1]:5070"));
        assert_eq!(next(&[], "sip:a;b=c:pw@192.0.2.7:5062;ob?h=x"), hop("192.0.2.7:5062"));
        assert_eq!(next(&[], "sip:a@phone:5062;maddr=192.0.2.8"), hop("192.0.2.8:5062"));
        assert_eq!(next(&[], "sips:a@192.0.2.7"), None);
        assert_eq!(next(&[], "sip:a@[2001:db8::]x"), None);
    }

    #[test]
    fn socket_info_is_a_udp_address_or_nothing() {
        assert_eq!(udp_socket("udp:192.0.2.1:5060"), "192.0.2.1:5060".parse().ok());
        assert_eq!(udp_socket("udp:[2001:db8::1]:5060"), "[2001:db8::1]:5060".parse().ok());
        for none in ["tcp:192.0.2.1:5060", "udp:192.0.2.1", "192.0.2.1:5060", "", "udp:a.b:5060"] {
            assert_eq!(udp_socket(none), None, "{none}");
        }
    }
}
