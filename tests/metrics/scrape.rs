//! A real daemon is scraped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::time::Instant;

use mwid::metrics::TABLE;
use serde_json::Value;

use crate::client::{address, ask};
use crate::house::{House, Mwid};
use crate::net::UdpPort;
use crate::peer::{Peer, SOON};
use crate::promtool::promtool;

/// The samples of a page, by name and labels; each is there once, which promtool does not look at.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let before = samples.insert(name.to_owned(), value.parse().unwrap());
        assert_eq!(before, None, "{name} is there twice");
    }
    samples
}

fn scrape(door: SocketAddr) -> BTreeMap<String, f64> {
    let response = ask(door, "GET", "/metrics", "");
    assert_eq!(response.status, 200, "{response:?}");
    let kind = response.header("content-type");
    assert_eq!(kind, Some("text/plain; version=0.0.4; charset=utf-8"));
    samples(&response.body)
}

/// Scrapes until it is so.
fn until(door: SocketAddr, mwid: &Mwid, wanted: impl Fn(&BTreeMap<String, f64>) -> bool) {
    let deadline = Instant::now() + SOON;
    loop {
        let found = scrape(door);
        if wanted(&found) {
            return;
        }
        assert!(Instant::now() < deadline, "{found:#?}\n{}", mwid.logged());
        // Between two scrapes: the daemon has better things to do.
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn what_happens_is_counted_and_promtool_finds_nothing_wrong() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("http", "listen", "127.0.0.1:0");
    house.set("contexts", "default", "example.com");
    house.messages("default/202", 0, 0);
    house.subscribe(&proxy, "202", "here");
    house.subscribe(&proxy, "202", "there");
    let mwid = house.start();
    let door = address(&mwid);
    // Both know that there is nothing, before there is something.
    proxy.shows("here", "0/0 (0/0)");
    proxy.shows("there", "0/0 (0/0)");
    mwid.settled();
    let before = scrape(door);
    assert_eq!(before["mwid_event_to_acknowledged_seconds_count"], 0.0, "{before:#?}");
    house.messages("default/202", 2, 1);
    proxy.shows("here", "2/1 (0/0)");
    proxy.shows("there", "2/1 (0/0)");
    // Each phone at least once: it may be told before the last message is there.
    until(door, &mwid, |now| now["mwid_event_to_acknowledged_seconds_count"] >= 2.0);
    let now = scrape(door);
    let grown = |name: &str| now[name] - before[name];
    assert!(grown("mwid_changes_total{source=\"spool\"}") >= 1.0, "{now:#?}");
    assert!(grown("mwid_notifies_total{outcome=\"delivered\",code=\"200\"}") >= 2.0, "{now:#?}");
    assert!(grown("mwid_notify_round_trip_seconds_count") >= 2.0, "{now:#?}");
    assert_eq!(now["mwid_dialogs{state=\"current\"}"], 2.0, "{now:#?}");
    for name in ["mwid_spool_up", "mwid_database_up", "mwid_ledger_up", "mwid_accounts"] {
        assert_eq!(now[name], 1.0, "{name}");
    }
    assert_eq!(now["mwid_build_info{version=\"0.1.0\"}"], 1.0);
    let page = ask(door, "GET", "/metrics", "").body;
    assert!(!page.contains("example.com") && !page.contains("202\""), "a label names an account");
    assert_eq!(promtool(&["check", "metrics"], &house.path(""), &page), "");
}

/// Whatever is counted again, or said again, is no change: the alert about a storm compares with them.
#[test]
fn only_a_mailbox_that_holds_something_else_has_changed() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("http", "listen", "127.0.0.1:0");
    house.set("spool", "rescan", "1");
    house.messages("example.com/202", 1, 0);
    house.messages("example.com/203", 0, 0);
    let mwid = house.start();
    let door = address(&mwid);
    let rescanned = |times: u64| {
        let counted = |status: &Value| status["counters"]["observed_by_spool"].as_u64().unwrap();
        let before = counted(&mwid.status());
        mwid.until("rescanned", |status| counted(status) >= before + 2 * times);
    };
    let put = |user: &str, new: u32| {
        let target = format!("/v1/accounts/{user}@example.com/summary");
        let said = ask(door, "PUT", &target, format!("{{\"new\": {new}, \"old\": 0}}"));
        assert_eq!(said.status, 204, "{said:?}");
    };
    let changes = |source: &str| format!("mwid_changes_total{{source=\"{source}\"}}");
    rescanned(2);
    let now = scrape(door);
    assert_eq!(now[&changes("spool")], 0.0, "a start and two rescans: {now:#?}");
    house.messages("example.com/202", 2, 0);
    // No spool has it: the first word, and the same again.
    put("900", 3);
    put("900", 3);
    rescanned(2);
    until(door, &mwid, |now| now[&changes("spool")] == 1.0 && now[&changes("http")] == 1.0);
    put("900", 0);
    assert_eq!(house.externnotify(&["example.com", "203", "0", "0", "0"]).code, 0);
    rescanned(1);
    until(door, &mwid, |now| now[&changes("http")] == 2.0);
    let now = scrape(door);
    assert_eq!((now[&changes("spool")], now[&changes("externnotify")]), (1.0, 0.0), "{now:#?}");
}

#[test]
fn what_fails_is_seen() {
    let proxy = Peer::silent();
    let mut house = House::new(&proxy);
    house.set("http", "listen", "127.0.0.1:0");
    house.set("contexts", "default", "example.com");
    house.set("timers", "t1", "10");
    house.set("timers", "t2", "20");
    house.messages("default/202", 1, 0);
    house.subscribe(&proxy, "202", "call");
    let mwid = house.start();
    let door = address(&mwid);
    until(door, &mwid, |now| {
        now["mwid_notifies_total{outcome=\"later\",code=\"timeout\"}"] >= 1.0
            && now["mwid_sip_copies_total"] >= 2.0
            && now["mwid_proxies_suspended"] == 1.0
            && now["mwid_accounts_waiting"] == 1.0
    });
    let now = scrape(door);
    assert_eq!(now["mwid_notify_round_trip_seconds_count"], 0.0, "nobody answered: {now:#?}");
    fs::rename(house.path("spool"), house.path("elsewhere")).unwrap();
    until(door, &mwid, |now| now["mwid_spool_up"] == 0.0);
    fs::rename(house.path("elsewhere"), house.path("spool")).unwrap();
    until(door, &mwid, |now| now["mwid_spool_up"] == 1.0);
    house.database().execute_batch("ALTER TABLE active_watchers RENAME TO elsewhere").unwrap();
    until(door, &mwid, |now| now["mwid_database_up"] == 0.0);
}

#[test]
fn everything_in_use_has_its_lines_and_each_line_is_in_the_table() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("http", "listen", "127.0.0.1:0");
    let port = UdpPort::claim();
    house.set("agent", "listen", &format!("udp:{}", port.address()));
    house.set("agent", "trusted", "127.0.0.1");
    house.set("webhook", "url", "http://127.0.0.1:9/");
    house.set("delivery", "use", "notify, publish");
    house.set("capture", "hep", "127.0.0.1:9");
    house.set("ami", "host", "127.0.0.1:9");
    house.set("ami", "user", "mwid");
    house.set("ami", "secret", "x");
    house.set("spool", "scope", "own");
    house.set("cluster", "node", "one");
    let tables = include_str!("../../sql/sqlite/cluster.sql");
    house.database().execute_batch(tables).unwrap();
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    let door = address(&mwid);
    until(door, &mwid, |now| {
        now.contains_key("mwid_spool_counted_timestamp_seconds") && now["mwid_cluster_up"] == 1.0
    });
    let page = ask(door, "GET", "/metrics", "").body;
    assert!(samples(&page).keys().any(|name| name.starts_with("mwid_agent_requests_total")));
    let typed = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let typed: BTreeSet<&str> = typed.filter_map(|line| line.split(' ').next()).collect();
    let rows: BTreeSet<&str> = TABLE.iter().map(|metric| metric.name).collect();
    let missing: Vec<_> = rows.difference(&typed).collect();
    assert!(missing.is_empty() && typed.len() == rows.len(), "{missing:?}\n{page}");
    assert_eq!(promtool(&["check", "metrics"], &house.path(""), &page), "");
}
