//! The ledger's disk is full, hangs, or has lost the ledger: the lamps come before the ledger.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::fleet::{Fleet, Setup};
use crate::support::group::Group;
use crate::support::held_up::HeldUp;
use crate::support::{SOON, process, wait_for};

/// How often mwid tries again, and time to do it.
const RETRY: Duration = Duration::from_secs(20);

/// A small file system of its own that only those see who enter its mount namespace.
struct SmallDisk {
    holder: Group,
    /// The mount as seen from outside of the namespace.
    outside: PathBuf,
}

impl SmallDisk {
    fn mount(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        let script =
            "mount -t tmpfs -o size=16m small \"$1\" && : >\"$1/mounted\" && exec sleep 600";
        let mut command = Command::new(process::program(&["unshare"], "util-linux"));
        if !process::is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(at);
        let mut holder = Group::spawn(&mut command).unwrap();
        let place = at.strip_prefix("/").unwrap();
        let outside = Path::new("/proc").join(holder.id().to_string()).join("root").join(place);
        wait_for("a small disk", SOON, || {
            if let Some(status) = holder.ended() {
                panic!(
                    "no tmpfs in a mount namespace of its own ({status}): may this user do that?"
                );
            }
            outside.join("mounted").exists().then_some(())
        });
        Self { holder, outside }
    }

    /// What puts a command into the namespace.
    fn prefix(&self) -> Vec<String> {
        let mut prefix = vec![process::program(&["nsenter"], "util-linux").display().to_string()];
        if !process::is_root() {
            prefix.extend(["--user", "--preserve-credentials"].map(str::to_owned));
        }
        prefix.extend(["--mount", "--target"].map(str::to_owned));
        prefix.push(self.holder.id().to_string());
        prefix
    }

    /// Not a byte is left, whoever frees one.
    fn fill(&self) {
        let mut filler = File::options().create(true).append(true).open(self.filler()).unwrap();
        // The last page may have room for a part of it.
        while filler.write(&[b'x'; 65_536]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.outside.join("filler")
    }
}

#[test]
fn a_full_disk_under_the_ledger_stops_no_lamp() {
    let step = Duration::from_millis(2);
    let mut fleet = Setup { seed: 51, ..Setup::new("ledger on a full disk", 60, 20) }.build();
    let disk = SmallDisk::mount(&fleet.folder().join("state"));
    fleet.mwid.run_under(disk.prefix());
    fleet.start();
    fleet.change(100, step);
    fleet.settle(SOON);
    assert!(disk.outside.join("ledger.db").exists(), "the ledger is on the small disk");

    disk.fill();
    fleet.change(100, step);
    // What the removed ledger left free is taken by others as well.
    fleet.mwid.wait_for_word("cannot be written", 1, SOON);
    disk.fill();
    // Longer than the ten seconds after which it tries again: still full, and not said again.
    fleet.change(1050, Duration::from_millis(10));
    let took = fleet.settle(SOON);
    let error = fleet.mwid.status()["ledger"]["error"].clone();
    assert!(error.as_str().is_some_and(|error| error.contains("full")), "{error}");
    // What it said would soon have been wrong; the try after that has left an empty page at most.
    let left = fs::metadata(disk.outside.join("ledger.db")).map_or(0, |ledger| ledger.len());
    assert!(left <= 4096, "{left} bytes of the ledger are left");
    fleet.mwid.wait_for_word("cannot be written", 1, SOON);
    assert_eq!(fleet.mwid.said("cannot be written"), 1, "said once");

    disk.free();
    wait_for("the ledger to be written again", RETRY, || {
        fleet.change(1, step);
        fleet.mwid.status()["ledger"]["error"].is_null().then_some(())
    });
    fleet.change(100, step);
    fleet.settle(SOON);
    fleet.mwid.wait_for_word("is written again", 1, SOON);
    assert_eq!(fleet.mwid.said("is written again"), 1);

    // A mwid that starts on a full disk does its work as well.
    fleet.mwid.stop();
    disk.fill();
    fleet.change(50, step);
    fleet.start();
    fleet.change(50, step);
    fleet.settle(SOON);
    assert!(!fleet.mwid.status()["ledger"]["error"].is_null());
    fleet.mwid.wait_for_word("cannot be written", 2, SOON);
    assert_eq!(fleet.mwid.said("cannot be written"), 2, "once more for this start");
    let names = fs::read_dir(&disk.outside).unwrap().map(|entry| entry.unwrap().file_name());
    let aside = names.filter(|name| name.to_string_lossy().contains("damaged")).count();
    assert_eq!(aside, 0, "a full disk is no damage");
    fleet.report(took, " while full");
    assert_eq!(fleet.board.figures().too_low, 0, "the rows still tell the CSeq");
}

/// mwid's thread that writes the ledger, held up as by a disk that hangs.
fn hold_up_the_writer_of(fleet: &Fleet) -> HeldUp {
    let process = fleet.mwid.number("/pid");
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let is_writer = |thread: &PathBuf| {
        fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim() == "ledger")
    };
    let thread = threads.map(|entry| entry.unwrap().path()).find(is_writer).unwrap();
    HeldUp::thread(thread.file_name().unwrap().to_str().unwrap().parse().unwrap())
}

#[test]
fn a_disk_that_hangs_under_the_ledger_stops_no_lamp() {
    let step = Duration::from_millis(2);
    let mut fleet = Setup { seed: 52, ..Setup::new("ledger on a hanging disk", 60, 20) }.build();
    fleet.start();
    fleet.change(100, step);
    fleet.settle(SOON);
    fleet.wait_until_written();

    let held = hold_up_the_writer_of(&fleet);
    fleet.change(100, step);
    let took = fleet.settle(SOON);
    fleet.change(100, step);
    fleet.settle(SOON);
    assert_eq!(fleet.mwid.said("its disk hangs"), 1, "said once");
    let status = fleet.mwid.status();
    let error = status["ledger"]["error"].as_str().unwrap_or_default();
    assert!(error.contains("its disk hangs"), "{error}");
    assert!(status["troubles"].to_string().contains("the ledger cannot be written"), "{status}");

    // What it says is old by now.
    drop(held);
    fleet.mwid.wait_for_word("it did not answer in time", 1, SOON);
    wait_for("the ledger to be written again", RETRY, || {
        fleet.change(1, step);
        fleet.mwid.status()["ledger"]["error"].is_null().then_some(())
    });
    fleet.settle(SOON);
    fleet.mwid.kill();
    fleet.start();
    fleet.settle(SOON);
    fleet.report(took, " while the disk hung");
    assert_eq!(fleet.board.figures().too_low, 0, "no CSeq was used twice");
}

#[test]
fn a_ledger_that_was_lost_is_said() {
    let mut fleet = Setup { seed: 53, ..Setup::new("lost ledger", 10, 0) }.build();
    fleet.start();
    fleet.settle(SOON);
    assert_eq!(fleet.mwid.said("is missing or empty"), 0);
    fleet.mwid.stop();
    fs::write(fleet.mwid.ledger(), "").unwrap();
    fleet.start();
    fleet.mwid.wait_for_word("is missing or empty", 1, SOON);
    fleet.mwid.stop();
    fs::remove_file(fleet.mwid.ledger()).unwrap();
    fleet.start();
    fleet.mwid.wait_for_word("is missing or empty", 2, SOON);
    fleet.settle(SOON);
}
