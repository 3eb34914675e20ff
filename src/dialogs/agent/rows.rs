//! Rows made and changed by a SUBSCRIBE.

use mwid_core::agent::{InDialog, Stored, TIMEOUT};
use mwid_core::dialog::{ACTIVE, Flavour, Row, TERMINATED};

use super::Errand;
use super::sql::Sql;
use crate::dialogs::schema::Schema;
use crate::dialogs::session::{Cell, Session};
use crate::dialogs::verbs::Param::{self, Number, Text};

/// Within how many seconds the same SUBSCRIBE comes by another way.
const COPY: i64 = 4;

/// Inserts a row.
pub(super) struct Insert {
    pub(super) row: Row,
    pub(super) status: i64,
    pub(super) unix: i64,
    /// Rows that an account may have.
    pub(super) bound: i64,
}

impl Insert {
    fn params(&self, sql: &Sql) -> Vec<Param<'_>> {
        let row = &self.row;
        let flavour = sql.flavour;
        let (user, domain) = (text(&row.from_user), text(&row.from_domain));
        let mut params = vec![
            text(&row.presentity_uri),
            user,
            domain,
            text(&row.to_user),
            text(&row.to_domain),
            text(&row.to_tag),
            text(&row.from_tag),
            text(&row.callid),
            text(&row.contact),
            text(&row.record_route),
            text(&row.event_id),
            text(&row.socket_info),
            text(&row.local_contact),
            Text(reason(self.status)),
            Number(flavour.row(row.local_cseq.unwrap_or_default())),
            Number(row.remote_cseq.unwrap_or_default()),
            Number(row.expires.unwrap_or_default()),
            Number(self.status),
        ];
        if flavour == Flavour::Kamailio {
            params.extend([user, domain]);
        }
        if sql.returns {
            params.extend(self.room());
            params.push(Number(self.bound));
        }
        params
    }

    fn room(&self) -> [Param<'_>; 2] {
        [text(&self.row.presentity_uri), Number(self.unix)]
    }

    /// Inserts the row where there is room; whether it did.
    async fn insert<S: Session>(&self, session: &mut S, sql: &Sql) -> Result<bool, S::Error> {
        let has_room = sql.returns || {
            let rows = session.rows(&sql.room, &self.room()).await?;
            number(&rows).is_some_and(|count| count < self.bound)
        };
        Ok(has_room && session.run(&sql.insert, &self.params(sql)).await? > 0)
    }

    /// Whether a row of the same dialog was made by the same SUBSCRIBE, come by another way or after our
    /// restart, and nothing has become of it since. Otherwise its phone has forgotten it, and begins
    /// again with the same names.
    fn is_copy(&self, row: &[Cell]) -> bool {
        let [Cell::Number(cseq), Cell::Number(status), Cell::Number(expires), Cell::Text(contact)] =
            row
        else {
            return false;
        };
        let age = self.row.expires.unwrap_or_default() - expires;
        *status == self.status
            && Some(*cseq) == self.row.remote_cseq
            && Some(contact) == self.row.contact.as_ref()
            && (0..=COPY).contains(&age)
    }

    /// Names a row of the same phone.
    fn elder(&self) -> [Param<'_>; 4] {
        let row = &self.row;
        [&row.presentity_uri, &row.contact, &row.from_user, &row.from_domain].map(text)
    }

    /// In the order in which the statements name a dialog.
    fn dialog(&self) -> [Param<'_>; 6] {
        let row = &self.row;
        let call_id = text(&row.callid);
        let tags = [text(&row.to_tag), text(&row.from_tag)];
        [call_id, call_id, tags[0], tags[1], text(&row.from_user), text(&row.from_domain)]
    }
}

impl Errand for Insert {
    type Answer = Stored;

    async fn run<S: Session>(&self, session: &mut S, schema: &Schema) -> Result<Stored, S::Error> {
        let sql = &schema.agent;
        let account = self.row.presentity_uri.as_deref().and_then(|uri| uri.parse().ok());
        let Some(account) = account else { return Ok(Stored::Failed) };
        if self.insert(session, sql).await? {
            return Ok(Stored::Done(account));
        }
        let there = session.rows(&sql.state_of_dialog, &self.dialog()).await?;
        if there.iter().any(|row| self.is_copy(row)) {
            return Ok(Stored::Done(account));
        }
        if !there.is_empty() {
            session.run(&sql.forget, &self.dialog()).await?;
            if self.insert(session, sql).await? {
                return Ok(Stored::Done(account));
            }
        }
        let has_made_room =
            self.status == ACTIVE && session.run(&sql.give_way, &self.elder()).await? > 0;
        let is_there = has_made_room && self.insert(session, sql).await?;
        Ok(if is_there { Stored::Done(account) } else { Stored::AccountFull })
    }
}

/// Changes the live row of a dialog.
pub(super) struct Update {
    pub(super) dialog: InDialog,
    pub(super) expires: i64,
    /// It ends, for this reason.
    pub(super) ends: Option<&'static str>,
    pub(super) unix: i64,
}

impl Update {
    /// In the order in which the statements name a subscription.
    fn subscription(&self) -> [Param<'_>; 7] {
        let InDialog { call_id, local_tag, remote_tag, from_user, from_domain, event_id, .. } =
            &self.dialog;
        let id = event_id.as_deref().unwrap_or_default();
        [call_id, call_id, local_tag, remote_tag, from_user, from_domain, id].map(Text)
    }

    fn params(&self) -> Vec<Param<'_>> {
        let cseq = Number(self.dialog.remote_cseq.into());
        let mut params = vec![
            cseq,
            Number(self.expires),
            Text(self.dialog.contact.as_deref().unwrap_or_default()),
            Number(if self.ends.is_some() { TERMINATED } else { ACTIVE }),
            Text(self.ends.unwrap_or_default()),
        ];
        params.extend(self.subscription());
        params.extend([Number(self.unix), cseq]);
        params
    }

    /// What the row says after all: whether it was changed, or why not.
    fn judge(&self, changed: bool, rows: &[Vec<Cell>]) -> Stored {
        let Some([uri, Cell::Number(cseq), Cell::Number(status), Cell::Number(expires)]) =
            rows.first().map(Vec::as_slice)
        else {
            return Stored::Unknown;
        };
        let is_live = *status == ACTIVE && *expires > self.unix;
        if !changed && !is_live {
            Stored::Unknown
        } else if !changed && *cseq > i64::from(self.dialog.remote_cseq) {
            Stored::OutOfOrder
        } else {
            stored(uri)
        }
    }
}

impl Errand for Update {
    type Answer = Stored;

    async fn run<S: Session>(&self, session: &mut S, schema: &Schema) -> Result<Stored, S::Error> {
        let sql = &schema.agent;
        let changed = if sql.returns {
            let rows = session.rows(&sql.update, &self.params()).await?;
            if let Some([uri]) = rows.first().map(Vec::as_slice) {
                return Ok(stored(uri));
            }
            false
        } else {
            // MySQL says 0, too, when the row was so already.
            session.run(&sql.update, &self.params()).await? > 0
        };
        let rows = session.rows(&sql.state, &self.subscription()).await?;
        Ok(self.judge(changed, &rows))
    }
}

/// Counts the rows.
pub(super) struct Count;

impl Errand for Count {
    type Answer = u64;

    async fn run<S: Session>(&self, session: &mut S, schema: &Schema) -> Result<u64, S::Error> {
        let rows = session.rows(&schema.agent.count, &[]).await?;
        Ok(number(&rows).and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
    }
}

/// The one number of an answer.
fn number(rows: &[Vec<Cell>]) -> Option<i64> {
    match rows.first()?.as_slice() {
        [Cell::Number(number)] => Some(*number),
        _ => None,
    }
}

fn stored(uri: &Cell) -> Stored {
    let account = match uri {
        Cell::Text(uri) => uri.parse().ok(),
        Cell::Number(_) | Cell::Other => None,
    };
    account.map_or(Stored::Failed, Stored::Done)
}

fn reason(status: i64) -> &'static str {
    if status == TERMINATED { TIMEOUT } else { "" }
}

fn text(value: &Option<String>) -> Param<'_> {
    Text(value.as_deref().unwrap_or_default())
}
