//! The wire of the demo: a UDP socket that plays proxy and phone, and loses what it is told to.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mwid_core::summary::Summary;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::clock;

use super::phone::{Notified, Phone, Reaction};

/// How often the thread looks whether it shall end.
const TICK: Duration = Duration::from_millis(50);

/// Something that happened on the wire.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub at: Instant,
    /// What.
    pub what: What,
}

/// What happened on the wire.
#[derive(Clone, Debug)]
pub enum What {
    /// A copy was lost, on purpose.
    Lost(Vec<u8>),
    /// The phone believed a NOTIFY and answered 200.
    Believed {
        /// The CSeq.
        cseq: u32,
        /// The lamp.
        lamp: bool,
        /// The counts.
        summary: Summary,
    },
    /// A copy of what it had answered already.
    Repeated,
    /// The phone refused a NOTIFY.
    Refused {
        /// The status code.
        code: u16,
        /// Which rule did not hold.
        why: String,
    },
    /// Something else came.
    Ignored(String),
}

/// A phone on a socket, until dropped.
pub struct Line {
    /// Where the phone listens.
    pub address: SocketAddr,
    /// What happened.
    pub events: UnboundedReceiver<Event>,
    lose: Arc<AtomicU32>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Line {
    /// A socket on loopback, nobody there yet.
    ///
    /// # Errors
    /// When there is no socket to be had.
    pub fn open() -> io::Result<(UdpSocket, SocketAddr)> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(TICK))?;
        let address = socket.local_addr()?;
        Ok((socket, address))
    }

    /// Puts a phone on the socket.
    #[must_use]
    pub fn connect(socket: UdpSocket, address: SocketAddr, phone: Arc<Mutex<Phone>>) -> Self {
        let (send, events) = unbounded_channel();
        let (lose, end) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (lose, end) = (lose.clone(), end.clone());
            move || listen(&socket, &phone, &send, &lose, &end)
        });
        Self { address, events, lose, end, thread: Some(thread) }
    }

    /// Loses the next `count` datagrams.
    pub fn lose(&self, count: u32) {
        self.lose.store(count, Ordering::SeqCst);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed by itself.
            let _ = thread.join();
        }
    }
}

fn listen(
    socket: &UdpSocket,
    phone: &Mutex<Phone>,
    events: &UnboundedSender<Event>,
    lose: &AtomicU32,
    end: &AtomicBool,
) {
    let mut buffer = [0; 65_535];
    while !end.load(Ordering::SeqCst) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let datagram = &buffer[..length];
        let at = Instant::now();
        let lost =
            lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        let (what, answer) = if lost.is_ok() {
            (What::Lost(datagram.to_vec()), None)
        } else {
            let mut phone = phone.lock().expect("the phone does not panic");
            react(phone.handle(datagram, clock::unix()))
        };
        if let Some(answer) = answer {
            // Loopback takes it; and if not, mwid sends its NOTIFY again.
            let _ = socket.send_to(&answer, from);
        }
        // Nobody left to hear it: the end is near.
        let _ = events.send(Event { at, what });
    }
}

fn react(reaction: Reaction) -> (What, Option<Vec<u8>>) {
    match reaction {
        Reaction::Believed(Notified { cseq, lamp, summary, answer }) => {
            (What::Believed { cseq, lamp, summary }, Some(answer))
        }
        Reaction::Repeated(answer) => (What::Repeated, Some(answer)),
        Reaction::Refused { code, why, answer } => (What::Refused { code, why }, Some(answer)),
        Reaction::Ignored(why) => (What::Ignored(why), None),
    }
}
