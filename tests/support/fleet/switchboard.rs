//! One UDP socket that plays the proxy and all phones behind it, on a network as bad as wanted.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mwid::demo::phone::{Subscription, answer};
use mwid_core::message::Message;
use socket2::SockRef;

use super::handset::{Handset, Rules};
use super::random::Random;
use crate::support::net::UdpPort;
use crate::support::{SOON, wait_for};

/// How often the thread looks whether something else is wanted of it.
const TICK: Duration = Duration::from_millis(10);

/// Room for the burst of a whole fleet: what the kernel drops is nobody's fault.
const RECEIVE_BUFFER: usize = 4 << 20;

/// What the proxy is just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It relays.
    Up,
    /// It answers nothing. Half of the phones hear what it is sent all the same.
    Silent,
    /// Its socket is closed: the kernel answers with ICMP.
    Gone,
    /// It answers with this code itself, and no phone hears anything.
    Refusing(u16),
}

/// What the network does with a datagram, in percent, each way for itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// It gets lost.
    pub lost: u32,
    /// It arrives twice.
    pub doubled: u32,
    /// It arrives later than what was sent after it.
    pub late: u32,
    /// How much later, at most.
    pub delay: Duration,
}

/// What happened on the wire.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// NOTIFYs of mwid, copies not counted.
    pub notifies: usize,
    /// Further copies of them that arrived.
    pub copies: usize,
    /// NOTIFYs that said what the one before in their dialog said.
    pub retries: usize,
    /// NOTIFYs that a phone believed.
    pub accepted: usize,
    /// NOTIFYs that a phone answered with 500.
    pub too_low: usize,
    /// Datagrams that the proxy answered itself.
    pub refused: usize,
    /// Datagrams that the network lost, doubled and delayed, both ways.
    pub lost: usize,
    /// See `lost`.
    pub doubled: usize,
    /// See `lost`.
    pub late: usize,
}

/// The socket, the phones and their records.
#[derive(Debug)]
pub struct Switchboard {
    port: UdpPort,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    /// Nothing is on its way.
    is_quiet: AtomicBool,
    state: Mutex<State>,
}

/// Everything but the socket.
#[derive(Debug)]
pub struct State {
    handsets: HashMap<String, Handset>,
    mode: Mode,
    /// What `mode` asks of the socket has been done.
    is_open: bool,
    weather: Weather,
    random: Random,
    rules: Rules,
    /// The first copy that arrives may be one that was sent late: it says how much time was left
    /// when the first was sent.
    is_late: bool,
    incarnation: u32,
    route: String,
    figures: Figures,
    faults: Vec<String>,
}

/// A datagram on its way.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Carried {
    due: Instant,
    serial: u64,
    /// To the phones, or to mwid.
    inward: bool,
    peer: SocketAddr,
    bytes: Vec<u8>,
}

impl Switchboard {
    /// Opens the socket. There is no phone yet.
    pub fn open(rules: Rules, random: Random) -> Self {
        let port = UdpPort::claim();
        let address = port.address();
        let state = State {
            handsets: HashMap::new(),
            mode: Mode::Up,
            is_open: false,
            weather: Weather::default(),
            random,
            rules,
            is_late: false,
            incarnation: 0,
            route: format!("<sip:{address};lr>"),
            figures: Figures::default(),
            faults: Vec::new(),
        };
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            is_quiet: AtomicBool::new(false),
            state: Mutex::new(state),
        });
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                Carrier { shared, address, socket: None, serial: 0, sky: BinaryHeap::new() }.run()
            }
        });
        let board = Self { port, shared, thread: Some(thread) };
        board.wait_until(true);
        board
    }

    /// Where mwid's proxy is.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Plugs the phones in.
    pub fn connect(&self, subscriptions: &[Subscription]) {
        let mut state = self.state();
        for subscription in subscriptions {
            let handset = Handset::new(subscription.clone());
            state.handsets.insert(subscription.call_id.clone(), handset);
        }
    }

    /// Changes what the proxy is; returns when it is so.
    pub fn set_mode(&self, mode: Mode) {
        let mut state = self.state();
        state.mode = mode;
        state.is_late |= mode == Mode::Silent;
        if mode == Mode::Gone {
            state.handsets.values_mut().for_each(Handset::forget_unanswered);
        }
        drop(state);
        self.wait_until(mode != Mode::Gone);
    }

    /// Changes the weather.
    pub fn set_weather(&self, weather: Weather) {
        let mut state = self.state();
        state.weather = weather;
        state.is_late = true;
        state.rules.orderly = false;
    }

    /// Nothing is to be sent just now: waits until nothing is on its way, and begins anew with a good
    /// network and without a past that grows for ever.
    pub fn rest(&self) {
        wait_for("quiet network", SOON, || {
            self.shared.is_quiet.load(Ordering::SeqCst).then_some(())
        });
        let mut state = self.state();
        state.weather = Weather::default();
        state.rules.orderly = true;
        state.handsets.values_mut().for_each(Handset::forget_the_past);
    }

    /// A new mwid is about to be started.
    pub fn expect_another_start(&self) {
        self.state().incarnation += 1;
    }

    /// The presence server's own NOTIFY; false when the phone refuses it.
    pub fn notify_from_server(&self, call_id: &str, cseq: u32) -> bool {
        let mut state = self.state();
        state.handsets.get_mut(call_id).expect("it was connected").take_from_server(cseq)
    }

    /// What happened on the wire.
    pub fn figures(&self) -> Figures {
        self.state().figures
    }

    /// What a phone with this Call-ID has to say.
    pub fn ask<T>(&self, call_id: &str, question: impl Fn(&Handset) -> T) -> T {
        question(self.state().handsets.get(call_id).expect("it was connected"))
    }

    /// Panics if mwid did what it must never do.
    pub fn check(&self) {
        // A panic must not hold the lock.
        let faults = self.state().faults.clone();
        let shown = faults.iter().take(3).cloned().collect::<Vec<_>>().join("\n---\n");
        assert!(faults.is_empty(), "{} faults of mwid:\n{shown}", faults.len());
    }

    fn wait_until(&self, open: bool) {
        wait_for("socket of the switchboard", SOON, || {
            (self.state().is_open == open).then_some(())
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("the switchboard does not panic")
    }
}

impl Drop for Switchboard {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed by itself.
            let _ = thread.join();
        }
    }
}

/// The thread that carries datagrams.
struct Carrier {
    shared: Arc<Shared>,
    address: SocketAddr,
    socket: Option<UdpSocket>,
    serial: u64,
    sky: BinaryHeap<Reverse<Carried>>,
}

impl Carrier {
    fn run(mut self) {
        let mut buffer = vec![0; 65_535];
        while !self.shared.stop.load(Ordering::SeqCst) {
            self.open_or_close();
            let Some(socket) = &self.socket else {
                thread::sleep(TICK);
                continue;
            };
            let pause = self.sky.peek().map_or(TICK, |Reverse(next)| {
                next.due.saturating_duration_since(Instant::now()).min(TICK)
            });
            // Zero would mean to wait for ever.
            let pause = pause.max(Duration::from_micros(100));
            socket.set_read_timeout(Some(pause)).expect("it is more than zero");
            let heard = socket.recv_from(&mut buffer);
            if let Ok((length, peer)) = heard {
                self.launch(true, peer, buffer[..length].to_vec());
            }
            self.land();
            let is_quiet = heard.is_err() && self.sky.is_empty();
            self.shared.is_quiet.store(is_quiet, Ordering::SeqCst);
        }
    }

    fn open_or_close(&mut self) {
        let mut state = self.shared.state.lock().expect("no other thread panics with it");
        match (state.mode, &self.socket) {
            (Mode::Gone, Some(_)) => {
                self.socket = None;
                self.sky.clear();
            }
            (Mode::Up | Mode::Silent | Mode::Refusing(_), None) => {
                self.socket = Some(bind(self.address).expect("the port is claimed"));
            }
            _ => {}
        }
        state.is_open = self.socket.is_some();
    }

    /// A datagram enters the network.
    fn launch(&mut self, inward: bool, peer: SocketAddr, bytes: Vec<u8>) {
        let mut state = self.shared.state.lock().expect("no other thread panics with it");
        let State { weather, random, figures, .. } = &mut *state;
        if random.percent(weather.lost) {
            figures.lost += 1;
            return;
        }
        let doubled = random.percent(weather.doubled);
        figures.doubled += usize::from(doubled);
        for _ in 0..=usize::from(doubled) {
            let is_late = random.percent(weather.late);
            figures.late += usize::from(is_late);
            let most = weather.delay.as_micros().max(1).try_into().expect("it is short");
            let delay = if is_late { random.below(most) } else { 0 };
            self.serial += 1;
            self.sky.push(Reverse(Carried {
                due: Instant::now() + Duration::from_micros(delay),
                serial: self.serial,
                inward,
                peer,
                bytes: bytes.clone(),
            }));
        }
    }

    /// What has travelled long enough arrives.
    fn land(&mut self) {
        while self.sky.peek().is_some_and(|Reverse(next)| next.due <= Instant::now()) {
            let Some(Reverse(Carried { inward, peer, bytes, .. })) = self.sky.pop() else { return };
            if inward {
                let answer = {
                    let state = self.shared.state.lock();
                    state.expect("no other thread panics with it").take(&bytes, peer)
                };
                if let Some(answer) = answer {
                    self.launch(false, peer, answer);
                }
            } else if let Some(socket) = &self.socket {
                // A mwid that was killed does not listen any more.
                let _ = socket.send_to(&bytes, peer);
            }
        }
    }
}

impl State {
    /// A datagram of mwid has arrived; gives the answer.
    fn take(&mut self, datagram: &[u8], peer: SocketAddr) -> Option<Vec<u8>> {
        // It came in the moment before its socket was closed.
        if self.mode == Mode::Gone {
            return None;
        }
        let (now, unix) = (Instant::now(), SystemTime::now());
        let age = if self.is_late { self.rules.timer_f } else { Duration::ZERO };
        let unix =
            unix.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(age).as_secs();
        let message = match Message::parse(datagram) {
            Ok(message) => message,
            Err(error) => {
                self.faults.push(format!("{error}: {}", String::from_utf8_lossy(datagram)));
                return None;
            }
        };
        // A stock script relays what has a Route to it, and answers 404 to everything else.
        if message.header("Route") != Some(self.route.as_str()) {
            self.faults.push(format!("no Route to the proxy: {:?}", message.header("Route")));
        }
        let call_id = message.call_id().unwrap_or_default();
        if let Mode::Refusing(code) = self.mode {
            self.figures.refused += 1;
            if let Some(handset) = self.handsets.get_mut(call_id) {
                handset.answered();
            }
            return Some(answer(&message, code));
        }
        // All copies of a NOTIFY get through or none does: its first copy tells when it was sent.
        if self.mode == Mode::Silent && call_id.bytes().map(u32::from).sum::<u32>() % 2 == 1 {
            return None;
        }
        let Some(handset) = self.handsets.get_mut(call_id) else {
            self.faults.push(format!("no phone has the Call-ID {call_id:?}"));
            return None;
        };
        let sender = (self.incarnation, peer);
        let (rules, faults) = (&self.rules, &mut self.faults);
        let taken = handset.take(&message, datagram, sender, (now, unix), rules, faults);
        if self.mode == Mode::Up {
            handset.answered();
        }
        let figures = &mut self.figures;
        if taken.is_first {
            figures.notifies += 1;
            figures.retries += usize::from(taken.is_retry);
            figures.accepted += usize::from(taken.code == 200);
            figures.too_low += usize::from(taken.code == 500);
        } else {
            figures.copies += 1;
        }
        taken.answer.filter(|_| self.mode == Mode::Up)
    }
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
    Ok(socket)
}
