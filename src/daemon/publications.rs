//! Publications: taken one step on by their way, and what came of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mwid_core::mailbox::Account;
use mwid_core::publication::{Order, Outcome, Wish};
use mwid_core::reconciler::{self, Urgency};
use serde_json::json;

use super::ways::News;
use super::work::Done;
use super::{Daemon, watch};
use crate::clock::unix;
use crate::config::{Config, Way};
use crate::delivery::Published;

/// What became of the step that a `notify` command waits for.
pub(super) struct PublishedResult {
    way: &'static str,
    pub(super) accepted: bool,
    answer: String,
}

impl PublishedResult {
    pub(super) fn line(&self) -> String {
        format!("{}: {}", self.way, self.answer)
    }

    pub(super) fn json(&self) -> serde_json::Value {
        json!({ "way": self.way, "accepted": self.accepted, "answer": self.answer })
    }
}

impl Daemon {
    /// Takes a publication one step on, by its way.
    pub(super) fn publish(&mut self, order: Order) {
        if order.way == Way::Publish {
            return self.delivery.publish(order, Instant::now(), unix(), &self.transport);
        }
        self.unfinished += 1;
        let publishers = Arc::clone(&self.publishers);
        self.work.spawn(async move {
            let started = Instant::now();
            let published = publishers.deliver(&order).await;
            Done::Published(order, published, started.elapsed())
        });
    }

    pub(super) fn handle_published(
        &mut self,
        order: &Order,
        published: Published,
        elapsed: Duration,
        now: Instant,
    ) {
        let news = self.said.failing.note(order.way, &published);
        let Published { outcome, answer, .. } = published;
        self.ledger.published(order, &outcome, unix());
        self.say_published(order, &outcome, &answer, elapsed, &news);
        self.watch_published(order, &outcome, &answer, elapsed);
        self.tell_publication(order, &outcome, &answer);
        if !matches!(outcome, Outcome::Accepted { .. }) {
            self.reconciler.explain(order.way, &order.account, &answer);
        }
        self.reconciler.handle_published(order.way, &order.account, outcome, now);
        if matches!(news, News::Works { was_silent: true }) {
            self.reconciler.hurry_way(order.way);
        }
    }

    /// What the ledger knows of publications. What a way's server before took, one that was configured
    /// while mwid did not run has not heard of.
    pub(super) fn remember_publications(
        &mut self,
        mut past: Vec<((Account, Way), reconciler::Published)>,
        servers: &[(Way, String)],
    ) {
        for way in Way::ALL {
            let its = past.iter_mut().filter(|((_, other), _)| *other == way);
            let Some(server) = self.config.server_identity(way) else {
                let count = its.count();
                if count > 0 {
                    tracing::warn!(%way, count, "{count} publications by {way} are still at its server, which the configuration no longer names: they end there by themselves, or with sipx never; name it until they are removed");
                }
                continue;
            };
            if !servers.contains(&(way, server.clone())) {
                its.for_each(|(_, published)| published.accepted = None);
                self.ledger.serve(way, server);
            }
        }
        self.reconciler.remember_publications(past, Instant::now(), unix());
    }

    /// Another configuration is in force: accounts may be told by other ways now. What is published by
    /// a way that is no longer theirs is removed.
    pub(super) fn reload_delivery(&mut self, old: &Config, changed: &mut Vec<&'static str>) {
        let new = Arc::clone(&self.config);
        if new.publish != old.publish {
            changed.push("[publish]");
        }
        for way in Way::ALL {
            let server = new.server_identity(way);
            if let Some(server) = server.filter(|it| old.server_identity(way).as_ref() != Some(it))
            {
                self.reconciler.doubt(way);
                self.ledger.serve(way, server);
            }
        }
        if new.delivery == old.delivery && new.accounts == old.accounts {
            return;
        }
        if new.delivery != old.delivery {
            changed.push("[delivery] and [delivery_contexts]");
        }
        if new.delivery.uses(Way::Notify) != old.delivery.uses(Way::Notify) {
            self.watch = watch(&new, &self.store, &self.change);
        }
        let told: Vec<Account> = self.reconciler.accounts().cloned().collect();
        for account in told {
            if let Some(summary) = self.reconciler.desired(&account) {
                self.desire(&account, summary, Urgency::CatchUp);
            }
        }
    }

    fn say_published(
        &mut self,
        order: &Order,
        outcome: &Outcome,
        answer: &str,
        elapsed: Duration,
        news: &News,
    ) {
        let Order { way, account, wish, .. } = order;
        let (counters, ms) = (&mut self.counters, elapsed.as_millis());
        match (outcome, wish) {
            (Outcome::Accepted { .. }, Wish::State(summary)) => {
                counters.published += 1;
                tracing::info!(%account, %way, %summary, ms, "published: {answer}");
            }
            (Outcome::Accepted { .. }, Wish::Refresh(_)) => {
                counters.refreshed += 1;
                tracing::debug!(%account, %way, ms, "the publication was refreshed: {answer}");
            }
            (Outcome::Accepted { .. } | Outcome::Stale, Wish::Remove) => {
                counters.unpublished += 1;
                tracing::info!(%account, %way, ms, "the publication was removed: {answer}");
            }
            (Outcome::Stale, _) => {
                counters.published_afresh += 1;
                tracing::info!(%account, %way, ms, "the server does not know the publication, it begins afresh: {answer}");
            }
            (Outcome::Again | Outcome::Later(_), _) => {
                counters.publications_retried += 1;
                if matches!(news, News::Fails) {
                    tracing::warn!(%account, %way, ms, "not published, will be tried again: {answer}; until {way} works again, MWID_LOG=debug shows more of this");
                } else {
                    tracing::debug!(%account, %way, ms, "not published, will be tried again: {answer}");
                }
            }
        }
        if matches!(news, News::Works { .. }) {
            tracing::info!(%way, "{way} works again");
        }
    }

    fn tell_publication(&mut self, order: &Order, outcome: &Outcome, answer: &str) {
        let (Wish::State(summary) | Wish::Refresh(summary)) = order.wish else { return };
        for waiter in &mut self.waiters {
            if waiter.account == order.account && waiter.summary == summary {
                waiter.publications.push(PublishedResult {
                    way: order.way.name(),
                    accepted: matches!(outcome, Outcome::Accepted { .. }),
                    answer: answer.to_owned(),
                });
            }
        }
    }
}
