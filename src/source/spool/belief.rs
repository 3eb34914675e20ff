//! Whom to believe: the folder of a mailbox or the call about it. Pure: the time comes in.
//!
//! With its messages in ODBC or IMAP storage Asterisk still records into the spool: it renames
//! `msgNNNN.txt` into INBOX, stores it elsewhere, calls externnotify with the true counts, and
//! removes the file. With file storage the file stays. So a folder is believed over a call only
//! when messages stay in it; and a folder without messages proves nothing against a call that
//! counted some. With file storage Asterisk calls again when they are deleted: the newer call is
//! believed then.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use mwid_core::mailbox::Mailbox;
use mwid_core::summary::Summary;

/// A folder that has been with messages, or without, for this long stays so. Asterisk removes
/// a message that it stored elsewhere milliseconds after its call.
pub(super) const SETTLED: Duration = Duration::from_secs(3);
/// Mailboxes whose calls are remembered at most. Of others the folders alone are believed.
const ROOM: usize = 131_072;
/// Mailboxes that are named in the log.
const NAMED: u32 = 20;

/// The calls that have not been confirmed by what stays in the spool.
#[derive(Debug, Default)]
pub(super) struct Beliefs {
    calls: HashMap<Mailbox, Call>,
    named: u32,
}

#[derive(Clone, Copy, Debug)]
struct Call {
    given: Summary,
    /// Whether the folder had messages, and since when; `None`: not looked at since the call.
    held: Option<(bool, Instant)>,
    /// The folder was found without messages since a call that counted some.
    elsewhere: bool,
    said: bool,
}

/// What to believe of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Belief {
    /// What the folder holds; nobody said otherwise.
    Folder,
    /// What the folder holds, for now: it may only pass through.
    Passing,
    /// What the call said.
    Call(Summary),
}

/// A belief, and when to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) belief: Belief,
    /// When the folder should be counted again, whatever happens.
    pub(super) again: Option<Instant>,
    /// It is clear now, for the first time, that the messages are elsewhere: say so.
    pub(super) say: bool,
}

impl Beliefs {
    /// A call said this of a mailbox; `None`: that it changed. It takes the place of older calls.
    pub(super) fn hear(&mut self, mailbox: &Mailbox, given: Option<Summary>) {
        let old = self.calls.remove(mailbox);
        let Some(given) = given.filter(|given| *given != Summary::default()) else { return };
        if self.calls.len() < ROOM {
            let (elsewhere, said) = old.map_or((false, false), |old| (old.elsewhere, old.said));
            self.calls.insert(mailbox.clone(), Call { given, held: None, elsewhere, said });
        }
    }

    /// The folder of a mailbox was counted.
    pub(super) fn judge(&mut self, mailbox: &Mailbox, counted: Summary, now: Instant) -> Judgement {
        let folder = Judgement { belief: Belief::Folder, again: None, say: false };
        let Some(call) = self.calls.get_mut(mailbox) else { return folder };
        let holds = counted != Summary::default();
        let since = match call.held {
            Some((held, since)) if held == holds => since,
            _ => now,
        };
        call.held = Some((holds, since));
        let settled = now.saturating_duration_since(since) >= SETTLED;
        if settled && holds {
            self.calls.remove(mailbox);
            return folder;
        }
        call.elsewhere |= !holds;
        let belief = if call.elsewhere { Belief::Call(call.given) } else { Belief::Passing };
        let say = settled && !call.said && self.named < NAMED;
        call.said |= settled;
        self.named += u32::from(say);
        Judgement { belief, again: (!settled).then_some(since + SETTLED), say }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LITTLE: Duration = Duration::from_millis(10);

    fn new(count: u32) -> Summary {
        Summary::from_asterisk(count, 0, 0)
    }

    /// One mailbox and a clock.
    struct Rig {
        beliefs: Beliefs,
        now: Instant,
    }

    impl Rig {
        fn new() -> Self {
            Self { beliefs: Beliefs::default(), now: Instant::now() }
        }

        fn mailbox() -> Mailbox {
            Mailbox::parse("202").unwrap()
        }

        fn call(&mut self, given: Summary) {
            self.beliefs.hear(&Self::mailbox(), Some(given));
        }

        fn judge(&mut self, counted: Summary) -> Judgement {
            self.beliefs.judge(&Self::mailbox(), counted, self.now)
        }

        fn counted(&mut self, counted: u32) -> Belief {
            self.judge(new(counted)).belief
        }

        /// The folder is counted, and again when that was asked for.
        fn settles(&mut self, counted: u32) -> Belief {
            let again = self.judge(new(counted)).again.expect("it is looked at again");
            self.now = again;
            let last = self.judge(new(counted));
            assert_eq!(last.again, None);
            last.belief
        }
    }

    #[test]
    fn without_a_call_the_folder_is_believed_also_when_it_is_empty() {
        let mut rig = Rig::new();
        assert_eq!(rig.counted(1), Belief::Folder);
        assert_eq!(
            rig.judge(new(0)),
            Judgement { belief: Belief::Folder, again: None, say: false }
        );
    }

    #[test]
    fn odbc_the_file_comes_the_call_comes_the_file_goes() {
        let mut rig = Rig::new();
        assert_eq!(rig.counted(1), Belief::Folder);
        rig.call(new(1));
        assert_eq!(rig.counted(1), Belief::Passing);
        rig.now += LITTLE;
        assert_eq!(rig.settles(0), Belief::Call(new(1)));
        for _ in 0..3 {
            rig.now += Duration::from_secs(300);
            assert_eq!(rig.counted(0), Belief::Call(new(1)), "a rescan changes nothing");
        }
        // The next message: its file must not stand for all that are elsewhere.
        assert_eq!(rig.counted(1), Belief::Call(new(1)));
        rig.call(new(2));
        assert_eq!(rig.counted(1), Belief::Call(new(2)));
        rig.now += LITTLE;
        assert_eq!(rig.settles(0), Belief::Call(new(2)));
        // It is heard, then deleted.
        rig.call(Summary::from_asterisk(0, 2, 0));
        assert_eq!(rig.counted(0), Belief::Call(Summary::from_asterisk(0, 2, 0)));
        rig.call(new(0));
        assert_eq!(rig.counted(0), Belief::Folder);
    }

    #[test]
    fn odbc_the_file_is_gone_before_the_call_comes() {
        let mut rig = Rig::new();
        assert_eq!((rig.counted(1), rig.counted(0)), (Belief::Folder, Belief::Folder));
        rig.call(new(4));
        assert_eq!(rig.settles(0), Belief::Call(new(4)));
    }

    #[test]
    fn odbc_with_urgent_messages_only() {
        let mut rig = Rig::new();
        let urgent = Summary::from_asterisk(0, 0, 2);
        rig.call(urgent);
        assert_eq!(rig.settles(0), Belief::Call(urgent));
    }

    #[test]
    fn file_storage_the_file_stays() {
        let mut rig = Rig::new();
        assert_eq!(rig.counted(1), Belief::Folder);
        rig.call(new(7));
        assert_eq!(rig.settles(1), Belief::Folder);
        rig.now += LITTLE;
        assert_eq!(rig.counted(0), Belief::Folder, "deleted, by whom ever");
    }

    #[test]
    fn file_storage_a_message_that_is_deleted_at_once_ends_at_0() {
        for late in [false, true] {
            let mut rig = Rig::new();
            rig.counted(1);
            rig.call(new(1));
            assert_eq!(rig.counted(1), Belief::Passing);
            rig.now += LITTLE;
            if late {
                assert_eq!(rig.counted(0), Belief::Call(new(1)), "who can tell?");
            }
            rig.call(new(0));
            assert_eq!(rig.counted(0), Belief::Folder);
            rig.now += SETTLED;
            assert_eq!(rig.counted(0), Belief::Folder);
        }
    }

    #[test]
    fn a_message_that_stays_ends_a_wrong_belief() {
        let mut rig = Rig::new();
        rig.call(new(1));
        assert_eq!(rig.settles(0), Belief::Call(new(1)));
        rig.now += Duration::from_secs(60);
        assert_eq!(rig.settles(2), Belief::Folder);
        assert_eq!(rig.counted(0), Belief::Folder);
    }

    #[test]
    fn a_call_without_counts_means_count_it_yourself() {
        let mut rig = Rig::new();
        rig.call(new(1));
        assert_eq!(rig.settles(0), Belief::Call(new(1)));
        rig.beliefs.hear(&Rig::mailbox(), None);
        assert_eq!(rig.counted(0), Belief::Folder);
    }

    #[test]
    fn that_messages_are_elsewhere_is_said_once_a_mailbox_and_for_some_mailboxes() {
        let mut rig = Rig::new();
        rig.call(new(1));
        assert!(!rig.judge(new(0)).say, "perhaps it was only deleted quickly");
        rig.now += SETTLED;
        assert!(rig.judge(new(0)).say);
        assert!(!rig.judge(new(0)).say);
        rig.call(new(2));
        rig.judge(new(0));
        rig.now += SETTLED;
        assert!(!rig.judge(new(0)).say);
        let mut said = 1;
        for number in 1000..1100 {
            let mailbox = Mailbox::parse(&number.to_string()).unwrap();
            rig.beliefs.hear(&mailbox, Some(new(1)));
            rig.beliefs.judge(&mailbox, new(0), rig.now);
            said += u32::from(rig.beliefs.judge(&mailbox, new(0), rig.now + SETTLED).say);
        }
        assert_eq!(said, NAMED);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut beliefs = Beliefs::default();
        for number in 0..ROOM + 5 {
            beliefs.hear(&Mailbox::parse(&number.to_string()).unwrap(), Some(new(1)));
        }
        assert_eq!(beliefs.calls.len(), ROOM);
        let beyond = Mailbox::parse(&(ROOM + 1).to_string()).unwrap();
        assert_eq!(beliefs.judge(&beyond, new(0), Instant::now()).belief, Belief::Folder);
    }
}
