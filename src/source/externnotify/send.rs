//! The command's side. Standard library only, and never a call that blocks: Asterisk waits.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Doors;
use super::arguments::{self, Arguments, USAGE, Wish};
use super::drop;
use super::notice::Notice;

/// How often a datagram that is all there is is offered to a daemon whose queue is full, and how
/// long between. Together about a millisecond.
const OFFERS: u32 = 6;
const PAUSE: Duration = Duration::from_micros(100);

/// Runs the command: `args` are those after its name, `doors` where the daemon is unless they say
/// otherwise. Exit code 0 when the notice was left in the
/// drop folder or delivered, 1 when it was neither, 2 when the arguments are wrong.
pub fn main(args: impl Iterator<Item = OsString>, doors: Doors) -> ExitCode {
    let stamp = now();
    match arguments::parse(args, doors) {
        Ok(Wish::Help) => match io::stdout().write_all(USAGE.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Ok(Wish::Send(arguments)) => deliver(stamp, &arguments),
        Err(error) => {
            say(&format!("{error}. Nothing was sent; --help says more"));
            ExitCode::from(2)
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The file first: once it is there, nothing is lost, whatever becomes of the daemon. The datagram
/// only makes it quick, so it is offered once, and a daemon that does not take it finds the file.
fn deliver(stamp: u64, arguments: &Arguments) -> ExitCode {
    let Arguments { mailbox, counts, socket, drop } = arguments;
    let mut notice = Notice { stamp, mailbox: mailbox.clone(), counts: *counts, file: None };
    let left = drop::leave(drop, &notice);
    notice.file = left.as_ref().ok().copied();
    let sent = send(socket, &notice, if left.is_ok() { 1 } else { OFFERS });
    let (Err(error), Err(refused)) = (left, sent) else { return ExitCode::SUCCESS };
    let (socket, drop) = (socket.display(), drop.display());
    say(&format!(
        "the change of {mailbox} could not be left in {drop} ({error}) and mwid did not take it \
         ({socket}: {refused}). Start mwid, and make the folder writable for Asterisk's user: \
         install -d -m 2770 -o mwid -g asterisk {drop}"
    ));
    ExitCode::FAILURE
}

fn send(socket: &Path, notice: &Notice, offers: u32) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    let text = notice.to_text();
    let mut left = offers;
    loop {
        left -= 1;
        match sender.send_to(text.as_bytes(), socket) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock && left > 0 => {
                thread::sleep(PAUSE);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => left += 1,
            Err(error) => return Err(error),
        }
    }
}

/// To standard error; when that is closed there is nobody to tell.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "mwid-externnotify: {text}");
}
