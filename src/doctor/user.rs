//! Who mwid is when it runs as a service, and everything looked at as that user.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{Finding, Options, Report};

/// Where systemd looks for units, the first one counts.
const UNITS: [&str; 4] = [
    "/etc/systemd/system/mwid.service",
    "/run/systemd/system/mwid.service",
    "/usr/lib/systemd/system/mwid.service",
    "/lib/systemd/system/mwid.service",
];

/// Who a unit runs as.
#[derive(Debug, Default, PartialEq, Eq)]
struct Service {
    user: Option<String>,
    group: Option<String>,
}

impl Service {
    fn read(unit: &str) -> Self {
        let mut service = Self::default();
        for line in unit.lines() {
            let value = |value: &str| Some(value.trim().to_owned()).filter(|it| !it.is_empty());
            match line.split_once('=') {
                Some(("User", user)) => service.user = value(user),
                Some(("Group", group)) => service.group = value(group),
                _ => {}
            }
        }
        service
    }
}

/// Root looks at everything as the service's user, whose rights are what counts. Gives whether that was
/// done; where it was not, the report says why.
pub(super) fn look_as_service(options: &Options, report: &mut Report) -> bool {
    let me = nix::unistd::geteuid();
    if !me.is_root() {
        return false;
    }
    let named = options.unit.clone();
    let found = named.or_else(|| UNITS.iter().map(PathBuf::from).find(|path| path.exists()));
    let Some(path) = found else {
        report.warn(
            "user",
            "there is no mwid.service, so everything is looked at as root, who may read and write all",
            "install etc/mwid.service, or say `mwid doctor` as the user that mwid runs as",
        );
        return false;
    };
    let unit = match fs::read_to_string(&path) {
        Ok(unit) => unit,
        Err(error) => {
            report.fail(
                "user",
                format!("cannot read {}: {error}", path.display()),
                "name the unit with --unit",
            );
            return false;
        }
    };
    let Service { user, group } = Service::read(&unit);
    let Some(user) = user.filter(|user| user != "root") else {
        report.warn(
            "user",
            format!("{} runs mwid as root, which it needs nothing of", path.display()),
            "User=mwid and Group=asterisk, as in etc/mwid.service",
        );
        return false;
    };
    match look_as(&user, group.as_deref(), options) {
        Ok(findings) => {
            let group = group.map(|group| format!(" in group {group}")).unwrap_or_default();
            report.ok("user", format!("looked at as {user}{group}, as {} says", path.display()));
            report.0.extend(findings);
            true
        }
        Err(problem) => {
            report.fail(
                "user",
                format!(
                    "cannot look at anything as {user}, the user of {}: {problem}",
                    path.display()
                ),
                format!("is there such a user? {}", useradd(&user, group.as_deref())),
            );
            false
        }
    }
}

fn useradd(user: &str, group: Option<&str>) -> String {
    let group = group.map(|group| format!(" --gid {group}")).unwrap_or_default();
    format!("useradd --system{group} --no-create-home --shell /usr/sbin/nologin {user}")
}

/// Starts this program once more, as that user with all groups of theirs.
fn look_as(user: &str, group: Option<&str>, options: &Options) -> Result<Vec<Finding>, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let full = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--init-groups"]);
    command.arg("--regid").arg(group.unwrap_or(user)).arg("--").arg(program);
    command.arg("--config").arg(full(&options.config)).args(["doctor", "--json"]);
    if let Some(voicemail) = &options.voicemail {
        command.arg("--voicemail").arg(full(voicemail));
    }
    let done = command.current_dir("/").output();
    let done = done.map_err(|error| format!("setpriv (package util-linux): {error}"))?;
    let said: Value = serde_json::from_slice(&done.stdout)
        .map_err(|_| String::from_utf8_lossy(&done.stderr).trim().to_owned())?;
    serde_json::from_value(said["findings"].clone()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_the_unit_is_read_the_last_one_counts_and_an_empty_one_takes_it_back() {
        let shipped = Service::read(include_str!("../../etc/mwid.service"));
        assert_eq!(shipped, Service { user: Some("mwid".into()), group: Some("asterisk".into()) });
        let service = Service::read("User=a\n#User=b\nUser=c\nGroup=d\nGroup=\n");
        assert_eq!(service, Service { user: Some("c".into()), group: None });
    }
}
