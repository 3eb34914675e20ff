//! Who may subscribe to what.

use std::collections::HashMap;

use crate::mailbox::Account;

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

    /// Whether a watcher may go on to watch an account that it got once.
    pub(super) fn may_watch(&self, watcher: &Account, account: &Account) -> bool {
        watcher == account || self.resolve(watcher, account) == Some(account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
