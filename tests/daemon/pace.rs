//! How often a phone is told.

use std::time::{Duration, Instant};

use crate::house::House;
use crate::peer::{Heard, Peer, SOON};

#[test]
fn twenty_changes_in_a_burst_make_few_notifies_the_first_at_once_and_the_last_with_the_final_counts()
 {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("timers", "min_interval", "1000");
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 0, 0);
    let mwid = house.start();
    proxy.shows("call", "0/0 (0/0)");
    let before = proxy.transactions(1)[0].at;
    mwid.settled();

    for new in 1..=20 {
        house.messages("example.com/202", new, 0);
    }
    proxy.shows("call", "20/0 (0/0)");
    mwid.settled();
    let heard = proxy.transactions(2);
    assert!(
        (2..=4).contains(&heard.len()),
        "{:?}",
        heard.iter().map(Heard::counts).collect::<Vec<_>>()
    );
    assert!(heard[1].at - before >= Duration::from_secs(1));
    for pair in heard.windows(2) {
        let pause = pair[1].at - pair[0].at;
        assert!(pause >= Duration::from_millis(990), "{pause:?} between two NOTIFYs of a phone");
    }
    assert_eq!(heard.last().unwrap().counts(), "20/0 (0/0)");
    assert_eq!(proxy.refused(), [""; 0]);
}

#[test]
fn the_first_of_a_burst_goes_at_once() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("timers", "min_interval", "60000");
    house.subscribe(&proxy, "202", "call");
    let mwid = house.start();
    mwid.log("the spool has been counted");
    house.messages("example.com/202", 1, 0);
    proxy.told("202", "1/0 (0/0)");
}

#[test]
fn rfc6665_4_2_2_while_a_notify_is_in_flight_no_other_goes_into_its_dialog() {
    let proxy = Peer::scripted(|heard| match heard.copy {
        1..=3 => Vec::new(),
        _ => vec![heard.answer(200, "")],
    });
    let mut house = House::new(&proxy);
    house.set("timers", "min_interval", "0");
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    for new in 2..=6 {
        proxy.wait("a copy more", |heard| (heard.len() + 1 >= new).then_some(()));
        house.messages("example.com/202", new, 0);
    }
    proxy.told("202", "6/0 (0/0)");
    mwid.settled();
    // The copies of each transaction come in one piece.
    let cseqs: Vec<u32> = proxy.heard().iter().map(Heard::cseq).collect();
    assert!(cseqs.is_sorted(), "{cseqs:?}");
}

#[test]
fn an_unchanged_summary_is_not_sent_again_by_a_rescan() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("spool", "rescan", "1");
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    proxy.shows("call", "1/0 (0/0)");
    mwid.until("rescanned", |status| status["counters"]["observed_by_spool"].as_u64() >= Some(3));
    assert_eq!(mwid.settled()["sip"]["notifies"], 1);
}

#[test]
fn the_rate_limit_spreads_a_restart_and_fresh_news_overtake_it() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("timers", "rate", "20");
    for user in 0..40 {
        house.subscribe(&proxy, &user.to_string(), &format!("call-{user}"));
        house.messages(&format!("example.com/{user}"), 1, 0);
    }
    let mwid = house.start();
    let told = proxy.transactions(5);
    // The last of those that have not been told yet gets another message.
    let waits = (0..40).map(|user| user.to_string()).rfind(|user| {
        told.iter().all(|heard| !heard.header("To").starts_with(&format!("<sip:{user}@")))
    });
    let user = waits.unwrap();
    house.messages(&format!("example.com/{user}"), 2, 0);
    proxy.told(&user, "2/0 (0/0)");
    let before = proxy.transactions(1).len();
    assert!(before < 30, "{before} others were told before the fresh news");
    let all = proxy.transactions(40);
    let took = all[39].at - all[0].at;
    assert!(took >= Duration::from_millis(1800), "40 NOTIFYs in {took:?} at 20 a second");
    mwid.settled();
}

/// Until so many accounts wait. Asks no database, as the status does.
pub fn wait_for(house: &House, accounts: u32) {
    let (expected, deadline) = (format!("{accounts} account"), Instant::now() + SOON);
    loop {
        let said = house.mwid(&["show", "pending", "--limit", "1"]);
        if said.out.starts_with(&expected) {
            return;
        }
        assert!(Instant::now() < deadline, "{said:?}");
    }
}

/// A start, or a resync, at a database that takes its time.
#[test]
fn what_just_changed_is_looked_up_before_those_whom_a_start_walks_through() {
    const CROWD: u32 = 150;
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("timers", "rate", "10000");
    house.set("database", "timeout", "20");
    for user in 1000..1000 + CROWD {
        house.subscribe(&proxy, &user.to_string(), &format!("call-{user}"));
        house.messages(&format!("example.com/{user}"), 1, 0);
    }
    house.subscribe(&proxy, "202", "call");
    let database = house.database();
    database
        .execute_batch(
            "CREATE TABLE claims (place INTEGER PRIMARY KEY, account TEXT);
             CREATE TRIGGER claimed AFTER UPDATE ON active_watchers BEGIN
             INSERT INTO claims (account) VALUES (NEW.presentity_uri); END;
             BEGIN EXCLUSIVE",
        )
        .unwrap();
    let mwid = house.start();
    wait_for(&house, CROWD);
    house.messages("example.com/202", 1, 0);
    wait_for(&house, CROWD + 1);
    database.execute_batch("COMMIT").unwrap();
    proxy.shows("call", "1/0 (0/0)");
    mwid.settled();
    let place = "SELECT place FROM claims WHERE account = 'sip:202@example.com'";
    let place: u32 = database.query_row(place, [], |row| row.get(0)).unwrap();
    assert!(place <= CROWD / 2, "{place} of {CROWD}");
}
