//! Publications, one behaviour each, in virtual time. The model in `tests/` has them all at once.

use super::answers::AGAIN;
use super::publications::HANDOVER;
use super::tests::{SECOND, UNIX, new, settings};
use super::*;
use crate::publication::{ETag, Order, Outcome, TRIAL, Ways, Wish};

const HOUR: Duration = Duration::from_secs(3600);

fn account() -> Account {
    "sip:202@example.com".parse().unwrap()
}

fn tag(text: &str) -> Option<ETag> {
    Some(ETag::new(text).unwrap())
}

fn accepted(text: &str) -> Outcome {
    Outcome::Accepted { etag: tag(text), expires: Some(HOUR) }
}

/// One account that is published by one way; the test plays the server.
struct Rig {
    reconciler: Reconciler,
    start: Instant,
    now: Instant,
    way: Way,
}

impl Rig {
    fn new(way: Way) -> Self {
        let start = Instant::now();
        Self { reconciler: Reconciler::new(settings(), 1), start, now: start, way }
    }

    fn set(&mut self, count: u32) {
        self.set_ways(count, Ways::NONE.with(self.way));
    }

    fn set_ways(&mut self, count: u32, ways: Ways) {
        let desired = Desired { summary: new(count), ways };
        self.reconciler.set(&account(), desired, Urgency::Fresh, false);
    }

    fn remember(&mut self, etag: Option<ETag>, accepted: Option<Summary>) {
        let past = Published { etag, accepted, expires: Some(UNIX + 3600) };
        self.reconciler.remember_publications([((account(), self.way), past)], self.now, UNIX);
    }

    /// The step that is to be taken now, if there is one; never more than one.
    fn step(&mut self) -> Option<(Wish, Option<ETag>)> {
        let action = self.reconciler.poll_action(self.now)?;
        assert_eq!(self.reconciler.poll_action(self.now), None);
        let Action::Publish(Order { way, account: whose, wish, etag }) = action else {
            panic!("{action:?} of an account without dialogs")
        };
        assert_eq!((way, whose), (self.way, account()));
        Some((wish, etag))
    }

    fn answer(&mut self, outcome: Outcome) {
        self.reconciler.handle_published(self.way, &account(), outcome, self.now);
    }

    /// Lets time pass, timer by timer, until there is a step; when, after the start.
    fn next(&mut self) -> Option<(Duration, Wish, Option<ETag>)> {
        loop {
            if let Some((wish, etag)) = self.step() {
                return Some((self.now - self.start, wish, etag));
            }
            self.now = self.now.max(self.reconciler.poll_timeout(self.now)?);
        }
    }
}

#[test]
fn the_entity_tag_of_each_answer_goes_into_the_next_step() {
    let mut rig = Rig::new(Way::Publish);
    rig.set(1);
    assert_eq!(rig.step(), Some((Wish::State(new(1)), None)));
    rig.answer(accepted("one"));
    rig.now += 2 * SECOND;
    rig.set(2);
    assert_eq!(rig.step(), Some((Wish::State(new(2)), tag("one"))));
    rig.answer(accepted("two"));
    rig.set(2);
    assert_eq!(rig.step(), None, "an unchanged summary is not stated again");
    let tally = |rig: &Rig| rig.reconciler.tallies()[Way::Publish as usize];
    assert_eq!(tally(&rig), (Way::Publish, 1, 1));
    assert_eq!((rig.reconciler.census().publications, rig.reconciler.census().published), (1, 1));
    rig.set(3);
    assert_eq!(tally(&rig), (Way::Publish, 1, 0));
}

#[test]
fn one_step_at_a_time_and_the_newest_counts_next() {
    let mut rig = Rig::new(Way::Publish);
    rig.set(1);
    assert_eq!(rig.step(), Some((Wish::State(new(1)), None)));
    for count in 2..20 {
        rig.set(count);
        assert_eq!(rig.step(), None);
    }
    rig.answer(accepted("one"));
    assert_eq!(rig.next(), Some((SECOND, Wish::State(new(19)), tag("one"))));
}

#[test]
fn rfc3903_4_1_a_publication_is_refreshed_before_it_ends() {
    let mut rig = Rig::new(Way::Publish);
    rig.set(1);
    rig.step();
    rig.answer(Outcome::Accepted { etag: tag("one"), expires: Some(TRIAL) });
    let (at, wish, etag) = rig.next().unwrap();
    assert_eq!((wish, etag), (Wish::Refresh(new(1)), tag("one")));
    assert!(at > TRIAL * 2 / 5 && at <= TRIAL * 4 / 5, "{at:?}");
    rig.answer(accepted("two"));
    let (at, wish, etag) = rig.next().unwrap();
    assert_eq!((wish, etag), (Wish::Refresh(new(1)), tag("two")));
    assert!(at > HOUR * 2 / 5 && at <= TRIAL + HOUR * 4 / 5, "{at:?}");
}

#[test]
fn what_is_kept_for_ever_is_not_refreshed() {
    let mut rig = Rig::new(Way::Sipx);
    rig.set(1);
    rig.step();
    rig.answer(Outcome::Accepted { etag: None, expires: None });
    assert_eq!(rig.next(), None);
}

#[test]
fn rfc3903_4_1_a_412_begins_afresh_at_once_but_not_for_ever() {
    let mut rig = Rig::new(Way::Publish);
    rig.remember(tag("old"), None);
    rig.set(1);
    assert_eq!(rig.step(), Some((Wish::State(new(1)), tag("old"))));
    for _ in 0..3 {
        rig.answer(Outcome::Stale);
        assert_eq!(rig.next(), Some((Duration::ZERO, Wish::State(new(1)), None)));
    }
    rig.answer(Outcome::Stale);
    let (at, ..) = rig.next().unwrap();
    assert!(at >= 3 * SECOND, "{at:?}");
}

#[test]
fn a_refresh_whose_answer_was_lost_states_everything() {
    let mut rig = Rig::new(Way::Publish);
    rig.set(1);
    rig.step();
    rig.answer(accepted("one"));
    rig.next().unwrap();
    rig.answer(Outcome::Later(None));
    let (_, wish, etag) = rig.next().unwrap();
    assert_eq!((wish, etag), (Wish::State(new(1)), tag("one")));
}

#[test]
fn a_publication_is_not_tried_again_at_once_for_ever() {
    let mut rig = Rig::new(Way::Publish);
    rig.set(1);
    let mut at_once = 0;
    while rig.step().is_some() {
        at_once += 1;
        assert!(at_once < 100, "a loop");
        rig.answer(Outcome::Again);
    }
    assert_eq!(at_once, 1 + AGAIN);
    assert!(rig.next().unwrap().0 >= 3 * SECOND, "then after a back-off");
}

#[test]
fn a_refresh_that_is_to_be_tried_again_stays_one() {
    let mut rig = Rig::new(Way::Publish);
    rig.set(1);
    rig.step();
    rig.answer(accepted("one"));
    let refresh = (Wish::Refresh(new(1)), tag("one"));
    assert_eq!(rig.next().map(|(_, wish, etag)| (wish, etag)), Some(refresh.clone()));
    rig.answer(Outcome::Again);
    assert_eq!(rig.step(), Some(refresh));
}

#[test]
fn a_way_that_answers_again_is_not_waited_for() {
    let mut rig = Rig::new(Way::OpensipsMi);
    rig.set(1);
    rig.step();
    rig.answer(Outcome::Later(None));
    assert_eq!(rig.step(), None);
    rig.reconciler.hurry_way(Way::Publish);
    assert_eq!(rig.step(), None, "another way");
    rig.reconciler.hurry_way(Way::OpensipsMi);
    rig.now += SECOND;
    assert_eq!(rig.step(), Some((Wish::State(new(1)), None)));
}

#[test]
fn failures_wait_longer_and_longer_and_a_voicemail_does_not_wait() {
    let mut rig = Rig::new(Way::Publish);
    rig.set(1);
    let mut last = Duration::ZERO;
    for base in [4, 8, 16, 32, 60, 60] {
        let (at, ..) = rig.next().unwrap();
        let pause = (at - last).as_secs_f64();
        last = at;
        let expected = f64::from(base) / 2.0;
        assert!(at.is_zero() || (0.75 * expected..=1.25 * 60.0).contains(&pause), "{pause}");
        rig.answer(Outcome::Later(None));
    }
    rig.now += SECOND;
    rig.set(2);
    assert_eq!(rig.step(), Some((Wish::State(new(2)), None)));
    rig.answer(Outcome::Later(Some(100 * SECOND)));
    rig.now += 2 * SECOND;
    rig.set(3);
    assert_eq!(rig.step(), None, "but what the server asked for holds");
}

#[test]
fn a_way_that_is_no_longer_wanted_is_removed() {
    let mut rig = Rig::new(Way::Publish);
    rig.set(1);
    rig.step();
    rig.answer(accepted("one"));
    rig.set_ways(1, Ways::NONE);
    assert_eq!(rig.next(), Some((SECOND, Wish::Remove, tag("one"))));
    rig.answer(Outcome::Later(None));
    let (_, wish, etag) = rig.next().unwrap();
    assert_eq!((wish, etag), (Wish::Remove, tag("one")));
    rig.answer(Outcome::Stale);
    assert_eq!(rig.next(), None, "the server does not have it: removed");
    assert_eq!(rig.reconciler.census().publications, 0);
}

#[test]
fn a_publication_of_nobody_is_removed_when_all_accounts_are_known() {
    let mut rig = Rig::new(Way::KamailioRpc);
    rig.remember(None, Some(new(1)));
    assert_eq!(rig.next(), None);
    rig.reconciler.withdraw(|_| true, |_| false);
    assert_eq!(rig.next(), None, "its mailbox could not be counted, that is no zero");
    rig.reconciler.withdraw(|_| false, |_| false);
    assert_eq!(rig.next(), Some((HANDOVER, Wish::Remove, None)));
}

#[test]
fn an_account_that_is_known_a_little_later_keeps_its_publication() {
    let mut rig = Rig::new(Way::Publish);
    rig.remember(tag("old"), Some(new(1)));
    rig.reconciler.withdraw(|_| false, |_| false);
    rig.step();
    rig.now += SECOND;
    rig.set(1);
    let (_, wish, _) = rig.next().unwrap();
    assert_eq!(wish, Wish::Refresh(new(1)));
}

#[test]
fn what_the_server_took_before_the_restart_is_not_stated_again_but_refreshed() {
    let mut rig = Rig::new(Way::Publish);
    rig.remember(tag("old"), Some(new(1)));
    rig.set(1);
    let (at, wish, etag) = rig.next().unwrap();
    assert_eq!((wish, etag), (Wish::Refresh(new(1)), tag("old")));
    assert!(at <= HOUR * 4 / 5, "{at:?}");
}

#[test]
fn what_another_mwid_publishes_from_here_on_is_removed_after_it() {
    let mut rig = Rig::new(Way::Publish);
    rig.set(1);
    rig.step();
    rig.answer(accepted("one"));
    rig.reconciler.release(&account());
    let (at, wish, etag) = rig.next().unwrap();
    assert_eq!((at, wish, etag), (HANDOVER, Wish::Remove, tag("one")));
}

#[test]
fn what_the_account_alone_names_is_left_to_the_other_mwid() {
    let mut rig = Rig::new(Way::KamailioRpc);
    rig.set(1);
    rig.step();
    rig.reconciler.release(&account());
    rig.answer(Outcome::Accepted { etag: None, expires: Some(HOUR) });
    assert_eq!(rig.next(), None);
    assert_eq!(rig.reconciler.census().publications, 0);
    rig.remember(None, Some(new(1)));
    rig.reconciler.withdraw(|_| false, |_| true);
    assert_eq!(rig.next(), None);
}

#[test]
fn an_account_that_comes_back_is_stated_anew() {
    let mut rig = Rig::new(Way::Publish);
    rig.set(1);
    rig.step();
    rig.answer(accepted("one"));
    rig.reconciler.release(&account());
    rig.step();
    rig.now += 5 * SECOND;
    let desired = Desired { summary: new(1), ways: Ways::NONE.with(Way::Publish) };
    rig.reconciler.acquire(&account(), desired, Urgency::CatchUp, 0);
    assert_eq!(rig.step(), Some((Wish::State(new(1)), tag("one"))));
    rig.answer(accepted("two"));
    let (_, wish, _) = rig.next().unwrap();
    assert_eq!(wish, Wish::Refresh(new(1)), "and not removed");
}

#[test]
fn another_server_is_told_everything() {
    let mut rig = Rig::new(Way::Publish);
    rig.set(1);
    rig.step();
    rig.answer(accepted("one"));
    rig.reconciler.doubt(Way::Publish);
    let (_, wish, etag) = rig.next().unwrap();
    assert_eq!((wish, etag), (Wish::State(new(1)), tag("one")));
    rig.answer(Outcome::Stale);
    assert_eq!(rig.step(), Some((Wish::State(new(1)), None)));
}

#[test]
fn a_command_is_settled_when_the_server_has_it() {
    let mut rig = Rig::new(Way::Publish);
    rig.set(1);
    assert!(!rig.reconciler.is_settled(&account(), rig.now));
    rig.step();
    assert!(!rig.reconciler.is_settled(&account(), rig.now));
    rig.answer(accepted("one"));
    assert!(rig.reconciler.is_settled(&account(), rig.now));
    let census = rig.reconciler.census();
    assert_eq!((census.publications, census.published), (1, 1));
}

#[test]
fn publications_and_notifies_have_one_rate() {
    let pace = Settings { rate: 10, ..settings() };
    let mut reconciler = Reconciler::new(pace, 1);
    let start = Instant::now();
    for number in 0..50 {
        let account = Account::new(&number.to_string(), "example.com").unwrap();
        let desired = Desired { summary: new(1), ways: Ways::NONE.with(Way::Publish) };
        reconciler.set(&account, desired, Urgency::CatchUp, false);
    }
    let (mut now, mut sent) = (start, 0);
    while sent < 50 {
        while reconciler.poll_action(now).is_some() {
            sent += 1;
        }
        now = reconciler.poll_timeout(now).unwrap_or(now);
    }
    assert!(now - start >= Duration::from_millis(4800), "{:?}", now - start);
}

#[test]
fn an_account_whose_phones_are_no_longer_notified_is_not_looked_up() {
    let mut rig = Rig::new(Way::Publish);
    rig.set_ways(1, Ways::default());
    assert_eq!(rig.reconciler.poll_action(rig.now), Some(Action::Find(account())));
    rig.set(1);
    rig.reconciler.handle_dialogs(&account(), Vec::new(), rig.now, UNIX);
    rig.reconciler.look_up(&account(), Urgency::Fresh);
    assert_eq!(rig.step(), Some((Wish::State(new(1)), None)));
    rig.set_ways(1, Ways::default());
    assert_eq!(rig.reconciler.poll_action(rig.now), Some(Action::Find(account())));
}

#[test]
fn what_can_be_seen_of_a_publication_is_what_its_server_last_said() {
    let mut rig = Rig::new(Way::Publish);
    let see = |rig: &Rig| {
        let views: Vec<_> = rig.reconciler.publications(&account(), rig.now).collect();
        let [view] = &views[..] else { panic!("one publication: {views:?}") };
        view.clone()
    };
    rig.set(1);
    let view = see(&rig);
    assert_eq!((view.way, view.accepted, view.has_etag), (Way::Publish, None, false));
    assert_eq!((view.progress, view.expires, view.why), (Progress::Waiting, None, None));
    assert!(rig.step().is_some());
    assert_eq!(see(&rig).progress, Progress::UnderWay);
    rig.answer(Outcome::Later(Some(5 * SECOND)));
    rig.reconciler.explain(Way::Publish, &account(), "503 Busy");
    let view = see(&rig);
    assert!(matches!(view.progress, Progress::Paused(until) if until >= rig.now + 5 * SECOND));
    assert_eq!(view.why.as_deref(), Some("503 Busy"));
    assert!(rig.next().is_some());
    rig.answer(accepted("one"));
    let view = see(&rig);
    assert_eq!(
        (view.progress, view.accepted, view.has_etag),
        (Progress::Current, Some(new(1)), true)
    );
    assert_eq!((view.expires, view.why), (Some(rig.now + HOUR), None));
    rig.set_ways(1, Ways::default());
    assert_eq!(see(&rig).progress, Progress::Leaving);
}

#[test]
fn a_removal_that_cannot_be_had_is_given_up_when_the_publication_has_ended() {
    let mut rig = Rig::new(Way::OpensipsMi);
    rig.set(1);
    assert!(rig.step().is_some());
    rig.answer(accepted("one"));
    rig.set_ways(1, Ways::NONE);
    let mut tries = 0;
    while let Some((at, wish, _)) = rig.next() {
        assert_eq!(wish, Wish::Remove);
        assert!(at < HOUR, "{at:?}");
        rig.answer(Outcome::Later(Some(600 * SECOND)));
        tries += 1;
    }
    assert!(tries > 1);
    assert_eq!((rig.now - rig.start, rig.reconciler.census().publications), (HOUR, 0));
}

#[test]
fn what_another_server_takes_during_a_reload_is_stated_to_the_new_one() {
    let mut rig = Rig::new(Way::Sipx);
    rig.set(1);
    assert!(rig.step().is_some());
    rig.reconciler.doubt(Way::Sipx);
    rig.answer(Outcome::Accepted { etag: None, expires: None });
    let (_, wish, _) = rig.next().expect("the new server is told");
    assert_eq!(wish, Wish::State(new(1)));
    rig.answer(Outcome::Accepted { etag: None, expires: None });
    assert_eq!(rig.next(), None);
}
