//! The way to the journal.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::entry::entry;

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// How long a line may wait for the journal, when it took the one before.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long no line waits for a journal that did not take one in time.
const PAUSE: Duration = Duration::from_secs(1);

/// Hands events to the journal. What it does not take in time is lost and counted: a journal that is
/// slow keeps the lamps waiting for a tenth of the time at most.
pub(super) struct Journal {
    socket: UnixDatagram,
    began: Instant,
    /// Until when no line waits, in milliseconds since then.
    hasty: AtomicU64,
    /// Lines that were lost since the last one that was not.
    lost: AtomicU64,
}

impl Journal {
    pub(super) fn connect() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SOCKET)?;
        Self::over(socket)
    }

    fn over(socket: UnixDatagram) -> io::Result<Self> {
        socket.set_write_timeout(Some(PATIENCE))?;
        let (began, hasty, lost) = (Instant::now(), AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { socket, began, hasty, lost })
    }

    fn write(&self, bytes: &[u8]) {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 && !self.put(gap(lost).as_bytes(), MsgFlags::MSG_DONTWAIT) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.lost.fetch_sub(lost, Ordering::Relaxed);
        if !self.put(bytes, self.patience(Instant::now())) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.not_taken(Instant::now());
        }
    }

    /// Whether a line may wait.
    fn patience(&self, now: Instant) -> MsgFlags {
        match self.millis(now) < self.hasty.load(Ordering::Relaxed) {
            true => MsgFlags::MSG_DONTWAIT,
            false => MsgFlags::empty(),
        }
    }

    fn not_taken(&self, now: Instant) {
        self.hasty.store(self.millis(now + PAUSE), Ordering::Relaxed);
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    fn put(&self, bytes: &[u8], flags: MsgFlags) -> bool {
        let put = || send(self.socket.as_raw_fd(), bytes, flags | MsgFlags::MSG_NOSIGNAL);
        match put() {
            Ok(_) => true,
            // One that was started again has another socket behind the same name.
            Err(Errno::ECONNREFUSED | Errno::ECONNRESET | Errno::ENOTCONN) => {
                self.socket.connect(SOCKET).is_ok() && put().is_ok()
            }
            Err(_) => false,
        }
    }
}

fn gap(lost: u64) -> String {
    format!("PRIORITY=4\nSYSLOG_IDENTIFIER=mwid\nMESSAGE=the journal did not take {lost} lines\n")
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.write(&entry(event));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// The fields of an entry, read by the rules of the protocol.
    fn read(mut bytes: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| matches!(byte, b'=' | b'\n')).expect("a name");
            let name = String::from_utf8(bytes[..end].to_vec()).expect("text");
            let (at, length) = if bytes[end] == b'=' {
                let value = &bytes[end + 1..];
                (end + 1, value.iter().position(|byte| *byte == b'\n').expect("an end"))
            } else {
                let length = bytes[end + 1..end + 9].try_into().expect("8 bytes");
                (end + 9, usize::try_from(u64::from_le_bytes(length)).expect("a length"))
            };
            let value = String::from_utf8(bytes[at..at + length].to_vec()).expect("text");
            assert_eq!(bytes[at + length], b'\n');
            bytes = &bytes[at + length + 1..];
            fields.push((name, value));
        }
        fields
    }

    fn receive(socket: &UnixDatagram) -> Vec<(String, String)> {
        let mut buffer = vec![0; 1 << 18];
        let length = socket.recv(&mut buffer).expect("an entry");
        read(&buffer[..length])
    }

    fn journal() -> (tracing::subscriber::DefaultGuard, UnixDatagram) {
        let (ours, theirs) = UnixDatagram::pair().expect("two sockets");
        theirs.set_nonblocking(true).expect("a socket");
        let log = tracing_subscriber::registry().with(Journal::over(ours).expect("a socket"));
        (tracing::subscriber::set_default(log), theirs)
    }

    #[test]
    fn an_event_is_one_entry_whose_fields_end_its_line_too() {
        let (_log, socket) = journal();
        tracing::warn!(account = "sip:202@example.com", code = 481, call_id = %"a@b", "gone");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let line = "gone account=sip:202@example.com code=481 call_id=a@b";
        assert_eq!(
            receive(&socket),
            [
                pair("PRIORITY", "4"),
                pair("SYSLOG_IDENTIFIER", "mwid"),
                pair("MESSAGE", line),
                pair("MWID_ACCOUNT", "sip:202@example.com"),
                pair("MWID_CODE", "481"),
                pair("MWID_CALL_ID", "a@b"),
            ]
        );
    }

    #[test]
    fn no_value_makes_a_field_of_its_own() {
        let (_log, socket) = journal();
        tracing::info!(account = "x\nPRIORITY=0\n", "two\nlines");
        let fields = receive(&socket);
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["PRIORITY", "SYSLOG_IDENTIFIER", "MESSAGE", "MWID_ACCOUNT"]);
        assert_eq!(fields[3].1, "x\nPRIORITY=0\n");
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let (_log, socket) = journal();
        tracing::info!(account = "é".repeat(50_000), "{}", "x".repeat(1 << 20));
        let fields = receive(&socket);
        assert!(fields.iter().all(|(_, value)| value.len() <= 1 << 16), "each is bounded");
        let room = "x".repeat(40_000);
        tracing::info!(a = room, b = room, c = room, d = room, e = room, "{room}");
        let fields = receive(&socket);
        assert!(fields[2].1.len() <= 1 << 16, "and all of them: {}", fields[2].1.len());
        assert_eq!(fields.last().map(|(name, _)| name.as_str()), Some("MWID_A"));
        tracing::info!(account = "é".repeat(50_000), "short");
        assert!(receive(&socket)[3].1.starts_with('é'));
    }

    #[test]
    fn after_a_line_that_was_not_taken_in_time_none_waits_for_a_second() {
        let (ours, _theirs) = UnixDatagram::pair().expect("two sockets");
        let journal = Journal::over(ours).expect("a socket");
        let now = Instant::now();
        assert_eq!(journal.patience(now), MsgFlags::empty());
        journal.not_taken(now);
        assert_eq!(journal.patience(now + PAUSE / 2), MsgFlags::MSG_DONTWAIT);
        assert_eq!(journal.patience(now + PAUSE), MsgFlags::empty());
    }

    #[test]
    fn a_journal_that_does_not_read_loses_lines_and_is_told_how_many() {
        let (_log, socket) = journal();
        // More than its queue holds.
        const SAID: usize = 600;
        for number in 0..SAID {
            tracing::info!(number, "line");
        }
        let mut taken = 0;
        while socket.recv(&mut [0; 4096]).is_ok() {
            taken += 1;
        }
        assert!(taken > 0 && taken < SAID, "{taken}");
        tracing::info!("again");
        let lost = format!("the journal did not take {} lines", SAID - taken);
        assert_eq!(receive(&socket)[2].1, lost);
        assert_eq!(receive(&socket)[2].1, "again");
    }
}
