//! For fuzz/: a conversation with a manager that says anything. A broken promise is a panic.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use mwid_core::summary::Summary;

use super::error::AmiError;
use super::packet::{Packet, Scanner};
use super::session::{Outcome, Pace, Session};
use crate::config::{Credentials, Secret};

/// All that mwid ever says.
const KEYS: [&str; 7] = ["Action", "AuthType", "Username", "Key", "Events", "Mailbox", "ActionID"];

/// The packets are the same in whatever pieces they arrive; each request is one packet of known
/// keys, without the secret; counts are only those that the manager said.
pub fn conversation(bytes: &[u8]) {
    let (packets, error) = scan(bytes, bytes.len().max(1));
    for piece in [1, 7] {
        let (others, other) = scan(bytes, piece);
        assert_eq!(others, packets);
        assert_eq!(other.map(|it| it.to_string()), error.as_ref().map(ToString::to_string));
    }
    let login = Credentials { user: "mwid".into(), password: Secret::new("s3cret") };
    let pace = Pace { timeout: Duration::from_secs(10), rescan: Duration::from_secs(300) };
    let (mut known, mut now) = (HashSet::new(), Instant::now());
    let mut session = Session::new(&login, pace, &mut known, now);
    for packet in packets {
        match session.handle_packet(now, packet) {
            Ok(Outcome::Counted(counted)) => {
                let Summary { new, old, new_urgent, old_urgent } = counted.summary;
                assert!(new_urgent <= new && old_urgent <= old, "{counted:?}");
                assert!(new + old > 0 || bytes.contains(&b'0'), "nobody said zero");
            }
            Ok(_) => {}
            Err(error) => {
                assert!(error.to_string().len() < 1000, "{error}");
                return;
            }
        }
        while let Some(request) = session.poll_request(now, 1) {
            is_one_packet(&request);
        }
        now += Duration::from_secs(1);
        if session.handle_timeout(now).is_err() {
            return;
        }
    }
}

fn scan(bytes: &[u8], piece: usize) -> (Vec<Packet>, Option<AmiError>) {
    let (mut scanner, mut packets) = (Scanner::default(), Vec::new());
    for mut input in bytes.chunks(piece) {
        loop {
            match scanner.next(&mut input) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => return (packets, Some(error)),
            }
        }
    }
    (packets, None)
}

fn is_one_packet(request: &str) {
    assert!(!request.contains("s3cret"), "{request:?}");
    let lines = request.strip_suffix("\r\n\r\n").expect("a packet ends with an empty line");
    for line in lines.split("\r\n") {
        assert!(!line.contains(char::is_control), "{request:?}");
        let (key, _) = line.split_once(": ").expect("a key and its value");
        assert!(KEYS.contains(&key), "{request:?}");
    }
}
