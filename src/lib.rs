//! mwid: the daemon and its command line around [`mwid_core`].

pub mod config;
pub mod dialogs;
pub mod source;
