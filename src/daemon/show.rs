//! `mwid show`: an account as [`crate::report`] has it, and its subscriptions and publications in the
//! words of res_zonkey_mwi.

use std::time::Instant;

use mwid_core::dialog::{Dialog, Row, RowId};
use mwid_core::mailbox::{Account, Mailbox};
use mwid_core::reconciler::{Progress, PublicationView};
use mwid_core::summary::Summary;
use serde_json::{Value as Json, json};
use tokio::sync::oneshot;

use super::Daemon;
use super::reports::{remaining, retry, seconds, state};
use super::requests::send;
use super::work::Done;
use crate::clock::unix;
use crate::config::Way;
use crate::control::Answer;

/// Mailboxes of one page, and accounts that are shown one by one: an answer is one line.
const MAX_LIMIT: u32 = 1000;

impl Daemon {
    /// Exit code 1 when nothing is known of it, or its subscriptions cannot be read.
    pub(super) fn show_account(&mut self, account: &Account, reply: oneshot::Sender<Answer>) {
        self.report_account(account, |report| {
            let code = u8::from(!report.is_known() || report.problem.is_some());
            send(reply, Answer { text: report.to_string(), data: json!(report), code });
        });
    }

    pub(super) fn show_pending(&self, limit: u32) -> Answer {
        let report = self.report_pending(limit.min(MAX_LIMIT) as usize, |_| true);
        Answer { text: report.to_string(), data: json!(report), code: 0 }
    }

    /// Exit code 1 when there is none.
    pub(super) fn show_mailboxes(
        &self,
        context: Option<&str>,
        after: Option<&str>,
        limit: u32,
    ) -> Answer {
        let after = match after.map(Mailbox::parse).transpose() {
            Ok(after) => after,
            Err(error) => return Answer::refused(error.to_string()),
        };
        let limit = limit.clamp(1, MAX_LIMIT) as usize;
        let report = self.report_mailboxes(context, after.as_ref(), limit);
        let code = u8::from(report.is_first && report.mailboxes.is_empty());
        let text = match context.filter(|_| code != 0) {
            Some(context) => format!("No mailbox of context {} is known", context.escape_debug()),
            None => report.to_string(),
        };
        Answer { text, data: json!(report), code }
    }

    pub(super) fn show_subscription(&mut self, account: Account, reply: oneshot::Sender<Answer>) {
        let now = Instant::now();
        let views: Vec<_> = self.reconciler.publications(&account, now).collect();
        if !self.config.delivery.uses(Way::Notify) {
            let mut answer = shown(&account, &[], &[], &views, now);
            if views.is_empty() {
                let who = account.as_str().trim_start_matches("sip:");
                answer.text = format!("Nothing is published of {who}");
            }
            return send(reply, answer);
        }
        let store = self.store.clone();
        let delivered: Vec<(RowId, Summary)> = self.reconciler.delivered_to(&account).collect();
        self.work.spawn(async move {
            let answer = match store.find(&account, unix()).await {
                Ok(found) => shown(&account, &found.rows, &delivered, &views, now),
                Err(error) => Answer::refused(error.to_string()),
            };
            send(reply, answer);
            Done::Answered
        });
    }
}

/// What is printed, in the words of res_zonkey_mwi and a few more.
fn shown(
    account: &Account,
    rows: &[Row],
    delivered: &[(RowId, Summary)],
    views: &[PublicationView],
    now: Instant,
) -> Answer {
    let who = account.as_str().trim_start_matches("sip:");
    let mut text = String::new();
    let mut subscriptions = Vec::new();
    for row in rows {
        let shown = delivered.iter().find(|(id, _)| id.0 == row.id).map(|(_, shown)| *shown);
        let problem = Dialog::from_row(row).err().map(|error| error.to_string());
        text.push_str(&describe(who, row, shown, problem.as_deref()));
        subscriptions.push(json!({
            "id": row.id, "to_tag": row.to_tag, "from_tag": row.from_tag, "callid": row.callid,
            "expires": row.expires, "remaining_seconds": remaining(row),
            "local_cseq": row.local_cseq, "contact": row.contact,
            "record_route": row.record_route, "acknowledged": shown.map(|shown| shown.to_string()),
            "problem": problem,
        }));
    }
    for view in views {
        text.push_str(&describe_publication(who, view, now));
    }
    let is_nothing = rows.is_empty() && views.is_empty();
    if is_nothing {
        text = format!("No subscription of {who} was found");
    }
    let publications: Json = views.iter().map(|view| publication(view, now)).collect();
    let data = json!({
        "account": account.as_str(), "subscriptions": subscriptions, "publications": publications,
    });
    Answer { text: text.trim_end().to_owned(), data, code: u8::from(is_nothing) }
}

fn publication(view: &PublicationView, now: Instant) -> Json {
    json!({
        "way": view.way.name(), "state": state(view.progress),
        "accepted": view.accepted.map(|accepted| accepted.to_string()),
        "has_etag": view.has_etag, "remaining_seconds": seconds(view.expires, now),
        "retry_seconds": retry(view, now), "why": view.why.as_deref(),
    })
}

fn describe_publication(who: &str, view: &PublicationView, now: Instant) -> String {
    let progress = match view.progress {
        Progress::Current => "as it must be".to_owned(),
        Progress::Waiting => "waits for its turn".to_owned(),
        Progress::UnderWay => "under way, not answered yet".to_owned(),
        Progress::Paused(until) => {
            format!("tried again in {} s", until.saturating_duration_since(now).as_secs())
        }
        Progress::Leaving | Progress::Gone => "no longer wanted, is removed".to_owned(),
    };
    let accepted = view.accepted.map_or_else(|| "not known".to_owned(), |it| it.to_string());
    let ends = match (view.accepted, seconds(view.expires, now)) {
        (_, Some(left)) => format!("in {left} s, unless refreshed"),
        (Some(_), None) => "never".to_owned(),
        (None, None) => "not known".to_owned(),
    };
    let etag = if view.has_etag { "known" } else { "(none)" };
    let mut lines = format!(
        "MWI publication details for {who}:\n  Way: {}\n  Server has: {accepted}\n  \
         Entity-tag: {etag}\n  Ends: {ends}\n  State: {progress}\n",
        view.way,
    );
    if let Some(why) = &view.why {
        lines.push_str(&format!("  Why: {}\n", why.replace(char::is_control, "?")));
    }
    lines
}

fn describe(who: &str, row: &Row, shown: Option<Summary>, problem: Option<&str>) -> String {
    let text = |value: &Option<String>| {
        let value = value.as_deref().unwrap_or("(none)");
        value.replace(char::is_control, "?")
    };
    let number = |value: Option<i64>| value.map_or_else(|| "(none)".to_owned(), |n| n.to_string());
    let mut lines = format!(
        "MWI subscription details for {who}:\n  To tag: {}\n  From tag: {}\n  Call-ID: {}\n  \
         Expires: {}\n  CSeq: {}\n  Contact: {}\n  Phone shows: {}\n  Ends in: {}\n",
        text(&row.to_tag),
        text(&row.from_tag),
        text(&row.callid),
        number(row.expires),
        number(row.local_cseq),
        text(&row.contact),
        shown.map_or_else(|| "not known".to_owned(), |shown| shown.to_string()),
        remaining(row).map_or_else(|| "(none)".to_owned(), |left| format!("{left} s")),
    );
    if let Some(problem) = problem {
        lines.push_str(&format!("  Problem: {problem}\n"));
    }
    lines
}
