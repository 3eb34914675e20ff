//! Why a connection to the manager ended.

use std::io;
use std::time::Duration;

use thiserror::Error;

/// Why a connection to the manager ended, or did not come about.
#[derive(Debug, Error)]
pub(super) enum AmiError {
    /// No connection.
    #[error("no connection: {0}; is Asterisk running, and enabled = yes in manager.conf?")]
    Connect(#[source] io::Error),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// Asterisk closed it: it stops, or cut off a client that was too slow.
    #[error("the connection was closed")]
    Closed,
    /// It did not say what it had to say.
    #[error("no {what} within {} s", after.as_secs())]
    Late {
        /// What was awaited.
        what: &'static str,
        /// For how long.
        after: Duration,
    },
    /// Something else listens there.
    #[error("{banner:?} is not what Asterisk's manager says first; check host")]
    NotAManager {
        /// The beginning of what it said.
        banner: String,
    },
    /// The login was refused.
    #[error(
        "the login of {user} was refused: {message}; check user and secret, and permit and deny in \
         manager.conf"
    )]
    Refused {
        /// Who.
        user: String,
        /// Asterisk's words.
        message: String,
    },
    /// An action was refused.
    #[error(
        "{action} was refused: {message}; the user needs read = call and write = reporting in \
         manager.conf, and Asterisk the module app_voicemail"
    )]
    Denied {
        /// Which.
        action: &'static str,
        /// Asterisk's words.
        message: String,
    },
    /// `MailboxCount` was answered without counts.
    #[error("the answer to MailboxCount has no counts")]
    NoCounts,
    /// Not the lines that a manager sends.
    #[error("{line:?} is no line of a manager")]
    Rubbish {
        /// The beginning of the line.
        line: String,
    },
    /// More than a manager ever sends at once.
    #[error("an event of more than {limit} bytes")]
    TooLong {
        /// The most that is read.
        limit: usize,
    },
}
