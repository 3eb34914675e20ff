//! Root looks with the eyes of the service's user.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::geteuid;
use serde_json::Value;

use crate::house::{House, MWID};
use crate::peer::Peer;

/// Where nobody may start it: not every folder above target/ lets others in.
fn program(house: &House) -> PathBuf {
    let copy = house.path("mwid");
    install(MWID.as_ref(), &copy);
    copy
}

/// By a process of its own: what this one writes, a child of another test may still hold open when it is
/// to be run.
fn install(program: &Path, to: &Path) {
    run(Command::new("install").args(["-m", "755"]).args([program, to]));
}

fn run(command: &mut Command) -> String {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// What root finds with the unit of this house.
fn looked(house: &House) -> Vec<Value> {
    let mut command = Command::new(house.path("mwid"));
    command.arg("--config").arg(house.config()).args(["doctor", "--json", "--unit"]);
    let done = command.arg(house.path("mwid.service")).output().unwrap();
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["worst"] == "ok", done.status.success(), "{report:#}");
    report["findings"].as_array().unwrap().clone()
}

/// Level and text of the first finding of a check.
fn find(findings: &[Value], check: &str) -> (String, String) {
    let found = findings.iter().find(|it| it["check"] == check).unwrap();
    (found["level"].as_str().unwrap().into(), found["text"].as_str().unwrap().into())
}

#[test]
fn what_the_user_of_the_unit_may_not_is_found_by_root_and_the_remedy_helps() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    if !geteuid().is_root() {
        // Nobody else can be looked at: everything is as this user sees it.
        return assert_eq!(crate::doctor(&house).of("user"), []);
    }
    let program = program(&house);
    let unit = house.path("mwid.service");
    fs::write(&unit, "[Service]\nUser=nobody\nGroup=nogroup\n").unwrap();
    run(Command::new("chown").arg("-R").arg("nobody:nogroup").arg(house.path("")));
    let doctor = || looked(&house);
    let findings = doctor();
    assert_eq!(find(&findings, "user").0, "ok", "{findings:#?}");
    assert!(find(&findings, "user").1.starts_with("looked at as nobody in group nogroup"));
    assert_eq!(find(&findings, "spool").0, "ok");

    // All is well: the daemon runs as that user too.
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"]).arg(&program);
    let mwid = house.launch_by(setpriv);
    mwid.log("mwid runs");
    proxy.shows("call", "1/0 (0/0)");
    mwid.settled();
    let findings = doctor();
    assert!(findings.iter().all(|it| it["level"] == "ok"), "{findings:#?}");
    assert!(findings.len() >= 15, "{findings:#?}");
    let (_, watches) = find(&findings, "inotify");
    assert!(watches.ends_with(" allowed"), "mwid's own are no other program's: {watches}");

    // Root may read it all the same.
    let inbox = house.path("spool/example.com/202/INBOX");
    run(Command::new("chown").arg("root:root").arg(&inbox));
    fs::set_permissions(&inbox, fs::Permissions::from_mode(0o700)).unwrap();
    let (level, text) = find(&doctor(), "spool");
    assert_eq!(level, "failed");
    assert!(text.contains("INBOX: Permission denied"), "{text}");
    run(Command::new("chgrp").arg("-R").arg("nogroup").arg(house.path("spool")));
    run(Command::new("chmod").arg("-R").arg("g+rX").arg(house.path("spool")));
    assert_eq!(find(&doctor(), "spool").0, "ok");

    let remedy = |findings: &[Value]| {
        let found = findings.iter().find(|it| it["check"] == "user").unwrap();
        found["remedy"].as_str().unwrap().to_owned()
    };
    fs::write(&unit, "[Service]\nUser=not-there\n").unwrap();
    let findings = doctor();
    assert_eq!(find(&findings, "user").0, "failed");
    assert!(remedy(&findings).contains("useradd --system"), "{findings:#?}");
    fs::write(&unit, "[Service]\nUser=nobody\nGroup=nogroup\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    run(Command::new("chown").arg("root").arg(&program));
    let findings = doctor();
    assert_eq!(find(&findings, "user").0, "ok", "a program that only root reaches: {findings:#?}");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&unit, "[Service]\nExecStart=/usr/bin/mwid run\n").unwrap();
    assert!(find(&doctor(), "user").1.contains("runs mwid as root"));
}

#[test]
fn a_lock_that_root_left_behind_is_named_with_its_remedy() {
    let house = House::new(&Peer::phones());
    house.messages("example.com/202", 1, 0);
    if !geteuid().is_root() {
        return assert_eq!(crate::doctor(&house).of("user"), []);
    }
    program(&house);
    fs::write(house.path("mwid.service"), "[Service]\nUser=nobody\nGroup=nogroup\n").unwrap();
    fs::create_dir(house.path("run")).unwrap();
    run(Command::new("chown").arg("-R").arg("nobody:nogroup").arg(house.path("")));
    let locks = ["run/control.sock.lock", "run/externnotify.sock.lock", "ledger.db.lock"];
    for lock in locks.map(|it| house.path(it)) {
        fs::write(&lock, "1\n").unwrap();
        fs::set_permissions(&lock, fs::Permissions::from_mode(0o640)).unwrap();
    }
    let levels = ["failed", "failed", "warning"];
    for (check, level) in ["control socket", "externnotify socket", "ledger"].iter().zip(levels) {
        let (its_level, text) = find(&looked(&house), check);
        assert!(its_level == level && text.contains(".lock belongs to user 0"), "{text}");
    }
    for finding in looked(&house).iter().filter(|it| it["text"].to_string().contains(".lock")) {
        let chown = finding["remedy"].as_str().unwrap();
        run(Command::new("sh").args(["-c", chown]));
    }
    for check in ["control socket", "externnotify socket", "ledger"] {
        assert_eq!(find(&looked(&house), check).0, "ok", "{check}");
    }
}

#[test]
fn what_a_drop_in_adds_counts() {
    let house = House::new(&Peer::phones());
    house.messages("example.com/202", 1, 0);
    if !geteuid().is_root() {
        return assert_eq!(crate::doctor(&house).of("user"), []);
    }
    program(&house);
    fs::write(house.path("mwid.service"), "[Service]\nUser=nobody\nGroup=nogroup\n").unwrap();
    run(Command::new("chown").arg("-R").arg("nobody:nogroup").arg(house.path("")));
    let drop_in = house.path("mwid.service.d");
    fs::create_dir(&drop_in).unwrap();
    run(Command::new("chgrp").arg("-R").arg("games").arg(house.path("spool")));
    run(Command::new("chmod").arg("-R").arg("o-rx").arg(house.path("spool")));
    run(Command::new("chown").arg("-R").arg("root").arg(house.path("spool")));
    assert_eq!(find(&looked(&house), "spool").0, "failed");
    fs::write(drop_in.join("groups.conf"), "[Service]\nSupplementaryGroups = games\n").unwrap();
    let findings = looked(&house);
    assert_eq!(find(&findings, "spool").0, "ok", "{findings:#?}");
    assert!(find(&findings, "user").1.contains("in group nogroup, and in games"));
    fs::write(drop_in.join("groups.conf"), "[Service]\nSupplementaryGroups=not-there\n").unwrap();
    assert!(find(&looked(&house), "user").1.contains("there is no group not-there"));
}

#[test]
fn what_systemd_says_of_the_service_counts() {
    let house = House::new(&Peer::phones());
    if !geteuid().is_root() {
        return assert_eq!(crate::doctor(&house).of("user"), []);
    }
    let said = "LoadState=loaded\nUser=nobody\nGroup=nogroup\nSupplementaryGroups=games\n";
    let systemctl = house.path("systemctl");
    let script = house.path("systemctl.sh");
    fs::write(&script, format!("#!/bin/sh\nprintf '%s' '{said}'\n")).unwrap();
    install(&script, &systemctl);
    let path = format!("{}:{}", house.path("").display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(program(&house));
    command.env("PATH", path).arg("--config").arg(house.config()).arg("doctor");
    let done = command.output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let wanted =
        "looked at as nobody in group nogroup, and in games, as systemctl show mwid.service";
    assert!(text.lines().next().unwrap().contains(wanted), "{text}");
    assert!(text.lines().last().unwrap().contains(" failed, "), "{text}");
}
