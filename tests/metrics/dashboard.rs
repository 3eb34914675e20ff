//! etc/grafana/mwid.json: what Grafana takes, and queries that ask for what there is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::promtool::promtool;
use crate::rules::{names, of_the_table};

/// `scripts/setup` installs it, and a validator of JSON schemas with it.
const PYTHON: &str = "target/tools/schemathesis/bin/python";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn dashboard() -> Value {
    let text = fs::read_to_string(root().join("etc/grafana/mwid.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// What a schema says against a document.
fn wrong(document: &Path) -> String {
    const SCRIPT: &str = "import json, sys, jsonschema_rs\n\
        schema, document = (json.load(open(path)) for path in sys.argv[1:])\n\
        jsonschema_rs.meta.validate(schema)\n\
        for error in jsonschema_rs.validator_for(schema).iter_errors(document):\n    \
            print(error.instance_path, error.message)\n";
    let python = root().join(PYTHON);
    assert!(python.exists(), "there is no {PYTHON}; run scripts/setup");
    let schema = root().join("tests/fixtures/grafana/dashboard.schema.json");
    let asked = Command::new(python).args(["-c", SCRIPT]).arg(schema).arg(document).output();
    let asked = asked.unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    String::from_utf8(asked.stdout).unwrap()
}

#[test]
fn the_dashboard_is_one() {
    assert_eq!(wrong(&root().join("etc/grafana/mwid.json")), "");
    // The schema can say no.
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.json");
    let mut dashboard = dashboard();
    dashboard["panels"][1]["targets"] = Value::Array(Vec::new());
    fs::write(&bad, dashboard.to_string()).unwrap();
    assert_ne!(wrong(&bad), "");
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "an id is there twice");
}

#[test]
fn its_queries_are_queries_for_what_is_in_the_table() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries: Vec<&str> = targets.filter_map(|target| target["expr"].as_str()).collect();
    assert!(queries.len() > 30, "they were found: {}", queries.len());
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    for (number, query) in queries.iter().enumerate() {
        let query = query.replace("$__rate_interval", "5m").replace('\'', "''");
        rules += &format!("  - record: query:{number}\n    expr: '{query}'\n");
        for name in names(&query) {
            assert!(of_the_table(&name), "{query} asks for {name}, which there is not");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("queries.yml"), rules).unwrap();
    let said = promtool(&["check", "rules", "queries.yml"], folder.path(), "");
    assert!(said.contains(&format!("{} rules found", queries.len())), "{said}");
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    for query in variables.iter().filter_map(|variable| variable["query"].as_str()) {
        assert!(query == "prometheus" || query.starts_with("label_values(mwid_build_info"));
    }
}
