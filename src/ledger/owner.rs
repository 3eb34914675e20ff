//! Whose the file is: made for nobody but its user and group, and taken over from another user, whom
//! somebody once started mwid as.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode::{CannotOpen, PermissionDenied, ReadOnly};
use rusqlite::{Connection, OpenFlags};

use super::file::{self, FileError};
use crate::own_file;

/// Makes an empty file where there is none, which SQLite takes for a new database. Its journal gets
/// the same mode. Where this fails SQLite says why.
pub(super) fn make(path: &Path) {
    let _ = own_file::make(path);
}

/// Whose the file and its folder are, when that is what is wrong with them.
fn foreign(path: &Path, problem: &FileError) -> Option<String> {
    let forbidden = match problem {
        FileError::Sqlite(error) => {
            let code = error.sqlite_error_code();
            code.is_some_and(|code| [CannotOpen, PermissionDenied, ReadOnly].contains(&code))
        }
        FileError::Io(error) => error.kind() == io::ErrorKind::PermissionDenied,
        _ => false,
    };
    let own = nix::unistd::geteuid().as_raw();
    let both = [Some(path), path.parent()].into_iter().flatten();
    let found: Vec<String> = both.filter_map(|path| own_file::foreign(path, own)).collect();
    (forbidden && !found.is_empty())
        .then(|| format!("{}, and mwid is user {own}", found.join(", ")))
}

/// What to do about a file that this user may not write, when that is what is wrong with it.
pub(super) fn remedy(path: &Path, problem: &FileError) -> Option<String> {
    let (own, folder) = (nix::unistd::geteuid(), path.parent().unwrap_or(path).display());
    foreign(path, problem).map(|whose| format!("{whose}: chown -R {own} {folder}"))
}

/// Puts a copy of our own in the place of a file that is another user's, if it can be read and its
/// folder written.
///
/// # Errors
/// The problem that it was, where that is not what is wrong or cannot be helped.
pub(super) fn take_over(path: &Path, problem: FileError, unix: u64) -> Result<(), FileError> {
    let Some(whose) = foreign(path, &problem) else { return Err(problem) };
    let copy = copy_of(path);
    // From here on the copy is whole: where the power fails before it has its name, `finish` gives it that.
    match copied(path, &copy).and_then(|()| Ok(file::set_aside(path, WORD, unix)?)) {
        Ok(aside) => {
            put_in_place(path)?;
            tracing::warn!(
                "the ledger: {whose}; all that it says is in a file of mwid's own now, and it is kept as {}",
                aside.display()
            );
            Ok(())
        }
        Err(_) => {
            // What is left of a copy that could not be made helps nobody.
            let _ = file::remove(&copy);
            Err(problem)
        }
    }
}

/// Finishes a taking over that was cut short: the copy is the ledger where that was set aside already,
/// and is made anew where it was not.
pub(super) fn finish(path: &Path) {
    let copy = copy_of(path);
    if !copy.exists() {
        return;
    }
    let done = if path.exists() { file::remove(&copy) } else { put_in_place(path) };
    if let Err(error) = done {
        tracing::error!("the ledger {} cannot be put in its place: {error}", copy.display());
    }
}

/// What another user's file is called when it is set aside.
pub(super) const WORD: &str = "foreign-owner";

fn copy_of(path: &Path) -> PathBuf {
    file::with_suffix(path, ".copy")
}

/// What is left of a journal under the name is the former file's, and in the copy.
fn put_in_place(path: &Path) -> io::Result<()> {
    file::remove(path)?;
    fs::rename(copy_of(path), path)?;
    sync_folder(path)
}

/// With what is still in its journal, and on the disk, where what calls gave was.
fn copied(from: &Path, to: &Path) -> Result<(), FileError> {
    file::remove(to)?;
    make(to);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(from, flags)?;
    let name = to.to_str().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
    connection.execute("VACUUM INTO ?1", [name])?;
    File::open(to)?.sync_all()?;
    Ok(sync_folder(to)?)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(own_file::folder(path))?.sync_all()
}
