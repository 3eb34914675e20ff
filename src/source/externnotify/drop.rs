//! The drop folder: a notice that the daemon did not take waits there as a file.
//!
//! A file is written under a hidden name and then renamed to `STAMP-PID-N.call`, so the daemon
//! never reads half of one.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use super::notice::Notice;

/// How the name of a notice ends.
pub(super) const SUFFIX: &str = ".call";

/// How the name of a notice that is being written starts.
pub(super) const UNFINISHED: &str = ".new-";

/// Tells files of one process with one stamp apart.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Leaves a notice. The file is readable for its owner and group only.
///
/// # Errors
/// What the system says: the folder is not there, not writable or full.
pub(super) fn leave(folder: &Path, notice: &Notice) -> io::Result<()> {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("{:020}-{}-{number}", notice.stamp, process::id());
    let unfinished = folder.join(format!("{UNFINISHED}{name}"));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&unfinished)?;
    let left = file
        .write_all(notice.to_text().as_bytes())
        .and_then(|()| fs::rename(&unfinished, folder.join(format!("{name}{SUFFIX}"))));
    if left.is_err() {
        // Half a file is of no use to anybody; the error that matters is the first one.
        let _ = fs::remove_file(&unfinished);
    }
    left
}
