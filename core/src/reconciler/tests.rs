//! The reconciler's behaviours, one by one, in virtual time. The model in `tests/` has them all at
//! once.

use super::*;
use crate::dialog::Row;

pub(super) const UNIX: u64 = 1_795_000_000;
pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn settings() -> Settings {
    Settings {
        min_interval: SECOND,
        settle: Duration::ZERO,
        rate: 1000,
        backoff: Backoff { min: 4 * SECOND, max: 60 * SECOND },
        max_lookups: 4,
        max_in_flight: 100,
        shared: true,
    }
}

pub(super) fn account(user: &str) -> Account {
    Account::new(user, "example.com").unwrap()
}

pub(super) fn new(count: u32) -> Summary {
    Summary { new: count, ..Summary::default() }
}

/// Row `id` of a user, as it was when it had been refreshed `refreshes` times.
pub(super) fn dialog(id: i64, user: &str, refreshes: i64) -> Dialog {
    let text = |value: &str| Some(value.to_owned());
    Dialog::from_row(&Row {
        id,
        presentity_uri: Some(format!("sip:{user}@example.com")),
        from_user: text(user),
        from_domain: text("example.com"),
        to_user: text(user),
        to_domain: text("example.com"),
        to_tag: text("server"),
        from_tag: text("phone"),
        callid: Some(format!("call-{id}")),
        local_cseq: Some(1),
        remote_cseq: Some(1 + refreshes),
        contact: text("sip:202@192.0.2.7"),
        expires: Some(i64::try_from(UNIX).unwrap() + 3600 + refreshes),
        local_contact: text("sip:192.0.2.1"),
        ..Row::default()
    })
    .unwrap()
}

/// The reconciler, a clock, and a database that holds these dialogs.
pub(super) struct Rig {
    pub(super) reconciler: Reconciler,
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) rows: Vec<Dialog>,
}

/// The counts of a NOTIFY without any.
const NOTHING: u32 = u32::MAX;

/// What a NOTIFY was: row, counts, CSeq.
pub(super) type Sent = (i64, u32, u32);

impl Rig {
    pub(super) fn new(rows: Vec<Dialog>) -> Self {
        Self::with(settings(), rows)
    }

    pub(super) fn with(settings: Settings, rows: Vec<Dialog>) -> Self {
        let start = Instant::now();
        Self { reconciler: Reconciler::new(settings, 1), start, now: start, rows }
    }

    pub(super) fn set(&mut self, user: &str, count: u32) {
        self.reconciler.set(&account(user), new(count), Urgency::Fresh, false);
    }

    pub(super) fn find(&mut self, account: &Account) {
        let own = |dialog: &&Dialog| dialog.account == *account;
        let found = self.rows.iter().filter(own).cloned().collect();
        self.reconciler.handle_dialogs(account, found, self.now, UNIX);
    }

    /// Answers look-ups and claims; gives the NOTIFYs that are to be sent now.
    pub(super) fn sent(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        while let Some(action) = self.reconciler.poll_action(self.now) {
            match action {
                Action::Find(account) => self.find(&account),
                Action::Claim { dialog, above } => {
                    self.reconciler.handle_claim(dialog.row, Some(above.max(1) + 1), self.now);
                }
                Action::Notify { dialog, summary, cseq, .. } => {
                    sent.push((dialog.row.0, summary.map_or(NOTHING, |it| it.new), cseq));
                }
                Action::Publish(order) => panic!("{order:?} of an account that is told by NOTIFY"),
            }
        }
        sent
    }

    pub(super) fn verdict(&mut self, row: i64, verdict: Verdict) {
        self.reconciler.handle_verdict(RowId(row), verdict, self.now);
    }

    /// Lets time pass, timer by timer, until something is to be sent; when, after the start.
    pub(super) fn next(&mut self) -> Option<(Duration, Vec<Sent>)> {
        loop {
            let sent = self.sent();
            if !sent.is_empty() {
                return Some((self.now - self.start, sent));
            }
            self.now = self.now.max(self.reconciler.poll_timeout(self.now)?);
        }
    }

    pub(super) fn later(&mut self, pause: Duration) {
        self.now += pause;
    }
}

#[test]
fn rfc6665_4_2_1_2_where_nobody_knows_the_counts_a_phone_is_told_that_until_somebody_does() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.reconciler.introduce(&account("202"));
    rig.reconciler.look_up(&account("202"), Urgency::Fresh);
    assert_eq!(rig.sent(), [(1, NOTHING, 2)]);
    rig.verdict(1, Verdict::Delivered);
    rig.later(10 * SECOND);
    rig.reconciler.look_up(&account("202"), Urgency::Fresh);
    assert_eq!(rig.sent(), [], "once");
    rig.rows = vec![dialog(1, "202", 1)];
    rig.reconciler.look_up(&account("202"), Urgency::Fresh);
    assert_eq!(rig.sent(), [(1, NOTHING, 3)], "and once for each refresh");
    rig.verdict(1, Verdict::Delivered);
    rig.later(10 * SECOND);
    rig.set("202", 4);
    assert_eq!(rig.sent(), [(1, 4, 4)]);
}

#[test]
fn an_account_that_only_its_phones_know_is_forgotten_with_them() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.reconciler.introduce(&account("202"));
    rig.reconciler.look_up(&account("202"), Urgency::Fresh);
    assert_eq!(rig.sent().len(), 1);
    rig.verdict(1, Verdict::Delivered);
    assert_eq!(rig.reconciler.accounts().count(), 1);
    assert_eq!(rig.reconciler.census().accounts, 0, "its summary is not known");
    rig.rows.clear();
    rig.reconciler.look_up(&account("202"), Urgency::Fresh);
    assert_eq!(rig.sent(), []);
    assert_eq!(rig.reconciler.accounts().count(), 0);
}

#[test]
fn rfc6665_4_2_2_a_subscription_that_has_ended_gets_one_last_notify() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    assert_eq!(rig.sent(), [(1, 1, 2)]);
    rig.verdict(1, Verdict::Delivered);
    rig.later(10 * SECOND);
    rig.rows = vec![Dialog { ended: Some("timeout".into()), ..dialog(1, "202", 0) }];
    rig.reconciler.look_up(&account("202"), Urgency::Fresh);
    assert_eq!(rig.sent(), [(1, 1, 3)], "although the phone has these counts already");
    rig.verdict(1, Verdict::Delivered);
    rig.later(10 * SECOND);
    rig.set("202", 5);
    assert_eq!(rig.sent(), [], "and none after it");
}

#[test]
fn the_first_of_a_burst_goes_at_once_and_the_last_always() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    assert_eq!(rig.sent(), [(1, 1, 2)]);
    for count in 2..=20 {
        rig.set("202", count);
        assert_eq!(rig.sent(), []);
    }
    rig.verdict(1, Verdict::Delivered);
    assert_eq!(rig.next(), Some((SECOND, vec![(1, 20, 3)])));
    rig.verdict(1, Verdict::Delivered);
    assert_eq!(rig.next(), None);
}

#[test]
fn what_changed_back_before_it_was_told_is_not_told() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    rig.sent();
    rig.verdict(1, Verdict::Delivered);
    rig.set("202", 2);
    rig.set("202", 1);
    assert_eq!(rig.next(), None);
}

/// The ledger was not told of such a claim: after a restart the row seemed to be counted further by
/// the server, and the phone was told once more.
#[test]
fn a_claim_that_no_notify_carries_says_so() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    rig.sent();
    rig.verdict(1, Verdict::Delivered);
    rig.later(2 * SECOND);
    rig.set("202", 2);
    let Some(Action::Find(found)) = rig.reconciler.poll_action(rig.now) else { panic!("no look") };
    rig.find(&found);
    let Some(Action::Claim { .. }) = rig.reconciler.poll_action(rig.now) else {
        panic!("no claim")
    };
    rig.set("202", 1);
    assert!(!rig.reconciler.handle_claim(RowId(1), Some(3), rig.now));
    assert_eq!(rig.next(), None);
    rig.set("202", 3);
    assert_eq!(rig.sent(), [(1, 3, 4)]);
}

#[test]
fn an_unchanged_summary_is_not_told_again() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    rig.sent();
    rig.verdict(1, Verdict::Delivered);
    rig.later(300 * SECOND);
    rig.reconciler.set(&account("202"), new(1), Urgency::CatchUp, false);
    assert_eq!(rig.next(), None);
    rig.reconciler.set(&account("202"), new(1), Urgency::Fresh, true);
    assert_eq!(rig.sent(), [(1, 1, 3)], "a forced one is");
}

#[test]
fn rfc6665_4_2_2_one_in_flight_for_each_dialog() {
    let mut rig = Rig::new(vec![dialog(2, "202", 0), dialog(1, "202", 0)]);
    rig.set("202", 1);
    assert_eq!(rig.sent(), [(2, 1, 2), (1, 1, 2)]);
    rig.later(60 * SECOND);
    rig.set("202", 2);
    assert_eq!(rig.sent(), [], "both are still in flight");
    rig.verdict(1, Verdict::Delivered);
    rig.later(SECOND);
    assert_eq!(rig.sent(), [(1, 2, 3)], "the one that was answered is told the news");
}

#[test]
fn a_dead_row_is_left_alone_until_it_changes() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    rig.sent();
    rig.verdict(1, Verdict::Gone);
    assert_eq!(rig.next(), None);
    rig.set("202", 2);
    assert_eq!(rig.next(), None, "news do not bring it back");
    assert_eq!((rig.reconciler.census().dead, rig.reconciler.census().waiting), (1, 0));
    rig.rows = vec![dialog(1, "202", 1)];
    rig.reconciler.look_up(&account("202"), Urgency::CatchUp);
    rig.later(SECOND);
    assert_eq!(rig.sent(), [(1, 2, 3)], "a refresh does");
}

#[test]
fn a_refreshed_row_is_told_again_because_the_server_said_nothing_of_the_state() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    rig.sent();
    rig.verdict(1, Verdict::Delivered);
    rig.later(SECOND);
    rig.rows = vec![dialog(1, "202", 1)];
    rig.reconciler.look_up(&account("202"), Urgency::CatchUp);
    assert_eq!(rig.sent(), [(1, 1, 3)]);
}

#[test]
fn a_500_jumps_by_2_10_and_100_and_then_backs_off() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    assert_eq!(rig.sent(), [(1, 1, 2)]);
    for cseq in [4, 14, 114] {
        rig.verdict(1, Verdict::TooLow);
        assert_eq!(rig.sent(), [(1, 1, cseq)]);
    }
    rig.verdict(1, Verdict::TooLow);
    let (at, sent) = rig.next().unwrap();
    assert!((3 * SECOND..=5 * SECOND).contains(&at), "{at:?}");
    assert_eq!(sent, [(1, 1, 116)]);
}

#[test]
fn rfc3261_20_33_retry_after_is_obeyed_even_when_fresh_news_arrive() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    rig.sent();
    rig.verdict(1, Verdict::Later(Some(30 * SECOND)));
    rig.later(SECOND);
    rig.set("202", 2);
    let (at, sent) = rig.next().unwrap();
    assert!((30 * SECOND..=33 * SECOND).contains(&at), "{at:?}");
    assert_eq!(sent, [(1, 2, 3)]);
}

#[test]
fn a_back_off_of_our_own_is_ended_by_fresh_news_but_not_by_a_recount() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    rig.sent();
    rig.verdict(1, Verdict::Later(None));
    rig.later(SECOND);
    rig.reconciler.set(&account("202"), new(2), Urgency::CatchUp, false);
    assert_eq!(rig.sent(), []);
    rig.set("202", 3);
    assert_eq!(rig.sent(), [(1, 3, 3)]);
}

/// `mwid status` counted an account as waiting for up to ten minutes after its phone was told.
#[test]
fn an_account_whose_phones_are_all_told_waits_for_nothing() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    rig.sent();
    rig.verdict(1, Verdict::Later(None));
    assert_eq!(rig.reconciler.census().waiting, 1);
    rig.later(SECOND);
    rig.set("202", 2);
    rig.sent();
    rig.verdict(1, Verdict::Delivered);
    assert_eq!(rig.reconciler.census().waiting, 0);
}

#[test]
fn an_account_is_told_when_each_of_its_phones_has_the_truth_or_is_gone() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0), dialog(2, "202", 0)]);
    let (known, nobody) = (account("202"), account("203"));
    assert!(!rig.reconciler.is_told(&known), "not told here");
    rig.set("202", 3);
    rig.set("203", 1);
    assert!(!rig.reconciler.is_told(&nobody), "not looked up yet");
    assert_eq!(rig.sent().len(), 2);
    assert!(rig.reconciler.is_told(&nobody), "it has no phone");
    rig.verdict(1, Verdict::Delivered);
    assert!(!rig.reconciler.is_told(&known), "one is in flight");
    rig.verdict(2, Verdict::Later(None));
    assert!(!rig.reconciler.is_told(&known), "one has to be tried again");
    rig.later(10 * SECOND);
    assert_eq!(rig.sent().len(), 1);
    rig.verdict(2, Verdict::Gone);
    assert!(rig.reconciler.is_told(&known));
    rig.set("202", 0);
    assert!(!rig.reconciler.is_told(&known), "something else is true now");
}

#[test]
fn news_during_a_long_retry_after_do_not_pile_up() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    rig.sent();
    rig.verdict(1, Verdict::Later(Some(3600 * SECOND)));
    for count in 2..10_000 {
        rig.set("202", count);
        assert_eq!(rig.sent(), []);
    }
    assert_eq!(rig.reconciler.timers.len(), 1);
    assert_eq!(rig.next().map(|(_, sent)| sent), Some(vec![(1, 9999, 3)]));
}

#[test]
fn pauses_grow_while_nothing_helps_and_start_anew_after_a_delivery() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    let mut last = Duration::ZERO;
    rig.sent();
    for expected in [4, 8, 16, 32, 60, 60] {
        rig.verdict(1, Verdict::Later(None));
        let (at, _) = rig.next().unwrap();
        let (pause, expected) = (at - last, expected * SECOND);
        assert!((expected * 3 / 4..=expected * 5 / 4).contains(&pause), "{pause:?}");
        last = at;
    }
    rig.verdict(1, Verdict::Delivered);
    rig.later(SECOND);
    rig.set("202", 2);
    rig.sent();
    rig.verdict(1, Verdict::Later(None));
    let (at, _) = rig.next().unwrap();
    assert!(at - last <= 6 * SECOND, "{:?}", at - last);
}

/// A clock that is years ahead ends every subscription, and none has ended when it is set right.
#[test]
fn what_a_wrong_clock_ended_goes_on_when_it_is_right_again() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0), dialog(2, "203", 0)]);
    rig.set("202", 1);
    rig.set("203", 1);
    rig.sent();
    (1..=2).for_each(|row| rig.verdict(row, Verdict::Delivered));
    let rows = std::mem::take(&mut rig.rows);
    rig.reconciler.look_up_all();
    assert_eq!(rig.sent(), []);
    rig.set("203", 2);
    assert_eq!(rig.sent(), []);
    assert_eq!(rig.reconciler.census().dialogs, 0);

    rig.rows = rows;
    rig.reconciler.look_up_all();
    // The other one's phone shows what is true already; no CSeq is used twice.
    assert_eq!(rig.next().map(|(_, sent)| sent), Some(vec![(2, 2, 3)]));
}

#[test]
fn a_phone_that_asked_for_a_minute_keeps_the_other_from_nothing() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0), dialog(2, "202", 0)]);
    rig.set("202", 1);
    assert_eq!(rig.sent(), [(1, 1, 2), (2, 1, 2)]);
    rig.verdict(1, Verdict::Later(Some(60 * SECOND)));
    rig.verdict(2, Verdict::Delivered);
    rig.set("202", 2);
    assert_eq!(rig.next(), Some((SECOND, vec![(2, 2, 3)])));
    rig.verdict(2, Verdict::Delivered);
    // What it asked for, and a little more, so that not all come at once.
    let (at, sent) = rig.next().unwrap();
    assert_eq!(sent, [(1, 2, 3)]);
    assert!((60 * SECOND..=66 * SECOND).contains(&at), "{at:?}");
}

#[test]
fn in_another_database_a_dialog_is_known_by_itself_and_not_by_the_id_of_its_row() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0), dialog(2, "203", 0)]);
    rig.set("202", 1);
    rig.set("203", 1);
    assert_eq!(rig.sent(), [(1, 1, 2), (2, 1, 2)]);
    rig.verdict(1, Verdict::Delivered);
    // The other NOTIFY is still in flight when the database is exchanged.
    for row in &mut rig.rows {
        row.row = RowId(row.row.0 + 10);
    }
    rig.reconciler.restart();
    assert_eq!(rig.sent(), [], "one phone was told, the other is being told");
    rig.verdict(2, Verdict::Delivered);
    rig.later(2 * SECOND);
    rig.set("202", 2);
    assert_eq!(rig.sent(), [(11, 2, 3)], "its CSeq goes on");
}

#[test]
fn who_waits_while_the_database_is_exchanged_is_claimed_for_where_the_row_is_now() {
    let row = |id: i64| dialog(id, &id.to_string(), 0);
    let mut rig = Rig::with(Settings { max_in_flight: 1, ..settings() }, vec![row(1), row(2)]);
    rig.set("1", 1);
    rig.set("2", 1);
    for user in ["1", "2"] {
        assert_eq!(rig.reconciler.poll_action(rig.now), Some(Action::Find(account(user))));
    }
    rig.find(&account("1"));
    rig.find(&account("2"));
    let claim = rig.reconciler.poll_action(rig.now);
    assert!(matches!(claim, Some(Action::Claim { dialog, .. }) if dialog.row == RowId(1)));
    assert_eq!(rig.reconciler.poll_action(rig.now), None, "the other one waits for it");
    for row in &mut rig.rows {
        row.row = RowId(row.row.0 + 10);
    }
    rig.reconciler.handle_unclaimed(RowId(1));
    rig.reconciler.restart();
    assert_eq!(rig.sent(), [(11, 1, 2)], "at once, and of the former rows nobody is asked");
    rig.verdict(11, Verdict::Delivered);
    assert_eq!(rig.sent(), [(12, 1, 2)]);
    rig.verdict(12, Verdict::Delivered);
    assert_eq!(rig.reconciler.census().waiting, 0);
}

#[test]
fn an_answer_of_a_database_that_is_no_longer_read_is_none() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    let find = Some(Action::Find(account("202")));
    assert_eq!(rig.reconciler.poll_action(rig.now), find);
    rig.reconciler.restart();
    rig.reconciler.handle_outdated(&account("202"));
    assert_eq!(rig.reconciler.poll_action(rig.now), find);
    rig.reconciler.handle_outdated(&account("202"));
    assert_eq!(rig.sent(), [(1, 1, 2)], "nor where only the way to it is another");
}

#[test]
fn a_cseq_does_not_fall_where_the_id_of_a_row_is_anothers_now() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    assert_eq!(rig.sent(), [(1, 1, 2)]);
    // The id is that of a stranger's row in the other database, and the stranger is looked up first.
    rig.reconciler.restart();
    let (mut own, mut stranger) = (dialog(1, "202", 0), dialog(2, "203", 0));
    (own.row, stranger.row) = (RowId(11), RowId(1));
    rig.rows = vec![own, stranger];
    rig.verdict(1, Verdict::Delivered);
    rig.set("203", 1);
    rig.find(&account("203"));
    rig.later(2 * SECOND);
    rig.set("202", 2);
    let mut sent = rig.sent();
    sent.sort_unstable();
    assert_eq!(sent, [(1, 1, 2), (11, 2, 3)]);
}

#[test]
fn what_just_changed_stays_first_when_the_database_is_exchanged() {
    let rows = (1..=20).map(|id| dialog(id, &id.to_string(), 0)).collect();
    let mut rig = Rig::with(Settings { max_in_flight: 1, max_lookups: 3, ..settings() }, rows);
    for user in ["20", "19", "18"] {
        rig.set(user, 1);
        assert_eq!(rig.reconciler.poll_action(rig.now), Some(Action::Find(account(user))));
    }
    for user in 1..=17 {
        rig.reconciler.set(&account(&user.to_string()), new(1), Urgency::CatchUp, false);
    }
    // The first waits for its claim, the second for the rate limit, the third is being looked up.
    rig.find(&account("20"));
    rig.find(&account("19"));
    assert!(matches!(rig.reconciler.poll_action(rig.now), Some(Action::Claim { .. })));
    rig.reconciler.handle_unclaimed(RowId(20));
    rig.reconciler.restart();
    rig.reconciler.handle_outdated(&account("18"));
    let mut next = || {
        let Some(Action::Find(account)) = rig.reconciler.poll_action(rig.now) else {
            panic!("nothing is looked up")
        };
        rig.reconciler.handle_dialogs(&account, Vec::new(), rig.now, UNIX);
        account
    };
    let mut first = [next(), next(), next()];
    first.sort_unstable();
    assert_eq!(first, [account("18"), account("19"), account("20")]);
}

#[test]
fn another_pace_holds_from_the_next_notify_on() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    assert_eq!(rig.sent(), [(1, 1, 2)]);
    let slow = Settings { min_interval: 30 * SECOND, ..settings() };
    rig.reconciler.configure(slow);
    rig.verdict(1, Verdict::Delivered);
    rig.set("202", 2);
    assert_eq!(rig.next(), Some((30 * SECOND, vec![(1, 2, 3)])));
}

#[test]
fn everything_is_counted_as_what_it_is() {
    let rows = (1..=5).map(|id| dialog(id, "202", 0)).chain([dialog(6, "203", 0)]).collect();
    let mut rig = Rig::new(rows);
    rig.set("202", 1);
    rig.set("203", 1);
    assert_eq!(rig.sent().len(), 6);
    for (row, verdict) in [
        (1, Verdict::Delivered),
        (2, Verdict::Gone),
        (3, Verdict::Gone),
        (4, Verdict::Later(None)),
        (6, Verdict::Delivered),
    ] {
        rig.verdict(row, verdict);
    }
    let standing = rig.reconciler.standing(&account("202"), rig.now);
    assert_eq!(standing, Standing { dialogs: 5, dead: 2, paused: 1, working: 1, publications: 0 });
    assert_eq!(rig.reconciler.standing(&account("204"), rig.now), Standing::default());
    let census = rig.reconciler.census();
    assert_eq!((census.accounts, census.dialogs, census.in_flight), (2, 6, 1));
    assert_eq!((census.delivered, census.dead, census.waiting), (2, 2, 1));
    let backlog = rig.reconciler.backlog();
    assert_eq!((backlog.accounts, backlog.dialogs), (2, 6));
    rig.later(120 * SECOND);
    let standing = rig.reconciler.standing(&account("202"), rig.now);
    assert_eq!(standing.paused, 0, "its time has come");
}

#[test]
fn rows_that_nobody_else_writes_are_not_looked_back_at() {
    let mut rig = Rig::with(Settings { shared: false, ..settings() }, vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    assert_eq!(rig.sent(), [(1, 1, 2)]);
    rig.verdict(1, Verdict::Delivered);
    assert_eq!(rig.reconciler.poll_timeout(rig.now), None);
}

#[test]
fn hurry_ends_every_pause() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0), dialog(2, "203", 0)]);
    rig.set("202", 1);
    rig.set("203", 1);
    rig.sent();
    rig.verdict(1, Verdict::Later(Some(3600 * SECOND)));
    rig.verdict(2, Verdict::Later(None));
    rig.later(SECOND);
    rig.reconciler.hurry();
    let mut sent = rig.sent();
    sent.sort_unstable();
    assert_eq!(sent, [(1, 1, 3), (2, 1, 3)]);
}

/// A proxy that answers every digest with `stale=true` was sent NOTIFYs as fast as the wire took
/// them.
#[test]
fn a_dialog_is_not_tried_again_at_once_for_ever() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    let mut tries = rig.sent().len();
    for _ in 0..50 {
        rig.verdict(1, Verdict::Again);
        tries += rig.sent().len();
    }
    assert_eq!(tries, 11);
    let (at, _) = rig.next().unwrap();
    assert!(at >= 3 * SECOND, "{at:?}");
}

#[test]
fn fresh_news_go_ahead_of_catching_up() {
    let users: Vec<String> = (0..50).map(|user| user.to_string()).collect();
    let rows = (0..).zip(&users).map(|(row, user)| dialog(row, user, 0)).collect();
    let mut rig = Rig::with(Settings { rate: 10, ..settings() }, rows);
    for user in &users {
        rig.reconciler.set(&account(user), new(1), Urgency::CatchUp, false);
    }
    assert_eq!(rig.next().unwrap().1.len(), 1, "a tenth of the rate at once");
    rig.reconciler.set(&account("49"), new(2), Urgency::Fresh, false);
    let (_, sent) = rig.next().unwrap();
    assert_eq!(sent, [(49, 2, 2)]);
}

#[test]
fn the_rate_holds_over_all_dialogs() {
    let rows: Vec<Dialog> = (0..300).map(|row| dialog(row, &row.to_string(), 0)).collect();
    let mut rig = Rig::with(Settings { rate: 100, ..settings() }, rows);
    for user in 0..300 {
        rig.reconciler.set(&account(&user.to_string()), new(1), Urgency::CatchUp, false);
    }
    let (mut times, mut begun) = (Vec::new(), None);
    while let Some((at, sent)) = rig.next() {
        // Counted from the first: a crowd is begun with at a random moment.
        let first = *begun.get_or_insert(at);
        times.extend(sent.iter().map(|_| at - first));
        sent.iter().for_each(|(row, ..)| rig.verdict(*row, Verdict::Delivered));
    }
    assert_eq!(times.len(), 300);
    assert!(times[299] >= Duration::from_millis(2890), "the last one at {:?}", times[299]);
    assert!(times[299] <= Duration::from_millis(3010), "the last one at {:?}", times[299]);
    for (first, later) in times.iter().zip(&times[110..]) {
        assert!(*later - *first >= Duration::from_millis(990), "110 within {:?}", *later - *first);
    }
}

#[test]
fn no_more_look_ups_and_notifies_are_under_way_than_allowed() {
    let rows: Vec<Dialog> = (0..20).map(|row| dialog(row, &row.to_string(), 0)).collect();
    let settings = Settings { max_in_flight: 3, max_lookups: 2, ..settings() };
    let mut rig = Rig::with(settings, rows);
    for user in 0..20 {
        rig.set(&user.to_string(), 1);
    }
    let mut finds = Vec::new();
    while let Some(action) = rig.reconciler.poll_action(rig.now) {
        let Action::Find(account) = action else { panic!("{action:?} before anything was found") };
        finds.push(account);
    }
    assert_eq!(finds.len(), 2);
    for account in finds {
        rig.find(&account);
    }
    assert_eq!(rig.sent().len(), 3);
    assert_eq!(rig.reconciler.census().in_flight, 3);
    rig.verdict(0, Verdict::Delivered);
    assert_eq!(rig.sent().len(), 1);
}

#[test]
fn who_is_not_looked_up_yet_waits_where_what_is_fresh_goes_ahead() {
    let mut rig = Rig::new(Vec::new());
    for user in ["1", "2", "3"] {
        rig.reconciler.set(&account(user), new(1), Urgency::CatchUp, false);
    }
    let mut asked = |room: usize, fresh: Option<&str>| {
        rig.reconciler.allow_look_ups(room);
        fresh.into_iter().for_each(|user| rig.set(user, 1));
        let actions = std::iter::from_fn(|| rig.reconciler.poll_action(rig.now));
        let of = |action| match action {
            Action::Find(account) => account.user().to_owned(),
            other => panic!("{other:?}"),
        };
        actions.map(of).collect::<Vec<_>>()
    };
    assert_eq!(asked(1, None), ["1"]);
    assert_eq!(asked(0, Some("202")), [""; 0]);
    assert_eq!(asked(2, None), ["202", "2"]);
    assert_eq!(asked(2, None), ["3"]);
}

/// The answer of a look-up may be older than the row of a phone that subscribed meanwhile.
#[test]
fn a_look_up_that_is_asked_for_during_another_finds_the_row_that_appeared_meanwhile() {
    let mut rig = Rig::new(Vec::new());
    rig.set("202", 1);
    let action = rig.reconciler.poll_action(rig.now);
    assert_eq!(action, Some(Action::Find(account("202"))));
    rig.reconciler.look_up(&account("202"), Urgency::CatchUp);
    assert_eq!(rig.reconciler.poll_action(rig.now), None, "one look-up at a time");
    // What the database had read before the phone subscribed.
    rig.find(&account("202"));
    rig.rows.push(dialog(1, "202", 0));
    assert_eq!(rig.sent(), [(1, 1, 2)]);
}

#[test]
fn a_look_up_that_failed_is_tried_again() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    assert!(matches!(rig.reconciler.poll_action(rig.now), Some(Action::Find(_))));
    rig.reconciler.handle_lookup_failure(&account("202"), rig.now);
    assert_eq!(rig.reconciler.census().waiting, 1);
    let (at, sent) = rig.next().unwrap();
    assert!((3 * SECOND..=5 * SECOND).contains(&at), "{at:?}");
    assert_eq!(sent, [(1, 1, 2)]);
}

#[test]
fn a_claim_that_failed_is_tried_again_and_one_whose_row_is_gone_is_not() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    let mut claims = 0;
    while claims < 2 {
        match rig.reconciler.poll_action(rig.now) {
            Some(Action::Find(account)) => rig.find(&account),
            Some(Action::Claim { dialog, .. }) if claims == 0 => {
                claims += 1;
                rig.reconciler.handle_claim_failure(dialog.row, rig.now);
            }
            Some(Action::Claim { dialog, .. }) => {
                claims += 1;
                rig.reconciler.handle_claim(dialog.row, None, rig.now);
            }
            Some(action) => panic!("{action:?}"),
            None => rig.now = rig.reconciler.poll_timeout(rig.now).unwrap(),
        }
    }
    assert_eq!(rig.next(), None);
    assert_eq!(rig.reconciler.census().in_flight, 0);
}

/// With `find_by = either` a watcher's account may be counted before the presentity's: it took the
/// row, and the boss's phone showed the secretary's messages for ever.
#[test]
fn a_row_goes_over_to_the_account_that_it_belongs_to() {
    let mut rig = Rig::new(Vec::new());
    let row = dialog(1, "boss", 0);
    rig.set("secretary", 7);
    assert_eq!(rig.sent(), []);
    rig.reconciler.look_up(&account("secretary"), Urgency::CatchUp);
    rig.reconciler.poll_action(rig.now);
    rig.reconciler.handle_dialogs(&account("secretary"), vec![row.clone()], rig.now, UNIX);
    assert_eq!(rig.sent(), [(1, 7, 2)]);
    // Now the boss's mailbox has been counted: the row is his.
    rig.rows.push(row);
    rig.set("boss", 2);
    assert_eq!(rig.sent(), []);
    rig.verdict(1, Verdict::Delivered);
    assert_eq!(rig.next(), Some((SECOND, vec![(1, 2, 3)])));
    rig.verdict(1, Verdict::Delivered);
    // The secretary's own look-up no longer has the row, and forgets nothing of the boss's.
    rig.set("secretary", 8);
    assert_eq!(rig.next(), None);
    let shown: Vec<_> = rig.reconciler.delivered_to(&account("boss")).collect();
    assert_eq!(shown, [(RowId(1), new(2))]);
}

#[test]
fn a_row_that_vanished_while_its_notify_was_in_flight_is_forgotten_afterwards() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    rig.sent();
    rig.rows.clear();
    rig.set("202", 2);
    rig.sent();
    rig.verdict(1, Verdict::Gone);
    rig.set("202", 3);
    rig.sent();
    assert_eq!(rig.reconciler.census().dialogs, 0);
}

#[test]
fn a_row_id_that_another_dialog_took_over_starts_anew() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    rig.sent();
    rig.verdict(1, Verdict::Gone);
    let mut other = dialog(1, "202", 0);
    other.call_id = "another".into();
    rig.rows = vec![other];
    rig.reconciler.look_up(&account("202"), Urgency::CatchUp);
    assert_eq!(rig.sent(), [(1, 1, 2)]);
}

#[test]
fn a_released_account_is_told_nothing_more_and_an_acquired_one_is_told_again() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    rig.sent();
    rig.verdict(1, Verdict::Delivered);
    rig.reconciler.release(&account("202"));
    assert_eq!(rig.reconciler.desired(&account("202")), None);
    assert_eq!(rig.reconciler.census(), Census::default());
    rig.reconciler.look_up(&account("202"), Urgency::Fresh);
    assert_eq!(rig.next(), None);

    rig.later(300 * SECOND);
    rig.reconciler.acquire(&account("202"), new(1), Urgency::CatchUp, 500);
    let next = rig.sent();
    assert_eq!(next, [(1, 1, 501)], "another mwid may have said something else");
    rig.verdict(1, Verdict::Delivered);
    rig.later(SECOND);
    rig.reconciler.acquire(&account("202"), new(2), Urgency::Fresh, 900);
    assert_eq!(rig.sent(), [(1, 2, 502)], "it is not acquired twice");
}

#[test]
fn what_is_under_way_when_an_account_is_released_ends_and_leaves_nothing_behind() {
    // During the look-up.
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    let Some(Action::Find(found)) = rig.reconciler.poll_action(rig.now) else { panic!() };
    rig.reconciler.release(&found);
    rig.find(&found);
    assert_eq!(rig.sent(), []);
    // During the claim.
    rig.set("202", 1);
    let Some(Action::Find(found)) = rig.reconciler.poll_action(rig.now) else { panic!() };
    rig.find(&found);
    let Some(Action::Claim { .. }) = rig.reconciler.poll_action(rig.now) else { panic!() };
    rig.reconciler.release(&found);
    rig.reconciler.handle_claim(RowId(1), Some(2), rig.now);
    assert_eq!(rig.sent(), []);
    // During the NOTIFY.
    rig.set("202", 1);
    assert_eq!(rig.sent().len(), 1);
    rig.reconciler.release(&found);
    rig.verdict(1, Verdict::TooLow);
    assert_eq!(rig.next(), None);
    assert_eq!(rig.reconciler.census(), Census::default());
}

#[test]
fn an_account_that_comes_back_while_its_notify_is_in_flight_is_told_after_it() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    assert_eq!(rig.sent().len(), 1);
    rig.reconciler.release(&account("202"));
    rig.reconciler.acquire(&account("202"), new(1), Urgency::CatchUp, 500);
    assert_eq!(rig.sent(), [], "one in flight");
    rig.verdict(1, Verdict::Delivered);
    let (_, sent) = rig.next().expect("another mwid may have told it meanwhile");
    assert_eq!((sent[0].0, sent[0].1), (1, 1));
    rig.verdict(1, Verdict::Delivered);
    assert_eq!(rig.next(), None);
}

#[test]
fn a_refresh_while_a_notify_is_in_flight_is_told_after_it() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    assert_eq!(rig.sent(), [(1, 1, 2)]);
    // The phone takes it, and then the server's empty answer to the refresh.
    rig.rows = vec![dialog(1, "202", 1)];
    rig.reconciler.look_up(&account("202"), Urgency::Fresh);
    assert_eq!(rig.sent(), [], "one at a time");
    rig.verdict(1, Verdict::Delivered);
    rig.later(SECOND);
    assert_eq!(rig.sent(), [(1, 1, 3)], "at the next chance, not at the later check");
}

#[test]
fn a_row_that_counts_further_than_mwid_is_not_known() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 1);
    assert_eq!(rig.sent(), [(1, 1, 2)]);
    rig.verdict(1, Verdict::Delivered);
    let at = |cseq| Dialog { sent_cseq: Some(cseq), ..dialog(1, "202", 0) };
    assert!(rig.reconciler.knows(&at(2)), "what mwid sent itself");
    assert!(!rig.reconciler.knows(&at(3)), "the server sent one after it");
}

#[test]
fn a_crowd_is_begun_with_at_a_random_moment_and_fresh_news_go_ahead_of_it() {
    let begins = |seed| {
        let start = Instant::now();
        let mut reconciler = Reconciler::new(settings(), seed);
        for user in 1000..1500 {
            reconciler.set(&account(&user.to_string()), new(1), Urgency::CatchUp, false);
        }
        reconciler.set(&account("202"), new(1), Urgency::Fresh, false);
        assert_eq!(reconciler.poll_action(start), Some(Action::Find(account("202"))));
        let first = reconciler.poll_action(start);
        let begin = reconciler.poll_timeout(start).filter(|_| first.is_none()).unwrap_or(start);
        assert!(reconciler.poll_action(begin).or(first).is_some(), "seed {seed}");
        begin - start
    };
    let moments: std::collections::BTreeSet<Duration> = (0..20).map(begins).collect();
    assert!(moments.len() > 10, "{moments:?}");
    assert!(moments.iter().all(|moment| *moment < SPREAD), "{moments:?}");
}

#[test]
fn what_the_rate_gives_at_once_is_no_crowd() {
    let mut reconciler = Reconciler::new(settings(), 1);
    for user in 1000..1100 {
        reconciler.set(&account(&user.to_string()), new(1), Urgency::CatchUp, false);
    }
    assert!(reconciler.poll_action(Instant::now()).is_some());
}

#[test]
fn a_phone_waits_for_a_change_from_when_it_came_and_only_if_it_was_there_then() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    rig.set("202", 0);
    assert_eq!(rig.sent(), [(1, 0, 2)]);
    rig.verdict(1, Verdict::Delivered);
    assert_eq!(rig.reconciler.waited(RowId(1), rig.now), None, "it subscribed, nothing changed");
    rig.later(10 * SECOND);
    rig.set("202", 3);
    rig.reconciler.note_change(&account("202"), rig.now);
    assert_eq!(rig.sent(), [(1, 3, 3)]);
    rig.later(2 * SECOND);
    rig.verdict(1, Verdict::TooLow);
    assert_eq!(rig.reconciler.waited(RowId(1), rig.now), None, "it has not acknowledged it");
    assert_eq!(rig.sent().len(), 1);
    // A second phone that comes now is told because it subscribed.
    rig.rows.push(dialog(2, "202", 0));
    rig.reconciler.look_up(&account("202"), Urgency::Fresh);
    assert_eq!(rig.sent().len(), 1);
    rig.later(SECOND);
    rig.verdict(1, Verdict::Delivered);
    rig.verdict(2, Verdict::Delivered);
    assert_eq!(rig.reconciler.waited(RowId(1), rig.now), Some(3 * SECOND));
    assert_eq!(rig.reconciler.waited(RowId(1), rig.now), None, "said once");
    assert_eq!(rig.reconciler.waited(RowId(2), rig.now), None);
}
