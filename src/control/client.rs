//! The asking end of the control socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::{Answer, Command};
use crate::feed::Line;

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
    /// The daemon went away while it was watched.
    #[error("mwid has stopped, or was restarted: nothing more comes from {socket}")]
    Stopped {
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
    let (answer, _) = begin(socket, command)?;
    Ok(answer)
}

/// Asks, and leaves what comes after the answer to be read.
fn begin(socket: &Path, command: &Command) -> Result<(Answer, BufReader<UnixStream>), ClientError> {
    let path = || socket.to_owned();
    let stream = UnixStream::connect(socket).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => ClientError::NotAllowed { socket: path() },
        _ => ClientError::NotRunning { socket: path(), source },
    })?;
    exchange(stream, command).map_err(|source| ClientError::NoAnswer { socket: path(), source })
}

/// How the lines of [`watch`] are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// For a person at a terminal: a line that says how far something is takes the place of the one
    /// before.
    Terminal,
    /// One line each, for a pipe or a file.
    Plain,
    /// One JSON object a line.
    Json,
}

/// How much of a line that will be overwritten is printed: one that is wrapped cannot be.
const TERMINAL: usize = 79;

/// Erases the line that the cursor is in.
const ERASE: &str = "\r\u{1b}[K";

/// Prints what happens until the daemon stops; a reader that went away is nobody's error.
///
/// # Errors
/// [`ClientError`] as [`ask`], and when the daemon has stopped.
pub fn watch(
    socket: &Path,
    account: Option<String>,
    shape: Shape,
    out: &mut dyn Write,
) -> Result<u8, ClientError> {
    let no_answer = |source| ClientError::NoAnswer { socket: socket.to_owned(), source };
    let (answer, mut lines) = begin(socket, &Command::Watch { account })?;
    let begins = if shape == Shape::Json { answer.data.to_string() } else { answer.text };
    if writeln!(out, "{begins}").and_then(|()| out.flush()).is_err() || answer.code != 0 {
        return Ok(answer.code);
    }
    lines.get_ref().set_read_timeout(None).map_err(no_answer)?;
    let mut text = String::new();
    loop {
        text.clear();
        if lines.read_line(&mut text).map_err(no_answer)? == 0 {
            return Err(ClientError::Stopped { socket: socket.to_owned() });
        }
        let line: Line = serde_json::from_str(&text).map_err(|error| no_answer(error.into()))?;
        let printed = match shape {
            Shape::Json => writeln!(out, "{}", line.data),
            Shape::Plain => writeln!(out, "{}", line.text),
            Shape::Terminal if line.is_progress => {
                let cut: String = line.text.chars().take(TERMINAL).collect();
                write!(out, "{ERASE}{cut}")
            }
            Shape::Terminal => writeln!(out, "{ERASE}{}", line.text),
        };
        if printed.and_then(|()| out.flush()).is_err() {
            return Ok(0);
        }
    }
}

/// Mailboxes asked for at once.
const PAGE: u32 = 1000;

/// Prints all mailboxes, page by page, however many there are. Gives the exit code; a reader that
/// went away is nobody's error.
///
/// # Errors
/// [`ClientError`] as [`ask`].
pub fn mailboxes(
    socket: &Path,
    context: Option<String>,
    json: bool,
    out: &mut dyn Write,
) -> Result<u8, ClientError> {
    let mut after = None;
    loop {
        let command = Command::ShowMailboxes { context: context.clone(), after, limit: PAGE };
        let answer = ask(socket, &command)?;
        let lines = answer.data["mailboxes"].as_array().cloned().unwrap_or_default();
        let is_refused = answer.data["error"].is_string();
        let text = match (json, lines.is_empty() && command.is_later_page()) {
            (true, _) if is_refused => format!("{}\n", answer.data),
            (true, _) => lines.iter().map(|line| format!("{line}\n")).collect(),
            (false, true) => String::new(),
            (false, false) => format!("{}\n", answer.text),
        };
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        after = answer.data["next"].as_str().map(str::to_owned);
        if written.is_err() || after.is_none() {
            return Ok(answer.code);
        }
    }
}

fn exchange(
    mut stream: UnixStream,
    command: &Command,
) -> io::Result<(Answer, BufReader<UnixStream>)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_string(command)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    let mut reader = BufReader::new(stream);
    if reader.read_line(&mut answer)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((serde_json::from_str(&answer)?, reader))
}
