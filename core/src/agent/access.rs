//! Who may subscribe to what, and how often anybody may ask.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use ipnet::IpNet;

use crate::mailbox::Account;
use crate::pace::Rate;

/// Sources whose rate is followed. When there are more, those that are quiet are forgotten.
const MAX_SOURCES: usize = 10_000;

/// What a subscriber may watch beside its own account.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Permissions {
    /// Shared accounts, and who may watch each.
    pub shared: HashMap<Account, Vec<Account>>,
    /// Users that mean "my own account": `*97`.
    pub own_box: Vec<String>,
}

impl Permissions {
    /// The account that a watcher gets when it asks for `target`; `None` when it may not.
    #[must_use]
    pub fn resolve<'a>(&self, watcher: &'a Account, target: &'a Account) -> Option<&'a Account> {
        let shared = || self.shared.get(target).is_some_and(|all| all.contains(watcher));
        if self.own_box.iter().any(|user| user == target.user()) {
            // In another domain it is somebody else's box.
            (watcher.domain() == target.domain()).then_some(watcher)
        } else if watcher == target || shared() {
            Some(target)
        } else {
            None
        }
    }
}

/// Requests a second from each source that is not trusted; a proxy brings those of all phones.
#[derive(Debug)]
pub(super) struct Limits {
    rate: u32,
    trusted: Vec<IpNet>,
    sources: HashMap<IpAddr, Rate>,
}

impl Limits {
    pub(super) fn new(rate: u32, trusted: Vec<IpNet>) -> Self {
        Self { rate, trusted, sources: HashMap::new() }
    }

    /// Whether a request of this source is believed to come from who its From says.
    pub(super) fn is_trusted(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        self.trusted.iter().any(|network| network.contains(&source))
    }

    /// Whether one more request of this source may be looked at.
    pub(super) fn admit(&mut self, source: IpAddr, now: Instant) -> bool {
        if self.is_trusted(source) {
            return true;
        }
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&source) {
            self.sources.retain(|_, rate| rate.next(now) > now);
            if self.sources.len() >= MAX_SOURCES {
                return false;
            }
        }
        self.sources.entry(source).or_insert_with(|| Rate::new(self.rate)).take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn account(text: &str) -> Account {
        text.parse().unwrap()
    }

    #[test]
    fn a_subscriber_watches_its_own_account_and_what_it_is_allowed() {
        let mut permissions = Permissions { own_box: vec!["*97".into()], ..Permissions::default() };
        let (boss, desk) = (account("boss@a.org"), account("desk@a.org"));
        permissions.shared.insert(boss.clone(), vec![desk.clone()]);
        assert_eq!(permissions.resolve(&desk, &desk), Some(&desk));
        assert_eq!(permissions.resolve(&desk, &boss), Some(&boss));
        assert_eq!(permissions.resolve(&boss, &desk), None);
        assert_eq!(permissions.resolve(&desk, &account("*97@a.org")), Some(&desk));
        assert_eq!(permissions.resolve(&desk, &account("*97@b.org")), None);
        assert_eq!(permissions.resolve(&account("boss@b.org"), &boss), None);
    }

    #[test]
    fn each_source_has_a_rate_and_a_trusted_one_has_none() {
        let now = Instant::now();
        let mut limits = Limits::new(100, vec!["10.0.0.0/8".parse().unwrap()]);
        let stranger = "192.0.2.1".parse().unwrap();
        assert_eq!((0..1000).filter(|_| limits.admit(stranger, now)).count(), 10);
        assert!(limits.admit("192.0.2.2".parse().unwrap(), now), "another source");
        assert!(limits.admit(stranger, now + Duration::from_millis(10)));
        let proxy = "10.1.2.3".parse().unwrap();
        assert_eq!((0..1000).filter(|_| limits.admit(proxy, now)).count(), 1000);
        assert!(limits.is_trusted("::ffff:10.1.2.3".parse().unwrap()), "the same address");
    }

    #[test]
    fn sources_are_bounded_and_quiet_ones_make_room() {
        let now = Instant::now();
        let mut limits = Limits::new(10, Vec::new());
        let source = |n: u32| IpAddr::from(n.to_be_bytes());
        let count = u32::try_from(MAX_SOURCES).unwrap();
        assert!((0..count).all(|n| limits.admit(source(n), now)));
        assert!(!limits.admit(source(count), now));
        assert!(limits.admit(source(count), now + Duration::from_secs(1)));
        assert!(limits.sources.len() <= MAX_SOURCES);
    }
}
