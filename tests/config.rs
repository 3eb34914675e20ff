//! The configuration as an operator meets it: files in, values, errors and warnings out.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use mwid::config::check::run_check;
use mwid::config::{
    self, Config, Control, DatabaseUrl, Environment, Loaded, Process, ReadError, Timers,
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

/// Password files and environment variables of a test.
struct Known(BTreeMap<&'static str, &'static [u8]>);

impl Environment for Known {
    fn variable(&self, name: &str) -> Option<String> {
        self.0.get(name).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn read(&self, path: &Path, _limit: u64) -> Result<Vec<u8>, ReadError> {
        let found = path.to_str().and_then(|path| self.0.get(path));
        let missing = || ReadError::Io {
            path: path.to_owned(),
            source: io::Error::from(io::ErrorKind::NotFound),
        };
        found.map(|bytes| bytes.to_vec()).ok_or_else(missing)
    }
}

fn known() -> Known {
    Known(BTreeMap::from([
        ("/etc/mwid/password", b"from file\n".as_slice()),
        ("/etc/mwid/two-lines", b"a\nb\n"),
        ("/etc/mwid/empty", b"\n"),
        ("/etc/mwid/latin1", b"\xe9"),
        ("MWID_PASSWORD", b"from env"),
    ]))
}

fn parse(text: &str) -> Result<Loaded, config::ConfigErrors> {
    config::parse(Path::new("t.conf"), text, &known())
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|errors| panic!("{text}\n{errors}")).config
}

/// The errors of a text below `[general]` and its proxy, which are lines 1 and 2.
fn errors(text: &str) -> String {
    let text = format!("[general]\nproxy = p\n{text}");
    parse(&text).map(|loaded| panic!("accepted: {loaded:?}")).unwrap_err().to_string()
}

fn warnings(text: &str) -> Vec<(Option<usize>, String)> {
    let all = parse(text).unwrap().warnings;
    all.into_iter().map(|warning| (warning.line, warning.to_string())).collect()
}

// Files of operators

#[test]
fn a_file_of_res_zonkey_mwi_loads_unchanged() {
    let text = include_str!("fixtures/zonkeymwi-shape.conf");
    for text in [text.to_owned(), text.replace('\n', "\r\n"), text.replace('=', " => ")] {
        let general = good(&text).general;
        assert_eq!(general.proxy[0].to_string(), "proxy.opensips.org:5060");
        assert_eq!(general.bind_address(), Some("101.102.103.1".parse().unwrap()));
        assert_eq!(general.useragent, "Asterisk Media Server01");
        assert_eq!(general.contactuser.as_deref(), Some("voicemail-user"));
        assert_eq!(general.vmexten.as_deref(), Some("*97"));
    }
}

#[test]
fn keys_and_sections_are_read_in_any_case_as_asterisk_reads_them() {
    assert_eq!(good("[General]\nProxy=a\nVMExten=*98").general.vmexten.as_deref(), Some("*98"));
}

#[test]
fn a_section_may_go_on_later() {
    let config =
        good("[general]\nproxy=a\n[timers]\nt1=100\n[general]\nvmexten=1\n[timers]\nt2=200");
    assert_eq!(config.timers.t2, Duration::from_millis(200));
    assert_eq!(config.general.vmexten.as_deref(), Some("1"));
}

#[test]
fn the_shipped_sample_is_the_table() {
    let shipped = include_str!("../etc/zonkeymwi.conf");
    let mut lines = (1..).zip(shipped.lines());
    for wanted in config::sample().lines() {
        let (number, line) = lines.next().unwrap_or((0, "the end"));
        assert_eq!(line, wanted, "etc/zonkeymwi.conf line {number}: the table wants the right one");
    }
    assert_eq!(lines.next(), None, "etc/zonkeymwi.conf has a line too many");
}

#[test]
fn every_key_stands_in_the_sample_with_its_default() {
    let shipped = include_str!("../etc/zonkeymwi.conf");
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
    let sample = include_str!("../etc/zonkeymwi.conf");
    assert_eq!(
        parse(sample).unwrap_err().to_string(),
        "t.conf: [general] proxy is missing; write the address of the SIP proxy: proxy = host:port"
    );
    let config = good(&sample.replacen(";proxy =", "proxy =", 1));
    assert_eq!(config, good("[general]\nproxy = proxy.example.com:5060"));
}

#[test]
fn every_example_of_the_sample_is_valid() {
    let sample = include_str!("../etc/zonkeymwi.conf");
    for line in sample.lines().filter(|line| line.starts_with(';') && !line.starts_with("; ")) {
        let exclusive = ["auth_password", "password_file", "password_env"];
        if !line.contains('=') || exclusive.iter().any(|key| line[1..].starts_with(key)) {
            continue; // Passwords are tried in their own tests.
        }
        let mut text = sample.replacen(line, &line[1..], 1);
        if !line.starts_with(";proxy") {
            text = text.replacen(";proxy =", "proxy =", 1);
        }
        if line.starts_with(";auth_user") {
            text = text.replacen(";auth_password =", "auth_password =", 1);
        }
        good(&text);
    }
}

// Keys

/// For each key: its default and another value, both as JSON shows them, and the text of the other
/// with the lines that it needs beside it.
fn key_tests() -> Vec<(&'static str, &'static str, Json, &'static str, Json)> {
    let user = "auth_user = u\n";
    let mysql = "url = mysql://u@h/d\n";
    let agent = concat!("mwid/", env!("CARGO_PKG_VERSION"));
    let with = |first: &str, second: &str| -> &'static str { format!("{first}{second}").leak() };
    vec![
        ("general", "proxy", json!([]), "proxy = a, [::1]:5070", json!(["a:5060", "[::1]:5070"])),
        ("general", "bindip", json!(null), "bindip = 2001:db8::1", json!("[2001:db8::1]")),
        ("general", "bindport", json!(0), "bindport = 5070", json!(5070)),
        ("general", "useragent", json!(agent), "useragent = PBX 1", json!("PBX 1")),
        ("general", "contactuser", json!(null), "contactuser = vm", json!("vm")),
        ("general", "vmexten", json!(null), "vmexten => *97=1", json!("*97=1")),
        ("general", "request_uri", json!("contact"), "request_uri = AOR", json!("aor")),
        ("general", "route", json!("auto"), "route = none", json!("none")),
        ("general", "next_hop", json!("proxy"), "next_hop = socket_info", json!("socket_info")),
        ("general", "cleanup", json!("keep"), "cleanup = delete", json!("delete")),
        ("general", "auth_user", json!(null), with(user, "auth_password = x"), json!("u")),
        (
            "general",
            "auth_password",
            json!(null),
            with(user, "auth_password = x"),
            json!("********"),
        ),
        (
            "general",
            "auth_password_file",
            json!(null),
            with(user, "auth_password_file = /etc/mwid/password"),
            json!("/etc/mwid/password"),
        ),
        (
            "general",
            "auth_password_env",
            json!(null),
            with(user, "auth_password_env = MWID_PASSWORD"),
            json!("MWID_PASSWORD"),
        ),
        ("spool", "enabled", json!(true), "enabled = off", json!(false)),
        ("spool", "path", json!("/var/spool/asterisk/voicemail"), "path = /a b", json!("/a b")),
        ("spool", "watch", json!("inotify"), "watch = poll", json!("poll")),
        ("spool", "poll", json!(10), "poll = 3", json!(3)),
        ("spool", "rescan", json!(300), "rescan = 60", json!(60)),
        (
            "database",
            "url",
            json!("sqlite:/var/lib/mwid/dialogs.db"),
            "url = mariadb://u:p@h:3307/d?socket=/run/s;x",
            json!("mysql://u:********@h:3307/d?socket=/run/s%3Bx"),
        ),
        (
            "database",
            "password_file",
            json!(null),
            with(mysql, "password_file = /etc/mwid/password"),
            json!("/etc/mwid/password"),
        ),
        (
            "database",
            "password_env",
            json!(null),
            with(mysql, "password_env = MWID_PASSWORD"),
            json!("MWID_PASSWORD"),
        ),
        ("database", "table", json!("active_watchers"), "table = aw_2", json!("aw_2")),
        ("database", "find_by", json!("presentity"), "find_by = either", json!("either")),
        ("database", "max_dialogs", json!(50), "max_dialogs = 10000", json!(10_000)),
        ("database", "timeout", json!(5), "timeout = 1", json!(1)),
        ("database", "connections", json!(4), "connections = 8", json!(8)),
        ("timers", "t1", json!(500), "t1 = 50", json!(50)),
        ("timers", "t2", json!(4000), "t2 = 500", json!(500)),
        ("timers", "t4", json!(5000), "t4 = 1", json!(1)),
        ("timers", "min_interval", json!(1000), "min_interval = 0", json!(0)),
        ("timers", "rate", json!(500), "rate = 1", json!(1)),
        ("timers", "retry_min", json!(5), "retry_min = 1", json!(1)),
        ("timers", "retry_max", json!(600), "retry_max = 5", json!(5)),
        ("timers", "shutdown", json!(5), "shutdown = 0", json!(0)),
        ("control", "socket", json!("/run/mwid/control.sock"), "socket = /c", json!("/c")),
        (
            "control",
            "externnotify",
            json!("/run/mwid/externnotify.sock"),
            "externnotify = /e",
            json!("/e"),
        ),
        ("control", "drop", json!("/var/lib/mwid/drop"), "drop = /d", json!("/d")),
    ]
}

#[test]
fn every_key_has_its_default_and_takes_another_value() {
    let tested: Vec<_> = key_tests().iter().map(|test| (test.0, test.1)).collect();
    let all: Vec<_> = config::keys().map(|key| (key.section, key.key)).collect();
    assert_eq!(tested, all, "a key without a test, or a test without a key");
    for (section, key, default, text, other) in key_tests() {
        let proxy = if key == "proxy" { "" } else { "proxy = p\n" };
        let text = format!("[general]\n{proxy}[{section}]\n{text}\n");
        assert_eq!(Config::default().to_json()[section][key], default, "[{section}] {key}");
        assert_eq!(good(&text).to_json()[section][key], other, "[{section}] {key}");
        assert_ne!(default, other);
        let empty =
            good(&format!("[general]\nproxy = p\n[{section}]\n{key} =\n").replace("proxy =\n", ""));
        assert_eq!(empty, good("[general]\nproxy = p"), "[{section}] {key}: empty is the default");
    }
}

#[test]
fn fields_hold_what_the_file_says_in_their_own_units() {
    let config = good(
        "[general]\nproxy = p\nauth_user = u\nauth_password = s;e\\;cret\n\
         [spool]\npoll = 7\n[timers]\nt1 = 70\nretry_min = 7\n\
         [database]\nurl = postgres://u@h/d\npassword_file = /etc/mwid/password\n\
         [control]\nsocket = /s",
    );
    let credentials = config.general.credentials.unwrap();
    assert_eq!((credentials.user.as_str(), credentials.password.reveal()), ("u", "s;e;cret"));
    assert_eq!(config.spool.poll, Duration::from_secs(7));
    assert_eq!(config.timers.t1, Duration::from_millis(70));
    assert_eq!(config.timers.retry_min, Duration::from_secs(7));
    let DatabaseUrl::Postgres(server) = config.database.url else { panic!("not PostgreSQL") };
    assert_eq!(server.password.unwrap().reveal(), "from file");
    assert_eq!(config.control, Control { socket: "/s".into(), ..Control::default() });
    assert_eq!(Timers::default().t4, Duration::from_secs(5));
}

#[test]
fn truth_values_are_those_of_asterisk() {
    for (text, value) in [
        ("yes", true),
        ("TRUE", true),
        ("on", true),
        ("1", true),
        ("no", false),
        ("False", false),
        ("off", false),
        ("0", false),
    ] {
        assert_eq!(
            good(&format!("[general]\nproxy=p\n[spool]\nenabled={text}")).spool.enabled,
            value
        );
    }
}

#[test]
fn contexts_and_mailboxes_name_their_accounts() {
    let accounts = good(
        "[general]\nproxy=p\n[contexts]\ndefault => example.com\nSales = sales.example.com\n\
         [mailboxes]\n202@default => sip:202@example.com, 203@example.com\n204 =\n",
    )
    .accounts;
    let domains = [("default", "example.com"), ("Sales", "sales.example.com")];
    assert_eq!(accounts.contexts, domains.map(|(a, b)| (a.to_owned(), b.to_owned())));
    let shown: Vec<_> =
        accounts.mailboxes.iter().map(|(mailbox, to)| format!("{mailbox} {to:?}")).collect();
    assert_eq!(shown, ["202@default [sip:202@example.com, sip:203@example.com]", "204@default []"]);
}

// Errors

#[test]
fn all_errors_of_a_file_are_told_at_once_in_the_order_of_its_lines() {
    let text = "[generl]\nx=1\n[timers]\nt1 = 0\nt3 = 1\nrate\n[general]\n[timers]\nt1 = 1\n";
    assert_eq!(
        parse(text).unwrap_err().to_string(),
        "t.conf:1: unknown section [generl]; did you mean [general]?; valid sections: general, spool, database, contexts, mailboxes, timers, control\n\
         t.conf:4: [timers] t1: \"0\" is not a whole number of milliseconds from 1 to 10000\n\
         t.conf:5: unknown key \"t3\" in [timers]; valid keys: t1, t2, t4, min_interval, rate, retry_min, retry_max, shutdown\n\
         t.conf:6: \"rate\" has no \"=\" behind it; write key = value, or ; in front of a comment\n\
         t.conf:9: [timers] t1: given twice, first in line 4; remove one\n\
         t.conf: [general] proxy is missing; write the address of the SIP proxy: proxy = host:port"
    );
}

#[test]
fn unknown_names_are_refused_with_the_near_miss_and_the_valid_ones() {
    for (text, error) in [
        (
            "[databse]",
            "t.conf:3: unknown section [databse]; did you mean [database]?; valid sections: general, spool, database, contexts, mailboxes, timers, control",
        ),
        (
            "[control]\nsockt = /a",
            "t.conf:4: unknown key \"sockt\" in [control]; did you mean \"socket\"?; valid keys: socket, externnotify, drop",
        ),
        (
            "[control]\nurl = x",
            "t.conf:4: unknown key \"url\" in [control]; it belongs to [database]; valid keys: socket, externnotify, drop",
        ),
        (
            "[database]\ndbhost = x",
            "t.conf:4: unknown key \"dbhost\" in [database]; valid keys: url, password_file, password_env, table, find_by, max_dialogs, timeout, connections",
        ),
    ] {
        assert_eq!(errors(text), error);
    }
}

#[test]
fn duplicates_name_both_lines_however_they_are_spelled() {
    for (text, error) in [
        (
            "vmexten=1\nVMEXTEN=1",
            "t.conf:4: [general] vmexten: given twice, first in line 3; remove one",
        ),
        (
            "[mailboxes]\n1=1@a\n1@default=2@a",
            "t.conf:5: [mailboxes] 1@default: given twice, first in line 4; remove one",
        ),
        (
            "[contexts]\na=b\n[contexts]\na=c",
            "t.conf:6: [contexts] a: given twice, first in line 4; remove one",
        ),
    ] {
        assert_eq!(errors(text), error);
    }
}

#[test]
fn bad_values_are_refused_with_what_is_valid() {
    let long = format!("[control]\nsocket = /{}", "a".repeat(107));
    let agent = format!("useragent = {}", "a".repeat(201));
    for (text, error) in [
        ("bindport = x", "3: [general] bindport: \"x\" is not a whole number from 0 to 65535"),
        ("bindport = +1", "3: [general] bindport: \"+1\" is not a whole number from 0 to 65535"),
        (
            "bindport = 65536",
            "3: [general] bindport: \"65536\" is not a whole number from 0 to 65535",
        ),
        ("route = maybe", "3: [general] route: \"maybe\" is not one of: auto, none"),
        (
            "[spool]\nenabled = ja",
            "4: [spool] enabled: \"ja\" is not one of: yes, no, true, false, on, off, 1, 0",
        ),
        (
            "[spool]\npoll = 0",
            "4: [spool] poll: \"0\" is not a whole number of seconds from 1 to 3600",
        ),
        ("[spool]\npath = vm", "4: [spool] path: \"vm\" is not an absolute path; start it with /"),
        (&long, "4: [control] socket: the path has 108 bytes; a socket's may have 107"),
        (
            "[database]\ntable = a;drop",
            "4: [database] table: ';' is not allowed there; use letters, digits and _",
        ),
        (
            "[database]\nurl = oracle://u:hunter2@h/d",
            "4: [database] url: the address starts with none of the databases that mwid knows: mysql, mariadb, postgres, postgresql, sqlite",
        ),
        (&agent, "3: [general] useragent: has 201 characters; at most 200 are allowed"),
        (
            "contactuser = a b",
            "3: [general] contactuser: the user \"a b\" contains ' ', which is not allowed there",
        ),
        (
            "vmexten = 1@x",
            "3: [general] vmexten: the user \"1@x\" contains '@', which is not allowed there",
        ),
        ("bindip = a b", "3: [general] bindip: \"a b\" is neither a host name nor an address"),
        ("[contexts]\nx =", "4: [contexts] x: the domain is empty"),
        (
            "[contexts]\n../x = a",
            "4: [contexts] ../x: the voicemail context \"../x\" contains '/', which is not allowed there",
        ),
        (
            "[mailboxes]\n1 = 2@a,,3@a",
            "4: [mailboxes] 1@default: an element of the list is empty; write one comma between two elements",
        ),
        (
            "[mailboxes]\n1 = 2@a, sip:2@a",
            "4: [mailboxes] 1@default: \"sip:2@a\" is in the list twice; remove one",
        ),
        (
            "[mailboxes]\n1 = 2",
            "4: [mailboxes] 1@default: \"2\" is not an account; write user@domain or sip:user@domain",
        ),
        ("[timers]\nt2 = 499", "4: [timers] t1 must not be greater than t2"),
        ("[timers]\nretry_min = 601", "4: [timers] retry_min must not be greater than retry_max"),
    ] {
        assert_eq!(errors(text), format!("t.conf:{error}"));
    }
}

#[test]
fn a_bad_proxy_is_refused_with_a_hint() {
    for (proxy, error) in [
        ("sip:a", "\"sip:a\" is a URI; write host:port, without \"sip:\""),
        (
            "a;transport=udp",
            "\"a;transport=udp\" has a parameter; write host:port, mwid speaks UDP only",
        ),
        ("a, a:5060", "\"a:5060\" is in the list twice; remove one"),
        ("a,", "an element of the list is empty; write one comma between two elements"),
    ] {
        let text = format!("[general]\nproxy = {proxy}");
        let refused = parse(&text).unwrap_err().to_string();
        assert_eq!(refused, format!("t.conf:2: [general] proxy: {error}"));
    }
}

#[test]
fn no_value_that_reaches_a_header_holds_a_control_character() {
    for key in ["useragent", "contactuser", "vmexten", "bindip", "auth_user"] {
        for (c, shown) in [('\0', "\\0"), ('\r', "\\r"), ('\u{b}', "\\u{b}"), ('\u{85}', "\\u{85}")]
        {
            let error = format!("t.conf:3: holds the control character '{shown}'; remove it");
            assert_eq!(errors(&format!("{key} = a{c}b")), error);
        }
    }
    let error = "t.conf:3: [general] useragent: '\\t' is not allowed there; use visible characters and spaces";
    assert_eq!(errors("useragent = a\tb"), error);
}

#[test]
fn a_password_comes_from_one_place_only_and_is_never_printed() {
    for (text, error) in [
        (
            "auth_user=u\nauth_password=hunter2\nauth_password_env=MWID_PASSWORD",
            "5: [general] auth_password_env: the password is already given by auth_password; keep one of them",
        ),
        (
            "[database]\nurl=mysql://u:hunter2@h/d\npassword_file=/etc/mwid/password",
            "5: [database] password_file: the password is already given by url; keep one of them",
        ),
        (
            "[database]\nurl=mysql://u@h/d\npassword_file=/a\npassword_env=B",
            "6: [database] password_env: the password is already given by password_file; keep one of them",
        ),
        (
            "[database]\npassword_env=MWID_PASSWORD",
            "4: [database] password_env: the database of url has no password; remove this line",
        ),
        (
            "auth_user=u\nauth_password_file=/etc/mwid/none",
            "4: [general] auth_password_file: cannot read /etc/mwid/none: entity not found",
        ),
        (
            "auth_user=u\nauth_password_file=secret",
            "4: [general] auth_password_file: \"secret\" is not an absolute path; start it with /",
        ),
        (
            "auth_user=u\nauth_password_file=/etc/mwid/empty",
            "4: [general] auth_password_file: /etc/mwid/empty is empty; put the password there",
        ),
        (
            "auth_user=u\nauth_password_file=/etc/mwid/two-lines",
            "4: [general] auth_password_file: /etc/mwid/two-lines holds more than one line of UTF-8 text",
        ),
        (
            "auth_user=u\nauth_password_file=/etc/mwid/latin1",
            "4: [general] auth_password_file: /etc/mwid/latin1 holds more than one line of UTF-8 text",
        ),
        (
            "auth_user=u\nauth_password_env=NONE",
            "4: [general] auth_password_env: the environment variable NONE is not set",
        ),
        (
            "auth_user=u\nauth_password=********",
            "4: [general] auth_password: ******** is what mwid prints in place of a password; write the password itself",
        ),
        (
            "auth_password=hunter2",
            "3: [general] auth_password: a password without auth_user; write auth_user = name",
        ),
        (
            "auth_user=u",
            "3: [general] auth_user: no password; write one of auth_password, auth_password_file, auth_password_env",
        ),
    ] {
        let printed = errors(text);
        assert_eq!(printed, format!("t.conf:{error}"));
        assert!(!printed.contains("hunter2"));
    }
    let loaded = parse("[general]\nproxy=p\nauth_user=u\nauth_password=hunter2\n[database]\nurl=mysql://u:hunter2@h/d").unwrap();
    let all = format!("{loaded:?}{}{}", loaded.config.to_ini(), loaded.config.to_json());
    assert!(!all.contains("hunter2"), "{all}");
}

// Warnings

const DATABASE: &str = "[database]\nurl = mysql://u@h/d\n";

#[test]
fn a_sound_configuration_has_no_warning() {
    let text = format!("{DATABASE}[general]\nproxy = p\nuseragent = a\\;b ; c\nbindip = 192.0.2.1");
    assert_eq!(warnings(&text), []);
    assert_eq!(
        warnings(
            &format!("{DATABASE}[general]\nproxy = ::1\nbindip = 127.0.0.1")
                .replace("::1", "[::1]")
        ),
        []
    );
}

#[test]
fn each_risk_is_told_with_its_line() {
    let long = format!("[control]\ndrop = /{}", "a".repeat(110));
    let cases: &[(&str, &[(Option<usize>, &str)])] = &[
        (
            "useragent = Foo;bar",
            &[(
                Some(5),
                "[general] useragent: the \";\" is part of the value; Asterisk would end the value there. Write \\; to keep it, or a space in front of a comment",
            )],
        ),
        (
            "bindip = 127.0.0.1",
            &[(
                Some(5),
                "[general] bindip = 127.0.0.1 is not reachable from the proxy p:5060; write this machine's address in its network, or remove the line",
            )],
        ),
        (
            "bindip = 0.0.0.0",
            &[(
                Some(5),
                "[general] bindip = 0.0.0.0 is no address that can be answered; remove the line, mwid then takes the address that routes to the proxy",
            )],
        ),
        (
            "contactuser = vm",
            &[(
                Some(5),
                "[general] contactuser: a NOTIFY moves the phone's target (RFC 6665), so each phone will send its next SUBSCRIBE to mwid's Contact and not to the presence server; remove the line unless the proxy script rewrites Contact",
            )],
        ),
        (
            "request_uri = aor",
            &[(
                Some(5),
                "[general] request_uri = aor: the proxy script must call lookup(\"location\") for these NOTIFYs; a stock script answers 404",
            )],
        ),
        (
            "[database]\nfind_by = watcher",
            &[(
                Some(6),
                "[database] find_by = watcher searches watcher_username, which neither OpenSIPS nor Kamailio indexes: without an index every look-up reads the whole table; see the folder sql",
            )],
        ),
        (
            "[mailboxes]\n7@x =",
            &[(Some(6), "[mailboxes] 7@x lights no account; its messages show on no phone")],
        ),
        (
            "[control]\nexternnotify = /run/x y/e\ndrop = /d",
            &[(
                Some(6),
                "[control] is not at its defaults; write in voicemail.conf: externnotify = mwid-externnotify --socket '/run/x y/e' --drop /d",
            )],
        ),
        ("[control]\nsocket = /s", &[]),
    ];
    for (text, wanted) in cases {
        let text = format!("{DATABASE}[general]\nproxy = p\n{text}");
        let wanted: Vec<_> =
            wanted.iter().map(|(line, text)| (*line, (*text).to_owned())).collect();
        assert_eq!(warnings(&text), wanted, "{text}");
    }
    let found = warnings(&format!("{DATABASE}[general]\nproxy = p\n{long}"));
    assert_eq!(
        found[1].1,
        "[control] the externnotify command has 136 characters; with its arguments Asterisk cuts it at 160, so choose paths that make it shorter than 120"
    );
    let found = warnings("[general]\nproxy = p");
    assert_eq!(found, [(None, "[database] url is not set: mwid reads its own file sqlite:/var/lib/mwid/dialogs.db, which is empty unless a presence server writes active_watchers there; write the address of the presence server's database".to_owned())]);
}

// Files

#[test]
fn a_file_that_is_no_text_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.conf");
    let refused =
        || config::load(&file).unwrap_err().to_string().replace(file.to_str().unwrap(), "F");
    assert_eq!(refused(), "F: cannot read F: No such file or directory (os error 2)");
    std::fs::write(&file, b"[general]\nproxy=a\nuseragent=\xe9\n").unwrap();
    assert_eq!(refused(), "F:3: not UTF-8; save the file as UTF-8 text");
    std::fs::write(&file, vec![b'\n'; 1024 * 1024 + 1]).unwrap();
    assert_eq!(refused(), "F: F is larger than 1048576 bytes");
    std::fs::write(
        &file,
        [b"[general]\nproxy=a\n".as_slice(), &vec![b'\n'; 1024 * 1024 - 18]].concat(),
    )
    .unwrap();
    assert!(config::load(&file).is_ok());
    let refused = config::load(folder.path()).unwrap_err().to_string();
    assert_eq!(refused, format!("{0}: {0} is not a regular file", folder.path().display()));
}

#[test]
fn a_pipe_in_place_of_a_password_file_does_not_hang() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let text = format!("[general]\nproxy=p\nauth_user=u\nauth_password_file={}", pipe.display());
    let refused = config::parse(Path::new("t"), &text, &Process).unwrap_err().to_string();
    assert!(refused.ends_with("pipe is not a regular file"), "{refused}");
}

#[test]
fn a_password_that_everybody_may_read_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let (file, password) = (folder.path().join("c.conf"), folder.path().join("password"));
    std::fs::write(&password, "p").unwrap();
    let warned = |mode: u32, text: &str| {
        std::fs::write(&file, format!("[general]\nproxy=p\nauth_user=u\n{text}\n{DATABASE}"))
            .unwrap();
        for path in [&file, &password] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let all = config::load(&file).unwrap().warnings;
        all.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let text = |path: &Path| {
        format!("{} holds a password and everybody may read it; chmod 0640 it", path.display())
    };
    let named = format!("auth_password_file={}", password.display());
    assert_eq!(warned(0o644, "auth_password=p"), [text(&file)]);
    assert_eq!(warned(0o644, &named), [text(&password)]);
    assert!(warned(0o640, "auth_password=p").is_empty() && warned(0o640, &named).is_empty());
}

#[test]
fn check_prints_the_effective_configuration_its_warnings_and_an_exit_status() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.conf");
    std::fs::write(&file, format!("{DATABASE}[general]\nproxy = p\nrequest_uri = aor\n")).unwrap();
    let checked = run_check(&file, false);
    assert_eq!((checked.code, checked.stderr.as_str()), (0, ""));
    assert!(checked.stdout.contains("\nproxy = p:5060\nbindip =\nbindport = 0\n"));
    assert!(checked.stdout.contains("\n; warning: line 5: [general] request_uri = aor: "));
    assert_eq!(good(&checked.stdout), config::load(&file).unwrap().config);

    let json: Json = serde_json::from_str(&run_check(&file, true).stdout).unwrap();
    assert_eq!((&json["usable"], &json["warnings"][0]["line"]), (&json!(true), &json!(5)));
    assert_eq!(json["config"]["timers"]["t1"], json!(500));

    std::fs::write(&file, "[general]\nroute = x").unwrap();
    let refused = run_check(&file, false);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    assert_eq!(refused.stderr.lines().count(), 2);
    let json: Json = serde_json::from_str(&run_check(&file, true).stdout).unwrap();
    assert_eq!((&json["usable"], &json["errors"][0]["line"]), (&json!(false), &json!(2)));
    assert_eq!(json["errors"][1]["line"], json!(null));
}

// Any input

/// Lines that are often right, so that the reader is reached behind the dialect.
fn line() -> impl Strategy<Value = String> {
    let sections = ["general", "spool", "database", "contexts", "mailboxes", "timers", "control"];
    let entries: Vec<_> = key_tests().into_iter().map(|test| test.3.to_owned()).collect();
    prop_oneof![
        proptest::sample::select(sections.to_vec()).prop_map(|name| format!("[{name}]")),
        proptest::sample::select(entries),
        "[a-z]{1,8} ?=>? ?[a-z0-9:/@,;. ]{0,20}",
        "[0-9]{1,3}(@[a-z]{1,3})? = ([0-9]@[a-z],?){0,3}",
        "\\PC{0,20}",
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn any_text_loads_or_is_refused_with_lines_of_the_file(
        lines in proptest::collection::vec(line(), 0..12)
    ) {
        let text = lines.join("\n");
        let count = text.split('\n').count();
        match parse(&text) {
            Ok(loaded) => prop_assert!(!loaded.config.general.proxy.is_empty()),
            Err(refused) => {
                prop_assert!(!refused.errors.is_empty());
                for error in &refused.errors {
                    prop_assert!(error.line.is_none_or(|line| (1..=count).contains(&line)));
                }
            }
        }
    }

    /// Each key at its default or its other value, in any mixture: what is printed reads the same.
    #[test]
    fn the_effective_configuration_reads_as_itself(
        chosen in proptest::collection::vec(any::<bool>(), key_tests().len()),
        agent in "[ -~é]{0,30}", context in "[a-z;#'\"]{1,5}", user in "[a-z0-9;?&=+$*%']{1,9}"
    ) {
        let mut text = format!("[general]\nproxy = p\nuseragent = {agent}\n")
            + &format!("[contexts]\nx{context} = x\n[mailboxes]\n1@x{context} = {user}@a\n");
        text = text.replace(';', "\\;");
        text.push_str("[general]\nauth_user = u\nauth_password_env = MWID_PASSWORD\n");
        for ((section, key, _, entry, _), _) in
            key_tests().into_iter().zip(&chosen).filter(|(_, chosen)| **chosen)
        {
            // The masked password of a URL is refused when it is read again.
            if !entry.contains('\n') && !["proxy", "useragent", "url"].contains(&key) {
                text.push_str(&format!("[{section}]\n{entry}\n"));
            }
        }
        let config = good(&text);
        prop_assert_eq!(good(&config.to_ini()), config);
    }
}

#[test]
fn a_large_file_is_read_in_time_that_grows_with_it() {
    let many: String = (0..35_000).map(|n| format!("{n};=u{n}@example.com\n")).collect();
    let text = format!("[general]\nproxy=p\n[mailboxes]\n{many}");
    assert!(text.len() < 1024 * 1024);
    let start = std::time::Instant::now();
    let loaded = parse(&text).unwrap();
    assert_eq!((loaded.config.accounts.mailboxes.len(), loaded.warnings.len()), (35_000, 35_001));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    println!("{:?}", start.elapsed());
    let list: Vec<_> = (0..1001).map(|n| format!("{n}@a")).collect();
    let error = "t.conf:4: [mailboxes] 1@default: the list has more than 1000 elements";
    assert_eq!(errors(&format!("[mailboxes]\n1={}", list.join(","))), error);
}
