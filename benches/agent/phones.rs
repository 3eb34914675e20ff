//! A proxy and all phones behind it: one socket that subscribes, refreshes, and answers NOTIFYs.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mwid_core::message::{Message, StartLine};

use crate::common::phones::{ok, receive, shown, socket};
use crate::common::site::user;

/// The phones. They end with this.
pub struct Phones {
    agent: SocketAddr,
    socket: Arc<UdpSocket>,
    pub heard: Arc<Heard>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
pub struct Heard {
    stop: AtomicBool,
    pub state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    phones: Vec<Phone>,
    pub times: Times,
}

/// How long things took since the last [`Phones::times`].
#[derive(Default)]
pub struct Times {
    pub to_answer: Vec<Duration>,
    pub to_notify: Vec<Duration>,
    pub change: Vec<Duration>,
    pub refused: usize,
}

#[derive(Clone, Default)]
struct Phone {
    tag: Option<String>,
    cseq: u32,
    unanswered: Option<Instant>,
    untold: Option<Instant>,
    change: Option<(Instant, u32)>,
}

impl Phones {
    pub fn open(size: usize, agent: SocketAddr) -> Self {
        let socket = Arc::new(socket());
        let heard = Arc::new(Heard::default());
        heard.state.lock().unwrap().phones.resize(size, Phone::default());
        let thread = thread::spawn({
            let (heard, socket) = (heard.clone(), socket.clone());
            move || heard.answer(&socket)
        });
        Self { agent, socket, heard, thread: Some(thread) }
    }

    /// Sends the next SUBSCRIBE of a phone, in its dialog if it has one.
    pub fn subscribe(&self, number: usize) {
        let user = user(number);
        let own = self.socket.local_addr().unwrap();
        let mut state = self.heard.state.lock().unwrap();
        let phone = &mut state.phones[number];
        phone.cseq += 1;
        let (target, tag) = match &phone.tag {
            Some(tag) => (format!("sip:{}", self.agent), format!(";tag={tag}")),
            None => (format!("sip:{user}@example.com"), String::new()),
        };
        let text = format!(
            "SUBSCRIBE {target} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {own};rport;branch=z9hG4bK{number}.{}\r\nMax-Forwards: 69\r\n\
             Record-Route: <sip:{own};lr>\r\nFrom: <sip:{user}@example.com>;tag=p{number}\r\n\
             To: <sip:{user}@example.com>{tag}\r\nCall-ID: {number}@phones\r\n\
             CSeq: {} SUBSCRIBE\r\nContact: <sip:{user}@192.0.2.7:5062>\r\n\
             Event: message-summary\r\nExpires: 1200\r\nContent-Length: 0\r\n\r\n",
            phone.cseq, phone.cseq,
        );
        let now = Instant::now();
        (phone.unanswered, phone.untold) = (Some(now), Some(now));
        drop(state);
        self.socket.send_to(text.as_bytes(), self.agent).unwrap();
    }

    /// This phone's account has so many new messages from now on.
    pub fn changes(heard: &Heard, number: usize, new: u32) {
        heard.state.lock().unwrap().phones[number].change = Some((Instant::now(), new));
    }

    /// How many wait for an answer, for the NOTIFY after it, and for the NOTIFY of a change.
    pub fn waiting(&self) -> (usize, usize, usize) {
        let state = self.heard.state.lock().unwrap();
        let count = |is: fn(&Phone) -> bool| state.phones.iter().filter(|it| is(it)).count();
        (
            count(|it| it.unanswered.is_some()),
            count(|it| it.untold.is_some()),
            count(|it| it.change.is_some()),
        )
    }

    /// How long changes took since the last time.
    pub fn changes_told(&self) -> Vec<Duration> {
        std::mem::take(&mut self.heard.state.lock().unwrap().times.change)
    }

    /// What was measured since the last time.
    pub fn times(&self) -> Times {
        std::mem::take(&mut self.heard.state.lock().unwrap().times)
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
    fn answer(&self, socket: &UdpSocket) {
        let mut buffer = vec![0; 65_535];
        while !self.stop.load(Ordering::Relaxed) {
            let Some((length, from)) = receive(socket, &mut buffer) else { continue };
            let at = Instant::now();
            let message = Message::parse(&buffer[..length]).unwrap();
            let is_request = matches!(message.start(), StartLine::Request { .. });
            if is_request {
                socket.send_to(&ok(&message), from).unwrap();
            }
            let call_id = message.header("Call-ID").unwrap();
            let number: usize = call_id.split('@').next().unwrap().parse().unwrap();
            let mut state = self.state.lock().unwrap();
            let State { phones, times } = &mut *state;
            if is_request {
                phones[number].told(at, &message, times);
            } else {
                phones[number].answered(at, &message, times);
            }
        }
    }
}

impl Phone {
    fn answered(&mut self, at: Instant, answer: &Message, times: &mut Times) {
        if !matches!(answer.start(), StartLine::Status { code: 200, .. }) {
            times.refused += 1;
            return;
        }
        self.tag = answer.to_tag().unwrap().map(str::to_owned);
        times.to_answer.extend(self.unanswered.take().map(|since| at - since));
    }

    fn told(&mut self, at: Instant, notify: &Message, times: &mut Times) {
        times.to_notify.extend(self.untold.take().map(|since| at - since));
        if let (Some((since, new)), Some(shown)) = (self.change, shown(notify))
            && shown.starts_with(&format!("{new}/"))
        {
            times.change.push(at - since);
            self.change = None;
        }
    }
}
