//! What `mwid watch` is told: changes, NOTIFYs and their answers, and how far a start is.

use std::time::{Duration, Instant};

use mwid_core::mailbox::{Account, Mailbox};
use mwid_core::publication::{self, Outcome, Wish};
use mwid_core::reconciler::Verdict;
use mwid_core::summary::Summary;
use serde_json::{Value, json};

use super::Daemon;
use crate::config::Way;
use crate::delivery::{Ended, Order, Report};
use crate::dialogs::watch::Watch;
use crate::feed::Line;
use crate::report::Counts;

/// Between two lines that say how far it is.
const PROGRESS: Duration = Duration::from_secs(1);

/// As many accounts that wait are a crowd, whose progress is told.
const CROWD: usize = 10;

fn who(account: &Account) -> &str {
    account.as_str().trim_start_matches("sip:")
}

fn counts(summary: Option<Summary>) -> Value {
    json!(summary.map(Counts::from))
}

fn shown(summary: Option<Summary>) -> String {
    summary.map_or_else(|| "not known".to_owned(), |summary| summary.to_string())
}

impl Daemon {
    /// What this mwid knows of a mailbox by itself.
    pub(super) fn known_here(&self, mailbox: &Mailbox) -> Option<Summary> {
        match &self.cluster {
            Some(cluster) => cluster.here(mailbox),
            None => self.mailboxes.count(mailbox),
        }
    }

    /// A source says what a mailbox holds; `before` is what was known. What is only counted again
    /// or, at the start, for the first time is no change.
    pub(super) fn watch_count(
        &self,
        mailbox: &Mailbox,
        before: Option<Summary>,
        now: Summary,
        source: &str,
        is_fresh: bool,
    ) {
        let is_news = is_fresh || before.is_some_and(|before| before != now);
        if !is_news {
            return;
        }
        tracing::debug!(%mailbox, source, "counted: {now}");
        if !self.control.feed().is_read() {
            return;
        }
        for account in self.mailboxes.accounts(mailbox) {
            let what = format!("{source:<12}  {mailbox} holds {now}");
            let data = json!({
                "type": "change", "account": account.as_str(), "mailbox": mailbox.to_string(),
                "source": source, "counts": Counts::from(now),
            });
            self.control.feed().tell(Some(&account), Line::new(who(&account), &what, data));
        }
    }

    /// The presence server has a new or a refreshed row.
    pub(super) fn watch_subscription(&self, account: &Account) {
        if self.control.feed().is_read() {
            let data = json!({ "type": "subscription", "account": account.as_str() });
            let what = "subscribe     a row is new or was refreshed";
            self.control.feed().tell(Some(account), Line::new(who(account), what, data));
        }
    }

    pub(super) fn watch_notify(&self, order: &Order) {
        if !self.control.feed().is_read() {
            return;
        }
        let Order { dialog, account, summary, cseq } = order;
        let what = format!("NOTIFY {cseq:<6} {} to {}", shown(*summary), dialog.remote_target);
        let data = json!({
            "type": "notify", "account": account.as_str(), "call_id": dialog.call_id,
            "contact": dialog.remote_target, "cseq": cseq, "counts": counts(*summary),
        });
        self.control.feed().tell(Some(account), Line::new(who(account), &what, data));
    }

    pub(super) fn watch_answer(&self, report: &Report) {
        if !self.control.feed().is_read() {
            return;
        }
        let Report { order, verdict, answer, ended, copies, elapsed } = report;
        let Order { dialog, account, summary, cseq } = order;
        let millis = elapsed.as_secs_f64() * 1000.0;
        let sent = if *copies > 1 { format!(", {copies} copies") } else { String::new() };
        let fate = match verdict {
            Verdict::Delivered => "",
            Verdict::Gone => "; the subscription is gone",
            Verdict::TooLow => "; the CSeq was too low",
            Verdict::Again => "; tried again at once",
            Verdict::Later(_) => "; tried again later",
        };
        // A proxy that does not listen is not the phone's answer.
        let from = match ended {
            Ended::Code(_) | Ended::TimedOut => "from",
            Ended::Unreachable | Ended::NotSent | Ended::Abandoned => "for",
        };
        let what = format!(
            "answer {cseq:<6} {answer} {from} {} after {millis:.1} ms{sent}{fate}",
            dialog.remote_target
        );
        let data = json!({
            "type": "answer", "account": account.as_str(), "call_id": dialog.call_id,
            "contact": dialog.remote_target, "cseq": cseq, "counts": counts(*summary),
            "answer": answer, "copies": copies, "milliseconds": millis,
            "verdict": match verdict {
                Verdict::Delivered => "delivered",
                Verdict::Gone => "gone",
                Verdict::TooLow => "too low",
                Verdict::Again | Verdict::Later(_) => "again",
            },
        });
        self.control.feed().tell(Some(account), Line::new(who(account), &what, data));
    }

    /// A step of a publication came to its end.
    pub(super) fn watch_published(
        &self,
        order: &publication::Order,
        outcome: &Outcome,
        answer: &str,
        elapsed: Duration,
    ) {
        if !self.control.feed().is_read() {
            return;
        }
        let publication::Order { way, account, wish, .. } = order;
        let (step, summary) = match wish {
            Wish::State(summary) => ("state", Some(*summary)),
            Wish::Refresh(summary) => ("refresh", Some(*summary)),
            Wish::Remove => ("remove", None),
        };
        let millis = elapsed.as_secs_f64() * 1000.0;
        let told = summary.map(|summary| format!(" {summary}")).unwrap_or_default();
        let what = format!("{way:<12}  {step}{told}: {answer} after {millis:.1} ms");
        let data = json!({
            "type": "published", "account": account.as_str(), "way": way.name(), "step": step,
            "counts": counts(summary), "answer": answer, "milliseconds": millis,
            "accepted": matches!(outcome, Outcome::Accepted { .. }),
        });
        self.control.feed().tell(Some(account), Line::new(who(account), &what, data));
    }

    /// Every second, while there is a crowd or the spool or the table is read: how far it is; and
    /// once more when it is done.
    pub(super) fn watch_progress(&mut self, now: Instant) {
        if !self.control.feed().is_read() {
            self.said.progress = None;
            return;
        }
        if self.said.progress.is_some_and(|(next, _)| now < next) {
            return;
        }
        self.control.feed().flush();
        let was_busy = self.said.progress.is_some_and(|(_, was_busy)| was_busy);
        let backlog = self.reconciler.backlog();
        let is_counting = self.spool.is_some() && self.mailboxes.is_awaited();
        let is_reading = self.watch.as_ref().is_some_and(|watch| Watch::health(watch).resyncing);
        let is_busy = is_counting || is_reading || backlog.waiting > CROWD;
        self.said.progress = Some((now + PROGRESS, is_busy));
        if !is_busy && !was_busy {
            return;
        }
        let mut what = format!("{} mailboxes, {}", self.mailboxes.len(), self.headline());
        if is_counting {
            what.push_str("; the spool is being counted");
        }
        if is_reading {
            what.push_str("; the table is being read");
        }
        let data = json!({
            "type": "progress", "mailboxes": self.mailboxes.len(), "accounts": backlog.accounts,
            "phones": backlog.dialogs, "waiting": backlog.waiting, "counting": is_counting,
            "reading": is_reading,
        });
        self.control.feed().tell(None, Line { is_progress: true, ..Line::new("", &what, data) });
    }

    /// Whether the phones of this account are told by NOTIFY at all, said to who begins to watch.
    pub(super) fn watch_begins(&self, account: Option<&Account>) -> (String, Value) {
        let of = account.map_or_else(|| "everything".to_owned(), |account| who(account).to_owned());
        let text = format!("Watching {of}: {}", self.headline());
        let ways = Way::ALL.into_iter().filter(|way| self.config.delivery.uses(*way));
        let ways: Vec<&str> = ways.map(Way::name).collect();
        (text, json!({ "watching": account.map(Account::as_str), "ways": ways }))
    }
}
