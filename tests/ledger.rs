//! The ledger on a real file: what it keeps over a restart, and what it does when it cannot.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mwid::ledger::{Given, Last, Ledger, Member, Memory};
use mwid::lock::{self, LockError};
use mwid_core::dialog::{Dialog, Row};
use mwid_core::mailbox::{Account, Mailbox};
use mwid_core::publication::{self, ETag, Outcome, Way, Wish};
use mwid_core::reconciler::Published;
use mwid_core::summary::Summary;
use rusqlite::Connection;

const UNIX: u64 = 1_795_000_000;

struct Rig {
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Rig {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        Self { folder: tempfile::tempdir().unwrap(), runtime }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("state/ledger.db")
    }

    fn open(&self) -> (Ledger, Memory) {
        Ledger::open(&self.path(), UNIX).unwrap()
    }

    fn send(&self, ledger: &Ledger, dialog: &Arc<Dialog>, cseq: u32) {
        self.runtime.block_on(ledger.sending(vec![(dialog.clone(), cseq)]));
    }

    /// What another start finds.
    fn memory(&self) -> Memory {
        self.open().1
    }

    /// The files in the ledger's folder that were set aside.
    fn aside(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path().join("state")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let is_number = |text: &str| text.parse::<u64>().is_ok();
        let aside = |name: &String| name.rsplit_once('-').is_some_and(|(_, unix)| is_number(unix));
        names.filter(aside).collect()
    }
}

/// The journal grows for as long as it is written; a checkpoint beside the writer brings it into the
/// file, so that no CSeq waits for one.
#[test]
fn what_is_written_comes_into_the_file_while_it_is_written() {
    let rig = Rig::new();
    let (ledger, _) = rig.open();
    let size = || fs::metadata(rig.path()).unwrap().len();
    let before = size();
    let summary = Summary { new: 1, ..Summary::default() };
    for number in 0..2500 {
        let mailbox = Mailbox::new(&number.to_string(), "default").unwrap();
        ledger.given(Given { mailbox, summary, stamp: 1 }, None);
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while size() == before {
        assert!(std::time::Instant::now() < deadline, "nothing came into the file");
        rig.send(&ledger, &dialog(1, UNIX + 600), 7);
    }
    drop(ledger);
    assert!(!rig.path().with_extension("db-wal").exists(), "the last one to close it removed it");
    assert_eq!(rig.memory().mailboxes.len(), 2500);
}

fn dialog(number: u32, expires: u64) -> Arc<Dialog> {
    let text = |value: &str| Some(value.to_owned());
    let dialog = Dialog::from_row(&Row {
        id: i64::from(number),
        presentity_uri: text("sip:202@example.com"),
        from_user: text("202"),
        from_domain: text("example.com"),
        to_user: text("202"),
        to_domain: text("example.com"),
        to_tag: text("server"),
        from_tag: text("phone"),
        callid: Some(format!("call-{number}")),
        local_cseq: Some(1),
        remote_cseq: Some(1),
        contact: text("sip:202@192.0.2.7"),
        expires: Some(i64::try_from(expires).unwrap()),
        local_contact: text("sip:192.0.2.1"),
        ..Row::default()
    });
    Arc::new(dialog.unwrap())
}

fn new(count: u32) -> Summary {
    Summary { new: count, ..Summary::default() }
}

fn given(mailbox: &Mailbox, count: u32, stamp: u64) -> Given {
    Given { mailbox: mailbox.clone(), summary: new(count), stamp }
}

fn account(user: &str) -> Account {
    Account::new(user, "example.com").unwrap()
}

fn member(mailbox: &str, here: bool) -> Member {
    Member { mailbox: Mailbox::parse(mailbox).unwrap(), here }
}

fn last(user: &str, count: u32, members: &[Member]) -> Last {
    Last { account: account(user), summary: new(count), members: members.into() }
}

#[test]
fn a_dialog_is_remembered_with_its_cseq_and_what_its_phone_took() {
    let rig = Rig::new();
    let dialog = dialog(1, UNIX + 60);
    let (ledger, memory) = rig.open();
    assert!(memory.dialogs.is_empty() && memory.mailboxes.is_empty());
    rig.send(&ledger, &dialog, 7);
    ledger.delivered(&dialog, 7, new(3));
    drop(ledger);
    let [(identity, past)] = rig.memory().dialogs[..] else { panic!("not one dialog") };
    assert_eq!(identity, dialog.identity());
    assert_eq!((past.high_water, past.delivered, past.dead), (7, Some(new(3)), false));
    assert_eq!(past.version, dialog.version());
}

#[test]
fn a_cseq_that_was_claimed_and_not_sent_is_remembered_beside_what_the_phone_took() {
    let rig = Rig::new();
    let dialog = dialog(1, UNIX + 60);
    let (ledger, _) = rig.open();
    rig.send(&ledger, &dialog, 7);
    ledger.delivered(&dialog, 7, new(3));
    ledger.unused(&dialog, 9);
    drop(ledger);
    let (_, past) = rig.memory().dialogs[0];
    assert_eq!((past.high_water, past.delivered), (9, Some(new(3))));
}

#[test]
fn from_sending_to_answer_it_is_not_known_what_the_phone_shows() {
    let rig = Rig::new();
    let dialog = dialog(1, UNIX + 60);
    let (ledger, _) = rig.open();
    rig.send(&ledger, &dialog, 7);
    ledger.delivered(&dialog, 7, new(3));
    rig.send(&ledger, &dialog, 9);
    // The answer to the one before comes late: it says nothing about what the phone shows now.
    ledger.delivered(&dialog, 7, new(3));
    drop(ledger);
    let (_, past) = rig.memory().dialogs[0];
    assert_eq!((past.high_water, past.delivered), (9, None));
}

#[test]
fn what_was_to_be_written_before_sending_is_there_without_a_clean_end() {
    let rig = Rig::new();
    let (ledger, _) = rig.open();
    rig.send(&ledger, &dialog(1, UNIX + 60), 7);
    // A second reader sees it while the first still holds it: it has been committed.
    let reader = Connection::open(rig.path()).unwrap();
    let cseq: u32 =
        reader.query_row("SELECT high_water FROM dialogs", [], |row| row.get(0)).unwrap();
    assert_eq!(cseq, 7);
    drop(ledger);
}

#[test]
fn a_dead_dialog_stays_dead_until_something_is_sent_again() {
    let rig = Rig::new();
    let dialog = dialog(1, UNIX + 60);
    let (ledger, _) = rig.open();
    rig.send(&ledger, &dialog, 7);
    ledger.dead(&dialog);
    drop(ledger);
    let (ledger, memory) = rig.open();
    assert!(memory.dialogs[0].1.dead);
    rig.send(&ledger, &dialog, 8);
    drop(ledger);
    assert!(!rig.memory().dialogs[0].1.dead);
}

#[test]
fn what_ended_long_ago_is_dropped() {
    let rig = Rig::new();
    let (ledger, _) = rig.open();
    rig.send(&ledger, &dialog(1, UNIX - 90_000), 7);
    rig.send(&ledger, &dialog(2, UNIX - 60), 7);
    drop(ledger);
    let left = rig.memory().dialogs;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].0, dialog(2, 0).identity());
}

/// The highest CSeq of each dialog must outlive a clock that is years ahead for a while.
#[test]
fn a_clock_that_was_set_years_ahead_drops_nothing() {
    let rig = Rig::new();
    let (ledger, _) = rig.open();
    rig.send(&ledger, &dialog(1, UNIX + 60), 7);
    rig.send(&ledger, &dialog(2, UNIX + 3600), 7);
    drop(ledger);
    let (ledger, memory) = Ledger::open(&rig.path(), UNIX + 315_360_000).unwrap();
    assert_eq!(memory.dialogs.len(), 2);
    drop(ledger);
    assert_eq!(rig.memory().dialogs.len(), 2);
}

#[test]
fn given_counts_are_kept_until_the_spool_has_the_mailbox() {
    let rig = Rig::new();
    let (one, two) = (Mailbox::parse("1").unwrap(), Mailbox::parse("2@b").unwrap());
    let (ledger, _) = rig.open();
    ledger.given(given(&one, 1, 10), None);
    ledger.given(given(&one, 2, 20), None);
    ledger.given(given(&two, 5, 30), None);
    ledger.not_given(&two);
    drop(ledger);
    assert_eq!(rig.memory().mailboxes, [given(&one, 2, 20)]);
}

/// A step by PUBLISH, with this entity-tag.
fn step(wish: Wish, etag: Option<&str>) -> publication::Order {
    let etag = etag.map(|etag| ETag::new(etag).unwrap());
    publication::Order {
        way: Way::Publish,
        account: "202@example.com".parse().unwrap(),
        wish,
        etag,
    }
}

fn accepted(etag: &str) -> Outcome {
    let etag = Some(ETag::new(etag).unwrap());
    Outcome::Accepted { etag, expires: Some(Duration::from_secs(60)) }
}

/// What is remembered of that publication.
fn remembered(etag: Option<&str>, count: Option<u32>, expires: Option<u64>) -> Memory {
    let etag = etag.map(|etag| ETag::new(etag).unwrap());
    let published = Published { etag, accepted: count.map(new), expires };
    let key = ("202@example.com".parse().unwrap(), Way::Publish);
    Memory { publications: vec![(key, published)], ..Memory::default() }
}

#[test]
fn a_publication_is_remembered_with_its_entity_tag_and_what_its_server_took() {
    let rig = Rig::new();
    let (ledger, _) = rig.open();
    let initial = step(Wish::State(new(1)), None);
    rig.runtime.block_on(ledger.publishing(&initial));
    ledger.published(&initial, &accepted("one"), UNIX);
    drop(ledger);
    let one = remembered(Some("one"), Some(1), Some(UNIX + 60));
    assert_eq!(rig.memory().publications, one.publications);

    let (ledger, _) = rig.open();
    let change = step(Wish::State(new(2)), Some("one"));
    rig.runtime.block_on(ledger.publishing(&change));
    drop(ledger);
    let doubt = remembered(Some("one"), None, Some(UNIX + 60));
    assert_eq!(rig.memory().publications, doubt.publications, "the answer never came");

    let (ledger, _) = rig.open();
    ledger.published(&change, &Outcome::Later(None), UNIX);
    ledger.published(&change, &Outcome::Stale, UNIX);
    drop(ledger);
    assert_eq!(rig.memory().publications, remembered(None, None, None).publications);

    let (ledger, _) = rig.open();
    ledger.published(&step(Wish::Remove, Some("two")), &accepted("x"), UNIX);
    drop(ledger);
    assert_eq!(rig.memory().publications, []);
}

/// Whatever the umask: counts are nobody else's business.
#[test]
fn the_ledger_is_its_users_and_groups_from_its_first_moment() {
    let rig = Rig::new();
    let (ledger, _) = rig.open();
    for file in ["ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db.lock"] {
        let mode = fs::metadata(rig.path().with_file_name(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{file}: {mode:o}");
    }
    drop(ledger);
}

#[test]
fn a_damaged_ledger_is_set_aside_and_a_new_one_is_made() {
    for damage in [&b"no database at all, but long enough to look like one......"[..], b""] {
        let rig = Rig::new();
        drop(rig.open());
        fs::write(rig.path(), damage).unwrap();
        let (ledger, memory) = rig.open();
        assert!(memory.dialogs.is_empty());
        assert_eq!(ledger.state().error, None);
        rig.send(&ledger, &dialog(1, UNIX + 60), 7);
        drop(ledger);
        assert_eq!(rig.memory().dialogs.len(), 1);
        assert_eq!(rig.aside().len(), usize::from(!damage.is_empty()), "{damage:?}");
    }
}

#[test]
fn a_ledger_cut_in_the_middle_is_set_aside() {
    let rig = Rig::new();
    let (ledger, _) = rig.open();
    for number in 0..500 {
        rig.send(&ledger, &dialog(number, UNIX + 60), 7);
    }
    drop(ledger);
    let file = fs::OpenOptions::new().write(true).open(rig.path()).unwrap();
    file.set_len(20_000).unwrap();
    let (ledger, memory) = rig.open();
    assert!(memory.dialogs.is_empty());
    assert_eq!((rig.aside().len(), ledger.state().error), (1, None));
}

#[test]
fn a_ledger_of_a_newer_mwid_or_of_another_program_is_kept_aside() {
    for change in ["PRAGMA user_version = 99", "PRAGMA application_id = 5"] {
        let rig = Rig::new();
        drop(rig.open());
        Connection::open(rig.path()).unwrap().execute_batch(change).unwrap();
        let (ledger, _) = rig.open();
        assert_eq!(ledger.state().error, None, "{change}");
        assert_eq!(rig.aside().len(), 1, "{change}");
    }
}

/// What only calls gave has no other memory.
#[test]
fn what_was_given_is_read_from_a_ledger_that_cannot_be_used() {
    for (change, cause) in
        [("PRAGMA user_version = 99", ".newer-"), ("DROP TABLE dialogs", ".damaged-")]
    {
        let rig = Rig::new();
        let one = Mailbox::parse("1").unwrap();
        let (ledger, _) = rig.open();
        ledger.given(given(&one, 4, 10), None);
        ledger.lit(&account("boss"), new(4), vec![member("1", false)]);
        drop(ledger);
        Connection::open(rig.path()).unwrap().execute_batch(change).unwrap();
        for _ in 0..2 {
            let memory = rig.memory();
            assert_eq!(memory.mailboxes, [given(&one, 4, 10)], "{change}");
            assert_eq!(memory.accounts, [last("boss", 4, &[member("1", false)])], "{change}");
        }
        let aside = rig.aside();
        assert!(aside.len() == 1 && aside[0].contains(cause), "{aside:?}");
    }
}

#[test]
fn a_ledger_that_another_program_holds_is_read_and_not_called_damaged() {
    let rig = Rig::new();
    let one = Mailbox::parse("1").unwrap();
    let (ledger, _) = rig.open();
    ledger.given(given(&one, 4, 10), None);
    rig.send(&ledger, &dialog(1, UNIX + 60), 7);
    drop(ledger);
    let other = Connection::open(rig.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (ledger, memory) = rig.open();
    assert_eq!(memory.mailboxes, [given(&one, 4, 10)]);
    assert_eq!(memory.dialogs[0].1.high_water, 7);
    assert_eq!((ledger.state().error, rig.aside()), (None, vec![]));
    drop(ledger);
    drop(other);
    assert_eq!(rig.memory().mailboxes, [given(&one, 4, 10)]);
}

/// The last commits may be missing then, and the numbers in them were used.
#[test]
fn after_a_power_loss_cseqs_jump_and_nothing_is_believed_of_the_phones() {
    let rig = Rig::new();
    let (ledger, _) = rig.open();
    rig.send(&ledger, &dialog(1, UNIX + 60), 7);
    ledger.delivered(&dialog(1, UNIX + 60), 7, new(3));
    drop(ledger);
    let past = |rig: &Rig| {
        let (_, past) = rig.memory().dialogs[0];
        (past.high_water, past.delivered)
    };
    assert_eq!(past(&rig), (7, Some(new(3))), "a clean end");
    let crash = |boot: &str| {
        let sql = format!("INSERT INTO running VALUES ('{boot}')");
        Connection::open(rig.path()).unwrap().execute_batch(&sql).unwrap();
    };
    crash(fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim());
    assert_eq!(past(&rig), (7, Some(new(3))), "kill -9: the system has all of it");
    crash("another boot");
    assert_eq!(past(&rig), (107, None));
    assert_eq!(past(&rig), (107, None), "once");
}

#[test]
fn without_a_place_to_write_mwid_goes_on() {
    let rig = Rig::new();
    fs::write(rig.folder.path().join("state"), "a file where a folder should be").unwrap();
    let (ledger, _) = Ledger::open(&rig.path(), UNIX).unwrap();
    assert!(ledger.state().error.is_some());
    rig.send(&ledger, &dialog(1, UNIX + 60), 7);
}

#[test]
fn a_ledger_that_cannot_be_written_is_moved_away_because_it_would_lie() {
    let rig = Rig::new();
    let (ledger, _) = rig.open();
    rig.send(&ledger, &dialog(1, UNIX + 60), 7);
    ledger.delivered(&dialog(1, UNIX + 60), 7, new(1));
    let other = Connection::open(rig.path()).unwrap();
    // Somebody else holds it, longer than mwid waits.
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    rig.send(&ledger, &dialog(1, UNIX + 60), 8);
    assert!(ledger.state().error.is_some_and(|error| error.contains("locked")));
    assert!(!rig.path().exists());
    other.execute_batch("ROLLBACK").unwrap();
    drop(ledger);
    assert!(rig.memory().dialogs.is_empty());
}

#[test]
fn what_was_given_outlives_a_ledger_that_could_not_be_written() {
    let rig = Rig::new();
    let (one, two) = (Mailbox::parse("1").unwrap(), Mailbox::parse("2@b").unwrap());
    let (ledger, _) = rig.open();
    ledger.given(given(&one, 1, 10), None);
    ledger.given(given(&two, 2, 20), None);
    // No NOTIFY waits for what was given before it; the next one comes after that.
    rig.send(&ledger, &dialog(1, UNIX + 60), 6);
    rig.send(&ledger, &dialog(1, UNIX + 60), 7);
    let other = Connection::open(rig.path()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    // Never written: as far as the ledger is concerned it is lost.
    ledger.given(given(&one, 3, 30), None);
    rig.send(&ledger, &dialog(1, UNIX + 60), 8);
    assert!(!rig.path().exists());
    drop(ledger);
    drop(other);
    for _ in 0..2 {
        let mut memory = rig.memory();
        memory.mailboxes.sort_by_key(|given| given.stamp);
        assert_eq!(memory.mailboxes, [given(&one, 1, 10), given(&two, 2, 20)]);
        assert!(memory.dialogs.is_empty());
        // It is in the new one now.
        assert!(!rig.folder.path().join("state/ledger.db.given").exists());
    }
}

#[test]
fn a_ledger_of_the_first_version_is_brought_up_to_date() {
    let rig = Rig::new();
    let one = Mailbox::parse("1").unwrap();
    let (ledger, _) = rig.open();
    ledger.given(given(&one, 4, 10), None);
    drop(ledger);
    let old = "DROP TABLE accounts; DROP TABLE members; DROP TABLE contexts;
               DROP TABLE publications; DROP TABLE ways; DROP TABLE running;
               ALTER TABLE mailboxes DROP COLUMN stamp; PRAGMA user_version = 1";
    Connection::open(rig.path()).unwrap().execute_batch(old).unwrap();
    assert_eq!(rig.memory().mailboxes, [given(&one, 4, 0)]);
    assert_eq!(rig.aside(), [""; 0]);
}

#[test]
fn an_account_is_remembered_with_what_lit_it_until_its_phones_are_told_that_it_is_dark() {
    let rig = Rig::new();
    let (ledger, memory) = rig.open();
    assert_eq!(memory.accounts, []);
    let (one, two) = (member("1", true), member("2@b", false));
    ledger.lit(&account("boss"), new(3), vec![two.clone(), one.clone()]);
    ledger.lit(&account("desk"), new(1), vec![one.clone()]);
    ledger.lit(&account("desk"), new(2), vec![one.clone()]);
    ledger.dark(&account("nobody"));
    ledger.context("default", u64::MAX - 1);
    drop(ledger);
    let (ledger, memory) = rig.open();
    let boss = last("boss", 3, &[one.clone(), two.clone()]);
    assert_eq!(memory.accounts, [boss.clone(), last("desk", 2, std::slice::from_ref(&one))]);
    assert_eq!(memory.contexts, [("default".into(), u64::MAX - 1)]);
    let (here, contexts) = ledger.counted_here();
    assert_eq!((here, contexts), (vec![one.mailbox.clone(); 2], memory.contexts));
    // It goes dark; what lit it is remembered until its phones know.
    ledger.dark(&account("boss"));
    ledger.told_dark(&account("desk"));
    assert!(ledger.is_darkening(&account("boss")) && !ledger.is_darkening(&account("desk")));
    drop(ledger);
    let (ledger, memory) = rig.open();
    assert_eq!(memory.accounts, [Last { summary: new(0), ..boss }]);
    assert!(ledger.is_darkening(&account("boss")));
    ledger.told_dark(&account("boss"));
    drop(ledger);
    let left = rig.memory();
    assert_eq!((left.accounts, left.contexts), (vec![], vec![]), "nor what nothing was in");
}

#[test]
fn what_was_counted_here_before_is_looked_for_here_also_when_others_count_it() {
    let rig = Rig::new();
    let (ledger, _) = rig.open();
    ledger.lit(&account("boss"), new(3), vec![member("1", true)]);
    drop(ledger);
    let (ledger, _) = rig.open();
    // Others count it, and this one has not looked yet.
    ledger.lit(&account("boss"), new(4), vec![member("1", false), member("2", false)]);
    drop(ledger);
    let members = [member("1", true), member("2", false)];
    assert_eq!(rig.memory().accounts, [last("boss", 4, &members)]);
}

/// As the mwid before this one left it, with data.
#[test]
fn a_ledger_of_the_second_version_keeps_what_it_has() {
    let rig = Rig::new();
    let one = Mailbox::parse("1").unwrap();
    let (ledger, _) = rig.open();
    ledger.given(given(&one, 4, 10), None);
    rig.send(&ledger, &dialog(1, UNIX + 60), 7);
    ledger.delivered(&dialog(1, UNIX + 60), 7, new(3));
    ledger.lit(&account("boss"), new(3), vec![member("1", true)]);
    drop(ledger);
    let old = "DROP TABLE accounts; DROP TABLE members; DROP TABLE contexts;
               DROP TABLE publications; DROP TABLE ways; DROP TABLE running;
               PRAGMA user_version = 2";
    Connection::open(rig.path()).unwrap().execute_batch(old).unwrap();
    let (ledger, memory) = rig.open();
    assert_eq!(memory.mailboxes, [given(&one, 4, 10)]);
    assert_eq!(memory.dialogs[0].1.delivered, Some(new(3)));
    assert_eq!((memory.accounts, rig.aside()), (vec![], vec![]));
    ledger.lit(&account("boss"), new(3), vec![member("1", true)]);
    drop(ledger);
    assert_eq!(rig.memory().accounts, [last("boss", 3, &[member("1", true)])]);
}

#[test]
fn names_in_the_ledger_that_are_none_are_left_out() {
    let rig = Rig::new();
    let (ledger, _) = rig.open();
    ledger.lit(&account("boss"), new(3), vec![member("1", true)]);
    ledger.lit(&account("desk"), new(3), vec![member("1", true)]);
    drop(ledger);
    let bad = "UPDATE accounts SET account = 'sip:a b@c' WHERE account = 'sip:desk@example.com';
               UPDATE members SET account = 'sip:a b@c' WHERE account = 'sip:desk@example.com';
               INSERT INTO members VALUES ('sip:boss@example.com', 'b', '../../etc', 1);";
    Connection::open(rig.path()).unwrap().execute_batch(bad).unwrap();
    assert_eq!(rig.memory().accounts, [last("boss", 3, &[member("1", true)])]);
}

#[test]
fn what_accounts_show_outlives_a_ledger_that_could_not_be_written() {
    let rig = Rig::new();
    let (ledger, _) = rig.open();
    ledger.lit(&account("boss"), new(1), vec![member("1", true)]);
    ledger.context("default", 7);
    rig.send(&ledger, &dialog(1, UNIX + 60), 7);
    let other = Connection::open(rig.path()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    rig.send(&ledger, &dialog(1, UNIX + 60), 8);
    assert!(!rig.path().exists());
    drop(ledger);
    drop(other);
    for _ in 0..2 {
        let memory = rig.memory();
        assert_eq!(memory.accounts, [last("boss", 1, &[member("1", true)])]);
        assert_eq!(memory.contexts, [("default".into(), 7)]);
        assert!(!rig.folder.path().join("state/ledger.db.given").exists());
    }
}

#[test]
fn a_second_daemon_on_one_ledger_is_refused_and_told_who_has_it() {
    let rig = Rig::new();
    let (_ledger, _) = rig.open();
    let Err(LockError::Held { pid, .. }) = Ledger::open(&rig.path(), UNIX) else {
        panic!("two daemons on one ledger");
    };
    assert_eq!(pid, std::process::id().to_string());
}

/// Whoever may write to the folder would choose what root overwrites.
#[test]
fn a_lock_that_is_a_link_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, victim) = (folder.path().join("ledger.db"), folder.path().join("victim"));
    let lock = folder.path().join("ledger.db.lock");
    std::os::unix::fs::symlink(&victim, &lock).unwrap();
    let refused = || lock::take(&path).unwrap_err().to_string();
    refused();
    assert!(!victim.exists());
    fs::write(&victim, "precious").unwrap();
    let said = refused();
    let remedy = format!("is a link, which mwid does not follow: rm {}", lock.display());
    assert!(said.contains(&remedy), "{said}");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

/// The machine went down between the two renames of a taking over.
#[test]
fn a_taking_over_that_was_cut_short_is_finished_by_the_next_start() {
    let rig = Rig::new();
    let beside = |suffix: &str| rig.path().with_file_name(format!("ledger.db{suffix}"));
    let mailbox = Mailbox::new("202", "example.com").unwrap();
    let give = |count| {
        let (ledger, _) = rig.open();
        ledger.given(given(&mailbox, count, 1), None);
        rig.send(&ledger, &dialog(1, UNIX + 60), 7);
        let journal = fs::read(beside("-wal")).unwrap();
        drop(ledger);
        journal
    };
    let known = || rig.memory().mailboxes;
    give(3);
    let copy = fs::read(rig.path()).unwrap();
    let journal = give(4);
    // The former file is set aside, its journal not yet.
    fs::remove_file(rig.path()).unwrap();
    fs::write(beside(".copy"), copy).unwrap();
    fs::write(beside("-wal"), journal).unwrap();
    assert_eq!(known(), [given(&mailbox, 3, 1)]);
    assert!(!beside(".copy").exists() && rig.aside().is_empty());

    // Cut short before: the copy is not whole, and the ledger is what it was.
    fs::write(beside(".copy"), "half").unwrap();
    fs::write(beside(".copy-journal"), "half").unwrap();
    assert_eq!(known(), [given(&mailbox, 3, 1)]);
    assert!(!beside(".copy").exists() && !beside(".copy-journal").exists());
}
