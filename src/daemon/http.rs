//! What the HTTP door asks.

use mwid_core::mailbox::{Account, Mailbox};
use mwid_core::reconciler::Urgency;
use mwid_core::summary::Summary;
use tokio::sync::{mpsc, oneshot};

use super::Daemon;
use crate::clock::unix_nanos;
use crate::config::Config;
use crate::report::AccountReport;
use crate::source::http::{self as door, Ask, Door, HTTP, HttpError, Refusal, Reply, Stats};
use crate::source::{Call, Receipt};

/// The door, and its way to the loop.
pub(super) struct Doorway {
    door: Option<Door>,
    ask: mpsc::Sender<Ask>,
    pub(super) asks: mpsc::Receiver<Ask>,
}

impl Doorway {
    pub(super) fn open(config: &Config) -> Result<Self, HttpError> {
        let (ask, asks) = mpsc::channel(door::QUEUE);
        let door = Door::open(config, None, ask.clone())?;
        Ok(Self { door, ask, asks })
    }

    /// Another door, which does not take the place of this one yet.
    pub(super) fn prepare(&self, config: &Config) -> Result<Option<Door>, HttpError> {
        Door::open(config, self.door.as_ref(), self.ask.clone())
    }

    /// Replaces the door. Gives whether it shows another certificate.
    pub(super) fn replace(&mut self, door: Option<Door>) -> bool {
        let old = std::mem::replace(&mut self.door, door);
        match (&self.door, &old) {
            (Some(door), Some(old)) => !door.has_same_certificate(old),
            _ => false,
        }
    }

    /// Whether there is somebody to name the accounts of this domain to.
    pub(super) fn may_name(&self, domain: &str) -> bool {
        self.door.as_ref().is_some_and(|door| door.may_name(domain))
    }

    pub(super) fn stats(&self) -> Option<Stats> {
        self.door.as_ref().map(Door::stats)
    }

    /// Whoever asks from now on, or was not heard yet, is told that mwid is stopping.
    pub(super) fn refuse(&mut self) {
        self.asks.close();
        // One that is dropped is answered.
        while self.asks.try_recv().is_ok() {}
    }

    pub(super) async fn close(&mut self) {
        if let Some(door) = self.door.take() {
            door.close().await;
        }
    }
}

impl Daemon {
    pub(super) fn http(&mut self, ask: Ask) {
        match ask {
            Ask::Give { account, summary, reply } => answer(reply, self.give(account, summary)),
            Ask::Summary { account, reply } => answer(reply, self.waiting(&account)),
            Ask::Resend { account, reply } => answer(reply, self.resend(&account)),
            Ask::Account { account, reply } => self.report(account, reply),
            Ask::Pending { limit, reply } => {
                let may_name = |account: &Account| self.doorway.may_name(account.domain());
                answer(reply, Ok(self.report_pending(limit, may_name)));
            }
            Ask::Status { reply } => self.status_over_http(reply),
            Ask::Recent { reply } => answer(reply, Ok(self.recently())),
            Ask::Metrics { reply } => answer(reply, Ok(self.metrics())),
        }
    }

    /// Gives whether it shows another certificate.
    pub(super) fn replace_door(&mut self, door: Option<Door>) -> bool {
        let is_other = self.doorway.replace(door);
        self.recent.forget(|account| !self.doorway.may_name(account.domain()));
        is_other
    }

    /// Counts of a mailbox come in as those of externnotify do. Ready when they are in the ledger.
    fn give(
        &mut self,
        account: Account,
        summary: Summary,
    ) -> Result<oneshot::Receiver<()>, Refusal> {
        let mailbox = Mailbox::new(account.user(), account.domain())?;
        if !self.mailboxes.accounts(&mailbox).contains(&account) {
            return Err(Refusal::NotItsMailbox { account, mailbox });
        }
        let (done, written) = oneshot::channel();
        self.call(Call {
            mailbox,
            given: Some(summary),
            stamp: unix_nanos(),
            receipt: Some(Receipt::Reply(done)),
            source: HTTP,
        });
        Ok(written)
    }

    /// What waits for an account; never a guess.
    fn waiting(&self, account: &Account) -> Result<Summary, Refusal> {
        self.mailboxes.sum(account).ok_or_else(|| match self.may_have_messages(account) {
            true => Refusal::Unsure(account.clone()),
            false => Refusal::Unknown(account.clone()),
        })
    }

    /// Whether an account without a sum may have one later.
    fn may_have_messages(&self, account: &Account) -> bool {
        self.mailboxes.is_awaited() || self.mailboxes.members(account).next().is_some()
    }

    /// A catch-up that is forced: its phones are told whatever they acknowledged.
    fn resend(&mut self, account: &Account) -> Result<Summary, Refusal> {
        if let Some(cluster) = &self.cluster
            && !self.owns(account)
        {
            let node = cluster.owner(account).filter(|owner| *owner != cluster.node());
            let account = account.clone();
            return Err(Refusal::Elsewhere { account, node });
        }
        // What a mailbox that cannot be read now held is what the phones show.
        let told = self.reconciler.desired(account);
        let summary = self.waiting(account).or_else(|refusal| told.ok_or(refusal))?;
        self.reconciler.set(account, summary, Urgency::Fresh, true);
        Ok(summary)
    }

    fn report(&mut self, account: Account, reply: Reply<AccountReport>) {
        let unknown = match self.may_have_messages(&account) {
            true => Refusal::Unsure(account.clone()),
            false => Refusal::Unknown(account.clone()),
        };
        self.report_account(&account, |report| {
            let found = match &report.problem {
                Some(problem) => Err(Refusal::Database(problem.clone())),
                None => report.known().ok_or(unknown),
            };
            answer(reply, found);
        });
    }
}

fn answer<T>(reply: Reply<T>, answer: Result<T, Refusal>) {
    // The client may have gone.
    let _ = reply.send(answer);
}
