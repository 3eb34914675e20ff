//! Connections: bounded in number, each in time and size, so that whoever connects and says
//! little, or nothing, costs little and keeps nobody waiting for long.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::HttpError;
use super::guests::{Guest, Guests};
use super::tls::Tls;

/// Connections at once, on all addresses; more wait in the kernel's queue, until one ends or the one
/// that has been silent for longest is sent away (guests.rs). With the control
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
    pub(super) guests: Guests,
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
            let Some(place) = self.guests.place(&self.places).await else { return };
            match socket.accept().await {
                Ok((stream, peer)) => {
                    failing = false;
                    let (hall, guest) = (self.clone(), self.guests.enter());
                    tokio::spawn(async move {
                        tokio::select! {
                            ended = hall.serve(stream, &guest) => if let Err(error) = ended {
                                tracing::debug!(%peer, "an HTTP connection ended: {error}");
                            },
                            () = guest.sent_away() => {
                                tracing::debug!(%peer, "a silent HTTP connection made room");
                            }
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

    async fn serve(self, stream: TcpStream, guest: &Guest) -> io::Result<()> {
        // Answers are one small packet each.
        stream.set_nodelay(true)?;
        match self.tls.clone() {
            Some(tls) => {
                let shaken = timeout(PATIENCE, tls.acceptor().accept(stream)).await?;
                self.converse(shaken?, guest, LIFETIME).await
            }
            None => self.converse(stream, guest, LIFETIME).await,
        }
    }

    pub(super) async fn converse(
        mut self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        guest: &Guest,
        lifetime: Duration,
    ) -> io::Result<()> {
        let router = TowerToHyperService::new(self.router);
        let service = service_fn(|request| {
            guest.is_heard();
            let answer = router.call(request);
            async move {
                let answer = answer.await;
                guest.is_silent();
                answer
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return ended.map_err(io::Error::other),
            _ = self.end.changed() => {}
            () = sleep(lifetime) => {}
        }
        connection.as_mut().graceful_shutdown();
        timeout(LAST_REQUEST, connection).await?.map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// However busy it is: its client connects anew then, and whoever reads nothing ends too.
    #[tokio::test]
    async fn a_connection_ends_after_its_lifetime_and_its_last_request_is_answered() {
        const LIFETIME: Duration = Duration::from_millis(300);
        let (_open, end) = watch::channel(());
        let router = Router::new().fallback(async || "x");
        let (places, guests) = (places(), Guests::default());
        let hall = Hall { tls: None, router, places, guests: guests.clone(), end };
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let guest = guests.enter();
        let began = tokio::time::Instant::now();
        let served = tokio::spawn(async move { hall.converse(server, &guest, LIFETIME).await });
        let (mut asked, mut answers) = (0, Vec::new());
        // One request after the other, for as long as somebody takes them.
        loop {
            if client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.is_err() {
                break;
            }
            asked += 1;
            let mut part = [0; 4096];
            match client.read(&mut part).await {
                Ok(0) | Err(_) => break,
                Ok(length) => answers.extend_from_slice(&part[..length]),
            }
        }
        assert!(began.elapsed() >= LIFETIME);
        served.await.unwrap().unwrap();
        let answered = answers.windows(15).filter(|it| it == b"HTTP/1.1 200 OK").count();
        assert!(answered + 1 >= asked && answered > 1, "{answered} of {asked}");
    }
}
