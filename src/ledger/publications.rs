//! What the ledger keeps of publications.
//!
//! Before a step its row is there, without a summary: after a crash the state is stated anew, with
//! the entity-tag that is known. Should the server have taken the step, it knows that tag no longer
//! (412): mwid begins afresh, and what it left behind ends by itself, after
//! [`TRIAL`](mwid_core::publication::TRIAL) where the step was a change, or `expires` where it was a refresh.

use mwid_core::mailbox::Account;
use mwid_core::publication::{ETag, Order, Outcome, Way, Wish};
use mwid_core::reconciler::Published;
use mwid_core::summary::Summary;
use rusqlite::{Connection, Row, params};

use super::file;

/// Whose, by which way; and what is known of it.
pub(super) type Entry = ((Account, Way), Published);

/// How the row is after a step; `Some(None)` when there is to be none, `None` when nothing is new.
pub(super) fn after(step: &Order, outcome: &Outcome, unix: u64) -> Option<Option<Published>> {
    match (outcome, step.wish) {
        (Outcome::Accepted { .. } | Outcome::Stale, Wish::Remove) => Some(None),
        (Outcome::Accepted { etag, expires }, Wish::State(summary) | Wish::Refresh(summary)) => {
            let expires = expires.map(|expires| unix.saturating_add(expires.as_secs()));
            Some(Some(Published { etag: etag.clone(), accepted: Some(summary), expires }))
        }
        (Outcome::Stale, _) => Some(Some(Published { etag: None, accepted: None, expires: None })),
        (Outcome::Again | Outcome::Later(_), _) => None,
    }
}

pub(super) fn doubt(
    connection: &Connection,
    account: &Account,
    way: Way,
) -> Result<usize, rusqlite::Error> {
    connection
        .prepare_cached(
            "INSERT INTO publications (account, way) VALUES (?1, ?2)
             ON CONFLICT DO UPDATE
             SET new = NULL, old = NULL, new_urgent = NULL, old_urgent = NULL",
        )?
        .execute(params![account.as_str(), way.name()])
}

pub(super) fn write(
    connection: &Connection,
    account: &Account,
    way: Way,
    published: &Published,
) -> Result<usize, rusqlite::Error> {
    let Published { etag, accepted, expires } = published;
    let count = |which: fn(&Summary) -> u32| accepted.as_ref().map(which);
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO publications
             (account, way, etag, expires, new, old, new_urgent, old_urgent)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            account.as_str(),
            way.name(),
            etag.as_ref().map(ETag::as_str),
            expires.map(|expires| i64::try_from(expires).unwrap_or(i64::MAX)),
            count(|it| it.new),
            count(|it| it.old),
            count(|it| it.new_urgent),
            count(|it| it.old_urgent)
        ])
}

pub(super) fn remove(
    connection: &Connection,
    account: &Account,
    way: Way,
) -> Result<usize, rusqlite::Error> {
    connection
        .prepare_cached("DELETE FROM publications WHERE account = ?1 AND way = ?2")?
        .execute(params![account.as_str(), way.name()])
}

/// A way's server is this one from now on. What another one took, it does not have.
pub(super) fn serve(
    connection: &Connection,
    way: Way,
    server: &str,
) -> Result<usize, rusqlite::Error> {
    let changed = connection
        .prepare_cached(
            "INSERT INTO ways (way, server) VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET server = ?2 WHERE server <> ?2",
        )?
        .execute([way.name(), server])?;
    if changed == 0 {
        return Ok(0);
    }
    connection
        .prepare_cached(
            "UPDATE publications SET new = NULL, old = NULL, new_urgent = NULL, old_urgent = NULL
             WHERE way = ?1",
        )?
        .execute([way.name()])
}

/// The server of each way, as far as it is known.
pub(super) fn servers(connection: &Connection) -> Result<Vec<(Way, String)>, rusqlite::Error> {
    let mut all = connection.prepare("SELECT way, server FROM ways")?;
    let server = |row: &Row<'_>| {
        let way = way(row.get_ref(0)?.as_str()?);
        Ok(way.zip(Some(row.get(1)?)))
    };
    all.query_map([], server)?.filter_map(Result::transpose).collect()
}

fn way(name: &str) -> Option<Way> {
    Way::ALL.into_iter().find(|way| way.name() == name && *way != Way::Notify)
}

/// All publications. What is no account or no way any more is left out.
pub(super) fn load(connection: &Connection) -> Result<Vec<Entry>, rusqlite::Error> {
    let mut all = connection.prepare(
        "SELECT account, way, etag, expires, new, old, new_urgent, old_urgent FROM publications",
    )?;
    all.query_map([], publication)?.filter_map(Result::transpose).collect()
}

fn publication(row: &Row<'_>) -> Result<Option<Entry>, rusqlite::Error> {
    let way = way(row.get_ref(1)?.as_str()?);
    let account = row.get_ref(0)?.as_str()?.parse::<Account>().ok();
    let etag = row.get_ref(2)?.as_str_or_null()?.and_then(|etag| ETag::new(etag).ok());
    let expires = row.get::<_, Option<i64>>(3)?.and_then(|expires| u64::try_from(expires).ok());
    let published = Published { etag, accepted: file::summary(row, 4)?, expires };
    Ok(account.zip(way).map(|key| (key, published)))
}
