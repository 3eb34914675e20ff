//! inotify: can the kernel watch all voicemail folders for this user?

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Report;
use crate::config::{Config, Watch};
use crate::lock;

const WATCHES: &str = "fs.inotify.max_user_watches";
const INSTANCES: &str = "fs.inotify.max_user_instances";

/// The kernel's limits against what is to be watched.
pub(super) fn look(config: &Config, needed: usize, report: &mut Report) {
    if config.spool.watch == Watch::Poll {
        let seconds = config.spool.poll.as_secs();
        return report.ok("inotify", format!("not used: the spool is polled every {seconds} s"));
    }
    let (Some(watches), Some(instances)) = (limit(WATCHES), limit(INSTANCES)) else {
        return report.warn("inotify", "the kernel does not say its limits", "is /proc mounted?");
    };
    let others = in_use(lock::holder(&config.control.socket));
    let poll = config.spool.poll.as_secs();
    judge(needed, others, (watches, instances), poll, report);
}

/// `others` are what other programs of the user watch, who has one limit for all.
fn judge(
    needed: usize,
    others: usize,
    (watches, instances): (usize, usize),
    poll: u64,
    report: &mut Report,
) {
    let raise = |name: &str, to: usize| {
        format!("sysctl -w {name}={to}, and write {name} = {to} into /etc/sysctl.d/60-mwid.conf")
    };
    // Others watch too, and mailboxes are added.
    let wanted = needed.saturating_mul(2).saturating_add(others);
    let used = match others {
        0 => String::new(),
        _ => format!(", of which other programs of this user use {others}"),
    };
    if instances == 0 {
        report.warn("inotify", "the kernel allows no inotify at all", raise(INSTANCES, 128));
    } else if needed.saturating_add(others) > watches {
        let text = format!(
            "{needed} folders are to be watched, the kernel allows {watches}{used}: the rest is polled every {poll} s"
        );
        report.warn("inotify", text, raise(WATCHES, wanted));
    } else if wanted > watches {
        let text = format!(
            "{needed} folders are to be watched of {watches} that the kernel allows this user in all{used}: little is left for new mailboxes"
        );
        report.warn("inotify", text, raise(WATCHES, wanted));
    } else {
        report.ok("inotify", format!("{needed} folders to watch, {watches} allowed{used}"));
    }
}

fn limit(name: &str) -> Option<usize> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// How many watches this user's processes have, as far as they may be looked at, but the running mwid:
/// its own are those that it needs.
fn in_use(mwid: Option<u32>) -> usize {
    let own = nix::unistd::geteuid().as_raw();
    let mwid = mwid.map(|pid| pid.to_string());
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ours = all.filter(|process| {
        let name = process.file_name();
        name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
            && mwid.as_deref().is_none_or(|mwid| name != mwid)
            && process.metadata().is_ok_and(|it| it.uid() == own)
    });
    ours.map(|process| watches_of(&process.path())).sum()
}

/// Of one process, by its folder in /proc (proc(5), fdinfo).
fn watches_of(process: &Path) -> usize {
    let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let inotifies = files.filter(|file| {
        fs::read_link(file.path()).is_ok_and(|it| it.as_os_str() == "anon_inode:inotify")
    });
    let watches = inotifies.filter_map(|file| {
        let info = fs::read_to_string(process.join("fdinfo").join(file.file_name())).ok()?;
        Some(info.lines().filter(|line| line.starts_with("inotify wd:")).count())
    });
    watches.sum()
}

#[cfg(test)]
mod tests {
    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

    use super::*;
    use crate::doctor::{Finding, Level};

    fn judged(needed: usize, watches: usize, instances: usize) -> Finding {
        let mut report = Report::default();
        judge(needed, 0, (watches, instances), 10, &mut report);
        report.findings.remove(0)
    }

    #[test]
    fn limits_that_are_too_low_are_told_apart_and_the_remedy_doubles_what_is_needed() {
        assert_eq!(judged(100, 200, 1).level, Level::Ok);
        for (found, words) in [
            (judged(100, 199, 1), "little is left"),
            (judged(100, 99, 1), "the rest is polled every 10 s"),
        ] {
            assert_eq!(found.level, Level::Warning);
            assert!(found.text.contains(words), "{found:?}");
            let remedy = found.remedy.unwrap();
            assert!(remedy.starts_with("sysctl -w fs.inotify.max_user_watches=200, "), "{remedy}");
        }
        let none = judged(1, 200, 0).remedy.unwrap();
        assert!(none.contains("max_user_instances=128"), "{none}");
    }

    #[test]
    fn what_other_programs_of_the_user_watch_is_not_there_for_mwid() {
        let judged = |others| {
            let mut report = Report::default();
            judge(100, others, (1000, 1), 10, &mut report);
            report.findings.remove(0)
        };
        assert_eq!(judged(800).level, Level::Ok);
        for (others, words) in [(801, "little is left"), (901, "the rest is polled")] {
            let found = judged(others);
            let used = format!("of which other programs of this user use {others}: ");
            assert!(found.text.contains(&used) && found.text.contains(words), "{found:?}");
            let wanted = format!("sysctl -w fs.inotify.max_user_watches={}, ", others + 200);
            assert!(found.remedy.unwrap().starts_with(&wanted));
        }
    }

    #[test]
    fn the_watches_of_a_process_are_counted() {
        let before = watches_of("/proc/self".as_ref());
        let folders = tempfile::tempdir().unwrap();
        let inotify = inotify::init(CreateFlags::CLOEXEC).unwrap();
        for number in 0..200 {
            let folder = folders.path().join(number.to_string());
            fs::create_dir(&folder).unwrap();
            inotify::add_watch(&inotify, &folder, WatchFlags::CREATE).unwrap();
        }
        // Other tests of this process watch folders, too, a few each.
        assert!(watches_of("/proc/self".as_ref()) + 100 > before + 200);
        assert!(in_use(None) >= 200);
        assert!(in_use(Some(std::process::id())) + 100 < in_use(None));
    }
}
