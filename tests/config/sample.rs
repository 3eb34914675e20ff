//! The shipped sample file is the table of keys, and it loads.

use mwid::config;

use crate::{good, parse};

#[test]
fn the_shipped_sample_is_the_table() {
    let shipped = include_str!("../../etc/zonkeymwi.conf");
    let mut lines = (1..).zip(shipped.lines());
    for wanted in config::sample().lines() {
        let (number, line) = lines.next().unwrap_or((0, "the end"));
        assert_eq!(line, wanted, "etc/zonkeymwi.conf line {number}: the table wants the right one");
    }
    assert_eq!(lines.next(), None, "etc/zonkeymwi.conf has a line too many");
}

#[test]
fn every_key_stands_in_the_sample_with_its_default() {
    let shipped = include_str!("../../etc/zonkeymwi.conf");
    for key in config::keys() {
        let start = format!(";{} = {}", key.key, key.default);
        let about = format!("; {}", key.about);
        let (_, section) = shipped.split_once(&format!("\n[{}]\n", key.section)).unwrap();
        let section = section.split("\n[").next().unwrap();
        let found = section.lines().zip(section.lines().skip(1)).any(|(above, line)| {
            above == about
                && if key.default.is_empty() { line.starts_with(&start) } else { line == start }
        });
        assert!(found, "[{}] {} has no line {start:?} below its explanation", key.section, key.key);
    }
}

#[test]
fn the_sample_with_its_proxy_loads_and_says_nothing_but_the_defaults() {
    let sample = include_str!("../../etc/zonkeymwi.conf");
    assert_eq!(
        parse(sample).unwrap_err().to_string(),
        "t.conf: [general] proxy is missing; write the address of the SIP proxy: proxy = host:port"
    );
    let config = good(&sample.replacen(";proxy =", "proxy =", 1));
    assert_eq!(config, good("[general]\nproxy = proxy.example.com:5060"));
}

#[test]
fn every_example_of_the_sample_is_valid() {
    let sample = include_str!("../../etc/zonkeymwi.conf");
    for line in sample.lines().filter(|line| line.starts_with(';') && !line.starts_with("; ")) {
        let exclusive = [
            "auth_password",
            "password_file",
            "password_env",
            "secret",
            "subscribers_password",
            "token_file",
            "token_env",
            "read_token_file",
            "read_token_env",
        ];
        if !line.contains('=') || exclusive.iter().any(|key| line[1..].starts_with(key)) {
            continue; // Passwords are tried in their own tests.
        }
        let mut text = sample.replacen(line, &line[1..], 1);
        if !line.starts_with(";proxy") {
            text = text.replacen(";proxy =", "proxy =", 1);
        }
        for (key, needs) in
            [(";auth_user", "auth_password"), (";tls_cert", "tls_key"), (";tls_key", "tls_cert")]
        {
            if line.starts_with(key) {
                text = text.replacen(&format!(";{needs} ="), &format!("{needs} ="), 1);
            }
        }
        if line.starts_with(";user =") || line.starts_with(";host =") {
            text = text.replacen(";user =", "user =", 1).replacen(";secret =", "secret =", 1);
        }
        if line.starts_with(";listen") {
            text = text.replacen(";trusted =", "trusted =", 1);
        }
        good(&text);
    }
}
