//! Counts of several servers add up, and one spool that all see is told once.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use mwid_core::dialog::Flavour;

use crate::platform::{LIMIT, Platform, Scope, Setup};
use crate::support::fleet::rows::Server;
use crate::support::fleet::spool::{CONTEXT, Spool};
use crate::support::mariadb::MariaDb;
use crate::support::postgres::Postgres;
use crate::support::wait_for;

/// 400 changes on all spools at once, then the truth; each phone by its one owner.
fn right_sums(setup: Setup) -> Platform {
    let nodes = setup.nodes;
    let scope = setup.scope;
    let mut platform = setup.build();
    platform.start();
    platform.settle();
    let spools: Vec<usize> = (0..platform.spools.len()).collect();
    platform.change_during(&spools, 400, |_| {});
    let took = platform.settle();
    let owned: Vec<u64> = platform.nodes.iter().map(|node| node.number("/cluster/owned")).collect();
    assert!(owned.iter().all(|owned| *owned > 0), "{owned:?}");
    platform.report(&format!("{nodes} nodes, {scope:?}, owning {owned:?}, {took:?} to converge"));
    assert_eq!(platform.board.figures().too_low, 0, "nobody counts beside another");
    platform
}

#[test]
fn own_spools_add_up_sqlite() {
    right_sums(Setup::new("own, SQLite", 2, Scope::Own));
}

#[test]
fn own_spools_add_up_mariadb() {
    let server = Server::MariaDb(MariaDb::shared());
    right_sums(Setup { server, ..Setup::new("own, MariaDB", 3, Scope::Own) });
}

#[test]
fn own_spools_add_up_postgres() {
    let server = Server::Postgres(Postgres::shared());
    let flavour = Flavour::Kamailio;
    right_sums(Setup { server, flavour, ..Setup::new("own, PostgreSQL", 3, Scope::Own) });
}

#[test]
fn a_shared_spool_counts_once_mariadb() {
    let server = Server::MariaDb(MariaDb::shared());
    right_sums(Setup { server, ..Setup::new("shared, MariaDB", 3, Scope::Shared) });
}

#[test]
fn a_shared_spool_counts_once_postgres() {
    let server = Server::Postgres(Postgres::shared());
    right_sums(Setup { server, ..Setup::new("shared, PostgreSQL", 2, Scope::Shared) });
}

/// One node has a mailbox that it cannot count, the other has it empty: the empty one is not the sum.
fn not_countable(setup: Setup) {
    let mut platform = setup.build();
    let numbers = [platform.owned_by(0, &[0, 1]), platform.owned_by(1, &[0, 1])];
    let folders =
        numbers.map(|number| platform.spools[0].root().join(CONTEXT).join(Spool::user(number)));
    for folder in &folders {
        fs::rename(folder, platform.spools[0].root().join(folder.file_name().unwrap())).unwrap();
        symlink("leads/nowhere", folder).unwrap();
    }
    // The other one cannot know of a node that never counted anything.
    platform.nodes[0].start();
    wait_for("the first node's counts", LIMIT, || {
        let status = platform.nodes[0].status();
        let cluster = &status["cluster"];
        (cluster["mailboxes"] == 60 && cluster["unpublished"] == 0).then_some(())
    });
    platform.nodes[1].start();
    let others: Vec<usize> = (0..60).filter(|number| !numbers.contains(number)).collect();
    let shown = |platform: &Platform, numbers: &[usize]| {
        numbers.iter().filter(|number| platform.shows(**number).is_some()).count()
    };
    wait_for("all others", LIMIT, || (shown(&platform, &others) == others.len()).then_some(()));
    for spool in &platform.spools {
        others.iter().for_each(|number| spool.leave(*number));
    }
    let two = |number: &usize| platform.shows(*number).is_some_and(|it| it.new == 2);
    wait_for("the others' messages", LIMIT, || others.iter().all(two).then_some(()));
    assert_eq!(shown(&platform, &numbers), 0, "nobody knows what they hold");
    for folder in &folders {
        fs::remove_file(folder).unwrap();
        fs::rename(platform.spools[0].root().join(folder.file_name().unwrap()), folder).unwrap();
    }
    platform.settle();
}

#[test]
fn what_one_node_cannot_count_is_told_by_none_sqlite() {
    not_countable(Setup::new("not countable, SQLite", 2, Scope::Own));
}

#[test]
fn what_one_node_cannot_count_is_told_by_none_mariadb() {
    let server = Server::MariaDb(MariaDb::shared());
    not_countable(Setup { server, ..Setup::new("not countable, MariaDB", 2, Scope::Own) });
}

#[test]
fn what_one_node_cannot_count_is_told_by_none_postgres() {
    let server = Server::Postgres(Postgres::shared());
    not_countable(Setup { server, ..Setup::new("not countable, PostgreSQL", 2, Scope::Own) });
}

/// A message on one server, the owner on another: how long until the phone knows.
#[test]
fn a_change_on_one_server_is_told_by_another() {
    let server = Server::Postgres(Postgres::shared());
    let setup = Setup::new("latency", 2, Scope::Own);
    let mut platform = Setup { server, min_interval: 0, ..setup }.build();
    platform.start();
    platform.settle();
    let mut times = [0, 1].map(|owner| {
        let number = platform.owned_by(owner, &[0, 1]);
        let mut times: Vec<Duration> = (0..20)
            .map(|_| {
                platform.spools[0].leave(number);
                platform.settle_one(number)
            })
            .collect();
        times.sort_unstable();
        times
    });
    let median = times.each_mut().map(|times| times[times.len() / 2]);
    platform.report(&format!(
        "median from message to lamp: own {:?}, other's {:?}",
        median[0], median[1]
    ));
}

/// A row that no mwid wrote, or a tampered one, is not believed, and the others still count.
#[test]
fn rubbish_in_the_table_is_not_believed() {
    let mut platform = Setup::new("rubbish", 2, Scope::Own).build();
    platform.tables().sql(
        "INSERT INTO mwid_counts VALUES
         ('vm9', 'example.com', '1000', -1, 0, 0, 0, 0, 0, 1),
         ('vm9', 'example.com', '../etc', 1, 0, 0, 0, 0, 0, 2),
         ('vm9', 'example.com', 'a b', 1, 0, 0, 0, 0, 0, 3),
         ('vm9', 'example.com', '%0d%0a', 1, 0, 0, 0, 0, 0, 4),
         ('vm9', 'example.com', '1001', 99999999999, 0, 0, 0, 0, 0, 5),
         ('vm9', 'example.com', '1002', 'many', 0, 0, 0, 0, 0, 6);
         INSERT INTO mwid_nodes VALUES ('nobody', 'x', 'never', 'long', 'z');",
    );
    platform.start();
    platform.settle();
    platform.spools[1].leave(0);
    platform.settle();
    assert_eq!(platform.nodes[0].number("/cluster/bad_rows"), 6);
}

/// Somebody changed or lost this node's rows: it writes them again.
#[test]
fn what_somebody_changes_in_the_table_is_set_right() {
    let mut platform = Setup::new("tampered", 2, Scope::Own).build();
    for number in 0..10 {
        platform.spools[0].leave(number);
    }
    platform.start();
    platform.settle();
    platform.tables().sql(
        "UPDATE mwid_counts SET new_messages = 7, revision = revision + 100000 \
         WHERE node = 'vm0' AND number = '1003'; \
         UPDATE mwid_cluster SET revision = revision + 200000;",
    );
    let published = platform.nodes[0].number("/cluster/published");
    wait_for("the row to be written again", crate::platform::LIMIT, || {
        (platform.nodes[0].number("/cluster/published") > published).then_some(())
    });
    platform.settle();
    // Set back, and half of it gone, as after a restore.
    platform.tables().sql(
        "DELETE FROM mwid_counts WHERE number < '1005'; UPDATE mwid_cluster SET revision = 1;",
    );
    platform.nodes[0].wait_for_word("were set back", 1, crate::platform::LIMIT);
    platform.spools[1].leave(4);
    platform.settle();
    platform.agree(&[0, 1]);
    assert!(platform.wrong().is_empty());
}

/// A server that is gone for good: as `sql/*/cluster.sql` says.
#[test]
fn a_node_is_forgotten_when_its_rows_are_deleted() {
    let mut platform = Setup::new("forgotten", 2, Scope::Own).build();
    platform.spools[0].leave(3);
    platform.spools[1].leave(3);
    platform.start();
    platform.settle();
    platform.nodes[1].stop();
    platform.agree(&[0]);
    assert!(platform.wrong().is_empty(), "its messages are still on its disk");
    platform.tables().sql(
        "DELETE FROM mwid_counts WHERE node = 'vm1'; UPDATE mwid_cluster SET revision = revision - 1;",
    );
    platform.spools.truncate(1);
    platform.settle();
}
