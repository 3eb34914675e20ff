//! Unix sockets that other processes reach the daemon through: one daemon on a path, mode 0660 from
//! its first moment, gone at the end.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::lock::{self, Lock, LockError};
use crate::own_file;

/// Why the daemon cannot listen.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Another mwid has the path.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Somebody listens there.
    #[error("somebody listens on {}; stop it, or give this one other paths in [control]", path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is there, and it is not ours to remove.
    #[error("{} is there and is no socket; move it away, or change its path in [control]", path.display())]
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
pub struct Bound<S> {
    /// The socket; it does not block.
    pub socket: S,
    path: PathBuf,
    inode: u64,
    /// Held as long as we listen, so that a second daemon cannot take the path.
    _lock: Lock,
}

impl<S> Drop for Bound<S> {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|it| it.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket cannot be removed");
        }
    }
}

/// Creates a folder, and those above it, unless it is there.
pub(crate) fn make_folder(path: &Path, mode: u32) -> Result<(), SocketError> {
    let failed =
        |source| SocketError::Io { what: "create the folder", path: path.to_owned(), source };
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)
}

/// Binds a socket to `path`; `open` makes it, not blocking, at another path of the same folder. A
/// file that a dead daemon left there is replaced.
///
/// # Errors
/// [`SocketError`] when the path belongs to somebody else or the system refuses.
pub fn bind<S>(
    path: &Path,
    open: impl FnOnce(&Path) -> io::Result<S>,
) -> Result<Bound<S>, SocketError> {
    let io =
        |what| move |source: io::Error| SocketError::Io { what, path: path.to_owned(), source };
    let folder = own_file::folder(path);
    make_folder(folder, 0o755)?;
    let lock = lock::take(path)?;
    refuse_the_living(path)?;
    // In a folder that only we can enter nobody can connect before the mode is right.
    let private = tempfile::Builder::new().prefix(".mwid-").tempdir_in(folder);
    let private = private.map_err(io("create a folder beside the socket"))?;
    let hidden = private.path().join("s");
    let socket = open(&hidden).map_err(io("bind the socket"))?;
    let mode = Permissions::from_mode(0o660);
    fs::set_permissions(&hidden, mode).map_err(io("set the mode of the socket"))?;
    let inode = fs::symlink_metadata(&hidden).map_err(io("look at the socket"))?.ino();
    fs::rename(&hidden, path).map_err(io("put in place the socket"))?;
    Ok(Bound { socket, path: path.to_owned(), inode, _lock: lock })
}

/// The lock keeps other daemons of ours away; this looks for anybody else.
fn refuse_the_living(path: &Path) -> Result<(), SocketError> {
    let io = |source| SocketError::Io { what: "look at", path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    let datagram = || UnixDatagram::unbound()?.connect(path);
    let stream = || UnixStream::connect(path).map(drop);
    match datagram().or_else(|_| stream()) {
        Ok(()) => Err(SocketError::Taken { path: path.to_owned() }),
        // Nobody is behind it, whichever kind it was.
        Err(error)
            if error.kind() == ErrorKind::ConnectionRefused
                || error.raw_os_error() == Some(nix::errno::Errno::EPROTOTYPE as i32) =>
        {
            Ok(())
        }
        Err(error) => Err(io(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_its_mode_and_its_one_daemon_and_is_gone_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/mwid.sock");
        let bound = bind(&path, |path| UnixDatagram::bind(path)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let second = bind(&path, |path| UnixDatagram::bind(path));
        assert!(matches!(second, Err(SocketError::Lock(_))));
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_dead_daemon_left_is_replaced_and_what_is_not_ours_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (left, stream) = (folder.path().join("left"), folder.path().join("stream"));
        drop(UnixDatagram::bind(&left).unwrap());
        bind(&left, |path| UnixDatagram::bind(path)).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&stream).unwrap());
        bind(&stream, |path| UnixDatagram::bind(path)).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(folder.path().join("live")).unwrap();
        let taken = bind(&folder.path().join("live"), |path| UnixDatagram::bind(path));
        assert!(matches!(taken, Err(SocketError::Taken { .. })));
        fs::write(folder.path().join("file"), "precious").unwrap();
        let file = bind(&folder.path().join("file"), |path| UnixDatagram::bind(path));
        assert!(matches!(file, Err(SocketError::NotASocket { .. })));
    }
}
