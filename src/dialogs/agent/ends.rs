//! Subscriptions that end, and rows that have been told so.

use mwid_core::agent::{FAREWELL, GRACE, TIMEOUT};
use mwid_core::mailbox::Account;

use super::Errand;
use crate::dialogs::schema::Schema;
use crate::dialogs::session::{Cell, Session};
use crate::dialogs::verbs::Param::{self, Number, Text};

/// `reason` of a subscription that shall be made anew elsewhere (RFC 6665 §4.1.3).
const DEACTIVATED: &str = "deactivated";

/// Which subscriptions end.
#[derive(Clone)]
pub(super) enum Why {
    /// Those whose time is over, and [`GRACE`] too.
    Over,
    /// Live ones, so that their phones subscribe elsewhere.
    Drained {
        /// The Contact of the agent that took them.
        local_contact: String,
    },
}

/// Ends subscriptions, and keeps their rows until their phones are told. Answer: whose they were.
pub(super) struct End {
    pub(super) why: Why,
    pub(super) unix: i64,
    pub(super) limit: i64,
}

impl End {
    /// What expired then or before may end.
    fn over(&self) -> i64 {
        self.unix.saturating_sub(GRACE.cast_signed())
    }

    /// Bound by what finds the rows.
    fn which(&self) -> Vec<Param<'_>> {
        match &self.why {
            Why::Over => vec![Number(self.over()), Number(self.limit)],
            Why::Drained { local_contact } => {
                vec![Number(self.unix), Text(local_contact), Number(self.limit)]
            }
        }
    }

    /// Bound by what changes them.
    fn what(&self) -> Vec<Param<'_>> {
        let reason = if matches!(self.why, Why::Over) { TIMEOUT } else { DEACTIVATED };
        vec![Text(reason), Number(self.unix.saturating_add(FAREWELL.cast_signed()))]
    }
}

impl Errand for End {
    type Answer = Vec<String>;

    async fn run<S: Session>(
        &self,
        session: &mut S,
        schema: &Schema,
    ) -> Result<Vec<String>, S::Error> {
        let sql = &schema.agent;
        let (statement, still) = match self.why {
            Why::Over => (&sql.sweep, Some(self.over())),
            Why::Drained { .. } => (&sql.drain, None),
        };
        if sql.returns {
            let mut params = self.what();
            params.extend(self.which());
            params.extend(still.map(Number));
            let rows = session.rows(statement, &params).await?;
            return Ok(rows.into_iter().filter_map(|row| uri(row.into_iter().next())).collect());
        }
        let rows = session.rows(statement, &self.which()).await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let (mut ids, mut uris) = (Vec::new(), Vec::new());
        for row in rows {
            let mut cells = row.into_iter();
            if let Some(Cell::Number(id)) = cells.next() {
                ids.push(id);
                uris.extend(uri(cells.next()));
            }
        }
        // One that its phone refreshed meanwhile lives on.
        let mut params = self.what();
        params.push(Number(still.unwrap_or(i64::MAX)));
        params.extend(ids.iter().copied().map(Number));
        let places = vec!["?"; ids.len()].join(", ");
        session.run(&format!("{}{places})", sql.end_these), &params).await?;
        Ok(uris)
    }
}

/// Deletes rows whose farewell is over. Answer: how many.
pub(super) struct Purge {
    pub(super) unix: i64,
    pub(super) limit: i64,
}

impl Errand for Purge {
    type Answer = u64;

    async fn run<S: Session>(&self, session: &mut S, schema: &Schema) -> Result<u64, S::Error> {
        session.run(&schema.agent.purge, &[Number(self.unix), Number(self.limit)]).await
    }
}

/// Rows of subscriptions that have ended: id and account.
pub(super) struct Ended {
    pub(super) unix: i64,
}

impl Errand for Ended {
    type Answer = Vec<(i64, Account)>;

    async fn run<S: Session>(
        &self,
        session: &mut S,
        schema: &Schema,
    ) -> Result<Vec<(i64, Account)>, S::Error> {
        let rows = session.rows(&schema.agent.ended, &[Number(self.unix)]).await?;
        let named = |row: Vec<Cell>| match row.as_slice() {
            [Cell::Number(id), Cell::Text(uri)] => Some((*id, uri.parse().ok()?)),
            _ => None,
        };
        Ok(rows.into_iter().filter_map(named).collect())
    }
}

fn uri(cell: Option<Cell>) -> Option<String> {
    match cell {
        Some(Cell::Text(uri)) => Some(uri),
        Some(Cell::Number(_) | Cell::Other) | None => None,
    }
}
