//! How soon a phone is told, by each way and in each mode of Kamailio's presence module. The times are
//! printed (`-- --nocapture`) and stand in docs/choosing.md; what is asserted is what a phone is told.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::kamailio::{self, Kamailio, Presence};
use crate::support::mwid::{self, Mwid};
use crate::support::phone::Phone;
use crate::support::tables::Tables;
use crate::support::trace::Way;
use crate::support::{SOON, wait_for};

/// Kamailio's own notifier tells a phone every 5 seconds at most.
const LATER: Duration = Duration::from_secs(60);

/// Messages that come sooner after each other are taken for a burst, and counted 20 ms later.
const QUIET: Duration = Duration::from_millis(300);

const DAY: f64 = 86_400.0;

/// As the snippets want it.
const AT_ONCE: Presence = Presence { subs_db_mode: 3, notifier_processes: 0 };

/// A mwid that tells by these ways.
fn setup(tables: &Tables, kamailio: &Kamailio, ways: &str, rpc_format: &str) -> mwid::Setup {
    let path = if rpc_format == "xml" { "RPC2" } else { "RPC" };
    Mwid::on(tables.url())
        .through(kamailio.address())
        .with("delivery", format!("use = {ways}"))
        .with("kamailio-rpc", format!("url = {}/{path}", kamailio.rpc()))
        .with("kamailio-rpc", format!("format = {rpc_format}"))
        .with("kamailio-rpc", format!("outbound_proxy = sip:{}", kamailio.address()))
        .with("timers", "min_interval = 0")
}

/// Leaves messages one after the other, says how long the phone waited for each, and gives the phone.
fn measure(presence: Presence, ways: &str, rpc_format: &str, changes: u32) -> Phone {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).with_rpc().with_presence(presence).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let mwid = setup(&tables, &kamailio, ways, rpc_format).start();
    let mailbox = mwid.mailbox("202@example.com");
    mailbox.open();
    told(&phone, "0/0 (0/0)");
    let mut times: Vec<f64> = (1..=changes)
        .map(|count| {
            thread::sleep(QUIET);
            let began = seconds_of_the_day();
            mailbox.leave();
            let seen = told(&phone, &format!("{count}/0 (0/0)"));
            (seen - began).rem_euclid(DAY) * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!(
        "{ways} {rpc_format}, subs_db_mode = {}, notifier_processes = {}: \
         median {:.1} ms, {:.1} to {:.1} ms of {changes}",
        presence.subs_db_mode,
        presence.notifier_processes,
        times[times.len() / 2],
        times[0],
        times[times.len() - 1]
    );
    phone
}

/// When the first NOTIFY with these counts was there, in seconds of the day.
fn told(phone: &Phone, counts: &str) -> f64 {
    wait_for(counts, LATER, || {
        let messages = phone.messages();
        let mut received = messages.iter().filter(|entry| entry.way == Way::Received);
        let lamp = received.find(|it| it.message.summary_line("Voice-Message") == Some(counts));
        lamp.map(|entry| entry.at)
    })
}

fn seconds_of_the_day() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    now.as_secs_f64().rem_euclid(DAY)
}

#[test]
fn a_phone_is_told_of_each_change_once_by_each_way() {
    for (ways, rpc_format) in
        [("notify", "json"), ("publish", "json"), ("kamailio-rpc", "json"), ("kamailio-rpc", "xml")]
    {
        let phone = measure(AT_ONCE, ways, rpc_format, 20);
        phone.wait_for_count(22, SOON);
        let all = phone.notifies();
        assert_eq!(all.len(), 22, "Kamailio's own, 0/0 and one for each change: {ways}");
        phone.assert_dialog_is_whole();
    }
}

#[test]
fn kamailios_notifier_and_its_other_modes_tell_what_is_published_too() {
    for (subs_db_mode, notifier_processes, changes) in [(3, 1, 3), (2, 1, 20), (1, 1, 20)] {
        let presence = Presence { subs_db_mode, notifier_processes };
        measure(presence, "publish", "json", changes).assert_dialog_is_whole();
    }
}
