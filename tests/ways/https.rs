//! Servers that are asked by HTTPS: which certificates are believed, and what is said of others.

use std::fs;
use std::process::Command;

use crate::daemon::{house, published};
use crate::house::{House, MWID, Mwid};
use crate::peer::SOON;
use crate::support::https::{TlsDouble, certificate};
use crate::support::opensips_mi::OpenSips;

/// Starts it on a machine that trusts what is in this file, and nothing else.
fn launch(house: &House, trusted: &str) -> Mwid {
    let mut command = Command::new(MWID);
    command.env("SSL_CERT_FILE", house.path(trusted)).env_remove("SSL_CERT_DIR");
    house.launch_by(command)
}

#[test]
fn https_is_spoken_with_a_server_that_this_machine_trusts() {
    let opensips = OpenSips::new();
    let (http, own) = (opensips.over_http(), certificate("own", "127.0.0.1"));
    let server = TlsDouble::start(http.address(), &own);
    let url = format!("{}/mi", server.url().replace("https://", "https://mwid:hunter2@"));
    let (_proxy, house) = house("opensips-mi", "opensips-mi", "url", &url);
    fs::write(house.path("trusted.pem"), own.cert.pem()).unwrap();
    house.messages("example.com/202", 1, 0);
    let mwid = launch(&house, "trusted.pem");
    published(&opensips, "1/0 (0/0)");
    house.messages("example.com/202", 2, 0);
    published(&opensips, "2/0 (0/0)");
    let asked = http.asked();
    assert!(asked.iter().all(|asked| asked.connection == 1), "one connection serves all");
    assert!(asked.iter().all(|asked| asked.header("authorization").is_some()));
    assert!(!mwid.logged().contains("hunter2"));
    mwid.stop();
}

#[test]
fn a_certificate_that_is_not_to_be_trusted_gets_no_word_and_is_tried_again() {
    let opensips = OpenSips::new();
    let (http, own) = (opensips.over_http(), certificate("own", "127.0.0.1"));
    let server = TlsDouble::start(http.address(), &certificate("stranger", "127.0.0.1"));
    let url = format!("{}/mi", server.url());
    let (_proxy, house) = house("opensips-mi", "opensips-mi", "url", &url);
    let other = certificate("other", "other.example.com");
    let trusted = [own.cert.pem(), other.cert.pem()].concat();
    fs::write(house.path("trusted.pem"), trusted).unwrap();
    house.messages("example.com/202", 1, 0);
    let mwid = launch(&house, "trusted.pem");
    let line = mwid.log("not published, will be tried again: the certificate of the server");
    assert!(line.contains("UnknownIssuer") && line.contains("SSL_CERT_FILE"), "{line}");
    // Trusted, but somebody else's.
    server.show(&other);
    let status = mwid.until("refused for its name", |status| {
        let ways = status["publications"]["ways"].to_string();
        ways.contains("not valid for name") && ways.contains("other.example.com")
    });
    assert_eq!(status["troubles"][0], "publishing by opensips-mi fails");
    let said = house.mwid(&["show", "subscription", "202", "example.com"]);
    assert!(said.out.contains("Why: the certificate of the server is refused: "), "{said:?}");
    assert_eq!(http.asked().len(), 0, "nothing was said to either");
    server.show(&own);
    published(&opensips, "1/0 (0/0)");
    mwid.stop();
}

#[test]
fn a_server_that_does_not_speak_tls_is_no_server() {
    let opensips = OpenSips::new();
    let http = opensips.over_http();
    let url = format!("{}/mi", http.url().replace("http://", "https://"));
    let (_proxy, house) = house("opensips-mi", "opensips-mi", "url", &url);
    let own = certificate("own", "127.0.0.1");
    fs::write(house.path("trusted.pem"), own.cert.pem()).unwrap();
    house.messages("example.com/202", 1, 0);
    let mwid = launch(&house, "trusted.pem");
    mwid.log("not published, will be tried again");
    let server = TlsDouble::start(http.address(), &own);
    let mut house = house;
    house.set("opensips-mi", "url", &format!("{}/mi", server.url()));
    assert_eq!(house.mwid(&["reload"]).code, 0);
    published(&opensips, "1/0 (0/0)");
}

#[test]
fn without_certificates_mwid_does_not_start_and_says_what_to_install() {
    let url = "https://127.0.0.1:1/mi";
    let (_proxy, house) = house("opensips-mi", "opensips-mi", "url", url);
    let mut mwid = launch(&house, "nothing.pem");
    let line = mwid.log("the certificates of this machine cannot be read");
    assert!(line.contains(url) && line.contains("ca-certificates"), "{line}");
    assert_eq!(mwid.ended(SOON).code(), Some(1));
}
