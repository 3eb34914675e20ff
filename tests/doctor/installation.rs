//! Everything but the database.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::house::House;
use crate::peer::Peer;
use crate::support::net::{TcpPort, UdpPort};
use crate::{doctor, doctor_with};

/// What is there before and after.
fn everything(house: &House) -> Vec<String> {
    let list = std::process::Command::new("find").arg(house.path("")).arg("-ls").output().unwrap();
    let lines = String::from_utf8(list.stdout).unwrap();
    lines.lines().map(str::to_owned).collect()
}

#[test]
fn with_the_daemon_stopped_nothing_is_changed_and_all_is_said_in_one_line_a_check() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    fs::create_dir(house.path("drop")).unwrap();
    fs::set_permissions(house.path("drop"), fs::Permissions::from_mode(0o2770)).unwrap();
    let before = everything(&house);
    let seen = doctor(&house);
    assert_eq!(everything(&house), before);
    seen.says(
        "daemon",
        "warning",
        "mwid does not run: nobody listens on",
        "systemctl enable --now mwid",
    );
    seen.says("ledger", "ok", "is not there yet", "");
    for check in
        ["configuration", "spool", "inotify", "database", "proxy", "drop folder", "externnotify"]
    {
        seen.is_well(check);
    }
    assert!(seen.of("proxy")[0].1.contains("answers OPTIONS with 481 "), "{seen:?}");
    let said = house.mwid(&["doctor"]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("\nwarning  daemon "), "{}", said.out);
    assert!(said.out.contains("do: systemctl enable --now mwid\n"), "{}", said.out);
    let last = said.out.lines().last().unwrap();
    assert!(last.starts_with("0 failed, ") && last.ends_with(" ok"), "{last}");
}

#[test]
fn a_running_daemon_is_left_alone_and_another_configuration_than_its_own_is_seen() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    proxy.shows("call", "1/0 (0/0)");
    mwid.settled();
    let seen = doctor(&house);
    for check in ["daemon", "control socket", "externnotify socket", "ledger", "drop folder"] {
        seen.is_well(check);
    }
    assert!(seen.of("ledger")[0].1.contains(": 1 dialogs, 1 accounts"), "{seen:?}");
    assert_eq!(house.mwid(&["notify", "202", "example.com", "2", "0"]).code, 0);

    house.set("timers", "rate", "77");
    doctor(&house).says("daemon", "warning", "it runs another configuration", "mwid reload");
    assert_eq!(house.mwid(&["reload"]).code, 0);
    doctor(&house).is_well("daemon");
    fs::rename(house.path("dialogs.db"), house.path("away.db")).unwrap();
    assert_eq!(house.mwid(&["notify", "202", "example.com", "3", "0"]).code, 1);
    doctor(&house).says(
        "daemon",
        "failed",
        "in trouble: the database cannot be used",
        "docs/troubleshooting.md",
    );
}

#[test]
fn a_configuration_that_is_refused_is_all_that_is_said() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("timers", "rtae", "5");
    let seen = doctor(&house);
    seen.says("configuration", "failed", "rtae", "mwid check");
    assert_eq!((seen.code, seen.of("database").len()), (2, 0));
    house.set("timers", "rtae", "");
}

#[test]
fn a_proxy_that_is_silent_closed_or_has_no_address_is_told_apart() {
    let silent = Peer::silent();
    let mut house = House::new(&silent);
    doctor(&house).says(
        "proxy",
        "failed",
        "does not answer OPTIONS: no answer within 3 s",
        "firewall",
    );
    let closed = {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap().to_string()
    };
    house.set("general", "proxy", &format!("{closed}, nowhere.invalid:5060"));
    let seen = doctor(&house);
    seen.says("proxy", "failed", "nothing listens on 127.0.0.1:", "[general] proxy");
    seen.says("proxy", "failed", "nowhere.invalid:5060 has no address", "DNS");
    let busy = Peer::says(503);
    house.set("general", "proxy", &busy.address.to_string());
    doctor(&house).says("proxy", "warning", "answers OPTIONS with 503 ", "its log");
}

#[test]
fn the_line_of_voicemail_conf_must_run_our_helper_with_our_paths() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    let write = |text: &str| fs::write(house.path("voicemail.conf"), text).unwrap();
    let helper = env!("CARGO_BIN_EXE_mwid-externnotify");
    let (socket, drop) = (house.path("run/externnotify.sock"), house.path("drop"));
    let line =
        format!("externnotify = {helper} --socket {} --drop {}", socket.display(), drop.display());
    write(&format!("[general]\n{line}\n"));
    doctor(&house).says("externnotify", "ok", "--socket", "");
    write(&format!("[general]\nexternnotify = {helper}\n"));
    doctor(&house).says("externnotify", "failed", "does not name", "--socket ");
    write("[general]\nexternnotify = /usr/bin/mwid-externnotify-gone/mwid-externnotify\n");
    doctor(&house).says("externnotify", "failed", "cannot be run", "install -m 0755");
    write("[general]\nexternnotify = /usr/local/bin/mail-me\n");
    doctor(&house).says(
        "externnotify",
        "warning",
        "runs /usr/local/bin/mail-me",
        "write into [general]",
    );
    write("[general]\nformat = wav\n");
    doctor(&house).says("externnotify", "ok", "has no externnotify; the spool is watched", "");
    let elsewhere = house.path("nowhere.conf").display().to_string();
    let seen = doctor_with(&house, &["--voicemail", &elsewhere]);
    seen.says("externnotify", "warning", "nowhere.conf", "--voicemail");
    house.set("spool", "enabled", "no");
    doctor(&house).says(
        "externnotify",
        "failed",
        "nothing else tells",
        "externnotify = /usr/bin/mwid-externnotify --socket",
    );
}

#[test]
fn sockets_ledger_and_drop_folder_that_cannot_be_used_are_named() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    doctor(&house).says("drop folder", "failed", "drop", "systemd-tmpfiles");
    fs::create_dir(house.path("drop")).unwrap();
    fs::set_permissions(house.path("drop"), fs::Permissions::from_mode(0o777)).unwrap();
    doctor(&house).says("drop folder", "warning", "everybody", "chmod 2770");
    fs::set_permissions(house.path("drop"), fs::Permissions::from_mode(0o750)).unwrap();
    doctor(&house).says("drop folder", "warning", "the group may not", "chmod 2770");
    fs::create_dir(house.path("run")).unwrap();
    fs::write(house.path("run/control.sock"), b"").unwrap();
    doctor(&house).says("control socket", "failed", "no socket", "rm ");
    fs::remove_file(house.path("run/control.sock")).unwrap();
    fs::write(house.path("ledger.db"), b"this is no ledger, and long enough not to be one")
        .unwrap();
    doctor(&house).says("ledger", "warning", "cannot be read", "makes a new one");
    house.set("state", "path", &house.path("nowhere/ledger.db").display().to_string());
    doctor(&house).says("ledger", "failed", "there is no folder", "systemd-tmpfiles");
    let mwid = {
        house.set("state", "path", &house.path("other.db").display().to_string());
        house.start()
    };
    fs::set_permissions(house.path("run/externnotify.sock"), fs::Permissions::from_mode(0o600))
        .unwrap();
    doctor(&house).says("externnotify socket", "warning", "has the mode 600", "chmod 660");
    drop(mwid);
}

#[test]
fn a_spool_that_is_not_there_or_empty_is_told_apart() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    doctor(&house).says("spool", "warning", "it is empty", "mounted");
    fs::create_dir_all(house.path("spool/example.com/202")).unwrap();
    fs::write(house.path("spool/example.com/202/INBOX"), b"no folder").unwrap();
    doctor(&house).says("spool", "failed", "1 folders cannot be read", "chgrp -R asterisk");
    // A file system of its own has a folder of its own, in which mwid does not look.
    fs::create_dir_all(house.path("spool/lost+found/#12")).unwrap();
    fs::write(house.path("spool/lost+found/#12/INBOX"), b"no folder").unwrap();
    let seen = doctor(&house);
    seen.says(
        "spool",
        "failed",
        "contexts 1, mailboxes 1; 1 folders cannot be read",
        "lost+found -prune",
    );
    fs::remove_file(house.path("spool/example.com/202/INBOX")).unwrap();
    fs::create_dir_all(house.path("spool/example.com/a@b")).unwrap();
    doctor(&house).says("spool", "ok", "mailboxes 1, 1 folders skipped", "");
    fs::remove_dir_all(house.path("spool")).unwrap();
    doctor(&house).says("spool", "failed", "No such file", "[spool] path");
    house.set("spool", "enabled", "no");
    doctor(&house).is_well("spool");
}

#[test]
fn doors_that_are_configured_are_knocked_at() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    let manager = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = manager.local_addr().unwrap();
    house.set("ami", "host", &address.to_string());
    house.set("ami", "user", "mwid");
    house.set("ami", "secret", "secret");
    let closed = {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap()
    };
    house.set("webhook", "url", &format!("http://{closed}/events"));
    let greet = std::thread::spawn(move || {
        for greeting in ["Asterisk Call Manager/5.0.2\r\n", "220 mail\r\n"] {
            let (mut stream, _) = manager.accept().unwrap();
            stream.write_all(greeting.as_bytes()).unwrap();
        }
    });
    let seen = doctor(&house);
    seen.says("manager", "ok", "Asterisk Call Manager/5.0.2", "");
    seen.says("webhook", "failed", "Connection refused", "does it run");
    doctor(&house).says(
        "manager",
        "failed",
        "is no Asterisk manager: it says \"220 mail\"",
        "manager.conf",
    );
    greet.join().unwrap();
    doctor(&house).says("manager", "failed", "Connection refused", "enabled = yes");
}

#[test]
fn ways_that_publish_and_the_http_door_are_knocked_at_too() {
    let proxy = Peer::silent();
    let mut house = House::new(&proxy);
    let closed = TcpPort::claim().number();
    house.set("delivery", "use", "publish, opensips-mi, kamailio-rpc");
    house.set("opensips-mi", "url", &format!("fifo:{}", house.path("opensips_fifo").display()));
    house.set("kamailio-rpc", "url", &format!("http://127.0.0.1:{closed}/RPC"));
    let seen = doctor(&house);
    seen.says("database", "ok", "not used", "");
    assert_eq!(seen.of("proxy"), [], "nothing goes to it but a PUBLISH");
    seen.says("publish server", "failed", "does not answer OPTIONS", "");
    seen.says("opensips-mi", "failed", "ENOENT", "etc/opensips/publish.cfg");
    seen.says("kamailio-rpc", "failed", "Connection refused", "does it run");
    assert_eq!(seen.of("http"), []);

    let door = TcpPort::claim();
    let listen = format!("127.0.0.1:{}", door.number());
    let mut house = House::new(&proxy);
    house.set("http", "listen", &listen);
    drop(door);
    let mwid = house.start();
    doctor(&house).is_well("http");
    house.set("http", "listen", &format!("127.0.0.1:{closed}"));
    let seen = doctor(&house);
    seen.says("http", "failed", "nobody can connect to 127.0.0.1:", "mwid reload");
    drop(mwid);
    house.set("http", "tls_cert", &house.path("nowhere.pem").display().to_string());
    house.set("http", "tls_key", &house.path("nowhere.key").display().to_string());
    doctor(&house).says("http", "failed", "nowhere.pem", "tls_cert");
}

#[test]
fn the_agent_answers_for_itself() {
    let port = UdpPort::claim();
    let mut house = House::bare();
    house.set("agent", "listen", &format!("udp:{}", port.address()));
    house.set("agent", "trusted", "127.0.0.1");
    house.set("database", "url", &format!("sqlite:{}", house.path("own.db").display()));
    // Before its first start.
    let seen = doctor(&house);
    seen.says("database", "ok", "own.db is not there yet: mwid makes it", "");
    assert!(!house.path("own.db").exists(), "only looked at");
    assert!(
        seen.findings.iter().all(|it| it["level"] != "failed" || it["check"] == "drop folder"),
        "{seen:?}"
    );
    let mwid = house.start();
    let seen = doctor(&house);
    seen.says("database rights", "ok", "subscriptions can be written", "");
    seen.says("rows", "warning", "0 live", "[agent] listen");
    seen.is_well("index");
    seen.says("agent", "ok", "answers OPTIONS with 200 OK", "");
    seen.says("proxy", "ok", "NOTIFYs go where their dialogs lead", "");
    drop(mwid);
    let seen = doctor(&house);
    assert_eq!(seen.of("agent"), [], "it does not run");
    house.set("database", "table", "others");
    doctor(&house).says("database", "failed", "others", "mwid sql --apply");
    house.set("database", "url", &format!("sqlite:{}", house.path("nowhere/own.db").display()));
    doctor(&house).says("database", "failed", "there is no folder", "");
}
