//! Which counts are the newer ones. Asterisk starts one command for each change and does not wait
//! for it, so two of them may arrive in the wrong order.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use mwid_core::mailbox::Mailbox;

use super::notice::Notice;

/// A stamp further ahead of our clock than this was not made by our clock.
const AHEAD: u64 = 5_000_000_000;
/// Two commands overtake each other by milliseconds, not by this.
const MEMORY: u64 = 600_000_000_000;
/// Mailboxes that are remembered at most.
const ROOM: usize = 131_072;
/// A clock that falls back by more than this was set back, not slewed.
const STEP: Duration = Duration::from_millis(20);

/// The newest stamp seen of each mailbox that came with counts.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    newest: HashMap<Mailbox, u64>,
    clock: Option<(u64, Instant)>,
    pruned: u64,
}

impl Stamps {
    /// Starts with the stamps from before a restart; one from the future says that the clock was
    /// set back meanwhile, and nothing else.
    pub(super) fn new(past: impl IntoIterator<Item = (Mailbox, u64)>, unix: u64) -> Self {
        let newest = past.into_iter().filter(|(_, stamp)| *stamp <= unix).collect();
        // What lies in the drop folder may be older than what is remembered by any time.
        Self { newest, clock: None, pruned: unix }
    }

    /// Whether a notice says something new. `unix` is the time in nanoseconds since 1970, `now`
    /// the same moment on a clock that is never set.
    pub(super) fn is_fresh(&mut self, notice: &Notice, unix: u64, now: Instant) -> bool {
        self.follow_clock(unix, now);
        if notice.counts.is_none() {
            return true;
        }
        let stamp = if notice.stamp > unix.saturating_add(AHEAD) { unix } else { notice.stamp };
        if self.newest.get(&notice.mailbox).is_some_and(|&newest| stamp < newest) {
            return false;
        }
        self.prune(unix);
        self.newest.insert(notice.mailbox.clone(), stamp);
        true
    }

    /// Somebody else counted a mailbox, not before `stamp`: older notices say nothing new.
    pub(super) fn overtake(&mut self, mailbox: &Mailbox, stamp: u64, unix: u64, now: Instant) {
        self.follow_clock(unix, now);
        self.prune(unix);
        let newest = self.newest.entry(mailbox.clone()).or_default();
        *newest = stamp.min(unix).max(*newest);
    }

    /// When the clock is set back, what was remembered would block what comes.
    fn follow_clock(&mut self, unix: u64, now: Instant) {
        if let Some((then_unix, then)) = self.clock {
            let passed = now.saturating_duration_since(then).saturating_sub(STEP);
            let expected =
                then_unix.saturating_add(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX));
            if unix < expected {
                self.newest.clear();
                self.pruned = unix;
            }
        }
        self.clock = Some((unix, now));
    }

    fn prune(&mut self, unix: u64) {
        if unix.saturating_sub(self.pruned) > MEMORY || self.newest.len() >= ROOM {
            self.newest.retain(|_, newest| unix.saturating_sub(*newest) < MEMORY);
            self.pruned = unix;
        }
        if self.newest.len() >= ROOM {
            self.newest.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn notice(number: &str, stamp: u64) -> Notice {
        Notice {
            stamp,
            mailbox: Mailbox::parse(number).unwrap(),
            counts: Some([1, 0, 0]),
            file: None,
        }
    }

    #[test]
    fn counts_that_were_overtaken_are_stale() {
        let (mut stamps, now) = (Stamps::default(), Instant::now());
        assert!(stamps.is_fresh(&notice("202", 20), 30, now));
        assert!(!stamps.is_fresh(&notice("202", 19), 30, now));
        assert!(stamps.is_fresh(&notice("202", 20), 30, now));
        assert!(stamps.is_fresh(&notice("203", 19), 30, now));
        let mut restarted = Stamps::new([(Mailbox::parse("202").unwrap(), 20)], 30);
        assert!(!restarted.is_fresh(&notice("202", 19), 30, now));
        assert!(restarted.is_fresh(&notice("202", 20), 30, now));
        let bare = Notice { counts: None, ..notice("202", 1) };
        assert!(stamps.is_fresh(&bare, 30, now));
    }

    #[test]
    fn a_stamp_from_the_future_blocks_nothing() {
        let (mut stamps, now) = (Stamps::default(), Instant::now());
        assert!(stamps.is_fresh(&notice("202", u64::MAX), 30, now));
        assert!(stamps.is_fresh(&notice("202", 30), 30, now));
        let mut restarted = Stamps::new([(Mailbox::parse("202").unwrap(), 40)], 30);
        assert!(restarted.is_fresh(&notice("202", 30), 30, now));
    }

    #[test]
    fn a_clock_that_is_set_back_blocks_nothing() {
        let (mut stamps, now) = (Stamps::default(), Instant::now());
        let noon = 1000 * SECOND;
        assert!(stamps.is_fresh(&notice("202", noon), noon, now));
        let later = now + Duration::from_secs(1);
        assert!(stamps.is_fresh(&notice("202", noon - 2 * SECOND), noon - 2 * SECOND, later));
    }

    #[test]
    fn what_is_remembered_is_bounded_in_time_and_number() {
        let (mut stamps, now) = (Stamps::default(), Instant::now());
        stamps.is_fresh(&notice("old", 1), 1, now);
        let later = now + Duration::from_secs(700);
        stamps.is_fresh(&notice("202", 700 * SECOND), 700 * SECOND, later);
        assert_eq!(stamps.newest.len(), 1);
        for number in 0..ROOM + 10 {
            stamps.is_fresh(&notice(&number.to_string(), 700 * SECOND), 700 * SECOND, later);
        }
        assert!(stamps.newest.len() <= ROOM);
    }
}
