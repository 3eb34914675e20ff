//! What every request needs: the way to the loop, and the gate of the account.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use mwid_core::mailbox::Account;
use tokio::sync::{mpsc, oneshot};

use super::ask::Reply;
use super::domains::Domains;
use super::problem::Problem;
use super::shared::Shared;
use super::{Ask, Counters};
use crate::config::{Config, Secret};

/// How long a client waits for the loop, and for the ledger. Both take milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Cheap to clone: each request has one.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    pub(super) counters: Arc<Counters>,
    settings: Arc<Settings>,
    asks: mpsc::Sender<Ask>,
    pub(super) pages: Arc<Pages>,
}

/// The answers that are about everything.
#[derive(Debug, Default)]
pub(super) struct Pages {
    pub(super) metrics: Shared,
    pub(super) pending: Shared,
    pub(super) recent: Shared,
    pub(super) status: Shared,
}

#[derive(Debug)]
struct Settings {
    token: Option<Secret>,
    read_token: Option<Secret>,
    domains: Domains,
    vmexten: Option<String>,
}

impl Desk {
    pub(super) fn new(
        config: &Config,
        domains: Domains,
        asks: mpsc::Sender<Ask>,
        counters: Arc<Counters>,
    ) -> Self {
        let settings = Settings {
            token: config.http.token.clone(),
            read_token: config.http.read_token.clone(),
            domains,
            vmexten: config.general.vmexten.clone(),
        };
        Self { counters, settings: Arc::new(settings), asks, pages: Arc::default() }
    }

    /// What opens reading alone.
    pub(super) fn read_token(&self) -> Option<&str> {
        self.settings.read_token.as_ref().map(Secret::reveal)
    }

    /// What opens everything.
    pub(super) fn token(&self) -> Option<&str> {
        self.settings.token.as_ref().map(Secret::reveal)
    }

    /// The user in Message-Account.
    pub(super) fn vmexten(&self) -> Option<&str> {
        self.settings.vmexten.as_deref()
    }

    /// An account as a client names it, with or without `sip:`, of a domain that may be named.
    pub(super) fn account(&self, text: &str) -> Result<Account, Problem> {
        let account: Account =
            text.parse().map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error))?;
        if !self.settings.domains.has(account.domain()) {
            let detail = format!("{account} is of no domain that [http] domains allows");
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        Ok(account)
    }

    /// Asks the loop.
    pub(super) async fn ask<T>(&self, ask: impl FnOnce(Reply<T>) -> Ask) -> Result<T, Problem> {
        let (reply, answer) = oneshot::channel();
        let exchange = async {
            self.asks.send(ask(reply)).await.ok()?;
            answer.await.ok()
        };
        let answer = within(exchange).await?.ok_or_else(stopping)?;
        answer.map_err(Problem::from)
    }

    /// Waits until what was given is in the ledger.
    pub(super) async fn written(&self, written: oneshot::Receiver<()>) -> Result<(), Problem> {
        match tokio::time::timeout(PATIENCE, written).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(stopping()),
            Err(_) => Err(Problem::later(
                "the phones are told, but the ledger cannot be written: the counts would be lost with a restart; say them again",
            )),
        }
    }
}

pub(super) fn stopping() -> Problem {
    Problem::later("mwid is stopping")
}

pub(super) async fn within<T>(answer: impl Future<Output = T>) -> Result<T, Problem> {
    let answer = tokio::time::timeout(PATIENCE, answer).await;
    answer.map_err(|_| Problem::later("mwid has too much to do; try again"))
}
