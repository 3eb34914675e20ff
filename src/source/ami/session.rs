//! One conversation with the manager, from its banner on: what to ask next and what an answer
//! means. Pure: bytes and time come in.
//!
//! [`handle_packet`](Session::handle_packet) takes what came; afterwards
//! [`poll_request`](Session::poll_request) gives what to send, until it gives `None`;
//! [`poll_timeout`](Session::poll_timeout) says when to call
//! [`handle_timeout`](Session::handle_timeout). At most one request is unanswered. After an error
//! the connection is of no use.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use md5::{Digest, Md5};
use mwid_core::mailbox::{Mailbox, NameError};
use mwid_core::summary::Summary;

use super::error::AmiError;
use super::packet::{Answer, Counts, Packet};
use crate::config::Credentials;

/// Mailboxes that wait to be asked for, and that are known, at most.
pub(super) const ROOM: usize = 131_072;

/// A connection that was silent for so long is asked whether it is still one.
pub(super) const QUIET: Duration = Duration::from_secs(30);

/// What a manager says first, before its version.
const BANNER: &str = "Asterisk Call Manager";

/// What was counted in a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) mailbox: Mailbox,
    pub(super) summary: Summary,
    /// When it was asked for, nanoseconds since 1970: the counts are not older than this.
    pub(super) stamp: u64,
}

/// What came of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing to tell.
    Nothing,
    /// A mailbox was counted.
    Counted(Counted),
    /// The login was accepted.
    LoggedIn,
    /// A mailbox changed; it will be asked for.
    Changed,
    /// All mailboxes were listed, and it follows.
    Following,
    /// A name that is no mailbox.
    BadName(NameError),
}

/// How patient a conversation is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// For an answer.
    pub(super) timeout: Duration,
    /// Between two full reads.
    pub(super) rescan: Duration,
}

/// A conversation.
#[derive(Debug)]
pub(super) struct Session<'a> {
    login: &'a Credentials,
    pace: Pace,
    /// Mailboxes that were ever named; they outlive the conversation.
    known: &'a mut HashSet<Mailbox>,
    /// What the list named, while it is read.
    listed: HashSet<Mailbox>,
    queue: Queue,
    asked: Option<Question>,
    next: Step,
    id: u64,
    heard: Instant,
    /// When all mailboxes are read again; `None` before they were, and while they are.
    rescan: Option<Instant>,
}

/// What will be asked when nothing is unanswered.
#[derive(Debug)]
enum Step {
    Challenge,
    Login(String),
    List,
    Follow,
    Ping,
}

/// What is unanswered.
#[derive(Debug)]
struct Question {
    what: What,
    since: Instant,
    /// Nanoseconds since 1970.
    stamp: u64,
}

#[derive(Debug)]
enum What {
    Banner,
    Challenge,
    Login,
    List,
    Count(Mailbox),
    Ping,
}

impl What {
    /// What an operator reads when it does not come.
    fn name(&self) -> &'static str {
        match self {
            Self::Banner => "banner",
            Self::Challenge => "answer to Challenge",
            Self::Login => "answer to Login",
            Self::List => "answer to VoicemailUsersList",
            Self::Count(_) => "answer to MailboxCount",
            Self::Ping => "answer to Ping",
        }
    }
}

impl<'a> Session<'a> {
    /// A connection was just made: the banner is awaited.
    pub(super) fn new(
        login: &'a Credentials,
        pace: Pace,
        known: &'a mut HashSet<Mailbox>,
        now: Instant,
    ) -> Self {
        let asked = Some(Question { what: What::Banner, since: now, stamp: 0 });
        Self {
            login,
            pace,
            known,
            listed: HashSet::new(),
            queue: Queue::default(),
            asked,
            next: Step::Challenge,
            id: 0,
            heard: now,
            rescan: None,
        }
    }

    /// The manager said something.
    ///
    /// # Errors
    /// [`AmiError`] ends the conversation.
    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        packet: Packet,
    ) -> Result<Outcome, AmiError> {
        self.heard = now;
        match packet {
            Packet::Banner(banner) if banner.starts_with(BANNER) => self.asked = None,
            Packet::Banner(banner) => return Err(AmiError::NotAManager { banner }),
            Packet::Changed(counts) => return Ok(self.changed(&counts)),
            Packet::User { counts, context } if self.is_list(counts.id) => {
                return Ok(self.user(now, &counts, &context));
            }
            Packet::ListEnd { id } if self.is_list(id) => return Ok(self.list_end(now)),
            Packet::Answer(answer) if answer.id == Some(self.id) => {
                return self.answer(now, answer);
            }
            Packet::User { .. } | Packet::ListEnd { .. } | Packet::Answer(_) | Packet::Other => {}
        }
        Ok(Outcome::Nothing)
    }

    /// What to send. `unix` is the time in nanoseconds since 1970.
    pub(super) fn poll_request(&mut self, now: Instant, unix: u64) -> Option<String> {
        if self.asked.is_some() {
            return None;
        }
        let (what, action) = match std::mem::replace(&mut self.next, Step::Follow) {
            Step::Challenge => (What::Challenge, "Action: Challenge\r\nAuthType: MD5\r\n".into()),
            Step::Login(challenge) => (What::Login, self.log_in(&challenge)),
            Step::List => (What::List, "Action: VoicemailUsersList\r\n".into()),
            Step::Ping => (What::Ping, "Action: Ping\r\n".into()),
            Step::Follow => {
                let mailbox = self.queue.pop()?;
                let action = format!("Action: MailboxCount\r\nMailbox: {mailbox}\r\n");
                (What::Count(mailbox), action)
            }
        };
        self.id += 1;
        self.asked = Some(Question { what, since: now, stamp: unix });
        Some(format!("{action}ActionID: {}\r\n\r\n", self.id))
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub(super) fn poll_timeout(&self) -> Instant {
        match &self.asked {
            Some(question) => question.since + self.pace.timeout,
            None => self.rescan.into_iter().fold(self.heard + QUIET, Instant::min),
        }
    }

    /// Time has passed.
    ///
    /// # Errors
    /// [`AmiError::Late`] when an answer is overdue.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), AmiError> {
        if now < self.poll_timeout() {
            return Ok(());
        }
        match &self.asked {
            Some(question) => {
                Err(AmiError::Late { what: question.what.name(), after: self.pace.timeout })
            }
            None => {
                let due = self.rescan.take_if(|at| *at <= now).is_some();
                self.next = if due { Step::List } else { Step::Ping };
                Ok(())
            }
        }
    }

    /// The secret itself never leaves: whoever listens there may be somebody else.
    fn log_in(&self, challenge: &str) -> String {
        let mut digest = Md5::new();
        digest.update(challenge);
        digest.update(self.login.password.reveal());
        let key: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let user = &self.login.user;
        format!(
            "Action: Login\r\nAuthType: MD5\r\nUsername: {user}\r\nKey: {key}\r\nEvents: call\r\n"
        )
    }

    /// Answers of the same list go on coming.
    fn is_list(&self, id: Option<u64>) -> bool {
        id == Some(self.id)
            && self.asked.as_ref().is_some_and(|asked| matches!(asked.what, What::List))
    }

    fn answer(&mut self, now: Instant, answer: Answer) -> Result<Outcome, AmiError> {
        let Some(question) = self.asked.take() else { return Ok(Outcome::Nothing) };
        let denied = |action| AmiError::Denied { action, message: answer.message.clone() };
        let success = answer.success;
        match question.what {
            What::Challenge => {
                let challenge = answer.challenge.clone().ok_or_else(|| denied("Challenge"))?;
                self.next = Step::Login(challenge);
            }
            What::Login if success => {
                self.next = Step::List;
                return Ok(Outcome::LoggedIn);
            }
            What::Login => {
                let (user, message) = (self.login.user.clone(), answer.message);
                return Err(AmiError::Refused { user, message });
            }
            What::List if !success => return Err(denied("VoicemailUsersList")),
            // Its entries and its end are still to come.
            What::List if answer.list => self.asked = Some(question),
            // "There are no voicemail users currently defined."
            What::List => return Ok(self.list_end(now)),
            What::Count(_) if !success => return Err(denied("MailboxCount")),
            What::Count(mailbox) => {
                let (Some(new), Some(old)) = (answer.new, answer.old) else {
                    return Err(AmiError::NoCounts);
                };
                let urgent = answer.urgent.unwrap_or(0);
                let summary = Summary::from_asterisk(new, old, urgent);
                return Ok(self.counted(mailbox, summary, question.stamp));
            }
            What::Ping | What::Banner => {}
        }
        Ok(Outcome::Nothing)
    }

    fn changed(&mut self, counts: &Counts) -> Outcome {
        match Mailbox::parse(&counts.mailbox) {
            Ok(mailbox) => {
                self.know(&mailbox);
                match self.queue.push(mailbox) {
                    Ok(()) => Outcome::Changed,
                    Err(mailbox) => self.take_as_it_is(mailbox, counts, 0),
                }
            }
            Err(error) => Outcome::BadName(error),
        }
    }

    /// An entry of the list. Without new messages there are no urgent ones: that is a count.
    fn user(&mut self, now: Instant, counts: &Counts, context: &str) -> Outcome {
        let mailbox = match Mailbox::new(&counts.mailbox, context) {
            Ok(mailbox) => mailbox,
            Err(error) => return Outcome::BadName(error),
        };
        let Some(question) = &mut self.asked else { return Outcome::Nothing };
        question.since = now;
        let stamp = question.stamp;
        if self.listed.len() < ROOM {
            self.listed.insert(mailbox.clone());
        }
        if counts.new == Some(0) && counts.old.is_some() {
            return self.take_as_it_is(mailbox, counts, stamp);
        }
        match self.queue.push(mailbox) {
            Ok(()) => Outcome::Nothing,
            Err(mailbox) => self.take_as_it_is(mailbox, counts, stamp),
        }
    }

    /// Believes totals that do not tell urgent messages apart.
    fn take_as_it_is(&mut self, mailbox: Mailbox, counts: &Counts, stamp: u64) -> Outcome {
        let (Some(new), Some(old)) = (counts.new, counts.old) else { return Outcome::Nothing };
        self.counted(mailbox, Summary::from_asterisk(new, old, 0), stamp)
    }

    fn counted(&mut self, mailbox: Mailbox, summary: Summary, stamp: u64) -> Outcome {
        self.know(&mailbox);
        Outcome::Counted(Counted { mailbox, summary, stamp })
    }

    fn know(&mut self, mailbox: &Mailbox) {
        if self.known.len() < ROOM {
            self.known.insert(mailbox.clone());
        }
    }

    /// The list is complete: what is known and was not in it is asked for too.
    fn list_end(&mut self, now: Instant) -> Outcome {
        self.asked = None;
        self.rescan = Some(now + self.pace.rescan);
        let listed = std::mem::take(&mut self.listed);
        for mailbox in self.known.difference(&listed) {
            if self.queue.push(mailbox.clone()).is_err() {
                break;
            }
        }
        Outcome::Following
    }
}

/// Mailboxes that will be asked for, each once, in the order of their changes.
#[derive(Debug, Default)]
struct Queue {
    order: VecDeque<Mailbox>,
    waiting: HashSet<Mailbox>,
}

impl Queue {
    /// Gives the mailbox back when there is no room for it.
    fn push(&mut self, mailbox: Mailbox) -> Result<(), Mailbox> {
        if self.waiting.contains(&mailbox) {
            return Ok(());
        }
        if self.order.len() >= ROOM {
            return Err(mailbox);
        }
        self.waiting.insert(mailbox.clone());
        self.order.push_back(mailbox);
        Ok(())
    }

    fn pop(&mut self) -> Option<Mailbox> {
        let mailbox = self.order.pop_front()?;
        self.waiting.remove(&mailbox);
        Some(mailbox)
    }
}

#[cfg(test)]
mod tests;
