//! The accounts that wait, and why.

use std::fmt;

use serde::Serialize;

use super::{Counts, Table, shown};

/// All accounts that wait, by reason, and the first of them one by one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PendingReport {
    /// How many accounts wait.
    pub waiting: usize,
    /// What they wait for, the most frequent first.
    pub reasons: Vec<Reason>,
    /// The first of them, in their order.
    pub accounts: Vec<PendingAccount>,
}

/// Accounts that wait for the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// How many.
    pub accounts: usize,
    /// For what, or why they have to.
    pub reason: String,
}

/// One account that waits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PendingAccount {
    /// `sip:202@example.com`
    pub account: String,
    /// What its phones are to be told; `None` when that is not known.
    pub summary: Option<Counts>,
    /// `pace`, `look-up`, `rate`, `claim`, `answer`, `retry`, `look-up failed` or `not counted`.
    pub wait: &'static str,
    /// The same in words, with what was answered last.
    pub reason: String,
    /// Seconds until it is tried again, where that is known.
    pub retry_seconds: Option<u64>,
    /// Subscriptions and publications that are not as they must be, as far as they are known.
    pub left: usize,
}

impl PendingAccount {
    pub(super) fn reason_and_time(&self) -> String {
        let reason = self.reason.replace(char::is_control, "?");
        match self.retry_seconds {
            Some(seconds) => format!("{reason}; again in {seconds} s"),
            None => reason,
        }
    }
}

impl fmt::Display for PendingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.waiting == 0 {
            return f.write_str("No account waits");
        }
        match self.waiting {
            1 => writeln!(f, "1 account waits")?,
            several => writeln!(f, "{several} accounts wait")?,
        }
        let mut table = Table::new(&["ACCOUNTS", "WHY"]);
        for Reason { accounts, reason } in &self.reasons {
            table.push([accounts.to_string(), reason.clone()]);
        }
        writeln!(f, "{table}")?;
        let mut table = Table::new(&["ACCOUNT", "TO BE TOLD", "LEFT", "AGAIN IN", "WHY"]);
        for it in &self.accounts {
            table.push([
                it.account.trim_start_matches("sip:").to_owned(),
                shown(it.summary),
                it.left.to_string(),
                it.retry_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds} s")),
                it.reason.clone(),
            ]);
        }
        write!(f, "{table}")?;
        match self.waiting.saturating_sub(self.accounts.len()) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}
