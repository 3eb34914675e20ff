//! One phone, what it believed, and what mwid owes to it.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mwid::demo::phone::{Notified, Phone, Reaction, Subscription};
use mwid_core::message::Message;
use mwid_core::summary::Summary;

/// Which of mwid's promises can be watched from the phone's end of the network.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// `[timers] min_interval`.
    pub min_interval: Duration,
    /// A NOTIFY that was not answered is not followed by another one before this.
    pub timer_f: Duration,
    /// Datagrams arrive in the order in which they were sent, and none gets lost.
    pub orderly: bool,
    /// Somebody else counts in these dialogs too: a 500 is no fault of mwid.
    pub shared: bool,
}

/// Who sent it: each start of mwid is another one.
pub type Sender = (u32, SocketAddr);

/// What came of a datagram.
#[derive(Debug)]
pub struct Taken {
    /// The answer; nothing for what is no NOTIFY.
    pub answer: Option<Vec<u8>>,
    /// The first copy of a NOTIFY.
    pub is_first: bool,
    /// The NOTIFY says what the one before in this dialog said.
    pub is_retry: bool,
    /// The status code.
    pub code: u16,
}

/// The phone, strict (see [`Phone`]), and its record.
#[derive(Debug)]
pub struct Handset {
    subscription: Subscription,
    phone: Phone,
    /// The highest CSeq that the phone accepted, from mwid or from the server.
    highest: u32,
    /// The answer that each branch got, and its first bytes.
    branches: HashMap<String, (Vec<u8>, Taken)>,
    /// What was sent under each CSeq.
    sent: BTreeMap<u32, Vec<u8>>,
    notifies: usize,
    last_body: Vec<u8>,
    accepted: Option<(Sender, Instant)>,
    unanswered: Option<(Sender, Instant)>,
    /// Whose NOTIFYs were answered with 500 since the last one that was accepted, and how many.
    too_low: Option<(Sender, u32)>,
    /// The longest such row.
    most_too_low: u32,
}

impl Handset {
    /// A phone whose first, empty NOTIFY has come.
    pub fn new(subscription: Subscription) -> Self {
        Self {
            phone: Phone::new(subscription.clone()),
            highest: subscription.cseq,
            subscription,
            branches: HashMap::new(),
            sent: BTreeMap::new(),
            notifies: 0,
            last_body: Vec::new(),
            accepted: None,
            unanswered: None,
            too_low: None,
            most_too_low: 0,
        }
    }

    /// What its display says; nothing after an empty NOTIFY.
    pub fn shows(&self) -> Option<Summary> {
        self.phone.shows.map(|(_, summary)| summary)
    }

    /// NOTIFYs of mwid, copies not counted.
    pub fn notifies(&self) -> usize {
        self.notifies
    }

    /// The longest row of 500s that it answered to mwid.
    pub fn most_too_low(&self) -> u32 {
        self.most_too_low
    }

    /// The presence server's own NOTIFY, with an empty body: the lamp is forgotten. False: its
    /// CSeq is too low, the answer is 500.
    pub fn take_from_server(&mut self, cseq: u32) -> bool {
        if cseq <= self.highest {
            return false;
        }
        self.highest = cseq;
        self.phone = Phone::new(Subscription { cseq, ..self.subscription.clone() });
        true
    }

    /// Nothing is on its way any more: what was sent before, but for the last of it, is no longer
    /// needed to judge what comes.
    pub fn forget_the_past(&mut self) {
        let shows = self.phone.shows;
        self.phone = Phone::new(Subscription { cseq: self.highest, ..self.subscription.clone() });
        self.phone.shows = shows;
        self.branches.clear();
        if let Some((last, _)) = self.sent.last_key_value() {
            self.sent = self.sent.split_off(&last.clone());
        }
    }

    /// The network is cut: what was on its way is nobody's fault.
    pub fn forget_unanswered(&mut self) {
        self.unanswered = None;
    }

    /// Takes a datagram. What mwid must not do is written into `faults`.
    pub fn take(
        &mut self,
        message: &Message,
        datagram: &[u8],
        sender: Sender,
        (now, unix): (Instant, u64),
        rules: &Rules,
        faults: &mut Vec<String>,
    ) -> Taken {
        let branch = message.via().ok().and_then(|via| via.branch().map(str::to_owned));
        let branch = branch.unwrap_or_default();
        if let Some((first, taken)) = self.branches.get(&branch) {
            if first != datagram {
                faults.push(format!("two different copies: {}", text(datagram)));
            }
            return Taken {
                answer: taken.answer.clone(),
                is_first: false,
                is_retry: false,
                ..*taken
            };
        }
        let cseq = message.cseq().map_or(0, |cseq| cseq.number);
        self.watch_cseq(cseq, datagram, rules, faults);
        self.watch_pace(cseq, sender, now, rules, faults);
        let is_retry = self.last_body == message.body();
        message.body().clone_into(&mut self.last_body);
        let (code, answer) = self.react(datagram, (sender, now), unix, rules, faults);
        let taken = Taken { answer, is_first: true, is_retry, code };
        let known = Taken { answer: taken.answer.clone(), ..taken };
        self.branches.insert(branch, (datagram.to_vec(), known));
        taken
    }

    /// The answer has left.
    pub fn answered(&mut self) {
        self.unanswered = None;
    }

    /// A CSeq is used once, and later ones are higher: over kills, restarts and outages.
    fn watch_cseq(&mut self, cseq: u32, datagram: &[u8], rules: &Rules, faults: &mut Vec<String>) {
        let highest = self.sent.last_key_value().map_or(0, |(cseq, _)| *cseq);
        if rules.orderly && cseq <= highest {
            faults.push(format!("CSeq fell from {highest}: {}", text(datagram)));
        }
        self.notifies += 1;
        if let Some(other) = self.sent.insert(cseq, datagram.to_vec()) {
            faults.push(format!("CSeq used twice: {}\nand {}", text(&other), text(datagram)));
        }
    }

    /// RFC 6665 §4.2.2: one NOTIFY in flight. RFC 3842 §3.11: not too many of them.
    fn watch_pace(
        &mut self,
        cseq: u32,
        sender: Sender,
        now: Instant,
        rules: &Rules,
        faults: &mut Vec<String>,
    ) {
        let call_id = &self.subscription.call_id;
        if rules.orderly
            && let Some((other, at)) = self.unanswered
            && other == sender
            && now < at + rules.timer_f / 2
        {
            faults.push(format!("{call_id}: CSeq {cseq} was sent while another was in flight"));
        }
        if rules.orderly
            && let Some((other, at)) = self.accepted
            && other == sender
            && now < at + rules.min_interval
        {
            let gap = now - at;
            faults.push(format!("{call_id}: CSeq {cseq} came {gap:?} after the one before"));
        }
        self.unanswered = Some((sender, now));
    }

    fn react(
        &mut self,
        datagram: &[u8],
        from: (Sender, Instant),
        unix: u64,
        rules: &Rules,
        faults: &mut Vec<String>,
    ) -> (u16, Option<Vec<u8>>) {
        match self.phone.handle(datagram, unix) {
            Reaction::Believed(Notified { cseq, answer, .. }) => {
                self.highest = cseq;
                self.accepted = Some(from);
                self.too_low = None;
                (200, Some(answer))
            }
            Reaction::Repeated(answer) => (200, Some(answer)),
            Reaction::Refused { code, why, answer } => {
                if code == 500 {
                    let before = self.too_low.filter(|(other, _)| *other == from.0);
                    let row = before.map_or(1, |(_, row)| row + 1);
                    self.too_low = Some((from.0, row));
                    self.most_too_low = self.most_too_low.max(row);
                }
                // A late copy of an earlier NOTIFY comes after a later one only on a bad network.
                if code != 500 || (rules.orderly && !rules.shared) {
                    faults.push(format!("refused with {code}, {why}: {}", text(datagram)));
                }
                (code, Some(answer))
            }
            Reaction::Ignored(why) => {
                faults.push(format!("{why}: {}", text(datagram)));
                (0, None)
            }
        }
    }
}

fn text(datagram: &[u8]) -> String {
    String::from_utf8_lossy(datagram).into_owned()
}
