//! What the pure parts ask for, done: the database, names, NOTIFYs; and what came of it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mwid_core::dialog::{Dialog, Row, RowId};
use mwid_core::mailbox::Account;
use mwid_core::publication::{self, Outcome, Wish};
use mwid_core::reconciler::{Action, Urgency, Verdict};
use mwid_core::summary::Summary;
use tokio::task::JoinError;

use super::agent::OfAgent;
use super::line::Went;
use super::{DONE_BATCH, Daemon};
use crate::clock::unix;
use crate::config::{Cleanup, FindBy, HostPort};
use crate::delivery::{Order, Published, Report};
use crate::dialogs::watch::{Change, Listed};
use crate::dialogs::{Found, StoreError};
use crate::source::ask;
use crate::transport;
use crate::webhook::Event;

/// The CSeq of a claim; `None` when the row is gone.
type Claimed = Result<Option<u32>, StoreError>;

/// Something that was waited for beside the loop.
pub(super) enum Done {
    Found(Vec<(Account, Result<Found, StoreError>)>, Went),
    Claimed(Vec<(Arc<Dialog>, Claimed)>, Went),
    Deleted(Arc<Dialog>, Result<bool, StoreError>),
    /// The ledger has the CSeqs: the NOTIFYs may go out.
    Noted(Vec<Order>),
    /// The ledger has it that the publication is unknown: the step may be taken.
    Publishable(publication::Order),
    Published(publication::Order, Published, Duration),
    Resolved(HostPort, io::Result<Vec<SocketAddr>>),
    /// Somebody was asked for an account that no source knows.
    Asked(Account, &'static str, ask::Found),
    /// Something for the presence agent.
    OfAgent(OfAgent),
    /// A question of a command was answered.
    Answered,
}

impl Daemon {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Find(account) => self.lines.finds.push(account),
            Action::Claim { dialog, above } => self.lines.claims.push((dialog, above)),
            Action::Notify { dialog, account, summary, cseq } => {
                let order = Order { dialog, account, summary, cseq };
                self.watch_notify(&order);
                self.lines.notifies.push(order);
            }
            Action::Publish(order) => {
                let noted = self.ledger.publishing(&order);
                self.work.spawn(async move {
                    noted.await;
                    Done::Publishable(order)
                });
            }
        }
    }

    /// Has done together what [`act`](Self::act) has put in line.
    pub(super) fn ask_together(&mut self) {
        while let Some((claims, turn)) = self.lines.claims.next() {
            self.counters.claims += claims.len() as u64;
            let store = self.store.clone();
            self.work.spawn(async move {
                let claimed = store.claim_all(&claims).await;
                let went = turn.end(claimed.iter().filter_map(|it| it.as_ref().err()));
                let dialogs = claims.into_iter().map(|(dialog, _)| dialog);
                Done::Claimed(dialogs.zip(claimed).collect(), went)
            });
        }
        while let Some((accounts, turn)) = self.lines.finds.next() {
            self.counters.lookups += accounts.len() as u64;
            let (store, ended_too) = (self.store.clone(), self.presence.is_some());
            self.work.spawn(async move {
                let found = store.find_all(&accounts, unix(), ended_too).await;
                let went = turn.end(found.iter().filter_map(|it| it.as_ref().err()));
                Done::Found(accounts.into_iter().zip(found).collect(), went)
            });
        }
        if !self.lines.notifies.is_empty() {
            let orders = std::mem::take(&mut self.lines.notifies);
            let sending = orders.iter().map(|order| (order.dialog.clone(), order.cseq));
            let noted = self.ledger.sending(sending.collect());
            self.work.spawn(async move {
                noted.await;
                Done::Noted(orders)
            });
        }
    }

    pub(super) fn resolve(&mut self, name: HostPort) {
        self.work.spawn(async move {
            let (host, port) = (name.host.clone(), name.port);
            let found = tokio::task::spawn_blocking(move || transport::resolve(&host, port)).await;
            Done::Resolved(name, found.unwrap_or_else(|error| Err(io::Error::other(error))))
        });
    }

    fn delete(&mut self, dialog: Arc<Dialog>) {
        self.unfinished += 1;
        let (store, places) = (self.store.clone(), self.lines.places.clone());
        self.work.spawn(async move {
            let _place = places.acquire().await;
            let deleted = store.delete(&dialog).await;
            Done::Deleted(dialog, deleted)
        });
    }

    /// This, and what else has been done meanwhile.
    pub(super) fn handle_all_done(&mut self, done: Result<Done, JoinError>) {
        self.handle_done(done);
        for _ in 1..DONE_BATCH {
            let Some(done) = self.work.try_join_next() else { return };
            self.handle_done(done);
        }
    }

    pub(super) fn handle_done(&mut self, done: Result<Done, JoinError>) {
        let now = Instant::now();
        let done = match done {
            Ok(done) => done,
            // The drivers of the databases are fenced (`dialogs`): this is a bug of mwid itself.
            // What it was doing stays undone, all others go on.
            Err(error) => {
                return tracing::error!("a task of mwid failed, please report this: {error}");
            }
        };
        match done {
            Done::Found(found, went) => {
                let is_read = self.lines.finds.learn(&went);
                for (account, found) in found {
                    match is_read {
                        true => self.handle_looked_up(&account, found, now),
                        false => self.reconciler.handle_outdated(&account),
                    }
                }
            }
            Done::Claimed(claimed, went) => {
                self.lines.claims.learn(&went);
                for (dialog, claimed) in claimed {
                    self.handle_claimed(&dialog, claimed, now);
                }
            }
            Done::Noted(orders) => {
                for order in orders {
                    self.handle_noted(order, now);
                }
            }
            Done::Deleted(dialog, deleted) => {
                self.unfinished -= 1;
                match deleted {
                    Ok(was_there) => {
                        self.count_deleted(was_there);
                        tracing::info!(account = %dialog.account, row = %dialog.row, call_id = %dialog.call_id, "the row was deleted");
                    }
                    Err(error) => {
                        self.counters.database_errors += 1;
                        tracing::warn!(account = %dialog.account, row = %dialog.row, "the row could not be deleted, it stays until it ends: {error}");
                    }
                }
            }
            Done::Publishable(order)
                if order.wish != Wish::Remove && !self.owns(&order.account) =>
            {
                let later = Outcome::Later(None);
                self.reconciler.handle_published(order.way, &order.account, later, now);
            }
            Done::Publishable(order) => self.publish(order),
            Done::Published(order, published, elapsed) => {
                self.unfinished -= 1;
                self.handle_published(&order, published, elapsed, now);
            }
            Done::Resolved(name, found) => {
                self.delivery.handle_resolved(&name, found, now, unix(), &self.transport);
            }
            Done::Asked(account, source, found) => self.handle_asked(&account, source, found),
            Done::OfAgent(done) => self.handle_of_agent(done, now),
            Done::Answered => {}
        }
    }

    fn handle_looked_up(
        &mut self,
        account: &Account,
        found: Result<Found, StoreError>,
        now: Instant,
    ) {
        match found {
            Ok(found) => self.handle_found(account, found, now),
            Err(error) => {
                self.database_failed(&error);
                self.reconciler.handle_lookup_failure(account, now);
            }
        }
    }

    fn handle_claimed(&mut self, dialog: &Arc<Dialog>, claimed: Claimed, now: Instant) {
        match claimed {
            Ok(cseq) => {
                self.said.database_works();
                self.said.writing_works();
                let is_used = self.reconciler.handle_claim(dialog.row, cseq, now);
                if let Some(cseq) = cseq.filter(|_| !is_used) {
                    self.ledger.unused(dialog, cseq);
                }
            }
            Err(error) => {
                self.claim_failed(dialog.row, &error);
                self.reconciler.handle_claim_failure(dialog.row, now);
            }
        }
    }

    fn handle_noted(&mut self, order: Order, now: Instant) {
        if self.owns(&order.account) {
            self.delivery.send(order, now, unix(), &self.transport);
        } else {
            // Its account was taken over while the ledger wrote.
            self.reconciler.handle_verdict(order.dialog.row, Verdict::Later(None), now);
        }
    }

    pub(super) fn database_failed(&mut self, error: &StoreError) {
        self.counters.database_errors += 1;
        let reconciler = &self.reconciler;
        self.said.database_failed(error, || reconciler.census().waiting);
    }

    /// Where there is no connection at all, that is said of the database as a whole.
    fn claim_failed(&mut self, row: RowId, error: &StoreError) {
        self.reconciler.explain_dialog(row, &error.to_string());
        match error {
            StoreError::Exhausted { row } => self.said.exhausted(*row, error),
            StoreError::Unreachable { .. } => self.database_failed(error),
            _ => {
                self.counters.database_errors += 1;
                let reconciler = &self.reconciler;
                self.said.writing_failed(error, || reconciler.census().waiting);
            }
        }
    }

    fn handle_found(&mut self, account: &Account, found: Found, now: Instant) {
        self.said.database_works();
        if found.capped {
            self.counters.capped_lookups += 1;
            self.said.capped(account, self.config.database.max_dialogs);
        }
        let mut dialogs = Vec::with_capacity(found.rows.len());
        for row in &found.rows {
            match Dialog::from_row(row) {
                Ok(dialog) if self.is_others(account, &dialog) => {}
                Ok(dialog) => dialogs.push(dialog),
                Err(error) => {
                    self.counters.bad_rows += 1;
                    self.said.bad_row(&error);
                }
            }
        }
        self.reconciler.handle_dialogs(account, dialogs, now, unix());
        self.forget_told(account);
    }

    /// The watch of the table has seen something. Accounts whose summary is not known are not looked
    /// up: that happens when it is.
    pub(super) fn change(&mut self, change: Change) {
        match change {
            Change::Accounts(accounts) => {
                self.want_counts(&accounts);
                for account in accounts {
                    self.counters.new_subscriptions += 1;
                    self.watch_subscription(&account);
                    if self.is_agents(&account) {
                        self.reconciler.introduce(&account);
                    }
                    self.reconciler.look_up(&account, Urgency::Fresh);
                }
            }
            Change::Page(page) => {
                for Listed { row, accounts } in page {
                    self.compare(&row, &accounts);
                }
            }
            Change::Synced => self.said.database_works(),
            Change::Failed(error) => self.database_failed(&error),
        }
    }

    fn compare(&mut self, row: &Row, accounts: &[Account]) {
        let is_stranger = self.is_new_to_agent(row, accounts);
        if !accounts.iter().any(|account| self.reconciler.desired(account).is_some()) {
            self.want_counts(accounts);
            if !is_stranger {
                return;
            }
        }
        match Dialog::from_row(row) {
            Ok(dialog) if self.reconciler.knows(&dialog) => {}
            Ok(_) => {
                for account in accounts {
                    if is_stranger {
                        self.reconciler.introduce(account);
                    }
                    self.reconciler.look_up(account, Urgency::CatchUp);
                }
            }
            Err(error) => self.said.bad_row(&error),
        }
    }

    /// With `find_by = either`, a row that only its watcher leads to, but whose presentity is an
    /// account of its own, belongs to that account: a secretary's phone that watches the boss
    /// shows the boss's messages.
    fn is_others(&self, account: &Account, dialog: &Dialog) -> bool {
        self.config.database.find_by == FindBy::Either
            && dialog.account != *account
            && (self.reconciler.desired(&dialog.account).is_some()
                || self.cluster.is_some() && self.mailboxes.sum(&dialog.account).is_some())
    }

    /// A phone shows this now.
    fn tell_webhook(&self, order: &Order, summary: Summary) {
        let (Some(webhook), Order { dialog, account, cseq, .. }) = (&self.webhook, order) else {
            return;
        };
        let event = Event::StateSent {
            account,
            summary,
            call_id: &dialog.call_id,
            contact: &dialog.remote_target,
            cseq: *cseq,
            is_last: dialog.ended.is_some(),
        };
        webhook.tell(account, &event);
    }

    pub(super) fn handle_report(&mut self, report: Report, now: Instant) {
        self.watch_answer(&report);
        let Report { order, verdict, answer, ended, copies, elapsed } = report;
        let Order { dialog, account, summary, cseq } = &order;
        let (call_id, contact, code) = (&dialog.call_id, &dialog.remote_target, ended.code());
        match verdict {
            Verdict::Delivered => {
                self.counters.delivered += 1;
                if let Some(summary) = summary {
                    self.ledger.delivered(dialog, *cseq, *summary);
                    self.tell_webhook(&order, *summary);
                }
                let failed = Some(self.said.settled(dialog.row)).filter(|times| *times > 0);
                tracing::info!(%account, summary = %summary.map_or_else(|| "unknown".to_owned(), |it| it.to_string()), %call_id, %contact, cseq, copies, code, ms = elapsed.as_millis(), failed, "delivered: {answer}");
            }
            Verdict::Gone => {
                self.counters.gone += 1;
                self.ledger.dead(dialog);
                self.said.settled(dialog.row);
                tracing::info!(%account, %call_id, %contact, cseq, code, "the subscription is gone: {answer}");
            }
            Verdict::TooLow => {
                self.counters.cseq_too_low += 1;
                tracing::info!(%account, %call_id, %contact, cseq, code, "the CSeq was too low: {answer}");
            }
            Verdict::Again | Verdict::Later(_) => {
                self.counters.retried += 1;
                match self.said.not_delivered(dialog.row) {
                    1 => {
                        tracing::info!(%account, %call_id, %contact, cseq, copies, code, "not delivered, will be tried again: {answer}");
                    }
                    failed => {
                        tracing::debug!(%account, %call_id, %contact, cseq, copies, code, failed, "not delivered again: {answer}");
                    }
                }
            }
        }
        let is_over = match verdict {
            Verdict::Delivered => dialog.ended.is_some(),
            Verdict::Gone => {
                dialog.ended.is_some() || self.config.general.cleanup == Cleanup::Delete
            }
            _ => false,
        };
        if is_over {
            self.delete(dialog.clone());
        }
        self.tell_waiters(&order, verdict, &answer, copies);
        if verdict != Verdict::Delivered {
            self.reconciler.explain_dialog(dialog.row, &answer);
        }
        self.reconciler.handle_verdict(order.dialog.row, verdict, now);
        self.forget_told(&order.account);
        self.count(Report { order, verdict, answer, ended, copies, elapsed }, now);
    }
}
