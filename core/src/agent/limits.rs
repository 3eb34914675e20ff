//! How often anybody may ask.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::pace::Rate;

/// Sources, and watchers behind trusted proxies, whose rate is followed at a time.
const MAX_FOLLOWED: usize = 10_000;

/// Between two looks for those that are quiet and can be forgotten. A look costs as much as some
/// hundred requests, and a flood from made-up addresses would have one for each.
const TIDY: Duration = Duration::from_secs(1);

/// Requests a second of each source that is not trusted, and of each watcher that a trusted one
/// speaks for: a proxy brings the requests of all its phones, so it has no rate of its own.
#[derive(Debug)]
pub(super) struct Limits {
    trusted: Vec<IpNet>,
    sources: Rates<IpAddr>,
    /// By a hash of user and domain, so that long names take no more room than short ones.
    watchers: Rates<u64>,
    hasher: RandomState,
}

impl Limits {
    pub(super) fn new(rate: u32, trusted: Vec<IpNet>) -> Self {
        // An account may have many phones, and a power cut makes all of them ask at once.
        let watchers = Rates::new(Rate::with_burst(rate, rate));
        let sources = Rates::new(Rate::new(rate));
        Self { trusted, sources, watchers, hasher: RandomState::new() }
    }

    /// Whether a request of this source is believed to come from who its From says.
    pub(super) fn is_trusted(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        self.trusted.iter().any(|network| network.contains(&source))
    }

    /// Whether one more datagram of this source may be looked at. When more sources are heard than
    /// can be followed, those that are not known wait.
    pub(super) fn admits(&mut self, source: IpAddr, now: Instant) -> bool {
        self.is_trusted(source) || self.sources.take(line(source), now).unwrap_or(false)
    }

    /// Whether one more request of this watcher, for whom a trusted source speaks, may be carried
    /// out. When there are more than can be followed, all may: the proxy knows its own.
    pub(super) fn admits_watcher(&mut self, user: &str, domain: &str, now: Instant) -> bool {
        let watcher = self.hasher.hash_one((user, domain.to_ascii_lowercase()));
        self.watchers.take(watcher, now).unwrap_or(true)
    }
}

/// Whose address it is. With IPv6 every line has at least a /64, and all of its addresses.
fn line(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            Ipv6Addr::from(network).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// A bounded number of token buckets.
#[derive(Debug)]
struct Rates<K> {
    /// What each begins with.
    full: Rate,
    followed: HashMap<K, Rate>,
    tidied: Option<Instant>,
}

impl<K: Eq + Hash> Rates<K> {
    fn new(full: Rate) -> Self {
        Self { full, followed: HashMap::new(), tidied: None }
    }

    /// Takes a token of this one; `None` when it is a new one, and there are too many.
    fn take(&mut self, key: K, now: Instant) -> Option<bool> {
        if let Some(rate) = self.followed.get_mut(&key) {
            return Some(rate.take(now));
        }
        if self.followed.len() >= MAX_FOLLOWED {
            self.tidy(now);
            if self.followed.len() >= MAX_FOLLOWED {
                return None;
            }
        }
        Some(self.followed.entry(key).or_insert_with(|| self.full.clone()).take(now))
    }

    /// Forgets those whose bucket is full again: they are as if they had never come.
    fn tidy(&mut self, now: Instant) {
        if self.tidied.is_none_or(|tidied| now >= tidied + TIDY) {
            self.tidied = Some(now);
            self.followed.retain(|_, rate| !rate.is_full(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_a_rate_and_a_trusted_one_has_none() {
        let now = Instant::now();
        let mut limits = Limits::new(100, vec!["10.0.0.0/8".parse().unwrap()]);
        let stranger = "192.0.2.1".parse().unwrap();
        assert_eq!((0..1000).filter(|_| limits.admits(stranger, now)).count(), 10);
        assert!(limits.admits("192.0.2.2".parse().unwrap(), now), "another source");
        assert!(limits.admits(stranger, now + Duration::from_millis(10)));
        let proxy = "10.1.2.3".parse().unwrap();
        assert_eq!((0..1000).filter(|_| limits.admits(proxy, now)).count(), 1000);
        assert!(limits.is_trusted("::ffff:10.1.2.3".parse().unwrap()), "the same address");
    }

    #[test]
    fn all_addresses_of_an_ipv6_network_of_64_bits_are_one_source() {
        let now = Instant::now();
        let mut limits = Limits::new(100, Vec::new());
        let mut admitted = |address: String| limits.admits(address.parse().unwrap(), now);
        assert_eq!((0..1000).filter(|n| admitted(format!("2001:db8::{n:x}"))).count(), 10);
        assert!(admitted("2001:db8:0:1::1".into()), "another network");
        assert_eq!((0..1000).filter(|n| admitted(format!("::ffff:192.0.2.{}", n % 2))).count(), 20);
        assert!(!admitted("192.0.2.1".into()), "the same address");
        assert_eq!(limits.sources.followed.len(), 4);
    }

    #[test]
    fn each_watcher_behind_a_proxy_has_a_rate() {
        let now = Instant::now();
        let mut limits = Limits::new(100, Vec::new());
        let mut admitted = |user, domain, now| {
            (0..1000).filter(|_| limits.admits_watcher(user, domain, now)).count()
        };
        assert_eq!(admitted("202", "a.org", now), 100, "the phones of a whole account at once");
        assert_eq!(admitted("202", "A.org", now), 0, "a domain means the same in any case");
        assert_eq!(admitted("202", "b.org", now), 100);
        assert_eq!(admitted("202", "a.org", now + Duration::from_millis(100)), 10);
    }

    #[test]
    fn sources_are_bounded_and_quiet_ones_make_room() {
        let now = Instant::now();
        let mut limits = Limits::new(10, Vec::new());
        let source = |n: u32| IpAddr::from(n.to_be_bytes());
        let count = u32::try_from(MAX_FOLLOWED).unwrap();
        assert!((0..count).all(|n| limits.admits(source(n), now)));
        assert!(!limits.admits(source(count), now));
        assert!(!limits.admits(source(count), now + TIDY / 2), "it is not looked for each time");
        assert!(limits.admits(source(count), now + TIDY));
        assert!(limits.sources.followed.len() <= MAX_FOLLOWED);
        assert!(
            !limits.admits(source(count), now + TIDY),
            "and those that are not keep their rate"
        );
    }
}
