//! Unix sockets that other processes reach mwid through: tight permissions, no leftovers.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

/// Owner and group may talk to mwid; Asterisk's user is in its group.
const SOCKET_MODE: u32 = 0o660;
const FOLDER_MODE: u32 = 0o750;

/// Why a socket cannot be made.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error("another mwid already listens on {path}; stop it, or give this one other paths in [control]")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// A file that mwid did not make.
    #[error("{path} is there and is no socket; remove it, or set another path in [control]")]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot listen on {path}: {source}; check the path in [control] and the permissions of its folder")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Removes the socket's file when dropped, if it still is the one that was made.
#[derive(Debug)]
pub struct SocketGuard {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            // Nobody is left to tell when this fails; the next start cleans up.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes a socket of the given type at `path`, non-blocking, and with its final permissions from
/// the first moment on. A file that a dead daemon left behind is replaced.
///
/// # Errors
/// [`SocketError`] when somebody answers there or the system refuses.
pub fn bind(path: &Path, kind: Type) -> Result<(Socket, SocketGuard), SocketError> {
    let refused = |source| SocketError::Io { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(refused)?;
    }
    clear(path)?;
    let open = || {
        let socket = Socket::new(Domain::UNIX, kind, None)?;
        // On Linux, bind gives the new file the mode of the socket.
        fchmod(&socket, Mode::from_bits_truncate(SOCKET_MODE))?;
        socket.bind(&SockAddr::unix(path)?)?;
        if kind == Type::STREAM {
            socket.listen(128)?;
        }
        socket.set_nonblocking(true)?;
        let inode = fs::symlink_metadata(path)?.ino();
        Ok((socket, SocketGuard { path: path.to_owned(), inode }))
    };
    open().map_err(refused)
}

/// Removes what a dead daemon left behind.
fn clear(path: &Path) -> Result<(), SocketError> {
    let path_buf = || path.to_owned();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(SocketError::Io { path: path_buf(), source }),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::NotASocket { path: path_buf() });
        }
        Ok(_) => {}
    }
    let datagram = UnixDatagram::unbound().and_then(|probe| probe.connect(path));
    if datagram.is_ok() || UnixStream::connect(path).is_ok() {
        return Err(SocketError::InUse { path: path_buf() });
    }
    fs::remove_file(path).map_err(|source| SocketError::Io { path: path_buf(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_socket_has_its_permissions_and_is_removed_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/mwid.sock");
        let (socket, guard) = bind(&path, Type::STREAM).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & !SOCKET_MODE, 0, "mode {mode:o}");
        assert!(matches!(bind(&path, Type::STREAM), Err(SocketError::InUse { .. })));
        drop((socket, guard));
        assert!(!path.exists());
    }

    #[test]
    fn what_a_dead_daemon_left_is_replaced_and_a_plain_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        for kind in [Type::STREAM, Type::DGRAM] {
            let path = folder.path().join("left.sock");
            let (socket, guard) = bind(&path, kind).unwrap();
            drop(socket);
            std::mem::forget(guard);
            assert!(path.exists());
            let (_socket, _guard) = bind(&path, kind).unwrap();
        }
        let file = folder.path().join("file");
        fs::write(&file, "precious").unwrap();
        assert!(matches!(bind(&file, Type::STREAM), Err(SocketError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    }
}
