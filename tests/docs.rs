//! The documents say what is so.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names on the left of `=` in the dependency sections of a Cargo.toml.
fn direct_dependencies(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut in_section = false;
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            in_section = section.ends_with("dependencies") && !section.starts_with("workspace");
        } else if let Some((key, _)) = line.split_once('=').filter(|_| in_section) {
            // `thiserror.workspace = true` names `thiserror`.
            names.insert(key.trim().trim_end_matches(".workspace").to_owned());
        }
    }
    names
}

/// The names in the first column of the tables: "| `name` | …".
fn documented(page: &str) -> BTreeSet<String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once('`')).map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn every_direct_dependency_has_its_reason() {
    let mut used = direct_dependencies(&read("Cargo.toml"));
    used.extend(direct_dependencies(&read("core/Cargo.toml")));
    assert!(used.contains("tokio") && used.contains("rsip"), "the manifests were read: {used:?}");
    let documented = documented(&read("docs/dependencies.md"));
    let missing: Vec<_> = used.difference(&documented).collect();
    assert!(missing.is_empty(), "docs/dependencies.md gives no reason for {missing:?}");
    let gone: Vec<_> = documented.difference(&used).collect();
    assert!(gone.is_empty(), "docs/dependencies.md speaks of {gone:?}, which nothing uses");
}
