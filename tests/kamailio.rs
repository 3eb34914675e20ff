//! The real Kamailio and real phones: what mwid builds on, before mwid comes in.
//!
//! Each fact that mwid relies on is measured here on the server itself, on both databases.

mod support;

use std::net::Ipv4Addr;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::killpg;
use support::kamailio;
use support::mariadb::MariaDb;
use support::phone::{Answer, Phone};
use support::postgres::Postgres;
use support::relay::{Loss, Relay, Way};
use support::sidecar::Sidecar;
use support::wait::{SOON, wait_for};

/// A database with Kamailio's tables.
trait Server {
    fn url(&self) -> String;
    fn sql(&self, sql: &str) -> String;

    /// One row of `active_watchers`, these columns of it.
    fn row(&self, callid: &str, columns: &str) -> Option<Vec<String>> {
        let sql = format!("SELECT {columns} FROM active_watchers WHERE callid = '{callid}'");
        let answer = self.sql(&sql);
        let line = answer.strip_suffix('\n')?;
        assert!(!line.contains('\n'), "more than one row of {callid}: {answer}");
        Some(line.split('\t').map(str::to_owned).collect())
    }
}

impl Server for MariaDb {
    fn url(&self) -> String {
        self.url()
    }
    fn sql(&self, sql: &str) -> String {
        self.sql(sql)
    }
}

impl Server for Postgres {
    fn url(&self) -> String {
        self.url()
    }
    fn sql(&self, sql: &str) -> String {
        self.sql(sql)
    }
}

fn mariadb() -> MariaDb {
    let database = MariaDb::start();
    database.sql(&kamailio::schema("mysql"));
    database
}

fn postgres() -> Postgres {
    let database = Postgres::start();
    database.sql(&kamailio::schema("postgres"));
    database
}

#[test]
fn a_phone_subscribes_on_mariadb_and_has_a_row() {
    a_phone_subscribes_and_has_a_row(&mariadb());
}

#[test]
fn a_phone_subscribes_on_postgresql_and_has_a_row() {
    a_phone_subscribes_and_has_a_row(&postgres());
}

fn a_phone_subscribes_and_has_a_row(database: &impl Server) {
    let kamailio = kamailio::Setup::on(database.url()).start();
    let phone =
        Phone::of("202", "example.com").watching("sip:300@example.com").subscribe(&kamailio);

    let first = phone.wait_for_count(1, SOON).remove(0);
    assert_eq!(first.body, "", "nothing was published");
    assert_eq!(first.header("Content-Type"), None);
    assert_eq!(first.cseq(), 1);
    assert_eq!(first.request_uri(), Some(phone.contact().as_str()));
    assert_eq!(first.header("Subscription-State"), Some("active;expires=600"));
    assert_eq!(phone.answers_to(1), [200]);

    let columns = "presentity_uri, watcher_username, watcher_domain, to_user, to_domain, from_user, \
                   from_domain, event, event_id, status, local_cseq, remote_cseq, record_route";
    let row = database.row(&phone.call_id(), columns).expect("a row");
    let expected = "sip:300@example.com 202 example.com 300 example.com 202 example.com \
                    message-summary  1 0 1 ";
    assert_eq!(row.join(" "), expected, "event_id and record_route are empty and not NULL");

    let columns = "to_tag, from_tag, contact, socket_info, local_contact";
    let row = database.row(&phone.call_id(), columns).expect("a row");
    let address = kamailio.address();
    assert_eq!(row[0], phone.server_tag(), "to_tag is the notifier's");
    assert_eq!(row[1], phone.tag(), "from_tag is the phone's");
    assert_eq!(row[2], phone.contact());
    assert_eq!(row[3], format!("udp:{address}"));
    assert_eq!(row[4], format!("sip:{address};transport=udp"));
}

#[test]
fn kamailio_on_mariadb_follows_the_cseq_that_it_finds_in_the_row() {
    kamailio_follows_the_cseq_that_it_finds_in_the_row(&mariadb());
}

#[test]
fn kamailio_on_postgresql_follows_the_cseq_that_it_finds_in_the_row() {
    kamailio_follows_the_cseq_that_it_finds_in_the_row(&postgres());
}

fn kamailio_follows_the_cseq_that_it_finds_in_the_row(database: &impl Server) {
    let kamailio = kamailio::Setup::on(database.url()).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let stored = || database.row(&phone.call_id(), "local_cseq").expect("a row").remove(0);
    assert_eq!(stored(), "0", "one less than the 1 on the wire");

    phone.refresh();
    assert_eq!(phone.wait_for_count(2, SOON)[1].cseq(), 2);
    wait_for("row 1", SOON, || (stored() == "1").then_some(()));

    let sql = "UPDATE active_watchers SET local_cseq = 41 WHERE callid = '{}'";
    database.sql(&sql.replace("{}", &phone.call_id()));
    phone.refresh();
    assert_eq!(phone.wait_for_count(3, SOON)[2].cseq(), 43, "row + 2");
    wait_for("row 42", SOON, || (stored() == "42").then_some(()));

    phone.unsubscribe();
    let last = phone.wait_for_count(4, SOON).remove(3);
    assert_eq!(last.cseq(), 44);
    assert_eq!(last.header("Subscription-State"), Some("terminated;reason=timeout"));
    wait_for("row to go", SOON, || database.row(&phone.call_id(), "id").is_none().then_some(()));
    phone.assert_dialog_is_whole();
}

#[test]
fn a_notify_of_the_media_server_is_relayed_into_the_dialog() {
    let database = mariadb();
    let kamailio = kamailio::Setup::on(Server::url(&database)).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let other = Phone::subscribe(&kamailio, "202", "example.com");
    let proxy = kamailio.address();
    let sidecar = Sidecar::new();

    let notify = sidecar.notify(Some(proxy), &phone.contact(), &phone, 2);
    assert_eq!(sidecar.ask(&notify, kamailio.address()), 200);
    let seen = phone.wait_for_lamp("1/0 (0/0)", SOON);
    assert_eq!(seen.cseq(), 2);
    assert_eq!(seen.header("Route"), None, "the proxy took its own Route away");
    assert_eq!(seen.header("Max-Forwards"), Some("69"));
    phone.assert_dialog_is_whole();
    assert_eq!(other.notifies().len(), 1, "the other phone of the account is another dialog");

    let low = sidecar.notify(Some(proxy), &phone.contact(), &phone, 1);
    assert_eq!(sidecar.ask(&low, kamailio.address()), 500);
    let foreign = sidecar.notify(Some(proxy), &other.contact(), &phone, 3);
    let foreign = foreign.replace(&phone.call_id(), &other.call_id());
    assert_eq!(sidecar.ask(&foreign, kamailio.address()), 481, "tags of no dialog");
}

#[test]
fn a_notify_without_route_or_phone_is_refused() {
    let database = mariadb();
    let kamailio = kamailio::Setup::on(Server::url(&database)).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let proxy = kamailio.address();
    let sidecar = Sidecar::new();

    let bare = sidecar.notify(None, &phone.contact(), &phone, 2);
    assert_eq!(sidecar.ask(&bare, proxy), 404);
    let to_proxy = sidecar.notify(Some(proxy), &format!("sip:{proxy}"), &phone, 3);
    assert_eq!(sidecar.ask(&to_proxy, proxy), 404);
    // 127.0.0.2 is this machine too, but none of MWID_SERVERS.
    let stranger = Sidecar::at(Ipv4Addr::new(127, 0, 0, 2));
    let notify = stranger.notify(Some(proxy), &phone.contact(), &phone, 4);
    assert_eq!(stranger.ask(&notify, proxy), 403);
    assert_eq!(phone.notifies().len(), 1);
}

#[test]
fn a_phone_that_forgot_its_subscription_answers_481() {
    let database = mariadb();
    let kamailio = kamailio::Setup::on(Server::url(&database)).start();
    let phone = Phone::of("202", "example.com").answering(Answer::Gone).subscribe(&kamailio);
    assert_eq!(phone.answers_to(1), [200]);
    let sidecar = Sidecar::new();
    let notify = sidecar.notify(Some(kamailio.address()), &phone.contact(), &phone, 2);
    assert_eq!(sidecar.ask(&notify, kamailio.address()), 481);
    assert!(database.row(&phone.call_id(), "id").is_some(), "Kamailio heeds its own NOTIFYs only");

    phone.refresh();
    wait_for("row to go", SOON, || database.row(&phone.call_id(), "id").is_none().then_some(()));
}

#[test]
fn the_relay_drops_the_first_two_copies() {
    let database = mariadb();
    let relay = Relay::new(Loss::FirstCopies(2));
    let setup = kamailio::Setup::on(Server::url(&database)).also_known_as(relay.address());
    let kamailio = setup.start();
    relay.connect(kamailio.address());
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let sidecar = Sidecar::new();
    let notify = sidecar.notify(Some(relay.address()), &phone.contact(), &phone, 2);

    for copies in 1..=2 {
        sidecar.send(&notify, relay.address());
        let lost = || relay.passages().iter().filter(|p| p.way == Way::Out && p.lost).count();
        wait_for("lost copy", SOON, || (lost() == copies).then_some(()));
    }
    assert_eq!(sidecar.ask(&notify, relay.address()), 200);
    phone.wait_for_lamp("1/0 (0/0)", SOON);
}

#[test]
fn kamailio_and_its_children_end_with_the_test() {
    let database = mariadb();
    let kamailio = kamailio::Setup::on(Server::url(&database)).start();
    let group = kamailio.group().expect("it runs").id();
    drop(kamailio);
    wait_for("end of the group", Duration::from_secs(5), || {
        (killpg(group, None) == Err(Errno::ESRCH)).then_some(())
    });
}

#[test]
fn kamailio_comes_back_with_its_subscriptions() {
    let database = mariadb();
    let mut kamailio = kamailio::Setup::on(Server::url(&database)).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    kamailio.stop();
    kamailio.start();
    phone.refresh();
    assert_eq!(phone.wait_for_count(2, SOON)[1].cseq(), 2);
    phone.assert_dialog_is_whole();
}
