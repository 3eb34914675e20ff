//! What went away while nobody looked: removed mailboxes are empty, missing folders are errors.

use std::fs;
use std::os::unix::fs::MetadataExt;

use mwid::config::Watch;
use mwid::source;

use super::{HOUR, Past, Rig, counts, mailbox};

impl Rig {
    /// What a run that counted these mailboxes of context `default` left behind.
    fn was(&self, numbers: &[&str]) -> Past {
        let folder = fs::metadata(self.root().join("default")).unwrap();
        Past {
            given: Vec::new(),
            mailboxes: numbers.iter().map(|number| mailbox(number)).collect(),
            contexts: vec![("default".into(), folder.ino())],
        }
    }

    /// Starts again after these mailboxes of context `default` were counted.
    fn start_after(&mut self, past: Past) {
        self.past = past;
        self.start();
    }

    fn is_complete(&mut self) -> bool {
        let counted = self.spool().health().last_full_count.is_some();
        assert!(counted, "nothing was counted yet");
        self.until_marker();
        self.complete > 0
    }

    /// Waits until all is counted.
    fn until_complete(&mut self) {
        while self.complete == 0 {
            if let source::Observation::Complete = self.hear().expect("the source ended") {
                self.complete += 1;
            }
        }
    }

    fn is_missed(&self) -> String {
        let health = self.healthy("missed", |it| it.troubles_total > 0);
        health.troubles[0].error.clone()
    }
}

#[test]
fn a_mailbox_that_was_removed_meanwhile_is_empty_and_before_all_is_complete() {
    for watch in [Watch::Inotify, Watch::Poll] {
        let mut rig = Rig::new();
        rig.leave("default/202/INBOX", 0);
        rig.past = rig.was(&["202", "203", "204"]);
        rig.start_as(watch, HOUR);
        rig.expect("203", counts(0, 0, 0));
        assert_eq!(rig.complete, 0);
        rig.until_complete();
        rig.healthy("counted", |it| it.mailboxes == 1);
        rig.spool().rescan();
        rig.expect("202", counts(1, 0, 0));
        assert_eq!(rig.until_marker(), [], "once");
    }
}

#[test]
fn the_only_mailbox_of_a_context_may_have_been_removed() {
    let mut rig = Rig::new();
    fs::create_dir_all(rig.root().join("default")).unwrap();
    let past = rig.was(&["202"]);
    rig.start_after(past);
    rig.expect("202", counts(0, 0, 0));
    rig.until_complete();
}

#[test]
fn a_context_that_went_away_meanwhile_is_an_error_until_an_operator_forgets_it() {
    let mut rig = Rig::new();
    rig.leave("default/202/INBOX", 0);
    rig.leave("example.com/300/INBOX", 0);
    let past = rig.was(&["202"]);
    fs::remove_dir_all(rig.root().join("default")).unwrap();
    rig.start_after(past);
    let error = rig.is_missed();
    let expected = "default: it is gone; the 1 mailboxes that were in it keep their last state. \
                    `mwid forget default` if they are gone for good";
    assert!(error.ends_with(expected), "{error}");
    rig.counted();
    rig.expect("300@example.com", counts(1, 0, 0));
    assert!(!rig.is_complete(), "who knows what else was in it?");
    assert!(!rig.spool().forget("example.com"), "nothing is missed there");
    assert!(rig.spool().forget("default"));
    rig.expect("202", counts(0, 0, 0));
    rig.expect("300@example.com", counts(1, 0, 0));
    rig.healthy("well", |it| it.troubles_total == 0);
    rig.until_complete();
}

/// A mount that failed leaves the folder under it, perhaps with what Asterisk recorded since.
#[test]
fn another_folder_with_few_of_the_mailboxes_is_an_error() {
    for found in [0, 1] {
        let mut rig = Rig::new();
        rig.leave("example.com/300/INBOX", 0);
        rig.leave("default/202/INBOX", 0);
        let past = rig.was(&["202", "203", "204", "205"]);
        let (here, away) = (rig.root().join("default"), rig.dir.path().join("away"));
        fs::rename(&here, &away).unwrap();
        fs::create_dir(&here).unwrap();
        if found > 0 {
            rig.leave("default/202/INBOX", 5);
        }
        rig.start_after(past);
        let error = rig.is_missed();
        let lost = format!("{} mailboxes are not in it", 4 - found);
        assert!(error.contains(&lost) && error.contains("mwid forget default"), "{error}");
        rig.counted();
        assert!(!rig.is_complete());
        assert_eq!(rig.listed.len(), 1, "the wrong folder is not remembered: {:?}", rig.listed);
        // It is mounted after all, with a mailbox less.
        fs::rename(&here, rig.dir.path().join("under")).unwrap();
        fs::rename(&away, &here).unwrap();
        rig.expect("203", counts(0, 0, 0));
        rig.healthy("well", |it| it.troubles_total == 0);
    }
}

#[test]
fn another_folder_with_most_of_the_mailboxes_is_a_restored_one() {
    let mut rig = Rig::new();
    rig.leave("default/202/INBOX", 0);
    rig.leave("default/203/INBOX", 0);
    let mut past = rig.was(&["202", "203", "204"]);
    let inode = past.contexts[0].1;
    past.contexts[0].1 = inode + 1;
    rig.start_after(past);
    rig.expect("204", counts(0, 0, 0));
    rig.until_complete();
    rig.until_marker();
    assert_eq!(rig.listed, [("default".into(), inode)]);
}

#[test]
fn an_empty_root_and_none_at_all_are_errors_after_a_restart_too() {
    for there in [false, true] {
        let mut rig = Rig::new();
        rig.leave("default/202/INBOX", 0);
        let past = rig.was(&["202", "203"]);
        let away = rig.dir.path().join("away");
        fs::rename(rig.root(), &away).unwrap();
        if there {
            fs::create_dir(rig.root()).unwrap();
        }
        rig.start_after(past);
        rig.is_missed();
        assert_eq!(rig.until_marker(), []);
        assert!(!rig.spool().forget("default"), "it is the root that is missed");
        if there {
            fs::remove_dir(rig.root()).unwrap();
        }
        fs::rename(&away, rig.root()).unwrap();
        rig.expect("203", counts(0, 0, 0));
        rig.until_complete();
    }
}
