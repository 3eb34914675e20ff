//! What can go wrong between mwid and `active_watchers`.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mwid_core::dialog::{MAX_CSEQ, RowId};
use thiserror::Error;

/// Why a dialog store did not answer. No text holds a password. `Clone`, so that the one failed
/// connection can be told to everybody who waits for it.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// No connection, or it broke and could not be made again. Retry later.
    #[error("no connection to {at}: {cause}; check [database] url, and that the database is there")]
    Unreachable {
        /// Which database.
        at: String,
        /// What the driver said.
        #[source]
        cause: Cause,
    },
    /// No connection or no answer in time. Retry later.
    #[error(
        "{at} did not answer within {} s ([database] timeout); it is overloaded, locked or cut off",
        after.as_secs_f32()
    )]
    Timeout {
        /// Which database.
        at: String,
        /// How long was waited.
        after: Duration,
    },
    /// The table is not there.
    #[error(
        "{at} has no table {table:?}: {cause}; name the presence server's table in [database] table, \
         or create it with the presence server's own schema; for [agent], run mwid sql --apply"
    )]
    MissingTable {
        /// Which database.
        at: String,
        /// The table's name.
        table: String,
        /// What the server said.
        #[source]
        cause: Cause,
    },
    /// The table is there and has not the columns of `active_watchers`.
    #[error(
        "table {table:?} of {at} has no column {column:?}; it is not the active_watchers table of \
         OpenSIPS or Kamailio, or of a version too old: upgrade it with the presence server's own tools"
    )]
    MissingColumn {
        /// Which database.
        at: String,
        /// The table's name.
        table: String,
        /// The column that mwid cannot do without.
        column: &'static str,
    },
    /// The server understood and refused: no right to do it, a read-only server, a wrong type.
    #[error(
        "{at} refused a query on table {table:?}{}: {cause}; check the rights of the user in \
         [database] url and the table's columns",
        column.as_deref().map(|name| format!(", column {name:?}")).unwrap_or_default()
    )]
    Refused {
        /// Which database.
        at: String,
        /// The table's name.
        table: String,
        /// The column, when the server named one apart from its text.
        column: Option<String>,
        /// What the server said.
        #[source]
        cause: Cause,
    },
    /// The driver panicked: a bug of it, or of mwid, that this question met. Retry later.
    #[error("the driver of {at} panicked: {what}; please report this")]
    Panicked {
        /// Which database.
        at: String,
        /// What the panic said.
        what: String,
    },
    /// No CSeq is left in this dialog (RFC 3261 §8.1.1.5). The phone starts a new one when it
    /// subscribes again.
    #[error(
        "row {row}: the dialog has used up its CSeq numbers (the highest is {MAX_CSEQ}); \
         it ends when its phone subscribes anew"
    )]
    Exhausted {
        /// The row.
        row: RowId,
    },
    /// `[database] table` is no plain name.
    #[error(
        "[database] table is {table:?}; write a name of 1 to 63 letters, digits and underscores \
         that does not start with a digit"
    )]
    BadTable {
        /// What the configuration says.
        table: String,
    },
}

impl StoreError {
    /// Whether every other question would meet it now, too: the database is not there.
    pub(super) fn is_everybodys(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Timeout { .. })
    }

    /// Whether the same call may succeed later without anybody's help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Timeout { .. } | Self::Panicked { .. })
    }
}

/// What a driver said, with what it keeps behind it: tokio-postgres prints only "db error" and
/// has the server's words in its `source`.
#[derive(Clone, Debug)]
pub struct Cause(Arc<dyn Error + Send + Sync>);

impl Cause {
    pub(super) fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(error.into().into())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        // mysql_async wraps an error of the system in two layers of one name.
        while let Some((first, rest)) = text.split_once(": ")
            && rest.starts_with(&format!("{first}: "))
        {
            text = rest.to_owned();
        }
        let mut next = self.0.source();
        while let Some(error) = next {
            let words = error.to_string();
            if !text.contains(&words) {
                text.push_str(": ");
                text.push_str(&words);
            }
            next = error.source();
        }
        f.write_str(&one_line(&text, 500))
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// Text of a server as one line of at most `limit` characters, fit for a log and a terminal.
pub(super) fn one_line(text: &str, limit: usize) -> String {
    text.trim().chars().take(limit).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug, Error)]
    #[error("db error")]
    struct Outer(#[source] io::Error);

    #[test]
    fn a_cause_tells_what_the_driver_hides_behind_db_error() {
        let cause = Cause::new(Outer(io::Error::other("permission denied\nfor table x")));
        assert_eq!(cause.to_string(), "db error: permission denied for table x");
    }

    #[test]
    fn a_cause_does_not_say_the_same_twice() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let cause = Cause::new(mysql_async::Error::from(refused()));
        assert_eq!(cause.to_string(), format!("Input/output error: {}", refused()));
    }

    #[test]
    fn only_an_unreachable_or_silent_database_is_worth_a_retry() {
        let at = "x".to_owned();
        assert!(StoreError::Timeout { at, after: Duration::from_secs(5) }.is_transient());
        assert!(!StoreError::Exhausted { row: RowId(1) }.is_transient());
        assert!(!StoreError::BadTable { table: "a b".into() }.is_transient());
    }
}
