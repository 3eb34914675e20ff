//! `mwid check`: what mwid understands of a configuration, or why it refuses it.

use std::path::Path;

use serde_json::{Value as Json, json};

use crate::config::{ConfigError, ConfigErrors, Loaded, Problem, load};
use crate::source::http;

/// The outcome of a check, ready to be printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// For stdout: the effective configuration and its warnings, as an ini file or as JSON.
    pub stdout: String,
    /// For stderr: one line for each error.
    pub stderr: String,
    /// Exit status: 0 when the configuration can be used, with or without warnings; 1 when not.
    pub code: u8,
}

/// Checks a file, and the certificate and key of `[http]` as the daemon does when it starts. With `json`, stdout is one JSON object in both cases:
/// `{"file", "usable", "config", "warnings": [{"line", "text"}], "errors": [{"line", "text"}]}`.
#[must_use]
pub fn run_check(path: &Path, json: bool) -> Checked {
    let outcome = load(path).and_then(|loaded| match http::check(&loaded.config.http) {
        Ok(()) => Ok(loaded),
        Err(error) => {
            let errors = vec![ConfigError::of_file(Problem::Files(Box::new(error)))];
            Err(ConfigErrors { file: path.to_owned(), errors })
        }
    });
    let stdout = if json { as_json(path, &outcome) } else { as_ini(path, &outcome) };
    match outcome {
        Ok(_) => Checked { stdout, stderr: String::new(), code: 0 },
        Err(errors) => Checked { stdout, stderr: format!("{errors}\n"), code: 1 },
    }
}

fn as_ini(path: &Path, outcome: &Result<Loaded, ConfigErrors>) -> String {
    let Ok(loaded) = outcome else { return String::new() };
    let mut out = format!("; {} as mwid reads it\n\n{}", path.display(), loaded.config.to_ini());
    for (number, warning) in loaded.warnings.iter().enumerate() {
        let gap = if number == 0 { "\n" } else { "" };
        let place = warning.line.map(|line| format!("line {line}: ")).unwrap_or_default();
        out.push_str(&format!("{gap}; warning: {place}{warning}\n"));
    }
    out
}

fn as_json(path: &Path, outcome: &Result<Loaded, ConfigErrors>) -> String {
    let place = |line: Option<usize>, text: String| json!({ "line": line, "text": text });
    let (config, warnings, errors) = match outcome {
        Ok(loaded) => {
            let warnings = loaded.warnings.iter().map(|it| place(it.line, it.to_string()));
            (loaded.config.to_json(), warnings.collect::<Json>(), json!([]))
        }
        Err(refused) => {
            let errors = refused.errors.iter().map(|it| place(it.line, it.to_string()));
            (Json::Null, json!([]), errors.collect::<Json>())
        }
    };
    let all = json!({
        "file": path.display().to_string(),
        "usable": outcome.is_ok(),
        "config": config,
        "warnings": warnings,
        "errors": errors,
    });
    format!("{all:#}\n")
}
