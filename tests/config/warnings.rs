//! What is accepted with a warning.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use mwid::config;

use crate::parse;

fn warnings(text: &str) -> Vec<(Option<usize>, String)> {
    let all = parse(text).unwrap_or_else(|errors| panic!("{text}\n{errors}")).warnings;
    all.into_iter().map(|warning| (warning.line, warning.to_string())).collect()
}

/// Without it each configuration is warned that the default database is empty.
const DATABASE: &str = "[database]\nurl = mysql://u@h/d\n";

#[test]
fn a_sound_configuration_has_no_warning() {
    let text = format!(
        "{DATABASE}[general]\nproxy = p\nuseragent = a\\;b ; c\nbindip = 192.0.2.1\n[control]\nsocket = /s"
    );
    assert_eq!(warnings(&text), []);
    assert_eq!(warnings(&format!("{DATABASE}[general]\nproxy = [::1]\nbindip = 127.0.0.1")), []);
}

/// What stands below the proxy, and the warning with its line.
const RISKS: &[(&str, usize, &str)] = &[
    (
        "useragent = Foo;bar",
        5,
        "[general] useragent: the \";\" is part of the value; Asterisk would end the value there. Write \\; to keep it, or a space in front of a comment",
    ),
    (
        "bindip = 127.0.0.1",
        5,
        "[general] bindip = 127.0.0.1 is not reachable from the proxy p:5060; write this machine's address in its network, or remove the line",
    ),
    (
        "bindip = 0.0.0.0",
        5,
        "[general] bindip = 0.0.0.0 is no address that can be answered; remove the line, mwid then takes the address that routes to the proxy",
    ),
    (
        "contactuser = vm",
        5,
        "[general] contactuser: a NOTIFY moves the phone's target (RFC 6665), so each phone will send its next SUBSCRIBE to mwid's Contact and not to the presence server; remove the line unless the proxy script rewrites Contact",
    ),
    (
        "request_uri = aor",
        5,
        "[general] request_uri = aor: the proxy script must call lookup(\"location\") for these NOTIFYs; a stock script answers 404",
    ),
    (
        "[database]\nfind_by = watcher",
        6,
        "[database] find_by = watcher searches watcher_username, which neither OpenSIPS nor Kamailio indexes: without an index every look-up reads the whole table; see the folder sql",
    ),
    ("[mailboxes]\n7@x =", 6, "[mailboxes] 7@x lights no account; its messages show on no phone"),
    (
        "[control]\nexternnotify = /run/x y/e\ndrop = /d",
        6,
        "[control] is not at its defaults; write in voicemail.conf: externnotify = mwid-externnotify --socket '/run/x y/e' --drop /d",
    ),
    (
        "[spool]\nscope = own\n[timers]\nmin_interval = 500",
        8,
        "[timers] min_interval = 500 with [cluster]: a phone that is told more than once a second for long outruns the seconds of the database's clock, by which a node that takes over chooses its first CSeq; write 1000 or more",
    ),
    (
        "[http]\nlisten = 127.0.0.1:80, 192.0.2.1:80\ntoken = x",
        6,
        "[http] 192.0.2.1:80 without TLS: everybody on the way can read the token; set tls_cert and tls_key, or put a proxy with TLS in front of 127.0.0.1",
    ),
];

#[test]
fn each_risk_is_told_with_its_line() {
    let long = format!("[control]\ndrop = /{}", "a".repeat(110));
    for &(text, line, warning) in RISKS {
        let text = format!("{DATABASE}[general]\nproxy = p\n{text}");
        assert_eq!(warnings(&text), [(Some(line), warning.to_owned())]);
    }
    let found = warnings(&format!("{DATABASE}[general]\nproxy = p\n{long}"));
    assert_eq!(
        found[1].1,
        "[control] the externnotify command has 136 characters; with its arguments Asterisk cuts it at 160, so choose paths that make it shorter than 120"
    );
    let found = warnings("[general]\nproxy = p");
    assert_eq!(found, [(None, "[database] url is not set: mwid reads its own file sqlite:/var/lib/mwid/dialogs.db, which is empty unless a presence server writes active_watchers there; write the address of the presence server's database".to_owned())]);
}

#[test]
fn what_is_configured_and_can_have_no_effect_is_told() {
    let general = format!("{DATABASE}[general]\nproxy = p\n[delivery]\nuse = publish\n");
    let found = warnings(&format!("{general}[kamailio-rpc]\nurl = http://h/RPC"));
    let text = "[kamailio-rpc] url is set, and no account is told by kamailio-rpc; name kamailio-rpc in [delivery] use, or remove the line";
    assert_eq!(found, [(Some(8), text.to_owned())]);
    let by_context = "[delivery_contexts]\nsales = kamailio-rpc";
    let found = warnings(&format!("{general}[kamailio-rpc]\nurl = http://h/RPC\n{by_context}"));
    assert_eq!(found, []);
    let found = warnings(&format!("{general}[sipx]\nvoicemail = http://h/"));
    let text = "[sipx] voicemail is asked for accounts whose subscription mwid sees in the database, and without notify in [delivery] use it looks at none: nobody is asked";
    assert_eq!(found, [(Some(8), text.to_owned())]);
    let both = general.replace("publish", "publish, notify");
    assert_eq!(warnings(&format!("{both}[sipx]\nvoicemail = http://h/")), []);
}

#[test]
fn no_database_is_missed_where_no_phone_is_told_by_notify() {
    assert_eq!(warnings("[general]\nproxy = p\n[delivery]\nuse = publish"), []);
}

#[test]
fn a_folder_that_opensips_cannot_reply_in_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.conf");
    let warned = |url: &str, replies: &Path| {
        let way = format!("url = {url}\nreply_folder = {}", replies.display());
        let delivery = "[delivery]\nuse = opensips-mi";
        std::fs::write(&file, format!("[general]\nproxy = p\n{delivery}\n[opensips-mi]\n{way}\n"))
            .unwrap();
        let all = config::load(&file).unwrap().warnings;
        all.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let missing = folder.path().join("missing");
    let text = format!(
        "[opensips-mi] reply_folder = {}: ENOENT: No such file or directory; mwid must be able to make there what OpenSIPS replies to (etc/mwid.service makes /run/mwid)",
        missing.display()
    );
    for url in ["fifo:/run/opensips/fifo", "unixgram:/run/opensips/mi.sock"] {
        assert_eq!(warned(url, &missing), [text.as_str()]);
        assert_eq!(warned(url, folder.path()), [""; 0]);
    }
    assert_eq!(warned("udp:127.0.0.1:8080", &missing), [""; 0]);
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
