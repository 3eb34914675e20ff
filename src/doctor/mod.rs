//! `mwid doctor`: walks the whole installation and says what is wrong, with the remedy.
//!
//! One file for each part of the installation; each adds a [`Finding`] a check. Nothing is changed, and
//! a running daemon is only asked. What a service may do depends on who it is, so root starts it once
//! more as the user of the unit ([`user`]).

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::{self, Config, Warning, WarningKind, Way};

mod asterisk;
mod daemon;
mod database;
mod doors;
mod files;
mod inotify;
mod proxy;
mod rows;
mod spool;
mod user;

/// How a part of the installation is. The worst is the exit code: 0, 1, 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it must be.
    Ok,
    /// Phones are told, but late, or not all of them, or something will hurt.
    Warning,
    /// Phones are not told.
    Failed,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// How it is.
    pub level: Level,
    /// The same in words.
    pub text: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// What is looked at, beside the configuration.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration.
    pub config: PathBuf,
    /// Asterisk's voicemail.conf; by default the one beside the configuration.
    pub voicemail: Option<PathBuf>,
    /// The unit that mwid runs by; by default `mwid.service` where systemd looks for it.
    pub unit: Option<PathBuf>,
}

/// How it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A line a check, as soon as that is done.
    Text,
    /// One JSON document at the end.
    Json,
    /// A finding in JSON a line, as soon as its check is done: for the doctor that root started.
    Lines,
}

/// What all checks found, in their order.
#[derive(Debug, Default)]
struct Report {
    findings: Vec<Finding>,
    /// How each finding is printed at once; `None`: it is not.
    shape: Option<Shape>,
}

/// Room for the name of a check.
const WIDTH: usize = 24;

impl Report {
    fn add(&mut self, check: &str, level: Level, text: impl Into<String>, remedy: Option<String>) {
        self.push(Finding { check: check.to_owned(), level, text: text.into(), remedy });
    }

    /// What hangs is what comes after the last line that is printed.
    fn push(&mut self, finding: Finding) {
        match self.shape {
            Some(Shape::Text) => say(&finding.to_string()),
            Some(Shape::Lines) => say(&format!("{}\n", json!(finding))),
            Some(Shape::Json) | None => {}
        }
        self.findings.push(finding);
    }

    fn ok(&mut self, check: &str, text: impl Into<String>) {
        self.add(check, Level::Ok, text, None);
    }

    fn warn(&mut self, check: &str, text: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, Level::Warning, text, Some(remedy.into()));
    }

    fn fail(&mut self, check: &str, text: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, Level::Failed, text, Some(remedy.into()));
    }

    fn worst(&self) -> Level {
        self.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }

    fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }
}

/// A line, and the remedy below it.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { check, level, text, remedy } = self;
        let safe = |text: &str| text.replace(|c: char| c.is_control() && c != '\n', "?");
        let indent = |text: &str| safe(text).replace('\n', &format!("\n{:1$}", "", WIDTH + 11));
        let level = match level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Failed => "FAILED",
        };
        writeln!(f, "{level:<7}  {check:<WIDTH$}  {}", indent(text))?;
        if let Some(remedy) = remedy {
            writeln!(f, "{:1$}do: {2}", "", WIDTH + 11, indent(remedy))?;
        }
        Ok(())
    }
}

/// Looks at everything, and prints what it finds. Gives the exit code.
#[must_use]
pub fn main(options: &Options, shape: Shape) -> u8 {
    let mut report = Report { shape: Some(shape), ..Report::default() };
    if !user::look_as_service(options, &mut report) {
        look(options, &mut report);
    }
    let worst = report.worst();
    match shape {
        Shape::Text => {
            let [failed, warnings, ok] =
                [Level::Failed, Level::Warning, Level::Ok].map(|it| report.count(it));
            say(&format!("{failed} failed, {warnings} warnings, {ok} ok\n"));
        }
        Shape::Json => {
            say(&format!("{:#}\n", json!({ "worst": worst, "findings": report.findings })));
        }
        Shape::Lines => {}
    }
    worst as u8
}

/// Prints; a reader that went away is nobody's error.
fn say(text: &str) {
    let mut out = io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Everything, as the user who runs this.
fn look(options: &Options, report: &mut Report) {
    let Some(config) = configuration(&options.config, report) else { return };
    let mailboxes = spool::look(&config, report);
    if config.delivery.uses(Way::Notify) {
        database::look(&config, mailboxes.as_deref(), report);
    } else {
        report.ok("database", "not used: no phone is told by NOTIFY");
    }
    proxy::look(&config, report);
    files::look(&config, report);
    asterisk::look(&config, options, report);
    let runs = daemon::look(&config, report);
    doors::look(&config, runs, report);
}

fn configuration(path: &Path, report: &mut Report) -> Option<Config> {
    match config::load(path) {
        Ok(loaded) => {
            // What voicemail.conf must say has a check of its own.
            let is_own = |it: &&Warning| !matches!(it.kind, WarningKind::ExternNotify { .. });
            let warnings: Vec<&Warning> = loaded.warnings.iter().filter(is_own).collect();
            for warning in &warnings {
                let remedy =
                    format!("see {}; mwid check prints it as mwid reads it", path.display());
                report.warn("configuration", warning.to_string(), remedy);
            }
            if warnings.is_empty() {
                report.ok("configuration", format!("{} can be used", path.display()));
            }
            Some(loaded.config)
        }
        Err(errors) => {
            report.fail(
                "configuration",
                errors.to_string(),
                match path.exists() {
                    true => "mend these lines; mwid check says when it is well",
                    false => "copy etc/zonkeymwi.conf there (from a package: /usr/share/doc/mwid/examples), or name another with --config",
                },
            );
            None
        }
    }
}
