//! One account: what waits, what its phones show, and what is done about it.

use std::fmt;

use serde::Serialize;

use super::pending::PendingAccount;
use super::{Counts, Table, shown};

/// All that is known of an account.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AccountReport {
    /// `sip:202@example.com`
    pub account: String,
    /// What waits: the sum of its mailboxes. `None` while that is not known.
    pub summary: Option<Counts>,
    /// What its phones are told: another one than `summary` after `mwid notify`, or while a mailbox
    /// cannot be counted. `None` when this mwid tells them nothing.
    pub told: Option<Counts>,
    /// Among several mwid, the one that tells its phones.
    pub node: Option<String>,
    /// What is left to do; `None` when all is as it must be.
    pub waits: Option<PendingAccount>,
    /// The mailboxes that light it.
    pub mailboxes: Vec<MailboxReport>,
    /// Its live subscriptions, newest first.
    pub dialogs: Vec<DialogReport>,
    /// There are more than `max_dialogs` subscriptions: only the newest are told.
    pub capped: bool,
    /// What presence servers were told of it.
    pub publications: Vec<PublicationReport>,
    /// Why nothing is known of its subscriptions: the database's error.
    pub problem: Option<String>,
}

/// One mailbox of an account.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MailboxReport {
    /// `202@default`
    pub mailbox: String,
    /// What it holds; `None` while that is not known.
    pub summary: Option<Counts>,
    /// Who says so: `spool`, `externnotify`, `ami`, `http`, `sipx`, `webhook`; `call` for one of
    /// these before a restart; `cluster` for the sum over several mwid.
    pub source: Option<&'static str>,
    /// This mwid's own part of it.
    pub here: Option<Counts>,
}

/// One live subscription of an account, as the database has it, and what was done about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DialogReport {
    /// The row.
    pub id: i64,
    /// Call-ID.
    pub call_id: Option<String>,
    /// The phone's remote target.
    pub contact: Option<String>,
    /// When the subscription ends, Unix seconds.
    pub expires: Option<i64>,
    /// Seconds until then; negative when it has ended.
    pub remaining_seconds: Option<i64>,
    /// The CSeq that was last on the wire, as the row counts.
    pub cseq: Option<i64>,
    /// The highest CSeq that mwid itself sent; `None`: it has sent none.
    pub sent_cseq: Option<u32>,
    /// What the phone last acknowledged; `None` when it is not known what it shows.
    pub acknowledged: Option<Counts>,
    /// `current`, `waiting`, `under way`, `paused`, `gone`, or `not told` when this mwid has not
    /// looked at it.
    pub state: &'static str,
    /// Seconds since the last NOTIFY; `None` when there was none since mwid was started.
    pub last_seconds: Option<u64>,
    /// Why the last NOTIFY came to nothing, `486 Busy Here`; `None` since one was acknowledged.
    pub answer: Option<String>,
    /// Seconds until the next attempt.
    pub retry_seconds: Option<u64>,
    /// Why mwid cannot use the row.
    pub problem: Option<String>,
}

/// What one server was told of an account, by one way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PublicationReport {
    /// `publish`, `opensips-mi`, …
    pub way: &'static str,
    /// `current`, `waiting`, `under way`, `paused` or `leaving`.
    pub state: &'static str,
    /// What the server took last; `None` when that is not known.
    pub accepted: Option<Counts>,
    /// Whether the server's entity-tag is known.
    pub has_etag: bool,
    /// Seconds until it ends at the server, unless it is refreshed; `None` for never, or when that
    /// is not known.
    pub remaining_seconds: Option<u64>,
    /// Seconds until it is tried again.
    pub retry_seconds: Option<u64>,
    /// Why the last step came to nothing.
    pub why: Option<String>,
}

impl AccountReport {
    /// Itself, unless nothing is known of the account.
    #[must_use]
    pub fn known(self) -> Option<Self> {
        self.is_known().then_some(self)
    }

    /// Whether it has a mailbox, a subscription or a publication.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !(self.mailboxes.is_empty() && self.dialogs.is_empty() && self.publications.is_empty())
    }

    fn mailboxes(&self) -> Table {
        let mut table = Table::new(&["MAILBOX", "MESSAGES", "SOURCE"]);
        for MailboxReport { mailbox, summary, source, here } in &self.mailboxes {
            let source = match (source.unwrap_or("not counted"), here) {
                (source, Some(here)) if source == "cluster" => {
                    format!("{source}, {here} of it here")
                }
                (source, _) => source.to_owned(),
            };
            table.push([mailbox.clone(), shown(*summary), source]);
        }
        table
    }

    fn phones(&self) -> Table {
        let head = ["PHONE", "SHOWS", "ENDS IN", "CSEQ", "STATE", "LAST ANSWER", "CALL-ID"];
        let mut table = Table::new(&head);
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".to_owned());
        for dialog in &self.dialogs {
            table.push([
                text(&dialog.contact),
                shown(dialog.acknowledged),
                dialog
                    .remaining_seconds
                    .map_or_else(|| "(none)".into(), |left| format!("{left} s")),
                dialog.cseq.map_or_else(|| "(none)".into(), |cseq| cseq.to_string()),
                dialog.fate(),
                dialog.last_answer(),
                text(&dialog.call_id),
            ]);
        }
        table
    }

    fn servers(&self) -> Table {
        let mut table =
            Table::new(&["PUBLISHED BY", "SERVER HAS", "ENDS IN", "STATE", "LAST ANSWER"]);
        for it in &self.publications {
            let state = match it.retry_seconds {
                Some(seconds) => format!("tried again in {seconds} s"),
                None => it.state.to_owned(),
            };
            table.push([
                it.way.to_owned(),
                shown(it.accepted),
                it.remaining_seconds.map_or_else(|| "-".into(), |left| format!("{left} s")),
                state,
                it.why.clone().unwrap_or_default(),
            ]);
        }
        table
    }
}

impl DialogReport {
    fn fate(&self) -> String {
        match (self.state, self.retry_seconds) {
            _ if self.problem.is_some() => "cannot be told".to_owned(),
            ("paused", Some(seconds)) => format!("tried again in {seconds} s"),
            ("waiting", Some(seconds)) => format!("told in {seconds} s"),
            ("current", _) => "as it must be".to_owned(),
            ("gone", _) => "left alone until its row changes".to_owned(),
            (state, _) => state.to_owned(),
        }
    }

    fn last_answer(&self) -> String {
        let ago = self.last_seconds.map(|seconds| format!(", {seconds} s ago"));
        match (&self.problem, &self.answer) {
            (Some(problem), _) => problem.clone(),
            (None, Some(answer)) => format!("{answer}{}", ago.unwrap_or_default()),
            (None, None) => match (self.acknowledged.is_some(), ago) {
                (true, Some(ago)) => format!("acknowledged{ago}"),
                (true, None) => "acknowledged before the start".to_owned(),
                (false, _) => "-".to_owned(),
            },
        }
    }
}

impl fmt::Display for AccountReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = self.account.trim_start_matches("sip:");
        if !self.is_known() && self.problem.is_none() {
            return write!(f, "Nothing is known of {who}: it has no mailbox and no subscription");
        }
        writeln!(f, "Account {who}")?;
        writeln!(f, "  messages: {}", shown(self.summary))?;
        if self.told != self.summary {
            let told = match self.told {
                Some(told) => format!("{told}, until its mailboxes are counted next"),
                None => "nothing by this mwid".to_owned(),
            };
            writeln!(f, "  phones are told: {told}")?;
        }
        if let Some(node) = &self.node {
            writeln!(f, "  told by: node {node}")?;
        }
        if let Some(waits) = &self.waits {
            writeln!(f, "  waits: {}", waits.reason_and_time())?;
        }
        if self.capped {
            writeln!(f, "  more subscriptions than [database] max_dialogs: the newest are told")?;
        }
        if let Some(problem) = &self.problem {
            writeln!(f, "  subscriptions: not known: {}", problem.replace(char::is_control, "?"))?;
        }
        let none = |what: &str| format!("  no {what}");
        let tables = [
            if self.mailboxes.is_empty() { none("mailbox") } else { self.mailboxes().to_string() },
            match (self.dialogs.is_empty(), &self.problem) {
                (false, _) => self.phones().to_string(),
                (true, None) => none("subscription"),
                (true, Some(_)) => String::new(),
            },
            if self.publications.is_empty() { String::new() } else { self.servers().to_string() },
        ];
        let tables = tables.into_iter().filter(|table| !table.is_empty());
        f.write_str(&tables.collect::<Vec<_>>().join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use mwid_core::summary::Summary;

    use super::*;

    fn counts(new: u32) -> Option<Counts> {
        Some(Counts::from(Summary { new, ..Summary::default() }))
    }

    /// Nothing is right with this one.
    fn troubled() -> AccountReport {
        let dialog = DialogReport {
            id: 7,
            call_id: None,
            contact: Some("sip:202@192.0.2.7".into()),
            expires: None,
            remaining_seconds: None,
            cseq: None,
            sent_cseq: None,
            acknowledged: None,
            state: "not told",
            last_seconds: None,
            answer: None,
            retry_seconds: None,
            problem: Some("callid: it is missing".into()),
        };
        let gone = DialogReport { state: "gone", problem: None, cseq: Some(9), ..dialog.clone() };
        let publication = PublicationReport {
            way: "publish",
            state: "paused",
            accepted: counts(1),
            has_etag: true,
            remaining_seconds: Some(40),
            retry_seconds: Some(3),
            why: Some("503 \u{1b}[2JBusy".into()),
        };
        let endless = PublicationReport {
            way: "opensips-mi",
            state: "current",
            remaining_seconds: None,
            retry_seconds: None,
            why: None,
            ..publication.clone()
        };
        AccountReport {
            account: "sip:202@example.com".into(),
            summary: counts(2),
            told: None,
            node: Some("b".into()),
            waits: None,
            mailboxes: vec![MailboxReport {
                mailbox: "202@default".into(),
                summary: counts(2),
                source: Some("cluster"),
                here: counts(1),
            }],
            dialogs: vec![dialog, gone],
            capped: true,
            publications: vec![publication, endless],
            problem: None,
        }
    }

    #[test]
    fn what_is_wrong_with_an_account_is_said_in_its_place() {
        let text = troubled().to_string();
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        for line in [
            "Account 202@example.com",
            "phones are told: nothing by this mwid",
            "told by: node b",
            "more subscriptions than [database] max_dialogs: the newest are told",
            "202@default 2/0 (0/0) cluster, 1/0 (0/0) of it here",
            "sip:202@192.0.2.7 not known (none) (none) cannot be told callid: it is missing (none)",
            "sip:202@192.0.2.7 not known (none) 9 left alone until its row changes - (none)",
            "publish 1/0 (0/0) 40 s tried again in 3 s 503 ?[2JBusy",
            "opensips-mi 1/0 (0/0) - current",
        ] {
            assert!(lines.iter().any(|said| said == line), "{line:?} in\n{text}");
        }
        let told = AccountReport { told: counts(5), ..troubled() };
        assert!(told.to_string().contains("phones are told: 5/0 (0/0), until its mailboxes"));
    }

    #[test]
    fn of_an_account_without_anything_only_the_trouble_is_known() {
        let nothing = AccountReport {
            mailboxes: Vec::new(),
            dialogs: Vec::new(),
            publications: Vec::new(),
            ..troubled()
        };
        assert_eq!(nothing.clone().known(), None);
        assert!(nothing.to_string().starts_with("Nothing is known of 202@example.com"));
        let away = AccountReport { problem: Some("the database\nis away".into()), ..nothing };
        assert!(away.to_string().contains("subscriptions: not known: the database?is away"));
        assert!(!away.to_string().contains("no subscription"));
    }
}
