//! The agent's table on a server, and none at all.

use std::collections::HashMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::bed::Bed;
use crate::phone::{counts, state};
use crate::support::mariadb::MariaDb;
use crate::support::postgres::Postgres;
use crate::support::{PASSWORD, SOON, USER};

/// A bed whose database is this, made by `mwid sql --apply`.
fn bed_on(url: &str) -> Bed {
    let mut bed = Bed::new();
    let file = bed.house.path("db.password");
    std::fs::write(&file, PASSWORD).unwrap();
    bed.house.set("database", "url", url);
    bed.house.set("database", "password_file", &file.display().to_string());
    let said = bed.house.mwid(&["sql", "--apply"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("The table active_watchers of the agent is in"), "{said:?}");
    bed
}

fn a_life_with_a_crash(bed: &Bed, rows: impl Fn() -> String) {
    let mut mwid = bed.start();
    let mut phone = bed.phone("202");
    assert_eq!(counts(&phone.subscribe(600)), Some("2/1 (0/0)"));
    phone.subscribe(300);
    mwid.settled();
    mwid.signal(Signal::SIGKILL);
    mwid.ended(SOON);
    bed.house.messages("example.com/202", 3, 1);
    let mwid = bed.house.start();
    phone.notify_until("3 messages", |notify| counts(notify) == Some("3/1 (0/0)"));
    let mut short = bed.phone("203");
    short.subscribe(1);
    assert_eq!(state(&short.notify()), "terminated;reason=timeout");
    phone.ask("0", "");
    assert_eq!(state(&phone.notify()), "terminated;reason=timeout");
    mwid.until("no row is left", |_| rows() == "0");
}

const COUNT: &str = "SELECT COUNT(*) FROM active_watchers;";

#[test]
fn subscriptions_in_mariadb() {
    let (server, name) = (MariaDb::shared(), format!("agent_{}", std::process::id()));
    server.create_database(&name);
    let bed = bed_on(&format!("mysql://{USER}@127.0.0.1:{}/{name}", server.port()));
    a_life_with_a_crash(&bed, || server.sql(&name, COUNT));
}

#[test]
fn subscriptions_in_postgresql() {
    let (server, name) = (Postgres::shared(), format!("agent_{}", std::process::id()));
    server.create_database(&name);
    let bed = bed_on(&format!("postgres://{USER}@127.0.0.1:{}/{name}", server.port()));
    a_life_with_a_crash(&bed, || server.sql(&name, COUNT));
}

#[test]
fn without_its_database_a_subscribe_is_503_and_comes_again() {
    let mut bed = Bed::new();
    bed.house.set("database", "url", "postgres://u@127.0.0.1:9/d");
    let mwid = bed.start();
    let mut phone = bed.phone("202");
    let answer = phone.ask("600", "");
    assert_eq!((answer.status(), answer.header("Retry-After")), (Some(503), Some("10")));
    mwid.log("127.0.0.1:9");
}

/// A server that takes connections and says nothing: whoever asks is answered before its Timer F.
#[test]
fn rfc3261_17_1_2_2_a_database_that_hangs_keeps_no_phone_waiting_until_timer_f() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut bed = Bed::new();
    let port = silent.local_addr().unwrap().port();
    bed.house.set("database", "url", &format!("mysql://u@127.0.0.1:{port}/d"));
    bed.house.set("database", "connections", "1");
    bed.house.set("database", "timeout", "300");
    let _mwid = bed.start();
    let mut phones: Vec<_> = (0..60).map(|n| bed.phone(&format!("{}", 300 + n))).collect();
    for phone in &mut phones {
        let text = phone.subscribe_text("600", "");
        phone.send(&text);
    }
    let timer_f = Instant::now() + Duration::from_secs(32);
    for phone in &phones {
        let answer = phone.receive(timer_f.saturating_duration_since(Instant::now()));
        assert_eq!(answer.expect("an answer before Timer F").status(), Some(503));
    }
}

/// A database so slow that it cannot keep up: each commit waits until another program lets go.
#[test]
fn rfc3261_17_1_2_2_a_crowd_at_a_slow_database_is_answered_before_timer_f() {
    const CROWD: usize = 1500;
    let mut bed = Bed::new();
    // Timer J as phones expect it: their copies are copies for 32 s.
    bed.house.set("timers", "t1", "500");
    let mwid = bed.start();
    mwid.settled();
    let other = bed.house.database();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut phone = bed.phone("202");
    let timer_f = Instant::now() + Duration::from_secs(32);
    let mut unanswered: HashMap<String, String> = (0..CROWD)
        .map(|number| {
            phone.reboot();
            let text = phone.subscribe_text("600", "");
            (phone.call_id.clone(), text.replace(":202@", &format!(":{}@", 10_000 + number)))
        })
        .collect();
    while !unanswered.is_empty() {
        assert!(Instant::now() < timer_f, "{} are not answered", unanswered.len());
        // Timer E, a part of them at a time: the kernel's buffer is small.
        let texts: Vec<String> = unanswered.values().cloned().collect();
        for part in texts.chunks(100) {
            part.iter().for_each(|text| phone.send(text));
            while let Some(answer) = phone.receive(Duration::from_millis(20)) {
                assert_eq!(answer.status(), Some(503), "{answer:?}");
                unanswered.remove(answer.header("Call-ID").unwrap());
            }
        }
    }
    other.execute_batch("ROLLBACK").unwrap();
    bed.phone("203").subscribe(600);
}

/// A table that can be read and not written.
#[test]
fn what_cannot_be_stored_is_503_and_said_once() {
    let bed = Bed::new();
    let mwid = bed.start();
    bed.house.sql(
        "CREATE TRIGGER full BEFORE INSERT ON active_watchers \
         BEGIN SELECT RAISE(ABORT, 'no room'); END",
    );
    let mut phone = bed.phone("202");
    for _ in 0..3 {
        phone.reboot();
        assert_eq!(phone.ask("600", "").status(), Some(503));
    }
    assert_eq!(mwid.count("no subscription can be stored"), 1, "{}", mwid.logged());
    assert!(mwid.status()["troubles"].to_string().contains("no room"));
    bed.house.sql("DROP TRIGGER full");
    phone.reboot();
    phone.subscribe(600);
    mwid.log("subscriptions can be stored again");
    assert_eq!(mwid.status()["troubles"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_reload_changes_who_may_watch_and_never_where_the_agent_listens() {
    let mut bed = Bed::new();
    bed.house.messages("example.com/sales", 9, 0);
    let _mwid = bed.start();
    let mut phone = bed.phone("202");
    phone.account = "sip:sales@example.com".to_owned();
    assert_eq!(phone.ask("600", "").status(), Some(403));
    bed.house.set("watch", "sales@example.com", "202@example.com");
    let said = bed.house.mwid(&["reload"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("[agent], [users] and [watch]"), "{said:?}");
    assert_eq!(counts(&phone.subscribe(600)), Some("9/0 (0/0)"));
    bed.set("listen", "udp:127.0.0.1:5070");
    let said = bed.house.mwid(&["reload"]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("[agent] listen cannot change while mwid runs"), "{said:?}");
    phone.subscribe(600);
}

#[test]
fn rfc6665_4_2_2_who_may_not_watch_any_more_is_told_so_at_its_refresh_and_sees_nothing_more() {
    let mut bed = Bed::new();
    bed.house.messages("example.com/sales", 9, 0);
    bed.house.set("watch", "sales@example.com", "202@example.com, 203@example.com");
    let mwid = bed.start();
    let (mut dismissed, mut other) = (bed.phone("202"), bed.phone("203"));
    for phone in [&mut dismissed, &mut other] {
        phone.account = "sip:sales@example.com".to_owned();
        assert_eq!(counts(&phone.subscribe(600)), Some("9/0 (0/0)"));
    }
    bed.house.set("watch", "sales@example.com", "203@example.com");
    assert_eq!(bed.house.mwid(&["reload"]).code, 0);
    assert_eq!(dismissed.ask("600", "").status(), Some(403));
    assert_eq!(state(&dismissed.notify()), "terminated;reason=rejected");
    mwid.until("its row is gone", |_| bed.house.rows() == 1);
    assert_eq!(dismissed.ask("600", "").status(), Some(481));
    bed.house.messages("example.com/sales", 10, 0);
    assert_eq!(counts(&other.notify()), Some("10/0 (0/0)"));
    other.subscribe(600);
    mwid.settled();
    dismissed.assert_quiet();
}
