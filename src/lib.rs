//! mwid: the daemon and its command line around [`mwid_core`].

pub mod config;
pub mod delivery;
pub mod dialogs;
pub mod source;
pub mod transport;
