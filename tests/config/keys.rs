//! Every key: its default, and that it takes another value.

use std::time::Duration;

use mwid::config::{self, Cleanup, Config, Control, DatabaseUrl, NextHop, Timers};
use serde_json::Value as Json;

use crate::good;

/// Section and key; its default as JSON shows it; the lines that give it another value; that value.
#[rustfmt::skip]
pub(crate) const KEYS: &[(&str, &str, &str, &str, &str)] = &[
    ("general", "proxy", "[]", "proxy = a, [::1]:5070", r#"["a:5060", "[::1]:5070"]"#),
    ("general", "bindip", "null", "bindip = 2001:db8::1", r#""[2001:db8::1]""#),
    ("general", "bindport", "0", "bindport = 5070", "5070"),
    ("general", "useragent", concat!("\"mwid/", env!("CARGO_PKG_VERSION"), "\""), "useragent = PBX 1", r#""PBX 1""#),
    ("general", "contactuser", "null", "contactuser = vm", r#""vm""#),
    ("general", "vmexten", "null", "vmexten => *97=1", r#""*97=1""#),
    ("general", "request_uri", r#""contact""#, "request_uri = AOR", r#""aor""#),
    ("general", "route", r#""auto""#, "route = none", r#""none""#),
    ("general", "next_hop", r#""proxy""#, "next_hop = socket_info", r#""socket_info""#),
    ("general", "cleanup", r#""keep""#, "cleanup = delete", r#""delete""#),
    ("general", "auth_user", "null", "auth_user = u\nauth_password = x", r#""u""#),
    ("general", "auth_password", "null", "auth_user = u\nauth_password = x", r#""********""#),
    ("general", "auth_password_file", "null", "auth_user = u\nauth_password_file = /etc/mwid/password", r#""/etc/mwid/password""#),
    ("general", "auth_password_env", "null", "auth_user = u\nauth_password_env = MWID_PASSWORD", r#""MWID_PASSWORD""#),
    ("general", "auth_realm", "null", "auth_realm = the, realm", r#""the, realm""#),
    ("spool", "enabled", "true", "enabled = off", "false"),
    ("spool", "path", r#""/var/spool/asterisk/voicemail""#, "path = /a b", r#""/a b""#),
    ("spool", "watch", r#""inotify""#, "watch = poll", r#""poll""#),
    ("spool", "poll", "10", "poll = 3", "3"),
    ("spool", "rescan", "300", "rescan = 60", "60"),
    ("spool", "scope", r#""single""#, "scope = own", r#""own""#),
    ("ami", "host", "null", "host = [::1]\nuser = u\nsecret = x", r#""[::1]:5038""#),
    ("ami", "user", "null", "user = u\nsecret = x", r#""u""#),
    ("ami", "secret", "null", "user = u\nsecret = x", r#""********""#),
    ("ami", "secret_file", "null", "user = u\nsecret_file = /etc/mwid/password", r#""/etc/mwid/password""#),
    ("ami", "secret_env", "null", "user = u\nsecret_env = MWID_PASSWORD", r#""MWID_PASSWORD""#),
    ("ami", "timeout", "5", "timeout = 1", "1"),
    ("ami", "rescan", "3600", "rescan = 60", "60"),
    ("database", "url", r#""sqlite:/var/lib/mwid/dialogs.db""#, "url = mariadb://u:p@h:3307/d?socket=/run/s;x", r#""mysql://u:********@h:3307/d?socket=/run/s%3Bx""#),
    ("database", "password_file", "null", "url = mysql://u@h/d\npassword_file = /etc/mwid/password", r#""/etc/mwid/password""#),
    ("database", "password_env", "null", "url = mysql://u@h/d\npassword_env = MWID_PASSWORD", r#""MWID_PASSWORD""#),
    ("database", "table", r#""active_watchers""#, "table = aw_2", r#""aw_2""#),
    ("database", "find_by", r#""presentity""#, "find_by = either", r#""either""#),
    ("database", "max_dialogs", "50", "max_dialogs = 10000", "10000"),
    ("database", "timeout", "5", "timeout = 1", "1"),
    ("database", "connections", "4", "connections = 8", "8"),
    ("database", "resync", "300", "resync = 60", "60"),
    ("database", "watch_poll", "100", "watch_poll = 1000", "1000"),
    ("cluster", "node", "null", "node = vm-1.example_com", r#""vm-1.example_com""#),
    ("cluster", "url", "null", "url = postgres://u:p@h/d", r#""postgres://u:********@h/d""#),
    ("cluster", "password_file", "null", "url = mysql://u@h/d\npassword_file = /etc/mwid/password", r#""/etc/mwid/password""#),
    ("cluster", "password_env", "null", "url = mysql://u@h/d\npassword_env = MWID_PASSWORD", r#""MWID_PASSWORD""#),
    ("cluster", "lease", "30", "lease = 5", "5"),
    ("cluster", "poll", "200", "poll = 50", "50"),
    ("delivery", "use", r#"["notify"]"#, "use = Publish, notify", r#"["notify", "publish"]"#),
    ("publish", "server", "[]", "server = a, [::1]:5070", r#"["a:5060", "[::1]:5070"]"#),
    ("publish", "expires", "3600", "expires = 120", "120"),
    ("agent", "listen", "null", "listen = UDP:[::1]:5070\ntrusted = ::1", r#""udp:[::1]:5070""#),
    ("agent", "trusted", "[]", "trusted = 192.0.2.1, 10.1.2.3/8", r#"["192.0.2.1/32", "10.0.0.0/8"]"#),
    ("agent", "realm", "null", "realm = the, realm", r#""the, realm""#),
    ("agent", "min_expires", "60", "min_expires = 1", "1"),
    ("agent", "expires", "3600", "expires = 600", "600"),
    ("agent", "max_expires", "7200", "max_expires = 604800", "604800"),
    ("agent", "max_per_account", "50", "max_per_account = 10", "10"),
    ("agent", "max_subscriptions", "100000", "max_subscriptions = 1", "1"),
    ("agent", "rate", "100", "rate = 1000", "1000"),
    ("agent", "subscribers", "null", "subscribers = postgres://u:p@h/d", r#""postgres://u:********@h/d""#),
    ("agent", "subscribers_password_file", "null", "subscribers = mysql://u@h/d\nsubscribers_password_file = /etc/mwid/password", r#""/etc/mwid/password""#),
    ("agent", "subscribers_password_env", "null", "subscribers = mysql://u@h/d\nsubscribers_password_env = MWID_PASSWORD", r#""MWID_PASSWORD""#),
    ("agent", "nonce_lifetime", "300", "nonce_lifetime = 60", "60"),
    ("agent", "own_box", r#"["*97"]"#, "own_box = *97, 8500", r#"["*97", "8500"]"#),
    ("opensips-mi", "url", "null", "url = http://u:p@h:8888/mi", r#""http://u:********@h:8888/mi""#),
    ("opensips-mi", "expires", "3600", "expires = 60", "60"),
    ("opensips-mi", "timeout", "10", "timeout = 2", "2"),
    ("opensips-mi", "extra_headers", r#""""#, "extra_headers = A: 1|B: 2", r#""A: 1 | B: 2""#),
    ("opensips-mi", "reply_folder", r#""/run/mwid""#, "reply_folder = /run/mi", r#""/run/mi""#),
    ("kamailio-rpc", "url", "null", "url = https://h/RPC", r#""https://h/RPC""#),
    ("kamailio-rpc", "format", r#""json""#, "format = XML", r#""xml""#),
    ("kamailio-rpc", "expires", "3600", "expires = 7776000", "7776000"),
    ("kamailio-rpc", "timeout", "10", "timeout = 2", "2"),
    ("kamailio-rpc", "id", r#""mwid""#, "id = site-2", r#""site-2""#),
    ("kamailio-rpc", "outbound_proxy", "null", "outbound_proxy = sip:[::1]:5060;transport=tcp", r#""sip:[::1]:5060;transport=tcp""#),
    ("kamailio-rpc", "extra_headers", r#""""#, "extra_headers = P-Flags: 0", r#""P-Flags: 0""#),
    ("sipx", "publisher", "null", "publisher = http://h:8100/cgi/StatusEvent.cgi", r#""http://h:8100/cgi/StatusEvent.cgi""#),
    ("sipx", "method", r#""get""#, "method = post", r#""post""#),
    ("sipx", "body", r#""rfc3842""#, "body = 2.4", r#""2.4""#),
    ("sipx", "voicemail", "null", "voicemail = http://h/vm.cgi?a=b", r#""http://h/vm.cgi?a=b""#),
    ("sipx", "ask_again", "300", "ask_again = 60", "60"),
    ("sipx", "timeout", "10", "timeout = 2", "2"),
    ("webhook", "url", "null", "url = http://u:p@h/mwi", r#""http://u:********@h/mwi""#),
    ("webhook", "token", "null", "url = http://h/\ntoken = x", r#""********""#),
    ("webhook", "token_file", "null", "url = http://h/\ntoken_file = /etc/mwid/token", r#""/etc/mwid/token""#),
    ("webhook", "token_env", "null", "url = http://h/\ntoken_env = MWID_TOKEN", r#""MWID_TOKEN""#),
    ("webhook", "timeout", "10", "timeout = 2", "2"),
    ("webhook", "tries", "10", "tries = 1", "1"),
    ("webhook", "ask_again", "300", "ask_again = 60", "60"),
    ("timers", "t1", "500", "t1 = 50", "50"),
    ("timers", "t2", "4000", "t2 = 500", "500"),
    ("timers", "t4", "5000", "t4 = 1", "1"),
    ("timers", "min_interval", "1000", "min_interval = 0", "0"),
    ("timers", "settle", "100", "settle = 0", "0"),
    ("timers", "rate", "500", "rate = 1", "1"),
    ("timers", "retry_min", "5", "retry_min = 1", "1"),
    ("timers", "retry_max", "600", "retry_max = 5", "5"),
    ("timers", "shutdown", "5", "shutdown = 0", "0"),
    ("state", "path", r#""/var/lib/mwid/ledger.db""#, "path = /l", r#""/l""#),
    ("control", "socket", r#""/run/mwid/control.sock""#, "socket = /c", r#""/c""#),
    ("control", "externnotify", r#""/run/mwid/externnotify.sock""#, "externnotify = /e", r#""/e""#),
    ("control", "drop", r#""/var/lib/mwid/drop""#, "drop = /d", r#""/d""#),
    ("http", "listen", "[]", "listen = 127.0.0.1:8080, [::1]:8080", r#"["127.0.0.1:8080", "[::1]:8080"]"#),
    ("http", "token", "null", "listen = [::1]:80\ntoken = x", r#""********""#),
    ("http", "token_file", "null", "listen = [::1]:80\ntoken_file = /etc/mwid/token", r#""/etc/mwid/token""#),
    ("http", "token_env", "null", "listen = [::1]:80\ntoken_env = MWID_TOKEN", r#""MWID_TOKEN""#),
    ("http", "read_token", "null", "listen = 192.0.2.1:80\nread_token = x", r#""********""#),
    ("http", "read_token_file", "null", "listen = [::1]:80\nread_token_file = /etc/mwid/token", r#""/etc/mwid/token""#),
    ("http", "read_token_env", "null", "listen = [::1]:80\nread_token_env = MWID_TOKEN", r#""MWID_TOKEN""#),
    ("http", "tls_cert", "null", "tls_cert = /c\ntls_key = /k", r#""/c""#),
    ("http", "tls_key", "null", "tls_cert = /c\ntls_key = /k", r#""/k""#),
    ("http", "domains", "[]", "domains = a.example, b.example", r#"["a.example", "b.example"]"#),
    ("capture", "hep", "null", "hep = homer.example.com", r#""homer.example.com:9060""#),
    ("capture", "id", "2001", "id = 4294967295", "4294967295"),
    ("capture", "password", "null", "hep = h\npassword = x", r#""********""#),
    ("capture", "password_file", "null", "hep = h\npassword_file = /etc/mwid/token", r#""/etc/mwid/token""#),
    ("capture", "password_env", "null", "hep = h\npassword_env = MWID_PASSWORD", r#""MWID_PASSWORD""#),
];

#[test]
fn every_key_has_its_default_and_takes_another_value() {
    let tested: Vec<_> = KEYS.iter().map(|test| (test.0, test.1)).collect();
    let all: Vec<_> = config::keys().map(|key| (key.section, key.key)).collect();
    assert_eq!(tested, all, "a key without a test, or a test without a key");
    for &(section, key, default, text, other) in KEYS {
        let [default, other]: [Json; 2] =
            [default, other].map(|json| serde_json::from_str(json).unwrap());
        let proxy = if key == "proxy" { "" } else { "proxy = p\n" };
        let text = format!("[general]\n{proxy}[{section}]\n{text}\n");
        assert_eq!(Config::default().to_json()[section][key], default, "[{section}] {key}");
        assert_eq!(good(&text).to_json()[section][key], other, "[{section}] {key}");
        assert_ne!(default, other);
        let empty = good(
            &format!("[general]\nproxy = p\n[{section}]\n{key} =\n").replace("\nproxy =\n", "\n"),
        );
        assert_eq!(empty, good("[general]\nproxy = p"), "[{section}] {key}: empty is the default");
    }
}

#[test]
fn fields_hold_what_the_file_says_in_their_own_units() {
    let config = good(
        "[general]\nproxy = p\nauth_user = u\nauth_password = s;e\\;cret\n\
         [spool]\npoll = 7\n[timers]\nt1 = 70\nretry_min = 7\n\
         [database]\nurl = postgres://u@h/d\npassword_file = /etc/mwid/password\n\
         [cluster]\nurl = postgres://u@h/d\npassword_file = /etc/mwid/password\n\
         [control]\nsocket = /s",
    );
    assert_eq!(config.cluster.url.as_ref(), Some(&config.database.url));
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
fn the_domains_of_http_are_those_of_the_accounts_unless_they_are_named() {
    let domains = |text: &str| {
        let domains = good(&format!("[general]\nproxy=p\n{text}")).http_domains();
        domains.map(|domains| domains.into_iter().collect::<Vec<_>>().join(" "))
    };
    assert_eq!(domains(""), None);
    let accounts = "[contexts]\ndefault = a.example\n[mailboxes]\n1 = 2@b.example, 3@a.example\n";
    assert_eq!(domains(accounts).as_deref(), Some("a.example b.example"));
    assert_eq!(
        domains(&format!("{accounts}[http]\ndomains = c.example")).as_deref(),
        Some("c.example")
    );
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

#[test]
fn users_and_who_may_watch_what_are_named_without_regard_to_the_case_of_domains() {
    let watchers = good(
        "[general]\nproxy=p\n[users]\n202@Example.com => s\\;e=cret\n\
         [watch]\nsip:Sales@EXAMPLE.com = 202@example.com, sip:203@Example.org\n",
    )
    .watchers;
    let users: Vec<_> =
        watchers.users.iter().map(|(user, secret)| (user.as_str(), secret.reveal())).collect();
    assert_eq!(users, [("sip:202@example.com", "s;e=cret")]);
    let [(shared, by)] = watchers.shared.as_slice() else { panic!("{watchers:?}") };
    assert_eq!(shared.as_str(), "sip:Sales@example.com");
    let by: Vec<_> = by.iter().map(|account| account.as_str()).collect();
    assert_eq!(by, ["sip:202@example.com", "sip:203@example.org"]);
}

#[test]
fn an_agent_is_the_one_socket_and_needs_no_proxy() {
    let agent = "[agent]\nlisten = udp:192.0.2.10:5070\ntrusted = 192.0.2.1";
    let config = good(agent);
    let general = &config.general;
    assert_eq!((general.bindip.as_deref(), general.bindport), (Some("192.0.2.10"), 5070));
    assert_eq!(general.next_hop, NextHop::Dialog);
    assert_eq!(config.timers.settle, Duration::ZERO);
    assert_eq!(general.cleanup, Cleanup::Delete, "the table is its own");
    let config = good(&format!(
        "[general]\nproxy = p\ncleanup = keep\nbindip = pbx.example.com\n[timers]\nsettle = 7\n{agent}"
    ));
    assert_eq!(config.general.bindip.as_deref(), Some("pbx.example.com"), "what phones are told");
    assert_eq!(config.general.next_hop, NextHop::Proxy);
    assert_eq!(config.general.cleanup, Cleanup::Keep);
    assert_eq!(config.timers.settle, Duration::from_millis(7));
    let six = good("[agent]\nlisten = udp:[2001:db8::1]:5070\ntrusted = ::/0").general;
    assert_eq!(six.bindip.as_deref(), Some("[2001:db8::1]"));
    assert!(six.wants_ipv6());
    let direct = good("[general]\nnext_hop = dialog\n").general;
    assert_eq!(direct.proxy, [], "the dialogs say where to go");
}
