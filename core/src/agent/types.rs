//! What goes into and comes out of an [`Agent`](super::Agent): plain data.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::{Algorithm, Expiry, Permissions};
use crate::dialog::Row;
use crate::mailbox::Account;

/// What governs the agent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `host:port` of our socket, as phones and proxies reach it.
    pub authority: String,
    /// The Server header.
    pub server: String,
    /// Lengths of subscriptions.
    pub expiry: Expiry,
    /// Whose From is believed: the proxies.
    pub trusted: Vec<IpNet>,
    /// Asks everybody else for a password, under this realm. `None` refuses everybody else.
    pub realm: Option<String>,
    /// By which hashes passwords are asked for; those that users have secrets for.
    pub algorithms: Vec<Algorithm>,
    /// How long a nonce is good for, in seconds.
    pub nonce_lifetime: u64,
    /// Requests a second of one source that is not trusted, and of one watcher behind one that is.
    pub rate: u32,
    /// Who may watch what.
    pub permissions: Permissions,
    /// Timer J: how long an answer is kept for copies of its request, 64 × T1.
    pub timer_j: Duration,
}

/// Names a request that waits for an answer from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub(super) u64);

/// Which subscription a SUBSCRIBE in a dialog is about: a row must agree in all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InDialog {
    /// Call-ID.
    pub call_id: String,
    /// The To tag: ours.
    pub local_tag: String,
    /// The From tag: the phone's.
    pub remote_tag: String,
    /// Who subscribed, the user of From.
    pub from_user: String,
    /// Who subscribed, the host of From.
    pub from_domain: String,
    /// The `id` of Event: with another one it is another subscription (RFC 6665 §8.2.1).
    pub event_id: Option<String>,
    /// CSeq: the row's must not be higher. An equal one is a copy, and changes nothing.
    pub remote_cseq: u32,
    /// The phone's new remote target; `None` leaves the old one.
    pub contact: Option<String>,
}

/// What the agent asks for. Each is answered exactly once by the method that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// What is known of this user? Answer with [`handle_user`](super::Agent::handle_user).
    User {
        /// Whose request waits.
        ticket: Ticket,
        /// The user.
        user: String,
        /// The host of From, in lower case: whose user. A realm may be that of several.
        domain: String,
    },
    /// Insert this row, `expires` and all; one with the same dialog there already is the same
    /// SUBSCRIBE come twice, and left as it is, or what a phone has forgotten, and is replaced. Answer with [`handle_stored`](super::Agent::handle_stored).
    Insert {
        /// Whose request waits.
        ticket: Ticket,
        /// The row; its `id` means nothing.
        row: Box<Row>,
        /// [`ACTIVE`](crate::dialog::ACTIVE), or [`TERMINATED`](crate::dialog::TERMINATED) for a SUBSCRIBE that only fetches the state.
        status: i64,
    },
    /// Change the live row of this dialog. Answer with [`handle_stored`](super::Agent::handle_stored).
    Update {
        /// Whose request waits.
        ticket: Ticket,
        /// Which row, and what is new of it.
        dialog: Box<InDialog>,
        /// When the subscription ends from now on, absolute Unix seconds.
        expires: u64,
        /// It ends, for this `reason` (RFC 6665 §4.1.3).
        ends: Option<&'static str>,
    },
}

/// What became of an [`Action::Insert`] or [`Action::Update`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is in the table, for this account.
    Done(Account),
    /// There is no such dialog, or it has ended.
    Unknown,
    /// Its CSeq is higher.
    OutOfOrder,
    /// Its account has as many subscriptions as it may have.
    AccountFull,
    /// There are as many subscriptions as there may be.
    Full,
    /// New subscriptions are not taken now, so that they go elsewhere.
    Drained,
    /// The database did not take it.
    Failed,
}

/// A row was made or changed: the phones of its account are to be told what is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Whose phones.
    pub account: Account,
    /// What is new, when it is not an old subscription.
    pub begun: Option<Begun>,
}

/// A new subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Call-ID.
    pub call_id: String,
    /// Its seconds, 0 for a phone that only fetches the state.
    pub expires: u32,
}

/// Who has shown a wrong password, or one of a user that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impostor {
    /// Where the answer went.
    pub from: SocketAddr,
    /// The name, as it was given: anything may be in it.
    pub user: String,
}

/// Counters since the start. They only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests that were looked at, copies left out.
    pub requests: u64,
    /// Copies of requests.
    pub copies: u64,
    /// Datagrams dropped because their source sent too many.
    pub flooded: u64,
    /// Requests refused because their watcher, behind a trusted proxy, made too many.
    pub hasty: u64,
    /// Requests dropped because there were too many in all.
    pub dropped: u64,
    /// Subscriptions begun, fetches included.
    pub begun: u64,
    /// Refreshes.
    pub refreshed: u64,
    /// Subscriptions that their phone ended.
    pub ended: u64,
    /// Requests refused.
    pub refused: u64,
    /// Wrong passwords and users that are not there.
    pub wrong_credentials: u64,
}
