//! The proxies: do their names have addresses, and do they answer OPTIONS (RFC 3261 §11)?

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use mwid_core::message::{Message, StartLine};

use super::Report;
use crate::config::{Config, HostPort, NextHop, Way};
use crate::random;
use crate::transport::resolve;

/// Copies are sent at these times (Timer E, RFC 3261 §17.1.2.2), in milliseconds.
const COPIES: [u64; 3] = [0, 500, 1500];

/// When it is given up.
const PATIENCE: Duration = Duration::from_millis(3000);

/// An answer to an OPTIONS.
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) reason: String,
    after: Duration,
}

pub(super) fn look(config: &Config, report: &mut Report) {
    let tells = config.delivery.uses(Way::Notify);
    for proxy in config.general.proxy.iter().filter(|_| tells) {
        look_at("proxy", proxy, config, report);
    }
    if tells && config.general.proxy.is_empty() && config.general.next_hop == NextHop::Dialog {
        report.ok("proxy", "none: NOTIFYs go where their dialogs lead");
    }
    if config.delivery.uses(Way::Publish) {
        for server in config.publish_servers() {
            look_at("publish server", server, config, report);
        }
    }
}

/// Asks what listens there.
fn look_at(check: &str, name: &HostPort, config: &Config, report: &mut Report) {
    let addresses = match resolve(&name.host, name.port) {
        Ok(addresses) => addresses,
        Err(error) => {
            let remedy = "is the name spelled right, and in DNS or /etc/hosts?";
            return report.fail(check, format!("{name} has no address: {error}"), remedy);
        }
    };
    let ipv6 = config.general.wants_ipv6();
    let Some(to) = addresses.into_iter().find(|to| to.is_ipv6() == ipv6) else {
        let kind = if ipv6 { "IPv6" } else { "IPv4" };
        let remedy = "name one that has, or a bindip of the other kind";
        return report.fail(check, format!("{name} has no {kind} address"), remedy);
    };
    match options(to, config.general.bind_address()) {
        Ok(Answer { code, reason, after }) => {
            let text = format!("{name} ({to}) answers OPTIONS with {code} {reason} after {:.1} ms", after.as_secs_f64() * 1000.0);
            match code {
                503 => report.warn(check, text, "it is there and takes no work: see its log"),
                _ => report.ok(check, text),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => report.fail(
            check,
            format!("nothing listens on {to} over UDP ({name})"),
            "start it, or name where it listens in [general] proxy",
        ),
        Err(error) => report.fail(
            check,
            format!("{name} ({to}) does not answer OPTIONS: {error}"),
            "does it run, and does no firewall stand between? Answers must come back to bindip. A proxy that drops OPTIONS by its script may work all the same: mwid notify says so",
        ),
    }
}

/// Sends an OPTIONS until it is answered.
pub(super) fn options(to: SocketAddr, bind: Option<IpAddr>) -> io::Result<Answer> {
    let any = match to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let wanted = bind.filter(|bind| bind.is_ipv4() == to.is_ipv4()).unwrap_or(any);
    // A bindip behind NAT is no address of this machine.
    let socket = UdpSocket::bind((wanted, 0)).or_else(|_| UdpSocket::bind((any, 0)))?;
    socket.connect(to)?;
    let (local, branch) = (socket.local_addr()?, format!("z9hG4bKdoctor{:016x}", random::number()));
    let request = format!(
        "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch={branch};rport\r\nMax-Forwards: 70\r\nFrom: <sip:mwid@{local}>;tag={tag:x}\r\nTo: <sip:{to}>\r\nCall-ID: {tag:x}@doctor\r\nCSeq: 1 OPTIONS\r\nContact: <sip:mwid@{local}>\r\nAccept: */*\r\nUser-Agent: mwid/{version}\r\nContent-Length: 0\r\n\r\n",
        tag = random::number(),
        version = env!("CARGO_PKG_VERSION"),
    );
    let started = Instant::now();
    let mut copies = COPIES.into_iter().map(Duration::from_millis).peekable();
    let mut buffer = vec![0; crate::transport::MAX_DATAGRAM];
    loop {
        if copies.next_if(|at| started.elapsed() >= *at).is_some() {
            socket.send(request.as_bytes())?;
        }
        let until = copies.peek().copied().unwrap_or(PATIENCE);
        let left = until.saturating_sub(started.elapsed());
        if started.elapsed() >= PATIENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 3 s"));
        }
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match socket.recv(&mut buffer) {
            Ok(length) => {
                if let Some((code, reason)) = answer(&buffer[..length], &branch) {
                    return Ok(Answer { code, reason, after: started.elapsed() });
                }
            }
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
}

/// A final answer to this branch.
fn answer(datagram: &[u8], branch: &str) -> Option<(u16, String)> {
    let message = Message::parse(datagram).ok()?;
    let is_ours = message.header("Via").is_some_and(|via| via.contains(branch));
    match message.start() {
        StartLine::Status { code, reason } if is_ours && code >= 200 => {
            Some((code, reason.chars().take(60).collect()))
        }
        _ => None,
    }
}
