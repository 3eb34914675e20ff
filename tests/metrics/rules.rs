//! etc/prometheus/mwid.rules.yml: each alert comes when it must, asks for what there is, and points to
//! its remedy.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use mwid::metrics::{Kind, TABLE};

use crate::promtool::promtool;

const RULES: &str = "etc/prometheus/mwid.rules.yml";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The metrics that a query asks for.
pub fn names(query: &str) -> BTreeSet<String> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let is_name = |word: &&str| word.starts_with("mwid_") || word.starts_with("process_");
    words.filter(is_name).map(str::to_owned).collect()
}

/// Whether the table has this name, or the histogram that it is a part of.
pub fn of_the_table(name: &str) -> bool {
    TABLE.iter().any(|metric| match metric.kind {
        Kind::Histogram => ["_bucket", "_sum", "_count"]
            .iter()
            .any(|suffix| name.strip_suffix(suffix) == Some(metric.name)),
        _ => metric.name == name,
    })
}

/// The values of a key of the rules, in order.
fn values(rules: &str, key: &str) -> Vec<String> {
    let lines =
        rules.lines().filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix(key));
    lines.map(|value| value.trim().trim_matches('\'').replace("''", "'")).collect()
}

/// The address of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let letters = heading.to_lowercase().replace(' ', "-");
    letters.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect()
}

#[test]
fn promtool_takes_the_rules() {
    let said = promtool(&["check", "rules", "--lint=all", "--lint-fatal", RULES], &root(), "");
    assert!(said.contains("SUCCESS"), "{said}");
}

#[test]
fn each_alert_asks_for_what_there_is_and_points_to_a_section_that_there_is() {
    let rules = read(RULES);
    let alerts = values(&rules, "alert:");
    assert!(alerts.len() > 20, "they were found: {alerts:?}");
    for key in ["expr:", "severity:", "summary:", "description:", "remedy:", "runbook:"] {
        let found = values(&rules, key);
        assert_eq!(found.len(), alerts.len(), "each alert has one {key}");
        assert!(found.iter().all(|value| value.len() > 3), "{found:?}");
    }
    for query in values(&rules, "expr:") {
        let names = names(&query);
        assert!(!names.is_empty() || query.starts_with("up{"), "{query}");
        for name in names {
            assert!(of_the_table(&name), "{query} asks for {name}, which there is not");
        }
    }
    for runbook in values(&rules, "runbook:") {
        let (page, section) = runbook.split_once('#').unwrap();
        let page = read(page);
        let headings = page.lines().filter(|line| line.starts_with('#'));
        let anchors: Vec<String> =
            headings.map(|line| anchor(line.trim_start_matches(['#', ' ']))).collect();
        assert!(anchors.iter().any(|it| it == section), "{runbook} is not among {anchors:?}");
    }
}

/// All is well: nothing is said. All is broken: every alert is.
#[test]
fn each_alert_comes_when_its_part_is_broken_and_none_when_all_is_well() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(root().join(RULES), folder.path().join("mwid.rules.yml")).unwrap();
    let tests = read("tests/fixtures/prometheus/mwid.rules.test.yml");
    for alert in values(&read(RULES), "alert:") {
        let line = format!("alertname=\"{alert}\"");
        assert!(tests.contains(&line), "mwid.rules.test.yml does not expect {alert}");
    }
    let path: &Path = &folder.path().join("tests.yml");
    fs::write(path, tests).unwrap();
    let said = promtool(&["test", "rules", "tests.yml"], folder.path(), "");
    assert!(said.contains("SUCCESS"), "{said}");
}
