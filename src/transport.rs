//! The one UDP socket that sends NOTIFYs and receives their answers.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::sync::Once;

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, Socket, Type};
use thiserror::Error;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::config::General;

mod errors;

use errors::SendError;

/// Room for replies in the kernel. The default drops silently after 166 of them; a burst of a
/// whole platform needs more. The kernel gives at most `net.core.rmem_max`.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The largest UDP datagram.
pub const MAX_DATAGRAM: usize = 65_535;

/// How often a send is tried whose error may be that of an earlier datagram.
const TRIES: u32 = 3;

/// The socket cannot be opened.
#[derive(Debug, Error)]
#[error("cannot open a UDP socket on {address}: {source}; check bindip and bindport in [general]")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// What came of an attempt to send.
#[derive(Debug)]
pub enum Sent {
    /// The kernel took it.
    Ok,
    /// The kernel's queue is full: wait until the socket is writable.
    Full,
    /// It is lost; the next copy may get through.
    Lost,
    /// This datagram cannot be sent; others to the same place may.
    Refused(io::Error),
    /// Nothing gets there (no route, wrong address family).
    Unreachable,
}

/// A bound UDP socket whose ICMP errors can be read.
#[derive(Debug)]
pub struct Transport {
    socket: UdpSocket,
    local: SocketAddr,
    /// The host to name in Via when `bindip` says so.
    public_host: Option<String>,
}

impl Transport {
    /// Binds to `bindip` and `bindport`. A `bindip` that is a name or no address of this machine
    /// (res_zonkey_mwi only wrote it into headers, so behind NAT it is the public address) is
    /// written into headers, and the socket listens on all addresses.
    ///
    /// # Errors
    /// [`BindError`] when the port is taken or the socket cannot be had.
    pub fn bind(general: &General) -> Result<Self, BindError> {
        let any = if general.wants_ipv6() {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        };
        let wanted = general.bind_address().unwrap_or(any);
        let (socket, wanted) = match open(SocketAddr::new(wanted, general.bindport)) {
            Err(error) if error.source.kind() == io::ErrorKind::AddrNotAvailable => {
                tracing::warn!(
                    bindip = %wanted,
                    "bindip is no address of this machine: it is written into Via, and mwid listens on all addresses"
                );
                (open(SocketAddr::new(any, general.bindport))?, any)
            }
            other => (other?, wanted),
        };
        let local = socket
            .local_addr()
            .map_err(|source| BindError { address: SocketAddr::new(wanted, 0), source })?;
        let public_host = general.bindip.clone().filter(|host| {
            host.parse::<IpAddr>().is_ok_and(|ip| !ip.is_unspecified())
                || host.parse::<IpAddr>().is_err()
        });
        Ok(Self { socket, local, public_host })
    }

    /// The address that the socket is bound to.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether the socket can send to this address at all.
    #[must_use]
    pub fn reaches(&self, to: SocketAddr) -> bool {
        self.local.is_ipv4() == to.is_ipv4()
    }

    /// The host that a peer at `to` reaches this socket at, for Via: `bindip`, or the address
    /// that the kernel routes from. IPv6 in brackets.
    #[must_use]
    pub fn host_toward(&self, to: SocketAddr) -> String {
        if let Some(host) = &self.public_host {
            return bracketed(host);
        }
        bracketed(&self.routed_toward(to).unwrap_or(self.local.ip()).to_string())
    }

    /// The address that the kernel routes from to reach `to`.
    ///
    /// # Errors
    /// When there is no route.
    pub fn routed_toward(&self, to: SocketAddr) -> io::Result<IpAddr> {
        let probe = std::net::UdpSocket::bind(SocketAddr::new(self.local.ip(), 0))?;
        probe.connect(to)?;
        Ok(probe.local_addr()?.ip())
    }

    /// Hands a datagram to the kernel.
    pub fn try_send(&self, to: SocketAddr, bytes: &[u8]) -> Sent {
        // A pending ICMP error is reported by the next call, whoever it was for: the error queue
        // has it too, so here the call is just made again.
        let mut tries = 1;
        loop {
            let Err(error) = self.socket.try_send_to(bytes, to) else { return Sent::Ok };
            let meaning = errors::of_send(&error);
            if meaning == SendError::Full {
                return Sent::Full;
            }
            if tries < TRIES {
                tries += 1;
                continue;
            }
            tracing::debug!(%to, %error, "a datagram was not sent");
            return match meaning {
                SendError::NoRoute => Sent::Unreachable,
                SendError::Refused => Sent::Refused(error),
                SendError::Lost | SendError::Full => Sent::Lost,
            };
        }
    }

    /// Waits until there is something to receive or an error to read.
    ///
    /// # Errors
    /// When the socket has gone bad.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.ready(Interest::READABLE | Interest::ERROR).await.map(|_| ())
    }

    /// Waits until the kernel takes more.
    ///
    /// # Errors
    /// When the socket has gone bad.
    pub async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// The next datagram, if there is one.
    pub fn try_receive(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        loop {
            match self.socket.try_recv_from(buffer) {
                Ok(received) => return Some(received),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // An ICMP error of some earlier datagram: the error queue tells which.
                Err(_) => {}
            }
        }
    }

    /// The next destination that ICMP reported as unreachable, if there is one.
    pub fn try_receive_error(&self) -> Option<SocketAddr> {
        self.socket.try_io(Interest::ERROR, || receive_error(&self.socket)).ok()
    }
}

fn open(address: SocketAddr) -> Result<UdpSocket, BindError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        if let Some(problem) = too_small(socket.recv_buffer_size()?) {
            static SAID: Once = Once::new();
            SAID.call_once(|| tracing::warn!("{problem}"));
        }
        if address.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
        } else {
            socket.set_only_v6(true)?;
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
        }
        socket.bind(&address.into())?;
        UdpSocket::from_std(socket.into())
    };
    open().map_err(|source| BindError { address, source })
}

/// What to say about a receive buffer that is much smaller than was asked for. Linux gives twice
/// what was asked, for its own bookkeeping, and says so.
fn too_small(given: usize) -> Option<String> {
    let given = given / 2;
    (given < RECEIVE_BUFFER / 2).then(|| {
        format!(
            "the kernel keeps at most {} KiB of answers for mwid, who asked for {} KiB: a burst may \
             lose some and is sent again then; to avoid that, sysctl -w net.core.rmem_max={RECEIVE_BUFFER}",
            given / 1024,
            RECEIVE_BUFFER / 1024,
        )
    })
}

/// Reads the error queue up to an entry that counts: the address that the failed datagram was sent to.
fn receive_error(socket: &UdpSocket) -> io::Result<SocketAddr> {
    let mut payload = [0; 64];
    let mut iov = [IoSliceMut::new(&mut payload)];
    let mut space = nix::cmsg_space!(nix::libc::sock_extended_err, nix::libc::sockaddr_in6);
    loop {
        let message = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut iov,
            Some(&mut space),
            MsgFlags::MSG_ERRQUEUE,
        )?;
        let unreachable = message.cmsgs()?.any(|control| match control {
            ControlMessageOwned::Ipv4RecvErr(error, _)
            | ControlMessageOwned::Ipv6RecvErr(error, _) => errors::is_unreachable(&error),
            _ => false,
        });
        let to = message.address.and_then(|address| to_std(&address));
        if let (true, Some(to)) = (unreachable, to) {
            return Ok(to);
        }
    }
}

fn to_std(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), v6.port()))))
}

fn bracketed(host: &str) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => host.to_owned(),
    }
}

/// Looks a host name up; blocking, so to be run where that does no harm.
///
/// # Errors
/// When the name has no address.
pub fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    (host, port).to_socket_addrs().map(Iterator::collect)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries this datagram on a socket of loopback.
    fn try_send(to: Option<SocketAddr>, bytes: &[u8]) -> Sent {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let general = General { bindip: Some("127.0.0.1".into()), ..General::default() };
            let transport = Transport::bind(&general).unwrap();
            transport.writable().await.unwrap();
            transport.try_send(to.unwrap_or(transport.local()), bytes)
        })
    }

    #[test]
    fn a_datagram_that_is_too_long_says_nothing_about_where_it_was_to_go() {
        let sent = try_send(None, &vec![0; 66_000]);
        assert!(matches!(sent, Sent::Refused(_)), "{sent:?}");
        let sent = try_send(None, b"short");
        assert!(matches!(sent, Sent::Ok), "{sent:?}");
    }

    #[test]
    fn a_receive_buffer_that_the_kernel_cuts_is_told_with_the_remedy() {
        // What a stock kernel gives: net.core.rmem_max = 212992, doubled.
        let problem = too_small(2 * 212_992).unwrap();
        assert!(problem.contains("208 KiB") && problem.contains("4096 KiB"), "{problem}");
        assert!(problem.contains("sysctl -w net.core.rmem_max=4194304"), "{problem}");
        assert_eq!(too_small(2 * RECEIVE_BUFFER), None);
    }

    #[test]
    fn an_address_of_the_other_family_cannot_be_reached() {
        let sent = try_send(Some("[::1]:5060".parse().unwrap()), b"x");
        assert!(matches!(sent, Sent::Unreachable), "{sent:?}");
    }
}
