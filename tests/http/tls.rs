//! HTTPS with a certificate of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rcgen::{CertifiedKey, KeyPair};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::client::{Response, address, connect, house, request, say};
use crate::house::House;
use crate::peer::{Peer, SOON};

fn certificate() -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

fn install(house: &mut House, made: &CertifiedKey<KeyPair>) {
    fs::write(house.path("cert"), made.cert.pem()).unwrap();
    fs::write(house.path("key"), made.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(house.path("key"), fs::Permissions::from_mode(0o644)).unwrap();
    house.set("http", "tls_cert", house.path("cert").to_str().unwrap());
    house.set("http", "tls_key", house.path("key").to_str().unwrap());
}

/// Asks as a client that trusts this certificate and no other.
fn ask(
    door: SocketAddr,
    trusted: &CertificateDer<'static>,
    bytes: &[u8],
) -> Result<Response, String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(session, connect(door));
    stream.write_all(bytes).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|error| error.to_string())?;
    Ok(Response::parse(&answer))
}

#[test]
fn https_is_spoken_and_nothing_else() {
    let proxy = Peer::phones();
    let mut house = house(&proxy);
    let made = certificate();
    install(&mut house, &made);
    house.set("http", "token", "secret");
    house.subscribe(&proxy, "202", "call");
    let mwid = house.start();
    let warned =
        format!("{} holds a private key and everybody may read it", house.path("key").display());
    mwid.log(&warned);
    let door = address(&mwid);
    let put = |lines| {
        let target = "/v1/accounts/202@example.com/summary";
        ask(door, made.cert.der(), &request("PUT", target, lines, r#"{"new": 1, "old": 0}"#))
            .unwrap()
    };
    put("").refused(401, "");
    assert_eq!(put("Authorization: Bearer secret\r\n").status, 204);
    proxy.shows("call", "1/0 (0/0)");
    let plain = say(door, &request("GET", "/v1/status", "", ""));
    assert!(!plain.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&plain));
    let other = certificate();
    let error = ask(door, other.cert.der(), b"GET /v1/status HTTP/1.1\r\n\r\n").unwrap_err();
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(mwid.status()["http"]["tls"], true);
}

#[test]
fn a_client_that_never_shakes_hands_is_cut_off() {
    let proxy = Peer::silent();
    let mut house = house(&proxy);
    install(&mut house, &certificate());
    let mwid = house.start();
    let mut stream = connect(address(&mwid));
    stream.write_all(b"\x16\x03\x01").unwrap();
    assert_eq!(stream.read(&mut [0; 100]).unwrap(), 0);
    mwid.until("closed", |status| status["http"]["connections"] == 0);
}

#[test]
fn a_renewed_certificate_is_shown_after_a_reload() {
    let proxy = Peer::silent();
    let mut house = house(&proxy);
    let (old, new) = (certificate(), certificate());
    install(&mut house, &old);
    let mwid = house.start();
    let door = address(&mwid);
    let status = request("GET", "/v1/status", "", "");
    assert_eq!(ask(door, old.cert.der(), &status).unwrap().status, 200);
    // A key that does not fit replaces nothing.
    fs::write(house.path("cert"), new.cert.pem()).unwrap();
    let said = house.mwid(&["reload"]);
    assert!(
        said.code == 1 && said.out.contains("[http] tls_cert and tls_key cannot be used"),
        "{said:?}"
    );
    assert_eq!(ask(door, old.cert.der(), &status).unwrap().status, 200);
    install(&mut house, &new);
    let said = house.mwid(&["reload"]);
    assert!(said.code == 0 && said.out.contains("[http]"), "{said:?}");
    assert_eq!(ask(door, new.cert.der(), &status).unwrap().status, 200);
    let said = house.mwid(&["reload"]);
    assert!(said.out.contains("nothing changed"), "{said:?}");
}

#[test]
fn without_a_usable_certificate_mwid_does_not_start_and_says_why() {
    let proxy = Peer::silent();
    let mut house = house(&proxy);
    let made = certificate();
    install(&mut house, &made);
    let refused = |house: &House, why: &str| {
        let mut mwid = house.launch();
        mwid.log(why);
        assert_eq!(mwid.ended(SOON).code(), Some(1));
        // What would refuse to start is refused before.
        let said = house.mwid(&["check"]);
        assert!(said.code == 1 && said.out.is_empty() && said.err.contains(why), "{said:?}");
        let said = house.mwid(&["check", "--json"]);
        let checked: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!((said.code, &checked["usable"]), (1, &false.into()));
        assert!(checked["errors"][0]["text"].as_str().unwrap().contains(why), "{said:?}");
    };
    assert_eq!(house.mwid(&["check"]).code, 0);
    fs::write(house.path("cert"), "-----BEGIN RUBBISH-----\n").unwrap();
    refused(&house, "[http] tls_cert:");
    fs::write(house.path("cert"), made.cert.pem()).unwrap();
    fs::write(house.path("key"), made.cert.pem()).unwrap();
    refused(&house, "holds no private key in PEM form");
    fs::remove_file(house.path("key")).unwrap();
    refused(&house, "[http] tls_key: cannot read");
}
