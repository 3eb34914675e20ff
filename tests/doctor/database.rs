//! MariaDB and PostgreSQL with Kamailio's own tables.

use std::fs;
use std::path::Path;

use mwid::clock::unix;

use crate::doctor;
use crate::house::House;
use crate::peer::Peer;
use crate::support::mariadb::MariaDb;
use crate::support::tables::Tables;

/// A row as Kamailio writes it, with another end each.
fn subscribe(tables: &Tables, user: &str, number: u64) {
    let expires = unix() + 1000 + number;
    tables.sql(&format!(
        "INSERT INTO active_watchers (presentity_uri, watcher_username, watcher_domain, to_user, to_domain, event, event_id, to_tag, from_tag, callid, local_cseq, remote_cseq, contact, record_route, expires, status, reason, version, socket_info, local_contact, from_user, from_domain, updated, updated_winfo) VALUES ('sip:{user}@example.com', '{user}', 'example.com', '{user}', 'example.com', 'message-summary', '', 'server', 'phone', 'call-{number}', 1, 1, 'sip:{user}@192.0.2.7', '', {expires}, 1, '', 0, 'udp:127.0.0.1:5060', 'sip:192.0.2.1', '{user}', 'example.com', 0, 0);"
    ));
}

fn house(proxy: &Peer, tables: &Tables) -> House {
    let mut house = House::new(proxy);
    house.set("database", "url", tables.url());
    house
}

/// The same on both: `index` runs the script of the remedy, `revoke` takes the right to write away.
fn walk(tables: &Tables, script: &str, index: impl Fn(&Path), revoke: &str, grant: &str) {
    let proxy = Peer::phones();
    let mut house = house(&proxy, tables);
    subscribe(tables, "202", 1);
    let seen = doctor(&house);
    seen.says("database", "ok", "as Kamailio makes it", "");
    for check in ["database rights", "index", "clock", "rows", "rows that cannot be told"] {
        seen.is_well(check);
    }
    assert!(seen.of("rows")[0].1.starts_with("1 rows, 1 live"), "{seen:?}");

    house.set("database", "find_by", "watcher");
    let remedy = format!("{} {script}", tables.name());
    doctor(&house).says("index", "warning", "watcher_username", script);
    assert!(doctor(&house).of("index")[0].2.contains(tables.name()), "{remedy}");
    index(Path::new(script.trim_start_matches(['<', '-', 'f', ' '])));
    doctor(&house).is_well("index");

    tables.sql(revoke);
    doctor(&house).says(
        "database rights",
        "failed",
        "no CSeq can be claimed",
        "UPDATE (local_cseq)",
    );
    tables.sql(grant);
    doctor(&house).is_well("database rights");

    tables.sql("UPDATE active_watchers SET contact = 'nobody';");
    doctor(&house).says("rows that cannot be told", "warning", "column contact is no SIP URI", "");
    tables.sql("ALTER TABLE active_watchers DROP COLUMN socket_info;");
    doctor(&house).says("database", "failed", "socket_info", "kamdbctl");
    tables.sql("DROP TABLE active_watchers;");
    doctor(&house).says("database", "failed", "active_watchers", "");
    house.set("database", "url", &tables.url().replace(":kamailio@", ":wrong@"));
    let seen = doctor(&house);
    seen.says("database", "failed", "", "user and password");
    assert!(!format!("{seen:?}").contains("wrong"), "no password is said");
}

#[test]
fn on_mariadb_each_thing_that_is_broken_is_found_and_its_remedy_helps() {
    let tables = Tables::on_mariadb();
    let name = tables.name();
    let on = format!("ON {name}.active_watchers TO '{name}'@'%'");
    walk(
        &tables,
        "< sql/mysql/index.sql",
        |script| MariaDb::shared().sql_file(name, script),
        &format!("REVOKE ALL ON {name}.* FROM '{name}'@'%'; GRANT SELECT {on};"),
        &format!("GRANT UPDATE (local_cseq) {on};"),
    );
}

#[test]
fn on_postgres_each_thing_that_is_broken_is_found_and_its_remedy_helps() {
    let tables = Tables::on_postgres();
    let name = tables.name();
    walk(
        &tables,
        "-f sql/postgres/index.sql",
        |script| {
            tables.sql(&fs::read_to_string(script).unwrap());
        },
        &format!("REVOKE UPDATE ON active_watchers FROM {name};"),
        &format!("GRANT UPDATE (local_cseq) ON active_watchers TO {name};"),
    );
}

#[test]
fn what_an_agent_must_be_allowed_is_tried_right_by_right() {
    let tables = Tables::on_mariadb();
    let name = tables.name();
    tables.sql("DROP TABLE active_watchers;");
    MariaDb::shared().sql_file(name, Path::new("sql/mysql/agent.sql"));
    let mut house = house(&Peer::phones(), &tables);
    house.set("agent", "listen", "udp:127.0.0.1:5999");
    house.set("agent", "trusted", "127.0.0.1");
    let user = format!("'{name}'@'%'");
    tables.sql(&format!("REVOKE ALL ON {name}.* FROM {user};"));
    for (grant, missing) in [
        ("SELECT", "no CSeq can be claimed"),
        ("UPDATE (local_cseq)", "no subscription can be refreshed"),
        ("UPDATE", "no subscription can be stored"),
        ("INSERT", "no row can be deleted"),
    ] {
        tables.sql(&format!("GRANT {grant} ON {name}.active_watchers TO {user};"));
        let remedy = "GRANT SELECT, INSERT, UPDATE, DELETE as in ";
        doctor(&house).says("database rights", "failed", missing, remedy);
    }
    tables.sql(&format!("GRANT DELETE ON {name}.active_watchers TO {user};"));
    doctor(&house).is_well("database rights");
}

#[test]
fn a_database_whose_clock_differs_is_found() {
    let server = MariaDb::start();
    server.create_database("skewed");
    server.sql("skewed", "SET GLOBAL init_connect = 'SET timestamp = UNIX_TIMESTAMP() + 120';");
    let schema = fs::read_to_string("/usr/share/kamailio/mysql/presence-create.sql").unwrap();
    let version = "CREATE TABLE version (table_name VARCHAR(32), table_version INT);";
    server.sql("skewed", &(version.to_owned() + &schema));
    server.sql(
        "skewed",
        "CREATE USER 'slow'@'%' IDENTIFIED BY 'clock'; GRANT ALL ON skewed.* TO 'slow'@'%';",
    );
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    let url = format!("mysql://slow:clock@{}:{}/skewed", server.host(), server.port());
    house.set("database", "url", &url);
    doctor(&house).says("clock", "failed", "ms ahead: subscriptions end too early", "timedatectl");
    server.sql("skewed", "SET GLOBAL init_connect = 'SET timestamp = UNIX_TIMESTAMP() - 6';");
    doctor(&house).says("clock", "warning", "ms behind", "timedatectl");
    server.stop();
    doctor(&house).says("database", "failed", "", "does it run");
}
