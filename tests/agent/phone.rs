//! A phone, written from RFC 6665 and RFC 3261 alone: raw UDP, and its own reader of messages.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::support::SOON;
use crate::support::sip::Message;

/// A phone with one dialog at a time.
pub struct Phone {
    socket: UdpSocket,
    agent: SocketAddr,
    pub user: String,
    pub call_id: String,
    pub tag: String,
    pub cseq: u32,
    /// The account that it watches, its own by default.
    pub account: String,
    /// What the 2xx said: the agent's tag and Contact.
    pub dialog: Option<(String, String)>,
    /// The Event parameter `id`.
    pub event_id: Option<String>,
    /// Of the last NOTIFY.
    pub notified: u32,
    /// Whether it answers NOTIFYs, or has lost its power.
    pub answers: bool,
    copies: Vec<String>,
}

impl Phone {
    pub fn new(user: &str, agent: SocketAddr) -> Self {
        Self::at("127.0.0.1", user, agent)
    }

    pub fn at(address: &str, user: &str, agent: SocketAddr) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let socket = UdpSocket::bind((address, 0)).unwrap();
        Self {
            socket,
            agent,
            user: user.to_owned(),
            call_id: format!("call-{count}@phone"),
            tag: format!("phone{count}"),
            cseq: 0,
            account: format!("sip:{user}@example.com"),
            dialog: None,
            event_id: None,
            notified: 0,
            answers: true,
            copies: Vec::new(),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    pub fn contact(&self) -> String {
        format!("sip:{}@{};ob", self.user, self.address())
    }

    /// It has started again: it knows nothing of its dialog, and its address is the same.
    pub fn reboot(&mut self) {
        let fresh = Self::new(&self.user, self.agent);
        self.call_id = fresh.call_id;
        self.tag = fresh.tag;
        (self.cseq, self.dialog, self.notified) = (0, None, 0);
        self.copies.clear();
    }

    /// It has got another address; its dialog goes on.
    pub fn move_away(&mut self) {
        self.socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    }

    /// The next SUBSCRIBE, in its dialog if it has one. `more` are whole header lines.
    pub fn subscribe_text(&mut self, expires: &str, more: &str) -> String {
        static BRANCH: AtomicU32 = AtomicU32::new(1);
        let branch = BRANCH.fetch_add(1, Ordering::Relaxed);
        self.cseq += 1;
        let (to_tag, uri) = match &self.dialog {
            Some((tag, target)) => (format!(";tag={tag}"), target.clone()),
            None => (String::new(), self.account.clone()),
        };
        let id = self.event_id.as_ref().map(|id| format!(";id={id}")).unwrap_or_default();
        let expires =
            if expires.is_empty() { String::new() } else { format!("Expires: {expires}\r\n") };
        format!(
            "SUBSCRIBE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {};rport;branch=z9hG4bKp{branch}\r\n\
             Max-Forwards: 70\r\nFrom: \"A phone\" <sip:{}@example.com>;tag={}\r\n\
             To: <{}>{to_tag}\r\nCall-ID: {}\r\nCSeq: {} SUBSCRIBE\r\nContact: <{}>\r\n\
             Event: message-summary{id}\r\nAccept: application/simple-message-summary\r\n\
             {expires}{more}Content-Length: 0\r\n\r\n",
            self.address(),
            self.user,
            self.tag,
            self.account,
            self.call_id,
            self.cseq,
            self.contact(),
        )
    }

    pub fn send(&self, text: impl AsRef<[u8]>) {
        self.socket.send_to(text.as_ref(), self.agent).unwrap();
    }

    /// Subscribes or refreshes, and gives the answer.
    pub fn ask(&mut self, expires: &str, more: &str) -> Message {
        let text = self.subscribe_text(expires, more);
        self.send(&text);
        let answer = self.response();
        if answer.status() == Some(200) {
            let tag = answer.parameter("To", "tag").expect("a 2xx makes a dialog").to_owned();
            let contact = answer.header("Contact").expect("a 2xx has a Contact");
            let target = contact.trim_matches(['<', '>']).to_owned();
            if let Some((before, _)) = &self.dialog {
                assert_eq!(*before, tag, "a refresh stays in its dialog");
            }
            self.dialog = Some((tag, target));
        }
        answer
    }

    /// Subscribes over a bad line: the same datagram again and again until it is answered (Timer E).
    pub fn ask_again(&mut self, expires: &str) -> Message {
        let text = self.subscribe_text(expires, "");
        let answer = self.send_again(&text);
        let tag = answer.parameter("To", "tag").unwrap_or_default().to_owned();
        self.dialog = Some((tag, String::new()));
        answer
    }

    /// Sends the same again and again until something comes.
    pub fn send_again(&self, text: &str) -> Message {
        let deadline = Instant::now() + SOON;
        loop {
            self.send(text);
            if let Some(answer) = self.receive(Duration::from_millis(500)) {
                return answer;
            }
            assert!(Instant::now() < deadline, "no answer to {text}");
        }
    }

    /// The subscription as it begins: 200 first, and then the NOTIFY with the state.
    pub fn subscribe(&mut self, expires: u32) -> Message {
        let answer = self.ask(&expires.to_string(), "");
        assert_eq!(answer.status(), Some(200), "{answer:?}");
        assert_eq!(answer.header("Expires"), Some(expires.to_string().as_str()));
        self.notify()
    }

    /// The next answer; a NOTIFY before it is too early, unless it is a copy of one that was answered:
    /// on a busy machine mwid may see that answer late.
    pub fn response(&mut self) -> Message {
        loop {
            let message = self.receive(SOON).expect("an answer");
            if message.status().is_some() {
                return message;
            }
            let is_copy = self.copies.iter().any(|branch| branch == message.branch());
            assert!(is_copy, "a request came first: {message:?}");
            self.take(message);
        }
    }

    /// The next answer; the NOTIFYs before it are of dialogs from before a reboot.
    pub fn response_at_last(&mut self) -> Message {
        loop {
            let message = self.receive(SOON).expect("an answer");
            if message.status().is_some() {
                return message;
            }
            self.take(message);
        }
    }

    /// The next NOTIFY, checked and answered.
    pub fn notify(&mut self) -> Message {
        loop {
            let message = self.receive(SOON).expect("a NOTIFY");
            if message.status() == Some(200) {
                // The answer to a copy of the SUBSCRIBE.
                continue;
            }
            assert_eq!(message.method(), Some("NOTIFY"), "{message:?}");
            if let Some(notify) = self.take(message) {
                return notify;
            }
        }
    }

    /// The NOTIFYs that came meanwhile, until one fits.
    pub fn notify_until(&mut self, what: &str, fits: impl Fn(&Message) -> bool) -> Message {
        let deadline = Instant::now() + SOON;
        loop {
            let notify = self.notify();
            if fits(&notify) {
                return notify;
            }
            assert!(Instant::now() < deadline, "no {what}, but {notify:?}");
        }
    }

    /// Answers whatever comes until that is so.
    pub fn attend_until(&mut self, what: &str, done: impl Fn() -> bool) {
        let deadline = Instant::now() + SOON;
        while !done() {
            assert!(Instant::now() < deadline, "not {what}");
            if let Some(notify) = self.receive(Duration::from_millis(20)) {
                self.take(notify);
            }
        }
    }

    /// Nothing that has not come yet comes before the agent has answered an OPTIONS.
    pub fn assert_quiet(&mut self) {
        let own = self.address();
        self.send(format!(
            "OPTIONS sip:{} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKo{own};rport\r\n\
             From: <sip:a@b>;tag=o\r\nTo: <sip:{}>\r\nCall-ID: {own}\r\nCSeq: 1 OPTIONS\r\n\r\n",
            self.agent, self.agent
        ));
        let answer = self.receive(SOON).expect("an answer to OPTIONS");
        assert!(answer.header("CSeq").unwrap().ends_with("OPTIONS"), "{answer:?}");
    }

    fn take(&mut self, notify: Message) -> Option<Message> {
        if !self.answers {
            return Some(notify);
        }
        let of_ours = notify.parameter("To", "tag") == Some(&self.tag)
            && notify.header("Call-ID") == Some(&self.call_id);
        if !of_ours {
            // Of a dialog from before a reboot.
            self.answer(&notify, "481 Subscription Does Not Exist");
            return None;
        }
        self.answer(&notify, "200 OK");
        if self.copies.iter().any(|branch| branch == notify.branch()) {
            return None;
        }
        self.copies.push(notify.branch().to_owned());
        let tag = self.dialog.as_ref().map(|(tag, _)| tag.as_str());
        assert_eq!(notify.parameter("From", "tag"), tag, "the notifier's tag is that of the 2xx");
        assert!(notify.cseq() > self.notified, "CSeq {} after {}", notify.cseq(), self.notified);
        assert_eq!(notify.request_uri(), Some(self.contact().as_str()));
        let event = match &self.event_id {
            Some(id) => format!("message-summary;id={id}"),
            None => "message-summary".to_owned(),
        };
        assert_eq!(notify.header("Event"), Some(event.as_str()));
        self.notified = notify.cseq();
        Some(notify)
    }

    fn answer(&self, request: &Message, status: &str) {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for (name, value) in &request.headers {
            if ["Via", "From", "To", "Call-ID", "CSeq"].contains(&name.as_str()) {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        text.push_str("Content-Length: 0\r\n\r\n");
        // Of several agents any may have sent it (RFC 3261 §18.2.2).
        let via = request.header("Via").unwrap();
        let sent_by = via.split([' ', ';']).nth(1).unwrap();
        self.socket.send_to(text.as_bytes(), sent_by).unwrap();
    }

    /// The next datagram, whatever it is.
    pub fn receive(&self, patience: Duration) -> Option<Message> {
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 65_535];
        let length = self.socket.recv(&mut buffer).ok()?;
        let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
        Some(Message::parse(&text).unwrap_or_else(|| panic!("no message: {text:?}")))
    }
}

/// What a NOTIFY says of the subscription.
pub fn state(notify: &Message) -> &str {
    notify.header("Subscription-State").expect("RFC 6665 §4.1.3: a NOTIFY has it")
}

/// The seconds that are left.
pub fn left(notify: &Message) -> u32 {
    let left = state(notify).strip_prefix("active;expires=");
    left.and_then(|left| left.parse().ok()).unwrap_or_else(|| panic!("not live: {notify:?}"))
}

/// The counts of a NOTIFY, `None` when its body is empty.
pub fn counts(notify: &Message) -> Option<&str> {
    notify.summary_line("Voice-Message")
}
