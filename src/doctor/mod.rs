//! `mwid doctor`: walks the whole installation and says what is wrong, with the remedy.
//!
//! One file for each part of the installation; each adds a [`Finding`] a check. Nothing is changed, and
//! a running daemon is only asked. What a service may do depends on who it is, so root starts it once
//! more as the user of the unit ([`user`]).

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::{self, Config, Warning, WarningKind, Way};

mod asterisk;
mod daemon;
mod database;
mod doors;
mod files;
mod proxy;
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

/// What all checks found, in their order.
#[derive(Debug, Default)]
struct Report(Vec<Finding>);

impl Report {
    fn add(&mut self, check: &str, level: Level, text: impl Into<String>, remedy: Option<String>) {
        self.0.push(Finding { check: check.to_owned(), level, text: text.into(), remedy });
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
        self.0.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }

    fn count(&self, level: Level) -> usize {
        self.0.iter().filter(|finding| finding.level == level).count()
    }
}

/// One line a check, the remedy below it, and a line with the sums.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|it| it.check.len()).max().unwrap_or_default();
        let safe = |text: &str| text.replace(|c: char| c.is_control() && c != '\n', "?");
        let indent = |text: &str| safe(text).replace('\n', &format!("\n{:1$}", "", width + 11));
        for Finding { check, level, text, remedy } in &self.0 {
            let level = match level {
                Level::Ok => "ok",
                Level::Warning => "warning",
                Level::Failed => "FAILED",
            };
            writeln!(f, "{level:<7}  {check:<width$}  {}", indent(text))?;
            if let Some(remedy) = remedy {
                writeln!(f, "{:1$}do: {2}", "", width + 11, indent(remedy))?;
            }
        }
        let [failed, warnings, ok] =
            [Level::Failed, Level::Warning, Level::Ok].map(|it| self.count(it));
        write!(f, "{failed} failed, {warnings} warnings, {ok} ok")
    }
}

/// Looks at everything. Gives what is to be printed, and the exit code.
#[must_use]
pub fn main(options: &Options, json: bool) -> (String, u8) {
    let mut report = Report::default();
    if !user::look_as_service(options, &mut report) {
        look(options, &mut report);
    }
    let code = report.worst() as u8;
    let text = match json {
        true => format!("{:#}", json!({ "worst": report.worst(), "findings": report.0 })),
        false => report.to_string(),
    };
    (text, code)
}

/// Everything, as the user who runs this.
fn look(options: &Options, report: &mut Report) {
    let Some(config) = configuration(&options.config, report) else { return };
    spool::look(&config, report);
    if config.delivery.uses(Way::Notify) {
        database::look(&config, report);
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
                "mend these lines; mwid check says when it is well",
            );
            None
        }
    }
}
