//! The daemon's side of the drop folder. What lies there was left by others: each file is looked
//! at with care, and read unless it was handed on already.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use thiserror::Error;

use super::drop::UNFINISHED;
use super::file_name::FileName;
use super::notice::{MAX_NOTICE, Notice, NoticeError};
use super::receipt::Files;

/// Files that are read before the first of them is handed on.
pub(super) const BATCH: usize = 256;
/// Files that are left alone because they can be neither read nor moved.
const ROOM: usize = 4096;
/// A notice that has been unfinished for this long has no writer any more.
const ABANDONED: Duration = Duration::from_secs(600);

/// Why a file is no notice. It is put aside.
#[derive(Debug, Error)]
enum Bad {
    #[error("its name is not STAMP-PROCESS-N.call")]
    Name,
    #[error("it is not a plain file")]
    NotPlain,
    #[error("it is not a notice: {0}")]
    NotANotice(#[from] NoticeError),
}

/// A notice that was read from a file.
#[derive(Debug)]
pub(super) struct Dropped {
    pub(super) notice: Notice,
    pub(super) name: FileName,
}

/// What a look into the folder brought.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// In the order of their stamps.
    pub(super) dropped: Vec<Dropped>,
    /// Files that were put aside.
    pub(super) bad: u64,
    /// There is more.
    pub(super) more: bool,
}

/// Reads the drop folder.
#[derive(Debug)]
pub(super) struct Collector {
    files: Arc<Files>,
    /// Files that can be neither read nor moved.
    stuck: HashSet<OsString>,
    folder_failed: bool,
}

impl Collector {
    pub(super) fn new(files: Arc<Files>) -> Self {
        Self { files, stuck: HashSet::new(), folder_failed: false }
    }

    fn folder(&self) -> &Path {
        self.files.folder()
    }

    /// Reads the oldest notices of the folder.
    pub(super) fn look(&mut self) -> Batch {
        let mut batch = Batch::default();
        let names = match self.oldest(&mut batch.bad) {
            Ok((names, more)) => {
                batch.more = more;
                self.folder_failed = false;
                names
            }
            Err(error) => {
                if !std::mem::replace(&mut self.folder_failed, true) {
                    let folder = self.folder().display();
                    tracing::error!(%folder, %error, "the drop folder cannot be read");
                }
                return batch;
            }
        };
        for name in names {
            let text = OsString::from(name.to_string());
            match read(&self.folder().join(&text)) {
                Ok(Ok(notice)) => batch.dropped.push(Dropped { notice, name }),
                Ok(Err(bad)) => {
                    batch.bad += 1;
                    self.put_aside(text, &bad);
                }
                // Its datagram came meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.give_up(text, "cannot be read; mwid's user needs to", &error),
            }
        }
        batch.dropped.sort_by_key(|dropped| dropped.notice.stamp);
        batch
    }

    /// The names that sort first, without those that need no look. A folder of any size costs no
    /// more memory than this.
    fn oldest(&mut self, bad: &mut u64) -> io::Result<(BTreeSet<FileName>, bool)> {
        let (mut names, mut more) = (BTreeSet::new(), false);
        for entry in fs::read_dir(self.folder())? {
            let text = entry?.file_name();
            if text.as_bytes().starts_with(UNFINISHED.as_bytes()) {
                self.sweep_unfinished(&text);
            }
            if !claims_to_be_a_notice(&text) || self.stuck.contains(&text) {
                continue;
            }
            let Some(name) = text.to_str().and_then(FileName::parse) else {
                *bad += 1;
                self.put_aside(text, &Bad::Name);
                continue;
            };
            if self.files.is_known(name) {
                continue;
            }
            names.insert(name);
            if names.len() > BATCH {
                names.pop_last();
                more = true;
            }
        }
        Ok((names, more))
    }

    fn sweep_unfinished(&self, name: &OsStr) {
        let path = self.folder().join(name);
        let abandoned = fs::symlink_metadata(&path)
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED));
        if abandoned && let Err(error) = fs::remove_file(&path) {
            tracing::debug!(path = %path.display(), %error, "an unfinished notice stays");
        }
    }

    fn put_aside(&mut self, name: OsString, bad: &Bad) {
        let mut aside = OsString::from("bad-");
        aside.push(&name);
        match fs::rename(self.folder().join(&name), self.folder().join(&aside)) {
            Ok(()) => tracing::warn!(folder = %self.folder().display(), ?name, %bad, "put aside"),
            Err(error) => self.give_up(name, "is no notice and cannot be put aside", &error),
        }
    }

    /// Leaves a file alone until the next start, and says so once.
    fn give_up(&mut self, name: OsString, what: &str, error: &io::Error) {
        tracing::error!(folder = %self.folder().display(), ?name, %error, "dropped notice {what}");
        if self.stuck.len() >= ROOM {
            self.stuck.clear();
        }
        self.stuck.insert(name);
    }
}

/// What was put aside, and what others keep here, begins with no digit.
fn claims_to_be_a_notice(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    bytes.ends_with(b".call") && bytes.first().is_some_and(u8::is_ascii_digit)
}

/// Opens without following a link and without waiting for the other end of a pipe.
fn open(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    match OpenOptions::new().read(true).custom_flags(flags.bits()).open(path) {
        Ok(file) => Ok(file.metadata()?.is_file().then_some(file)),
        Err(error)
            if [Errno::ELOOP as i32, Errno::ENXIO as i32]
                .map(Some)
                .contains(&error.raw_os_error()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> io::Result<Result<Notice, Bad>> {
    let Some(file) = open(path)? else { return Ok(Err(Bad::NotPlain)) };
    let mut text = Vec::new();
    file.take(MAX_NOTICE as u64 + 1).read_to_end(&mut text)?;
    Ok(Notice::parse(&text).map_err(Bad::from))
}
