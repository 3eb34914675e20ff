//! The live rows one by one: which of them no NOTIFY can be made of, which no mailbox lights, and which
//! the server wrote back.

use std::collections::{BTreeMap, HashSet};

use mwid_core::dialog::{Dialog, Row};
use mwid_core::mailbox::{Account, Mailbox};
use rusqlite::Connection;

use super::Report;
use super::database::remedy;
use super::files::open_ledger;
use crate::clock;
use crate::config::{Config, Scope};
use crate::dialogs::DialogStore;

/// Rows that are looked at.
const MAX_ROWS: usize = 20_000;

/// Rows of one page.
const PAGE: i64 = 500;

/// Reasons that are shown.
const SHOWN: usize = 5;

/// What the rows told.
#[derive(Default)]
struct Found {
    seen: usize,
    /// By what is wrong: how many, and a row that is so.
    bad: BTreeMap<String, (usize, i64)>,
    /// By the domain that no mailbox is of.
    foreign: BTreeMap<String, (usize, Option<Account>)>,
    /// Accounts without a mailbox, in a domain that has some: how many rows, and one of them.
    without: (usize, Option<Account>),
    /// The rows of accounts that have one.
    lit: usize,
    stale: usize,
}

pub(super) async fn look(
    store: &DialogStore,
    config: &Config,
    mailboxes: Option<&[Mailbox]>,
    report: &mut Report,
) {
    let (ledger, lamps) = (Ledger::open(config), Lamps::of(config, mailboxes));
    let (mut after, unix) = (i64::MIN, clock::unix());
    let mut found = Found::default();
    while found.seen < MAX_ROWS {
        let page = store.live_rows((after, PAGE), unix, config.database.find_by).await;
        let page: Vec<(Row, Vec<Account>)> = match page {
            Ok(page) => page,
            Err(error) => return report.fail("rows", error.to_string(), remedy(&error, config)),
        };
        let Some((last, _)) = page.last() else { break };
        after = last.id;
        for (row, accounts) in &page {
            found.take(row, accounts, ledger.as_ref(), lamps.as_ref());
        }
    }
    found.say_bad(report);
    if lamps.is_some() {
        found.say_dark(report);
    }
    if ledger.is_some() {
        found.say_stale(config, report);
    }
}

impl Found {
    fn take(
        &mut self,
        row: &Row,
        accounts: &[Account],
        ledger: Option<&Ledger>,
        lamps: Option<&Lamps>,
    ) {
        self.seen += 1;
        match Dialog::from_row(row) {
            Err(error) => {
                let why = format!("column {} {}", error.column, error.problem);
                return self.bad.entry(why).or_insert((0, row.id)).0 += 1;
            }
            Ok(dialog) => {
                self.stale += usize::from(ledger.is_some_and(|it| it.is_ahead_of(&dialog)));
            }
        }
        let (Some(lamps), Some(account)) = (lamps, accounts.first()) else { return };
        if accounts.iter().any(|it| lamps.accounts.contains(it)) {
            self.lit += 1;
        } else if accounts.iter().any(|it| lamps.domains.contains(it.domain())) {
            self.without.0 += 1;
            self.without.1.get_or_insert_with(|| account.clone());
        } else {
            let foreign = self.foreign.entry(account.domain().to_owned()).or_default();
            foreign.0 += 1;
            foreign.1.get_or_insert_with(|| account.clone());
        }
    }

    fn say_bad(&self, report: &mut Report) {
        const CHECK: &str = "rows that cannot be told";
        const REMEDY: &str = "a phone that subscribes anew mends its row; rubbish may be deleted";
        for (why, (count, row)) in self.bad.iter().take(SHOWN) {
            report.warn(CHECK, format!("{count} live rows, {row} for one: {why}"), REMEDY);
        }
        if self.bad.len() > SHOWN {
            let rows: usize = self.bad.values().skip(SHOWN).map(|(count, _)| count).sum();
            let more = self.bad.len() - SHOWN;
            report.warn(CHECK, format!("{rows} live rows for {more} more reasons"), REMEDY);
        }
        if self.bad.is_empty() && self.seen > 0 {
            report.ok(CHECK, format!("none of {} that were looked at", self.seen));
        }
    }

    fn say_dark(&self, report: &mut Report) {
        const CHECK: &str = "rows that nothing lights";
        let mut foreign: Vec<_> = self.foreign.iter().collect();
        foreign.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        for (domain, (count, account)) in foreign.iter().take(SHOWN) {
            let account = account.as_ref().map(Account::to_string).unwrap_or_default();
            let text = format!(
                "{count} live rows, of {account} for one: no context has the domain {domain}"
            );
            report.warn(CHECK, text, format!("[contexts] CONTEXT = {domain}, or [mailboxes]; is [database] find_by the right one?"));
        }
        if foreign.len() > SHOWN {
            let rows: usize = foreign.iter().skip(SHOWN).map(|(_, (count, _))| count).sum();
            let text = format!("{rows} live rows of {} more domains", foreign.len() - SHOWN);
            report.warn(CHECK, text, "as above");
        }
        let (without, account) = &self.without;
        let account = account.as_ref().map(Account::to_string).unwrap_or_default();
        if *without > 0 && self.lit == 0 {
            let text = format!(
                "{without} live rows, of {account} for one: no account has a mailbox in the spool"
            );
            let find_by = "presentity, watcher, either";
            report.warn(CHECK, text, format!("is [spool] path the right one, do the folders have the users' names ([mailboxes] where not), and is [database] find_by the right one of {find_by}?"));
        } else if *without > 0 {
            report.ok(CHECK, format!("{without} of accounts whose mailbox has no folder yet, {account} for one: dark until somebody leaves a message"));
        } else if foreign.is_empty() && self.lit > 0 {
            report.ok(CHECK, format!("none of {}", self.lit));
        }
    }

    fn say_stale(&self, config: &Config, report: &mut Report) {
        const CHECK: &str = "local_cseq";
        if self.stale == 0 {
            return report.ok(CHECK, "no row counts less than mwid sent");
        }
        let stale = self.stale;
        match config.agent.listen.is_some() {
            true => report.warn(
                CHECK,
                format!("{stale} rows count less than mwid sent: were they restored from a backup?"),
                "nothing: mwid counts on from what it sent; nobody else may write the table",
            ),
            false => report.warn(
                CHECK,
                format!("{stale} rows count less than mwid sent: the presence server keeps the CSeq in memory and writes its own back, so its next NOTIFYs are answered with 500"),
                "OpenSIPS: fallback2db = 1 lessens it, it counts in memory all the same; Kamailio: subs_db_mode = 3",
            ),
        }
    }
}

/// The accounts that some mailbox lights.
struct Lamps {
    accounts: HashSet<Account>,
    /// Those in which a mailbox that comes may light another one.
    domains: HashSet<String>,
}

impl Lamps {
    /// `None` where others than the spool of this machine may light any account, or where that has
    /// nothing, which is said elsewhere.
    fn of(config: &Config, mailboxes: Option<&[Mailbox]>) -> Option<Self> {
        let by_others = config.spool.scope != Scope::Single
            || !config.http.listen.is_empty()
            || config.webhook.url.is_some()
            || config.sipx.voicemail.is_some();
        let mailboxes = mailboxes.filter(|all| !by_others && !all.is_empty())?;
        let directory = config.accounts.directory();
        let mut lamps = Self { accounts: HashSet::new(), domains: HashSet::new() };
        lamps.domains.extend(directory.contexts.values().cloned());
        lamps.accounts.extend(directory.mailboxes.values().flatten().cloned());
        for mailbox in mailboxes {
            let context = mailbox.context();
            let domain = directory.contexts.get(context).map_or(context, String::as_str);
            if !lamps.domains.contains(domain) {
                lamps.domains.insert(domain.to_owned());
            }
            lamps.accounts.extend(directory.accounts(mailbox).unwrap_or_default());
        }
        Some(lamps)
    }
}

/// What mwid itself sent, read beside the one who writes it.
struct Ledger(Connection);

impl Ledger {
    fn open(config: &Config) -> Option<Self> {
        let file = open_ledger(&config.state.path).ok()?;
        file.prepare("SELECT high_water FROM dialogs LIMIT 0").ok()?;
        Some(Self(file))
    }

    fn is_ahead_of(&self, dialog: &Dialog) -> bool {
        let sql = "SELECT high_water FROM dialogs WHERE call_id = ?1 AND local_tag = ?2 AND remote_tag = ?3";
        let sent = || -> rusqlite::Result<i64> {
            let keys = [&dialog.call_id, &dialog.local_tag, &dialog.remote_tag].map(|it| &**it);
            self.0.prepare_cached(sql)?.query_row(keys, |row| row.get(0))
        };
        let row = dialog.sent_cseq.map(i64::from);
        sent().ok().zip(row).is_some_and(|(sent, row)| sent > row)
    }
}
