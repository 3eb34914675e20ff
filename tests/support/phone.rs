//! Phones: SIPp with `tests/fixtures/sipp/phone.xml`, subscribed through the real proxy.

use std::cell::Cell;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::group::Group;
use super::kamailio::Kamailio;
use super::net::UdpPort;
use super::sip::Message;
use super::trace;
use super::{SOON, wait_for};

const BINARY: &str = "sipp";
/// Until an order is given again that SIPp did not follow.
const ORDER: Duration = Duration::from_secs(1);
const SCENARIO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sipp/phone.xml");

/// What a phone answers to the NOTIFYs of its dialog, after the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// 200.
    #[default]
    Ok,
    /// 481: it has forgotten the subscription.
    Gone,
    /// 500, always.
    Error,
    /// Nothing: it has lost its power.
    Silence,
}

impl Answer {
    fn key(self) -> &'static str {
        match self {
            Self::Ok => "200",
            Self::Gone => "481",
            Self::Error => "500",
            Self::Silence => "none",
        }
    }
}

/// A phone that is still to be plugged in.
#[derive(Clone, Debug)]
pub struct Setup {
    user: String,
    domain: String,
    account: String,
    expires: u32,
    answer: Answer,
}

impl Setup {
    /// Watches this account (`sip:300@example.com`) instead of its own.
    #[must_use]
    pub fn watching(mut self, account: impl Into<String>) -> Self {
        self.account = account.into();
        self
    }

    /// Subscribes for so many seconds instead of 600.
    #[must_use]
    pub fn expires(mut self, seconds: u32) -> Self {
        self.expires = seconds;
        self
    }

    /// Answers so, after the first NOTIFY.
    #[must_use]
    pub fn answering(mut self, answer: Answer) -> Self {
        self.answer = answer;
        self
    }

    /// Plugs the phone in and waits until it has answered its first NOTIFY.
    pub fn subscribe(self, kamailio: &Kamailio) -> Phone {
        let folder = TempDir::with_prefix("mwid-phone-").expect("a temporary folder");
        let output = fs::File::create(folder.path().join("sipp.out")).expect("our own folder");
        let copy = output.try_clone().expect("a file handle can be doubled");
        let mut command = Command::new(BINARY);
        command.arg(kamailio.address().to_string()).args(["-sf", SCENARIO, "-i", "127.0.0.1"]);
        // One call; what the scenario doesn't expect is neither answered nor its end.
        command.args(["-m", "1", "-nostdin", "-default_behaviors", "none", "-trace_msg"]);
        command.arg("-message_file").arg(folder.path().join("trace"));
        // It binds ports for media that never flow, all phones the same ones: each at an address of
        // its own.
        let media = UdpPort::claim();
        let [high, low] = media.address().port().to_be_bytes();
        command.args(["-mi", &format!("127.1.{high}.{low}")]);
        let expires = self.expires.to_string();
        for (key, value) in [
            ("user", self.user.as_str()),
            ("domain", &self.domain),
            ("account", &self.account),
            ("expires", &expires),
            ("answer", self.answer.key()),
        ] {
            command.args(["-key", key, value]);
        }
        // The times of its trace are those of the day in UTC.
        command.current_dir(folder.path()).env("TZ", "UTC");
        let group = Group::spawn(command.stdout(Stdio::from(copy)).stderr(Stdio::from(output)))
            .unwrap_or_else(|error| panic!("{BINARY}: {error}; scripts/setup installs it"));
        let mut phone = Phone { setup: self, folder, group, orders: Cell::new(0) };
        wait_for("answered NOTIFY", SOON, || {
            if let Some(status) = phone.group.ended() {
                panic!("SIPp ended with {status}:\n{}", phone.output());
            }
            let first = phone.notifies().first().map(Message::cseq)?;
            phone.answers_to(first).first().copied()
        });
        phone
    }
}

/// A subscribed phone. It ends, without a word on the wire, when this is dropped.
#[derive(Debug)]
pub struct Phone {
    setup: Setup,
    folder: TempDir,
    group: Group,
    orders: Cell<u32>,
}

impl Phone {
    /// A phone of `sip:user@domain` that watches its own account.
    pub fn of(user: &str, domain: &str) -> Setup {
        Setup {
            user: user.into(),
            domain: domain.into(),
            account: format!("sip:{user}@{domain}"),
            expires: 600,
            answer: Answer::default(),
        }
    }

    /// [`Phone::of`] and [`Setup::subscribe`] in one.
    pub fn subscribe(kamailio: &Kamailio, user: &str, domain: &str) -> Self {
        Self::of(user, domain).subscribe(kamailio)
    }

    /// All that it has sent and received, in order.
    pub fn messages(&self) -> Vec<trace::Entry> {
        fs::read_to_string(self.trace()).map_or_else(|_| Vec::new(), |text| trace::parse(&text))
    }

    /// The NOTIFYs that it received, in order. A copy of one that it had already is left out.
    pub fn notifies(&self) -> Vec<Message> {
        let mut notifies: Vec<Message> = Vec::new();
        for entry in self.messages() {
            let is_notify =
                entry.way == trace::Way::Received && entry.message.method() == Some("NOTIFY");
            if is_notify && notifies.iter().all(|n| n.branch() != entry.message.branch()) {
                notifies.push(entry.message);
            }
        }
        notifies
    }

    /// The codes that it answered NOTIFYs of this CSeq with, in order.
    pub fn answers_to(&self, cseq: u32) -> Vec<u16> {
        let sent = self.messages().into_iter().filter(|entry| entry.way == trace::Way::Sent);
        let of_cseq = sent.filter(|entry| entry.message.cseq() == cseq);
        of_cseq.filter_map(|entry| entry.message.status()).collect()
    }

    /// Waits for a NOTIFY, seen already or not, that `is_it` says yes to.
    pub fn wait_for_notify(&self, is_it: impl Fn(&Message) -> bool, deadline: Duration) -> Message {
        wait_for("such NOTIFY", deadline, || self.notifies().into_iter().find(&is_it))
    }

    /// Waits for a NOTIFY with this `Voice-Message`: `1/0 (0/0)`.
    pub fn wait_for_lamp(&self, voice_message: &str, deadline: Duration) -> Message {
        self.wait_for_notify(|n| n.summary_line("Voice-Message") == Some(voice_message), deadline)
    }

    /// Waits until it has answered `count` NOTIFYs, and gives these.
    pub fn wait_for_count(&self, count: usize, deadline: Duration) -> Vec<Message> {
        wait_for("further NOTIFY and its answer", deadline, || {
            let notifies = self.notifies();
            let answered = |n: &Message| !self.answers_to(n.cseq()).is_empty();
            (notifies.len() >= count && notifies.iter().all(answered)).then_some(notifies)
        })
    }

    /// Refreshes the subscription and waits for the proxy's 200.
    pub fn refresh(&self) {
        self.order("REFRESH");
    }

    /// Ends the subscription with `Expires: 0` and waits for the proxy's 200.
    pub fn unsubscribe(&self) {
        self.order("UNSUBSCRIBE");
    }

    /// Call-ID of the dialog.
    pub fn call_id(&self) -> String {
        self.first_subscribe().header("Call-ID").expect("SIPp sends Call-ID").into()
    }

    /// The phone's tag in the dialog.
    pub fn tag(&self) -> String {
        self.first_subscribe().parameter("From", "tag").expect("the scenario has a tag").into()
    }

    /// The proxy's tag in the dialog.
    pub fn server_tag(&self) -> String {
        let answers = self.subscribe_answers();
        let first = answers.first().expect("it is subscribed");
        first.parameter("To", "tag").expect("a 200 has a tag (RFC 6665 §4.2.1.1)").into()
    }

    /// What the proxy gave as its Contact, without brackets.
    pub fn target(&self) -> String {
        let answers = self.subscribe_answers();
        let contact = answers.first().and_then(|answer| answer.header("Contact"));
        contact.expect("a 200 has a Contact (RFC 6665 §4.2.1.1)").trim_matches(['<', '>']).into()
    }

    /// What the phone gives as its Contact, without brackets.
    pub fn contact(&self) -> String {
        let subscribe = self.first_subscribe();
        let contact = subscribe.header("Contact").expect("the scenario has a Contact");
        contact.trim_matches(['<', '>']).into()
    }

    /// Where the phone listens.
    pub fn address(&self) -> SocketAddr {
        let contact = self.contact();
        let host = contact.split(['@', ';']).nth(1).expect("sip:user@host:port;ob");
        host.parse().expect("SIPp gives its address and port")
    }

    /// Panics unless every NOTIFY so far belongs to the dialog and has a higher CSeq than the one
    /// before.
    pub fn assert_dialog_is_whole(&self) {
        let mut highest = 0;
        for notify in self.notifies() {
            assert_eq!(notify.header("Call-ID"), Some(self.call_id().as_str()), "{notify:?}");
            assert_eq!(notify.parameter("To", "tag"), Some(self.tag().as_str()), "{notify:?}");
            let from = notify.parameter("From", "tag");
            assert_eq!(from, Some(self.server_tag().as_str()), "{notify:?}");
            assert!(notify.cseq() > highest, "CSeq {highest} came before {notify:?}");
            highest = notify.cseq();
        }
    }

    fn trace(&self) -> PathBuf {
        self.folder.path().join("trace")
    }

    fn output(&self) -> String {
        fs::read_to_string(self.folder.path().join("sipp.out")).unwrap_or_default()
    }

    fn first_subscribe(&self) -> Message {
        let mut messages = self.messages().into_iter().map(|entry| entry.message);
        messages.find(|m| m.method() == Some("SUBSCRIBE")).expect("it begins with a SUBSCRIBE")
    }

    fn subscribes_sent(&self) -> usize {
        let sent = self.messages().into_iter().filter(|entry| entry.way == trace::Way::Sent);
        sent.filter(|entry| entry.message.method() == Some("SUBSCRIBE")).count()
    }

    fn subscribe_answers(&self) -> Vec<Message> {
        let received = self.messages().into_iter().filter(|e| e.way == trace::Way::Received);
        let answers = received.map(|e| e.message).filter(|m| m.status() == Some(200));
        answers.filter(|m| m.header("CSeq").is_some_and(|c| c.ends_with("SUBSCRIBE"))).collect()
    }

    /// Tells the scenario to send its next SUBSCRIBE, by a datagram with the Call-ID of its call.
    fn order(&self, method: &str) {
        let order = self.orders.get() + 1;
        self.orders.set(order);
        let before = self.subscribe_answers().len();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on 127.0.0.1");
        let own = socket.local_addr().expect("it is bound");
        let text = [
            format!("{method} {} SIP/2.0", self.contact()),
            format!("Via: SIP/2.0/UDP {own};branch=z9hG4bKorder{order}"),
            format!("From: <sip:test@{own}>;tag=test"),
            format!("To: <{}>", self.contact()),
            format!("Call-ID: {}", self.call_id()),
            format!("CSeq: {order} {method}"),
            "Content-Length: 0\r\n\r\n".into(),
        ]
        .join("\r\n");
        // SIPp drops an order that comes between a NOTIFY and its answer: it is given again then.
        let (subscribes, mut due) = (self.subscribes_sent(), Instant::now());
        wait_for("200 to the SUBSCRIBE", SOON, || {
            if Instant::now() >= due && self.subscribes_sent() == subscribes {
                socket.send_to(text.as_bytes(), self.address()).expect("loopback takes it");
                due = Instant::now() + ORDER;
            }
            (self.subscribe_answers().len() > before).then_some(())
        });
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        if thread::panicking() {
            let trace = fs::read_to_string(self.trace()).unwrap_or_default();
            eprintln!("--- trace of {}@{}\n{trace}", self.setup.user, self.setup.domain);
        }
    }
}
