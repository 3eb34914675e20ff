//! The spool unmounted: nothing is known then, and nothing is said.

use std::fs;
use std::time::Duration;

use crate::support::fleet::{Fleet, Setup};
use crate::support::{SOON, wait_for};

/// While it is gone nobody is told anything; when it is back, what changed meanwhile is told.
fn unmounted(name: &'static str, seed: u64, empty_mount_point: bool) {
    let mut fleet = Setup { seed, ..Setup::new(name, 60, 20) }.build();
    fleet.start();
    fleet.change(200, Duration::from_millis(2));
    fleet.settle(SOON);
    fleet.wait_until_written();
    let before = fleet.board.figures();
    let lit = lit(&fleet);
    assert!(lit > 20, "{lit} mailboxes have messages");

    let root = fleet.spool.root().to_owned();
    let away = root.with_extension("away");
    fs::rename(&root, &away).unwrap();
    if empty_mount_point {
        fs::create_dir(&root).unwrap();
    }
    wait_for("mwid to see it", SOON, || {
        let status = fleet.mwid.status();
        let spool = &status["spool"];
        let trouble = spool["troubles_total"].as_u64().unwrap() > 0;
        (spool["root"]["state"] == "absent" || trouble).then_some(())
    });
    // A mwid that starts just then has never seen a single mailbox, but knows of them.
    fleet.kill_and_spawn();
    fleet.mwid.wait_until_up();
    wait_for("it to miss them", SOON, || {
        (fleet.mwid.number("/spool/troubles_total") > 0).then_some(())
    });
    fleet.board.check();
    assert_eq!(fleet.board.figures().notifies, before.notifies, "nobody is told anything");

    if empty_mount_point {
        fs::remove_dir(&root).unwrap();
    }
    // On the way back it is not what it was.
    fs::create_dir_all(away.join("example.com/1000/Urgent")).unwrap();
    fs::write(away.join("example.com/1000/Urgent/msg0777.txt"), "[message]\n").unwrap();
    fs::rename(&away, &root).unwrap();
    let took = fleet.settle(SOON);
    fleet.report(took, "");
    assert_eq!(fleet.board.figures().notifies, before.notifies + 2, "mailbox 1000 has two phones");
}

fn lit(fleet: &Fleet) -> usize {
    fleet.spool.truths().iter().filter(|truth| truth.waiting()).count()
}

#[test]
fn a_spool_that_is_moved_away_darkens_no_lamp() {
    unmounted("spool moved away", 61, false);
}

#[test]
fn an_empty_mount_point_darkens_no_lamp() {
    unmounted("spool unmounted", 62, true);
}
