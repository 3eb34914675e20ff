//! How the lines of OpenSIPS's old management interface travel: by FIFO, by UDP, by a Unix socket.

use std::fs::{self, Permissions};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::net::{UdpSocket, UnixDatagram, lookup_host};

use super::mi_lines::LineError;
use crate::config::HostPort;
use crate::http_client::MAX_ANSWER;
use crate::random;

/// What a FIFO takes at once (`PIPE_BUF`): more could be mixed with another one's call.
const MAX_CALL: usize = 4096;

/// Of reply FIFOs and sockets: OpenSIPS writes there, as root or as a member of our group.
const MODE: u32 = 0o660;

/// Why there is no reply.
#[derive(Debug, Error)]
pub(super) enum MiError {
    #[error("no reply within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error(transparent)]
    Line(#[from] LineError),
    #[error("the call has {0} bytes; OpenSIPS's FIFO takes {MAX_CALL} at once")]
    TooLong(usize),
    #[error("nobody reads {}: OpenSIPS is not running, or its FIFO is another one", .0.display())]
    NoReader(PathBuf),
    #[error("the reply has more than {MAX_ANSWER} bytes")]
    TooMuch,
    #[error("the reply FIFO was closed without a reply")]
    Empty,
    #[error("{what}: {source}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> MiError {
    let what = what.into();
    move |source| MiError::Io { what, source }
}

/// Where the lines go.
#[derive(Clone, Debug)]
pub(super) enum Transport {
    Fifo(PathBuf),
    Udp(HostPort),
    Unix(PathBuf),
}

impl Transport {
    /// Asks, for as long as the caller waits. `call` is told the name of the reply FIFO, empty for
    /// datagrams; `folder` is where it is made.
    pub(super) async fn ask(
        &self,
        folder: &Path,
        call: impl FnOnce(&str) -> Result<Vec<u8>, LineError>,
    ) -> Result<Vec<u8>, MiError> {
        match self {
            Self::Fifo(path) => fifo(path, folder, call).await,
            Self::Udp(address) => udp(address, &call("")?).await,
            Self::Unix(path) => unix(path, folder, &call("")?).await,
        }
    }
}

/// A file of our own that OpenSIPS replies to; it goes when this is dropped.
struct ReplyFile {
    path: PathBuf,
    name: String,
}

impl ReplyFile {
    /// A name that nobody can guess beforehand. OpenSIPS allows neither `.` nor `/` in it.
    fn in_folder(folder: &Path) -> Self {
        let name = format!("mwid_{}_{:016x}", std::process::id(), random::number());
        Self { path: folder.join(&name), name }
    }

    fn open_to_group(&self) -> Result<(), MiError> {
        let mode = fs::set_permissions(&self.path, Permissions::from_mode(MODE));
        mode.map_err(io_error(self.path.display().to_string()))
    }
}

impl Drop for ReplyFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("{}: cannot be removed: {error}", self.path.display());
        }
    }
}

async fn fifo(
    path: &Path,
    folder: &Path,
    call: impl FnOnce(&str) -> Result<Vec<u8>, LineError>,
) -> Result<Vec<u8>, MiError> {
    let reply = ReplyFile::in_folder(folder);
    let bytes = call(&reply.name)?;
    if bytes.len() > MAX_CALL {
        return Err(MiError::TooLong(bytes.len()));
    }
    let made = mkfifo(&reply.path, Mode::from_bits_truncate(MODE)).map_err(io::Error::from);
    made.map_err(io_error(format!("cannot make the reply FIFO {}", reply.path.display())))?;
    reply.open_to_group()?;
    // Before OpenSIPS is asked: it gives up soon when nobody reads.
    let receiver = pipe::OpenOptions::new().open_receiver(&reply.path);
    let receiver = receiver.map_err(io_error(reply.path.display().to_string()))?;
    let mut sender = pipe::OpenOptions::new().open_sender(path).map_err(|source| {
        match source.raw_os_error() {
            Some(code) if code == nix::errno::Errno::ENXIO as i32 => {
                MiError::NoReader(path.to_owned())
            }
            _ => MiError::Io { what: path.display().to_string(), source },
        }
    })?;
    sender.write_all(&bytes).await.map_err(io_error(path.display().to_string()))?;
    drop(sender);
    let mut found = Vec::new();
    let mut limited = receiver.take(MAX_ANSWER as u64 + 1);
    limited.read_to_end(&mut found).await.map_err(io_error("the reply FIFO"))?;
    match found.len() {
        0 => Err(MiError::Empty),
        length if length > MAX_ANSWER => Err(MiError::TooMuch),
        _ => Ok(found),
    }
}

async fn udp(address: &HostPort, call: &[u8]) -> Result<Vec<u8>, MiError> {
    let what = || format!("udp:{address}");
    let mut found = lookup_host((address.host.as_str(), address.port))
        .await
        .map_err(io_error(format!("cannot look up {}", address.host)))?;
    let to = found.next().ok_or_else(|| MiError::Io {
        what: what(),
        source: io::Error::new(io::ErrorKind::NotFound, "the name has no address"),
    })?;
    let any =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind::<(std::net::IpAddr, u16)>((any, 0)).await;
    let socket = socket.map_err(io_error(what()))?;
    socket.connect(to).await.map_err(io_error(what()))?;
    socket.send(call).await.map_err(io_error(what()))?;
    let mut reply = vec![0; MAX_ANSWER];
    let length = socket.recv(&mut reply).await.map_err(io_error(what()))?;
    reply.truncate(length);
    Ok(reply)
}

/// The reply comes to a socket of ours in `folder`.
async fn unix(path: &Path, folder: &Path, call: &[u8]) -> Result<Vec<u8>, MiError> {
    let ours = ReplyFile::in_folder(folder);
    let what = || format!("unixgram:{}", path.display());
    let socket = UnixDatagram::bind(&ours.path);
    let socket =
        socket.map_err(io_error(format!("cannot make the socket {}", ours.path.display())))?;
    ours.open_to_group()?;
    socket.connect(path).map_err(io_error(what()))?;
    socket.send(call).await.map_err(io_error(what()))?;
    let mut reply = vec![0; MAX_ANSWER];
    let length = socket.recv(&mut reply).await.map_err(io_error(what()))?;
    reply.truncate(length);
    Ok(reply)
}
