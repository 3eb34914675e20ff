//! The running daemon: is there one, and does it run this configuration?

use serde_json::Value;

use super::Report;
use crate::config::Config;
use crate::control::Command;
use crate::control::client::{ClientError, ask};
use crate::shipped;

/// Gives whether it runs.
pub(super) fn look(config: &Config, report: &mut Report) -> bool {
    let status = match ask(&config.control.socket, &Command::Status) {
        Ok(answer) => answer.data,
        Err(error @ ClientError::NotAllowed { .. }) => {
            report.fail("daemon", error.to_string(), "Group=asterisk in the unit; then restart it");
            return true;
        }
        Err(error @ ClientError::NotRunning { .. }) => {
            report.warn("daemon", error.to_string(), "systemctl enable --now mwid");
            return false;
        }
        Err(error) => {
            report.fail("daemon", error.to_string(), "journalctl -u mwid; systemctl restart mwid");
            return true;
        }
    };
    let text = |pointer: &str| status.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let number =
        |pointer: &str| status.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    let troubles = status["troubles"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let troubles: Vec<&str> = troubles.collect();
    let ours = env!("CARGO_PKG_VERSION");
    if text("/version") != ours {
        report.warn(
            "daemon",
            format!("mwid {} runs, this is {ours}", text("/version")),
            "systemctl restart mwid",
        );
    } else if text("/configuration/digest") != config.digest() {
        report.warn(
            "daemon",
            format!(
                "it runs another configuration than this one: {} as it was read last",
                text("/configuration/path")
            ),
            "mwid reload",
        );
    }
    if troubles.is_empty() {
        let pid = number("/pid");
        let (accounts, phones) = (number("/lamps/accounts"), number("/lamps/dialogs"));
        let waiting = number("/lamps/waiting");
        report.ok(
            "daemon",
            format!(
                "runs (pid {pid}): {accounts} accounts, {phones} phones, {waiting} accounts wait"
            ),
        );
    } else {
        report.fail(
            "daemon",
            format!("it runs and is in trouble: {}", troubles.join("; ")),
            format!(
                "mwid status says more, {} what to do",
                shipped::path("docs/troubleshooting.md")
            ),
        );
    }
    true
}
