//! The drop folder: every notice waits there as a file until the daemon has its call safe.
//!
//! A file is written under a hidden name and then renamed, so the daemon never reads half of one.
//! It is not forced to the disk: it must outlive the daemon, which takes no time, and forcing it
//! would take Asterisk's. When the machine itself fails, the last seconds may be lost.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use super::file_name::FileName;
use super::notice::Notice;

/// How the name of a notice that is being written starts.
pub(super) const UNFINISHED: &str = ".new-";

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The mode of a notice: mwid reads it as a member of the folder's group.
const MODE: u32 = 0o640;

/// Leaves a notice and gives the name of its file, which its owner and the folder's group may read.
///
/// # Errors
/// What the system says: the folder is not there, not writable or full.
pub(super) fn leave(folder: &Path, notice: &Notice) -> io::Result<FileName> {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = FileName { stamp: notice.stamp, process: process::id(), number };
    let unfinished = folder.join(format!("{UNFINISHED}{name}"));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&unfinished)?;
    share(&file, folder);
    let left = file
        .write_all(notice.to_text().as_bytes())
        .and_then(|()| fs::rename(&unfinished, folder.join(name.to_string())));
    if left.is_err() {
        // Half a file is of no use to anybody; the error that matters is the first one.
        let _ = fs::remove_file(&unfinished);
    }
    left.map(|()| name)
}

/// Lets mwid read the file, whatever Asterisk's umask (often 077) and group are: it may run as root.
/// Where the system refuses, the folder itself may still have given its group to the file (setgid).
fn share(file: &File, folder: &Path) {
    if let Ok(group) = fs::metadata(folder).map(|folder| folder.gid()) {
        let _ = fchown(file, None, Some(group));
    }
    let _ = file.set_permissions(Permissions::from_mode(MODE));
}
