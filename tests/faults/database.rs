//! The database stopped and started in the middle of changes.

use std::time::Duration;

use mwid_core::dialog::Flavour;

use crate::support::SOON;
use crate::support::fleet::rows::Server;
use crate::support::fleet::{Fleet, Setup};
use crate::support::mariadb::MariaDb;
use crate::support::postgres::Postgres;

/// A change each five milliseconds while the server stops and starts: some before, some during,
/// some after.
const CHANGES: usize = 600;
const STEP: Duration = Duration::from_millis(5);

fn stopped_and_started(setup: Setup) {
    let mut fleet = setup.build();
    fleet.start();
    fleet.change(50, STEP);
    fleet.settle(SOON);
    fleet.change_during(CHANGES, STEP, |fleet: &Fleet| {
        fleet.rows.stop_server();
        fleet.mwid.wait_for_word("mwid keeps trying", 1, SOON);
        fleet.rows.start_server();
    });
    let first = fleet.settle(Duration::from_secs(30));
    fleet.mwid.wait_for_word("the database answers again", 1, SOON);
    assert_eq!(fleet.mwid.said("the database answers again"), 1);

    // Once more, and this time mwid is killed and started while there is no database.
    fleet.rows.stop_server();
    fleet.change(100, STEP);
    fleet.kill_and_spawn();
    fleet.change(100, STEP);
    fleet.mwid.wait_for_word("mwid keeps trying", 2, SOON);
    assert!(!fleet.wrong().is_empty(), "nobody can be told without the database");
    fleet.rows.start_server();
    let second = fleet.settle(Duration::from_secs(30));
    fleet.report(second, &format!(", {:.2} s the first time", first.as_secs_f32()));
    assert_eq!(fleet.mwid.status()["enabled"], true);
}

/// A server of its own: the shared one serves other tests. It ends with the process.
fn leaked<T>(server: T) -> &'static T {
    Box::leak(Box::new(server))
}

#[test]
fn mariadb_stopped_and_started_delays_lamps_and_loses_none() {
    let server = Server::MariaDb(leaked(MariaDb::start()));
    let setup = Setup::new("MariaDB stopped and started", 60, 20);
    stopped_and_started(Setup { server, seed: 21, ..setup });
}

#[test]
fn postgres_stopped_and_started_delays_lamps_and_loses_none() {
    let server = Server::Postgres(leaked(Postgres::start()));
    let setup = Setup::new("PostgreSQL stopped and started", 60, 20);
    stopped_and_started(Setup { server, flavour: Flavour::Kamailio, seed: 22, ..setup });
}
