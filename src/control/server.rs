//! The answering end of the control socket.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use socket2::Type;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

use super::{Answer, Command, Request, ask};
use crate::unix_socket::{self, SocketError, SocketGuard};

/// The longest command line: names are at most 253 bytes each.
const MAX_LINE: u64 = 4096;

/// Commands under way at once; more wait in the kernel's queue.
const MAX_CLIENTS: usize = 16;

/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

/// Listens on the control socket until dropped.
#[derive(Debug)]
pub struct Server {
    task: tokio::task::JoinHandle<()>,
    _guard: SocketGuard,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens on `socket` (mode 0660) and passes commands on.
///
/// # Errors
/// [`SocketError`] when the socket cannot be made, or another daemon listens on it.
pub fn listen(socket: &Path, requests: mpsc::Sender<Request>) -> Result<Server, SocketError> {
    let (listener, guard) = unix_socket::bind(socket, Type::STREAM)?;
    let listener = UnixListener::from_std(listener.into())
        .map_err(|source| SocketError::Io { path: socket.to_owned(), source })?;
    let task = tokio::spawn(accept(listener, requests));
    Ok(Server { task, _guard: guard })
}

async fn accept(listener: UnixListener, requests: mpsc::Sender<Request>) {
    let places = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let requests = requests.clone();
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, &requests).await {
                        tracing::debug!(%error, "a control client went away");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket cannot accept");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn serve(mut stream: UnixStream, requests: &mpsc::Sender<Request>) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(MAX_LINE));
    tokio::time::timeout(PATIENCE, reader.read_line(&mut line)).await??;
    let answer = match serde_json::from_str::<Command>(&line) {
        Ok(command) => ask(requests, command)
            .await
            .unwrap_or_else(|| Answer::refused("mwid is stopping")),
        Err(error) => Answer::refused(format!("this mwid does not know that command: {error}")),
    };
    let mut bytes = serde_json::to_vec(&answer)?;
    bytes.push(b'\n');
    write.write_all(&bytes).await
}
