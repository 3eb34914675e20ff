//! What can be seen of accounts that wait, and of their dialogs.

use super::tests::{Rig, SECOND, account, dialog, new};
use super::*;

/// What the account waits for, why the last attempt came to nothing, and how many are left.
fn waits(rig: &Rig, user: &str) -> Option<(Wait, Option<String>, usize)> {
    let account = account(user);
    let pending = rig.reconciler.pending_of(&account, rig.now)?;
    Some((pending.wait, pending.why.map(|why| why.to_string()), pending.left))
}

fn see(rig: &Rig) -> DialogView {
    let account = account("202");
    let views: Vec<_> = rig.reconciler.dialogs_of(&account, rig.now).collect();
    let [view] = &views[..] else { panic!("one dialog: {views:?}") };
    view.clone()
}

#[test]
fn what_an_account_waits_for_is_seen_from_its_look_up_to_the_answer() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    let account = account("202");
    assert_eq!(waits(&rig, "202"), None);
    rig.set("202", 3);
    assert_eq!(waits(&rig, "202"), Some((Wait::LookUp, None, 0)));
    assert_eq!(rig.reconciler.poll_action(rig.now), Some(Action::Find(account.clone())));
    assert_eq!(waits(&rig, "202"), Some((Wait::LookUp, None, 0)));
    rig.find(&account);
    assert_eq!(waits(&rig, "202"), Some((Wait::Rate, None, 1)));
    assert!(matches!(rig.reconciler.poll_action(rig.now), Some(Action::Claim { .. })));
    assert_eq!(waits(&rig, "202"), Some((Wait::Claim, None, 1)));
    assert_eq!(see(&rig).progress, Progress::UnderWay);
    rig.reconciler.handle_claim(RowId(1), Some(7), rig.now);
    assert_eq!(waits(&rig, "202"), Some((Wait::Answer, None, 1)));
    rig.verdict(1, Verdict::Delivered);
    assert_eq!(waits(&rig, "202"), None);
    let view = see(&rig);
    assert_eq!((view.acknowledged, view.cseq), (Some(new(3)), 7));
    assert_eq!((view.progress, view.next, view.why), (Progress::Current, None, None));
    assert_eq!(view.last, Some(rig.now));
}

#[test]
fn a_failure_is_explained_until_an_attempt_succeeds_or_the_row_is_refreshed_or_gone() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0)]);
    let fail = |rig: &mut Rig| {
        rig.reconciler.explain_dialog(RowId(1), "503 Busy");
        rig.verdict(1, Verdict::Later(Some(5 * SECOND)));
    };
    rig.set("202", 1);
    assert_eq!(rig.sent(), [(1, 1, 2)]);
    fail(&mut rig);
    assert_eq!(waits(&rig, "202"), Some((Wait::Retry, Some("503 Busy".into()), 1)));
    let view = see(&rig);
    let Progress::Paused(until) = view.progress else { panic!("{view:?}") };
    assert!(until >= rig.now + 5 * SECOND && view.next == Some(until), "{view:?}");
    let (_, sent) = rig.next().unwrap();
    assert_eq!(sent, [(1, 1, 3)]);
    assert_eq!(waits(&rig, "202"), Some((Wait::Answer, Some("503 Busy".into()), 1)));
    rig.verdict(1, Verdict::Delivered);
    assert_eq!((see(&rig).why, waits(&rig, "202")), (None, None));

    rig.now += 2 * SECOND;
    rig.set("202", 2);
    assert_eq!(rig.sent(), [(1, 2, 4)]);
    fail(&mut rig);
    rig.rows = vec![dialog(1, "202", 1)];
    rig.reconciler.look_up(&account("202"), Urgency::Fresh);
    rig.sent();
    assert_eq!(see(&rig).why, None, "it was refreshed");
    fail(&mut rig);
    rig.rows.clear();
    rig.reconciler.look_up(&account("202"), Urgency::Fresh);
    rig.sent();
    rig.reconciler.explain_dialog(RowId(1), "too late");
    assert!(rig.reconciler.whys.is_empty(), "nothing is kept of a row that is gone");
}

#[test]
fn each_account_that_waits_is_there_once_and_a_look_up_that_failed_says_so() {
    let mut rig = Rig::new(vec![dialog(1, "202", 0), dialog(2, "203", 0)]);
    rig.set("202", 1);
    rig.set("203", 1);
    rig.set("204", 1);
    assert_eq!(rig.sent().len(), 2);
    rig.verdict(1, Verdict::Delivered);
    rig.verdict(2, Verdict::Gone);
    assert_eq!(rig.reconciler.pending(rig.now).count(), 0);
    assert_eq!(rig.reconciler.census().waiting, 0);

    // Told by NOTIFY and by PUBLISH.
    let ways = Ways::default().with(Way::Publish);
    let desired = Desired { summary: new(4), ways };
    rig.reconciler.set(&account("204"), desired, Urgency::Fresh, false);
    let publish = loop {
        match rig.reconciler.poll_action(rig.now) {
            Some(Action::Find(account)) => {
                rig.reconciler.handle_lookup_failure(&account, rig.now);
            }
            Some(Action::Publish(order)) => break order,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(publish.account, account("204"));
    while let Some(action) = rig.reconciler.poll_action(rig.now) {
        let Action::Find(account) = action else { panic!("{action:?}") };
        rig.reconciler.handle_lookup_failure(&account, rig.now);
    }
    let all: Vec<_> = rig.reconciler.pending(rig.now).collect();
    let [pending] = &all[..] else { panic!("one account: {all:?}") };
    assert_eq!(
        (pending.account, pending.desired, pending.wait, pending.left),
        (&account("204"), Some(new(4)), Wait::LookUpFailed, 1)
    );
    assert!(pending.next.is_some_and(|next| next > rig.now));
    // A publication that is removed has no account any more.
    rig.reconciler.release(&account("204"));
    let all: Vec<_> = rig.reconciler.pending(rig.now).map(|it| (it.account, it.wait)).collect();
    assert_eq!(all, [(&account("204"), Wait::Answer)]);
}
