//! For whom was asked, and when: bounds on what asking costs.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use mwid_core::mailbox::Account;

/// Questions at once.
const MAX_RUNNING: usize = 8;

/// Accounts that wait to be asked for. More are dropped: they are seen again.
const MAX_WAITING: usize = 10_000;

/// Accounts whose time is remembered. More are not asked for until some are old.
const MAX_REMEMBERED: usize = 100_000;

/// An account that is to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The account.
    pub account: Account,
    /// Seconds of the subscription that made it wanted, when that was a new one.
    pub expires: Option<u32>,
}

/// The accounts that are to be asked for, each once in a time.
#[derive(Debug)]
pub(super) struct Book {
    again: Duration,
    waiting: VecDeque<Wanted>,
    /// The same as in `waiting`.
    waits: HashSet<Account>,
    asked: HashMap<Account, Instant>,
    running: usize,
}

impl Book {
    pub(super) fn new(again: Duration) -> Self {
        let (waiting, waits, asked) = (VecDeque::new(), HashSet::new(), HashMap::new());
        Self { again, waiting, waits, asked, running: 0 }
    }

    pub(super) fn want(&mut self, account: &Account, expires: Option<u32>, now: Instant) {
        let is_recent = self.asked.get(account).is_some_and(|at| now < *at + self.again);
        let is_full = self.waiting.len() >= MAX_WAITING;
        if is_recent || is_full || !self.waits.insert(account.clone()) {
            return;
        }
        self.waiting.push_back(Wanted { account: account.clone(), expires });
    }

    pub(super) fn next(&mut self, now: Instant) -> Option<Wanted> {
        if self.running >= MAX_RUNNING || self.waiting.is_empty() {
            return None;
        }
        if self.asked.len() >= MAX_REMEMBERED {
            let again = self.again;
            self.asked.retain(|_, at| now < *at + again);
            if self.asked.len() >= MAX_REMEMBERED {
                return None;
            }
        }
        let wanted = self.waiting.pop_front()?;
        self.waits.remove(&wanted.account);
        self.asked.insert(wanted.account.clone(), now);
        self.running += 1;
        Some(wanted)
    }

    pub(super) fn done(&mut self) {
        self.running = self.running.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGAIN: Duration = Duration::from_secs(300);

    fn account(number: usize) -> Account {
        Account::new(&number.to_string(), "example.com").unwrap()
    }

    fn wanted(number: usize) -> Wanted {
        Wanted { account: account(number), expires: None }
    }

    #[test]
    fn an_account_is_asked_for_once_in_a_time() {
        let (mut book, now) = (Book::new(AGAIN), Instant::now());
        book.want(&account(1), None, now);
        book.want(&account(1), None, now);
        assert_eq!(book.next(now), Some(wanted(1)));
        assert_eq!(book.next(now), None);
        book.done();
        let before = now + AGAIN - Duration::from_millis(1);
        book.want(&account(1), None, before);
        assert_eq!(book.next(before), None);
        book.want(&account(1), None, now + AGAIN);
        assert_eq!(book.next(now + AGAIN), Some(wanted(1)));
    }

    #[test]
    fn only_some_are_asked_for_at_once_and_only_some_wait() {
        let (mut book, now) = (Book::new(AGAIN), Instant::now());
        for number in 0..MAX_WAITING + 5 {
            book.want(&account(number), None, now);
        }
        for number in 0..MAX_RUNNING {
            assert_eq!(book.next(now), Some(wanted(number)));
        }
        assert_eq!(book.next(now), None);
        book.done();
        assert_eq!(book.next(now), Some(wanted(MAX_RUNNING)));
        assert_eq!(book.waiting.len(), MAX_WAITING - MAX_RUNNING - 1);
        assert_eq!(book.waits.len(), book.waiting.len());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_old_accounts_make_room() {
        let (mut book, now) = (Book::new(AGAIN), Instant::now());
        book.asked = (0..MAX_REMEMBERED).map(|number| (account(number), now)).collect();
        book.want(&account(MAX_REMEMBERED), None, now);
        assert_eq!(book.next(now), None);
        assert_eq!(book.next(now + AGAIN), Some(wanted(MAX_REMEMBERED)));
        assert_eq!(book.asked.len(), 1);
    }
}
