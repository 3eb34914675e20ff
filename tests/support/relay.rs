//! A lossy stretch of network: a UDP relay between mwid and its proxy.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::sip::Message;

/// What gets lost.
#[derive(Clone, Copy, Debug)]
pub enum Loss {
    /// Nothing.
    None,
    /// The first N copies of each request, told by the branch of its topmost Via.
    FirstCopies(u32),
    /// About so many of 100 datagrams; each way loses the same ones for the same seed.
    Percent(u32, u64),
}

/// Where a datagram went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From mwid to the proxy.
    Out,
    /// From the proxy to mwid.
    Back,
}

/// A datagram that came by.
#[derive(Clone, Debug)]
pub struct Passage {
    /// When it came.
    pub at: Instant,
    /// Where it was going.
    pub way: Way,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether it got lost here.
    pub lost: bool,
}

impl Passage {
    /// The datagram as a SIP message.
    pub fn message(&self) -> Option<Message> {
        Message::parse(std::str::from_utf8(&self.bytes).ok()?)
    }
}

/// The relay. mwid is given [`Relay::address`] as its proxy; answers come back from there.
///
/// A Route that names the relay must mean the proxy to the proxy: start Kamailio with
/// [`super::kamailio::Setup::also_known_as`] the relay's address.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Faces mwid.
    front: UdpSocket,
    /// Faces the proxy.
    back: UdpSocket,
    down: AtomicBool,
    stop: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    loss: Loss,
    /// One for each way, so that neither depends on when the other has something to carry.
    random: [u64; 2],
    copies: HashMap<String, u32>,
    client: Option<SocketAddr>,
    proxy: Option<SocketAddr>,
    passages: Vec<Passage>,
}

impl Relay {
    /// Opens the relay, so that its address is known. Until [`Relay::connect`] all is lost.
    pub fn new(loss: Loss) -> Self {
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on 127.0.0.1");
        let (front, back) = (bind(), bind());
        let address = front.local_addr().expect("it is bound");
        // xorshift must not start from 0.
        let seed = if let Loss::Percent(_, seed) = loss { seed | 1 } else { 1 };
        let random = [seed, !seed | 1];
        let copies = HashMap::new();
        let state = State { loss, random, copies, client: None, proxy: None, passages: Vec::new() };
        let shared = Arc::new(Shared {
            front,
            back,
            down: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            state: Mutex::new(state),
        });
        let threads = [Way::Out, Way::Back]
            .map(|way| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.carry(way))
            })
            .into();
        Self { address, shared, threads }
    }

    /// Names the proxy.
    pub fn connect(&self, proxy: SocketAddr) {
        self.shared.state().proxy = Some(proxy);
    }

    /// What mwid should have as its proxy.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Loses everything while `down`.
    pub fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
    }

    /// From now on loses this.
    pub fn set_loss(&self, loss: Loss) {
        self.shared.state().loss = loss;
    }

    /// Everything that came by, in order of arrival.
    pub fn passages(&self) -> Vec<Passage> {
        self.shared.state().passages.clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // An empty datagram wakes each thread. If it can't be sent, its socket has failed and the
        // thread is gone.
        for socket in [&self.shared.front, &self.shared.back] {
            if let Ok(own) = socket.local_addr() {
                let _ = self.shared.back.send_to(&[], own);
            }
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread of the relay panics")
    }

    fn carry(&self, way: Way) {
        let (from, to) = match way {
            Way::Out => (&self.front, &self.back),
            Way::Back => (&self.back, &self.front),
        };
        let mut buffer = vec![0; 65_535];
        while !self.stop.load(Ordering::SeqCst) {
            // An error is the ICMP answer to something sent before: the peer is down just now.
            let Ok((length, source)) = from.recv_from(&mut buffer) else { continue };
            let bytes = &buffer[..length];
            if bytes.is_empty() {
                continue;
            }
            let target = {
                let mut state = self.state();
                if way == Way::Out {
                    state.client = Some(source);
                }
                let lost = state.loses(way, bytes) || self.down.load(Ordering::SeqCst);
                let passage = Passage { at: Instant::now(), way, bytes: bytes.to_vec(), lost };
                state.passages.push(passage);
                let target = if way == Way::Out { state.proxy } else { state.client };
                target.filter(|_| !lost)
            };
            if let Some(target) = target {
                // A network may lose this too.
                let _ = to.send_to(bytes, target);
            }
        }
    }
}

impl State {
    fn loses(&mut self, way: Way, bytes: &[u8]) -> bool {
        match self.loss {
            Loss::None => false,
            Loss::FirstCopies(copies) => {
                let message = std::str::from_utf8(bytes).ok().and_then(Message::parse);
                let request = message.filter(|m| way == Way::Out && m.method().is_some());
                request.is_some_and(|request| {
                    let seen = self.copies.entry(request.branch().to_owned()).or_default();
                    *seen += 1;
                    *seen <= copies
                })
            }
            Loss::Percent(percent, _) => self.roll(way) < u64::from(percent),
        }
    }

    /// 0 to 99, by xorshift64.
    fn roll(&mut self, way: Way) -> u64 {
        let random = &mut self.random[usize::from(way == Way::Back)];
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        // The low bits are the weakest.
        (*random >> 32) % 100
    }
}
