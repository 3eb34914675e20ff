//! What is installed beside the programs.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::process::program;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn analyze(arguments: &[&str], unit: &Path) -> (bool, String) {
    let mut command = Command::new(program(&["systemd-analyze"], "systemd"));
    let output = command.args(arguments).arg(unit).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn the_unit_exposes_no_more_than_the_readme_says() {
    let unit = root().join("etc/mwid.service");
    let offline = ["security", "--offline=true", "--no-pager", "--threshold=20"];
    let (is_enough, said) = analyze(&offline, &unit);
    assert!(is_enough, "over 2.0: {said}");
    let level = said.split("Overall exposure level for mwid.service: ").nth(1);
    let level = level.and_then(|rest| rest.split(' ').next()).unwrap();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let figure = readme.split("etc/mwid.service`: ").nth(1).unwrap();
    let (figure, version) = figure.split_once(" with systemd ").unwrap();
    // Each version of systemd looks at more things than the one before.
    if analyze(&["--version"], Path::new("")).1.starts_with(&format!("systemd {}", &version[..3])) {
        assert_eq!(level, figure);
    }
}

#[test]
fn systemd_understands_every_line_of_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("mwid.service");
    let check = |text: &str| {
        // Where it is installed is what the test of the package sees to.
        fs::write(&unit, text.replace("/usr/bin/mwid", env!("CARGO_BIN_EXE_mwid"))).unwrap();
        let (_, said) = analyze(&["verify"], &unit);
        let lines = said.lines().map(str::to_owned);
        // What systemd before 253 says of the line that it does not know, as the unit tells.
        lines.filter(|line| !line.contains("ignoring: notify-reload")).collect::<Vec<_>>()
    };
    let text = fs::read_to_string(root().join("etc/mwid.service")).unwrap();
    assert_eq!(check(&text), [""; 0]);
    assert_ne!(check(&text.replace("WatchdogSec", "WatchdogSecs")), [""; 0]);
}
