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

/// How many transactions there may be, and how many bytes of answers are kept for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) transactions: usize,
    pub(super) bytes: usize,
}

/// All server transactions. Each is forgotten 64 × T1 after it began (Timer J, and as long for one
/// that is never answered).
#[derive(Debug)]
pub(super) struct Transactions {
    known: HashMap<Key, Transaction>,
    ends: VecDeque<(Instant, Key)>,
    /// Those that were answered, the oldest first; some may have been forgotten since.
    answered: VecDeque<Key>,
    /// Of all answers that are kept.
    bytes: usize,
    timer_j: Duration,
    room: Room,
}

#[derive(Debug)]
struct Transaction {
    ends: Instant,
    /// The answer, once there is one.
    answer: Option<Reply>,
}

impl Transactions {
    pub(super) fn new(timer_j: Duration, room: Room) -> Self {
        let (ends, answered) = (VecDeque::new(), VecDeque::new());
        Self { known: HashMap::new(), ends, answered, bytes: 0, timer_j, room }
    }

    pub(super) fn begin(&mut self, key: Key, now: Instant) -> Begin {
        while self.ends.front().is_some_and(|(at, _)| *at <= now) {
            let Some((at, key)) = self.ends.pop_front() else { break };
            // One that made room may have begun anew since.
            if self.known.get(&key).is_some_and(|known| known.ends == at) {
                self.forget(key);
            }
        }
        match self.known.get(&key) {
            Some(Transaction { answer: Some(reply), .. }) => return Begin::Again(reply.clone()),
            Some(_) => return Begin::Absorbed,
            None => {}
        }
        if self.known.len() >= self.room.transactions && !self.make_room() {
            return Begin::Full;
        }
        self.tidy();
        let ends = now + self.timer_j;
        self.known.insert(key, Transaction { ends, answer: None });
        self.ends.push_back((ends, key));
        Begin::New
    }

    /// Forgets the oldest one that was answered before its time. Its copy would be carried out once
    /// more: a row is made and changed by what the request says alone, so that only the copy of an
    /// unsubscribe is answered otherwise, by a 481.
    fn make_room(&mut self) -> bool {
        while let Some(key) = self.answered.pop_front() {
            if self.known.get(&key).is_some_and(|known| known.answer.is_some()) {
                self.forget(key);
                return true;
            }
        }
        false
    }

    fn forget(&mut self, key: Key) {
        let answer = self.known.remove(&key).and_then(|known| known.answer);
        self.bytes -= answer.map_or(0, |reply| reply.bytes.len());
    }

    /// Keeps the queues from growing by what was forgotten before its turn.
    fn tidy(&mut self) {
        let Self { known, ends, answered, room, .. } = self;
        if ends.len() > 2 * room.transactions {
            ends.retain(|(at, key)| known.get(key).is_some_and(|known| known.ends == *at));
        }
        if answered.len() > 2 * room.transactions {
            answered.retain(|key| known.get(key).is_some_and(|known| known.answer.is_some()));
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The answer, for this copy and those that follow.
    pub(super) fn answer(&mut self, key: Key, reply: &Reply) {
        let Some(known) = self.known.get_mut(&key).filter(|known| known.answer.is_none()) else {
            return;
        };
        known.answer = Some(reply.clone());
        self.bytes += reply.bytes.len();
        self.answered.push_back(key);
        while self.bytes > self.room.bytes && self.make_room() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { transactions: 10, bytes: 10_000 };

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
        let mut transactions = Transactions::new(Duration::from_secs(32), ROOM);
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
        let mut transactions =
            Transactions::new(Duration::from_secs(32), Room { transactions: 2, ..ROOM });
        let key = |n: u32| key(&format!("SIP/2.0/UDP h;branch=z9hG4bK{n}"), "1");
        assert_eq!(transactions.begin(key(1), now), Begin::New);
        assert_eq!(transactions.begin(key(2), now), Begin::New);
        assert_eq!(transactions.begin(key(3), now), Begin::Full, "both are being carried out");
        transactions.answer(key(2), &reply());
        assert_eq!(transactions.begin(key(3), now), Begin::New);
        assert_eq!(transactions.begin(key(1), now), Begin::Absorbed);
        assert_eq!(transactions.known.len(), 2);
    }

    #[test]
    fn kept_answers_have_so_many_bytes_and_the_oldest_makes_room() {
        let now = Instant::now();
        let mut transactions = Transactions::new(Duration::from_secs(32), ROOM);
        let key = |n: u32| key(&format!("SIP/2.0/UDP h;branch=z9hG4bK{n}"), "1");
        let long = Reply { bytes: vec![b'x'; 4000].into(), ..reply() };
        for n in 1..=3 {
            assert_eq!(transactions.begin(key(n), now), Begin::New);
            transactions.answer(key(n), &long);
        }
        assert_eq!(transactions.bytes, 8000);
        assert_eq!(transactions.begin(key(2), now), Begin::Again(long.clone()));
        assert_eq!(transactions.begin(key(1), now), Begin::New, "it made room");
        let later = now + Duration::from_secs(32);
        assert_eq!(transactions.begin(key(4), later), Begin::New);
        assert_eq!((transactions.bytes, transactions.known.len()), (0, 1));
    }

    #[test]
    fn one_that_made_room_and_began_anew_lasts_its_own_time() {
        let now = Instant::now();
        let room = Room { transactions: 1, ..ROOM };
        let mut transactions = Transactions::new(Duration::from_secs(32), room);
        let key = |n: u32| key(&format!("SIP/2.0/UDP h;branch=z9hG4bK{n}"), "1");
        let at = |seconds| now + Duration::from_secs(seconds);
        for (n, seconds) in [(1, 0), (2, 1), (1, 2)] {
            assert_eq!(transactions.begin(key(n), at(seconds)), Begin::New);
            transactions.answer(key(n), &reply());
        }
        assert_eq!(transactions.begin(key(1), at(33)), Begin::Again(reply()));
        assert_eq!(transactions.begin(key(1), at(34)), Begin::New);
        for n in 2..100 {
            transactions.answer(key(n - 1), &reply());
            assert_eq!(transactions.begin(key(n), at(34)), Begin::New);
        }
        assert!(transactions.ends.len() <= 3 && transactions.answered.len() <= 3);
    }
}
