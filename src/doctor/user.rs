//! Who mwid is when it runs as a service, and everything looked at as that user.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use super::{Options, Report};

const UNIT: &str = "mwid.service";

/// Where systemd looks for units, the first one counts.
const UNITS: [&str; 4] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Who a unit runs as.
#[derive(Debug, Default, PartialEq, Eq)]
struct Service {
    user: Option<String>,
    group: Option<String>,
    /// `SupplementaryGroups=`
    more: Vec<String>,
}

impl Service {
    /// Takes in a unit, a drop-in, or what `systemctl show` prints. The last value counts, an empty
    /// one takes it back.
    fn read(&mut self, unit: &str) {
        for (key, value) in unit.lines().filter_map(|line| line.split_once('=')) {
            let value = value.trim();
            let one = Some(value.to_owned()).filter(|it| !it.is_empty());
            match key.trim() {
                "User" => self.user = one,
                "Group" => self.group = one,
                "SupplementaryGroups" if value.is_empty() => self.more.clear(),
                "SupplementaryGroups" => {
                    self.more.extend(value.split_whitespace().map(str::to_owned));
                }
                _ => {}
            }
        }
    }

    /// What systemd itself says: it has read everything.
    fn asked() -> Option<Self> {
        let fields = "--property=LoadState,User,Group,SupplementaryGroups";
        let done = Command::new("systemctl").args(["show", fields, UNIT]).output().ok()?;
        let said = String::from_utf8_lossy(&done.stdout);
        let is_loaded = done.status.success() && said.lines().any(|it| it == "LoadState=loaded");
        is_loaded.then(|| {
            let mut service = Self::default();
            service.read(&said);
            service
        })
    }

    /// A unit, and the drop-ins that change it: those in `folders`, by their names.
    fn in_files(unit: &Path, folders: &[PathBuf]) -> io::Result<Self> {
        let mut service = Self::default();
        service.read(&fs::read_to_string(unit)?);
        let mut drop_ins = BTreeMap::new();
        for folder in folders {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let parts = entries.filter(|it| it.path().extension() == Some(OsStr::new("conf")));
            for part in parts {
                drop_ins.entry(part.file_name()).or_insert_with(|| part.path());
            }
        }
        for path in drop_ins.values() {
            service.read(&fs::read_to_string(path)?);
        }
        Ok(service)
    }

    /// Of the service, and who says so; `None` where there is none.
    fn find(named: Option<&Path>) -> io::Result<Option<(Self, String)>> {
        let drop_ins = |unit: &Path| {
            let mut name = unit.as_os_str().to_owned();
            name.push(".d");
            PathBuf::from(name)
        };
        let said = |unit: &Path, folders: &[PathBuf]| {
            let at = unit.display().to_string();
            Self::in_files(unit, folders)
                .map(|service| Some((service, at.clone())))
                .map_err(|error| io::Error::new(error.kind(), format!("{at}: {error}")))
        };
        if let Some(unit) = named {
            return said(unit, &[drop_ins(unit)]);
        }
        if let Some(service) = Self::asked() {
            return Ok(Some((service, format!("systemctl show {UNIT}"))));
        }
        let units = UNITS.map(|folder| Path::new(folder).join(UNIT));
        let Some(unit) = units.iter().find(|it| it.exists()) else { return Ok(None) };
        said(unit, &units.each_ref().map(|it| drop_ins(it)))
    }
}

/// Why nothing could be looked at as the service's user, and what to do.
struct Problem {
    text: String,
    remedy: String,
}

/// A user as the kernel knows them.
struct Identity {
    user: Uid,
    group: Gid,
    groups: Vec<Gid>,
}

impl Identity {
    /// As systemd makes it: all groups of the user, and those that the unit adds.
    fn of(service: &Service, name: &str) -> Result<Self, Problem> {
        let number = name.parse().ok().map(Uid::from_raw);
        let found = User::from_name(name).ok().flatten();
        let found = found.or_else(|| User::from_uid(number?).ok().flatten());
        let user = found.ok_or_else(|| Problem {
            text: format!("there is no user {name}"),
            remedy: useradd(name, service.group.as_deref()),
        })?;
        let group = service.group.as_deref().map_or(Ok(user.gid), group)?;
        let plain = CString::new(user.name).unwrap_or_default();
        let mut groups = getgrouplist(&plain, group).unwrap_or_else(|_| vec![group]);
        for name in &service.more {
            groups.push(self::group(name)?);
        }
        Ok(Self { user: user.uid, group, groups })
    }
}

fn group(name: &str) -> Result<Gid, Problem> {
    let number = name.parse().ok().map(Gid::from_raw);
    let found = Group::from_name(name).ok().flatten().map(|it| it.gid);
    found.or(number).ok_or_else(|| Problem {
        text: format!("there is no group {name}"),
        remedy: format!("groupadd --system {name}"),
    })
}

/// Root looks at everything as the service's user, whose rights are what counts. Gives whether that was
/// done; where it was not, the report says why.
pub(super) fn look_as_service(options: &Options, report: &mut Report) -> bool {
    let me = nix::unistd::geteuid();
    if !me.is_root() {
        return false;
    }
    let (service, who) = match Service::find(options.unit.as_deref()) {
        Ok(Some(found)) => found,
        Ok(None) => {
            report.warn(
                "user",
                "there is no mwid.service, so everything is looked at as root, who may read and write all",
                "install etc/mwid.service, or say `mwid doctor` as the user that mwid runs as",
            );
            return false;
        }
        Err(error) => {
            report.fail("user", format!("cannot read {error}"), "name the unit with --unit");
            return false;
        }
    };
    let Some(user) = service.user.as_deref().filter(|user| !["root", "0"].contains(user)) else {
        report.warn(
            "user",
            format!("{who} runs mwid as root, which it needs nothing of"),
            "User=mwid and Group=asterisk, as in etc/mwid.service",
        );
        return false;
    };
    let group = service.group.as_deref().map(|group| format!(" in group {group}"));
    let more = match service.more.is_empty() {
        true => String::new(),
        false => format!(", and in {}", service.more.join(", ")),
    };
    let seen_as = format!("looked at as {user}{}{more}, as {who} says", group.unwrap_or_default());
    let done = Identity::of(&service, user)
        .and_then(|identity| look_as(&identity, options, &seen_as, report));
    if let Err(Problem { text, remedy }) = done {
        let text = format!("cannot look at anything as {user}, the user of {who}: {text}");
        report.fail("user", text, remedy);
        return false;
    }
    true
}

fn useradd(user: &str, group: Option<&str>) -> String {
    let group = group.map(|group| format!(" --gid {group}")).unwrap_or_default();
    format!("useradd --system{group} --no-create-home --shell /usr/sbin/nologin {user}")
}

/// Starts this program once more, as that user, and takes in what it finds. setpriv has root's
/// capabilities until the program runs: that need not be where the user may reach it.
fn look_as(
    identity: &Identity,
    options: &Options,
    seen_as: &str,
    report: &mut Report,
) -> Result<(), Problem> {
    let other = |error: io::Error| Problem {
        text: error.to_string(),
        remedy: "say `mwid doctor` as that user".to_owned(),
    };
    let program = std::env::current_exe().map_err(other)?;
    let full = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let groups: Vec<String> = identity.groups.iter().map(Gid::to_string).collect();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &identity.user.to_string(), "--regid", &identity.group.to_string()]);
    command.args(["--groups", &groups.join(",")]).arg("--").arg(&program);
    command.arg("--config").arg(full(&options.config)).args(["doctor", "--lines"]);
    if let Some(voicemail) = &options.voicemail {
        command.arg("--voicemail").arg(full(voicemail));
    }
    command.current_dir("/").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| Problem {
        text: format!("setpriv: {error}"),
        remedy: "apt-get install util-linux".to_owned(),
    })?;
    let mut any = false;
    for line in child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()) {
        let finding = line.and_then(|line| Ok(serde_json::from_str(&line)?)).map_err(other)?;
        if !any {
            report.ok("user", seen_as);
        }
        any = true;
        report.push(finding);
    }
    let done = child.wait_with_output().map_err(other)?;
    if any {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(other(io::Error::other(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(units: &[&str]) -> Service {
        let mut service = Service::default();
        units.iter().for_each(|unit| service.read(unit));
        service
    }

    #[test]
    fn the_user_of_the_unit_is_read_the_last_one_counts_and_an_empty_one_takes_it_back() {
        let shipped = service(&[include_str!("../../etc/mwid.service")]);
        let (user, group) = (Some("mwid".to_owned()), Some("asterisk".to_owned()));
        assert_eq!(shipped, Service { user, group, more: Vec::new() });
        let user = Some("c".to_owned());
        let read = service(&["User=a\n#User=b\n User = c \nGroup=d\nGroup=\n"]);
        assert_eq!(read, Service { user, ..Service::default() });
        let more = vec!["x".to_owned(), "y".to_owned(), "z".to_owned()];
        let read = service(&[
            "SupplementaryGroups=gone\nSupplementaryGroups=\nSupplementaryGroups=x y\n",
            "SupplementaryGroups = z\n",
        ]);
        assert_eq!(read, Service { more, ..Service::default() });
    }

    #[test]
    fn drop_ins_change_the_unit_in_the_order_of_their_names_and_the_first_folder_hides_the_others()
    {
        let folder = tempfile::tempdir().unwrap();
        let (etc, lib) = (folder.path().join("etc"), folder.path().join("lib"));
        let unit = folder.path().join("mwid.service");
        fs::write(&unit, "[Service]\nUser=a\nGroup=g\n").unwrap();
        let put = |at: &Path, name: &str, text: &str| {
            fs::create_dir_all(at).unwrap();
            fs::write(at.join(name), text).unwrap();
        };
        put(&lib, "10-a.conf", "User=lib\nGroup=lib\n");
        put(&lib, "20-b.conf", "User=hidden\n");
        put(&etc, "20-b.conf", "User=b\n");
        put(&etc, "30-c.txt", "User=c\n");
        let read = Service::in_files(&unit, &[etc, lib]).unwrap();
        assert_eq!((read.user.as_deref(), read.group.as_deref()), (Some("b"), Some("lib")));
    }
}
