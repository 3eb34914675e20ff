//! The order of mwid's NOTIFY and the presence server's own, which has an empty body.

use super::answers::CHECK_AFTER;
use super::*;
use crate::dialog::Row;

const UNIX: u64 = 1_795_000_000;
const SETTLE: Duration = Duration::from_millis(100);
const SUMMARY: Summary = Summary { new: 1, old: 0, new_urgent: 0, old_urgent: 0 };

/// One account with one phone; the test plays database, server and phone.
struct Scene {
    reconciler: Reconciler,
    now: Instant,
    remote_cseq: i64,
    /// What the row says was last on the wire.
    sent_cseq: u32,
}

fn account() -> Account {
    "sip:202@example.com".parse().unwrap()
}

impl Scene {
    /// The phone has subscribed, the server has sent CSeq 1.
    fn new() -> Self {
        let settings = Settings {
            min_interval: Duration::from_secs(1),
            settle: SETTLE,
            rate: 100,
            backoff: Backoff { min: Duration::from_secs(5), max: Duration::from_secs(5) },
            max_lookups: 4,
            max_in_flight: 4,
            shared: true,
        };
        let mut reconciler = Reconciler::new(settings, 1);
        reconciler.set(&account(), SUMMARY, Urgency::CatchUp, false);
        Self { reconciler, now: Instant::now(), remote_cseq: 1, sent_cseq: 1 }
    }

    fn dialog(&self) -> Dialog {
        let row = crate::dialog::tests::row();
        let (remote_cseq, sent_cseq) = (Some(self.remote_cseq), Some(self.sent_cseq.into()));
        let presentity_uri = Some(account().to_string());
        let expires = Some(i64::try_from(UNIX).unwrap() + 86_400);
        Dialog::from_row(&Row { remote_cseq, sent_cseq, presentity_uri, expires, ..row }).unwrap()
    }

    /// Does what the reconciler asks for until it asks for nothing, and every phone says 200.
    /// Gives the CSeqs that it sent.
    fn work(&mut self) -> Vec<u32> {
        let mut sent = Vec::new();
        while let Some(action) = self.reconciler.poll_action(self.now) {
            match action {
                Action::Find(account) => {
                    let found = vec![self.dialog()];
                    self.reconciler.handle_dialogs(&account, found, self.now, UNIX);
                }
                Action::Claim { dialog, above } => {
                    self.sent_cseq = self.sent_cseq.max(above) + 1;
                    self.reconciler.handle_claim(dialog.row, Some(self.sent_cseq), self.now);
                }
                Action::Notify { dialog, cseq, .. } => {
                    sent.push(cseq);
                    self.reconciler.handle_verdict(dialog.row, Verdict::Delivered, self.now);
                }
                Action::Publish(order) => panic!("{order:?} of an account that is told by NOTIFY"),
            }
        }
        sent
    }

    /// Moves the clock by `span`, stopping wherever the reconciler wants to be called.
    fn pass(&mut self, span: Duration) -> Vec<u32> {
        let end = self.now + span;
        let mut sent = self.work();
        while let Some(at) = self.reconciler.poll_timeout(self.now).filter(|at| *at <= end) {
            self.now = at;
            sent.extend(self.work());
        }
        self.now = end;
        sent
    }

    fn changed(&mut self) {
        self.reconciler.look_up(&account(), Urgency::Fresh);
    }
}

#[test]
fn a_new_dialog_is_told_when_the_servers_own_notify_has_had_its_time() {
    let mut scene = Scene::new();
    assert_eq!(scene.pass(SETTLE - Duration::from_millis(1)), []);
    assert_eq!(scene.pass(Duration::from_millis(1)), [2]);
    assert_eq!(scene.pass(Duration::from_secs(3600)), [], "and only once");
}

#[test]
fn a_refreshed_dialog_is_told_again_after_the_server() {
    let mut scene = Scene::new();
    scene.pass(Duration::from_secs(60));
    scene.remote_cseq += 1;
    scene.sent_cseq += 1;
    scene.changed();
    assert_eq!(scene.pass(SETTLE - Duration::from_millis(1)), []);
    assert_eq!(scene.pass(Duration::from_millis(1)), [4]);
}

#[test]
fn a_voicemail_in_a_dialog_that_has_settled_waits_for_nothing() {
    let mut scene = Scene::new();
    scene.pass(Duration::from_secs(60));
    scene.reconciler.set(&account(), Summary::default(), Urgency::Fresh, false);
    assert_eq!(scene.work(), [3]);
}

#[test]
fn a_phone_is_told_again_when_the_server_notified_it_after_mwid() {
    let mut scene = Scene::new();
    assert_eq!(scene.pass(Duration::from_secs(1)), [2]);
    // A notifier process of Kamailio comes round: empty body, CSeq 3.
    scene.sent_cseq = 3;
    assert_eq!(scene.pass(CHECK_AFTER), [4]);
    assert_eq!(scene.pass(Duration::from_secs(3600)), []);
}

#[test]
fn two_that_count_in_one_row_do_not_answer_each_other_for_ever() {
    let mut scene = Scene::new();
    let mut sent = scene.pass(Duration::from_secs(1));
    for _ in 0..20 {
        scene.sent_cseq += 1;
        scene.changed();
        sent.extend(scene.pass(CHECK_AFTER));
    }
    assert_eq!(sent.len(), 1 + usize::from(MAX_CHECKS));
    scene.remote_cseq += 1;
    scene.changed();
    assert_eq!(scene.pass(Duration::from_secs(1)).len(), 1, "a refresh is told in any case");
}

#[test]
fn a_row_that_the_server_rolled_back_is_no_reason_to_tell_again() {
    let mut scene = Scene::new();
    scene.pass(Duration::from_secs(1));
    scene.sent_cseq = 1;
    assert_eq!(scene.pass(Duration::from_secs(3600)), []);
}

#[test]
fn a_row_is_known_until_it_changes_or_holds_another_dialog() {
    let mut scene = Scene::new();
    assert!(!scene.reconciler.knows(&scene.dialog()));
    scene.pass(Duration::from_secs(1));
    assert!(scene.reconciler.knows(&scene.dialog()));
    let other = Dialog { call_id: "another".into(), ..scene.dialog() };
    assert!(!scene.reconciler.knows(&other));
    scene.remote_cseq += 1;
    assert!(!scene.reconciler.knows(&scene.dialog()));
}

#[test]
fn what_the_server_sent_while_mwid_was_away_is_answered_after_the_restart() {
    for (sent_cseq, told) in [(2, vec![]), (3, vec![4])] {
        let mut scene = Scene::new();
        let dialog = scene.dialog();
        let past = Remembered {
            high_water: 2,
            delivered: Some(SUMMARY),
            dead: false,
            version: dialog.version(),
            expires: u64::MAX,
        };
        scene.sent_cseq = sent_cseq;
        scene.reconciler.remember([(dialog.identity(), past)]);
        assert_eq!(scene.pass(Duration::from_secs(3600)), told);
    }
}
