//! `host:port`, and the host alone that stands in Via and Contact.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// The port of SIP over UDP (RFC 3261 §19.1.2).
const SIP_PORT: u16 = 5060;

/// The longest host name, in bytes (RFC 1035 §2.3.4).
const MAX_HOST: usize = 253;

/// A host name or address and a port, `proxy.example.com:5060`; resolved when used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Host name, IPv4 address, or IPv6 address without brackets.
    pub host: String,
    /// UDP port of a proxy, TCP port of a manager.
    pub port: u16,
}

/// Why an address was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HostPortError {
    /// `sip:` or `sips:` in front.
    #[error("{found:?} is a URI; write host:port, without \"sip:\"")]
    Uri {
        /// The offending text.
        found: String,
    },
    /// `;transport=udp` or another URI parameter behind.
    #[error("{found:?} has a parameter; write host:port, mwid speaks UDP only")]
    Parameter {
        /// The offending text.
        found: String,
    },
    /// More colons than one, and no brackets.
    #[error("{found:?} has more than one colon; write an IPv6 address in brackets: [2001:db8::1]")]
    Brackets {
        /// The offending text.
        found: String,
    },
    /// No port where there is a colon, or one outside of 1 to 65535.
    #[error("{found:?} is no port; write a number from 1 to 65535")]
    Port {
        /// What stands behind the colon.
        found: String,
    },
    /// A port where only a host may be.
    #[error("{found:?} has a port; write the host alone, the port goes into bindport")]
    UnwantedPort {
        /// The offending text.
        found: String,
    },
    /// Neither a host name nor an address.
    #[error("{found:?} is neither a host name nor an address")]
    Host {
        /// The offending text.
        found: String,
    },
}

impl FromStr for HostPort {
    type Err = HostPortError;

    /// Reads `host`, `host:port`, `[IPv6]` or `[IPv6]:port`; the port is 5060 unless given.
    fn from_str(text: &str) -> Result<Self, HostPortError> {
        Self::with_default(text, SIP_PORT)
    }
}

impl HostPort {
    /// Reads it like [`FromStr`], with another port for a host without one.
    ///
    /// # Errors
    /// [`HostPortError`] says what is wrong with it.
    pub fn with_default(text: &str, default: u16) -> Result<Self, HostPortError> {
        let (host, port) = split(text)?;
        let port = match port {
            None => default,
            Some(digits) => parse_port(digits)?,
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", bracketed(&self.host), self.port)
    }
}

/// Reads a host alone as it is written into a header: an IPv6 address gets its brackets.
pub(super) fn header_host(text: &str) -> Result<String, HostPortError> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok(bracketed(text));
    }
    match split(text)? {
        (host, None) => Ok(bracketed(&host)),
        (_, Some(_)) => Err(HostPortError::UnwantedPort { found: text.to_owned() }),
    }
}

/// Whether a host is this machine itself, as far as its text says so.
pub(super) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.trim_matches(['[', ']']).parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// The host without brackets and what stands behind the colon after it.
fn split(text: &str) -> Result<(String, Option<&str>), HostPortError> {
    let found = || text.chars().take(80).collect::<String>();
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    if ["sip", "sips"].iter().any(|sip| scheme.eq_ignore_ascii_case(sip)) {
        return Err(HostPortError::Uri { found: found() });
    }
    if text.contains(';') {
        return Err(HostPortError::Parameter { found: found() });
    }
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return match (address.parse::<Ipv6Addr>(), rest.strip_prefix(':')) {
            (Ok(_), Some(port)) => Ok((address.to_owned(), Some(port))),
            (Ok(_), None) if rest.is_empty() => Ok((address.to_owned(), None)),
            _ => Err(HostPortError::Host { found: found() }),
        };
    }
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    if port.is_some_and(|port| port.contains(':')) {
        return Err(HostPortError::Brackets { found: found() });
    }
    if !is_name_or_ipv4(host) {
        return Err(HostPortError::Host { found: found() });
    }
    Ok((host.to_owned(), port))
}

/// A name of letters, digits, `-`, `_` and dots; one of digits and dots only must be an address.
fn is_name_or_ipv4(host: &str) -> bool {
    let numeric = host.chars().all(|c| c.is_ascii_digit() || c == '.');
    !host.is_empty()
        && host.len() <= MAX_HOST
        && host.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && !host.starts_with(['.', '-'])
        && !host.contains("..")
        && (!numeric || host.parse::<Ipv4Addr>().is_ok())
}

fn parse_port(digits: &str) -> Result<u16, HostPortError> {
    let all_digits = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
    match digits.parse() {
        Ok(port) if all_digits && port != 0 => Ok(port),
        _ => Err(HostPortError::Port { found: digits.chars().take(80).collect() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_5060_unless_given() {
        for (text, printed) in [
            ("proxy.example.com", "proxy.example.com:5060"),
            ("192.0.2.1:5070", "192.0.2.1:5070"),
            ("[2001:db8::1]", "[2001:db8::1]:5060"),
            ("[::1]:5070", "[::1]:5070"),
        ] {
            let address: HostPort = text.parse().unwrap();
            assert_eq!(address.to_string(), printed);
            assert_eq!(printed.parse::<HostPort>().unwrap(), address);
        }
        assert_eq!("[::1]".parse::<HostPort>().unwrap().host, "::1");
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_hint() {
        for (text, error) in [
            ("sip:192.0.2.1", "\"sip:192.0.2.1\" is a URI; write host:port, without \"sip:\""),
            ("SIPS:a", "\"SIPS:a\" is a URI; write host:port, without \"sip:\""),
            (
                "a;transport=udp",
                "\"a;transport=udp\" has a parameter; write host:port, mwid speaks UDP only",
            ),
            (
                "2001:db8::1",
                "\"2001:db8::1\" has more than one colon; write an IPv6 address in brackets: [2001:db8::1]",
            ),
            ("a:", "\"\" is no port; write a number from 1 to 65535"),
            ("a:0", "\"0\" is no port; write a number from 1 to 65535"),
            ("a:+1", "\"+1\" is no port; write a number from 1 to 65535"),
            ("a:65536", "\"65536\" is no port; write a number from 1 to 65535"),
            ("", "\"\" is neither a host name nor an address"),
            ("256.1.1.1", "\"256.1.1.1\" is neither a host name nor an address"),
            ("a b", "\"a b\" is neither a host name nor an address"),
            ("[::g]", "\"[::g]\" is neither a host name nor an address"),
            ("[::1]5060", "\"[::1]5060\" is neither a host name nor an address"),
            ("u@h", "\"u@h\" is neither a host name nor an address"),
        ] {
            assert_eq!(text.parse::<HostPort>().unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn a_host_for_a_header_has_brackets_and_no_port() {
        assert_eq!(header_host("2001:db8::1").unwrap(), "[2001:db8::1]");
        assert_eq!(header_host("[2001:db8::1]").unwrap(), "[2001:db8::1]");
        assert_eq!(header_host("pbx.example.com").unwrap(), "pbx.example.com");
        assert_eq!(
            header_host("192.0.2.1:5060").unwrap_err().to_string(),
            "\"192.0.2.1:5060\" has a port; write the host alone, the port goes into bindport"
        );
    }

    #[test]
    fn loopback_is_known_in_every_spelling() {
        for host in ["localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        assert!(!is_loopback("192.0.2.1") && !is_loopback("proxy.example.com"));
    }
}
