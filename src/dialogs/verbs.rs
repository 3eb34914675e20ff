//! What a store is asked, whichever database answers.

use mwid_core::dialog::{Dialog, Row, RowId};
use mwid_core::mailbox::Account;

/// A value that is bound to a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Param<'a> {
    Text(&'a str),
    Number(i64),
}

/// The live rows of an account. Answer: rows, newest first, at most one more than the cap.
#[derive(Clone, Debug)]
pub(super) struct Find {
    pub(super) account: Account,
    /// Rows that end after this second are live.
    pub(super) unix: i64,
    /// Another `status` that is looked for.
    pub(super) also: i64,
}

/// The live rows of several accounts. Answer: what [`Find`] finds of each, in their order.
#[derive(Clone, Debug)]
pub(super) struct FindAll {
    /// As many as `together` says, more than one.
    pub(super) accounts: Vec<Account>,
    /// As in [`Find`].
    pub(super) unix: i64,
    /// As in [`Find`].
    pub(super) also: i64,
}

/// Sorts rows by which of `count` questions found them, newest first.
pub(super) fn group(count: usize, rows: impl IntoIterator<Item = (i64, Row)>) -> Vec<Vec<Row>> {
    let mut found = vec![Vec::new(); count];
    for (ask, row) in rows {
        if let Some(rows) = usize::try_from(ask).ok().and_then(|ask| found.get_mut(ask)) {
            rows.push(row);
        }
    }
    for rows in &mut found {
        rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.id));
    }
    found
}

/// The next CSeq of a dialog. Answer: [`Claimed`].
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) identity: Identity,
    /// The highest CSeq that mwid itself has sent, 0 if none.
    pub(super) above: u32,
    /// The row's CSeq on the wire, as it was read.
    pub(super) read: Option<i64>,
}

impl Claim {
    pub(super) fn of(dialog: &Dialog, above: u32) -> Self {
        let read = dialog.sent_cseq.map(i64::from);
        Self { identity: Identity::of(dialog), above, read }
    }
}

/// The next CSeqs of several dialogs. Answer: a [`Claimed`] for each, in their order; `None` for those that
/// have to be claimed alone.
#[derive(Clone, Debug)]
pub(super) struct ClaimAll {
    /// As many as `together` says, more than one.
    pub(super) claims: Vec<Claim>,
}

/// What came of a [`Claim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claimed {
    /// The CSeq for the wire.
    Wire(i64),
    /// The row is no longer there, or holds another dialog.
    Gone,
    /// The row is there and can count no further.
    Exhausted,
}

/// Removes a row. Answer: whether it was there.
#[derive(Clone, Debug)]
pub(super) struct Delete {
    pub(super) identity: Identity,
}

/// Who the server is. Answer: its name and version, and the flavour of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inspect;

/// A row that still holds the same dialog: a row id may be given again, a Call-ID with its tags
/// is not (RFC 3261 §12).
#[derive(Clone, Debug)]
pub(super) struct Identity {
    row: RowId,
    call_id: Box<str>,
    from_tag: Box<str>,
    to_tag: Box<str>,
}

impl Identity {
    pub(super) fn of(dialog: &Dialog) -> Self {
        Self {
            row: dialog.row,
            call_id: dialog.call_id.clone(),
            from_tag: dialog.remote_tag.clone(),
            to_tag: dialog.local_tag.clone(),
        }
    }

    pub(super) fn id(&self) -> i64 {
        self.row.0
    }

    /// `callid`, `from_tag`, `to_tag`.
    pub(super) fn texts(&self) -> [&str; 3] {
        [&self.call_id, &self.from_tag, &self.to_tag]
    }

    /// In the order of the placeholders: `id`, `callid`, `from_tag`, `to_tag`.
    pub(super) fn params(&self) -> Vec<Param<'_>> {
        let id = [Param::Number(self.id())];
        id.into_iter().chain(self.texts().map(Param::Text)).collect()
    }
}
