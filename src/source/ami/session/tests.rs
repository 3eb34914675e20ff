use super::*;
use crate::config::Secret;

const TIMEOUT: Duration = Duration::from_secs(5);
const RESCAN: Duration = Duration::from_secs(3600);
const UNIX: u64 = 1_795_000_000_000_000_000;

fn login() -> Credentials {
    Credentials { user: "mwid".into(), password: Secret::new("s3cret") }
}

fn mailbox(name: &str) -> Mailbox {
    Mailbox::parse(name).unwrap()
}

/// A conversation and a clock.
struct Rig<'a> {
    session: Session<'a>,
    now: Instant,
    /// The number of the last action.
    id: u64,
}

impl<'a> Rig<'a> {
    fn new(login: &'a Credentials, known: &'a mut HashSet<Mailbox>) -> Self {
        let now = Instant::now();
        Self {
            session: Session::new(login, Pace { timeout: TIMEOUT, rescan: RESCAN }, known, now),
            now,
            id: 0,
        }
    }

    /// The next action, without its ActionID.
    fn asks(&mut self) -> Option<String> {
        let request = self.session.poll_request(self.now, UNIX)?;
        self.id += 1;
        let action = request.strip_suffix(&format!("ActionID: {}\r\n\r\n", self.id));
        Some(action.expect("each action has its own number").to_owned())
    }

    fn hears(&mut self, packet: Packet) -> Outcome {
        self.session.handle_packet(self.now, packet).unwrap()
    }

    fn is_told(&mut self, answer: Answer) -> Result<Outcome, AmiError> {
        let answer = Packet::Answer(Answer { id: Some(self.id), ..answer });
        self.session.handle_packet(self.now, answer)
    }

    fn succeeds(&mut self, answer: Answer) -> Outcome {
        self.is_told(Answer { success: true, ..answer }).unwrap()
    }

    fn changes(&mut self, name: &str) -> Outcome {
        self.hears(Packet::Changed(Counts {
            mailbox: name.into(),
            new: Some(7),
            old: Some(7),
            id: None,
        }))
    }

    fn listed(&mut self, number: &str, new: u32, old: u32) -> Outcome {
        let counts =
            Counts { mailbox: number.into(), new: Some(new), old: Some(old), id: Some(self.id) };
        self.hears(Packet::User { counts, context: "default".into() })
    }

    fn counts(&mut self, new: u32, old: u32, urgent: u32) -> Outcome {
        let (new, old, urgent) = (Some(new), Some(old), Some(urgent));
        self.succeeds(Answer { new, old, urgent, ..Answer::default() })
    }

    /// Up to the request for the list.
    fn logs_in(&mut self) {
        assert_eq!(self.asks(), None, "the banner is awaited");
        self.hears(Packet::Banner("Asterisk Call Manager/5.0.4".into()));
        assert_eq!(self.asks().unwrap(), "Action: Challenge\r\nAuthType: MD5\r\n");
        let challenge = Some("123".to_owned());
        self.succeeds(Answer { challenge, ..Answer::default() });
        let login = self.asks().unwrap();
        // echo -n 123s3cret | md5sum
        assert_eq!(
            login,
            "Action: Login\r\nAuthType: MD5\r\nUsername: mwid\r\nKey: \
             836dbff3b3f2fada5ae414ec7117d633\r\nEvents: call\r\n"
        );
        assert_eq!(self.succeeds(Answer::default()), Outcome::LoggedIn);
        assert_eq!(self.asks().unwrap(), "Action: VoicemailUsersList\r\n");
    }

    /// Up to where it follows, with nothing in the list.
    fn follows(&mut self) {
        self.logs_in();
        assert_eq!(self.succeeds(Answer::default()), Outcome::Following);
    }
}

fn counted(name: &str, summary: Summary) -> Outcome {
    Outcome::Counted(Counted { mailbox: mailbox(name), summary, stamp: UNIX })
}

fn count_of(name: &str) -> Option<String> {
    Some(format!("Action: MailboxCount\r\nMailbox: {name}\r\n"))
}

#[test]
fn every_mailbox_is_read_after_the_login_those_with_new_messages_exactly() {
    let (login, mut known) = (login(), HashSet::new());
    let mut rig = Rig::new(&login, &mut known);
    rig.logs_in();
    rig.succeeds(Answer { list: true, ..Answer::default() });
    assert_eq!(rig.listed("201", 0, 4), counted("201", Summary::from_asterisk(0, 4, 0)));
    assert_eq!(rig.listed("202", 3, 1), Outcome::Nothing);
    assert_eq!(rig.asks(), None, "the list is not complete");
    let id = Some(rig.id);
    assert_eq!(rig.hears(Packet::ListEnd { id }), Outcome::Following);
    assert_eq!(rig.asks(), count_of("202@default"));
    // Asterisk counts urgent ones apart; a summary includes them.
    let outcome = rig.counts(2, 1, 1);
    assert_eq!(outcome, counted("202", Summary { new: 3, old: 1, new_urgent: 1, old_urgent: 0 }));
    assert_eq!(rig.asks(), None);
}

#[test]
fn what_was_known_and_is_not_listed_is_asked_for_and_never_taken_for_empty() {
    let (login, mut known) = (login(), HashSet::from([mailbox("9@realtime"), mailbox("201")]));
    let mut rig = Rig::new(&login, &mut known);
    rig.logs_in();
    rig.succeeds(Answer { list: true, ..Answer::default() });
    rig.listed("201", 0, 0);
    let id = Some(rig.id);
    rig.hears(Packet::ListEnd { id });
    assert_eq!(rig.asks(), count_of("9@realtime"));
    assert_eq!(rig.counts(1, 0, 0), counted("9@realtime", Summary::from_asterisk(1, 0, 0)));
    assert_eq!(rig.asks(), None);
}

#[test]
fn a_mailbox_that_changed_is_asked_for_once_and_again_if_it_changes_meanwhile() {
    let (login, mut known) = (login(), HashSet::new());
    let mut rig = Rig::new(&login, &mut known);
    rig.follows();
    for _ in 0..3 {
        assert_eq!(rig.changes("202@default"), Outcome::Changed);
    }
    rig.changes("203@default");
    assert_eq!(rig.asks(), count_of("202@default"));
    assert_eq!(rig.asks(), None, "one question at a time");
    rig.changes("202@default");
    rig.counts(1, 0, 0);
    assert_eq!(rig.asks(), count_of("203@default"));
    rig.counts(1, 0, 0);
    assert_eq!(rig.asks(), count_of("202@default"), "the first answer may have been too early");
    rig.counts(2, 0, 0);
    assert_eq!(rig.asks(), None);
    assert!(known.contains(&mailbox("202")), "it is read after the next login too");
}

#[test]
fn past_its_room_totals_are_taken_as_they_are() {
    let (login, mut known) = (login(), HashSet::new());
    let mut rig = Rig::new(&login, &mut known);
    rig.follows();
    for number in 0..ROOM {
        assert_eq!(rig.changes(&number.to_string()), Outcome::Changed);
    }
    let outcome = rig.changes("last");
    let summary = Summary::from_asterisk(7, 7, 0);
    assert_eq!(outcome, Outcome::Counted(Counted { mailbox: mailbox("last"), summary, stamp: 0 }));
    assert_eq!(rig.session.queue.order.len(), ROOM);
    assert_eq!(known.len(), ROOM);
}

#[test]
fn a_refused_login_names_the_user_and_a_refused_action_the_rights() {
    let (login, mut known) = (login(), HashSet::new());
    let no = |message: &str| Answer { message: message.into(), ..Answer::default() };
    let mut rig = Rig::new(&login, &mut known);
    rig.hears(Packet::Banner("Asterisk Call Manager/1.1".into()));
    rig.asks();
    rig.succeeds(Answer { challenge: Some("1".into()), ..Answer::default() });
    rig.asks();
    assert_eq!(
        rig.is_told(no("Authentication failed")).unwrap_err().to_string(),
        "the login of mwid was refused: Authentication failed; check user and secret, and permit \
         and deny in manager.conf"
    );
    let mut rig = Rig::new(&login, &mut known);
    rig.logs_in();
    assert_eq!(
        rig.is_told(no("Permission denied")).unwrap_err().to_string(),
        "VoicemailUsersList was refused: Permission denied; the user needs read = call and write = \
         reporting in manager.conf, and Asterisk the module app_voicemail"
    );
    let mut rig = Rig::new(&login, &mut known);
    rig.follows();
    rig.changes("1");
    rig.asks();
    assert!(matches!(rig.is_told(no("")), Err(AmiError::Denied { action: "MailboxCount", .. })));
}

#[test]
fn an_answer_without_counts_counts_nothing() {
    let (login, mut known) = (login(), HashSet::new());
    let mut rig = Rig::new(&login, &mut known);
    rig.follows();
    rig.changes("1");
    rig.asks();
    let half = Answer { new: Some(0), success: true, ..Answer::default() };
    assert!(matches!(rig.is_told(half), Err(AmiError::NoCounts)));
}

#[test]
fn what_was_not_asked_for_is_not_an_answer() {
    let (login, mut known) = (login(), HashSet::new());
    let mut rig = Rig::new(&login, &mut known);
    rig.follows();
    rig.changes("1");
    rig.asks();
    for id in [None, Some(rig.id - 1), Some(rig.id + 1)] {
        let zero = Some(0);
        let answer = Answer { id, success: true, new: zero, old: zero, ..Answer::default() };
        assert_eq!(rig.hears(Packet::Answer(answer)), Outcome::Nothing);
        assert_eq!(rig.hears(Packet::ListEnd { id }), Outcome::Nothing);
    }
    let counts = Counts { mailbox: "1".into(), new: Some(0), old: Some(0), id: Some(rig.id) };
    let user = Packet::User { counts, context: "default".into() };
    assert_eq!(rig.hears(user), Outcome::Nothing, "no list was asked for");
    assert_eq!(rig.counts(1, 0, 0), counted("1", Summary::from_asterisk(1, 0, 0)));
}

#[test]
fn names_that_are_no_mailbox_are_told_and_left_out() {
    let (login, mut known) = (login(), HashSet::new());
    let mut rig = Rig::new(&login, &mut known);
    rig.follows();
    for name in ["../../etc/passwd", "", "1@a/b", "1@", "a\u{fffd}\n@b"] {
        assert!(matches!(rig.changes(name), Outcome::BadName(_)), "{name:?}");
    }
    assert_eq!(rig.asks(), None);
    assert!(known.is_empty());
}

#[test]
fn whoever_is_silent_is_late_whatever_else_he_says() {
    let (login, mut known) = (login(), HashSet::new());
    let mut rig = Rig::new(&login, &mut known);
    let late = |rig: &mut Rig<'_>| {
        rig.now += TIMEOUT - Duration::from_millis(1);
        rig.hears(Packet::Other);
        rig.session.handle_timeout(rig.now).unwrap();
        rig.now += Duration::from_millis(1);
        assert_eq!(rig.session.poll_timeout(), rig.now);
        rig.session.handle_timeout(rig.now).unwrap_err().to_string()
    };
    assert_eq!(late(&mut rig), "no banner within 5 s");
    let mut rig = Rig::new(&login, &mut known);
    rig.logs_in();
    assert_eq!(late(&mut rig), "no answer to VoicemailUsersList within 5 s");
    // Each entry of a long list gives it more time.
    let mut rig = Rig::new(&login, &mut known);
    rig.logs_in();
    rig.now += TIMEOUT;
    rig.listed("1", 0, 0);
    assert_eq!(late(&mut rig), "no answer to VoicemailUsersList within 5 s");
}

#[test]
fn a_quiet_connection_is_asked_whether_it_is_still_one() {
    let (login, mut known) = (login(), HashSet::new());
    let mut rig = Rig::new(&login, &mut known);
    rig.follows();
    rig.now += QUIET;
    assert_eq!(rig.session.poll_timeout(), rig.now);
    assert_eq!(rig.asks(), None);
    rig.session.handle_timeout(rig.now).unwrap();
    assert_eq!(rig.asks().unwrap(), "Action: Ping\r\n");
    rig.succeeds(Answer::default());
    assert_eq!(rig.asks(), None);
    rig.now += QUIET;
    rig.session.handle_timeout(rig.now).unwrap();
    rig.asks();
    rig.now += TIMEOUT;
    let late = rig.session.handle_timeout(rig.now).unwrap_err().to_string();
    assert_eq!(late, "no answer to Ping within 5 s");
}

#[test]
fn all_mailboxes_are_read_again_now_and_then() {
    let (login, mut known) = (login(), HashSet::new());
    let mut rig = Rig::new(&login, &mut known);
    rig.follows();
    let due = rig.now + RESCAN;
    while rig.session.poll_timeout() < due {
        rig.now = rig.session.poll_timeout();
        rig.session.handle_timeout(rig.now).unwrap();
        assert_eq!(rig.asks().unwrap(), "Action: Ping\r\n");
        rig.succeeds(Answer::default());
    }
    rig.now = due;
    rig.session.handle_timeout(rig.now).unwrap();
    assert_eq!(rig.asks().unwrap(), "Action: VoicemailUsersList\r\n");
    rig.succeeds(Answer { list: true, ..Answer::default() });
    rig.listed("202", 1, 0);
    let id = Some(rig.id);
    rig.hears(Packet::ListEnd { id });
    assert_eq!(rig.asks(), count_of("202@default"));
}

#[test]
fn something_else_that_listens_there_gets_nothing() {
    let (login, mut known) = (login(), HashSet::new());
    let mut rig = Rig::new(&login, &mut known);
    let banner = Packet::Banner("SSH-2.0-OpenSSH_9.2p1".into());
    assert_eq!(
        rig.session.handle_packet(rig.now, banner).unwrap_err().to_string(),
        "\"SSH-2.0-OpenSSH_9.2p1\" is not what Asterisk's manager says first; check host"
    );
}
