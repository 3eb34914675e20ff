//! `mwid debug`: messages as they go over the wire, of everybody or of some accounts.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use mwid_core::mailbox::Account;
use serde_json::json;

use crate::control::Answer;
use crate::delivery::masked;

/// Accounts whose messages are printed: each message is held against each.
const MAX_ACCOUNTS: usize = 16;

/// Whose messages are printed.
#[derive(Debug, Default)]
pub(super) struct Debug {
    all: bool,
    accounts: BTreeSet<Account>,
}

impl Debug {
    pub(super) fn is_on(&self) -> bool {
        self.all || !self.accounts.is_empty()
    }

    /// The accounts that are named.
    pub(super) fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.iter()
    }

    /// Begins or ends, for one account or for all; an end for all ends it for each.
    pub(super) fn switch(&mut self, on: bool, account: Option<Account>) -> Answer {
        let word = if on { "enabled" } else { "disabled" };
        let text = match &account {
            None => format!("Debug {word}"),
            Some(account) => {
                format!("Debug {word} for {}", account.as_str().trim_start_matches("sip:"))
            }
        };
        match account {
            None => {
                self.all = on;
                self.accounts.clear();
            }
            Some(account) if on => {
                if self.accounts.len() >= MAX_ACCOUNTS && !self.accounts.contains(&account) {
                    return Answer::refused(format!(
                        "the messages of {MAX_ACCOUNTS} accounts are printed already; mwid debug off ends that"
                    ));
                }
                self.accounts.insert(account);
            }
            Some(account) => {
                self.accounts.remove(&account);
            }
        }
        let named: Vec<&str> = self.accounts().map(Account::as_str).collect();
        let data = json!({ "debug": self.is_on(), "all": self.all, "accounts": named });
        Answer { text, data, code: 0 }
    }

    /// Prints a message if it is wanted: `of` is the account whose NOTIFY it is or answers, where
    /// that is known. Every other message is whose it names.
    pub(super) fn show(
        &self,
        peer: SocketAddr,
        copy: u32,
        bytes: &[u8],
        what: &str,
        of: Option<&Account>,
    ) {
        if !self.is_on() {
            return;
        }
        let text = String::from_utf8_lossy(bytes);
        let is_wanted =
            |account: &Account| of == Some(account) || of.is_none() && account.is_named_in(&text);
        if !self.all && !self.accounts.iter().any(is_wanted) {
            return;
        }
        let safe = text.replace(|c: char| c.is_control() && c != '\n' && c != '\t', "");
        let safe = masked(&safe);
        tracing::info!(target: "mwid::debug", %peer, copy, "{what} {peer}\n{safe}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_accounts_are_named_up_to_a_bound_and_off_ends_all() {
        let mut debug = Debug::default();
        let account = |user: usize| Account::new(&user.to_string(), "example.com").unwrap();
        for user in 0..MAX_ACCOUNTS {
            assert_eq!(debug.switch(true, Some(account(user))).code, 0);
        }
        assert_eq!(debug.switch(true, Some(account(1))).code, 0, "it is there already");
        assert_eq!(debug.switch(true, Some(account(99))).code, 1);
        debug.switch(false, Some(account(0)));
        assert_eq!(debug.accounts().count(), MAX_ACCOUNTS - 1);
        assert!(debug.is_on());
        debug.switch(false, None);
        assert!(!debug.is_on());
    }
}
