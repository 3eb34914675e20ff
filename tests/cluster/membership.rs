//! Who is who: names, tables, commands.

use std::process::Command;

use crate::platform::{LIMIT, Scope, Setup};
use crate::support::fleet::rows::Server;
use crate::support::mariadb::MariaDb;
use crate::support::postgres::Postgres;

fn without_tables(server: Server, script: &str) {
    let mut platform =
        Setup { server, tables: false, ..Setup::new("no tables", 2, Scope::Own) }.build();
    platform.spools[0].leave(1);
    platform.nodes.iter_mut().for_each(|node| node.start());
    platform.nodes[0].wait_for_word(script, 1, LIMIT);
    let status = platform.nodes[0].status();
    let error = status["cluster"]["error"].as_str().unwrap_or_default();
    assert!(error.contains("has no table \"mwid_counts\"") && error.contains(script), "{status:#}");
    assert_eq!(platform.board.figures().notifies, 0, "it cannot know who tells the phones");
    // Twice: an operator does not know whether somebody did it before.
    for _ in 0..2 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mwid"));
        command.arg("--config").arg(platform.nodes[0].config()).args(["sql", "--apply"]);
        let applied = command.output().unwrap();
        let text = String::from_utf8_lossy(&applied.stdout).into_owned();
        assert!(text.contains("The tables of the cluster are in "), "{applied:?}");
    }
    platform.agree(&[0, 1]);
    platform.settle();
    let said = platform.nodes[0].said(script);
    assert_eq!(said, 1, "it is said once");
    platform.nodes[0].wait_for_word("the cluster works again", 1, LIMIT);
}

#[test]
fn missing_tables_name_their_script_and_are_found_when_they_are_there_mariadb() {
    without_tables(Server::MariaDb(MariaDb::shared()), "sql/mysql/cluster.sql");
}

#[test]
fn missing_tables_name_their_script_and_are_found_when_they_are_there_postgres() {
    without_tables(Server::Postgres(Postgres::shared()), "sql/postgres/cluster.sql");
}

#[test]
fn missing_tables_name_their_script_and_are_found_when_they_are_there_sqlite() {
    without_tables(Server::Sqlite, "sql/sqlite/cluster.sql");
}

/// A machine that was cloned with its configuration.
#[test]
fn of_two_nodes_with_one_name_one_keeps_quiet_and_says_why() {
    let mut platform = Setup::new("twins", 2, Scope::Shared).build();
    let mut twin = platform.node(0, "vm1");
    platform.start();
    platform.settle();
    twin.start();
    platform.nodes[1].wait_for_word("another mwid says that it is node \"vm1\"", 1, LIMIT);
    platform.spools[0].leave(platform.owned_by(1, &[0, 1]));
    platform.settle();
    assert_eq!(platform.nodes[1].number("/cluster/owned"), 0);
    // The twin is renamed, that is, stopped: the first has its name back.
    twin.stop();
    platform.agree(&[0, 1]);
    platform.spools[0].leave(platform.owned_by(1, &[0, 1]));
    platform.settle();
}

#[test]
fn a_command_for_an_account_of_another_node_names_that_node() {
    let mut platform = Setup::new("commands", 2, Scope::Own).build();
    platform.start();
    platform.settle();
    let its = platform.owned_by(1, &[0, 1]);
    let user = crate::support::fleet::spool::Spool::user(its);
    let ask = |node: &crate::support::fleet::daemon::Daemon| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mwid"));
        command.arg("--config").arg(node.config());
        command.args(["notify", &user, "example.com", "3", "0"]).output().unwrap()
    };
    let refused = ask(&platform.nodes[0]);
    let text = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(text.contains("is told by node vm1") && refused.status.code() == Some(1), "{text}");
    let done = ask(&platform.nodes[1]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(platform.shows(its).unwrap().new, 3);
    let status = Command::new(env!("CARGO_BIN_EXE_mwid"))
        .arg("--config")
        .arg(platform.nodes[0].config())
        .arg("status")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(text.contains("cluster: node vm0 (scope own), live: vm0 vm1, read "), "{text}");
}
