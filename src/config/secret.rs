//! A password that cannot be logged.

use std::fmt;
use std::path::PathBuf;

/// What is printed in place of a password.
pub(super) const MASK: &str = "********";

/// A secret: `Debug` and `Display` print `********`, so no log and no error can hold it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    clear: String,
    origin: Origin,
}

/// Where a secret came from: what the effective configuration prints in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Written in the configuration itself.
    Written,
    /// The content of a file.
    File(PathBuf),
    /// The value of an environment variable.
    Environment(String),
}

impl Secret {
    /// Wraps the clear text, as written in the configuration.
    #[must_use]
    pub fn new(clear: impl Into<String>) -> Self {
        Self::from(clear, Origin::Written)
    }

    /// Wraps the clear text and remembers where it came from.
    #[must_use]
    pub fn from(clear: impl Into<String>, origin: Origin) -> Self {
        Self { clear: clear.into(), origin }
    }

    /// The clear text, for the one call that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.clear
    }

    /// Where it came from.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}
