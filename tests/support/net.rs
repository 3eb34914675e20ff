//! Ports of 127.0.0.1 that no two tests share, in this process or in another.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below what the kernel gives to sockets that don't ask for a port.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A UDP port that is ours until this is dropped, for a server that can't choose one itself.
///
/// Between the choice and the server's bind the port is free, so another test could take it. The
/// TCP port of the same number stands for it: held here, it keeps every other [`UdpPort`] away.
#[derive(Debug)]
pub struct UdpPort {
    number: u16,
    _claim: TcpListener,
}

impl UdpPort {
    /// Finds a free port and claims it.
    pub fn claim() -> Self {
        let claimed = candidates().find_map(|number| {
            let claim = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
            UdpSocket::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
            Some(Self { number, _claim: claim })
        });
        claimed.unwrap_or_else(|| panic!("no free UDP port from {FIRST} on"))
    }

    /// The address to listen on.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

/// The same for TCP; here the UDP port of the same number is what is held.
#[derive(Debug)]
pub struct TcpPort {
    number: u16,
    _claim: UdpSocket,
}

impl TcpPort {
    /// Finds a free port and claims it.
    pub fn claim() -> Self {
        let claimed = candidates().find_map(|number| {
            let claim = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
            TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
            Some(Self { number, _claim: claim })
        });
        claimed.unwrap_or_else(|| panic!("no free TCP port from {FIRST} on"))
    }

    /// The port.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Every port of the range once, beginning at another one in each process.
fn candidates() -> impl Iterator<Item = u16> {
    let start = (process::id() % u32::from(COUNT)) as u16;
    (0..COUNT).map(move |_| {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        FIRST + (start + step % COUNT) % COUNT
    })
}
