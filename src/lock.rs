//! A file that one process at a time holds, and that says which.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{AccessFlags, access};
use thiserror::Error;

use crate::own_file;

/// Held until dropped, or until the process ends in any way.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

/// Why the lock cannot be had.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{} is in use by another mwid (pid {pid}); stop it, or give this one paths of its own", path.display())]
    Held {
        /// What is locked.
        path: PathBuf,
        /// Who holds it, as far as it said.
        pid: String,
    },
    /// What the system says.
    #[error("cannot lock {} ({source}){}", path.display(), remedy(path, source))]
    Io {
        /// What was to be locked.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

fn remedy(path: &Path, error: &io::Error) -> String {
    if own_file::is_link(error) {
        let lock = beside(path);
        let lock = lock.display();
        return format!("; {lock} is a link, which mwid does not follow: rm {lock}");
    }
    let own = nix::unistd::geteuid();
    let is_forbidden = error.kind() == io::ErrorKind::PermissionDenied;
    match left_behind(path).filter(|_| is_forbidden) {
        Some((whose, chown)) => format!("; {whose}, and mwid is user {own}: {chown}"),
        None => "; mwid's user must be able to write there".to_owned(),
    }
}

/// A lock of another user, which stays behind when mwid was once started as that one: whose it is, and
/// the remedy.
pub(crate) fn left_behind(path: &Path) -> Option<(String, String)> {
    let (lock, own) = (beside(path), nix::unistd::geteuid().as_raw());
    let cannot_be_taken = access(&lock, AccessFlags::R_OK | AccessFlags::W_OK).is_err();
    let whose = own_file::foreign(&lock, own).filter(|_| cannot_be_taken)?;
    Some((whose, format!("chown {own} {}", lock.display())))
}

/// The file that is locked.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// Locks `path` by a file beside it, `path.lock`, which holds the process id.
///
/// # Errors
/// [`LockError`] when another process has it or the system refuses.
pub fn take(path: &Path) -> Result<Lock, LockError> {
    let io = |source| LockError::Io { path: path.to_owned(), source };
    let file = own_file::open(&beside(path)).map_err(io)?;
    let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(
        |(file, errno)| match errno {
            Errno::EWOULDBLOCK => LockError::Held {
                path: path.to_owned(),
                pid: note(file).unwrap_or_else(|| "unknown".to_owned()),
            },
            errno => io(errno.into()),
        },
    )?;
    let mut note = || {
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())
    };
    note().map_err(io)?;
    Ok(Lock(lock))
}

/// The process that took the lock last, as far as it can be read.
pub(crate) fn holder(path: &Path) -> Option<u32> {
    note(File::open(beside(path)).ok()?)?.parse().ok()
}

fn note(file: File) -> Option<String> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned()).filter(|it| !it.is_empty())
}
