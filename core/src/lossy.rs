//! A network that loses, doubles, delays and reorders datagrams, and a phone at its far end. For
//! tests: both are driven by virtual time and by a seed, so every failure can be seen again.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::message::{Message, StartLine};

/// What the network does to datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// How many of 100 are lost.
    pub(crate) loss: u8,
    /// How many of 100 arrive twice.
    pub(crate) doubling: u8,
    /// The longest delay; each datagram has its own, so they overtake each other.
    pub(crate) delay: Duration,
}

/// A datagram that arrives.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// The network between two sockets.
#[derive(Debug)]
pub(crate) struct Network {
    random: u64,
    weather: Weather,
    /// Datagrams that are lost before the weather sets in.
    doomed: u32,
    /// By time of arrival, then in the order of sending.
    on_the_way: BTreeMap<(Instant, u64), Datagram>,
    sent: u64,
}

impl Network {
    pub(crate) fn new(seed: u64, weather: Weather) -> Self {
        Self { random: seed, weather, doomed: 0, on_the_way: BTreeMap::new(), sent: 0 }
    }

    /// Loses the next `count` datagrams, whichever way they go.
    pub(crate) fn lose_next(&mut self, count: u32) {
        self.doomed = count;
    }

    pub(crate) fn send(&mut self, now: Instant, datagram: Datagram) {
        if self.doomed > 0 {
            self.doomed -= 1;
            return;
        }
        if self.below(100) < self.weather.loss.into() {
            return;
        }
        let copies = if self.below(100) < self.weather.doubling.into() { 2 } else { 1 };
        for _ in 0..copies {
            let longest = u64::try_from(self.weather.delay.as_micros()).unwrap();
            let delay = Duration::from_micros(self.below(longest + 1));
            self.sent += 1;
            self.on_the_way.insert((now + delay, self.sent), datagram.clone());
        }
    }

    /// When the next datagram arrives.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.on_the_way.keys().next().map(|&(at, _)| at)
    }

    /// A datagram that has arrived at `now`.
    pub(crate) fn receive(&mut self, now: Instant) -> Option<Datagram> {
        let first = self.on_the_way.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// A number below `bound` (SplitMix64).
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// A server transaction for each branch (RFC 3261 §17.2.2): the first copy of a request is
/// answered, every further one gets the same answer.
#[derive(Debug)]
pub(crate) struct Phone {
    /// The final answer, `200 OK`.
    answer: &'static str,
    /// Whether the first copy gets only a 100, and the second the final answer.
    trying_first: bool,
    /// Copies seen of each branch.
    pub(crate) seen: HashMap<String, u32>,
}

impl Phone {
    pub(crate) fn new(answer: &'static str, trying_first: bool) -> Self {
        Self { answer, trying_first, seen: HashMap::new() }
    }

    /// What the phone says to a request.
    pub(crate) fn answer(&mut self, request: &[u8]) -> Vec<u8> {
        let request = Message::parse(request).expect("our own requests are right");
        assert!(matches!(request.start(), StartLine::Request { .. }));
        let branch = request.via().unwrap().branch().unwrap().to_owned();
        let seen = self.seen.entry(branch).or_default();
        *seen += 1;
        let status = if self.trying_first && *seen == 1 { "100 Trying" } else { self.answer };
        let mut answer = format!("SIP/2.0 {status}\r\n");
        for (name, value) in request.iter() {
            if ["Via", "From", "To", "Call-ID", "CSeq"].contains(&name) {
                answer += &format!("{name}: {value}\r\n");
            }
        }
        answer += "Content-Length: 0\r\n\r\n";
        answer.into_bytes()
    }
}
