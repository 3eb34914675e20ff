//! Kamailio as a plain registrar and proxy, without any presence module: mwid itself answers the
//! phones behind it.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use crate::support::SOON;
use crate::support::kamailio::{self, Kamailio};
use crate::support::mwid::Mwid;
use crate::support::net::UdpPort;
use crate::support::phone::Phone;
use crate::support::sip::Message;

/// A proxy, and mwid with its agent behind it.
struct Site {
    kamailio: Kamailio,
    mwid: Mwid,
    /// Where mwid listens.
    port: UdpPort,
    /// Holds the subscriptions.
    _folder: TempDir,
}

fn site() -> Site {
    let port = UdpPort::claim();
    let kamailio = kamailio::Setup::before(port.address()).start();
    let folder = TempDir::with_prefix("mwid-agent-").expect("a temporary folder");
    let mwid = Mwid::on(&format!("sqlite:{}/dialogs.db", folder.path().display()))
        .with("agent", format!("listen = udp:{}", port.address()))
        .with("agent", "trusted = 127.0.0.1")
        .start();
    Site { kamailio, mwid, port, _folder: folder }
}

fn state(notify: &Message) -> &str {
    notify.header("Subscription-State").expect("RFC 6665 §4.1.3")
}

fn has_ended(notify: &Message) -> bool {
    state(notify).starts_with("terminated")
}

#[test]
fn the_agents_snippet_fits_the_stock_script() {
    let stock = fs::read_to_string("/etc/kamailio/kamailio.cfg").expect("Debian's kamailio.cfg");
    let snippet = concat!(env!("CARGO_MANIFEST_DIR"), "/etc/kamailio/agent.cfg");
    let include =
        format!("#!define MWID_AGENT \"sip:192.0.2.10:5070\"\ninclude_file \"{snippet}\"\n");
    let script = stock
        .replacen("\nrequest_route {", &format!("\n{include}\nrequest_route {{"), 1)
        .replacen("\troute(AUTH);", "\troute(AUTH);\n\troute(MWID_AGENT);", 1);
    assert_eq!(script.matches("MWID_AGENT").count(), 2, "all places were found");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("kamailio.cfg");
    fs::write(&path, script).expect("our own folder");
    let check = Command::new("/usr/sbin/kamailio").arg("-c").arg("-f").arg(&path).output();
    let check = check.expect("Kamailio runs");
    let said = String::from_utf8_lossy(&check.stderr);
    assert!(check.status.success() && said.contains("config file ok"), "{said}");
}

#[test]
fn the_whole_life_of_a_subscription_to_mwid() {
    let Site { kamailio, mwid, port, .. } = &site();
    let mailbox = mwid.mailbox("202@example.com");
    mailbox.leave();
    mwid.wait_for_status("/lamps/accounts", 1);
    let phone = Phone::subscribe(kamailio, "202", "example.com");
    let first = phone.wait_for_lamp("1/0 (0/0)", SOON);
    assert_eq!(phone.target(), format!("sip:{}", port.address()), "the dialog is mwid's");
    assert_eq!(first.header("Route"), None, "the proxy took its own Route away");
    assert_eq!(first.header("Max-Forwards"), Some("69"), "and relayed it");

    mailbox.leave();
    phone.wait_for_lamp("2/0 (0/0)", SOON);
    phone.wait_for_count(2, SOON);
    phone.refresh();
    let refreshed = phone.wait_for_count(3, SOON).remove(2);
    assert_eq!(refreshed.summary_line("Voice-Message"), Some("2/0 (0/0)"));
    assert!(state(&refreshed).starts_with("active;expires="), "{refreshed:?}");
    mailbox.hear();
    phone.wait_for_lamp("1/1 (0/0)", SOON);
    phone.wait_for_count(4, SOON);

    phone.unsubscribe();
    let last = phone.wait_for_notify(has_ended, SOON);
    assert_eq!(state(&last), "terminated;reason=timeout");
    phone.assert_dialog_is_whole();
}

#[test]
fn several_phones_of_mwid_and_one_that_starts_again() {
    let Site { kamailio, mwid, .. } = &site();
    let desk = Phone::subscribe(kamailio, "202", "example.com");
    let other = Phone::subscribe(kamailio, "203", "example.com");
    assert_eq!(desk.notifies()[0].body, "", "no source knows the account yet");
    let again = Phone::subscribe(kamailio, "202", "example.com");
    mwid.mailbox("202@example.com").leave();
    for phone in [&desk, &again] {
        phone.wait_for_lamp("1/0 (0/0)", SOON);
        phone.assert_dialog_is_whole();
    }
    assert_eq!(other.notifies().len(), 1);
}

#[test]
fn a_proxy_that_starts_again_and_an_mwid_that_is_killed_cost_no_subscription() {
    let Site { mut kamailio, mut mwid, port: _port, _folder } = site();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let mailbox = mwid.mailbox("202@example.com");
    mailbox.leave();
    phone.wait_for_lamp("1/0 (0/0)", SOON);

    kamailio.stop();
    kamailio.start();
    mailbox.leave();
    phone.wait_for_lamp("2/0 (0/0)", SOON);

    mwid.stop();
    mailbox.leave();
    mwid.start();
    phone.wait_for_lamp("3/0 (0/0)", SOON);
    // It has answered all that came so far.
    phone.wait_for_count(1, SOON);
    phone.refresh();
    mailbox.hear();
    phone.wait_for_lamp("2/1 (0/0)", SOON);
    phone.assert_dialog_is_whole();
}

#[test]
fn phones_of_a_drained_mwid_are_told_through_the_proxy() {
    let Site { kamailio, mwid, .. } = &site();
    let phones = ["202", "203"].map(|user| Phone::subscribe(kamailio, user, "example.com"));
    let drained = mwid.ask(&["drain"]);
    assert!(drained.status.success(), "{drained:?}");
    for phone in &phones {
        let last = phone.wait_for_notify(has_ended, SOON);
        assert_eq!(state(&last), "terminated;reason=deactivated");
        phone.assert_dialog_is_whole();
    }
}
