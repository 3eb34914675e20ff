//! Folder names that no context or mailbox can have: said once each, up to a bound.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use mwid_core::mailbox::NameError;

/// Bad names that are remembered.
const ROOM: usize = 256;

/// The bad names that were met.
#[derive(Debug, Default)]
pub(super) struct BadNames {
    said: HashSet<PathBuf>,
}

impl BadNames {
    /// Says a bad name, the first time that it is met. `error` is `None` when it is not UTF-8.
    pub(super) fn meet(&mut self, path: &Path, error: Option<&NameError>) {
        if self.said.len() > ROOM || self.said.contains(path) {
            return;
        }
        self.said.insert(path.to_owned());
        let error = error.map_or_else(|| "the name is not UTF-8".to_owned(), ToString::to_string);
        if self.said.len() > ROOM {
            tracing::warn!(
                "more than {ROOM} bad folder names in the spool; the rest is not logged"
            );
        } else {
            tracing::warn!(?path, error, "folder skipped; rename it if it is to be a mailbox");
        }
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.said.len()
    }
}
