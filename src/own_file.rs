//! Files that mwid makes beside others, and whose they are: its user's, also when root starts it by hand.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use nix::fcntl::OFlag;

/// Makes a file where there is none, for its user and group alone. Root gives it to the user and the
/// group of its folder: mwid's own user must be able to go on with it.
///
/// # Errors
/// What the system says; `AlreadyExists` for whatever is there, a link too.
pub(crate) fn make(path: &Path) -> io::Result<File> {
    let file = options().create_new(true).mode(0o640).open(path)?;
    if nix::unistd::geteuid().is_root()
        && let Err(error) = give(&file, path)
    {
        tracing::warn!("{} stays root's ({error}): mwid's own user cannot use it", path.display());
    }
    Ok(file)
}

/// Opens a file to read and write it, or makes it. A link is not followed: whoever may write to the
/// folder would choose what root writes to.
///
/// # Errors
/// What the system says; [`is_link`] tells a link.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    match make(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options().open(path),
        made => made,
    }
}

/// Whether [`open`] failed because a link is there.
pub(crate) fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::errno::Errno::ELOOP as i32)
}

/// Whose a file is, in words, when it is not this user's.
pub(crate) fn foreign(path: &Path, own: u32) -> Option<String> {
    let owner = std::fs::metadata(path).ok()?.uid();
    (owner != own).then(|| format!("{} belongs to user {owner}", path.display()))
}

/// The folder that a file is in.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(OFlag::O_NOFOLLOW.bits());
    options
}

/// By the file that is open: its name may be another's already.
fn give(file: &File, path: &Path) -> io::Result<()> {
    let folder = std::fs::metadata(folder(path))?;
    fchown(file, Some(folder.uid()), Some(folder.gid()))
}
