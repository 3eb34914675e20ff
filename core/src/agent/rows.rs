//! What a SUBSCRIBE writes into the table: only what a NOTIFY can be made of.

use super::refusal::Refusal;
use super::subscribe::Subscribe;
use super::{InDialog, Permissions};
use crate::dialog::{ColumnProblem, Dialog, Row};

/// The longest Call-ID, tag, user, host and account, in bytes: a table has an index on them.
const MAX_NAME: usize = 255;

impl Subscribe {
    /// The row of a new subscription, in which the agent at `authority` has the tag `tag`.
    pub(super) fn new_row(
        &self,
        tag: &str,
        expires: u64,
        authority: &str,
        permissions: &Permissions,
    ) -> Result<Row, Refusal> {
        let target = self.target.as_ref().ok_or(Refusal::NotFound)?;
        let watcher = self.watcher.as_ref().ok_or(Refusal::Forbidden)?;
        let account = permissions.resolve(watcher, target).ok_or(Refusal::Forbidden)?;
        let row = Row {
            presentity_uri: Some(account.to_string()),
            to_tag: Some(tag.to_owned()),
            expires: i64::try_from(expires).ok(),
            local_contact: Some(format!("sip:{authority}")),
            socket_info: Some(format!("udp:{authority}")),
            ..self.row()
        };
        believable(&row)?;
        Ok(row)
    }

    /// What a row has of it.
    fn row(&self) -> Row {
        Row {
            from_user: self.from_user.clone(),
            from_domain: Some(self.from_domain.clone()),
            to_user: self.to_user.clone(),
            to_domain: Some(self.to_domain.clone()),
            to_tag: self.to_tag.clone(),
            from_tag: Some(self.from_tag.clone()),
            callid: Some(self.call_id.clone()),
            local_cseq: Some(0),
            remote_cseq: Some(self.cseq.into()),
            contact: self.contact.clone(),
            record_route: Some(self.record_route.clone()),
            event_id: self.event_id.clone(),
            ..Row::default()
        }
    }

    /// What it changes of its dialog, of which a NOTIFY can be made.
    pub(super) fn in_dialog(&self) -> Result<InDialog, Refusal> {
        // Whatever the table has for what a request in a dialog does not say.
        let any = || Some("sip:any@any".to_owned());
        believable(&Row {
            presentity_uri: any(),
            contact: self.contact.clone().or_else(any),
            local_contact: any(),
            expires: Some(0),
            ..self.row()
        })?;
        Ok(InDialog {
            call_id: self.call_id.clone(),
            local_tag: self.to_tag.clone().unwrap_or_default(),
            remote_tag: self.from_tag.clone(),
            from_user: self.from_user.clone().unwrap_or_default(),
            from_domain: self.from_domain.clone(),
            event_id: self.event_id.clone(),
            remote_cseq: self.cseq,
            contact: self.contact.clone(),
        })
    }
}

/// Whether a NOTIFY can be made of a row, and a table can hold it.
fn believable(row: &Row) -> Result<(), Refusal> {
    Dialog::from_row(row).map_err(|error| cannot_stand(header_of(error.column), &error.problem))?;
    let columns = [
        ("presentity_uri", &row.presentity_uri),
        ("from_user", &row.from_user),
        ("from_domain", &row.from_domain),
        ("to_user", &row.to_user),
        ("to_domain", &row.to_domain),
        ("from_tag", &row.from_tag),
        ("callid", &row.callid),
        ("event_id", &row.event_id),
    ];
    match columns.iter().find(|(_, value)| value.as_ref().is_some_and(|it| it.len() > MAX_NAME)) {
        Some((column, _)) => Err(Refusal::bad(format!("{} is too long", header_of(column)))),
        None => Ok(()),
    }
}

fn cannot_stand(header: &str, problem: &ColumnProblem) -> Refusal {
    match problem {
        ColumnProblem::TooLong { .. } => Refusal::bad(format!("{header} is too long")),
        _ => Refusal::bad(format!("{header} cannot stand in a NOTIFY")),
    }
}

/// The header that a column came from.
fn header_of(column: &str) -> &'static str {
    match column {
        "contact" => "Contact",
        "record_route" => "Record-Route",
        "callid" => "Call-ID",
        "to_user" | "to_domain" | "to_tag" => "To",
        "event_id" => "Event",
        "presentity_uri" => "the Request-URI",
        _ => "From",
    }
}
