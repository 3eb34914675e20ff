//! The commands of an operator, carried out in the loop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mwid_core::mailbox::{Account, NameError};
use mwid_core::reconciler::{Desired, Standing, Urgency, Verdict};
use mwid_core::summary::Summary;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::clients::Clients;
use super::publications::PublishedResult;
use super::work::Done;
use super::{Daemon, connections, settings, status, watch};
use crate::cluster::{self, Cluster};
use crate::config::{self, Config, Way};
use crate::control::{Answer, Command, Request};
use crate::delivery::Order;
use crate::dialogs::DialogStore;
use crate::source::http::Reply;
use crate::transport::Transport;

/// How long `notify` waits for answers: Timer F of a default T1 and a little. What is still under
/// way then is said to be.
const NOTIFY_PATIENCE: Duration = Duration::from_secs(40);

/// A `notify` command that waits for the phones.
pub(super) struct Waiter {
    pub(super) account: Account,
    pub(super) summary: Summary,
    results: Vec<PhoneResult>,
    pub(super) publications: Vec<PublishedResult>,
    reply: oneshot::Sender<Answer>,
    pub(super) deadline: Instant,
}

struct PhoneResult {
    contact: String,
    call_id: String,
    cseq: u32,
    copies: u32,
    answer: String,
    verdict: Verdict,
}

impl Daemon {
    pub(super) fn request(&mut self, request: Request) {
        let Request { command, reply } = request;
        match command {
            Command::Status => self.status(reply),
            Command::ShowSubscription { user, domain } => match Account::new(&user, &domain) {
                Ok(account) => self.show_subscription(account, reply),
                Err(error) => send(reply, Answer::refused(error.to_string())),
            },
            Command::ShowAccount { user, domain } => match Account::new(&user, &domain) {
                Ok(account) => self.show_account(&account, reply),
                Err(error) => send(reply, Answer::refused(error.to_string())),
            },
            Command::ShowPending { limit } => send(reply, self.show_pending(limit)),
            Command::ShowMailboxes { context, after, limit } => {
                send(reply, self.show_mailboxes(context.as_deref(), after.as_deref(), limit));
            }
            Command::Notify { user, domain, new, old } => match Account::new(&user, &domain) {
                Ok(account) => self.notify(account, new, old, reply),
                Err(error) => send(reply, Answer::refused(error.to_string())),
            },
            Command::Debug { on, account } => {
                let account = account.map(|account| account.parse()).transpose();
                send(
                    reply,
                    match account {
                        Ok(account) => self.debug.switch(on, account),
                        Err(error) => Answer::refused(NameError::to_string(&error)),
                    },
                );
            }
            Command::Watch { account } => {
                // Its name was believed before it came here (src/control/server.rs).
                let account = account.and_then(|account| account.parse().ok());
                let (text, data) = self.watch_begins(account.as_ref());
                send(reply, Answer { text, data, code: 0 });
            }
            Command::Forget { context } => send(reply, self.forget(&context)),
            Command::Drain { on } => send(reply, self.drain(on)),
            Command::Reload => {
                self.manager.reloading();
                let answer = self.reload();
                self.said.reload_refused = answer.code != 0;
                let status = self.headline();
                self.manager.status(status);
                self.manager.ready();
                for line in answer.text.lines() {
                    match (answer.code, line.strip_prefix("warning: ")) {
                        (0, Some(warning)) => tracing::warn!("{warning}"),
                        (0, None) => tracing::info!("{line}"),
                        _ => tracing::error!("{line}"),
                    }
                }
                send(reply, answer);
            }
        }
    }

    fn status(&mut self, reply: oneshot::Sender<Answer>) {
        let snapshot = self.snapshot(|_| true);
        let store = self.database();
        self.work.spawn(async move {
            let probe = match store {
                Some(store) => Some(store.probe().await),
                None => None,
            };
            send(reply, status::answer(snapshot, probe));
            Done::Answered
        });
    }

    /// The same over HTTP: for pages that ask every few seconds, so the table is not looked at afresh,
    /// and without the accounts that may not be named there.
    pub(super) fn status_over_http(&mut self, reply: Reply<Value>) {
        let snapshot = self.snapshot(|domain| self.doorway.may_name(domain));
        let store = self.database();
        self.work.spawn(async move {
            let probe = match store {
                Some(store) => Some(store.inspect().await),
                None => None,
            };
            // The client may have gone.
            let _ = reply.send(Ok(status::answer(snapshot, probe).data));
            Done::Answered
        });
    }

    /// Where phones are told by NOTIFY.
    fn database(&self) -> Option<DialogStore> {
        self.config.delivery.uses(Way::Notify).then(|| self.store.clone())
    }

    /// Tells the account's phones these counts. They hold until its mailboxes are counted next:
    /// the lamp is state, and a command does not change what the spool holds.
    fn notify(&mut self, account: Account, new: u32, old: u32, reply: oneshot::Sender<Answer>) {
        if let Some(cluster) = &self.cluster
            && !self.owns(&account)
        {
            let owner = cluster.owner(&account).filter(|owner| *owner != cluster.node());
            let text = match owner {
                Some(node) => format!("{account} is told by node {node}; ask the mwid there"),
                None => format!("nobody tells {account} now; see mwid status"),
            };
            return send(reply, Answer::refused(text));
        }
        let summary = Summary { new, old, ..Summary::default() };
        let known = self.mailboxes.members(&account).next().is_some();
        let ways = if known { self.ways(&account) } else { self.config.delivery.ways };
        self.reconciler.set(&account, Desired { summary, ways }, Urgency::Fresh, true);
        let deadline = Instant::now() + NOTIFY_PATIENCE;
        let (results, publications) = (Vec::new(), Vec::new());
        self.waiters.push(Waiter { account, summary, results, publications, reply, deadline });
    }

    /// What is missing in a context of the spool is gone for good.
    fn forget(&self, context: &str) -> Answer {
        let Some(spool) = &self.spool else {
            return Answer::refused("there is no spool: [spool] enabled = no");
        };
        if spool.forget(context) {
            let text = format!(
                "The mailboxes of context {context} that are not where they were are empty from now on"
            );
            Answer { text, data: json!({ "forgotten": context }), code: 0 }
        } else {
            let shown = context.escape_debug();
            Answer::refused(format!(
                "no mailbox of context {shown} is missed; mwid status says what is"
            ))
        }
    }

    pub(super) fn tell_waiters(
        &mut self,
        order: &Order,
        verdict: Verdict,
        answer: &str,
        copies: u32,
    ) {
        let concerned = |waiter: &&mut Waiter| {
            waiter.account == order.account && Some(waiter.summary) == order.summary
        };
        for waiter in self.waiters.iter_mut().filter(concerned) {
            waiter.results.push(PhoneResult {
                contact: order.dialog.remote_target.to_string(),
                call_id: order.dialog.call_id.to_string(),
                cseq: order.cseq,
                copies,
                answer: answer.to_owned(),
                verdict,
            });
        }
    }

    /// Answers the `notify` commands whose account has nothing under way any more.
    pub(super) fn answer_waiters(&mut self, now: Instant) {
        let mut index = 0;
        while index < self.waiters.len() {
            let waiter = &self.waiters[index];
            let settled = self.reconciler.is_settled(&waiter.account, now);
            if settled || now >= waiter.deadline {
                let database = self.said.database().map(str::to_owned);
                let standing = self.reconciler.standing(&waiter.account, now);
                self.waiters.swap_remove(index).answer(database.as_deref(), standing);
            } else {
                index += 1;
            }
        }
    }

    /// Reads the configuration again. Everything is validated and opened before anything is
    /// replaced: a refused configuration never takes the place of a working one.
    fn reload(&mut self) -> Answer {
        let loaded = match config::load(&self.path) {
            Ok(loaded) => loaded,
            Err(errors) => {
                return Answer::refused(format!("{errors}\nthe old configuration stays in force"));
            }
        };
        let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        match self.replace(loaded.config) {
            Ok(changed) => {
                let what = if changed.is_empty() {
                    "nothing changed".to_owned()
                } else {
                    changed.join(", ")
                };
                let mut text = format!("Configuration reloaded: {what}");
                for warning in &warnings {
                    text.push_str("\nwarning: ");
                    text.push_str(warning);
                }
                Answer { text, data: json!({ "changed": changed, "warnings": warnings }), code: 0 }
            }
            Err(problem) => {
                Answer::refused(format!("{problem}\nthe old configuration stays in force"))
            }
        }
    }

    /// What cannot be another while mwid runs.
    fn refuse_changes(&self, new: &Config) -> Result<(), String> {
        let old = &self.config;
        if new.control != old.control {
            return Err("[control] cannot change while mwid runs; restart it for that".to_owned());
        }
        if new.state != old.state {
            return Err("[state] cannot change while mwid runs; restart it for that".to_owned());
        }
        if new.agent.listen != old.agent.listen {
            return Err("[agent] listen cannot change while mwid runs; restart it for that".into());
        }
        if cluster::Settings::of(new).as_ref() != self.cluster.as_ref().map(Cluster::settings) {
            return Err(
                "[cluster], its database and [spool] scope cannot change while mwid runs; \
                        restart it for that"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn replace(&mut self, new: Config) -> Result<Vec<&'static str>, String> {
        let old = Arc::clone(&self.config);
        self.refuse_changes(&new)?;
        let moved = (&new.general.bindip, new.general.bindport)
            != (&old.general.bindip, old.general.bindport);
        let transport = moved.then(|| Transport::bind(&new.general)).transpose();
        let transport = transport.map_err(|error| error.to_string())?;
        let store = (new.database != old.database).then(|| DialogStore::new(&new.database));
        let store = store.transpose().map_err(|error| error.to_string())?;
        let door = self.doorway.prepare(&new).map_err(|error| error.to_string())?;

        let clients = Clients::prepare(&old, &new, &self.publishers)?;

        let mut changed = Vec::new();
        self.replace_agent(&new, &mut changed)?;
        self.replace_clients(clients, &new, &mut changed);
        if let Some(transport) = transport {
            self.transport = transport;
        }
        if new.general != old.general {
            changed.push("[general]");
            self.reconciler.hurry();
        }
        if new.timers != old.timers {
            changed.push("[timers]");
            self.reconciler.configure(settings(&new));
        }
        let is_same = new.general == old.general
            && new.publish == old.publish
            && new.timers == old.timers
            && new.delivery == old.delivery;
        if !is_same {
            self.delivery.configure(&new, Instant::now(), &self.transport);
        }
        if new.spool != old.spool {
            changed.push("[spool]");
            self.replace_spool(&new);
        }
        if new.ami != old.ami {
            changed.push("[ami]");
            self.replace_ami(&new);
        }
        if self.replace_door(door) || new.http != old.http {
            changed.push("[http]");
        }
        if new.accounts != old.accounts {
            changed.push("[contexts] and [mailboxes]");
            for (account, summary) in self.mailboxes.remap(new.accounts.directory()) {
                self.desire(&account, summary, Urgency::CatchUp);
            }
        }
        if let Some(store) = store {
            changed.push("[database]");
            self.replace_store(store, &old, &new);
        }
        self.config = Arc::new(new);
        self.reload_delivery(&old, &mut changed);
        Ok(changed)
    }

    fn replace_store(&mut self, store: DialogStore, old: &Config, new: &Config) {
        self.lines.configure(connections(new), new.database.timeout);
        self.watch = watch(new, &store, &self.change);
        self.store = store;
        let read = |config: &Config| {
            let database = &config.database;
            (database.url.to_string(), database.table.clone(), database.find_by)
        };
        if read(new) != read(old) {
            for dialog in self.lines.take_claims() {
                self.reconciler.handle_unclaimed(dialog.row);
            }
            self.reconciler.restart();
        }
    }
}

impl Waiter {
    fn answer(self, database: Option<&str>, standing: Standing) {
        let Self { account, summary, results, publications, reply, .. } = self;
        let Summary { new, old, .. } = summary;
        let who = account.as_str().trim_start_matches("sip:");
        let reached = results.iter().filter(|result| result.verdict == Verdict::Delivered).count();
        let published = publications.iter().filter(|result| result.accepted).count();
        let data = json!({
            "account": account.as_str(), "new": new, "old": old, "delivered": reached,
            "phones": results.iter().map(PhoneResult::json).collect::<Vec<_>>(),
            "publications": publications.iter().map(PublishedResult::json).collect::<Vec<_>>(),
        });
        let mut text = match (results.is_empty() && publications.is_empty(), database) {
            (false, _) => {
                let fate = match (reached + published, publications.is_empty()) {
                    (0, true) => ", but no phone acknowledged it",
                    (0, false) => ", but nobody took it",
                    _ => "",
                };
                format!(
                    "Notify {who} with {new} new messages and {old} old messages was sent{fate}"
                )
            }
            (true, Some(error)) => format!("Notify {who} waits: {error}"),
            (true, None) if standing.publications > 0 => {
                format!("Notify {who} waits: what is to be published is not answered yet")
            }
            (true, None) if standing.dialogs == 0 => {
                format!("No subscription of {who} was found, nothing was sent")
            }
            (true, None) => format!("Notify {who}: {}", why_quiet(standing)),
        };
        for result in &results {
            text.push_str(&format!("\n  {}", result.line()));
        }
        for result in &publications {
            text.push_str(&format!("\n  {}", result.line()));
        }
        let code = u8::from(reached + published == 0);
        send(reply, Answer { text, data, code });
    }

    pub(super) fn give_up(self, why: &str) {
        send(self.reply, Answer::refused(why));
    }
}

/// Why an account with subscriptions was not told anything.
fn why_quiet(standing: Standing) -> String {
    let Standing { dialogs, dead, paused, working, .. } = standing;
    let mut reasons = vec![format!("{dialogs} subscriptions")];
    for (count, reason) in [
        (working, "under way, not answered yet"),
        (paused, "waiting to be tried again"),
        (
            dead,
            "left alone until the row changes: the phone answered that the subscription is gone",
        ),
    ] {
        if count > 0 {
            reasons.push(format!("{count} {reason}"));
        }
    }
    reasons.join("; ")
}

impl PhoneResult {
    fn line(&self) -> String {
        let Self { contact, cseq, copies, answer, .. } = self;
        let copies = if *copies == 1 { String::new() } else { format!(", {copies} copies") };
        format!("{contact}: {answer} (CSeq {cseq}{copies})")
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "contact": self.contact, "call_id": self.call_id, "cseq": self.cseq,
            "copies": self.copies, "answer": self.answer,
            "delivered": self.verdict == Verdict::Delivered,
        })
    }
}

/// The client may have gone; its command is done all the same.
pub(super) fn send(reply: oneshot::Sender<Answer>, answer: Answer) {
    if reply.send(answer).is_err() {
        tracing::debug!("the client of a command went away before its answer");
    }
}
