//! externnotify: Asterisk itself says that a mailbox changed, by running a command.
//!
//! The command's side ([`main`], [`Notice`]) uses the standard library only: Asterisk starts it
//! for every change, so it must be gone within a millisecond, and it must never block. It leaves
//! the notice as a file in the drop folder first, and then sends the same text, with the name of
//! the file, in one datagram to the daemon. So what Asterisk said survives any end of the daemon at
//! any moment, and still arrives at once.
//!
//! The daemon's side ([`Externnotify`]) receives the datagrams and collects the files that came
//! without one. It hands each on once, with a [`FileReceipt`]; the file goes when the receipt is done:
//! when the counts are in the ledger, or when there is nothing to remember.

use std::path::PathBuf;

mod arguments;
mod collect;
mod drop;
mod file_name;
#[cfg(fuzzing)]
pub mod fuzzing;
mod listen;
mod notice;
mod receipt;
mod send;
mod stamps;

pub use file_name::FileName;
pub use listen::{Externnotify, Socket, Stats};
pub use notice::{MAX_NOTICE, Notice, NoticeError};
pub use receipt::FileReceipt;
pub use send::main;

/// Where the daemon listens unless it is told otherwise (`[control] externnotify`).
pub const DEFAULT_SOCKET: &str = "/run/mwid/externnotify.sock";

/// The drop folder unless the daemon is told otherwise (`[control] drop`).
pub const DEFAULT_DROP: &str = "/var/lib/mwid/drop";

/// Where the command finds the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doors {
    /// The socket, `[control] externnotify`.
    pub socket: PathBuf,
    /// The drop folder, `[control] drop`.
    pub drop: PathBuf,
}

impl Default for Doors {
    fn default() -> Self {
        Self { socket: DEFAULT_SOCKET.into(), drop: DEFAULT_DROP.into() }
    }
}
