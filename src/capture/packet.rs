//! A SIP message in the packet that HOMER takes: HEP3, the Homer Encapsulation Protocol, version 3.
//!
//! `HEP3`, the length of all, then chunks: vendor 0, type, length, value; all in network order.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A chunk is no longer than this, its head included, and neither is the packet.
const MAX: usize = u16::MAX as usize;

/// Vendor, type and length.
const HEAD: usize = 6;

const FAMILY: u16 = 1;
const PROTOCOL: u16 = 2;
const SOURCE_IP4: u16 = 3;
const DESTINATION_IP4: u16 = 4;
const SOURCE_IP6: u16 = 5;
const DESTINATION_IP6: u16 = 6;
const SOURCE_PORT: u16 = 7;
const DESTINATION_PORT: u16 = 8;
const SECONDS: u16 = 9;
const MICROSECONDS: u16 = 10;
const PAYLOAD_TYPE: u16 = 11;
const AGENT: u16 = 12;
const AUTHENTICATION: u16 = 14;
const PAYLOAD: u16 = 15;
const CORRELATION: u16 = 17;

const UDP: u8 = 17;
const SIP: u8 = 1;
const IP4: u8 = 2;
const IP6: u8 = 10;

/// A message as it went over the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mirrored<'a> {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    /// Since 1970.
    pub(super) at: Duration,
    pub(super) message: &'a [u8],
}

/// Writes the packet; `false` when it is too long to be one.
pub(super) fn write(
    packet: &mut Vec<u8>,
    mirrored: &Mirrored<'_>,
    agent: u32,
    password: Option<&str>,
) -> bool {
    let Mirrored { source, destination, at, message } = mirrored;
    packet.clear();
    packet.extend_from_slice(b"HEP3\0\0");
    let is_ip4 = source.is_ipv4() && destination.is_ipv4();
    chunk(packet, FAMILY, &[if is_ip4 { IP4 } else { IP6 }]);
    chunk(packet, PROTOCOL, &[UDP]);
    let (of_source, of_destination) = match is_ip4 {
        true => (SOURCE_IP4, DESTINATION_IP4),
        false => (SOURCE_IP6, DESTINATION_IP6),
    };
    address(packet, of_source, source.ip(), is_ip4);
    address(packet, of_destination, destination.ip(), is_ip4);
    chunk(packet, SOURCE_PORT, &source.port().to_be_bytes());
    chunk(packet, DESTINATION_PORT, &destination.port().to_be_bytes());
    // Until 2106.
    chunk(packet, SECONDS, &u32::try_from(at.as_secs()).unwrap_or(u32::MAX).to_be_bytes());
    chunk(packet, MICROSECONDS, &at.subsec_micros().to_be_bytes());
    chunk(packet, PAYLOAD_TYPE, &[SIP]);
    chunk(packet, AGENT, &agent.to_be_bytes());
    if let Some(password) = password {
        chunk(packet, AUTHENTICATION, password.as_bytes());
    }
    if let Some(call_id) = call_id(message) {
        chunk(packet, CORRELATION, call_id);
    }
    if packet.len() + HEAD + message.len() > MAX {
        return false;
    }
    chunk(packet, PAYLOAD, message);
    let Ok(length) = u16::try_from(packet.len()) else { return false };
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    true
}

/// A value that is too long for a chunk makes a packet that is too long.
fn chunk(packet: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(HEAD + value.len()).unwrap_or(u16::MAX);
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(&kind.to_be_bytes());
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(value);
}

fn address(packet: &mut Vec<u8>, kind: u16, address: IpAddr, is_ip4: bool) {
    match address {
        IpAddr::V4(ip) if is_ip4 => chunk(packet, kind, &ip.octets()),
        IpAddr::V4(ip) => chunk(packet, kind, &ip.to_ipv6_mapped().octets()),
        IpAddr::V6(ip) => chunk(packet, kind, &ip.octets()),
    }
}

/// What stands behind the first Call-ID, `i` in short, of a head.
fn call_id(message: &[u8]) -> Option<&[u8]> {
    let lines = message.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let mut head = lines.skip(1).take_while(|line| !line.is_empty());
    head.find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = line[..colon].trim_ascii_end();
        let is_it = name.eq_ignore_ascii_case(b"Call-ID") || name.eq_ignore_ascii_case(b"i");
        is_it.then(|| line[colon + 1..].trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The chunks of a packet: type and value.
    fn read(packet: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let number = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        assert_eq!(&packet[..4], b"HEP3");
        assert_eq!(usize::from(number(4)), packet.len());
        let (mut at, mut chunks) = (6, Vec::new());
        while at < packet.len() {
            assert_eq!(number(at), 0, "no vendor");
            let end = at + usize::from(number(at + 4));
            chunks.push((number(at + 2), packet[at + 6..end].to_vec()));
            at = end;
        }
        chunks
    }

    fn mirrored(message: &[u8]) -> Mirrored<'_> {
        Mirrored {
            source: "192.0.2.10:5070".parse().expect("an address"),
            destination: "192.0.2.1:5060".parse().expect("an address"),
            at: Duration::new(1_795_000_000, 123_456_789),
            message,
        }
    }

    const OPTIONS: &[u8] = b"OPTIONS sip:a@b SIP/2.0\r\nVia: x\r\nCall-ID: 4@home\r\n\r\ni: body";

    #[test]
    fn a_packet_has_the_chunks_of_the_specification() {
        let mut packet = Vec::new();
        assert!(write(&mut packet, &mirrored(OPTIONS), 2001, Some("key")));
        assert_eq!(
            read(&packet),
            [
                (0x01, vec![2]),
                (0x02, vec![17]),
                (0x03, vec![192, 0, 2, 10]),
                (0x04, vec![192, 0, 2, 1]),
                (0x07, vec![0x13, 0xce]),
                (0x08, vec![0x13, 0xc4]),
                (0x09, 1_795_000_000_u32.to_be_bytes().to_vec()),
                (0x0a, 123_456_u32.to_be_bytes().to_vec()),
                (0x0b, vec![1]),
                (0x0c, vec![0, 0, 0x07, 0xd1]),
                (0x0e, b"key".to_vec()),
                (0x11, b"4@home".to_vec()),
                (0x0f, OPTIONS.to_vec()),
            ]
        );
    }

    #[test]
    fn ipv6_has_its_own_chunks() {
        let mut packet = Vec::new();
        let source = "[2001:db8::1]:5060".parse().expect("an address");
        let six = Mirrored { source, destination: source, ..mirrored(OPTIONS) };
        assert!(write(&mut packet, &six, 1, None));
        let chunks = read(&packet);
        let of = |kind| chunks.iter().find(|(it, _)| *it == kind).map(|(_, value)| value.len());
        assert_eq!((of(1), of(3), of(5), of(6)), (Some(1), None, Some(16), Some(16)));
        assert_eq!(chunks[0].1, [10]);
        assert_eq!(of(14), None);
    }

    #[test]
    fn the_call_id_is_found_in_any_form_and_in_the_head_only() {
        assert_eq!(call_id(b"SIP/2.0 200 OK\r\ni :  x y \r\n\r\n"), Some(&b"x y"[..]));
        assert_eq!(call_id(b"SIP/2.0 200 OK\nCALL-id:1\n\n"), Some(&b"1"[..]));
        assert_eq!(call_id(b"Call-ID: 1\r\nVia: x\r\n\r\nCall-ID: 2\r\n"), None);
        assert_eq!(call_id(b""), None);
    }

    #[test]
    fn what_is_too_long_for_a_packet_is_none() {
        let mut packet = Vec::new();
        assert!(!write(&mut packet, &mirrored(&[b'x'; 65_500]), 1, None));
        assert!(write(&mut packet, &mirrored(&[b'x'; 65_400]), 1, None));
    }

    proptest! {
        #[test]
        fn any_message_comes_out_as_it_went_in(message: Vec<u8>, password: Option<String>) {
            let mut packet = Vec::new();
            prop_assert!(write(&mut packet, &mirrored(&message), 1, password.as_deref()));
            let chunks = read(&packet);
            prop_assert_eq!(&chunks.last().expect("chunks").1, &message);
        }
    }
}
