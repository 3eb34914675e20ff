//! `mwid show subscription`: the subscriptions and publications of an account.

use std::time::{Duration, Instant};

use mwid_core::dialog::{Dialog, Row, RowId};
use mwid_core::mailbox::Account;
use mwid_core::reconciler::{Progress, PublicationView};
use mwid_core::summary::Summary;
use serde_json::{Value as Json, json};
use tokio::sync::oneshot;

use super::Daemon;
use super::requests::send;
use super::work::Done;
use crate::clock::unix;
use crate::config::Way;
use crate::control::Answer;

impl Daemon {
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

/// A word for what is done about a publication.
pub(super) fn state(progress: Progress) -> &'static str {
    match progress {
        Progress::Current => "current",
        Progress::Waiting => "waiting",
        Progress::UnderWay => "under way",
        Progress::Paused(_) => "paused",
        Progress::Leaving => "leaving",
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

fn describe_publication(who: &str, view: &PublicationView, now: Instant) -> String {
    let progress = match view.progress {
        Progress::Current => "as it must be".to_owned(),
        Progress::Waiting => "waits for its turn".to_owned(),
        Progress::UnderWay => "under way, not answered yet".to_owned(),
        Progress::Paused(until) => {
            format!("tried again in {} s", until.saturating_duration_since(now).as_secs())
        }
        Progress::Leaving => "no longer wanted, is removed".to_owned(),
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

/// Seconds until the subscription ends; negative when it has.
fn remaining(row: &Row) -> Option<i64> {
    let now = i64::try_from(unix()).unwrap_or(i64::MAX);
    row.expires.map(|ends| ends.saturating_sub(now))
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
