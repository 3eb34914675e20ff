//! Ports of 127.0.0.1 that no two tests share.

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
        let start = (process::id() % u32::from(COUNT)) as u16;
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + (start + step % COUNT) % COUNT;
            let Ok(claim) = TcpListener::bind((Ipv4Addr::LOCALHOST, number)) else { continue };
            if UdpSocket::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self { number, _claim: claim };
            }
        }
        panic!("no free UDP port from {FIRST} on");
    }

    /// The address to listen on.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}
