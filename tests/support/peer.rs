//! Whoever stands at the other end of mwid's UDP socket, and does as the test says.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mwid::clock;
use mwid::demo::phone::{Phone, Reaction, Subscription};
use mwid_core::message::{Message, StartLine};

/// How long a step may take that takes milliseconds on an idle machine.
pub const SOON: Duration = Duration::from_secs(20);

/// How often the thread looks whether it shall end.
const TICK: Duration = Duration::from_millis(50);

/// A NOTIFY as it came.
#[derive(Clone, Debug)]
pub struct Heard {
    pub at: Instant,
    pub from: SocketAddr,
    pub message: Message,
    /// 1 for the first datagram of a transaction.
    pub copy: u32,
}

/// What is said to a datagram: nothing, or one datagram after the other.
pub type Script = Box<dyn FnMut(&Heard) -> Vec<Vec<u8>> + Send>;

/// A socket on loopback with a script behind it, until dropped.
pub struct Peer {
    pub address: SocketAddr,
    socket: Arc<UdpSocket>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    end: AtomicBool,
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    heard: Vec<Heard>,
    /// How often each branch came.
    branches: HashMap<String, u32>,
    /// The phones behind this peer, by Call-ID.
    phones: HashMap<String, Phone>,
    /// What the phones did not believe.
    refused: Vec<String>,
    script: Option<Script>,
}

impl Heard {
    pub fn header(&self, name: &str) -> &str {
        self.message.header(name).unwrap_or_else(|| panic!("no {name}: {:?}", self.message))
    }

    pub fn cseq(&self) -> u32 {
        self.message.cseq().unwrap().number
    }

    pub fn request_uri(&self) -> &str {
        match self.message.start() {
            StartLine::Request { uri, .. } => uri,
            StartLine::Status { .. } => panic!("an answer came: {:?}", self.message),
        }
    }

    /// The value of `Voice-Message`.
    pub fn counts(&self) -> String {
        let body = String::from_utf8(self.message.body().to_vec()).unwrap();
        let line = body.lines().find_map(|line| line.strip_prefix("Voice-Message: "));
        line.unwrap_or_else(|| panic!("no counts in {body:?}")).to_owned()
    }

    /// An answer with these header lines, each ended by CRLF.
    pub fn answer(&self, code: u16, lines: &str) -> Vec<u8> {
        let mut text = format!("SIP/2.0 {code} Said By The Test\r\n");
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            for value in self.message.headers(name) {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        text.push_str(&format!("{lines}Content-Length: 0\r\n\r\n"));
        text.into_bytes()
    }
}

impl Peer {
    /// Strict phones that answer for themselves; anything else is answered 481.
    pub fn phones() -> Self {
        Self::with(None)
    }

    /// Answers each datagram as `script` says.
    pub fn scripted(script: impl FnMut(&Heard) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        Self::with(Some(Box::new(script)))
    }

    /// Answers each NOTIFY with this code.
    pub fn says(code: u16) -> Self {
        Self::scripted(move |heard| vec![heard.answer(code, "")])
    }

    /// Hears everything and says nothing.
    pub fn silent() -> Self {
        Self::scripted(|_| Vec::new())
    }

    fn with(script: Option<Script>) -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        socket.set_read_timeout(Some(TICK)).unwrap();
        let address = socket.local_addr().unwrap();
        let state = Mutex::new(State { script, ..State::default() });
        let shared = Arc::new(Shared { end: AtomicBool::new(false), state, more: Condvar::new() });
        let thread = std::thread::spawn({
            let (socket, shared) = (socket.clone(), shared.clone());
            move || shared.listen(&socket)
        });
        Self { address, socket, shared, thread: Some(thread) }
    }

    /// From now on answers like this.
    pub fn script(&self, script: impl FnMut(&Heard) -> Vec<Vec<u8>> + Send + 'static) {
        self.shared.state.lock().unwrap().script = Some(Box::new(script));
    }

    /// Puts a strict phone behind this peer.
    pub fn subscribe(&self, subscription: Subscription) {
        let phone = Phone::new(subscription.clone());
        self.shared.state.lock().unwrap().phones.insert(subscription.call_id, phone);
    }

    /// Sends any datagram to mwid.
    pub fn send(&self, to: SocketAddr, datagram: &[u8]) {
        self.socket.send_to(datagram, to).unwrap();
    }

    /// Waits until what was heard so far, in order, makes `ask` give something.
    pub fn wait<T>(&self, what: &str, mut ask: impl FnMut(&[Heard]) -> Option<T>) -> T {
        let deadline = Instant::now() + SOON;
        let mut state = self.shared.state.lock().unwrap();
        loop {
            if let Some(answer) = ask(&state.heard) {
                return answer;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let heard = || state.heard.iter().map(Heard::counts).collect::<Vec<_>>();
            assert!(!left.is_zero(), "no {what}; heard {:?}, refused {:?}", heard(), state.refused);
            state = self.shared.more.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits for so many transactions, and gives the first datagram of each.
    pub fn transactions(&self, count: usize) -> Vec<Heard> {
        self.wait(&format!("{count} transactions"), |heard| {
            let first: Vec<Heard> = heard.iter().filter(|one| one.copy == 1).cloned().collect();
            (first.len() >= count).then_some(first)
        })
    }

    /// Waits for a NOTIFY with these counts, for this user.
    pub fn told(&self, user: &str, counts: &str) -> Heard {
        let to = format!("<sip:{user}@");
        self.wait(&format!("{counts} for {user}"), |heard| {
            let mut all = heard.iter();
            all.find(|one| one.header("To").starts_with(&to) && one.counts() == counts).cloned()
        })
    }

    /// Everything that was heard so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.shared.state.lock().unwrap().heard.clone()
    }

    /// Waits until the phone of this Call-ID shows these counts: then it believed them.
    pub fn shows(&self, call_id: &str, counts: &str) {
        let deadline = Instant::now() + SOON;
        let mut state = self.shared.state.lock().unwrap();
        loop {
            let shown = state.phones[call_id].shows.map(|(_, summary)| summary.to_string());
            if shown.as_deref() == Some(counts) {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{call_id} shows {shown:?}; refused {:?}", state.refused);
            state = self.shared.more.wait_timeout(state, left).unwrap().0;
        }
    }

    /// What the phones did not believe.
    pub fn refused(&self) -> Vec<String> {
        self.shared.state.lock().unwrap().refused.clone()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed by itself.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn listen(&self, socket: &UdpSocket) {
        let mut buffer = [0; 65_535];
        while !self.end.load(Ordering::SeqCst) {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
            let datagram = &buffer[..length];
            let message = Message::parse(datagram).unwrap();
            let mut state = self.state.lock().unwrap();
            let branch = message.via().unwrap().branch().unwrap().to_owned();
            let copy = state.branches.entry(branch).and_modify(|copies| *copies += 1).or_insert(1);
            let heard = Heard { at: Instant::now(), from, message, copy: *copy };
            for answer in state.react(&heard, datagram) {
                // Loopback takes it; and if not, mwid sends its NOTIFY again.
                let _ = socket.send_to(&answer, from);
            }
            state.heard.push(heard);
            self.more.notify_all();
        }
    }
}

impl State {
    fn react(&mut self, heard: &Heard, datagram: &[u8]) -> Vec<Vec<u8>> {
        if let Some(script) = &mut self.script {
            return script(heard);
        }
        let call_id = heard.message.call_id().unwrap();
        let Some(phone) = self.phones.get_mut(call_id) else {
            self.refused.push(format!("nobody has the Call-ID {call_id}"));
            return vec![heard.answer(481, "")];
        };
        match phone.handle(datagram, clock::unix()) {
            Reaction::Believed(notified) => vec![notified.answer],
            Reaction::Repeated(answer) => vec![answer],
            Reaction::Refused { why, answer, .. } => {
                self.refused.push(why);
                vec![answer]
            }
            Reaction::Ignored(why) => {
                self.refused.push(why);
                Vec::new()
            }
        }
    }
}
