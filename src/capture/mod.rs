//! `[capture]`: every SIP message, both ways, to HOMER.
//!
//! Nothing waits for it and nothing is kept for it: what cannot be sent at once is lost and counted.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::{AbortHandle, spawn_blocking};

use crate::clock;
use crate::config::{self, HostPort};
use crate::transport::{Transport, resolve};

mod packet;

use packet::Mirrored;

/// Between two look-ups of a name: it may lead elsewhere by then.
const LOOK_UP: Duration = Duration::from_secs(60);

/// Own addresses that are remembered, by the peer that they were used with.
const MAX_ROUTES: usize = 1024;

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the peer.
    In,
    /// To the peer.
    Out,
}

/// What became of it.
#[derive(Clone, Debug, Serialize)]
pub struct CaptureHealth {
    /// Where it goes.
    pub to: String,
    /// Messages that were handed to the kernel.
    pub mirrored: u64,
    /// Messages that were not, or that nobody took.
    pub lost: u64,
}

impl fmt::Display for CaptureHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, mirrored, lost } = self;
        write!(f, "{mirrored} messages mirrored to {to}, {lost} lost")
    }
}

/// Mirrors what goes over the SIP socket.
pub struct Capture {
    to: HostPort,
    id: u32,
    password: Option<config::Secret>,
    socket: watch::Receiver<Option<Arc<UdpSocket>>>,
    look_up: AbortHandle,
    packet: Vec<u8>,
    routes: HashMap<IpAddr, IpAddr>,
    mirrored: u64,
    lost: u64,
}

impl Capture {
    /// `None` where nothing is mirrored. To be called on a tokio runtime.
    #[must_use]
    pub fn start(config: &config::Capture) -> Option<Self> {
        let to = config.hep.clone()?;
        // An address needs no look-up: then the first message is mirrored too.
        let known = to.host.parse().ok().and_then(|ip| open(SocketAddr::new(ip, to.port)).ok());
        let (found, socket) = watch::channel(known.map(Arc::new));
        let look_up = tokio::spawn(keep_looking_up(to.clone(), found)).abort_handle();
        Some(Self {
            to,
            id: config.id,
            password: config.password.clone(),
            socket,
            look_up,
            packet: Vec::with_capacity(2048),
            routes: HashMap::new(),
            mirrored: 0,
            lost: 0,
        })
    }

    /// A message that just went over the socket.
    pub fn mirror(
        &mut self,
        transport: &Transport,
        peer: SocketAddr,
        message: &[u8],
        direction: Direction,
    ) {
        let own = self.own(transport, peer);
        let (source, destination) = match direction {
            Direction::In => (peer, own),
            Direction::Out => (own, peer),
        };
        let mirrored = Mirrored { source, destination, at: clock::since_1970(), message };
        let password = self.password.as_ref().map(config::Secret::reveal);
        let is_packet = packet::write(&mut self.packet, &mirrored, self.id, password);
        if is_packet && self.send() {
            self.mirrored += 1;
        } else {
            self.lost += 1;
        }
    }

    /// How much was mirrored.
    #[must_use]
    pub fn health(&self) -> CaptureHealth {
        CaptureHealth { to: self.to.to_string(), mirrored: self.mirrored, lost: self.lost }
    }

    fn send(&mut self) -> bool {
        let socket = self.socket.borrow();
        let Some(socket) = socket.as_ref() else { return false };
        if let Err(error) = socket.send(&self.packet) {
            // Nobody listened to an earlier one; this one was not sent yet.
            if error.kind() != io::ErrorKind::ConnectionRefused {
                return false;
            }
            self.lost += 1;
            self.mirrored = self.mirrored.saturating_sub(1);
            return socket.send(&self.packet).is_ok();
        }
        true
    }

    /// The address that the peer sees, where the socket listens on all.
    fn own(&mut self, transport: &Transport, peer: SocketAddr) -> SocketAddr {
        let local = transport.local();
        if !local.ip().is_unspecified() {
            return local;
        }
        if self.routes.len() >= MAX_ROUTES {
            self.routes.clear();
        }
        let routed = || transport.routed_toward(peer).unwrap_or(local.ip());
        let ip = *self.routes.entry(peer.ip()).or_insert_with(routed);
        SocketAddr::new(ip, local.port())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.look_up.abort();
    }
}

/// Opens a socket to each address that the name leads to, one after the other.
async fn keep_looking_up(to: HostPort, found: watch::Sender<Option<Arc<UdpSocket>>>) {
    let mut last = found.borrow().as_ref().and_then(|socket| socket.peer_addr().ok());
    let mut was_told = false;
    loop {
        let name = to.clone();
        let addresses = spawn_blocking(move || resolve(&name.host, name.port)).await;
        let address = addresses
            .map_err(io::Error::other)
            .flatten()
            .and_then(|all| all.first().copied().ok_or_else(|| io::Error::other("no address")));
        match address {
            Ok(address) if last == Some(address) => {}
            Ok(address) => match open(address) {
                Ok(socket) => {
                    last = Some(address);
                    found.send_replace(Some(Arc::new(socket)));
                }
                Err(error) => tracing::warn!(%to, "nothing is captured: {error}"),
            },
            Err(error) if !was_told => {
                was_told = true;
                tracing::warn!(%to, "nothing is captured: [capture] hep cannot be resolved: {error}");
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_UP).await;
    }
}

fn open(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
