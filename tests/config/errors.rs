//! Every kind of refusal, by its exact text.

use crate::{errors_below_proxy, parse};

#[test]
fn all_errors_of_a_file_are_told_at_once_in_the_order_of_its_lines() {
    let text = "[generl]\nx=1\n[timers]\nt1 = 0\nt3 = 1\nrate\n[general]\n[timers]\nt1 = 1\n";
    assert_eq!(
        parse(text).unwrap_err().to_string(),
        "t.conf:1: unknown section [generl]; did you mean [general]?; valid sections: general, spool, ami, database, cluster, contexts, mailboxes, delivery, delivery_contexts, publish, agent, users, watch, opensips-mi, kamailio-rpc, sipx, webhook, timers, state, control, http, capture\n\
         t.conf:4: [timers] t1: \"0\" is not a whole number of milliseconds from 1 to 10000\n\
         t.conf:5: unknown key \"t3\" in [timers]; valid keys: t1, t2, t4, min_interval, settle, rate, retry_min, retry_max, shutdown\n\
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
            "t.conf:3: unknown section [databse]; did you mean [database]?; valid sections: general, spool, ami, database, cluster, contexts, mailboxes, delivery, delivery_contexts, publish, agent, users, watch, opensips-mi, kamailio-rpc, sipx, webhook, timers, state, control, http, capture",
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
            "t.conf:4: unknown key \"dbhost\" in [database]; valid keys: url, password_file, password_env, table, find_by, max_dialogs, timeout, connections, resync, watch_poll",
        ),
    ] {
        assert_eq!(errors_below_proxy(text), error);
    }
}

#[test]
fn ways_of_delivery_are_known_and_say_where_to() {
    for (text, error) in [
        (
            "[delivery]\nuse = notfy",
            "t.conf:4: [delivery] use: \"notfy\" is not one of: notify, publish, opensips-mi, kamailio-rpc, sipx",
        ),
        (
            "[delivery]\nuse = notify, notify",
            "t.conf:4: [delivery] use: \"notify\" is in the list twice; remove one",
        ),
        (
            "[delivery_contexts]\na = ",
            "t.conf:4: [delivery_contexts] a: an element of the list is empty; write one comma between two elements",
        ),
        (
            "[delivery_contexts]\nb = sipx",
            "t.conf:4: the way sipx is used, and [sipx] publisher does not say where; set it, or take sipx out",
        ),
    ] {
        assert_eq!(errors_below_proxy(text), error);
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
        assert_eq!(errors_below_proxy(text), error);
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
        assert_eq!(errors_below_proxy(text), format!("t.conf:{error}"));
    }
}

/// What is wrong with an agent, without `t.conf:`, below its `listen`.
const AGENTS: &[(&str, &str)] = &[
    (
        "",
        "4: [agent] neither trusted nor realm is set, so nobody may subscribe; write trusted = the addresses of the proxies, or realm with [users] or subscribers",
    ),
    (
        "realm = a",
        "5: [agent] realm: nobody has a password in it; write subscribers = the proxy's database, or [users]",
    ),
    (
        "trusted = ::1\n[users]\n1@a = x",
        "4: [agent] realm is missing, so nobody is asked for a password; write realm = the domain",
    ),
    (
        "trusted = a.b",
        "5: [agent] trusted: \"a.b\" is neither an address nor a network; write 192.0.2.1 or 192.0.2.0/24",
    ),
    ("realm = a\"b", "5: [agent] realm: '\"' is not allowed there; use no quotes and backslashes"),
    (
        "trusted = ::1\nexpires = 3599\nmin_expires = 3600",
        "6: [agent] min_expires must not be greater than expires",
    ),
    (
        "trusted = ::1\nmax_expires = 3599",
        "6: [agent] expires must not be greater than max_expires",
    ),
    (
        "trusted = ::1\nmax_per_account = 51",
        "6: [agent] max_per_account must not be greater than max_dialogs in [database]: the rest would never be told",
    ),
    (
        "trusted = ::1\n[database]\nfind_by = watcher",
        "7: [database] find_by must be presentity with [agent] listen; remove this line",
    ),
    (
        "trusted = ::1\n[delivery]\nuse = publish",
        "7: [delivery] use has no notify, without which nobody tells the phones of [agent]; add it",
    ),
    (
        "trusted = ::1\n[general]\nbindport = 5071",
        "7: [general] bindport: the port is that of [agent] listen; remove this line",
    ),
    (
        "trusted = ::1\nsubscribers_password_env = MWID_PASSWORD",
        "6: [agent] subscribers_password_env: the database of subscribers has no password; remove this line",
    ),
    (
        "trusted = ::1\n[users]\n1@a =",
        "7: [users] sip:1@a: no password; write user@domain = password",
    ),
    (
        "trusted = ::1\n[users]\n1@a = ********",
        "7: [users] sip:1@a: ******** is what mwid prints in place of a password; write the password itself",
    ),
    (
        "trusted = ::1\n[watch]\n1 = 2@a",
        "7: [watch] 1: \"1\" is not an account; write user@domain or sip:user@domain",
    ),
];

#[test]
fn an_agent_that_could_serve_nobody_is_refused_with_what_to_do() {
    for (text, error) in AGENTS {
        let text = format!("[agent]\nlisten = udp:192.0.2.1:5070\n{text}");
        assert_eq!(errors_below_proxy(&text), format!("t.conf:{error}"));
    }
    for (listen, error) in [
        ("192.0.2.1:5070", "\"192.0.2.1:5070\" does not say how; write udp:host:port"),
        ("tcp:192.0.2.1", "\"tcp:192.0.2.1\" does not say how; write udp:host:port"),
        ("udp:", "\"\" is neither a host name nor an address"),
    ] {
        let error = format!("t.conf:4: [agent] listen: {error}");
        assert_eq!(errors_below_proxy(&format!("[agent]\nlisten = {listen}")), error);
    }
    let anywhere = "[agent]\nlisten = udp:0.0.0.0:5070\ntrusted = ::1";
    assert_eq!(
        errors_below_proxy(anywhere),
        "t.conf:4: [agent] listen = udp:0.0.0.0:5070 is no address that phones could be told; write bindip = the one that they reach"
    );
    assert!(parse(&format!("[general]\nbindip = 192.0.2.1\n{anywhere}")).is_ok());
    let no_hop = "[general]\nnext_hop = proxy\n[agent]\nlisten = udp:a:5070\ntrusted = ::1";
    let error = parse(no_hop).unwrap_err().to_string();
    assert!(error.contains("proxy is missing"), "{error}");
}

#[test]
fn a_password_of_a_user_is_never_printed() {
    let text =
        "[general]\nproxy=p\n[agent]\nsubscribers=mysql://u:hunter2@h/d\n[users]\n1@a = hunter2";
    let loaded = parse(text).unwrap();
    let all = format!("{loaded:?}{}{}", loaded.config.to_ini(), loaded.config.to_json());
    assert!(!all.contains("hunter2"), "{all}");
}

#[test]
fn a_door_that_is_open_for_everybody_or_half_locked_is_refused() {
    for (text, error) in [
        (
            "[http]\nlisten = localhost:80",
            "4: [http] listen: \"localhost:80\" is not address:port; write 127.0.0.1:8080 or [::1]:8080",
        ),
        (
            "[http]\nlisten = 127.0.0.1:80, 0.0.0.0:80",
            "4: [http] listen: 0.0.0.0:80 can be reached from other machines, so clients must show a token; write one of token, token_file, token_env, or listen on 127.0.0.1",
        ),
        (
            "[http]\nlisten = 0.0.0.0:80\ntoken = a b",
            "5: [http] token: a token has letters, digits and -._~+/ only, and perhaps = at its end",
        ),
        (
            "[http]\ntoken = x\ntoken_env = MWID_TOKEN",
            "5: [http] token_env: the password is already given by token; keep one of them",
        ),
        (
            "[http]\ntls_cert = /c",
            "4: [http] tls_cert without tls_key; write both, or neither for plain HTTP",
        ),
        (
            "[http]\ntls_key = /k",
            "4: [http] tls_key without tls_cert; write both, or neither for plain HTTP",
        ),
        (
            "[http]\ndomains = a b",
            "4: [http] domains: the domain \"a b\" contains ' ', which is not allowed there",
        ),
    ] {
        assert_eq!(errors_below_proxy(text), format!("t.conf:{error}"));
    }
}

#[test]
fn a_mailbox_that_cannot_be_a_folder_is_refused() {
    let long = "x".repeat(254);
    for (name, why) in [
        ("../x", "the mailbox number \"../x\" contains '/', which is not allowed there"),
        ("..", "the mailbox number \"..\" starts with a dot or contains \"..\""),
        (".x@a", "the mailbox number \".x\" starts with a dot or contains \"..\""),
        ("1@a/b", "the voicemail context \"a/b\" contains '/', which is not allowed there"),
        ("1@b@c", "the voicemail context \"b@c\" contains '@', which is not allowed there"),
        ("1@", "the voicemail context is empty"),
        ("@a", "the mailbox number is empty"),
        (&long, "the mailbox number has 254 bytes; at most 253 are allowed"),
    ] {
        let error = errors_below_proxy(&format!("[mailboxes]\n{name} = 2@a"));
        assert_eq!(error, format!("t.conf:4: [mailboxes] {name:.80}: {why}"));
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
            assert_eq!(errors_below_proxy(&format!("{key} = a{c}b")), error);
        }
    }
    let error = "t.conf:3: [general] useragent: '\\t' is not allowed there; use visible characters and spaces";
    assert_eq!(errors_below_proxy("useragent = a\tb"), error);
}

/// What is wrong with where a password comes from, without `t.conf:`.
const PASSWORDS: &[(&str, &str)] = &[
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
        "[cluster]\npassword_env=MWID_PASSWORD",
        "4: [cluster] password_env: a password without url; write url, or remove this line: [database] has its own",
    ),
    (
        "[cluster]\nurl=mysql://u:hunter2@h/d\npassword_file=/etc/mwid/password",
        "5: [cluster] password_file: the password is already given by url; keep one of them",
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
    ("[ami]\nhost=a", "4: [ami] host: a host without user; write user = name"),
    ("[ami]\nsecret=hunter2", "4: [ami] secret: a password without user; write user = name"),
    (
        "[ami]\nhost=a\nuser=u",
        "5: [ami] user: no password; write one of secret, secret_file, secret_env",
    ),
    (
        "[ami]\nuser=u\nsecret=hunter2\nsecret_env=MWID_PASSWORD",
        "6: [ami] secret_env: the password is already given by secret; keep one of them",
    ),
];

#[test]
fn a_password_comes_from_one_place_only_and_is_never_printed() {
    for (text, error) in PASSWORDS {
        let printed = errors_below_proxy(text);
        assert_eq!(printed, format!("t.conf:{error}"));
        assert!(!printed.contains("hunter2"));
    }
    let loaded = parse("[general]\nproxy=p\nauth_user=u\nauth_password=hunter2\n[database]\nurl=mysql://u:hunter2@h/d").unwrap();
    let all = format!("{loaded:?}{}{}", loaded.config.to_ini(), loaded.config.to_json());
    assert!(!all.contains("hunter2"), "{all}");
}

#[test]
fn a_webhook_shows_one_secret() {
    let error = errors_below_proxy("[webhook]\nurl = http://u:p@h/\ntoken = x");
    assert!(error.contains("[webhook]") && error.contains("url"), "{error}");
    let error = errors_below_proxy("[webhook]\nurl = http://h/\ntoken = a b");
    assert!(error.contains("[webhook] token"), "{error}");
}
