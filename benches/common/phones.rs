//! A proxy and all phones behind it, on one socket; and what every such phone needs.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mwid_core::message::Message;
use mwid_core::summary::Summary;

/// The phones. They end with this.
pub struct Phones {
    pub address: SocketAddr,
    heard: Arc<Heard>,
    /// NOTIFYs as they come: when, whose, what.
    news: Receiver<(Instant, String, String)>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Heard {
    stop: AtomicBool,
    notifies: AtomicUsize,
    /// Call-ID to what the phone shows.
    shown: Mutex<HashMap<String, String>>,
}

impl Phones {
    pub fn open(size: usize) -> Self {
        let socket = socket();
        let address = socket.local_addr().unwrap();
        let heard = Arc::new(Heard::default());
        heard.shown.lock().unwrap().reserve(size);
        let (tell, news) = mpsc::channel();
        let thread = thread::spawn({
            let heard = heard.clone();
            move || heard.answer(&socket, &tell)
        });
        Self { address, heard, news, thread: Some(thread) }
    }

    /// NOTIFYs so far.
    pub fn count(&self) -> usize {
        self.heard.notifies.load(Ordering::Relaxed)
    }

    /// Nobody knows any more what they show.
    pub fn forget(&self) {
        self.heard.shown.lock().unwrap().clear();
    }

    /// Waits until so many phones show their one message.
    pub fn wait_for(&self, size: usize, patience: Duration) {
        let deadline = Instant::now() + patience;
        let right = |shown: &HashMap<String, String>| {
            shown.len() >= size && shown.values().all(|shown| shown == "1/0 (0/0)")
        };
        while !right(&self.heard.shown.lock().unwrap()) {
            assert!(Instant::now() < deadline, "only {} NOTIFYs came", self.count());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// When the phone with this Call-ID was told these counts. What came before is passed over.
    pub fn next(&mut self, call_id: &str, counts: Summary, patience: Duration) -> Instant {
        loop {
            let (at, whose, shown) = self.news.recv_timeout(patience).expect("a NOTIFY");
            if whose == call_id && shown == counts.to_string() {
                return at;
            }
        }
    }
}

impl Drop for Phones {
    fn drop(&mut self) {
        self.heard.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Heard {
    fn answer(&self, socket: &UdpSocket, tell: &Sender<(Instant, String, String)>) {
        let mut buffer = vec![0; 65_535];
        while !self.stop.load(Ordering::Relaxed) {
            let Some((length, from)) = receive(socket, &mut buffer) else { continue };
            let at = Instant::now();
            let message = Message::parse(&buffer[..length]).unwrap();
            socket.send_to(&ok(&message), from).unwrap();
            let call_id = message.headers("Call-ID").next().unwrap().to_owned();
            let shown = shown(&message).unwrap_or_default();
            self.notifies.fetch_add(1, Ordering::Relaxed);
            self.shown.lock().unwrap().insert(call_id.clone(), shown.clone());
            // The benchmark may have ended.
            let _ = tell.send((at, call_id, shown));
        }
    }
}

/// A socket with room for many datagrams that gives up waiting now and then.
pub fn socket() -> UdpSocket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_recv_buffer_size(8 << 20).unwrap();
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any.into()).unwrap();
    let socket: UdpSocket = socket.into();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket
}

/// The next datagram; `None` when none came for a while.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
    match socket.recv_from(buffer) {
        Ok(received) => Some(received),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => None,
            _ => panic!("{error}"),
        },
    }
}

/// What a NOTIFY says: `1/0 (0/0)`.
pub fn shown(notify: &Message) -> Option<String> {
    let body = String::from_utf8_lossy(notify.body());
    body.lines().find_map(|line| line.strip_prefix("Voice-Message: ")).map(str::to_owned)
}

/// The 200 to a request.
pub fn ok(request: &Message) -> Vec<u8> {
    let mut text = "SIP/2.0 200 OK\r\n".to_owned();
    for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
        for value in request.headers(name) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    text.push_str("Content-Length: 0\r\n\r\n");
    text.into_bytes()
}
