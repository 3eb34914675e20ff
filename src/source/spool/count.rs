//! Counting: how many messages a folder holds, as Asterisk counts them.

use std::fs::{self, File, Metadata};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mwid_core::summary::Summary;
use rustix::fs::{Mode, OFlags, RawDir, open};
use rustix::io::Errno;
use thiserror::Error;

/// The folders of a mailbox that hold waiting messages, in the order in which
/// [`Summary::from_asterisk`] takes their counts.
pub(super) const FOLDERS: [&str; 3] = ["INBOX", "Old", "Urgent"];

/// Names that are read at once, in bytes.
const BUFFER: usize = 8192;

/// A folder that changed less than this before it was read may have changed again without a new
/// time: file systems keep times as coarsely as one or two seconds.
const RACY: Duration = Duration::from_secs(2);

/// A folder that is there and could not be counted.
#[derive(Debug, Error)]
#[error("cannot count {}: {source}", path.display())]
pub(super) struct CountError {
    path: PathBuf,
    source: io::Error,
}

/// What a folder looked like when it was last counted: when it had last changed, in nanoseconds since
/// 1970. Small: there may be 300,000 of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen(i64);

impl Default for Seen {
    fn default() -> Self {
        Self::DIRTY
    }
}

impl Seen {
    /// Not counted, or changed so shortly before that the next sweep counts again.
    pub(super) const DIRTY: Self = Self(i64::MIN);
    /// Not there.
    const MISSING: Self = Self(i64::MIN + 1);

    /// What is worth remembering of a folder that is about to be read at `now`.
    pub(super) fn before_reading(metadata: &Metadata, now: SystemTime) -> Self {
        let old = |changed| now.duration_since(changed).is_ok_and(|age| age >= RACY);
        if metadata.modified().is_ok_and(old) { Self::at(metadata) } else { Self::DIRTY }
    }

    /// The far ends of time are as good as unknown.
    fn at(metadata: &Metadata) -> Self {
        let seconds = metadata.mtime().checked_mul(1_000_000_000);
        let changed = seconds.and_then(|it| it.checked_add(metadata.mtime_nsec()));
        changed.filter(|it| *it > Self::MISSING.0).map_or(Self::DIRTY, Self)
    }

    /// Whether the folder at `path` still looks like this. A doubt is a no.
    pub(super) fn still(self, path: &Path) -> bool {
        self != Self::DIRTY
            && look(path).is_ok_and(|found| found.as_ref().map_or(Self::MISSING, Self::at) == self)
    }
}

/// The counts of one mailbox.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Messages in each of [`FOLDERS`]; `None` where the folder is missing.
    pub(super) messages: [Option<u32>; 3],
    /// What each folder looked like.
    pub(super) seen: [Seen; 3],
}

impl Counts {
    /// Whether at least one of the folders is there.
    pub(super) fn any(&self) -> bool {
        self.messages.iter().any(Option::is_some)
    }

    /// Whether all of the folders are there.
    pub(super) fn all(&self) -> bool {
        self.messages.iter().all(Option::is_some)
    }

    /// The counts as a summary; a missing folder holds nothing.
    pub(super) fn summary(&self) -> Summary {
        let [inbox, old, urgent] = self.messages.map(Option::unwrap_or_default);
        Summary::from_asterisk(inbox, old, urgent)
    }
}

/// Which folder a path is, whatever its name: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

impl Identity {
    /// The identity of what `metadata` describes.
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }

    /// Its inode alone: a device may get another number when the machine starts again.
    pub(super) fn inode(self) -> u64 {
        self.1
    }
}

/// Whether a file of this name is one message: `msg` and, at offset 8, `txt`, in any case. That is
/// the test of Asterisk's `__has_voicemail`; `msg0000.txt` passes and so does `msg0000.txt.bak`.
pub(super) fn is_message(name: &[u8]) -> bool {
    name.len() >= 11
        && name[..3].eq_ignore_ascii_case(b"msg")
        && name[8..11].eq_ignore_ascii_case(b"txt")
}

/// What is at `path`, links followed; `None` when there is nothing.
///
/// # Errors
/// Whatever the system says, and "not found" for a link that leads nowhere: the folder may be on a
/// file system that is not mounted, so it must not pass for missing.
pub(super) fn look(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::symlink_metadata(path) {
            Ok(_) => Err(error),
            Err(again) if again.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(again) => Err(again),
        },
        Err(error) => Err(error),
    }
}

/// Counts the messages of the mailbox in the folder `dir`. `watch` is called with each folder that
/// is there (its place in [`FOLDERS`]) before it is read, so that no change falls in between.
///
/// # Errors
/// [`CountError`] when a folder is there and cannot be read: then nothing is known.
pub(super) fn count_mailbox(
    dir: &Path,
    mut watch: impl FnMut(usize, &Path),
) -> Result<Counts, CountError> {
    let mut counts = Counts::default();
    for (index, folder) in FOLDERS.iter().enumerate() {
        let path = dir.join(folder);
        let now = SystemTime::now();
        let found = open_folder(&path).and_then(|found| {
            let Some(folder) = found else { return Ok((None, Seen::MISSING)) };
            watch(index, &path);
            let seen = Seen::before_reading(&folder.metadata()?, now);
            Ok((Some(count_folder(&folder)?), seen))
        });
        match found {
            Ok((messages, seen)) => {
                counts.messages[index] = messages;
                counts.seen[index] = seen;
            }
            Err(source) => return Err(CountError { path, source }),
        }
    }
    Ok(counts)
}

/// The folder at `path`; `None` when there is nothing. Errors as those of [`look`].
fn open_folder(path: &Path) -> io::Result<Option<File>> {
    match open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(folder) => Ok(Some(folder.into())),
        Err(Errno::NOENT) => match fs::symlink_metadata(path) {
            Err(again) if again.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => Err(Errno::NOENT.into()),
        },
        Err(error) => Err(error.into()),
    }
}

fn count_folder(folder: &File) -> io::Result<u32> {
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut names = RawDir::new(folder, &mut buffer);
    let mut count = 0u32;
    while let Some(entry) = names.next() {
        if is_message(entry?.file_name().to_bytes()) {
            count = count.saturating_add(1);
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_what_asterisk_counts() {
        for yes in ["msg0000.txt", "MSG0001.TXT", "msg0000.txt.bak", "msgabcd.Txt"] {
            assert!(is_message(yes.as_bytes()), "{yes}");
        }
        for no in ["msg0000.wav", "msg000.txt", "msg00000.txt", "msg", "msg0000.tx", "xmsg000.txt"]
        {
            assert!(!is_message(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn a_missing_folder_is_nothing_and_a_file_in_its_place_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("INBOX")).unwrap();
        fs::write(dir.path().join("INBOX/msg0000.txt"), "").unwrap();
        let counts = count_mailbox(dir.path(), |_, _| {}).unwrap();
        assert_eq!(counts.messages, [Some(1), None, None]);
        fs::write(dir.path().join("Old"), "").unwrap();
        let error = count_mailbox(dir.path(), |_, _| {}).unwrap_err().to_string();
        assert!(error.contains("/Old: "), "{error}");
    }

    #[test]
    fn a_link_that_leads_nowhere_is_an_error_and_never_zero() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/nowhere/at/all", dir.path().join("INBOX")).unwrap();
        assert!(count_mailbox(dir.path(), |_, _| {}).is_err());
    }

    #[test]
    fn a_folder_that_changed_just_now_is_looked_at_again() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = fs::metadata(dir.path()).unwrap();
        let changed = metadata.modified().unwrap();
        let early = Seen::before_reading(&metadata, changed + Duration::from_secs(1));
        assert_eq!(early, Seen::DIRTY);
        let late = Seen::before_reading(&metadata, changed + Duration::from_secs(3));
        assert!(late.still(dir.path()) && !early.still(dir.path()));
        assert!(Seen::MISSING.still(&dir.path().join("none")));
        assert!(!Seen::MISSING.still(dir.path()));
    }
}
