//! Random numbers from the operating system.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};

/// A number for what must differ and must not be foreseen from outside: jitter, branches, names.
/// It is what seeds the keys of the standard hash maps; whoever sees many can compute more of
/// them, so a key is a [`secret`].
#[must_use]
pub fn number() -> u64 {
    RandomState::new().hash_one(0)
}

/// What nobody can guess.
///
/// # Errors
/// When there is no `/dev/urandom`.
pub fn secret<const LENGTH: usize>() -> io::Result<[u8; LENGTH]> {
    let mut secret = [0; LENGTH];
    File::open("/dev/urandom")?.read_exact(&mut secret)?;
    Ok(secret)
}
