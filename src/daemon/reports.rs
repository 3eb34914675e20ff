//! What an operator sees of the lamps, filled in: [`crate::report`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mwid_core::dialog::{Dialog, Row};
use mwid_core::mailbox::{Account, Mailbox};
use mwid_core::reconciler::{DialogView, Pending, Progress, PublicationView, Wait};
use mwid_core::summary::Summary;

use super::Daemon;
use super::work::Done;
use crate::clock::unix;
use crate::config::Way;
use crate::report::{
    AccountReport, DialogReport, MailboxLine, MailboxReport, MailboxesReport, PendingAccount,
    PendingReport, PublicationReport, Reason,
};

/// Reasons that are told apart; the rest is one.
const MAX_REASONS: usize = 50;

const NOT_YET: &str = "its mailboxes are not all counted yet";

/// What an account waits for, and what was answered last; `None` for one that is not counted.
type Cause = Option<(Wait, Option<Arc<str>>)>;

/// The accounts that wait: how many for what, and the first of them in their order.
struct Crowd<'a> {
    limit: usize,
    waiting: usize,
    causes: HashMap<Cause, usize>,
    others: usize,
    first: BTreeMap<&'a Account, Option<Pending<'a>>>,
}

impl<'a> Crowd<'a> {
    fn new(limit: usize) -> Self {
        let (causes, first) = (HashMap::new(), BTreeMap::new());
        Self { limit, waiting: 0, causes, others: 0, first }
    }

    /// `None`: it is not counted.
    fn note(&mut self, account: &'a Account, pending: Option<Pending<'a>>) {
        self.waiting += 1;
        let cause = pending.as_ref().map(|pending| match pending.wait {
            // Whatever was answered before.
            Wait::Pace | Wait::LookUp | Wait::LookUpFailed => (pending.wait, None),
            wait => (wait, pending.why.clone()),
        });
        if self.causes.len() < MAX_REASONS || self.causes.contains_key(&cause) {
            *self.causes.entry(cause).or_default() += 1;
        } else {
            self.others += 1;
        }
        let is_before = || self.first.last_key_value().is_some_and(|(last, _)| account < *last);
        if self.first.len() < self.limit || is_before() {
            self.first.insert(account, pending);
        }
        if self.first.len() > self.limit {
            self.first.pop_last();
        }
    }
}

impl Daemon {
    /// Gathers all that is known of an account and hands it on when the database has said its part.
    pub(super) fn report_account(
        &mut self,
        account: &Account,
        then: impl FnOnce(AccountReport) + Send + 'static,
    ) {
        let now = Instant::now();
        let mut report = self.known_of(account, now);
        if !self.config.delivery.uses(Way::Notify) {
            return then(report);
        }
        let views: Vec<DialogView> = self.reconciler.dialogs_of(account, now).collect();
        let (store, places, account) =
            (self.store.clone(), self.lines.places.clone(), account.clone());
        self.work.spawn(async move {
            let _place = places.acquire().await;
            match store.find(&account, unix()).await {
                Err(error) => report.problem = Some(error.to_string()),
                Ok(found) => {
                    let view = |row: &Row| views.iter().find(|view| view.row.0 == row.id);
                    let dialogs = found.rows.iter().map(|row| dialog(row, view(row), now));
                    (report.dialogs, report.capped) = (dialogs.collect(), found.capped);
                }
            }
            then(report);
            Done::Answered
        });
    }

    /// The part of the loop.
    fn known_of(&self, account: &Account, now: Instant) -> AccountReport {
        let mailboxes = self.mailboxes.members(account).map(|(mailbox, summary)| MailboxReport {
            mailbox: mailbox.to_string(),
            summary: summary.map(Into::into),
            source: self.source_of(mailbox, summary),
            here: match &self.cluster {
                Some(cluster) => cluster.here(mailbox),
                None => summary,
            }
            .map(Into::into),
        });
        let views = self.reconciler.publications(account, now);
        AccountReport {
            account: account.to_string(),
            summary: self.mailboxes.sum(account).map(Into::into),
            told: self.reconciler.desired(account).map(Into::into),
            node: self.cluster.as_ref().and_then(|cluster| cluster.owner(account)),
            waits: self.waits(account, now),
            mailboxes: mailboxes.collect(),
            dialogs: Vec::new(),
            capped: false,
            publications: views.map(|view| publication(&view, now)).collect(),
            problem: None,
        }
    }

    /// Who says what a mailbox holds.
    fn source_of(&self, mailbox: &Mailbox, summary: Option<Summary>) -> Option<&'static str> {
        summary?;
        if self.cluster.is_some() {
            return Some("cluster");
        }
        Some(self.given.get(mailbox).map_or("spool", |heard| heard.source))
    }

    fn waits(&self, account: &Account, now: Instant) -> Option<PendingAccount> {
        match self.reconciler.pending_of(account, now) {
            Some(pending) => Some(self.pending_account(&pending, now)),
            None => self.not_counted(account),
        }
    }

    /// Its phones are told nothing new as long as one of its mailboxes is not counted.
    fn not_counted(&self, account: &Account) -> Option<PendingAccount> {
        if !self.is_held_back(account) {
            return None;
        }
        let reason = match self.missing(account) {
            _ if self.mailboxes.is_awaited() => NOT_YET.to_owned(),
            Some(mailbox) => format!("its mailbox {mailbox} cannot be counted now"),
            None => return None,
        };
        Some(PendingAccount {
            account: account.to_string(),
            summary: None,
            wait: "not counted",
            reason,
            retry_seconds: None,
            left: 0,
        })
    }

    fn is_held_back(&self, account: &Account) -> bool {
        let is_unsure = self.mailboxes.sum(account).is_none() && self.owns(account);
        is_unsure && (self.mailboxes.is_awaited() || self.missing(account).is_some())
    }

    /// The first of its mailboxes that is not counted.
    fn missing(&self, account: &Account) -> Option<&Mailbox> {
        let mut members = self.mailboxes.members(account);
        members.find(|(_, summary)| summary.is_none()).map(|(mailbox, _)| mailbox)
    }

    fn pending_account(&self, pending: &Pending, now: Instant) -> PendingAccount {
        PendingAccount {
            account: pending.account.to_string(),
            summary: pending.desired.map(Into::into),
            wait: word(pending.wait),
            reason: self.reason(pending.wait, pending.why.as_deref()),
            retry_seconds: seconds(pending.next, now),
            left: pending.left,
        }
    }

    fn reason(&self, wait: Wait, why: Option<&str>) -> String {
        let before = why.map(|why| format!("; before: {why}")).unwrap_or_default();
        match wait {
            Wait::Pace => "its turn comes soon: [timers] min_interval and settle".to_owned(),
            Wait::LookUp => "its subscriptions are being looked up".to_owned(),
            Wait::Rate => format!("in line for [timers] rate{before}"),
            Wait::Claim => format!("a CSeq is being claimed{before}"),
            Wait::Answer => format!("under way, not answered yet{before}"),
            Wait::Retry => why.unwrap_or("the last attempt came to nothing").to_owned(),
            Wait::LookUpFailed => {
                let error = self.said.database().unwrap_or("the database did not answer");
                format!("its subscriptions cannot be looked up: {error}")
            }
        }
    }

    /// The accounts that wait and that `may_name` lets through, up to `limit` of them one by one.
    /// There may be 100,000: what is written of them is only of those that are shown.
    pub(super) fn report_pending(
        &self,
        limit: usize,
        may_name: impl Fn(&Account) -> bool,
    ) -> PendingReport {
        let now = Instant::now();
        let mut crowd = Crowd::new(limit);
        for pending in self.reconciler.pending(now).filter(|it| may_name(it.account)) {
            crowd.note(pending.account, Some(pending));
        }
        for account in self.mailboxes.unsure().filter(|account| may_name(account)) {
            if self.is_held_back(account) && self.reconciler.pending_of(account, now).is_none() {
                crowd.note(account, None);
            }
        }
        let accounts = crowd.first.iter().filter_map(|(account, pending)| match pending {
            Some(pending) => Some(self.pending_account(pending, now)),
            None => self.not_counted(account),
        });
        let accounts = accounts.collect();
        PendingReport { waiting: crowd.waiting, reasons: self.reasons(crowd), accounts }
    }

    /// The most frequent first. None names a mailbox or an account.
    fn reasons(&self, crowd: Crowd<'_>) -> Vec<Reason> {
        let word = |cause: Cause| match cause {
            Some((wait, why)) => self.reason(wait, why.as_deref()),
            None if self.mailboxes.is_awaited() => NOT_YET.to_owned(),
            None => "a mailbox cannot be counted now".to_owned(),
        };
        let told = crowd.causes.into_iter().map(|(cause, accounts)| (word(cause), accounts));
        let others = (crowd.others > 0).then(|| ("other reasons".to_owned(), crowd.others));
        let all = told.chain(others).map(|(reason, accounts)| Reason { accounts, reason });
        let mut reasons: Vec<Reason> = all.collect();
        reasons.sort_by(|a, b| b.accounts.cmp(&a.accounts).then_with(|| a.reason.cmp(&b.reason)));
        reasons
    }

    /// A page of mailboxes.
    pub(super) fn report_mailboxes(
        &self,
        context: Option<&str>,
        after: Option<&Mailbox>,
        limit: usize,
    ) -> MailboxesReport {
        let page = self.mailboxes.page(context, after, limit);
        let mailboxes: Vec<MailboxLine> = page
            .map(|(mailbox, summary)| MailboxLine {
                mailbox: mailbox.to_string(),
                summary: summary.map(Into::into),
                source: self.source_of(mailbox, summary),
                accounts: self
                    .mailboxes
                    .accounts(mailbox)
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            })
            .collect();
        let is_full = mailboxes.len() == limit;
        let next = mailboxes.last().filter(|_| is_full).map(|line| line.mailbox.clone());
        MailboxesReport { mailboxes, next, is_first: after.is_none() }
    }
}

fn word(wait: Wait) -> &'static str {
    match wait {
        Wait::Pace => "pace",
        Wait::LookUp => "look-up",
        Wait::Rate => "rate",
        Wait::Claim => "claim",
        Wait::Answer => "answer",
        Wait::Retry => "retry",
        Wait::LookUpFailed => "look-up failed",
    }
}

/// A word for what is done about a dialog or a publication.
pub(super) fn state(progress: Progress) -> &'static str {
    match progress {
        Progress::Current => "current",
        Progress::Waiting => "waiting",
        Progress::UnderWay => "under way",
        Progress::Paused(_) => "paused",
        Progress::Leaving => "leaving",
        Progress::Gone => "gone",
    }
}

/// Seconds until then.
pub(super) fn seconds(at: Option<Instant>, now: Instant) -> Option<u64> {
    at.map(|at| at.saturating_duration_since(now)).map(|left: Duration| left.as_secs())
}

/// Seconds until it is tried again.
pub(super) fn retry(view: &PublicationView, now: Instant) -> Option<u64> {
    match view.progress {
        Progress::Paused(until) => seconds(Some(until), now),
        _ => None,
    }
}

/// Seconds until the subscription ends; negative when it has.
pub(super) fn remaining(row: &Row) -> Option<i64> {
    let now = i64::try_from(unix()).unwrap_or(i64::MAX);
    row.expires.map(|ends| ends.saturating_sub(now))
}

pub(super) fn publication(view: &PublicationView, now: Instant) -> PublicationReport {
    PublicationReport {
        way: view.way.name(),
        state: state(view.progress),
        accepted: view.accepted.map(Into::into),
        has_etag: view.has_etag,
        remaining_seconds: seconds(view.expires, now),
        retry_seconds: retry(view, now),
        why: view.why.as_deref().map(str::to_owned),
    }
}

fn dialog(row: &Row, view: Option<&DialogView>, now: Instant) -> DialogReport {
    let since = |last: Instant| now.saturating_duration_since(last).as_secs();
    DialogReport {
        id: row.id,
        call_id: row.callid.clone(),
        contact: row.contact.clone(),
        expires: row.expires,
        remaining_seconds: remaining(row),
        cseq: row.sent_cseq,
        sent_cseq: view.map(|view| view.cseq).filter(|cseq| *cseq > 0),
        acknowledged: view.and_then(|view| view.acknowledged).map(Into::into),
        state: view.map_or("not told", |view| state(view.progress)),
        last_seconds: view.and_then(|view| view.last).map(since),
        answer: view.and_then(|view| view.why.as_deref().map(str::to_owned)),
        retry_seconds: seconds(view.and_then(|view| view.next), now),
        problem: Dialog::from_row(row).err().map(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_counted_whole_and_kept_up_to_its_limits() {
        let accounts: Vec<Account> =
            (0..1000).map(|user| format!("{user:03}@example.com").parse().unwrap()).collect();
        let mut crowd = Crowd::new(3);
        let why = |number: usize| Some(Arc::from(format!("{number} Said By A Phone")));
        for (number, account) in accounts.iter().enumerate().rev() {
            let wait = if number % 2 == 0 { Wait::Retry } else { Wait::Pace };
            let why = why(number);
            let pending = Pending { account, desired: None, wait, next: None, why, left: 1 };
            crowd.note(account, (number != 1).then_some(pending));
        }
        assert_eq!(crowd.waiting, 1000);
        let first: Vec<_> = crowd.first.keys().map(|account| account.user()).collect();
        assert_eq!(first, ["000", "001", "002"]);
        assert!(crowd.first[&accounts[1]].is_none() && crowd.first[&accounts[2]].is_some());
        // Of what was answered before, nothing is said of those whose turn comes soon.
        assert_eq!(crowd.causes[&Some((Wait::Pace, None))], 499);
        assert_eq!(crowd.causes.len(), MAX_REASONS);
        assert_eq!(crowd.others + crowd.causes.values().sum::<usize>(), 1000);
    }
}
