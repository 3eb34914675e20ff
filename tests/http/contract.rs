//! The OpenAPI document says what the server does: schemathesis tries both against each other.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::client::{address, ask, ask_with, house};
use crate::peer::Peer;

/// Where `scripts/setup` puts it.
const INSTALLED: &str = "target/tools/schemathesis/bin/schemathesis";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_server_does_what_its_document_says_and_refuses_all_else() {
    let installed = root().join(INSTALLED);
    assert!(installed.exists(), "there is no {INSTALLED}; run scripts/setup, which installs it");
    let proxy = Peer::silent();
    let mut house = house(&proxy);
    house.set("http", "token", "secret");
    let mwid = house.start();
    let door = address(&mwid);
    // Something to be found, and an account of a phone.
    house.subscribe(&proxy, "202", "call");
    let body = r#"{"new": 1, "old": 0}"#;
    let shown = "Authorization: Bearer secret\r\n";
    let target = "/v1/accounts/202@example.com/summary";
    assert_eq!(ask_with(door, "PUT", target, shown, body).status, 204);
    // It reads both from where it runs, and leaves its notes there.
    for file in ["schemathesis.toml", "hooks.py"] {
        let ours = root().join("tests/fixtures/schemathesis").join(file);
        std::fs::copy(ours, house.path(file)).unwrap();
    }
    // One worker: with two, Python 3.11 fails now and then (AST constructor recursion depth).
    let tried = Command::new(installed)
        .current_dir(house.path(""))
        .arg("run")
        .arg(root().join("etc/openapi.json"))
        .args(["--url", &format!("http://{door}")])
        .args(["--header", "Authorization: Bearer secret"])
        .args(["--checks", "all", "--workers", "1", "--no-color", "--request-timeout", "20"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&tried.stdout);
    let failed = String::from_utf8_lossy(&tried.stderr);
    assert!(tried.status.success(), "{said}{failed}\n{}", mwid.logged());
    assert!(said.contains("Tested: 12"), "not every operation was tried: {said}");
}

#[test]
fn the_document_is_served_and_names_every_route() {
    let proxy = Peer::silent();
    let house = house(&proxy);
    let mwid = house.start();
    let served = ask(address(&mwid), "GET", "/v1/openapi.json", "").json();
    let text = std::fs::read_to_string(root().join("etc/openapi.json")).unwrap();
    assert_eq!(served, serde_json::from_str::<Value>(&text).unwrap());
    let routes = root().join(Path::new("src/source/http/routes.rs"));
    let routes = std::fs::read_to_string(routes).unwrap();
    let routes: Vec<&str> =
        routes.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let mut named: Vec<&str> =
        served["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    named.sort_unstable();
    let mut routes = routes;
    routes.sort_unstable();
    assert_eq!(named, routes);
}
