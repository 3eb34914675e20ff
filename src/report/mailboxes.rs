//! Mailboxes, page by page.

use std::fmt;

use serde::Serialize;

use super::{Counts, Table, shown};

/// A page of mailboxes, in their order.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MailboxesReport {
    /// The mailboxes of this page.
    pub mailboxes: Vec<MailboxLine>,
    /// The last one of this page, when there may be more after it.
    pub next: Option<String>,
    /// It is the first page: its text has a head.
    #[serde(skip)]
    pub is_first: bool,
}

/// One mailbox.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MailboxLine {
    /// `202@default`
    pub mailbox: String,
    /// What it holds; `None` while that is not known.
    pub summary: Option<Counts>,
    /// Who says so, as in [`MailboxReport`](super::MailboxReport).
    pub source: Option<&'static str>,
    /// The accounts that it lights.
    pub accounts: Vec<String>,
}

/// Wide enough for most, so that pages look alike.
const WIDTHS: [usize; 3] = [24, 12, 12];

impl fmt::Display for MailboxesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_first && self.mailboxes.is_empty() {
            return f.write_str("No mailbox is known");
        }
        let mut table = Table::with_widths(&WIDTHS);
        if self.is_first {
            table.push(["MAILBOX", "MESSAGES", "SOURCE", "LIGHTS"].map(str::to_owned));
        }
        for MailboxLine { mailbox, summary, source, accounts } in &self.mailboxes {
            let accounts: Vec<&str> =
                accounts.iter().map(|account| account.trim_start_matches("sip:")).collect();
            let lights =
                if accounts.is_empty() { "no account".into() } else { accounts.join(", ") };
            let source = source.unwrap_or("not counted").to_owned();
            table.push([mailbox.clone(), shown(*summary), source, lights]);
        }
        table.fmt(f)
    }
}
