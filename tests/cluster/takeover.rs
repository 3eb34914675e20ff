//! A node that dies, leaves or is paused: the others take its accounts over.

use std::time::{Duration, Instant};

use mwid_core::dialog::Flavour;

use crate::platform::{LEASE, LIMIT, Scope, Setup};
use crate::support::fleet::daemon::Daemon;
use crate::support::fleet::rows::Server;
use crate::support::mariadb::MariaDb;
use crate::support::postgres::Postgres;
use crate::support::wait_for;

/// Take-over must end by then: the lease, the heartbeat and a few looks.
const PATIENCE: Duration = Duration::from_secs(3);

/// kill -9 in the middle of changes. The others tell its phones within the lease; when it is back,
/// what happened on its own disk meanwhile is told too.
fn one_is_killed(setup: Setup) {
    let scope = setup.scope;
    let mut platform = setup.build();
    platform.start();
    let all: Vec<usize> = (0..platform.spools.len()).collect();
    platform.change_during(&all, 150, |_| {});
    platform.settle();
    // Nobody changes what only the dead one could tell.
    let others: Vec<usize> = match scope {
        Scope::Own => vec![0, 2],
        Scope::Shared => vec![0],
    };
    let mut killed = Instant::now();
    platform.change_during(&others, 200, |nodes| {
        std::thread::sleep(Duration::from_millis(300));
        nodes[1].kill();
        killed = Instant::now();
    });
    let its = platform.owned_by(1, &[0, 1, 2]);
    platform.spools[0].leave(its);
    platform.settle_one(its);
    let taken = killed.elapsed();
    platform.settle();
    platform.agree(&[0, 2]);
    assert!(taken < PATIENCE, "{taken:?}");

    // It comes back, and so does what was left on its disk meanwhile.
    let last = platform.spools.len() - 1;
    platform.spools[last.min(1)].leave(its);
    platform.nodes[1].start();
    let back = platform.agree(&[0, 1, 2]);
    platform.change_during(&all, 100, |_| {});
    platform.settle();
    platform
        .report(&format!("{scope:?}, killed: its phones right after {taken:?}, back in {back:?}"));
    assert_eq!(platform.board.figures().too_low, 0);
}

#[test]
fn a_killed_node_is_taken_over_own_mariadb() {
    let server = Server::MariaDb(MariaDb::shared());
    one_is_killed(Setup { server, seed: 2, ..Setup::new("kill, MariaDB", 3, Scope::Own) });
}

#[test]
fn a_killed_node_is_taken_over_own_postgres() {
    let server = Server::Postgres(Postgres::shared());
    let setup = Setup::new("kill, PostgreSQL", 3, Scope::Own);
    one_is_killed(Setup { server, flavour: Flavour::Kamailio, seed: 3, ..setup });
}

#[test]
fn a_killed_node_is_taken_over_shared_mariadb() {
    let server = Server::MariaDb(MariaDb::shared());
    let setup = Setup::new("kill, MariaDB", 3, Scope::Shared);
    one_is_killed(Setup { server, flavour: Flavour::Kamailio, seed: 4, ..setup });
}

#[test]
fn a_killed_node_is_taken_over_own_sqlite() {
    one_is_killed(Setup { seed: 5, ..Setup::new("kill, SQLite", 3, Scope::Own) });
}

/// OpenSIPS rolls a row back to its own count, and the only one who knew better is dead.
#[test]
fn a_row_that_was_rolled_back_does_not_make_a_lamp_wrong_after_a_take_over() {
    let setup = Setup::new("rolled back", 2, Scope::Shared);
    let mut platform = Setup { min_interval: 1000, ..setup }.build();
    platform.start();
    let its = platform.owned_by(1, &[0, 1]);
    for _ in 0..4 {
        platform.spools[0].leave(its);
        platform.settle_one(its);
    }
    platform.rows.sql("UPDATE active_watchers SET local_cseq = 2;");
    platform.nodes[1].kill();
    platform.agree(&[0]);
    platform.spools[0].leave(its);
    platform.settle();
    assert_eq!(platform.board.figures().too_low, 0, "the new owner counts further than the row");
}

#[test]
fn sigterm_hands_over_at_once() {
    let server = Server::Postgres(Postgres::shared());
    let mut platform = Setup { server, ..Setup::new("SIGTERM", 3, Scope::Own) }.build();
    platform.start();
    platform.settle();
    let its = platform.owned_by(2, &[0, 1, 2]);
    // The last thing that it counts is not lost with it.
    let counted = platform.nodes[2].number("/counters/observed_by_spool");
    platform.spools[2].leave(its);
    wait_for("the message to be counted", LIMIT, || {
        (platform.nodes[2].number("/counters/observed_by_spool") > counted).then_some(())
    });
    platform.nodes[2].stop();
    let stopped = Instant::now();
    platform.agree(&[0, 1]);
    platform.spools[0].leave(its);
    platform.settle();
    let took = stopped.elapsed();
    platform.report(&format!("handed over in {took:?}"));
    assert!(took < LEASE / 2, "{took:?}: nobody waits for the lease");
}

/// A process that stands still for longer than its lease (a paused virtual machine) must not go on
/// where it stopped.
#[test]
fn a_node_that_stood_still_lets_go_before_it_tells_anything() {
    let server = Server::MariaDb(MariaDb::shared());
    let mut platform = Setup { server, ..Setup::new("paused", 2, Scope::Shared) }.build();
    platform.start();
    platform.settle();
    platform.change_during(&[0], 100, |nodes| nodes[1].pause());
    platform.agree(&[0]);
    platform.change_during(&[0], 100, |nodes| nodes[1].resume());
    platform.agree(&[0, 1]);
    let took = platform.settle();
    assert_eq!(platform.nodes[1].said("lease in the cluster has ended"), 1);
    platform.report(&format!("paused and resumed, {took:?} to converge"));
}

/// Nodes come and go all the time, in the middle of changes.
#[test]
fn nodes_that_come_and_go_leave_no_lamp_wrong() {
    let server = Server::MariaDb(MariaDb::shared());
    let mut platform =
        Setup { server, accounts: 100, seed: 6, ..Setup::new("churn", 3, Scope::Shared) }.build();
    platform.start();
    let mut random = platform.random.fork();
    platform.change_during(&[0], 1200, |nodes| {
        for round in 0..12 {
            let node: &mut Daemon = &mut nodes[round % 3];
            if random.percent(50) {
                node.kill();
            } else {
                node.stop();
            }
            std::thread::sleep(Duration::from_millis(random.below(400)));
            node.start();
        }
    });
    let took = platform.settle();
    platform.agree(&[0, 1, 2]);
    platform.report(&format!("12 kills and stops, {took:?} to converge"));
}
