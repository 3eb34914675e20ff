//! The ways through the whole daemon: from a file in the spool to who hands it on.

use crate::house::House;
use crate::peer::Peer;
use crate::support::http::{HttpDouble, Say};
use crate::support::kamailio;
use crate::support::mwid::{Mwid, Setup};
use crate::support::opensips_mi::OpenSips;
use crate::support::phone::Phone;
use crate::support::tables::Tables;
use crate::support::{SOON, wait_for};

/// A house that tells nobody but by this way.
pub fn house(way: &str, section: &str, key: &str, url: &str) -> (Peer, House) {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("delivery", "use", way);
    house.set(section, key, url);
    (proxy, house)
}

/// Waits until the one document of 202 says this.
pub fn published(opensips: &OpenSips, counts: &str) {
    wait_for(counts, SOON, || {
        let documents = opensips.documents();
        assert!(documents.len() < 2, "they stack up: {documents:?}");
        documents.first()?.body.contains(&format!("Voice-Message: {counts}\r\n")).then_some(())
    });
}

#[test]
fn opensips_has_one_document_whatever_ends_and_starts_again() {
    let opensips = OpenSips::new();
    let http = opensips.over_http();
    let (_proxy, mut house) =
        house("opensips-mi", "opensips-mi", "url", &format!("{}/mi", http.url()));
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    published(&opensips, "1/0 (0/0)");
    house.messages("example.com/202", 2, 0);
    published(&opensips, "2/0 (0/0)");
    // A tag that a crash loses costs one document more, for the minute of its trial.
    mwid.stop();
    house.messages("example.com/202", 3, 1);
    let mwid = house.start();
    published(&opensips, "3/1 (0/0)");
    opensips.forget_tags();
    house.messages("example.com/202", 4, 0);
    published(&opensips, "4/0 (0/0)");
    opensips.forget_documents();
    house.messages("example.com/202", 5, 0);
    published(&opensips, "5/0 (0/0)");
    // Told by NOTIFY from now on: what was published is removed.
    house.set("delivery", "use", "notify");
    assert_eq!(house.mwid(&["reload"]).code, 0);
    wait_for("removal", SOON, || opensips.documents().is_empty().then_some(()));
    mwid.stop();
}

#[test]
fn an_opensips_that_was_down_is_caught_up_with() {
    let opensips = OpenSips::new();
    let udp = opensips.over_udp();
    // Nobody is there.
    let (_proxy, mut house) = house("opensips-mi", "opensips-mi", "url", "udp:127.0.0.1:1");
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    mwid.log("not published, will be tried again");
    house.set("opensips-mi", "url", &format!("udp:{udp}"));
    let reloaded = house.mwid(&["reload"]);
    assert!(reloaded.out.contains("[opensips-mi]"), "{reloaded:?}");
    published(&opensips, "1/0 (0/0)");
}

#[test]
fn a_sipxpublisher_hears_of_each_change() {
    let publisher = HttpDouble::start(|_| Say::Answer(200, "text/html", String::new()));
    let url = format!("{}/cgi/StatusEvent.cgi", publisher.url());
    let (_proxy, house) = house("sipx", "sipx", "publisher", &url);
    let mwid = house.start();
    mwid.log("the spool has been counted");
    for new in 1..=3 {
        house.messages("example.com/202", new, 0);
        let wanted = format!("Voice-Message: {new}/0 (0/0)\r\n");
        wait_for(&wanted, SOON, || {
            publisher.asked().last().filter(|asked| asked.body.ends_with(&wanted)).map(|_| ())
        });
    }
    let asked = publisher.asked();
    assert!(asked.iter().all(|asked| asked.method == "GET"), "{asked:?}");
    assert!(asked.iter().all(|asked| asked.target.ends_with("?identity=202@example.com")));
    mwid.stop();
}

/// How mwid publishes by this Kamailio.
fn by_kamailio(tables: &Tables, kamailio: &kamailio::Kamailio, format: &str) -> Setup {
    let path = if format == "xml" { "RPC2" } else { "RPC" };
    Mwid::on(tables.url())
        .through(kamailio.address())
        .with("delivery", "use = kamailio-rpc")
        .with("kamailio-rpc", format!("url = {}/{path}", kamailio.rpc()))
        .with("kamailio-rpc", format!("format = {format}"))
        .with("kamailio-rpc", format!("outbound_proxy = sip:{}", kamailio.address()))
        .with("kamailio-rpc", "timeout = 2")
        .with("timers", "min_interval = 0")
        .with("timers", "retry_min = 1")
        .with("timers", "retry_max = 1")
}

#[test]
fn kamailio_has_one_row_after_100_voicemails_and_restarts_of_both() {
    let tables = Tables::on_mariadb();
    let mut kamailio = kamailio::Setup::on(&tables).with_rpc().start();
    let early = Phone::subscribe(&kamailio, "202", "example.com");
    let mut mwid = by_kamailio(&tables, &kamailio, "json").start();
    let mailbox = mwid.mailbox("202@example.com");
    for count in 1..=100 {
        match count {
            30 => {
                mwid.stop();
                mwid.write(by_kamailio(&tables, &kamailio, "xml"));
                mwid.start();
            }
            50 => {
                kamailio.stop();
                kamailio.start();
            }
            70 => {
                kamailio.stop();
                mwid.stop();
                kamailio.start();
                mwid.start();
            }
            _ => {}
        }
        mailbox.leave();
        early.wait_for_lamp(&format!("{count}/0 (0/0)"), SOON);
        // Kamailio tells the phone a little before it commits.
        let counts = format!("Voice-Message: {count}/0 ");
        wait_for(&format!("one row, with {counts}"), SOON, || {
            let bodies = tables.sql("SELECT body FROM presentity;");
            let rows = bodies.matches("Voice-Message: ").count();
            (rows == 1 && bodies.contains(&counts)).then_some(())
        });
    }
    let late = Phone::subscribe(&kamailio, "202", "example.com");
    let first = &late.notifies()[0];
    assert_eq!(first.summary_line("Voice-Message"), Some("100/0 (0/0)"));
    assert_eq!(early.notifies().iter().filter(|notify| notify.body.is_empty()).count(), 1);
    early.assert_dialog_is_whole();
}

#[test]
fn another_server_is_told_everything_by_a_reload_and_by_a_restart() {
    let publishers: Vec<_> = (0..3)
        .map(|_| HttpDouble::start(|_| Say::Answer(200, "text/html", String::new())))
        .collect();
    let (_proxy, mut house) = house("sipx", "sipx", "publisher", &publishers[0].url());
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    publishers[0].wait_for(1);
    house.set("sipx", "publisher", &publishers[1].url());
    assert_eq!(house.mwid(&["reload"]).code, 0);
    publishers[1].wait_for(1);
    mwid.until("accepted", |status| status["publications"]["accepted"] == 1);
    mwid.stop();
    house.set("sipx", "publisher", &publishers[2].url());
    let mwid = house.start();
    publishers[2].wait_for(1);
    mwid.until("accepted", |status| status["publications"]["accepted"] == 1);
    mwid.stop();
    // The same one is not told again.
    let mwid = house.start();
    mwid.until("accepted", |status| status["publications"]["accepted"] == 1);
    assert_eq!(publishers.iter().map(|it| it.asked().len()).collect::<Vec<_>>(), [1, 1, 1]);
    mwid.stop();
}

#[test]
fn a_way_whose_section_goes_with_it_still_removes_what_it_published() {
    let opensips = OpenSips::new();
    let http = opensips.over_http();
    let url = format!("{}/mi", http.url());
    let (_proxy, mut house) = house("opensips-mi", "opensips-mi", "url", &url);
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    published(&opensips, "1/0 (0/0)");
    house.set("delivery", "use", "notify");
    house.set("opensips-mi", "url", "");
    assert_eq!(house.mwid(&["reload"]).code, 0);
    wait_for("removal", SOON, || opensips.documents().is_empty().then_some(()));
    mwid.stop();
}
