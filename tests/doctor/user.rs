//! Root looks with the eyes of the service's user.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use nix::unistd::geteuid;
use serde_json::Value;

use crate::house::{House, MWID};
use crate::peer::Peer;

/// Where nobody may start it: not every folder above target/ lets others in.
fn program(house: &House) -> PathBuf {
    let copy = house.path("mwid");
    fs::copy(MWID, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

fn run(command: &mut Command) -> String {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
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
    let doctor = || {
        let mut command = Command::new(&program);
        command.arg("--config").arg(house.config()).args(["doctor", "--json", "--unit"]).arg(&unit);
        let done = command.output().unwrap();
        let report: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(report["worst"] == "ok", done.status.success(), "{report:#}");
        report["findings"].as_array().unwrap().clone()
    };
    let find = |findings: &[Value], check: &str| -> (String, String) {
        let found = findings.iter().find(|it| it["check"] == check).unwrap();
        (found["level"].as_str().unwrap().into(), found["text"].as_str().unwrap().into())
    };
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

    fs::write(&unit, "[Service]\nUser=not-there\n").unwrap();
    assert_eq!(find(&doctor(), "user").0, "failed");
    fs::write(&unit, "[Service]\nExecStart=/usr/bin/mwid run\n").unwrap();
    assert!(find(&doctor(), "user").1.contains("runs mwid as root"));
}
