//! Prometheus's own tool.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const PROMTOOL: &str = "/usr/bin/promtool";

/// Runs it with these arguments and this input; it must have nothing to say against it.
pub fn promtool(arguments: &[&str], folder: &Path, input: &str) -> String {
    assert!(Path::new(PROMTOOL).exists(), "there is no {PROMTOOL}; run scripts/setup");
    let mut command = Command::new(PROMTOOL);
    command.args(arguments).current_dir(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have refused its arguments already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let said = [stdout, stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(status.success(), "promtool {arguments:?}: {said}");
    said
}
