//! The last summary of each account, as the ledger has it or will have it: so that no lamp stays lit
//! because its mailbox or its mapping went away while mwid did not run.
//!
//! An account stands here from its first message until all its phones were told that there is none.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mwid_core::mailbox::{Account, Mailbox};
use mwid_core::summary::Summary;

use super::Memory;
use super::order::Order;

/// A mailbox that lights an account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// The mailbox.
    pub mailbox: Mailbox,
    /// It was counted in this mwid's own spool: there it can be looked for.
    pub here: bool,
}

/// What the phones of an account must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// The account.
    pub account: Account,
    /// Its last summary.
    pub summary: Summary,
    /// The mailboxes that lit it last, in their order.
    pub members: Arc<[Member]>,
}

/// Shared by the daemon, which changes it, and the writer, which fills a new file with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Lasts(Arc<Mutex<Known>>);

/// The members of an account. One, as most have, takes no memory of its own: there may be 100,000 of them.
#[derive(Clone, Debug)]
enum Members {
    One(Member),
    Many(Arc<[Member]>),
}

impl Members {
    fn new(members: &Arc<[Member]>) -> Self {
        match &**members {
            [one] => Self::One(one.clone()),
            _ => Self::Many(members.clone()),
        }
    }

    fn share(&self) -> Arc<[Member]> {
        match self {
            Self::One(one) => [one.clone()].into(),
            Self::Many(many) => many.clone(),
        }
    }
}

impl Deref for Members {
    type Target = [Member];

    fn deref(&self) -> &[Member] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// Everything that is remembered of accounts and of the folders of contexts.
#[derive(Debug, Default)]
pub(super) struct Known {
    accounts: HashMap<Account, (Summary, Members)>,
    contexts: HashMap<Box<str>, u64>,
}

impl Lasts {
    /// The data behind this lock is whole at every moment.
    pub(super) fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// From before a restart.
    pub(super) fn remember(&mut self, memory: &Memory) {
        for Last { account, summary, members } in &memory.accounts {
            self.accounts.insert(account.clone(), (*summary, Members::new(members)));
        }
        self.contexts.extend(memory.contexts.iter().cloned());
    }

    /// All of it, to fill a file with.
    pub(super) fn all(&self) -> (Vec<Last>, Vec<(Box<str>, u64)>) {
        let last = |(account, (summary, members)): (&Account, &(Summary, Members))| Last {
            account: account.clone(),
            summary: *summary,
            members: members.share(),
        };
        (self.accounts.iter().map(last).collect(), self.contexts())
    }

    /// Which folder each context was.
    pub(super) fn contexts(&self) -> Vec<(Box<str>, u64)> {
        self.contexts.iter().map(|(context, inode)| (context.clone(), *inode)).collect()
    }

    /// The mailboxes that were counted here, each once for every account that it lights.
    pub(super) fn counted_here(&self) -> Vec<Mailbox> {
        let members = self.accounts.values().flat_map(|(_, members)| members.iter());
        members.filter(|member| member.here).map(|member| member.mailbox.clone()).collect()
    }

    /// These mailboxes light the account now. Gives what is to be written, if anything is.
    pub(super) fn light(
        &mut self,
        account: &Account,
        summary: Summary,
        mut members: Vec<Member>,
    ) -> Option<Order> {
        members.sort_unstable();
        let before = self.accounts.get(account);
        for member in members.iter_mut().filter(|member| !member.here) {
            // Counted here before a restart: whoever else counts it too, it is looked for here.
            member.here = before.is_some_and(|(_, before)| {
                let found = before.binary_search_by(|it| it.mailbox.cmp(&member.mailbox));
                found.is_ok_and(|index| before[index].here)
            });
        }
        let account = account.clone();
        match self.accounts.get_mut(&account) {
            Some((before, same)) if **same == *members => {
                let is_news = std::mem::replace(before, summary) != summary;
                is_news.then_some(Order::Last { account, summary, members: None })
            }
            _ => {
                let members = Arc::from(members);
                self.accounts.insert(account.clone(), (summary, Members::new(&members)));
                Some(Order::Last { account, summary, members: Some(members) })
            }
        }
    }

    /// The account has no messages any more. Gives what is to be written, if it had some.
    pub(super) fn darken(&mut self, account: &Account) -> Option<Order> {
        let (last, _) = self.accounts.get_mut(account)?;
        let summary = Summary::default();
        (std::mem::replace(last, summary) != summary).then(|| Order::Last {
            account: account.clone(),
            summary,
            members: None,
        })
    }

    /// Nobody needs to know any more what the account shows.
    pub(super) fn forget(&mut self, account: &Account) -> Option<Order> {
        self.accounts.remove(account)?;
        Some(Order::NoLast { account: account.clone() })
    }

    /// Whether the account has no messages, and not all its phones are known to show that.
    pub(super) fn is_darkening(&self, account: &Account) -> bool {
        self.accounts.get(account).is_some_and(|(last, _)| *last == Summary::default())
    }

    /// A context is this folder. Gives what is to be written, if it was another one.
    pub(super) fn context(&mut self, context: &str, inode: u64) -> Option<Order> {
        let before = self.contexts.insert(context.into(), inode);
        (before != Some(inode)).then(|| Order::Context { context: context.into(), inode })
    }
}
