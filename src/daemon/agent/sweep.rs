//! Subscriptions that end: those whose time is over, and with `mwid drain` all.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use mwid_core::mailbox::Account;

use serde_json::json;

use super::OfAgent;
use crate::agent::settings;
use crate::clock::unix;
use crate::config::Config;
use crate::control::Answer;
use crate::daemon::Daemon;
use crate::daemon::work::Done;
use crate::dialogs::agent::Swept;
use crate::dialogs::{DialogStore, StoreError};

/// Between two looks for subscriptions whose time is over.
const SWEEP: Duration = Duration::from_secs(1);

/// Subscriptions that are ended at a time, and rows that are deleted.
const BATCH: u32 = 500;

/// After how many sweeps the rows are counted again.
const COUNT_EVERY: u32 = 10;

/// Whether phones shall subscribe elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drain {
    No,
    /// So many were ended so far.
    UnderWay(usize),
    Done(usize),
}

/// What a sweep brought.
pub(in crate::daemon) struct Sweep {
    swept: Swept,
    /// Rows that have ended and are not deleted yet.
    ended: Vec<(i64, Account)>,
    drained: Option<Swept>,
    rows: Option<u64>,
}

impl Daemon {
    pub(super) fn sweep(&mut self, now: Instant) {
        let Some(presence) = &mut self.presence else { return };
        if presence.sweeping || presence.next_sweep > now {
            return;
        }
        presence.sweeping = true;
        let (store, places) = (self.store.clone(), presence.places.clone());
        let first = presence.sweeps == 0;
        let counts = presence.sweeps.is_multiple_of(COUNT_EVERY);
        presence.sweeps = presence.sweeps.wrapping_add(1).max(1);
        let drain = matches!(presence.drain, Drain::UnderWay(_));
        let contact = drain.then(|| contact(&self.config)).flatten();
        let rate = self.config.timers.rate;
        let users = (!presence.looked).then(|| presence.users.clone());
        presence.looked = true;
        let ended = first || self.cluster.is_some();
        self.work.spawn(async move {
            let _place = places.acquire().await;
            let looked = match users {
                Some(users) => users.look().await,
                None => Ok(()),
            };
            let swept = look_after(&store, ended, counts, contact, rate).await;
            Done::OfAgent(OfAgent::Swept(looked, swept))
        });
    }

    pub(super) fn handle_swept(&mut self, swept: Result<Sweep, StoreError>, now: Instant) {
        let Some(presence) = &mut self.presence else { return };
        presence.sweeping = false;
        presence.learn(&self.config);
        presence.next_sweep = now + SWEEP;
        let Sweep { swept, ended, drained, rows } = match swept {
            Ok(sweep) => sweep,
            Err(error) => return self.database_failed(&error),
        };
        if swept.ended >= BATCH as usize || swept.deleted >= BATCH.into() {
            presence.next_sweep = now;
        }
        presence.rows = rows.unwrap_or(presence.rows.saturating_sub(swept.deleted));
        if let (Drain::UnderWay(before), Some(drained)) = (presence.drain, &drained) {
            presence.drain = match drained.ended {
                0 => Drain::Done(before),
                ended => Drain::UnderWay(before + ended),
            };
            if drained.ended == 0 {
                tracing::info!(ended = before, "drained: every subscription was ended");
            }
        }
        self.said.database_works();
        let before = std::mem::take(&mut presence.ended);
        presence.ended = ended.iter().map(|(row, _)| *row).collect();
        let ended = ended.into_iter().filter(|(row, _)| !before.contains(row));
        let ended = ended.map(|(_, account)| account).collect::<HashSet<_>>();
        let drained = drained.into_iter().flat_map(|it| it.accounts);
        for account in swept.accounts.into_iter().chain(drained).chain(ended) {
            self.tell_of(account, None, now);
        }
    }

    /// `mwid drain`
    pub(in crate::daemon) fn drain(&mut self, on: bool) -> Answer {
        let Some(presence) = &mut self.presence else {
            return Answer::refused("there is nothing to drain: [agent] listen is not set");
        };
        let text = if on {
            if presence.drain == Drain::No {
                presence.drain = Drain::UnderWay(0);
                presence.next_sweep = Instant::now();
            }
            format!(
                "Draining: {} subscriptions are ended, so that their phones subscribe elsewhere; new \
                 ones are refused until mwid drain --off or a restart",
                presence.rows
            )
        } else {
            presence.drain = Drain::No;
            "Subscriptions are taken".to_owned()
        };
        tracing::info!("{text}");
        Answer { text, data: json!({ "draining": on, "subscriptions": presence.rows }), code: 0 }
    }
}

/// Our Contact in the dialogs, as the agent wrote it into their rows.
fn contact(config: &Config) -> Option<String> {
    settings(config, Vec::new()).map(|settings| format!("sip:{}", settings.authority))
}

async fn look_after(
    store: &DialogStore,
    ended: bool,
    counts: bool,
    contact: Option<String>,
    rate: u32,
) -> Result<Sweep, StoreError> {
    let now = unix();
    let swept = store.sweep(now, BATCH).await?;
    // Those of before the start may not have been told; and of several mwid one ends what another tells.
    let ended = if ended { store.ended(now).await? } else { Vec::new() };
    let drained = match contact {
        // As many as can be told before their rows are deleted.
        Some(contact) => Some(store.drain(&contact, now, rate.min(BATCH)).await?),
        None => None,
    };
    let rows = if counts { Some(store.count().await?) } else { None };
    Ok(Sweep { swept, ended, drained, rows })
}
