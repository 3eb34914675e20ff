//! Non-INVITE server transactions over UDP (RFC 3261 §17.2.2, §17.2.3): a request that comes again
//! gets the answer that it got before, and is not carried out twice.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use super::envelope::Reply;
use crate::message::Message;

/// Names a server transaction (RFC 3261 §17.2.3): branch, sent-by and method; for a sender that knows
/// no branches, everything that tells its requests apart. A keyed hash, so that nobody can make two
/// of them fall together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(u64, u64);

impl Key {
    pub(super) fn of(request: &Message, method: &str, secret: u64) -> Self {
        let via = request.via().ok();
        let branch = via.and_then(|via| via.branch()).filter(|branch| {
            branch.get(..7).is_some_and(|cookie| cookie.eq_ignore_ascii_case("z9hG4bK"))
        });
        let sent_by = via.map(|via| via.value().split(';').next().unwrap_or_default());
        let half = |which: u8| {
            let mut hasher = DefaultHasher::new();
            (secret, which, sent_by, method).hash(&mut hasher);
            match branch {
                Some(branch) => branch.to_ascii_lowercase().hash(&mut hasher),
                None => {
                    for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
                        request.header(name).hash(&mut hasher);
                    }
                }
            }
            hasher.finish()
        };
        Self(half(0), half(1))
    }
}

/// What a request is to its transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// The first copy: to be carried out, and answered.
    New,
    /// A copy of one that is being carried out: absorbed.
    Absorbed,
    /// A copy of one that was answered: the same answer again.
    Again(Reply),
    /// There are as many as there may be.
    Full,
}

/// All server transactions. Each is forgotten 64 × T1 after it began (Timer J, and as long for one
/// that is never answered).
#[derive(Debug)]
pub(super) struct Transactions {
    /// The answer, once there is one.
    known: HashMap<Key, Option<Reply>>,
    ends: VecDeque<(Instant, Key)>,
    timer_j: Duration,
    capacity: usize,
}

impl Transactions {
    pub(super) fn new(timer_j: Duration, capacity: usize) -> Self {
        Self { known: HashMap::new(), ends: VecDeque::new(), timer_j, capacity }
    }

    pub(super) fn begin(&mut self, key: Key, now: Instant) -> Begin {
        while self.ends.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.ends.pop_front() {
                self.known.remove(&key);
            }
        }
        match self.known.get(&key) {
            Some(Some(reply)) => return Begin::Again(reply.clone()),
            Some(None) => return Begin::Absorbed,
            None => {}
        }
        if self.known.len() >= self.capacity && !self.make_room() {
            return Begin::Full;
        }
        self.known.insert(key, None);
        self.ends.push_back((now + self.timer_j, key));
        Begin::New
    }

    /// Forgets the oldest one that was answered before its time; its copy would be carried out once
    /// more, which changes nothing: a row is made and changed by what the request says alone.
    fn make_room(&mut self) -> bool {
        let answered = |(_, key): &(Instant, Key)| matches!(self.known.get(key), Some(Some(_)));
        let Some(index) = self.ends.iter().position(answered) else { return false };
        if let Some((_, key)) = self.ends.remove(index) {
            self.known.remove(&key);
        }
        true
    }

    /// The answer, for this copy and those that follow.
    pub(super) fn answer(&mut self, key: Key, reply: &Reply) {
        if let Some(answer) = self.known.get_mut(&key) {
            *answer = Some(reply.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(via: &str, call_id: &str) -> Message {
        let text = format!(
            "SUBSCRIBE sip:a@b SIP/2.0\r\nVia: {via}\r\nCall-ID: {call_id}\r\nCSeq: 1 SUBSCRIBE\r\n\r\n"
        );
        Message::parse(text.as_bytes()).unwrap()
    }

    fn key(via: &str, call_id: &str) -> Key {
        Key::of(&request(via, call_id), "SUBSCRIBE", 1)
    }

    fn reply() -> Reply {
        Reply { to: "192.0.2.1:5060".parse().unwrap(), bytes: (*b"SIP/2.0 200 OK").into() }
    }

    #[test]
    fn rfc3261_17_2_3_branch_and_sent_by_tell_requests_apart() {
        let first = key("SIP/2.0/UDP h:1;branch=z9hG4bKabc", "1");
        assert_eq!(first, key("SIP/2.0/UDP h:1;rport;branch=Z9HG4BKABC", "2"));
        assert_ne!(first, key("SIP/2.0/UDP h:2;branch=z9hG4bKabc", "1"));
        assert_ne!(first, key("SIP/2.0/UDP h:1;branch=z9hG4bKabd", "1"));
        let old = key("SIP/2.0/UDP h;branch=1", "1");
        assert_eq!(old, key("SIP/2.0/UDP h;branch=1", "1"));
        assert_ne!(old, key("SIP/2.0/UDP h;branch=1", "2"));
    }

    #[test]
    fn rfc3261_17_2_2_a_copy_is_absorbed_and_then_answered_again_until_timer_j() {
        let start = Instant::now();
        let mut transactions = Transactions::new(Duration::from_secs(32), 10);
        let key = key("SIP/2.0/UDP h;branch=z9hG4bK1", "1");
        assert_eq!(transactions.begin(key, start), Begin::New);
        assert_eq!(transactions.begin(key, start), Begin::Absorbed);
        transactions.answer(key, &reply());
        let late = start + Duration::from_millis(31_999);
        assert_eq!(transactions.begin(key, late), Begin::Again(reply()));
        assert_eq!(transactions.begin(key, start + Duration::from_secs(32)), Begin::New);
    }

    #[test]
    fn there_are_only_so_many_and_the_oldest_that_was_answered_makes_room() {
        let now = Instant::now();
        let mut transactions = Transactions::new(Duration::from_secs(32), 2);
        let key = |n: u32| key(&format!("SIP/2.0/UDP h;branch=z9hG4bK{n}"), "1");
        assert_eq!(transactions.begin(key(1), now), Begin::New);
        assert_eq!(transactions.begin(key(2), now), Begin::New);
        assert_eq!(transactions.begin(key(3), now), Begin::Full, "both are being carried out");
        transactions.answer(key(2), &reply());
        assert_eq!(transactions.begin(key(3), now), Begin::New);
        assert_eq!(transactions.begin(key(1), now), Begin::Absorbed);
        assert_eq!(transactions.known.len(), 2);
    }
}
