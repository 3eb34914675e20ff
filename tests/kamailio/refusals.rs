//! The phones of these tests can say no: what is wrong in a NOTIFY does not get past them.

use crate::support::SOON;
use crate::support::kamailio;
use crate::support::phone::Phone;
use crate::support::sidecar::Sidecar;
use crate::support::tables::Tables;

/// A NOTIFY byte for byte as res_zonkey_mwi wrote it, with these tags.
fn zonkey(sidecar: &Sidecar, phone: &Phone, cseq: u32, to_tag: &str, from_tag: &str) -> String {
    let host = sidecar.address();
    let body = "Messages-Waiting: yes\r\nMessage-Account: sip:*97@example.com\r\n\
                Voice-Message: 3/5 (0/0)\r\n";
    [
        "NOTIFY sip:202@example.com SIP/2.0".into(),
        format!("Via: SIP/2.0/UDP {host};branch=z9hG4bK0caac598{cseq}"),
        format!("To: sip:202@example.com;tag={to_tag}"),
        format!("From: sip:202@example.com;tag={from_tag}"),
        "Date: Thu, 26 Nov 2013 22:04:22 GMT".into(),
        format!("Call-id: {}", phone.call_id()),
        format!("CSeq: {cseq} NOTIFY"),
        "Contact: <sip:voicemail-user@127.0.0.1>".into(),
        "User-Agent: Asterisk Media Server01".into(),
        "Event: message-summary".into(),
        "Subscription-State: active".into(),
        "Content-Type: application/simple-message-summary".into(),
        format!("Content-Length: {}", body.len()),
        String::new(),
        body.into(),
    ]
    .join("\r\n")
}

#[test]
fn the_swapped_tags_of_res_zonkey_mwi_are_answered_481() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let sidecar = Sidecar::new();
    let proxy = kamailio.address();
    // It has the AOR in its Request-URI: the proxy must know where that is.
    assert_eq!(sidecar.ask(&sidecar.register(&phone, "202", "example.com"), proxy), 200);

    let (server, own) = (phone.server_tag(), phone.tag());
    let swapped = zonkey(&sidecar, &phone, 2, &server, &own);
    assert_eq!(sidecar.ask(&swapped, proxy), 481);
    let seen = phone.wait_for_lamp("3/5 (0/0)", SOON);
    assert_eq!(seen.parameter("To", "tag"), Some(server.as_str()), "the phone itself refused it");
    phone.wait_for_count(2, SOON);
    assert_eq!(phone.answers_to(2), [481]);

    let right = zonkey(&sidecar, &phone, 3, &own, &server);
    assert_eq!(sidecar.ask(&right, proxy), 200);
    phone.wait_for_count(3, SOON);
    assert_eq!(phone.answers_to(3), [200]);
}

#[test]
fn swapped_tags_are_answered_481_on_the_way_of_the_dialog_too() {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).start();
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    let sidecar = Sidecar::new();
    let proxy = kamailio.address();

    let right = sidecar.notify(Some(proxy), &phone.contact(), &phone, 2);
    let (server, own) = (phone.server_tag(), phone.tag());
    let swapped = right.replace(&server, "SERVER").replace(&own, &server).replace("SERVER", &own);
    assert_eq!(sidecar.ask(&swapped, proxy), 481);
    let right = sidecar.notify(Some(proxy), &phone.contact(), &phone, 3);
    assert_eq!(sidecar.ask(&right, proxy), 200);
}
