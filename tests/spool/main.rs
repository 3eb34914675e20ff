//! The spool source on real folders and the real kernel. Nothing here sleeps: every test waits for
//! an observation with a deadline. That nothing is observed is shown by a marker that comes after.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mwid::config;
use mwid::source;
use mwid::source::spool::{Past, RootState, Spool, SpoolHealth};
use mwid_core::mailbox::Mailbox;
use mwid_core::summary::Summary;
use tokio::sync::mpsc;

mod restart;

const DEADLINE: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3600);

/// A mailbox was counted.
#[derive(Debug, PartialEq)]
struct Observation {
    mailbox: Mailbox,
    summary: Summary,
    source: &'static str,
}

struct Rig {
    dir: tempfile::TempDir,
    /// What the next start knows from before.
    past: Past,
    spool: Option<Spool>,
    observations: mpsc::Receiver<source::Observation>,
    runtime: tokio::runtime::Runtime,
    markers: u32,
    failed: Vec<Mailbox>,
    listed: Vec<(Box<str>, u64)>,
    complete: u32,
}

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn counts(inbox: u32, old: u32, urgent: u32) -> Summary {
    Summary::from_asterisk(inbox, old, urgent)
}

/// Leaves a message as Asterisk does: recorded in `tmp`, then renamed into the folder.
fn leave(root: &Path, folder: &str, number: u32) {
    let folder = root.join(folder);
    let tmp = folder.parent().unwrap().join("tmp");
    fs::create_dir_all(&tmp).unwrap();
    fs::create_dir_all(&folder).unwrap();
    for kind in ["wav", "txt"] {
        fs::write(tmp.join(format!("x.{kind}")), "x").unwrap();
        let message = folder.join(format!("msg{number:04}.{kind}"));
        fs::rename(tmp.join(format!("x.{kind}")), message).unwrap();
    }
}

impl Rig {
    /// A spool whose root is not there yet.
    fn new() -> Self {
        let (_, observations) = mpsc::channel(1);
        Self {
            dir: tempfile::tempdir().unwrap(),
            past: Past::default(),
            spool: None,
            observations,
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap(),
            markers: 0,
            failed: Vec::new(),
            listed: Vec::new(),
            complete: 0,
        }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("voicemail")
    }

    fn leave(&self, folder: &str, number: u32) {
        leave(&self.root(), folder, number);
    }

    fn start(&mut self) {
        self.start_as(config::Watch::Inotify, HOUR);
    }

    fn start_as(&mut self, watch: config::Watch, rescan: Duration) {
        let poll = if watch == config::Watch::Poll { Duration::from_millis(50) } else { HOUR };
        self.start_with(watch, poll, rescan);
    }

    fn start_with(&mut self, watch: config::Watch, poll: Duration, rescan: Duration) {
        let (sender, observations) = mpsc::channel(64);
        let path = self.root();
        let settings = config::Spool { path, watch, poll, rescan, ..config::Spool::default() };
        self.observations = observations;
        self.spool = Some(Spool::start(&settings, std::mem::take(&mut self.past), sender));
    }

    fn spool(&self) -> &Spool {
        self.spool.as_ref().unwrap()
    }

    /// What the source says next, whatever it is.
    fn hear(&mut self) -> Option<source::Observation> {
        let next = async { tokio::time::timeout(DEADLINE, self.observations.recv()).await };
        self.runtime.block_on(next).expect("no observation within the deadline")
    }

    /// The next mailbox that was counted.
    fn next(&mut self) -> Option<Observation> {
        loop {
            match self.hear()? {
                source::Observation::Counted { mailbox, summary, source, sure, .. } => {
                    let source = if sure { source } else { "passing" };
                    return Some(Observation { mailbox, summary, source });
                }
                source::Observation::Given { mailbox, summary } => {
                    return Some(Observation { mailbox, summary, source: "given" });
                }
                source::Observation::Failed(mailbox) => self.failed.push(mailbox),
                source::Observation::Listed { context, inode } => {
                    self.listed.push((context, inode));
                }
                source::Observation::Complete => self.complete += 1,
            }
        }
    }

    /// Waits until a mailbox is observed with these counts.
    fn expect(&mut self, name: &str, summary: Summary) -> Observation {
        let mut others = Vec::new();
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            let observation = self.next().expect("the source ended");
            if observation.mailbox == mailbox(name) && observation.summary == summary {
                return observation;
            }
            others.push(observation);
        }
        panic!("{name} was not observed with {summary}, but: {others:?}");
    }

    /// Everything observed up to a marker that is put in now.
    fn until_marker(&mut self) -> Vec<Observation> {
        self.markers += 1;
        let marker = mailbox(&format!("marker{}@nowhere", self.markers));
        self.spool().nudge(marker.clone(), Some(Summary::default()));
        let mut all = Vec::new();
        loop {
            let observation = self.next().expect("the source ended");
            if observation.mailbox == marker {
                return all;
            }
            all.push(observation);
        }
    }

    /// Waits until the health has a property, which is asked for again and again.
    fn healthy(&self, what: &str, property: impl Fn(&SpoolHealth) -> bool) -> SpoolHealth {
        let start = Instant::now();
        loop {
            let health = self.spool().health();
            if property(&health) {
                return health;
            }
            assert!(start.elapsed() < DEADLINE, "never {what}: {health:?}");
            std::thread::yield_now();
        }
    }

    fn counted(&self) -> SpoolHealth {
        self.healthy("counted", |health| health.last_full_count.is_some())
    }
}

#[test]
fn at_the_start_every_mailbox_is_observed() {
    let mut rig = Rig::new();
    rig.leave("default/202/INBOX", 0);
    rig.leave("default/202/Urgent", 0);
    rig.leave("default/202/Old", 0);
    rig.leave("example.com/300/INBOX", 0);
    fs::create_dir_all(rig.root().join("default/400/INBOX")).unwrap();
    fs::create_dir_all(rig.root().join("default/greetings/unavail")).unwrap();
    rig.start();
    let mut all: Vec<_> = (0..3).map(|_| rig.next().unwrap()).collect();
    all.sort_by(|a, b| a.mailbox.cmp(&b.mailbox));
    let all: Vec<_> = all.iter().map(|it| (it.mailbox.to_string(), it.summary)).collect();
    let expected = [
        ("202@default".to_owned(), counts(1, 1, 1)),
        ("300@example.com".to_owned(), counts(1, 0, 0)),
        ("400@default".to_owned(), counts(0, 0, 0)),
    ];
    assert_eq!(all, expected);
    assert_eq!(rig.until_marker(), []);
    let health = rig.counted();
    assert_eq!((health.root, health.mailboxes), (RootState::Watching, 3));
}

#[test]
fn an_arrival_and_a_deletion_that_renumbers_are_seen() {
    let mut rig = Rig::new();
    rig.leave("default/202/INBOX", 0);
    rig.start();
    rig.expect("202", counts(1, 0, 0));
    rig.counted();
    for number in 1..5 {
        rig.leave("default/202/INBOX", number);
    }
    rig.expect("202", counts(5, 0, 0));
    let inbox = rig.root().join("default/202/INBOX");
    fs::remove_file(inbox.join("msg0000.txt")).unwrap();
    for number in 1..5 {
        let old = inbox.join(format!("msg{number:04}.txt"));
        fs::rename(old, inbox.join(format!("msg{:04}.txt", number - 1))).unwrap();
    }
    rig.expect("202", counts(4, 0, 0));
    fs::create_dir(rig.root().join("default/202/Old")).unwrap();
    let heard = rig.root().join("default/202/Old/msg0000.txt");
    fs::rename(inbox.join("msg0003.txt"), heard).unwrap();
    rig.expect("202", counts(3, 1, 0));
}

#[test]
fn messages_in_folders_made_a_moment_ago_are_not_missed() {
    let mut rig = Rig::new();
    rig.leave("default/1/INBOX", 0);
    rig.start();
    rig.expect("1", counts(1, 0, 0));
    rig.counted();
    for number in 0..20 {
        rig.leave("default/202/INBOX", number);
        rig.leave("brand.new/300/Urgent", number);
    }
    rig.expect("202", counts(20, 0, 0));
    // Either was perhaps the last to be counted, so one more message tells that both are watched.
    rig.leave("brand.new/300/Urgent", 20);
    rig.expect("300@brand.new", counts(0, 0, 21));
}

#[test]
fn a_folder_is_heard_under_the_name_that_it_has_now() {
    let mut rig = Rig::new();
    rig.leave("default/202/INBOX", 0);
    rig.leave("default/300/INBOX", 0);
    rig.start();
    rig.expect("202", counts(1, 0, 0));
    rig.expect("300", counts(1, 0, 0));
    rig.counted();
    let folder = rig.root().join("default");
    fs::rename(folder.join("202"), folder.join("203")).unwrap();
    let mut said = HashSet::new();
    while said.len() < 2 {
        let Observation { mailbox, summary, .. } = rig.next().unwrap();
        said.insert((mailbox.to_string(), summary.new));
    }
    assert_eq!(said, [("202@default".into(), 0), ("203@default".into(), 1)].into());
    fs::rename(folder.join("300/INBOX"), folder.join("300/away")).unwrap();
    rig.expect("300", counts(0, 0, 0));
    fs::rename(folder.join("300/away"), folder.join("300/INBOX")).unwrap();
    rig.expect("300", counts(1, 0, 0));
    // All that the renames say has been heard before the last of these.
    for number in 1..20 {
        for mailbox in ["203", "300"] {
            rig.leave(&format!("default/{mailbox}/INBOX"), number);
            rig.expect(mailbox, counts(number + 1, 0, 0));
        }
    }
}

#[test]
fn a_root_that_appears_later_is_picked_up() {
    let mut rig = Rig::new();
    rig.start();
    let health = rig.healthy("absent", |it| matches!(it.root, RootState::Absent { .. }));
    assert!(health.troubles[0].error.contains("voicemail: No such file"), "{health:?}");
    rig.leave("default/202/INBOX", 0);
    rig.expect("202", counts(1, 0, 0));
    rig.counted();
    assert_eq!(rig.spool().health().troubles_total, 0);
    rig.leave("default/202/INBOX", 1);
    rig.expect("202", counts(2, 0, 0));
}

#[test]
fn a_mailbox_removed_from_its_context_is_zero_once() {
    let mut rig = Rig::new();
    rig.leave("default/202/INBOX", 0);
    rig.leave("default/203/INBOX", 0);
    rig.start();
    rig.expect("202", counts(1, 0, 0));
    rig.counted();
    fs::rename(rig.root().join("default/202"), rig.dir.path().join("202")).unwrap();
    rig.expect("202", counts(0, 0, 0));
    rig.spool().rescan();
    rig.expect("203", counts(1, 0, 0));
    assert_eq!(rig.until_marker(), []);
    assert_eq!(rig.spool().health().troubles_total, 0);
}

#[test]
fn a_context_that_vanishes_is_an_error_and_never_a_zero() {
    let mut rig = Rig::new();
    rig.leave("default/202/INBOX", 0);
    rig.leave("example.com/300/INBOX", 0);
    rig.start();
    rig.expect("202", counts(1, 0, 0));
    rig.counted();
    rig.until_marker();
    let (here, away) = (rig.root().join("default"), rig.dir.path().join("away"));
    fs::rename(&here, &away).unwrap();
    let health = rig.healthy("in trouble", |it| it.troubles_total == 1);
    assert!(
        health.troubles[0].error.contains("default: it is gone; the 1 mailboxes"),
        "{health:?}"
    );
    rig.spool().nudge(mailbox("202"), None);
    rig.spool().rescan();
    rig.expect("300@example.com", counts(1, 0, 0));
    assert_eq!(rig.until_marker(), []);
    // Another folder in its place is not proof either: that is what an unmount looks like.
    fs::create_dir(&here).unwrap();
    rig.leave("default/203/INBOX", 0);
    rig.expect("203", counts(1, 0, 0));
    rig.spool().rescan();
    rig.expect("300@example.com", counts(1, 0, 0));
    assert!(rig.until_marker().iter().all(|it| it.mailbox != mailbox("202")));
    assert_eq!(rig.spool().health().troubles_total, 1);
    // Back again, with a message more.
    fs::rename(&here, rig.dir.path().join("other")).unwrap();
    leave(&away, "202/INBOX", 1);
    fs::rename(&away, &here).unwrap();
    rig.expect("202", counts(2, 0, 0));
    rig.leave("default/202/INBOX", 2);
    rig.expect("202", counts(3, 0, 0));
}

#[test]
fn an_emptied_root_is_an_error_and_never_a_zero() {
    let mut rig = Rig::new();
    rig.leave("default/202/INBOX", 0);
    rig.start();
    rig.expect("202", counts(1, 0, 0));
    rig.counted();
    let away = rig.dir.path().join("away");
    fs::rename(rig.root(), &away).unwrap();
    fs::create_dir(rig.root()).unwrap();
    let health = rig.healthy("absent", |it| matches!(it.root, RootState::Absent { .. }));
    assert!(!health.troubles.is_empty());
    rig.spool().rescan();
    rig.healthy("empty", |it| it.troubles.iter().any(|it| it.error.contains("is it mounted?")));
    assert_eq!(rig.until_marker(), []);
    fs::remove_dir(rig.root()).unwrap();
    fs::rename(&away, rig.root()).unwrap();
    rig.expect("202", counts(1, 0, 0));
    rig.healthy("well", |it| it.troubles_total == 0);
    rig.leave("default/202/INBOX", 1);
    rig.expect("202", counts(2, 0, 0));
}

#[test]
fn an_unreadable_folder_is_an_error_until_it_is_readable() {
    let mut rig = Rig::new();
    rig.leave("default/202/INBOX", 0);
    rig.leave("default/203/INBOX", 0);
    // Root reads everything, so this is ENOTDIR and ELOOP in place of EACCES.
    fs::write(rig.root().join("default/202/Old"), "").unwrap();
    symlink("Urgent", rig.root().join("default/203/Urgent")).unwrap();
    rig.start();
    let health = rig.healthy("in trouble", |it| it.troubles_total == 2);
    assert!(health.troubles[0].error.contains("default/202/Old: Not a directory"), "{health:?}");
    rig.counted();
    assert_eq!(rig.until_marker(), []);
    // Said as failed, so that no account that they are a part of is told half a sum.
    assert!(rig.failed.contains(&mailbox("202")) && rig.failed.contains(&mailbox("203")));
    assert_eq!(rig.complete, 1);
    fs::remove_file(rig.root().join("default/202/Old")).unwrap();
    fs::remove_file(rig.root().join("default/203/Urgent")).unwrap();
    rig.expect("202", counts(1, 0, 0));
    rig.expect("203", counts(1, 0, 0));
    rig.healthy("well", |it| it.troubles_total == 0 && it.mailboxes == 2);
}

#[test]
fn one_folder_with_two_names_is_observed_under_both() {
    let mut rig = Rig::new();
    rig.leave("default/202/INBOX", 0);
    symlink("default", rig.root().join("example.com")).unwrap();
    symlink("202", rig.root().join("default/300")).unwrap();
    rig.start();
    let names = ["202", "300", "202@example.com", "300@example.com"];
    for _ in names {
        assert_eq!(rig.next().unwrap().summary, counts(1, 0, 0));
    }
    rig.counted();
    rig.leave("default/202/INBOX", 1);
    let mut seen = Vec::new();
    while names.iter().any(|name| !seen.contains(&mailbox(name))) {
        let observation = rig.next().unwrap();
        assert_eq!(observation.summary, counts(2, 0, 0));
        seen.push(observation.mailbox);
    }
}

#[test]
fn a_link_turned_to_another_folder_is_followed() {
    let mut rig = Rig::new();
    leave(rig.dir.path(), "one/202/INBOX", 0);
    leave(rig.dir.path(), "two/202/INBOX", 0);
    leave(rig.dir.path(), "two/202/INBOX", 1);
    fs::create_dir(rig.root()).unwrap();
    symlink(rig.dir.path().join("one"), rig.root().join("default")).unwrap();
    rig.start();
    rig.expect("202", counts(1, 0, 0));
    rig.counted();
    symlink(rig.dir.path().join("two"), rig.root().join("new")).unwrap();
    fs::rename(rig.root().join("new"), rig.root().join("default")).unwrap();
    rig.expect("202", counts(2, 0, 0));
    leave(rig.dir.path(), "two/202/INBOX", 2);
    rig.expect("202", counts(3, 0, 0));
}

#[test]
fn bad_names_are_skipped_and_counted() {
    use std::os::unix::ffi::OsStrExt;
    let mut rig = Rig::new();
    rig.leave("default/202/INBOX", 0);
    rig.leave("default/a@b/INBOX", 0);
    rig.leave("default/x\r\ny/INBOX", 0);
    rig.leave("default/.hidden/INBOX", 0);
    rig.leave("a@context/1/INBOX", 0);
    let latin = std::ffi::OsStr::from_bytes(b"caf\xe9");
    fs::create_dir(rig.root().join("default").join(latin)).unwrap();
    fs::write(rig.root().join("default/a-file"), "").unwrap();
    rig.start();
    rig.expect("202", counts(1, 0, 0));
    assert_eq!(rig.until_marker(), []);
    rig.spool().rescan();
    rig.expect("202", counts(1, 0, 0));
    assert_eq!(rig.healthy("counted", |it| it.bad_names == 4).troubles_total, 0);
}

#[test]
fn a_nudge_counts_what_the_spool_has_and_believes_what_it_is_given_otherwise() {
    let mut rig = Rig::new();
    rig.leave("default/202/INBOX", 0);
    fs::create_dir_all(rig.root().join("odbc/300/tmp")).unwrap();
    rig.start();
    rig.expect("202", counts(1, 0, 0));
    rig.counted();
    rig.spool().nudge(mailbox("202"), Some(counts(9, 9, 9)));
    let observation = rig.next().unwrap();
    assert_eq!((observation.summary, observation.source), (counts(1, 0, 0), "passing"));
    // It is looked at again, whether the message stays.
    let observation = rig.next().unwrap();
    assert_eq!((observation.summary, observation.source), (counts(1, 0, 0), "spool"));
    rig.spool().nudge(mailbox("300@odbc"), Some(counts(2, 1, 0)));
    let observation = rig.next().unwrap();
    assert_eq!((observation.summary, observation.source), (counts(2, 1, 0), "given"));
    rig.spool().nudge(mailbox("300@odbc"), None);
    rig.spool().nudge(mailbox("unknown"), None);
    assert_eq!(rig.until_marker(), []);
    // A rescan does not take back what externnotify said of a mailbox that is elsewhere.
    rig.spool().rescan();
    rig.expect("202", counts(1, 0, 0));
    assert_eq!(rig.until_marker(), []);
}

/// What app_voicemail does: leaves the message in the spool, stores it, calls, removes it.
#[test]
fn odbc_storage_the_call_is_believed_when_the_file_does_not_stay() {
    let mut rig = Rig::new();
    rig.leave("default/300/INBOX", 0);
    fs::create_dir_all(rig.root().join("default/202/INBOX")).unwrap();
    rig.start();
    rig.expect("202", counts(0, 0, 0));
    rig.until_marker();
    let given = |rig: &mut Rig, summary| {
        let seen = rig.expect("202", summary);
        assert_eq!(seen.source, "given");
    };
    for total in 4..6 {
        rig.leave("default/202/INBOX", 0);
        rig.spool().nudge(mailbox("202"), Some(counts(total, 1, 0)));
        fs::remove_file(rig.root().join("default/202/INBOX/msg0000.txt")).unwrap();
        given(&mut rig, counts(total, 1, 0));
    }
    rig.until_marker();
    rig.spool().rescan();
    given(&mut rig, counts(5, 1, 0));
    // Asked to count it itself: that is no newer truth.
    rig.spool().nudge(mailbox("202"), None);
    given(&mut rig, counts(5, 1, 0));
    // Heard and deleted; then one that is urgent.
    rig.spool().nudge(mailbox("202"), Some(counts(0, 0, 0)));
    assert_eq!(rig.expect("202", counts(0, 0, 0)).source, "call");
    rig.leave("default/202/Urgent", 0);
    rig.spool().nudge(mailbox("202"), Some(counts(0, 0, 2)));
    fs::remove_file(rig.root().join("default/202/Urgent/msg0000.txt")).unwrap();
    given(&mut rig, counts(0, 0, 2));
}

#[test]
fn file_storage_a_message_that_is_deleted_at_once_ends_at_0() {
    let mut rig = Rig::new();
    fs::create_dir_all(rig.root().join("default/202/INBOX")).unwrap();
    rig.start();
    rig.expect("202", counts(0, 0, 0));
    rig.leave("default/202/INBOX", 0);
    rig.spool().nudge(mailbox("202"), Some(counts(1, 0, 0)));
    rig.expect("202", counts(1, 0, 0));
    fs::remove_file(rig.root().join("default/202/INBOX/msg0000.txt")).unwrap();
    rig.spool().nudge(mailbox("202"), Some(counts(0, 0, 0)));
    rig.expect("202", counts(0, 0, 0));
    rig.until_marker();
    rig.spool().rescan();
    assert_eq!(rig.expect("202", counts(0, 0, 0)).source, "spool");
}

#[test]
fn what_a_call_said_before_a_restart_is_still_believed() {
    let mut rig = Rig::new();
    fs::create_dir_all(rig.root().join("default/202/INBOX")).unwrap();
    rig.leave("default/203/INBOX", 0);
    let (sender, observations) = mpsc::channel(64);
    let settings = config::Spool { path: rig.root(), ..config::Config::default().spool };
    let given = [(mailbox("202"), counts(2, 0, 0)), (mailbox("203"), counts(7, 0, 0))];
    rig.observations = observations;
    let past = Past { given: given.to_vec(), ..Past::default() };
    rig.spool = Some(Spool::start(&settings, past, sender));
    assert_eq!(rig.expect("202", counts(2, 0, 0)).source, "given");
    let mut seen = rig.expect("203", counts(1, 0, 0));
    while seen.source != "spool" {
        assert_eq!(seen.source, "passing");
        seen = rig.expect("203", counts(1, 0, 0));
    }
}

#[test]
fn polling_sees_changes_and_is_silent_about_the_rest() {
    let mut rig = Rig::new();
    rig.leave("default/202/INBOX", 0);
    rig.leave("default/203/INBOX", 0);
    rig.start_as(config::Watch::Poll, HOUR);
    rig.expect("202", counts(1, 0, 0));
    assert_eq!(rig.counted().folders_watched, 0);
    rig.until_marker();
    rig.leave("default/202/INBOX", 1);
    assert_eq!(rig.next().unwrap().summary, counts(2, 0, 0));
    rig.leave("default/204/Urgent", 0);
    assert_eq!(rig.next().unwrap().mailbox, mailbox("204"));
    fs::remove_dir_all(rig.root().join("default/204")).unwrap();
    rig.expect("204", counts(0, 0, 0));
    fs::remove_dir_all(rig.root().join("default/203/INBOX")).unwrap();
    rig.expect("203", counts(0, 0, 0));
    assert_eq!(rig.until_marker(), []);
}

#[test]
fn a_rescan_repeats_everything_by_itself() {
    let mut rig = Rig::new();
    rig.leave("default/202/INBOX", 0);
    rig.start_as(config::Watch::Inotify, Duration::from_millis(30));
    for _ in 0..5 {
        assert_eq!(rig.next().unwrap().summary, counts(1, 0, 0));
    }
}

#[test]
fn dropping_the_handle_ends_the_thread() {
    let mut rig = Rig::new();
    rig.leave("default/202/INBOX", 0);
    rig.start();
    rig.expect("202", counts(1, 0, 0));
    rig.spool = None;
    assert_eq!(rig.next(), None);
}

#[test]
fn a_full_channel_delays_and_loses_nothing() {
    let mut rig = Rig::new();
    for number in 0..300 {
        rig.leave(&format!("default/{number}/INBOX"), 0);
    }
    rig.start();
    // The channel holds 64; nobody has taken one yet.
    rig.spool().nudge(mailbox("777"), Some(counts(7, 0, 0)));
    let mut seen = std::collections::HashSet::new();
    while seen.len() < 301 {
        seen.insert(rig.next().unwrap().mailbox);
    }
}

/// Those that were not counted yet were taken for no mailboxes, and nothing was heard of them again.
#[test]
fn a_root_that_goes_away_again_while_it_is_counted_is_counted_when_it_is_back() {
    const ALL: usize = 300;
    let mut rig = Rig::new();
    (0..ALL).for_each(|number| rig.leave(&format!("default/{number}/INBOX"), 0));
    rig.start();
    let first: HashSet<_> = (0..ALL).map(|_| rig.next().unwrap().mailbox).collect();
    assert_eq!(first.len(), ALL);
    let away = rig.dir.path().join("away");
    fs::rename(rig.root(), &away).unwrap();
    rig.healthy("absent", |it| matches!(it.root, RootState::Absent { .. }));
    while rig.observations.try_recv().is_ok() {}

    // The channel holds 64: the count stands still until somebody takes them.
    let before = rig.spool().health().last_full_count;
    fs::rename(&away, rig.root()).unwrap();
    rig.healthy("under way", |_| rig.observations.len() == 64);
    fs::rename(rig.root(), &away).unwrap();
    let start = Instant::now();
    while rig.spool().health().last_full_count == before {
        let _ = rig.observations.try_recv();
        assert!(start.elapsed() < DEADLINE, "the count does not end");
    }
    fs::rename(&away, rig.root()).unwrap();
    (0..ALL).for_each(|number| rig.leave(&format!("default/{number}/INBOX"), 1));
    let mut right = HashSet::new();
    while right.len() < ALL {
        let Observation { mailbox, summary, .. } = rig.next().unwrap();
        if summary == counts(2, 0, 0) {
            right.insert(mailbox);
        }
    }
}

/// The watch of a folder with this inode, by its number, among those of this process.
fn watch_of(inode: u64) -> Option<String> {
    let wanted = format!("ino:{inode:x}");
    let all = fs::read_dir("/proc/self/fdinfo").unwrap();
    let texts = all.filter_map(|it| fs::read_to_string(it.unwrap().path()).ok());
    let lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    let mut ours = lines.filter(|it| it.starts_with("inotify ") && it.contains(&wanted));
    ours.find_map(|line| line.split(' ').nth(1).map(str::to_owned))
}

/// The name of the root leads to it while it moves, so that nobody sees it gone; the kernel says that
/// it moved, and it is to be watched anew.
#[test]
fn a_root_that_was_moved_away_and_back_is_watched_on() {
    let mut rig = Rig::new();
    rig.leave("default/202/INBOX", 0);
    let here = rig.dir.path().join("here");
    fs::rename(rig.root(), &here).unwrap();
    let open = fs::File::open(&here).unwrap();
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
    symlink(link, rig.root()).unwrap();
    rig.start();
    rig.expect("202", counts(1, 0, 0));
    rig.counted();
    let inode = std::os::unix::fs::MetadataExt::ino(&open.metadata().unwrap());
    let before = watch_of(inode).expect("the root is watched");
    let away = rig.dir.path().join("away");
    fs::rename(&here, &away).unwrap();
    fs::rename(&away, &here).unwrap();
    rig.healthy("watched anew", |_| watch_of(inode).is_some_and(|it| it != before));
    rig.leave("other/300/INBOX", 0);
    rig.expect("300@other", counts(1, 0, 0));
}

/// Runs itself again in a user namespace where the kernel allows six watches.
#[test]
fn where_the_kernel_cannot_watch_everything_the_rest_is_polled() {
    const INSIDE: &str = "MWID_TEST_SIX_WATCHES";
    const NAME: &str = "where_the_kernel_cannot_watch_everything_the_rest_is_polled";
    if std::env::var_os(INSIDE).is_none() {
        let limit = "echo 6 > /proc/sys/user/max_inotify_watches";
        let unshare = |line: &str| {
            let mut command = std::process::Command::new("unshare");
            command.args(["--user", "--map-root-user", "sh", "-c", line]).env(INSIDE, "1");
            command.output().unwrap()
        };
        let probe = unshare(limit);
        let error = String::from_utf8_lossy(&probe.stderr);
        assert!(probe.status.success(), "this test needs a user namespace of its own: {error}");
        let exe = std::env::current_exe().unwrap();
        let output = unshare(&format!("{limit} && exec '{}' --exact {NAME}", exe.display()));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let mut rig = Rig::new();
    for number in 0..10 {
        rig.leave(&format!("default/{number}/INBOX"), 0);
    }
    rig.start_with(config::Watch::Inotify, Duration::from_millis(50), HOUR);
    rig.counted();
    let health = rig.healthy("polled too", |it| it.also_polled.is_some());
    assert_eq!((health.root, health.folders_watched), (RootState::Watching, 5));
    let text = health.also_polled.unwrap();
    assert!(text.contains("the spool needs 42"), "{text}");
    // The advice is more than the limit that is reached, and what is needed beside it.
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").unwrap();
    let advice = text.split("max_user_watches=").nth(1).unwrap().split(' ').next().unwrap();
    let [limit, advice] = [limit.trim(), advice].map(|number| number.parse::<u64>().unwrap());
    assert!(advice >= limit + 42, "{text}");
    rig.until_marker();
    for number in 0..10 {
        rig.leave(&format!("default/{number}/INBOX"), 1);
        rig.expect(&number.to_string(), counts(2, 0, 0));
    }
}
