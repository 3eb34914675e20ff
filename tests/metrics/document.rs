//! docs/metrics.md is what the table says.

use std::path::Path;

use mwid::metrics::document;

#[test]
fn the_page_of_the_metrics_is_that_of_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    if std::env::var_os("MWID_WRITE_DOCS").is_some() {
        std::fs::write(&path, document()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(
        written == document(),
        "docs/metrics.md is not what src/metrics/table.rs says; MWID_WRITE_DOCS=1 cargo test --test metrics writes it"
    );
}
