//! The asking end of the control socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::{Answer, Command};

/// `notify` waits longest, 40 seconds; no command takes longer than this.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why there was no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "mwid does not run: nobody listens on {socket} ({source}); start it with `mwid run` or `systemctl start mwid`, or name its configuration with --config"
    )]
    NotRunning {
        /// The control socket.
        socket: PathBuf,
        /// Why it cannot be reached.
        source: io::Error,
    },
    /// This user may not.
    #[error(
        "no permission for {socket}; ask as root or as a member of the group that mwid runs in"
    )]
    NotAllowed {
        /// The control socket.
        socket: PathBuf,
    },
    /// The daemon went away or took too long.
    #[error("mwid did not answer on {socket}: {source}")]
    NoAnswer {
        /// The control socket.
        socket: PathBuf,
        /// What happened.
        source: io::Error,
    },
}

/// Asks the daemon behind `socket`.
///
/// # Errors
/// [`ClientError`] when there is no daemon, no permission or no answer.
pub fn ask(socket: &Path, command: &Command) -> Result<Answer, ClientError> {
    let path = || socket.to_owned();
    let stream = UnixStream::connect(socket).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => ClientError::NotAllowed { socket: path() },
        _ => ClientError::NotRunning { socket: path(), source },
    })?;
    exchange(stream, command).map_err(|source| ClientError::NoAnswer { socket: path(), source })
}

fn exchange(mut stream: UnixStream, command: &Command) -> io::Result<Answer> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_string(command)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    if BufReader::new(stream).read_line(&mut answer)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&answer)?)
}
