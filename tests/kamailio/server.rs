//! What mwid builds on, before mwid comes in: each fact about Kamailio that it relies on, measured
//! on the server itself, on both databases.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Command;

use crate::support::group::living_members;
use crate::support::kamailio;
use crate::support::phone::{Answer, Phone};
use crate::support::relay::{Loss, Relay, Way};
use crate::support::sidecar::Sidecar;
use crate::support::tables::Tables;
use crate::support::{SOON, wait_for};

#[test]
fn the_snippet_fits_the_stock_script() {
    for also in [
        "",
        "#!define WITH_NAT\n#!define MWID_AOR\n",
        "#!define WITH_PRESENCE\n#!define WITH_MYSQL\n#!define MWID_PUBLISH\n",
    ] {
        the_snippet_fits_the_stock_script_with(also);
    }
}

fn the_snippet_fits_the_stock_script_with(also: &str) {
    let stock = fs::read_to_string("/etc/kamailio/kamailio.cfg").expect("Debian's kamailio.cfg");
    let snippet = concat!(env!("CARGO_MANIFEST_DIR"), "/etc/kamailio/mwid.cfg");
    let include = format!("#!define MWID_SERVERS \"192.0.2.10/32\"\ninclude_file \"{snippet}\"\n");
    let script = stock
        .replacen("#!KAMAILIO\n", &format!("#!KAMAILIO\n{also}"), 1)
        .replacen("\nrequest_route {", &format!("\n{include}\nrequest_route {{"), 1)
        .replacen("\troute(WITHINDLG);", "\troute(MWID);\n\troute(WITHINDLG);", 1);
    let script = if also.contains("WITH_PRESENCE") { takes_subscriptions(&script) } else { script };
    let found = script.matches("MWID").count();
    assert_eq!(found, 2 + also.matches("MWID").count(), "all places were found");
    assert!(script.contains(also));

    assert_is_sound(&script);
}

/// The stock script with what the snippet says of subscriptions: without that they get a 404.
fn takes_subscriptions(script: &str) -> String {
    let refusal = "\tif(is_method(\"SUBSCRIBE\") && $hdr(Event)==\"message-summary\") {\n";
    let (before, after) = script.split_once(refusal).expect("the lines that the snippet names");
    let (refused, after) = after.split_once("\t}\n").expect("their end");
    assert!(refused.contains("sl_send_reply(\"404\", \"No voicemail service\")"), "{refused}");
    let module = "loadmodule \"presence.so\"\n";
    assert!(before.contains(module), "the line after which the snippet's is to stand");
    let before = before.replacen(module, &format!("{module}loadmodule \"presence_mwi.so\"\n"), 1);
    before + after
}

/// Kamailio finds nothing wrong with this script.
fn assert_is_sound(script: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("kamailio.cfg");
    fs::write(&path, script).expect("our own folder");
    let check = Command::new("/usr/sbin/kamailio").arg("-c").arg("-f").arg(&path).output();
    let check = check.expect("Kamailio runs");
    let said = String::from_utf8_lossy(&check.stderr);
    assert!(check.status.success() && said.contains("config file ok"), "{script}\n{said}");
}

/// The modules that a snippet wants to find loaded, by its own words.
fn wanted_modules(snippet: &str) -> Vec<String> {
    let text = snippet.replace("\n#", " ");
    let (_, rest) = text.split_once("modules tm, ").expect("it says what it needs");
    let (list, _) = rest.split_once(" must be").expect("it says that it needs them");
    let names = list.split([',', ' ']).filter(|word| !word.is_empty() && *word != "and");
    std::iter::once("tm").chain(names).map(str::to_owned).collect()
}

#[test]
fn each_snippet_needs_no_other_modules_than_it_says() {
    for name in ["mwid.cfg", "rpc.cfg", "agent.cfg"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/kamailio").join(name);
        let snippet = fs::read_to_string(&path).expect("the snippet");
        let mut script =
            "#!KAMAILIO\n#!define MWID_PUA_DB \"mysql://u:p@127.0.0.1/d\"\n".to_owned();
        for module in wanted_modules(&snippet) {
            script.push_str(&format!("loadmodule \"{module}.so\"\n"));
        }
        script.push_str(&format!(
            "include_file \"{}\"\nrequest_route {{\n\texit;\n}}\n",
            path.display()
        ));
        assert_is_sound(&script);
    }
}

#[test]
fn a_phone_subscribes_on_mariadb_and_has_a_row() {
    a_phone_subscribes_and_has_a_row(&Tables::on_mariadb());
}

#[test]
fn a_phone_subscribes_on_postgresql_and_has_a_row() {
    a_phone_subscribes_and_has_a_row(&Tables::on_postgres());
}

fn a_phone_subscribes_and_has_a_row(tables: &Tables) {
    let kamailio = kamailio::Setup::on(tables).start();
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
    let row = wait_for("row", SOON, || tables.row(&phone.call_id(), columns));
    let expected = "sip:300@example.com 202 example.com 300 example.com 202 example.com \
                    message-summary  1 0 1 ";
    assert_eq!(row.join(" "), expected, "event_id and record_route are empty");

    let columns = "to_tag, from_tag, contact, socket_info, local_contact";
    let row = tables.row(&phone.call_id(), columns).expect("a row");
    let address = kamailio.address();
    assert_eq!(row[0], phone.server_tag(), "to_tag is the notifier's");
    assert_eq!(row[1], phone.tag(), "from_tag is the phone's");
    assert_eq!(row[2], phone.contact());
    assert_eq!(row[3], format!("udp:{address}"));
    assert_eq!(row[4], format!("sip:{address};transport=udp"));
}

#[test]
fn kamailio_on_mariadb_follows_the_cseq_that_it_finds_in_the_row() {
    kamailio_follows_the_cseq_that_it_finds_in_the_row(&Tables::on_mariadb());
}

#[test]
fn kamailio_on_postgresql_follows_the_cseq_that_it_finds_in_the_row() {
    kamailio_follows_the_cseq_that_it_finds_in_the_row(&Tables::on_postgres());
}

fn kamailio_follows_the_cseq_that_it_finds_in_the_row(tables: &Tables) {
    let kamailio = kamailio::Setup::on(tables).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let stored = || tables.row(&phone.call_id(), "local_cseq").map(|mut row| row.remove(0));
    // One less than the 1 on the wire.
    wait_for("row 0", SOON, || (stored().as_deref() == Some("0")).then_some(()));

    phone.refresh();
    assert_eq!(phone.wait_for_count(2, SOON)[1].cseq(), 2);
    wait_for("row 1", SOON, || (stored().as_deref() == Some("1")).then_some(()));

    let sql = "UPDATE active_watchers SET local_cseq = 41 WHERE callid = '{}'";
    tables.sql(&sql.replace("{}", &phone.call_id()));
    phone.refresh();
    assert_eq!(phone.wait_for_count(3, SOON)[2].cseq(), 43, "row + 2");
    wait_for("row 42", SOON, || (stored().as_deref() == Some("42")).then_some(()));

    phone.unsubscribe();
    let last = phone.wait_for_count(4, SOON).remove(3);
    assert_eq!(last.cseq(), 44);
    assert_eq!(last.header("Subscription-State"), Some("terminated;reason=timeout"));
    wait_for("row to go", SOON, || tables.row(&phone.call_id(), "id").is_none().then_some(()));
    phone.assert_dialog_is_whole();
}

#[test]
fn a_notify_of_the_media_server_is_relayed_into_the_dialog() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
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
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
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
fn a_notify_to_the_aor_goes_where_the_phone_is_registered() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let sidecar = Sidecar::new();
    let notify = sidecar.notify(None, "sip:202@example.com", &phone, 2);
    let answer = sidecar.ask_for_answer(&notify, kamailio.address());
    assert_eq!(answer.status(), Some(480), "not registered");
    assert_eq!(answer.header("Retry-After"), Some("60"), "and perhaps only for now");
    let register = sidecar.register(&phone, "202", "example.com");
    assert_eq!(sidecar.ask(&register, kamailio.address()), 200);
    let notify = sidecar.notify(None, "sip:202@example.com", &phone, 3);
    assert_eq!(sidecar.ask(&notify, kamailio.address()), 200);
    assert_eq!(phone.wait_for_lamp("1/0 (0/0)", SOON).cseq(), 3);
}

#[test]
fn what_the_proxy_cannot_send_is_answered_504_and_never_500() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let proxy = kamailio.address();
    let sidecar = Sidecar::new();
    // A name that nobody knows; a transport that this proxy does not have.
    let targets = ["sip:202@nowhere.invalid", "sip:202@127.0.0.1:9;transport=tcp"];
    for (target, cseq) in targets.into_iter().zip(2..) {
        let notify = sidecar.notify(Some(proxy), target, &phone, cseq);
        assert_eq!(sidecar.ask(&notify, proxy), 504, "{target}");
        assert!(sidecar.nothing_more(proxy), "{target} is answered once");
    }
}

#[test]
fn a_phone_that_forgot_its_subscription_answers_481() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let phone = Phone::of("202", "example.com").answering(Answer::Gone).subscribe(&kamailio);
    assert_eq!(phone.answers_to(1), [200]);
    wait_for("row", SOON, || tables.row(&phone.call_id(), "id"));
    let sidecar = Sidecar::new();
    let notify = sidecar.notify(Some(kamailio.address()), &phone.contact(), &phone, 2);
    assert_eq!(sidecar.ask(&notify, kamailio.address()), 481);
    assert!(tables.row(&phone.call_id(), "id").is_some(), "Kamailio heeds its own NOTIFYs only");

    phone.refresh();
    wait_for("row to go", SOON, || tables.row(&phone.call_id(), "id").is_none().then_some(()));
}

#[test]
fn the_relay_drops_the_first_two_copies() {
    let tables = Tables::on_mariadb();
    let relay = Relay::new(Loss::FirstCopies(2));
    let setup = kamailio::Setup::on(&tables).also_known_as(relay.address());
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
fn the_relay_loses_the_same_datagrams_for_the_same_seed() {
    let lost = |seed| -> Vec<bool> {
        let relay = Relay::new(Loss::Percent(30, seed));
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for count in 1..=200 {
            socket.send_to(b"datagram", relay.address()).unwrap();
            wait_for("datagram", SOON, || (relay.passages().len() == count).then_some(()));
        }
        relay.passages().iter().map(|passage| passage.lost).collect()
    };
    let first = lost(7);
    assert_eq!(first, lost(7));
    assert_ne!(first, lost(8));
    let count = first.iter().filter(|lost| **lost).count();
    assert!((40..=80).contains(&count), "about 60 of 200, not {count}");
}

#[test]
fn kamailio_and_its_children_end_with_the_test() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let group = kamailio.group().expect("it runs").id();
    assert!(living_members(group) > 1, "a leader and its children");
    drop(kamailio);
    wait_for("end of the group", SOON, || (living_members(group) == 0).then_some(()));
}

#[test]
fn kamailio_comes_back_with_its_subscriptions() {
    let tables = Tables::on_mariadb();
    let mut kamailio = kamailio::Setup::on(&tables).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    kamailio.stop();
    kamailio.start();
    phone.refresh();
    assert_eq!(phone.wait_for_count(2, SOON)[1].cseq(), 2);
    phone.assert_dialog_is_whole();
}
