//! The presence agent: answers SUBSCRIBE for the event package message-summary (RFC 6665 §4.2,
//! RFC 3842), for sites without a presence server.
//!
//! It is no second heart. It decides which row of `active_watchers` is made or changed
//! ([`Action`]), answers, and then names the account ([`Agent::poll_changed`]) whose phones the
//! reconciler tells what is true: a row is a subscription, whoever wrote it. A row that has ended
//! lives on for [`FAREWELL`], so that its phone is told that too.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use crate::dialog::{ACTIVE, TERMINATED};
use crate::mailbox::Account;
use crate::message::{Message, StartLine};

mod access;
mod digest;
mod envelope;
mod limits;
mod refusal;
mod rows;
mod subscribe;
#[cfg(test)]
mod tests;
mod transactions;
mod types;
mod uri;

pub use access::Permissions;
pub use digest::{Algorithm, Secrets};
pub use envelope::Reply;
pub use subscribe::Expiry;
pub use types::{Action, Begun, Changed, Impostor, InDialog, Settings, Stats, Stored, Ticket};

use digest::{Credentials, Nonces, NotChecked};
use envelope::{Envelope, Words};
use limits::Limits;
use refusal::{ALLOW, Refusal};
use subscribe::Subscribe;
use transactions::{Begin, Key, Room, Transactions};

/// How long a subscription that has ended keeps its row: Timer F of its last NOTIFY, in seconds.
pub const FAREWELL: u64 = 32;

/// How long after its time a subscription can still be refreshed, in seconds. Asterisk's chan_sip
/// refreshes when the time is over, not before, and after a 481 it never subscribes again.
pub const GRACE: u64 = 5;

/// `reason` of a subscription that ended because its time was over, or because its phone wanted it
/// (RFC 6665 §4.1.3).
pub const TIMEOUT: &str = "timeout";

/// `reason` of a subscription whose phone may not watch that account any more (RFC 6665 §4.1.3).
const REJECTED: &str = "rejected";

/// Server transactions at a time, and the bytes of their answers: there are about 600 in one.
const ROOM: Room = Room { transactions: 32_768, bytes: 32 << 20 };

/// Requests that wait for the database at a time: with [`MAX_HEAD`], some 64 MB at the very most.
const MAX_PENDING: usize = 4_096;

/// The longest start line and headers of a request that is carried out, in bytes. A SUBSCRIBE by five
/// proxies and with a password has less than half of that; over UDP 1,300 are much (RFC 3261 §18.1.1).
const MAX_HEAD: usize = 8_192;

/// After how many seconds a request that was refused for want of room may come again.
const RETRY_AFTER: u32 = 10;

const ALLOW_EVENTS: &str = "Allow-Events: message-summary";
const ACCEPT: &str = "Accept: application/simple-message-summary";

/// Answers requests.
///
/// Calling contract: ask [`admits`](Self::admits) before a datagram is even read as a message, give
/// the requests to [`handle_request`](Self::handle_request). After each call of a `handle_*` method drain [`poll_action`](Self::poll_action),
/// [`poll_reply`](Self::poll_reply) and then [`poll_changed`](Self::poll_changed): the answer to a
/// SUBSCRIBE goes out before the NOTIFY that follows it (RFC 6665 §4.2.1.2).
#[derive(Debug)]
pub struct Agent {
    settings: Settings,
    transactions: Transactions,
    limits: Limits,
    nonces: Nonces,
    secret: u64,
    pending: HashMap<Ticket, Pending>,
    /// Subscriptions that are being ended because their phone may not watch any more.
    rejected: HashSet<Ticket>,
    tickets: u64,
    actions: VecDeque<Action>,
    replies: VecDeque<Reply>,
    changed: VecDeque<Changed>,
    stats: Stats,
}

#[derive(Debug)]
struct Pending {
    key: Key,
    envelope: Envelope,
    subscribe: Subscribe,
    /// While the user is asked for.
    credentials: Option<Credentials>,
    /// The tag for the answer.
    tag: String,
}

impl Agent {
    /// Knows nobody yet. `secret` is random, and another in each process.
    #[must_use]
    pub fn new(settings: Settings, secret: [u8; 32]) -> Self {
        let (low, _) = secret.split_first_chunk().expect("32 bytes are more than 8");
        Self {
            transactions: Transactions::new(settings.timer_j, ROOM),
            limits: Limits::new(settings.rate, settings.trusted.clone()),
            nonces: Nonces::new(secret, settings.nonce_lifetime),
            secret: u64::from_be_bytes(*low),
            settings,
            pending: HashMap::new(),
            rejected: HashSet::new(),
            tickets: 0,
            actions: VecDeque::new(),
            replies: VecDeque::new(),
            changed: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Other settings; what waits for an answer from outside goes on.
    pub fn configure(&mut self, settings: Settings) {
        self.limits = Limits::new(settings.rate, settings.trusted.clone());
        self.nonces.configure(settings.nonce_lifetime);
        self.settings = settings;
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Whether a datagram from there may be looked at. It is asked before anything else is done with
    /// one, so that a flood costs no more than its reception.
    pub fn admits(&mut self, now: Instant, from: SocketAddr) -> bool {
        let admitted = self.limits.admits(from.ip(), now);
        self.stats.flooded += u64::from(!admitted);
        admitted
    }

    /// Takes a request that came from `from`. `unix` is now in Unix seconds.
    pub fn handle_request(&mut self, now: Instant, unix: u64, from: SocketAddr, request: &Message) {
        let StartLine::Request { method, .. } = request.start() else { return };
        // What has no return address cannot be answered; an ACK must not be (RFC 3261 §17.1.1.3).
        let Ok(envelope) = Envelope::of(request, from) else { return };
        if method == "ACK" {
            return;
        }
        if request.head_length() > MAX_HEAD {
            // Without a transaction (RFC 3261 §8.2.7), so that nothing of it is kept.
            self.stats.requests += 1;
            self.stats.refused += 1;
            let server = &self.settings.server;
            let reply = envelope.refuse(&Refusal::TooLarge, &tag(request), server);
            return self.replies.push_back(reply);
        }
        let key = Key::of(request, method, self.secret);
        match self.transactions.begin(key, now) {
            Begin::New => self.stats.requests += 1,
            Begin::Absorbed => return self.stats.copies += 1,
            Begin::Again(reply) => {
                self.stats.copies += 1;
                return self.replies.push_back(reply);
            }
            // No answer: the sender slows down by itself, by Timer E.
            Begin::Full => return self.stats.dropped += 1,
        }
        let tag = tag(request);
        match method {
            "SUBSCRIBE" => match self.subscribe(now, unix, from, request) {
                Ok((subscribe, credentials)) => {
                    let pending = Pending { key, envelope, subscribe, credentials, tag };
                    self.proceed(pending, unix);
                }
                Err(refusal) => self.refuse(key, &envelope, &tag, &refusal),
            },
            "OPTIONS" => {
                let lines = [ALLOW, ALLOW_EVENTS, ACCEPT].map(str::to_owned);
                let words = Words { tag: &tag, server: &self.settings.server, lines: &lines };
                let reply = envelope.answer(200, "OK", words);
                self.reply(key, reply);
            }
            "CANCEL" => self.refuse(key, &envelope, &tag, &Refusal::NoSubscription),
            _ => self.refuse(key, &envelope, &tag, &Refusal::MethodNotAllowed),
        }
    }

    /// Believes a SUBSCRIBE, and says whose password is still to be looked at.
    fn subscribe(
        &mut self,
        now: Instant,
        unix: u64,
        from: SocketAddr,
        request: &Message,
    ) -> Result<(Subscribe, Option<Credentials>), Refusal> {
        let subscribe = Subscribe::read(request, &self.settings.expiry, &self.settings.authority)?;
        if self.pending.len() + self.rejected.len() >= MAX_PENDING {
            return Err(Refusal::Unavailable { why: "too much to do", retry_after: RETRY_AFTER });
        }
        if self.limits.is_trusted(from.ip()) {
            let user = subscribe.from_user.as_deref().unwrap_or_default();
            let admitted = self.limits.admits_watcher(user, &subscribe.from_domain, now);
            self.stats.hasty += u64::from(!admitted);
            return if admitted { Ok((subscribe, None)) } else { Err(Refusal::TooOften) };
        }
        let realm = self.settings.realm.as_deref().ok_or(Refusal::Forbidden)?;
        match self.nonces.read(request.headers("Authorization"), realm, unix) {
            Ok(credentials) => Ok((subscribe, Some(credentials))),
            Err(why) => Err(self.challenge(why, unix)),
        }
    }

    fn challenge(&mut self, why: NotChecked, unix: u64) -> Refusal {
        let Some(realm) = &self.settings.realm else { return Refusal::Forbidden };
        let stale = why == NotChecked::Stale;
        let algorithms = &self.settings.algorithms;
        Refusal::Unauthorized(self.nonces.challenge(realm, algorithms, stale, unix))
    }

    fn proceed(&mut self, pending: Pending, unix: u64) {
        if let Some(credentials) = &pending.credentials {
            let user = credentials.user.clone();
            let domain = pending.subscribe.from_domain.to_ascii_lowercase();
            let ticket = self.wait(pending);
            self.actions.push_back(Action::User { ticket, user, domain });
        } else {
            self.store(pending, unix);
        }
    }

    fn wait(&mut self, pending: Pending) -> Ticket {
        let ticket = self.next_ticket();
        self.pending.insert(ticket, pending);
        ticket
    }

    fn next_ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// What is known of the user that [`Action::User`] named; `None` when there is no such user,
    /// an error when that could not be found out. Gives who has shown a wrong password.
    pub fn handle_user(
        &mut self,
        ticket: Ticket,
        found: Result<Option<Secrets>, ()>,
        unix: u64,
    ) -> Option<Impostor> {
        let mut pending = self.pending.remove(&ticket)?;
        let credentials = pending.credentials.take()?;
        let before = self.stats.wrong_credentials;
        let refusal = match found {
            Err(()) => Err(unavailable()),
            Ok(secrets) => self.check(&pending.subscribe, &credentials, secrets.as_ref(), unix),
        };
        let from = pending.envelope.peer();
        match refusal {
            Ok(()) => self.store(pending, unix),
            Err(refusal) => self.refuse(pending.key, &pending.envelope, &pending.tag, &refusal),
        }
        let is_wrong = self.stats.wrong_credentials > before;
        is_wrong.then_some(Impostor { from, user: credentials.user })
    }

    fn check(
        &mut self,
        subscribe: &Subscribe,
        credentials: &Credentials,
        secrets: Option<&Secrets>,
        unix: u64,
    ) -> Result<(), Refusal> {
        if !credentials.is_right(secrets, "SUBSCRIBE") {
            self.stats.wrong_credentials += 1;
            return Err(self.challenge(NotChecked::Absent, unix));
        }
        if let Err(stale) = self.nonces.use_up(credentials, unix) {
            return Err(self.challenge(stale, unix));
        }
        // A password says who somebody is, not who its From says.
        let is_own = subscribe.from_user.as_deref() == Some(credentials.user.as_str());
        if is_own { Ok(()) } else { Err(Refusal::Forbidden) }
    }

    /// Who asks is known: asks for the row.
    fn store(&mut self, pending: Pending, unix: u64) {
        let ends = pending.subscribe.expires == 0;
        let seconds = if ends { FAREWELL } else { pending.subscribe.expires.into() };
        let expires = unix + seconds;
        let stored = if pending.subscribe.to_tag.is_some() {
            let dialog = pending.subscribe.in_dialog();
            dialog.map(|dialog| {
                let (ticket, dialog) = (self.next_ticket(), Box::new(dialog));
                Action::Update { ticket, dialog, expires, ends: ends.then_some(TIMEOUT) }
            })
        } else {
            let Settings { authority, permissions, .. } = &self.settings;
            let status = if ends { TERMINATED } else { ACTIVE };
            let row = pending.subscribe.new_row(&pending.tag, expires, authority, permissions);
            row.map(|row| Action::Insert { ticket: self.next_ticket(), row: Box::new(row), status })
        };
        match stored {
            Ok(action) => {
                self.pending.insert(Ticket(self.tickets), pending);
                self.actions.push_back(action);
            }
            Err(refusal) => self.refuse(pending.key, &pending.envelope, &pending.tag, &refusal),
        }
    }

    /// What became of the row that an action was about. `unix` is now in Unix seconds.
    pub fn handle_stored(&mut self, ticket: Ticket, stored: Stored, unix: u64) {
        if self.rejected.remove(&ticket) {
            if let Stored::Done(account) = stored {
                self.stats.ended += 1;
                self.changed.push_back(Changed { account, begun: None });
            }
            return;
        }
        let Some(Pending { key, envelope, subscribe, tag, .. }) = self.pending.remove(&ticket)
        else {
            return;
        };
        let refusal = match stored {
            Stored::Done(account) if !self.may_go_on(&subscribe, &account) => {
                self.reject(&subscribe, unix);
                Refusal::Forbidden
            }
            Stored::Done(account) => {
                let count = match (&subscribe.to_tag, subscribe.expires) {
                    (None, _) => &mut self.stats.begun,
                    (Some(_), 0) => &mut self.stats.ended,
                    (Some(_), _) => &mut self.stats.refreshed,
                };
                *count += 1;
                let reply = envelope.answer(
                    200,
                    "OK",
                    Words {
                        tag: &tag,
                        server: &self.settings.server,
                        lines: &self.accepted(&subscribe),
                    },
                );
                self.reply(key, reply);
                let begun = subscribe.to_tag.is_none();
                let (call_id, expires) = (subscribe.call_id, subscribe.expires);
                let begun = begun.then_some(Begun { call_id, expires });
                return self.changed.push_back(Changed { account, begun });
            }
            Stored::Unknown => Refusal::NoSubscription,
            Stored::OutOfOrder => Refusal::OutOfOrder,
            Stored::AccountFull => Refusal::AccountFull,
            Stored::Full => Refusal::Unavailable { why: "too many subscriptions", retry_after: 60 },
            Stored::Drained => Refusal::Unavailable { why: "not taking any", retry_after: 60 },
            Stored::Failed => unavailable(),
        };
        self.refuse(key, &envelope, &tag, &refusal);
    }

    /// Whether a refresh is of somebody who may watch this account; an unsubscribe is always well.
    fn may_go_on(&self, subscribe: &Subscribe, account: &Account) -> bool {
        if subscribe.to_tag.is_none() || subscribe.expires == 0 {
            return true;
        }
        let watcher = subscribe.watcher.as_ref();
        watcher.is_some_and(|it| self.settings.permissions.may_watch(it, account))
    }

    /// Ends a subscription that had a right when it began and has none any more (RFC 6665 §4.2.2).
    fn reject(&mut self, subscribe: &Subscribe, unix: u64) {
        let Ok(dialog) = subscribe.in_dialog() else { return };
        let (ticket, dialog) = (self.next_ticket(), Box::new(dialog));
        let (expires, ends) = (unix + FAREWELL, Some(REJECTED));
        self.rejected.insert(ticket);
        self.actions.push_back(Action::Update { ticket, dialog, expires, ends });
    }

    /// The headers of a 200 (RFC 6665 §4.2.1.1, RFC 3261 §12.1.1).
    fn accepted(&self, subscribe: &Subscribe) -> Vec<String> {
        let mut lines = vec![
            format!("Expires: {}", subscribe.expires),
            format!("Contact: <sip:{}>", self.settings.authority),
            ALLOW_EVENTS.to_owned(),
        ];
        if !subscribe.record_route.is_empty() {
            lines.insert(0, format!("Record-Route: {}", subscribe.record_route));
        }
        lines
    }

    fn refuse(&mut self, key: Key, envelope: &Envelope, tag: &str, refusal: &Refusal) {
        self.stats.refused += 1;
        let reply = envelope.refuse(refusal, tag, &self.settings.server);
        self.reply(key, reply);
    }

    fn reply(&mut self, key: Key, reply: Reply) {
        self.transactions.answer(key, &reply);
        self.replies.push_back(reply);
    }

    /// The next thing to ask the database.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next answer to send.
    pub fn poll_reply(&mut self) -> Option<Reply> {
        self.replies.pop_front()
    }

    /// The next account of which a row was made or changed.
    pub fn poll_changed(&mut self) -> Option<Changed> {
        self.changed.pop_front()
    }
}

fn unavailable() -> Refusal {
    Refusal::Unavailable { why: "the database does not answer", retry_after: RETRY_AFTER }
}

/// Our tag in the dialog that a request asks for. The same request has the same one, so that one
/// that comes twice, by two proxies or after a restart, makes one dialog. Nobody who did not see the
/// request can guess it: its Call-ID and From tag are random.
fn tag(request: &Message) -> String {
    let mut hash = Sha256::new();
    for name in ["Call-ID", "From", "CSeq"] {
        hash.update(request.header(name).unwrap_or_default());
        hash.update([0]);
    }
    let digest = hash.finalize();
    digest[..12].iter().map(|byte| format!("{byte:02x}")).collect()
}
