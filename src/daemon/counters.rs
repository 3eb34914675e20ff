//! What the daemon counts, and what it says once.

use std::collections::{HashMap, HashSet};
use std::io;
use std::mem::{Discriminant, discriminant};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mwid_core::agent::Impostor;
use mwid_core::dialog::{RowError, RowId};
use mwid_core::mailbox::{Account, Mailbox, NameError};
use mwid_core::message::MessageError;
use serde::Serialize;

use super::ways::Failing;
use crate::dialogs::StoreError;
use crate::metrics::Tally;

/// Counters since the start. They only grow.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Counters {
    pub(crate) observed_by_spool: u64,
    pub(crate) observed_by_externnotify: u64,
    pub(crate) observed_by_http: u64,
    pub(crate) observed_by_ami: u64,
    pub(crate) observed_by_sipx: u64,
    pub(crate) observed_by_webhook: u64,
    pub(crate) lookups: u64,
    pub(crate) claims: u64,
    pub(crate) delivered: u64,
    pub(crate) gone: u64,
    pub(crate) cseq_too_low: u64,
    pub(crate) retried: u64,
    pub(crate) database_errors: u64,
    pub(crate) bad_rows: u64,
    pub(crate) capped_lookups: u64,
    pub(crate) new_subscriptions: u64,
    pub(crate) published: u64,
    pub(crate) refreshed: u64,
    pub(crate) published_afresh: u64,
    pub(crate) unpublished: u64,
    pub(crate) publications_retried: u64,
    pub(crate) clock_jumps: u64,
    /// For metrics alone.
    #[serde(skip)]
    pub(crate) tally: Tally,
}

impl Counters {
    pub(super) fn observed(&mut self, source: &str) {
        match source {
            "spool" => self.observed_by_spool += 1,
            "externnotify" => self.observed_by_externnotify += 1,
            "http" => self.observed_by_http += 1,
            "ami" => self.observed_by_ami += 1,
            "sipx" => self.observed_by_sipx += 1,
            "webhook" => self.observed_by_webhook += 1,
            // What a call had counted; the call itself was.
            _ => {}
        }
    }
}

/// Things that are remembered as said are bounded: past this many, all may be said once more.
const MEMORY: usize = 10_000;

/// A minute between two words about garbage on the socket, or about what it does not take.
const SOCKET_PAUSE: Duration = Duration::from_secs(60);

/// Between two lines about wrong passwords.
const IMPOSTOR_PAUSE: Duration = Duration::from_secs(1);

/// Remembers what was said, so that a failing thing says so once and then counts.
#[derive(Debug, Default)]
pub(super) struct Said {
    rows: HashSet<(RowId, &'static str)>,
    mailboxes: HashSet<Mailbox>,
    capped: HashSet<Account>,
    /// Dialogs whose phone did not take the last NOTIFYs, and how many.
    untold: HashMap<RowId, u32>,
    /// The error of the database, while it fails.
    database: Option<String>,
    /// In which ways it has failed since it worked: it is just away (`None`), or says no.
    failures: HashSet<Option<Discriminant<StoreError>>>,
    /// The error of a claim, while rows can be read and not written.
    writing: Option<String>,
    /// Passwords of phones that subscribe to the agent, and their subscriptions.
    pub(super) users: Outage,
    pub(super) storing: Outage,
    /// In the last full count.
    mailboxes_counted: Option<usize>,
    garbage: Option<Instant>,
    floods: HashSet<IpAddr>,
    /// When those who watch are told next how far a start is, and whether it was on its way.
    pub(super) progress: Option<(Instant, bool)>,
    hasty: Option<Instant>,
    /// When a wrong password was said, and how many were not since.
    impostor: Option<(Instant, u32)>,
    flood: Option<Instant>,
    not_sent: Option<Instant>,
    /// The last reload: the configuration that stands in the file is not the one in force.
    pub(super) reload_refused: bool,
    /// The ways that fail.
    pub(super) failing: Failing,
}

/// Something that fails for a while: said when it begins and when it ends.
#[derive(Debug, Default)]
pub(super) struct Outage(Option<String>);

impl Outage {
    /// `what` is a sentence: no password can be checked.
    pub(super) fn failed(&mut self, what: &str, why: &str) {
        let text = format!("{what}: {why}");
        if self.0.is_none() {
            tracing::error!("{text}; it is tried again");
        }
        self.0 = Some(text);
    }

    /// `what` is a sentence: passwords can be checked again.
    pub(super) fn works(&mut self, what: &str) {
        if self.0.take().is_some() {
            tracing::info!("{what}");
        }
    }

    /// What is wrong now.
    pub(super) fn trouble(&self) -> Option<String> {
        self.0.clone()
    }
}

impl Said {
    /// The database failed: said when it begins, and when it fails in another way.
    pub(super) fn database_failed(&mut self, error: &StoreError, waiting: impl FnOnce() -> usize) {
        let kind = (!error.is_transient()).then(|| discriminant(error));
        let text = error.to_string();
        if self.failures.insert(kind) {
            tracing::error!(waiting = waiting(), "{text}; mwid keeps trying, nothing is lost");
        }
        self.database = Some(text);
    }

    pub(super) fn database_works(&mut self) {
        self.failures.clear();
        if self.database.take().is_some() {
            tracing::info!("the database answers again");
        }
    }

    /// Rows are not written, and whether they are read says nothing about that: a user without
    /// the right, a replica, a lock that another transaction holds.
    pub(super) fn writing_failed(&mut self, error: &StoreError, waiting: impl FnOnce() -> usize) {
        let text = error.to_string();
        if self.writing.is_none() {
            tracing::error!(
                waiting = waiting(),
                "the rows of subscriptions cannot be written, so no phone is told: {text}; mwid keeps trying"
            );
        }
        self.writing = Some(text);
    }

    pub(super) fn writing_works(&mut self) {
        if self.writing.take().is_some() {
            tracing::info!("the rows of subscriptions can be written again");
        }
    }

    /// A full count, which comes round every few minutes: news when it is the first, or finds more or
    /// fewer mailboxes.
    pub(super) fn counted(&mut self, mailboxes: usize) {
        let before = self.mailboxes_counted.replace(mailboxes);
        if before == Some(mailboxes) {
            tracing::debug!(mailboxes, "the spool has been counted");
        } else {
            tracing::info!(mailboxes, "the spool has been counted");
        }
    }

    /// What is wrong with the database now.
    pub(super) fn database(&self) -> Option<&str> {
        self.database.as_deref().or(self.writing.as_deref())
    }

    /// Whether rows can be read.
    pub(super) fn reads(&self) -> bool {
        self.database.is_none()
    }

    /// Why no CSeq can be claimed. When no account waits any more, nobody has tried to since.
    pub(super) fn claim_trouble(&self, waiting: usize) -> Option<String> {
        let error = self.writing.as_ref().filter(|_| waiting > 0)?;
        Some(format!("no CSeq can be claimed: {error}"))
    }

    pub(super) fn bad_row(&mut self, error: &RowError) {
        if once(&mut self.rows, (error.row, error.column)) {
            tracing::warn!("{error}; the row is skipped");
        }
    }

    /// No CSeq is left in a dialog: the database is well.
    pub(super) fn exhausted(&mut self, row: RowId, error: &StoreError) {
        if once(&mut self.rows, (row, "local_cseq")) {
            tracing::warn!("{error}");
        }
    }

    /// How often this phone was not told, this time included.
    pub(super) fn not_delivered(&mut self, row: RowId) -> u32 {
        if self.untold.len() >= MEMORY && !self.untold.contains_key(&row) {
            self.untold.clear();
        }
        let times = self.untold.entry(row).or_default();
        *times = times.saturating_add(1);
        *times
    }

    /// Nothing more is to be said of a phone that was not told, so many times before.
    pub(super) fn settled(&mut self, row: RowId) -> u32 {
        self.untold.remove(&row).unwrap_or_default()
    }

    pub(super) fn unmapped(&mut self, mailbox: &Mailbox, error: &NameError) {
        if once(&mut self.mailboxes, mailbox.clone()) {
            tracing::warn!(%mailbox, "the mailbox is no account: {error}; name one in [mailboxes] or a domain in [contexts]");
        }
    }

    pub(super) fn capped(&mut self, account: &Account, cap: u32) {
        if once(&mut self.capped, account.clone()) {
            tracing::warn!(%account, cap, "the account has more live subscriptions than max_dialogs: only the newest {cap} are told");
        }
    }

    pub(super) fn garbage(&mut self, from: SocketAddr, error: &MessageError) {
        let now = Instant::now();
        if self.garbage.is_none_or(|said| now > said + SOCKET_PAUSE) {
            self.garbage = Some(now);
            tracing::warn!(%from, "a datagram that is no SIP message was dropped: {error}");
        }
    }

    /// A source sends more requests than it may: said once of each, and of many not all at once.
    pub(super) fn flood(&mut self, from: SocketAddr, now: Instant, rate: u32) {
        let is_quiet = self.flood.is_some_and(|said| now < said + SOCKET_PAUSE);
        if !is_quiet && once(&mut self.floods, from.ip()) {
            self.flood = Some(now);
            let from = from.ip();
            tracing::warn!(%from, rate, "{from} sends more requests than [agent] rate allows a source: the rest is dropped and counted");
        }
    }

    /// A subscriber behind a trusted proxy asks too often.
    pub(super) fn hasty(&mut self, from: &str, rate: u32) {
        let now = Instant::now();
        if self.hasty.is_none_or(|said| now > said + SOCKET_PAUSE) {
            self.hasty = Some(now);
            let from: String = from.chars().take(200).collect();
            tracing::warn!(
                rate,
                "{from:?} subscribes more often than [agent] rate allows a subscriber: answered 500 and counted"
            );
        }
    }

    /// Somebody tried a password that is wrong. One line a second at most: they may be many, and whoever
    /// guesses comes again.
    pub(super) fn impostor(&mut self, impostor: &Impostor, now: Instant) {
        let unsaid = match &mut self.impostor {
            Some((said, unsaid)) if now < *said + IMPOSTOR_PAUSE => {
                *unsaid = unsaid.saturating_add(1);
                return;
            }
            said => said.replace((now, 0)).map_or(0, |(_, unsaid)| unsaid),
        };
        let Impostor { from, user } = impostor;
        let user: String = user.chars().take(100).collect();
        let unsaid = Some(unsaid).filter(|it| *it > 0);
        tracing::warn!(%from, unsaid, "wrong password of {user:?}, or no such user, in a SUBSCRIBE from {from}");
    }

    /// The kernel does not take a datagram: too long for it, or forbidden by a firewall.
    pub(super) fn not_sent(&mut self, to: SocketAddr, error: &io::Error) {
        let now = Instant::now();
        if self.not_sent.is_none_or(|said| now > said + SOCKET_PAUSE) {
            self.not_sent = Some(now);
            tracing::warn!(%to, "a NOTIFY could not be sent to {to}: {error}; it is tried again later");
        }
    }
}

fn once<T: std::hash::Hash + Eq>(said: &mut HashSet<T>, what: T) -> bool {
    if said.len() >= MEMORY {
        said.clear();
    }
    said.insert(what)
}
