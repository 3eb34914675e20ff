//! Which mailboxes make up which account, and the sum of their counts.
//!
//! Mailboxes and accounts are many-to-many: several mailboxes of one account add up, one shared
//! mailbox lights several accounts.

use std::collections::HashMap;

use crate::few::Few;
use crate::mailbox::{Account, Mailbox, NameError};
use crate::summary::Summary;

/// The mapping that the configuration gives: explicit accounts first, then the context's domain;
/// by default a context **is** the domain, as res_zonkey_mwi had it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Directory {
    /// Context to SIP domain.
    pub contexts: HashMap<String, String>,
    /// Mailbox to the accounts that it lights, instead of the context's domain.
    pub mailboxes: HashMap<Mailbox, Vec<Account>>,
}

impl Directory {
    /// The accounts that a mailbox lights.
    ///
    /// # Errors
    /// [`NameError`] when the number or the context's domain cannot be part of a SIP URI.
    pub fn accounts(&self, mailbox: &Mailbox) -> Result<Vec<Account>, NameError> {
        if let Some(accounts) = self.mailboxes.get(mailbox) {
            return Ok(accounts.clone());
        }
        let domain = self.contexts.get(mailbox.context()).map_or(mailbox.context(), String::as_str);
        Ok(vec![Account::new(mailbox.number(), domain)?])
    }
}

/// What is known of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    summary: Summary,
    /// The last attempt to count it failed: `summary` is no longer sure.
    failed: bool,
}

/// What is known of the mailboxes that were not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// Nothing yet: the first full count is still to come.
    Awaited,
    /// Nothing, and nothing is to be waited for: only calls say what there is.
    Open,
    /// They are not there: a full count has ended.
    Counted,
}

/// The counts of every mailbox, and of every account their sum.
///
/// Invariant: no sum is given out while one of its mailboxes could not be counted, nor, for an
/// account with several mailboxes, before the first full count has ended: a missing part would be
/// a guessed zero. An account of which no mailbox was ever counted has a sum, 0, only when the
/// configuration names its mailboxes and a full count did not find them, or when no mailbox lights
/// it any more.
#[derive(Debug)]
pub struct Mailboxes {
    directory: Directory,
    counts: HashMap<Mailbox, Count>,
    /// An account without members had some: it is dark.
    members: HashMap<Account, Few<Mailbox>>,
    extent: Extent,
}

impl Mailboxes {
    /// No counts yet. `complete` is whether there is no first full count to wait for (a site
    /// without a spool).
    #[must_use]
    pub fn new(directory: Directory, complete: bool) -> Self {
        let extent = if complete { Extent::Open } else { Extent::Awaited };
        Self::with_extent(directory, extent)
    }

    fn with_extent(directory: Directory, extent: Extent) -> Self {
        let mut members: HashMap<Account, Few<Mailbox>> = HashMap::new();
        for (mailbox, accounts) in &directory.mailboxes {
            for account in accounts {
                members.entry(account.clone()).or_default().push(mailbox.clone());
            }
        }
        Self { directory, counts: HashMap::new(), members, extent }
    }

    /// How many mailboxes have been counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether no mailbox has been counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// A mailbox was counted. Gives the accounts that it lights, with their sums.
    ///
    /// # Errors
    /// [`NameError`] when the mailbox cannot be an account; nothing is kept of it then.
    pub fn observe(
        &mut self,
        mailbox: &Mailbox,
        summary: Summary,
    ) -> Result<Vec<(Account, Summary)>, NameError> {
        let accounts = self.directory.accounts(mailbox)?;
        let count = Count { summary, failed: false };
        if self.counts.insert(mailbox.clone(), count).is_none() {
            for account in &accounts {
                join(self.members.entry(account.clone()).or_default(), mailbox);
            }
        }
        Ok(self.sums(accounts))
    }

    /// A mailbox could not be counted: its accounts are held back until it can.
    pub fn fail(&mut self, mailbox: &Mailbox) {
        let unknown = Count { summary: Summary::default(), failed: true };
        self.counts.entry(mailbox.clone()).or_insert(unknown).failed = true;
        for account in self.directory.accounts(mailbox).unwrap_or_default() {
            join(self.members.entry(account).or_default(), mailbox);
        }
    }

    /// A full count has ended: what was not seen is not there. Gives the sums that were held back
    /// until now.
    pub fn complete(&mut self) -> Vec<(Account, Summary)> {
        self.extend(Extent::Counted)
    }

    /// All is counted that is to be waited for, but what was not seen may be anywhere: there is no
    /// spool, or there are others that count. Gives the sums that were held back until now.
    pub fn open(&mut self) -> Vec<(Account, Summary)> {
        self.extend(Extent::Open)
    }

    /// The spool is another one now: what was not seen in the old one may be in this one.
    pub fn doubt(&mut self) {
        if self.extent == Extent::Counted {
            self.extent = Extent::Open;
        }
    }

    fn extend(&mut self, extent: Extent) -> Vec<(Account, Summary)> {
        if std::mem::replace(&mut self.extent, extent) == extent {
            return Vec::new();
        }
        let held = |members: &[Mailbox]| {
            members.len() > 1 || !members.is_empty() && !self.any_counted(members)
        };
        let held = self.members.iter().filter(|(_, members)| held(members));
        self.sums(held.map(|(account, _)| account.clone()).collect())
    }

    fn any_counted(&self, members: &[Mailbox]) -> bool {
        members.iter().any(|mailbox| self.counts.contains_key(mailbox))
    }

    /// Another mapping: everything counted so far is mapped again. Gives every account's sum, and
    /// zero for an account that no longer has a mailbox.
    pub fn remap(&mut self, directory: Directory) -> Vec<(Account, Summary)> {
        let old = std::mem::replace(self, Self::with_extent(directory, self.extent));
        for (mailbox, count) in old.counts {
            let known = self.observe(&mailbox, count.summary).is_ok();
            if known && count.failed {
                self.fail(&mailbox);
            }
        }
        let left = old.members.into_keys().filter(|account| !self.members.contains_key(account));
        let left: Vec<Account> = left.collect();
        let mut sums: Vec<_> = left.into_iter().map(|account| self.darken(account)).collect();
        let lit = self.members.iter().filter(|(_, members)| !members.is_empty());
        sums.extend(self.sums(lit.map(|(account, _)| account.clone()).collect()));
        sums
    }

    /// An account that these mailboxes lit before a restart. Gives its sum, zero, when no mailbox
    /// lights it any more: each of those is mapped to others now. To be asked when all is counted.
    pub fn abandon(
        &mut self,
        account: &Account,
        lit_by: impl IntoIterator<Item = Mailbox>,
    ) -> Option<(Account, Summary)> {
        let lights = |mailbox: &Mailbox| {
            self.directory.accounts(mailbox).is_ok_and(|accounts| accounts.contains(account))
        };
        let is_lit = self.members.contains_key(account) || lit_by.into_iter().any(|it| lights(&it));
        (!is_lit).then(|| self.darken(account.clone()))
    }

    fn darken(&mut self, account: Account) -> (Account, Summary) {
        self.members.insert(account.clone(), Few::default());
        (account, Summary::default())
    }

    /// The mailboxes that light an account now: those of its mailboxes that hold messages.
    pub fn lit_by(&self, account: &Account) -> impl Iterator<Item = &Mailbox> {
        let members = self.members.get(account).map_or(&[][..], |it| it);
        members.iter().filter(|mailbox| {
            self.counts.get(mailbox).is_some_and(|count| count.summary != Summary::default())
        })
    }

    /// The accounts that a mailbox lights; none when it is no account.
    #[must_use]
    pub fn accounts(&self, mailbox: &Mailbox) -> Vec<Account> {
        self.directory.accounts(mailbox).unwrap_or_default()
    }

    /// The mailboxes that make up an account, each with what it holds; `None` for one that was not
    /// counted, or could not be.
    pub fn members(&self, account: &Account) -> impl Iterator<Item = (&Mailbox, Option<Summary>)> {
        let members = self.members.get(account).map_or(&[][..], |it| it);
        members.iter().map(|mailbox| (mailbox, self.count(mailbox)))
    }

    /// The first of the mailboxes after `after`, in their order, of one context or of all: up to
    /// `limit`, each with what it holds; `None` for one that could not be counted.
    pub fn page(
        &self,
        context: Option<&str>,
        after: Option<&Mailbox>,
        limit: usize,
    ) -> impl Iterator<Item = (&Mailbox, Option<Summary>)> {
        let is_wanted = |mailbox: &&Mailbox| {
            context.is_none_or(|context| mailbox.context() == context)
                && after.is_none_or(|after| *mailbox > after)
        };
        let mut page: Vec<&Mailbox> = self.counts.keys().filter(is_wanted).collect();
        if limit < page.len() {
            page.select_nth_unstable(limit);
            page.truncate(limit);
        }
        page.sort_unstable();
        page.into_iter().map(|mailbox| (mailbox, self.count(mailbox)))
    }

    /// The accounts that have a mailbox and no sum: it could not be counted, or is not counted yet.
    pub fn unsure(&self) -> impl Iterator<Item = &Account> {
        self.members.keys().filter(|account| self.sum(account).is_none())
    }

    /// What a mailbox holds; `None` for one that was not counted, or could not be.
    #[must_use]
    pub fn count(&self, mailbox: &Mailbox) -> Option<Summary> {
        self.counts.get(mailbox).filter(|count| !count.failed).map(|count| count.summary)
    }

    /// Whether the first full count is still to come: who has no mailbox now may have one then.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.extent == Extent::Awaited
    }

    /// Every account with its sum, those left out that are not sure.
    pub fn all(&self) -> impl Iterator<Item = (&Account, Summary)> {
        self.members.keys().filter_map(|account| Some((account, self.sum(account)?)))
    }

    fn sums(&self, accounts: Vec<Account>) -> Vec<(Account, Summary)> {
        let sum = |account: Account| {
            let summary = self.sum(&account)?;
            // The name that is kept already: there may be 100,000, and each is in several tables.
            let known = self.members.get_key_value(&account).map(|(known, _)| known.clone());
            Some((known.unwrap_or(account), summary))
        };
        accounts.into_iter().filter_map(sum).collect()
    }

    /// Whether a source has spoken of the account, be it that it could not count.
    #[must_use]
    pub fn has_counted(&self, account: &Account) -> bool {
        let members = self.members.get(account).map_or(&[][..], |it| it);
        self.any_counted(members) || self.sum(account).is_some()
    }

    /// The sum of an account's mailboxes; `None` while it is not sure.
    #[must_use]
    pub fn sum(&self, account: &Account) -> Option<Summary> {
        let members = self.members.get(account)?;
        if members.is_empty() {
            return Some(Summary::default());
        }
        let sure = match self.extent {
            Extent::Awaited => members.len() == 1 && self.any_counted(members),
            Extent::Open => self.any_counted(members),
            Extent::Counted => true,
        };
        if !sure {
            return None;
        }
        let mut counts = members.iter().filter_map(|mailbox| self.counts.get(mailbox));
        counts.try_fold(Summary::default(), |sum, count| {
            (!count.failed).then(|| sum.plus(count.summary))
        })
    }
}

fn join(members: &mut Few<Mailbox>, mailbox: &Mailbox) {
    if !members.contains(mailbox) {
        members.push(mailbox.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).unwrap()
    }

    fn account(text: &str) -> Account {
        text.parse().unwrap()
    }

    fn new(count: u32) -> Summary {
        Summary { new: count, ..Summary::default() }
    }

    /// Two mailboxes light `boss`, and the shared one lights `desk` too.
    fn shared() -> Directory {
        let mut directory = Directory::default();
        directory.contexts.insert("default".into(), "example.com".into());
        directory.mailboxes.insert(mailbox("1@default"), vec![account("boss@example.com")]);
        directory.mailboxes.insert(
            mailbox("2@default"),
            vec![account("boss@example.com"), account("desk@example.com")],
        );
        directory
    }

    #[test]
    fn a_context_is_the_domain_unless_it_is_mapped() {
        let directory = shared();
        assert_eq!(directory.accounts(&mailbox("202@pbx.org")), Ok(vec![account("202@pbx.org")]));
        assert_eq!(
            directory.accounts(&mailbox("202@default")),
            Ok(vec![account("202@example.com")])
        );
        assert!(directory.accounts(&mailbox("a b@default")).is_err());
    }

    #[test]
    fn several_mailboxes_of_one_account_add_up_and_a_shared_one_lights_several() {
        let mut mailboxes = Mailboxes::new(shared(), true);
        mailboxes.observe(&mailbox("1@default"), new(2)).unwrap();
        let sums = mailboxes.observe(&mailbox("2@default"), new(3)).unwrap();
        assert_eq!(
            sums,
            [(account("boss@example.com"), new(5)), (account("desk@example.com"), new(3))]
        );
    }

    #[test]
    fn a_sum_waits_for_the_first_full_count() {
        let mut mailboxes = Mailboxes::new(shared(), false);
        assert_eq!(mailboxes.observe(&mailbox("1@default"), new(0)), Ok(vec![]));
        let single = mailboxes.observe(&mailbox("7@default"), new(1)).unwrap();
        assert_eq!(single, [(account("7@example.com"), new(1))]);
        let mut sums = mailboxes.complete();
        sums.sort_by(|a, b| a.0.cmp(&b.0));
        let empty = ["boss@example.com", "desk@example.com"].map(|it| (account(it), new(0)));
        assert_eq!(sums, empty);
        assert_eq!(mailboxes.complete(), []);
    }

    #[test]
    fn a_mailbox_that_cannot_be_counted_holds_its_accounts_back() {
        let mut mailboxes = Mailboxes::new(shared(), true);
        mailboxes.fail(&mailbox("2@default"));
        assert_eq!(mailboxes.observe(&mailbox("1@default"), new(2)), Ok(vec![]));
        let sums = mailboxes.observe(&mailbox("2@default"), new(0)).unwrap();
        assert_eq!(sums[0], (account("boss@example.com"), new(2)));
    }

    #[test]
    fn pages_have_every_mailbox_once_in_order_and_say_which_could_not_be_counted() {
        let mut mailboxes = Mailboxes::new(shared(), true);
        for number in ["3", "1", "2"] {
            mailboxes.observe(&mailbox(&format!("{number}@default")), new(1)).unwrap();
        }
        mailboxes.observe(&mailbox("1@other"), new(1)).unwrap();
        mailboxes.fail(&mailbox("2@default"));
        let page = |context: Option<&str>, after: Option<&str>, limit| {
            let after = after.map(mailbox);
            let page = mailboxes.page(context, after.as_ref(), limit);
            page.map(|(it, count)| (it.to_string(), count.is_some())).collect::<Vec<_>>()
        };
        let all =
            [("1@default", true), ("1@other", true), ("2@default", false), ("3@default", true)]
                .map(|(it, counted)| (it.to_owned(), counted));
        assert_eq!(page(None, None, 9), all);
        assert_eq!(page(None, None, 2), all[..2]);
        assert_eq!(page(None, Some("1@other"), 2), all[2..]);
        assert_eq!(page(Some("other"), None, 9), all[1..2]);
        assert_eq!(page(None, None, 0), []);
        let unsure: Vec<_> = mailboxes.unsure().map(ToString::to_string).collect();
        assert_eq!(unsure.len(), 2, "boss and desk: {unsure:?}");
    }

    #[test]
    fn another_mapping_darkens_the_accounts_that_lost_their_mailbox() {
        let mut mailboxes = Mailboxes::new(shared(), true);
        mailboxes.observe(&mailbox("1@default"), new(2)).unwrap();
        mailboxes.observe(&mailbox("2@default"), new(3)).unwrap();
        let mut sums = mailboxes.remap(Directory::default());
        sums.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(
            sums,
            [
                (account("1@default"), new(2)),
                (account("2@default"), new(3)),
                (account("boss@example.com"), new(0)),
                (account("desk@example.com"), new(0)),
            ]
        );
    }

    #[test]
    fn a_mapped_mailbox_that_a_full_count_did_not_find_is_empty() {
        let mut mailboxes = Mailboxes::new(Directory::default(), false);
        mailboxes.observe(&mailbox("1@default"), new(2)).unwrap();
        mailboxes.complete();
        // boss had mailbox 1 and now has 9, which is not there yet.
        let to = |number: &str| Directory {
            mailboxes: [(mailbox(number), vec![account("boss@example.com")])].into(),
            ..Directory::default()
        };
        let boss = account("boss@example.com");
        assert_eq!(
            mailboxes.remap(to("1@default")),
            [(account("1@default"), new(0)), (boss.clone(), new(2))]
        );
        let mut sums = mailboxes.remap(to("9@default"));
        sums.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(sums, [(account("1@default"), new(2)), (boss.clone(), new(0))]);
        // What could not be counted is not empty.
        mailboxes.fail(&mailbox("9@default"));
        assert_eq!(mailboxes.sum(&boss), None);
        mailboxes.observe(&mailbox("9@default"), new(1)).unwrap();
        assert_eq!(mailboxes.sum(&boss), Some(new(1)));
    }

    #[test]
    fn a_mapped_mailbox_is_unknown_until_a_full_count_has_ended() {
        let boss = account("boss@example.com");
        let mut directory = shared();
        directory.mailboxes.remove(&mailbox("1@default"));
        let mut mailboxes = Mailboxes::new(directory.clone(), false);
        assert_eq!(mailboxes.sum(&boss), None);
        let mut sums = mailboxes.complete();
        sums.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(sums, [(boss.clone(), new(0)), (account("desk@example.com"), new(0))]);
        // Another spool, or none: it may be there, or anywhere.
        mailboxes.doubt();
        assert_eq!(mailboxes.sum(&boss), None);
        assert_eq!(mailboxes.complete().len(), 2);
        assert_eq!(mailboxes.open(), []);
        assert_eq!(mailboxes.sum(&boss), None);
        // Without a spool nobody has looked.
        let mailboxes = Mailboxes::new(directory, true);
        assert_eq!(mailboxes.sum(&boss), None);
    }

    #[test]
    fn an_account_that_lost_its_mailboxes_during_a_downtime_is_dark() {
        let (boss, old) = (account("boss@example.com"), account("1@old.example.com"));
        let mut mailboxes = Mailboxes::new(shared(), false);
        mailboxes.observe(&mailbox("1@default"), new(2)).unwrap();
        mailboxes.complete();
        assert_eq!(mailboxes.abandon(&boss, [mailbox("1@default")]), None, "it is still lit");
        assert_eq!(mailboxes.sum(&old), None);
        let dark = Some((old.clone(), new(0)));
        assert_eq!(mailboxes.abandon(&old, [mailbox("1@default")]), dark);
        assert_eq!(mailboxes.sum(&old), Some(new(0)), "whoever takes it over is told");
        // What lit it is not known to be empty.
        let unknown = account("7@example.com");
        assert_eq!(mailboxes.abandon(&unknown, [mailbox("7@default")]), None);
        assert_eq!(mailboxes.sum(&unknown), None);
        // Another mapping lights it again.
        let mut directory = shared();
        directory.mailboxes.insert(mailbox("1@default"), vec![old.clone()]);
        assert!(mailboxes.remap(directory).contains(&(old, new(2))));
    }

    #[test]
    fn an_account_is_lit_by_those_mailboxes_that_hold_messages() {
        let mut mailboxes = Mailboxes::new(shared(), true);
        mailboxes.observe(&mailbox("1@default"), new(0)).unwrap();
        mailboxes.observe(&mailbox("2@default"), new(3)).unwrap();
        let boss: Vec<_> = mailboxes.lit_by(&account("boss@example.com")).collect();
        assert_eq!(boss, [&mailbox("2@default")]);
        assert_eq!(mailboxes.lit_by(&account("nobody@example.com")).count(), 0);
    }

    #[test]
    fn what_was_counted_is_known_of_each_mailbox_and_account() {
        let (boss, desk) = (account("boss@example.com"), account("desk@example.com"));
        let mut mailboxes = Mailboxes::new(shared(), false);
        assert!(mailboxes.is_empty() && mailboxes.is_awaited());
        assert!(!mailboxes.has_counted(&boss));
        mailboxes.observe(&mailbox("1@default"), new(2)).unwrap();
        assert_eq!((mailboxes.len(), mailboxes.is_empty()), (1, false));
        assert!(mailboxes.has_counted(&boss) && !mailboxes.has_counted(&desk));
        let (one, two) = (mailbox("1@default"), mailbox("2@default"));
        let mut members: Vec<_> = mailboxes.members(&boss).collect();
        members.sort_unstable_by_key(|(mailbox, _)| mailbox.to_string());
        assert_eq!(members, [(&one, Some(new(2))), (&two, None)]);
        mailboxes.complete();
        assert!(!mailboxes.is_awaited());
        assert!(mailboxes.has_counted(&desk), "there is nothing to be counted");
    }

    #[test]
    fn when_there_is_no_spool_any_more_no_full_count_is_waited_for() {
        let mut mailboxes = Mailboxes::new(shared(), false);
        assert_eq!(mailboxes.observe(&mailbox("1@default"), new(2)), Ok(vec![]));
        mailboxes.doubt();
        assert_eq!(mailboxes.sum(&account("boss@example.com")), None);
        assert_eq!(mailboxes.open(), [(account("boss@example.com"), new(2))]);
    }

    proptest! {
        /// Whatever the order of events, a sum that is given out is the sum of the last counts.
        #[test]
        fn a_sum_is_always_the_sum_of_the_last_counts(
            events in prop::collection::vec((0u8..2, prop::option::of(0u32..9)), 0..30)
        ) {
            let boxes = [mailbox("1@default"), mailbox("2@default")];
            let mut mailboxes = Mailboxes::new(shared(), true);
            let mut last = [None, None];
            for (index, count) in events {
                let index = usize::from(index);
                match count {
                    Some(count) => {
                        mailboxes.observe(&boxes[index], new(count)).unwrap();
                        last[index] = Some(Ok(count));
                    }
                    None => {
                        mailboxes.fail(&boxes[index]);
                        last[index] = Some(Err(()));
                    }
                }
                let known: Vec<_> = last.iter().flatten().collect();
                let expected = if known.iter().any(|count| count.is_err()) {
                    None
                } else {
                    Some(new(known.iter().filter_map(|count| count.ok()).sum()))
                };
                prop_assert_eq!(mailboxes.sum(&account("boss@example.com")), expected);
            }
        }
    }
}
