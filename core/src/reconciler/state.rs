//! What is remembered of an account and of a dialog.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::MAX_CHECKS;
use super::queue::Urgency;
use crate::dialog::{Dialog, Identity, RowId, Version};
use crate::few::Few;
use crate::mailbox::Account;
use crate::publication::Ways;
use crate::summary::Summary;

/// What an account's phones must show, and how they come to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The counts.
    pub summary: Summary,
    /// The ways.
    pub ways: Ways,
}

/// By NOTIFY alone.
impl From<Summary> for Desired {
    fn from(summary: Summary) -> Self {
        Self { summary, ways: Ways::default() }
    }
}

#[derive(Debug)]
pub(super) struct AccountState {
    /// `None` when nobody knows.
    pub(super) desired: Option<Summary>,
    pub(super) ways: Ways,
    /// Waits in a look-up queue.
    pub(super) queued: bool,
    /// A look-up is under way.
    pub(super) finding: bool,
    /// Something changed during the look-up: look up again.
    pub(super) again: Option<Urgency>,
    /// What stands in the way of the next look-up; few have anything.
    delay: Option<Box<Delay>>,
    pub(super) urgency: Urgency,
    pub(super) dialogs: Few<RowId>,
    /// When the change came that its phones are told of, or were.
    pub(super) changed: Option<Instant>,
}

/// What is between an account and a look-up that is answered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delay {
    /// When it is looked up again.
    pub(super) due: Option<Instant>,
    /// Look-ups that failed in a row.
    pub(super) failures: u32,
    /// Another mwid told it before: the first look-up takes this for the highest CSeq sent.
    pub(super) acquired: Option<u32>,
}

/// What a ledger remembers of a dialog from before a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The highest CSeq that was sent.
    pub high_water: u32,
    /// What the phone last acknowledged; `None` when it is not known what it shows.
    pub delivered: Option<Summary>,
    /// The phone said that the subscription is gone.
    pub dead: bool,
    /// How the dialog was then: after a refresh only `high_water` still holds.
    pub version: Version,
    /// When the subscription ended or will end, absolute Unix seconds.
    pub expires: u64,
}

/// What is remembered of a dialog. Small: there may be 100,000 of them.
#[derive(Debug)]
pub(super) struct DialogState {
    pub(super) account: Account,
    /// Whose row this is.
    pub(super) identity: Identity,
    /// Tells a refresh, and a dead row that came back to life.
    pub(super) version: Version,
    /// When the subscription ends, absolute Unix seconds, as far as 32 bits go.
    expires: u32,
    /// What the phone last acknowledged; see [`DialogState::delivered`].
    shown: Summary,
    is_shown: bool,
    /// The phone has acknowledged a NOTIFY of this version, whatever was in it.
    pub(super) told: bool,
    /// The subscription has ended: the phone needs one last NOTIFY.
    pub(super) ended: bool,
    /// The highest CSeq that mwid sent or jumped to.
    pub(super) high_water: u32,
    pub(super) phase: Phase,
    pub(super) last_sent: Option<Instant>,
    /// This version was seen before.
    pub(super) seen: bool,
    /// What stands in the way of the next NOTIFY; few have anything.
    setback: Option<Box<Setback>>,
    /// Looks back at this version, for a NOTIFY of the server's own.
    pub(super) checks: u8,
    /// NOTIFYs that were sent again because the server had sent one of its own after mwid's.
    pub(super) resends: u8,
    /// Its account was released while something was under way.
    pub(super) released: bool,
    /// It was there when its account changed, and its phone has not acknowledged that yet.
    pub(super) awaits_change: bool,
}

/// What is between a dialog and a NOTIFY that is taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Setback {
    /// Until then the server's own NOTIFY is about to go out.
    pub(super) settles: Option<Instant>,
    pub(super) pause: Option<Pause>,
    pub(super) failures: u32,
    /// 500s in a row.
    pub(super) too_low: usize,
    /// Times in a row that it was tried again at once.
    pub(super) again: u32,
}

/// Why a dialog or a publication is not tried again yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pause {
    /// Our own back-off: a fresh voicemail ends it.
    Backoff(Instant),
    /// Retry-After: the peer asked for it.
    Told(Instant),
}

impl Pause {
    /// The time that the peer asked for, and a little of our own; or our own.
    pub(super) fn after(told: Option<Duration>, own: Duration, now: Instant) -> Self {
        match told {
            Some(told) => Self::Told(now + told + own.min(told / 10)),
            None => Self::Backoff(now + own),
        }
    }

    pub(super) fn until(self) -> Instant {
        match self {
            Self::Backoff(at) | Self::Told(at) => at,
        }
    }
}

#[derive(Debug, PartialEq)]
pub(super) enum Phase {
    Idle,
    /// Waits for the rate limit, in the line of this urgency.
    Ready(Arc<Dialog>, Urgency),
    Claiming(Arc<Dialog>),
    /// With these counts: apart, so that all others are small.
    InFlight(Box<Option<Summary>>),
    Dead,
}

impl Phase {
    pub(super) fn is_working(&self) -> bool {
        matches!(self, Self::Ready(..) | Self::Claiming(_) | Self::InFlight(_))
    }
}

impl AccountState {
    pub(super) fn new(desired: Option<Summary>, ways: Ways) -> Self {
        Self {
            desired,
            ways,
            queued: false,
            finding: false,
            again: None,
            delay: None,
            urgency: Urgency::CatchUp,
            dialogs: Few::default(),
            changed: None,
        }
    }

    /// When it is looked up again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.delay.as_ref().and_then(|delay| delay.due)
    }

    /// Look-ups that failed in a row.
    pub(super) fn failures(&self) -> u32 {
        self.delay.as_ref().map_or(0, |delay| delay.failures)
    }

    pub(super) fn delay(&mut self) -> &mut Delay {
        self.delay.get_or_insert_default()
    }

    /// Its look-up was answered. Gives what stood in the way.
    pub(super) fn end_delay(&mut self) -> Delay {
        self.delay.take().map(|delay| *delay).unwrap_or_default()
    }
}

impl DialogState {
    pub(super) fn new(
        account: Account,
        dialog: &Dialog,
        identity: Identity,
        version: Version,
    ) -> Self {
        Self {
            account,
            identity,
            version,
            expires: seconds(dialog.expires),
            shown: Summary::default(),
            is_shown: false,
            told: false,
            ended: dialog.ended.is_some(),
            high_water: 0,
            phase: Phase::Idle,
            last_sent: None,
            seen: false,
            setback: None,
            checks: 0,
            resends: 0,
            released: false,
            awaits_change: false,
        }
    }

    pub(super) fn remember(&self) -> Remembered {
        Remembered {
            high_water: self.high_water,
            delivered: self.delivered(),
            dead: self.phase == Phase::Dead,
            version: self.version,
            expires: self.expires.into(),
        }
    }

    /// What the phone last acknowledged; `None` when it is not known what it shows.
    pub(super) fn delivered(&self) -> Option<Summary> {
        self.is_shown.then_some(self.shown)
    }

    /// The phone acknowledged this; `None` for a NOTIFY without counts.
    pub(super) fn deliver(&mut self, summary: Option<Summary>) {
        (self.shown, self.is_shown) = (summary.unwrap_or_default(), summary.is_some());
        self.told = true;
        self.setback = None;
    }

    /// The server answered a refresh with an empty NOTIFY of its own, so the phone may have forgotten;
    /// a dead row lives again, a failing one gets another chance at once.
    pub(super) fn refresh(&mut self, dialog: &Dialog, version: Version) {
        (self.version, self.ended) = (version, dialog.ended.is_some());
        self.phase = Phase::Idle;
        self.end_pause(|_| true);
        self.doubt();
        (self.seen, self.checks, self.resends) = (false, 0, 0);
    }

    /// From here on nobody knows what the phone shows.
    pub(super) fn doubt(&mut self) {
        (self.is_shown, self.told) = (false, false);
    }

    /// The subscription ends then, in absolute Unix seconds.
    pub(super) fn set_expires(&mut self, expires: u64) {
        self.expires = seconds(expires);
    }

    /// Until when the server's own NOTIFY is about to go out.
    pub(super) fn settles(&self) -> Option<Instant> {
        self.setback.as_ref().and_then(|setback| setback.settles)
    }

    pub(super) fn pause(&self) -> Option<Pause> {
        self.setback.as_ref().and_then(|setback| setback.pause)
    }

    /// Ends the pause if it is one of these.
    pub(super) fn end_pause(&mut self, is_one: impl Fn(Pause) -> bool) {
        if let Some(setback) = &mut self.setback
            && setback.pause.is_some_and(is_one)
        {
            setback.pause = None;
        }
    }

    pub(super) fn setback(&mut self) -> &mut Setback {
        self.setback.get_or_insert_default()
    }

    /// Nothing is wrong any more.
    pub(super) fn recover(&mut self) {
        self.setback = None;
    }

    /// A dialog that was known before.
    pub(super) fn remembered(
        account: Account,
        dialog: &Dialog,
        identity: Identity,
        past: &Remembered,
    ) -> Self {
        Self {
            shown: past.delivered.unwrap_or_default(),
            is_shown: past.delivered.is_some(),
            told: past.delivered.is_some(),
            high_water: past.high_water,
            phase: if past.dead { Phase::Dead } else { Phase::Idle },
            ..Self::new(account, dialog, identity, past.version)
        }
    }

    /// Whether the phone knows all that there is to know.
    pub(super) fn is_told(&self, desired: Option<Summary>) -> bool {
        let counts = self.ended || desired.is_none() || self.delivered() == desired;
        counts && self.told
    }

    /// Whether the row counts further than mwid did: the server sent a NOTIFY of its own after
    /// the one that the phone took, and its empty body may be what the phone has now. After a
    /// restart it may also be a claim of mwid's own that came to nothing: nobody knows, so the
    /// phone is told once more.
    pub(super) fn is_overtaken(&self, dialog: &Dialog) -> bool {
        self.is_shown && dialog.sent_cseq.is_some_and(|sent| sent > self.high_water)
    }

    /// Whether it is told once more because of that.
    pub(super) fn is_due_again(&self, dialog: &Dialog) -> bool {
        self.is_overtaken(dialog) && self.resends < MAX_CHECKS
    }
}

/// In 32 bits: the clocks of servers end there in the year 2106, and so do their subscriptions.
fn seconds(unix: u64) -> u32 {
    u32::try_from(unix).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialog_remembers_when_its_subscription_ends() {
        let dialog = crate::reconciler::tests::dialog(1, "202", 0);
        let (identity, version) = (dialog.identity(), dialog.version());
        let mut state = DialogState::new(dialog.account.clone(), &dialog, identity, version);
        assert_eq!(state.remember().expires, dialog.expires);
        state.set_expires(u64::MAX);
        assert_eq!(state.remember().expires, u64::from(u32::MAX));
    }

    #[test]
    fn a_dialog_and_an_account_are_small_in_their_tables() {
        // A table has up to 1.3 places for each of 100,000 entries, each with a byte of its own.
        assert!(size_of::<(RowId, DialogState)>() <= 112, "{}", size_of::<DialogState>());
        assert!(size_of::<(Account, AccountState)>() <= 88, "{}", size_of::<AccountState>());
    }
}
