//! What went away while all nodes were down.

use std::fs;

use mwid_core::summary::Summary;

use crate::platform::{LIMIT, Platform, Scope, Setup};
use crate::support::fleet::daemon::Daemon;
use crate::support::fleet::spool::{CONTEXT, Spool};
use crate::support::wait_for;

const DARK: Summary = Summary { new: 0, old: 0, new_urgent: 0, old_urgent: 0 };
const ONE: Summary = Summary { new: 1, ..DARK };

/// Waits until the phones of these mailboxes show this.
fn show(platform: &Platform, expected: &[(usize, Summary)]) {
    for (number, summary) in expected {
        wait_for(&format!("{number} to show {summary}"), LIMIT, || {
            platform.board.check();
            (platform.shows(*number) == Some(*summary)).then_some(())
        });
    }
}

fn remove(spool: &Spool, number: usize) {
    fs::remove_dir_all(spool.root().join(CONTEXT).join(Spool::user(number))).unwrap();
}

/// Every node reads this from its next start on.
fn map(platform: &Platform, mailbox: usize, account: usize) {
    for node in &platform.nodes {
        let configuration = fs::read_to_string(node.config()).unwrap();
        let (mailbox, account) = (Spool::user(mailbox), Spool::user(account));
        let line = format!("[mailboxes]\n{mailbox}@{CONTEXT} = sip:{account}@{CONTEXT}\n");
        fs::write(node.config(), configuration + &line).unwrap();
    }
}

fn stop(platform: &mut Platform) {
    platform.nodes.iter_mut().for_each(Daemon::stop);
}

fn start(platform: &mut Platform) {
    platform.board.expect_another_start();
    platform.nodes.iter_mut().for_each(Daemon::spawn);
    platform.nodes.iter_mut().for_each(Daemon::wait_until_up);
}

#[test]
fn with_spools_of_their_own_each_node_looks_for_what_it_counted() {
    let mut platform = Setup::new("downtime, own", 2, Scope::Own).build();
    for (spool, number) in [(0, 3), (1, 4), (0, 5), (1, 5), (0, 7)] {
        platform.spools[spool].leave(number);
    }
    platform.start();
    platform.settle();
    stop(&mut platform);
    remove(&platform.spools[0], 3);
    remove(&platform.spools[0], 5);
    map(&platform, 7, 8);
    // Not mounted when it starts again.
    let root = platform.spools[1].root().to_owned();
    fs::rename(root.join(CONTEXT), root.join("away")).unwrap();
    start(&mut platform);
    show(&platform, &[(3, DARK), (4, ONE), (5, ONE), (7, DARK), (8, ONE)]);
    platform.nodes[1].wait_for_word("`mwid forget example.com`", 1, LIMIT);
    assert_eq!(platform.nodes[0].number("/spool/troubles_total"), 0, "what others count is theirs");
    fs::rename(root.join("away"), root.join(CONTEXT)).unwrap();
    platform.spools[1].leave(4);
    show(&platform, &[(4, Summary { new: 2, ..DARK }), (5, ONE)]);
}

#[test]
fn with_a_spool_that_all_see_what_is_gone_is_dark() {
    let mut platform = Setup::new("downtime, shared", 2, Scope::Shared).build();
    for number in [3, 4, 7] {
        platform.spools[0].leave(number);
    }
    platform.start();
    platform.settle();
    stop(&mut platform);
    remove(&platform.spools[0], 3);
    map(&platform, 7, 8);
    start(&mut platform);
    show(&platform, &[(3, DARK), (4, ONE), (7, DARK), (8, ONE)]);
}

/// Whoever tells it in the end has heard of it.
#[test]
fn a_mapping_that_was_removed_is_known_to_the_node_that_is_left() {
    for left in [0, 1] {
        let mut platform = Setup::new("downtime, one is left", 2, Scope::Own).build();
        let number = platform.owned_by(1 - left, &[0, 1]);
        let other = (0..).find(|other| *other != number).unwrap();
        platform.spools[left].leave(number);
        platform.start();
        platform.settle();
        stop(&mut platform);
        map(&platform, number, other);
        platform.board.expect_another_start();
        platform.nodes[left].start();
        show(&platform, &[(number, DARK), (other, ONE)]);
    }
}
