//! `mwid sql` as an operator runs it.

use std::fs;
use std::process::{Command, Output};

use mwid_core::dialog::Flavour;

use crate::bed::{Bed, Kind};
use crate::seen::subscribe;

fn mwid_sql(bed: &Bed, table: &str, arguments: &[&str]) -> Output {
    let file = bed.file().with_extension("conf");
    let lines = format!(
        "[general]\nproxy = p\n[database]\ntable = {table}\nurl = sqlite:{}\n",
        bed.file().display()
    );
    fs::write(&file, lines).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mwid"));
    command.arg("--config").arg(file).arg("sql").args(arguments).output().unwrap()
}

fn changes(bed: &Bed) -> String {
    bed.sql("SELECT COUNT(*) FROM mwid_changes")
}

#[test]
fn sql_is_printed_applied_twice_and_removed() {
    let bed = Bed::new(Kind::Sqlite, Flavour::Kamailio);
    let printed = mwid_sql(&bed, "active_watchers", &[]);
    assert!(printed.status.success());
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("What it costs") && printed.contains("Rights"), "{printed}");
    bed.sql(&printed);
    subscribe(&bed, "202");
    assert_eq!(changes(&bed), "1");

    for _ in 0..2 {
        let applied = mwid_sql(&bed, "active_watchers", &["--apply"]);
        assert!(applied.status.success(), "{applied:?}");
        assert!(
            String::from_utf8_lossy(&applied.stdout).contains("Installed on table active_watchers")
        );
    }
    subscribe(&bed, "203");
    assert_eq!(changes(&bed), "2", "applied again: what was there stays, and nothing counts twice");

    for _ in 0..2 {
        let removed = mwid_sql(&bed, "active_watchers", &["--remove"]);
        assert!(removed.status.success(), "{removed:?}");
    }
    subscribe(&bed, "204");
    assert_eq!(bed.sql("SELECT COUNT(*) FROM sqlite_master WHERE name LIKE 'mwid%'"), "0");
}

#[test]
fn what_cannot_be_installed_is_told_and_fails() {
    let bed = Bed::new(Kind::Sqlite, Flavour::Kamailio);
    let refused = mwid_sql(&bed, "elsewhere", &["--apply"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains("elsewhere") && said.contains("[database]"), "{said}");
    fs::remove_file(bed.file()).unwrap();
    let missing = mwid_sql(&bed, "active_watchers", &["--apply"]);
    let said = String::from_utf8(missing.stderr).unwrap();
    let file = format!("mwid: there is no file {}: name the ", bed.file().display());
    assert!(said.starts_with(&file) && said.lines().count() == 1, "{said}");
    assert!(!bed.file().exists(), "an empty file would hide a wrong path");
    let both = mwid_sql(&bed, "active_watchers", &["--apply", "--remove"]);
    assert_eq!(both.status.code(), Some(2));
}
