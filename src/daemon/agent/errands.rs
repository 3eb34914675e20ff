//! What the agent asks of the database, and what came of it.

use std::time::{Duration, Instant};

use mwid_core::agent::{Action, Secrets, Stored, Ticket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::agent::users;
use crate::clock::unix;
use crate::config::Config;
use crate::daemon::Daemon;
use crate::daemon::work::Done;
use crate::dialogs::StoreError;

use super::OfAgent;

/// How long a SUBSCRIBE waits for its turn at a slow database.
const TURN: Duration = Duration::from_secs(8);

/// How long it waits for its turn and the answer, whatever `[database] timeout` is. It may ask twice, for
/// the user and for the row, and is answered before the phone's Timer F, 32 s.
const ANSWER: Duration = Duration::from_secs(14);

/// Asks when there is a place.
async fn in_turn<T>(
    places: &Semaphore,
    at: &str,
    question: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let late = |after| StoreError::Timeout { at: at.to_owned(), after };
    let asked = timeout(ANSWER, async {
        let _place = timeout(TURN, places.acquire()).await.map_err(|_| late(TURN))?;
        question.await
    });
    asked.await.unwrap_or_else(|_| Err(late(ANSWER)))
}

impl Daemon {
    pub(super) fn act_for_agent(&mut self, action: Action) {
        let Some(presence) = &mut self.presence else { return };
        let (store, places) = (self.store.clone(), presence.places.clone());
        let Config { agent, database, .. } = &*self.config;
        let at = database.url.to_string();
        match action {
            Action::User { ticket, user, domain } => {
                let users = presence.users.clone();
                let at = agent.subscribers.as_ref().map_or(at, ToString::to_string);
                self.work.spawn(async move {
                    let asked = in_turn(&places, &at, users.find(&user, &domain)).await;
                    Done::OfAgent(OfAgent::User(ticket, asked))
                });
            }
            Action::Insert { ticket, row, status } => {
                let bound = agent.max_per_account;
                if let Some(refused) = presence.refuses(&self.config) {
                    return presence.agent.handle_stored(ticket, refused, unix());
                }
                self.work.spawn(async move {
                    let insert = async { store.insert(&row, status, unix(), bound).await };
                    Done::OfAgent(OfAgent::Stored(ticket, in_turn(&places, &at, insert).await))
                });
            }
            Action::Update { ticket, dialog, expires, ends } => {
                self.work.spawn(async move {
                    let update = async { store.update(&dialog, expires, ends, unix()).await };
                    Done::OfAgent(OfAgent::Stored(ticket, in_turn(&places, &at, update).await))
                });
            }
        }
    }

    pub(super) fn handle_user(
        &mut self,
        ticket: Ticket,
        found: Result<Option<Secrets>, StoreError>,
    ) {
        match &found {
            Ok(_) => self.said.users.works("passwords of phones can be checked again"),
            Err(error) => self.users_failed(error),
        }
        let Some(presence) = &mut self.presence else { return };
        let impostor = presence.agent.handle_user(ticket, found.map_err(drop), unix());
        presence.learn(&self.config);
        if let Some(impostor) = impostor {
            self.said.impostor(&impostor, Instant::now());
        }
    }

    pub(super) fn handle_stored(&mut self, ticket: Ticket, stored: Result<Stored, StoreError>) {
        let stored = self.say_of_stored(stored);
        let Some(presence) = &mut self.presence else { return };
        let before = presence.agent.stats().begun;
        presence.agent.handle_stored(ticket, stored, unix());
        presence.rows += presence.agent.stats().begun - before;
    }

    pub(super) fn users_failed(&mut self, error: &StoreError) {
        self.counters.database_errors += 1;
        self.said.users.failed("no password of a phone can be checked", &users::explain(error));
    }

    /// That nobody can be reached at all is said of the database as a whole; a right that is
    /// missing, or a disk that is full, lets it be read all the while.
    fn say_of_stored(&mut self, stored: Result<Stored, StoreError>) -> Stored {
        match &stored {
            Ok(_) => self.said.storing.works("subscriptions can be stored again"),
            Err(error @ StoreError::Unreachable { .. }) => self.database_failed(error),
            Err(error) => {
                self.counters.database_errors += 1;
                self.said.storing.failed("no subscription can be stored", &error.to_string());
            }
        }
        stored.unwrap_or(Stored::Failed)
    }

    /// A row was deleted whose phone knows that it has ended.
    pub(in crate::daemon) fn count_deleted(&mut self, was_there: bool) {
        if let Some(presence) = &mut self.presence {
            presence.rows = presence.rows.saturating_sub(u64::from(was_there));
        }
    }
}
