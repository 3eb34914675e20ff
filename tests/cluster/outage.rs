//! The cluster's database goes away and comes back.

use std::time::Instant;

use mwid_core::dialog::Flavour;

use crate::platform::{LIMIT, Scope, Setup};
use crate::support::fleet::rows::Server;
use crate::support::mariadb::MariaDb;
use crate::support::postgres::Postgres;
use crate::support::wait_for;

/// The tables are in a database of their own, the presence server's stays up: no account is told by
/// two, so none is told at all, and all of it afterwards.
fn down_and_up(name: &'static str, cluster: Server) {
    let server = Server::Sqlite;
    let setup = Setup::new(name, 2, Scope::Own);
    let mut platform =
        Setup { server, cluster: Some(cluster), flavour: Flavour::Kamailio, ..setup }.build();
    platform.start();
    platform.settle();
    platform.tables().stop_server();
    for node in &platform.nodes {
        node.wait_for_word("the lease in the cluster has ended", 1, LIMIT);
        assert_eq!(node.number("/cluster/owned"), 0);
    }
    // Until then a node may still tell what it had taken over.
    let before = platform.board.figures().notifies;
    platform.change_during(&[0, 1], 100, |_| {});
    for node in &platform.nodes {
        wait_for("counts that cannot be published", LIMIT, || {
            (node.number("/cluster/unpublished") > 0).then_some(())
        });
    }
    assert_eq!(platform.board.figures().notifies, before, "nobody knows who is to tell them");
    platform.tables().start_server();
    let began = Instant::now();
    platform.settle();
    let took = began.elapsed();
    platform.agree(&[0, 1]);
    for node in &platform.nodes {
        assert_eq!(node.said("nothing is told to any phone"), 1, "it is said once");
        node.wait_for_word("the cluster works again", 1, LIMIT);
        assert_eq!(node.number("/cluster/unpublished"), 0);
    }
    platform.report(&format!("down and up, {took:?} to converge after that"));
}

#[test]
fn everything_is_told_when_the_cluster_database_is_back_mariadb() {
    // Its own: the others go on.
    let server: &'static MariaDb = Box::leak(Box::new(MariaDb::start()));
    down_and_up("outage, MariaDB", Server::MariaDb(server));
}

#[test]
fn everything_is_told_when_the_cluster_database_is_back_postgres() {
    let server: &'static Postgres = Box::leak(Box::new(Postgres::start()));
    down_and_up("outage, PostgreSQL", Server::Postgres(server));
}
