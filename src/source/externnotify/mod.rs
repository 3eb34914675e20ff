//! externnotify: Asterisk itself says that a mailbox changed, by running a command.
//!
//! The command's side ([`main`], [`Notice`]) uses the standard library only: Asterisk starts it
//! for every change, so it must be gone within a millisecond, and it must never block. It sends one
//! datagram to the daemon; if the daemon does not take it at once, it leaves the same text as a
//! file in the drop folder. The daemon's side ([`Externnotify`]) receives the one and collects the
//! other.

use mwid_core::mailbox::Mailbox;
use mwid_core::summary::Summary;

mod arguments;
mod collect;
mod drop;
mod listen;
mod notice;
mod send;
mod stamps;

pub use listen::{Externnotify, Stats};
pub use notice::{MAX_NOTICE, Notice, NoticeError};
pub use send::main;

/// Where the daemon listens unless it is told otherwise (`[control] externnotify`).
pub const DEFAULT_SOCKET: &str = "/run/mwid/externnotify.sock";

/// The drop folder unless the daemon is told otherwise (`[control] drop`).
pub const DEFAULT_DROP: &str = "/var/lib/mwid/drop";

/// What Asterisk said: this mailbox changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The mailbox.
    pub mailbox: Mailbox,
    /// Its counts, when they were given.
    pub given: Option<Summary>,
}
