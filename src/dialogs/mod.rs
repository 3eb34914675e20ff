//! The dialog store: `active_watchers` in one of three databases, one file each, the same verbs.

use mwid_core::dialog::Row;

/// What a look-up found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The live rows, newest (highest id) first, at most `max_dialogs`.
    pub rows: Vec<Row>,
    /// More rows were there than `max_dialogs`.
    pub capped: bool,
}
