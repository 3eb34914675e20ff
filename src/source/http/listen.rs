//! Connections: bounded in number, each in time and size, so that whoever connects and says
//! little, or nothing, costs little and keeps nobody waiting for long.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::HttpError;
use super::tls::Tls;

/// Connections at once, on all addresses; more wait in the kernel's queue. With the control
/// socket's clients still below the 1,024 files that a process may have open.
pub(super) const MAX_CONNECTIONS: usize = 512;

/// How long a client may take for the handshake of TLS, and for the head of a request; and how
/// long it may be silent between two requests.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a connection may last; then its client connects anew. This also ends those of clients
/// that do not read what they are answered.
const LIFETIME: Duration = Duration::from_secs(60);

/// How long the last request of a connection may take.
const LAST_REQUEST: Duration = Duration::from_secs(15);

/// How long the last answers may take when the daemon ends.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Between two tries to accept when the system has no more files.
const PAUSE: Duration = Duration::from_secs(1);

/// An address of the configuration and what listens there.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    wanted: SocketAddr,
    local: SocketAddr,
    socket: Arc<TcpListener>,
}

impl Listener {
    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }
}

/// All that a connection needs.
#[derive(Clone)]
pub(super) struct Hall {
    pub(super) tls: Option<Tls>,
    pub(super) router: Router,
    pub(super) places: Arc<Semaphore>,
    /// Closed when the door is.
    pub(super) end: watch::Receiver<()>,
}

pub(super) fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_CONNECTIONS))
}

/// Listens on each address, on those that are `kept` as before.
pub(super) fn bind(
    addresses: &[SocketAddr],
    kept: &[Listener],
) -> Result<Vec<Listener>, HttpError> {
    let listen = |&wanted: &SocketAddr| {
        if let Some(listener) = kept.iter().find(|listener| listener.wanted == wanted) {
            return Ok(listener.clone());
        }
        let bound =
            bind_one(wanted).map_err(|source| HttpError::Bind { address: wanted, source })?;
        tracing::info!(socket = %bound.local, "HTTP listens");
        Ok(bound)
    };
    addresses.iter().map(listen).collect()
}

fn bind_one(wanted: SocketAddr) -> io::Result<Listener> {
    let socket = std::net::TcpListener::bind(wanted)?;
    socket.set_nonblocking(true)?;
    let socket = Arc::new(TcpListener::from_std(socket)?);
    Ok(Listener { wanted, local: socket.local_addr()?, socket })
}

/// Waits until every connection has ended; all of them must have been told to.
pub(super) async fn drain(places: &Semaphore) {
    let all = places.acquire_many(MAX_CONNECTIONS as u32);
    if timeout(LAST_ANSWERS, all).await.is_err() {
        tracing::debug!("an HTTP client did not take its last answer");
    }
}

impl Hall {
    /// Serves whoever connects, until the task is aborted.
    pub(super) fn open(self, listener: &Listener) -> JoinHandle<()> {
        tokio::spawn(self.accept(listener.socket.clone()))
    }

    async fn accept(self, socket: Arc<TcpListener>) {
        let mut failing = false;
        loop {
            let Ok(place) = self.places.clone().acquire_owned().await else { return };
            match socket.accept().await {
                Ok((stream, peer)) => {
                    failing = false;
                    let hall = self.clone();
                    tokio::spawn(async move {
                        if let Err(error) = hall.serve(stream).await {
                            tracing::debug!(%peer, "an HTTP connection ended: {error}");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "HTTP cannot accept connections");
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn serve(self, stream: TcpStream) -> io::Result<()> {
        // Answers are one small packet each.
        stream.set_nodelay(true)?;
        match self.tls.clone() {
            Some(tls) => {
                let shaken = timeout(PATIENCE, tls.acceptor().accept(stream)).await?;
                self.converse(shaken?).await
            }
            None => self.converse(stream).await,
        }
    }

    async fn converse(mut self, stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let service = TowerToHyperService::new(self.router);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return ended.map_err(io::Error::other),
            _ = self.end.changed() => {}
            () = sleep(LIFETIME) => {}
        }
        connection.as_mut().graceful_shutdown();
        timeout(LAST_REQUEST, connection).await?.map_err(io::Error::other)
    }
}
