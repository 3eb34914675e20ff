//! kill -9 at random moments.

use std::time::Duration;

use mwid_core::dialog::Flavour;

use crate::support::fleet::Setup;
use crate::support::fleet::rows::Server;
use crate::support::mariadb::MariaDb;

const CHANGES: usize = 2000;
const KILLS: usize = 17;

/// 2,000 changes in about eight seconds, and mwid killed in the middle of them again and again:
/// while it sends, while it claims, while it starts.
fn killed_again_and_again(setup: Setup) {
    let mut fleet = setup.build();
    fleet.start();
    let mut moments: Vec<usize> = (0..KILLS).map(|_| fleet.random.index(CHANGES)).collect();
    moments.sort_unstable();
    let mut done = 0;
    for moment in moments {
        fleet.change(moment - done, Duration::from_millis(4));
        done = moment;
        fleet.kill_and_spawn();
        fleet.board.check();
    }
    fleet.change(CHANGES - done, Duration::from_millis(4));
    let took = fleet.settle(Duration::from_secs(30));
    fleet.report(took, &format!(", killed {KILLS} times"));
    assert_eq!(fleet.board.figures().too_low, 0, "no CSeq was used twice or fell");
}

#[test]
fn kill_9_at_random_moments_leaves_no_lamp_wrong_sqlite() {
    killed_again_and_again(Setup { seed: 11, ..Setup::new("kill -9, SQLite", 400, 100) });
}

#[test]
fn kill_9_at_random_moments_leaves_no_lamp_wrong_mariadb() {
    let setup = Setup::new("kill -9, MariaDB", 400, 100);
    let server = Server::MariaDb(MariaDb::shared());
    killed_again_and_again(Setup { server, flavour: Flavour::Kamailio, seed: 12, ..setup });
}
