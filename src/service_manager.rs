//! What the service manager is told, sd_notify(3): that mwid is ready, reloads or stops, how it is,
//! and that its loop turns. Without `NOTIFY_SOCKET` nothing is said.
//!
//! A few lines of our own: the crates for it block on a manager that does not read, or know no
//! abstract sockets, which managers of containers use.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// Between two looks at how mwid is: a status that changes all the time is told so often.
const LOOK: Duration = Duration::from_secs(2);

/// The service manager that started mwid; or none.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<UnixDatagram>,
    /// Half of what it waits for a sign of life, and when the next one is due.
    watchdog: Option<(Duration, Instant)>,
    status: String,
    /// The manager did not take the last status.
    is_lost: bool,
    look: Option<Instant>,
}

impl ServiceManager {
    /// The one that the environment names.
    ///
    /// # Errors
    /// When it names a socket that cannot be reached.
    pub fn from_env() -> io::Result<Self> {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let socket = connect(&name)?;
        let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let patience = number("WATCHDOG_USEC").filter(|usec| is_ours && *usec > 0);
        let now = Instant::now();
        let watchdog = patience.map(|usec| (Duration::from_micros(usec) / 2, now));
        Ok(Self { socket: Some(socket), watchdog, ..Self::default() })
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// The sockets are open, or the configuration was read again.
    pub fn ready(&self) {
        self.send(&format!("READY=1\nSTATUS={}", self.status));
    }

    /// The configuration is read again; [`ready`](Self::ready) says that it was, refused or not.
    pub fn reloading(&self) {
        // The manager waits for the word of a reload that began after it asked for one.
        if let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) {
            let micros = Duration::from(now).as_micros();
            self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
        }
    }

    /// What is in flight is waited for.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// How mwid is, in one line. Said again only when it is another, or was not taken.
    pub fn status(&mut self, status: String) {
        let status = status.replace(|c: char| c.is_control(), " ");
        if status != self.status || self.is_lost {
            self.is_lost = !self.send(&format!("STATUS={status}"));
            self.status = status;
        }
    }

    /// To be called by every turn of the loop: it is alive.
    pub fn alive(&mut self, now: Instant) {
        if let Some((interval, due)) = &mut self.watchdog
            && *due <= now
        {
            *due = now + *interval;
            self.send("WATCHDOG=1");
        }
    }

    /// When [`alive`](Self::alive) must be called at the latest.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.watchdog.map(|(_, due)| due)
    }

    /// Whether it is time for another [`status`](Self::status).
    pub fn wants_status(&mut self, now: Instant) -> bool {
        let is_due = self.is_there() && self.look.is_none_or(|at| at <= now);
        if is_due {
            self.look = Some(now + LOOK);
        }
        is_due
    }

    /// A word that the manager has no room for is lost: no lamp waits for it.
    fn send(&self, state: &str) -> bool {
        let Some(socket) = &self.socket else { return true };
        let sent = socket.send(state.as_bytes());
        if let Err(error) = &sent {
            tracing::debug!(%error, "the service manager did not take a word");
        }
        sent.is_ok()
    }
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::other("it is neither a path nor an abstract socket")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(patience: Option<Duration>, now: Instant) -> (ServiceManager, UnixDatagram) {
        let (ours, theirs) = UnixDatagram::pair().expect("two sockets");
        ours.set_nonblocking(true).expect("a socket");
        theirs.set_nonblocking(true).expect("a socket");
        let watchdog = patience.map(|patience| (patience / 2, now));
        (ServiceManager { socket: Some(ours), watchdog, ..ServiceManager::default() }, theirs)
    }

    fn word(socket: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    #[test]
    fn a_sign_of_life_is_due_after_half_of_the_watchdogs_patience() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let (mut manager, socket) = manager(Some(30 * second), start);
        for half in 0..4 {
            let due = start + 15 * second * half;
            assert_eq!(manager.due(), Some(due));
            manager.alive(due - Duration::from_nanos(1));
            assert_eq!(word(&socket), None);
            manager.alive(due);
            assert_eq!(word(&socket).as_deref(), Some("WATCHDOG=1"));
        }
        // A turn that came late is no reason to come twice.
        manager.alive(start + 300 * second);
        assert_eq!(manager.due(), Some(start + 315 * second));
    }

    #[test]
    fn a_status_that_the_manager_had_no_room_for_is_said_again() {
        let (mut manager, socket) = manager(None, Instant::now());
        // More than its queue holds.
        (0..2000).for_each(|number| manager.status(number.to_string()));
        let heard = std::iter::from_fn(|| word(&socket)).last();
        assert_ne!(heard.as_deref(), Some("STATUS=1999"));
        manager.status("1999".into());
        assert_eq!(word(&socket).as_deref(), Some("STATUS=1999"));
        manager.status("1999".into());
        assert_eq!(word(&socket), None);
    }

    #[test]
    fn a_status_is_one_line_and_said_when_it_is_another() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let (mut manager, socket) = manager(None, start);
        assert_eq!(manager.due(), None);
        assert!(manager.wants_status(start) && !manager.wants_status(start + second));
        manager.status("fine".into());
        manager.status("fine".into());
        assert_eq!(word(&socket).as_deref(), Some("STATUS=fine"));
        assert_eq!(word(&socket), None);
        assert!(manager.wants_status(start + 2 * second));
        manager.status("bad\nREADY=1".into());
        assert_eq!(word(&socket).as_deref(), Some("STATUS=bad READY=1"));
    }

    #[test]
    fn nobody_is_told_where_nobody_asked() {
        let mut nobody = ServiceManager::default();
        assert!(!nobody.wants_status(Instant::now()) && nobody.due().is_none());
    }
}
