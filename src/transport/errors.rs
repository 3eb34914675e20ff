//! Which errors of the socket say that nobody can be reached (RFC 3261 §18.4), and which say
//! something about one datagram only.

use std::io;

use nix::errno::Errno;
use nix::libc::{SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6, sock_extended_err};

/// What an error of a send means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendError {
    /// The queue of the socket is full: wait until it is writable.
    Full,
    /// The datagram is lost, as on any network: the queue of the interface is full, memory is
    /// short.
    Lost,
    /// Nothing gets there from here: no route, or the wrong address family.
    NoRoute,
    /// This datagram does not get out: too long, forbidden by the firewall, …
    Refused,
}

pub(super) fn of_send(error: &io::Error) -> SendError {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAGAIN) => SendError::Full,
        // The last one is no error of a send: one that ICMP brought for an earlier datagram.
        Some(Errno::ENOBUFS | Errno::ENOMEM | Errno::EINTR | Errno::ECONNREFUSED) => {
            SendError::Lost
        }
        Some(
            Errno::ENETUNREACH
            | Errno::EHOSTUNREACH
            | Errno::ENETDOWN
            | Errno::EHOSTDOWN
            | Errno::EAFNOSUPPORT,
        ) => SendError::NoRoute,
        // tokio's own, from before it asks the kernel.
        None if error.kind() == io::ErrorKind::WouldBlock => SendError::Full,
        _ => SendError::Refused,
    }
}

/// Whether an entry of the error queue says that the destination cannot be reached: host, network,
/// port or protocol unreachable, or a parameter problem. What says that a datagram was too long
/// or lived too short is ignored (RFC 3261 §18.4), and so is what no ICMP brought.
pub(super) fn is_unreachable(error: &sock_extended_err) -> bool {
    const UNREACHABLE: u8 = 3;
    const FRAGMENTATION_NEEDED: u8 = 4;
    const PARAMETER_PROBLEM: u8 = 12;
    const UNREACHABLE_6: u8 = 1;
    const PARAMETER_PROBLEM_6: u8 = 4;
    match (error.ee_origin, error.ee_type) {
        (SO_EE_ORIGIN_ICMP, UNREACHABLE) => error.ee_code != FRAGMENTATION_NEEDED,
        (SO_EE_ORIGIN_ICMP, PARAMETER_PROBLEM) => true,
        (SO_EE_ORIGIN_ICMP6, UNREACHABLE_6 | PARAMETER_PROBLEM_6) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::libc::{SO_EE_ORIGIN_LOCAL, SO_EE_ORIGIN_TXSTATUS};

    fn entry(origin: u8, kind: u8, code: u8, errno: Errno) -> sock_extended_err {
        sock_extended_err {
            ee_errno: u32::try_from(errno as i32).unwrap(),
            ee_origin: origin,
            ee_type: kind,
            ee_code: code,
            ee_pad: 0,
            ee_info: 0,
            ee_data: 0,
        }
    }

    #[test]
    fn rfc3261_18_4_these_icmp_errors_are_failures_of_the_transport() {
        for (origin, kind, code, errno) in [
            (SO_EE_ORIGIN_ICMP, 3, 0, Errno::ENETUNREACH),
            (SO_EE_ORIGIN_ICMP, 3, 1, Errno::EHOSTUNREACH),
            (SO_EE_ORIGIN_ICMP, 3, 2, Errno::ENOPROTOOPT),
            (SO_EE_ORIGIN_ICMP, 3, 3, Errno::ECONNREFUSED),
            (SO_EE_ORIGIN_ICMP, 3, 13, Errno::EHOSTUNREACH),
            (SO_EE_ORIGIN_ICMP, 12, 0, Errno::EPROTO),
            (SO_EE_ORIGIN_ICMP6, 1, 4, Errno::ECONNREFUSED),
            (SO_EE_ORIGIN_ICMP6, 1, 1, Errno::EACCES),
            (SO_EE_ORIGIN_ICMP6, 4, 0, Errno::EPROTO),
        ] {
            assert!(is_unreachable(&entry(origin, kind, code, errno)), "{origin} {kind} {code}");
        }
    }

    #[test]
    fn rfc3261_18_4_these_are_ignored() {
        for (origin, kind, code, errno) in [
            (SO_EE_ORIGIN_ICMP, 3, 4, Errno::EMSGSIZE),
            // Linux gives a datagram that lived too short the errno of a host without a route.
            (SO_EE_ORIGIN_ICMP, 11, 0, Errno::EHOSTUNREACH),
            (SO_EE_ORIGIN_ICMP, 4, 0, Errno::EHOSTUNREACH),
            (SO_EE_ORIGIN_ICMP6, 2, 0, Errno::EMSGSIZE),
            (SO_EE_ORIGIN_ICMP6, 3, 0, Errno::EHOSTUNREACH),
            (SO_EE_ORIGIN_LOCAL, 0, 0, Errno::EMSGSIZE),
            (SO_EE_ORIGIN_TXSTATUS, 3, 3, Errno::ECONNREFUSED),
        ] {
            assert!(!is_unreachable(&entry(origin, kind, code, errno)), "{origin} {kind} {code}");
        }
    }

    #[test]
    fn an_error_of_a_send_is_about_the_place_or_about_the_datagram() {
        for (errno, expected) in [
            (Errno::EAGAIN, SendError::Full),
            (Errno::ENOBUFS, SendError::Lost),
            (Errno::ENOMEM, SendError::Lost),
            (Errno::ECONNREFUSED, SendError::Lost),
            (Errno::EMSGSIZE, SendError::Refused),
            (Errno::EINVAL, SendError::Refused),
            (Errno::EPERM, SendError::Refused),
            (Errno::EACCES, SendError::Refused),
            (Errno::ENETUNREACH, SendError::NoRoute),
            (Errno::EAFNOSUPPORT, SendError::NoRoute),
        ] {
            assert_eq!(of_send(&errno.into()), expected, "{errno}");
        }
        assert_eq!(of_send(&io::ErrorKind::WouldBlock.into()), SendError::Full);
    }
}
