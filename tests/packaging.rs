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

/// What `scripts/build-deb` takes is there, and it takes all that is for an operator.
#[test]
fn the_package_has_all_that_is_in_etc_and_sql() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = manifest.split("[package.metadata.deb]").nth(1).unwrap();
    let assets = section.lines().filter_map(|line| line.trim().strip_prefix("[\""));
    let sources: Vec<&str> = assets.map(|line| line.split('"').next().unwrap()).collect();
    assert!(sources.len() > 15, "{sources:?}");
    let is_taken = |path: &str| {
        sources.iter().any(|source| match source.strip_suffix('*') {
            Some(folder) => path.starts_with(folder),
            None => path == *source,
        })
    };
    // Its own scripts, and pages that scripts/build-deb puts beside those that it makes.
    let elsewhere = |path: &str| path.starts_with("etc/debian/") || path.starts_with("etc/man/");
    let mut files = 0;
    for folder in ["etc", "sql"] {
        for path in files_below(&root().join(folder)) {
            let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            assert!(is_taken(&path) || elsewhere(&path), "Cargo.toml does not package {path}");
            files += 1;
        }
    }
    assert!(files > 25, "{files}");
    for source in sources.iter().filter(|source| !source.starts_with("target/")) {
        let folder = source.split('*').next().unwrap();
        let there = root().join(folder).exists() || folder == "LICENSE-";
        assert!(there, "Cargo.toml packages {source}");
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() { files_below(&path) } else { vec![path] };
    entries.flat_map(below).collect()
}
