//! The daemon's socket: one daemon on a path, mode 0660 from its first moment, gone at the end.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

/// Why the daemon cannot listen for externnotify.
#[derive(Debug, Error)]
pub enum BindError {
    /// Another mwid listens there.
    #[error("another mwid listens on {}; stop it, or give this one its own [control] externnotify", path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is there, and it is not ours to remove.
    #[error("{} is there and is no socket; move it away, or change [control] externnotify", path.display())]
    NotASocket {
        /// The path of the socket.
        path: PathBuf,
    },
    /// What the system says.
    #[error("cannot {what} {} ({source}); mwid's user must be able to write there", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A bound socket. Dropping it removes its file.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) socket: UnixDatagram,
    path: PathBuf,
    inode: u64,
    /// Held as long as we listen, so that a second daemon cannot take the path.
    _lock: Flock<File>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|it| it.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket cannot be removed");
        }
    }
}

/// Creates a folder, and those above it, unless it is there.
pub(super) fn make_folder(path: &Path, mode: u32) -> Result<(), BindError> {
    let failed =
        |source| BindError::Io { what: "create the folder", path: path.to_owned(), source };
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)
}

/// Binds a datagram socket to `path`. A file that a dead daemon left there is replaced.
pub(super) fn bind(path: &Path) -> Result<Bound, BindError> {
    let io = |what| move |source: io::Error| BindError::Io { what, path: path.to_owned(), source };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    make_folder(folder, 0o755)?;
    let lock = lock(path)?;
    refuse_the_living(path)?;
    // In a folder that only we can enter nobody can connect before the mode is right.
    let private = tempfile::Builder::new().prefix(".mwid-").tempdir_in(folder);
    let private = private.map_err(io("create a folder beside the socket"))?;
    let hidden = private.path().join("s");
    let socket = UnixDatagram::bind(&hidden).map_err(io("bind the socket"))?;
    socket.set_nonblocking(true).map_err(io("set up the socket"))?;
    let mode = Permissions::from_mode(0o660);
    fs::set_permissions(&hidden, mode).map_err(io("set the mode of the socket"))?;
    let inode = fs::symlink_metadata(&hidden).map_err(io("look at the socket"))?.ino();
    fs::rename(&hidden, path).map_err(io("put in place the socket"))?;
    Ok(Bound { socket, path: path.to_owned(), inode, _lock: lock })
}

fn lock(path: &Path) -> Result<Flock<File>, BindError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = PathBuf::from(name);
    let failed = |source| BindError::Io { what: "lock", path: lock.clone(), source };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&lock)
        .map_err(failed)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => BindError::Taken { path: path.to_owned() },
        errno => failed(errno.into()),
    })
}

/// The lock keeps other daemons of ours away; this looks for anybody else.
fn refuse_the_living(path: &Path) -> Result<(), BindError> {
    let io = |source| BindError::Io { what: "look at", path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixDatagram::unbound().and_then(|socket| socket.connect(path)) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Ok(()) => Err(BindError::Taken { path: path.to_owned() }),
        // A stream socket that somebody listens on answers with EPROTOTYPE.
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EPROTOTYPE as i32) => {
            Err(BindError::Taken { path: path.to_owned() })
        }
        Err(error) => Err(io(error)),
    }
}
