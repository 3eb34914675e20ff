//! For fuzz/: what stands private in this folder.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use mwid_core::mailbox::Mailbox;

use super::Doors;
use super::arguments::{self, Wish};

/// The mailbox and counts of a command line whose arguments are separated by NUL, if it is taken.
pub fn arguments(line: &[u8]) -> Option<(Mailbox, Option<[u32; 3]>)> {
    let words = line.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec()));
    match arguments::parse(words, Doors::default()).ok()? {
        Wish::Send(arguments) => Some((arguments.mailbox, arguments.counts)),
        Wish::Help => None,
    }
}
