//! The ledger, the sockets and the drop folder.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use nix::unistd::{AccessFlags, access};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, OpenFlags};

use super::Report;
use crate::config::Config;
use crate::lock;

const TMPFILES: &str =
    "systemd-tmpfiles --create mwid.conf (etc/mwid.tmpfiles), or mkdir it for the user of the unit";

pub(super) fn look(config: &Config, report: &mut Report) {
    ledger(&config.state.path, report);
    drop_folder(&config.control.drop, report);
    socket("control socket", &config.control.socket, report);
    socket("externnotify socket", &config.control.externnotify, report);
}

fn may_write(path: &Path) -> bool {
    access(path, AccessFlags::W_OK).is_ok()
}

/// Opens it beside whoever writes it, and leaves nothing behind: even a reader makes the files of
/// a write-ahead log where there are none, unless it is told that nobody writes.
pub(super) fn open_ledger(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let file = if Path::new(&log).exists() {
        Connection::open_with_flags(path, flags)?
    } else {
        let name = percent_encode(path.as_os_str().as_encoded_bytes(), NON_ALPHANUMERIC);
        let uri = format!("file:{name}?immutable=1");
        Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?
    };
    file.busy_timeout(std::time::Duration::from_secs(2))?;
    Ok(file)
}

/// A file that mwid makes when it starts.
pub(super) fn to_be_made(check: &str, path: &Path, report: &mut Report) {
    if has_a_folder(check, path, report) {
        report.ok(check, format!("{} is not there yet: mwid makes it", path.display()));
    }
}

/// Whether files can be made beside this one; where not, the report says so.
fn has_a_folder(check: &str, path: &Path, report: &mut Report) -> bool {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let problem = match folder.is_dir() {
        false => format!("there is no folder {}", folder.display()),
        true if !may_write(folder) => format!("this user may not write in {}", folder.display()),
        true => return true,
    };
    report.fail(check, problem, TMPFILES);
    false
}

fn ledger(path: &Path, report: &mut Report) {
    let at = path.display();
    if !has_a_folder("ledger", path, report) {
        return;
    }
    if let Some((whose, chown)) = lock::left_behind(path) {
        report.warn("ledger", format!("{whose}: nothing keeps a second mwid away from it"), chown);
    }
    if !path.exists() {
        return report.ok("ledger", format!("{at} is not there yet: mwid makes it"));
    }
    if !may_write(path) {
        let remedy = format!("chown it to the user that mwid runs as: ls -l {at}");
        return report.fail("ledger", format!("this user may not write {at}"), remedy);
    }
    let read = || -> rusqlite::Result<(i64, i64)> {
        let file = open_ledger(path)?;
        let count = |sql| file.query_row(sql, [], |row| row.get(0));
        Ok((count("SELECT count(*) FROM dialogs")?, count("SELECT count(*) FROM accounts")?))
    };
    match read() {
        Ok((dialogs, accounts)) => {
            report.ok("ledger", format!("{at}: {dialogs} dialogs, {accounts} accounts with messages"));
        }
        Err(error) => report.warn(
            "ledger",
            format!("{at} cannot be read: {error}"),
            "mwid moves a ledger that cannot be used away and makes a new one when it starts; then all phones are told once more",
        ),
    }
}

fn drop_folder(path: &Path, report: &mut Report) {
    let at = path.display();
    match fs::metadata(path) {
        Err(error) => report.fail("drop folder", format!("{at}: {error}"), TMPFILES),
        Ok(it) if !it.is_dir() => {
            report.fail("drop folder", format!("{at} is no folder"), TMPFILES)
        }
        Ok(_) if !may_write(path) => {
            report.fail("drop folder", format!("this user may not write in {at}"), TMPFILES);
        }
        Ok(it) if it.permissions().mode() & 0o002 != 0 => report.warn(
            "drop folder",
            format!("everybody may leave calls in {at}"),
            format!("chmod 2770 {at}"),
        ),
        Ok(it) if it.permissions().mode() & 0o020 == 0 => report.warn(
            "drop folder",
            format!(
                "the group may not leave calls in {at}: Asterisk's are lost while mwid does not run"
            ),
            format!("chmod 2770 {at}"),
        ),
        Ok(_) => {
            let left = fs::read_dir(path).map(Iterator::count).unwrap_or_default();
            report.ok("drop folder", format!("{at}, {left} calls wait in it"));
        }
    }
}

/// A socket is there while mwid runs; whether it does is another check.
fn socket(check: &str, path: &Path, report: &mut Report) {
    let at = path.display();
    if let Some((whose, chown)) = lock::left_behind(path) {
        return report.fail(check, format!("{whose}: mwid cannot start"), chown);
    }
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().unwrap_or(Path::new("/"));
            if folder.is_dir() && !may_write(folder) {
                let remedy =
                    "RuntimeDirectory=mwid in the unit makes it, or chown it to mwid's user";
                report.fail(check, format!("this user may not make {at}"), remedy);
            } else {
                report.ok(check, format!("{at} is not there: mwid makes it when it starts"));
            }
        }
        Err(error) => {
            report.fail(
                check,
                format!("{at}: {error}"),
                "this user must be able to enter its folder",
            );
        }
        Ok(it) if !it.file_type().is_socket() => {
            let remedy = format!("remove it: rm {at}");
            report.fail(check, format!("{at} is there and no socket"), remedy);
        }
        Ok(it) if it.permissions().mode() & 0o777 != 0o660 => {
            let mode = it.permissions().mode() & 0o777;
            let remedy = format!("chmod 660 {at}; mwid makes it so: who changed it?");
            report.warn(check, format!("{at} has the mode {mode:o}, not 660"), remedy);
        }
        Ok(_) => report.ok(check, format!("{at}, mode 660")),
    }
}
