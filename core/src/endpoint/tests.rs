//! RFC 3261 §17.1.2 and §17.1.3 by bytes and virtual time, and the calling contract of
//! [`Endpoint`]; then the same across a lossy network.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::lossy::{Datagram, Network, Phone, Weather};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn proxy() -> SocketAddr {
    "192.0.2.1:5060".parse().unwrap()
}

fn ours() -> SocketAddr {
    "192.0.2.9:5070".parse().unwrap()
}

fn notify(branch: Branch, cseq: u32) -> Arc<[u8]> {
    let text = format!(
        "NOTIFY sip:202@192.0.2.7 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9:5070;branch={branch};rport\r\n\
         From: <sip:202@example.com>;tag=n\r\nTo: <sip:202@example.com>;tag=p\r\nCall-ID: c\r\n\
         CSeq: {cseq} NOTIFY\r\nContent-Length: 0\r\n\r\n"
    );
    text.into_bytes().into()
}

fn answer(code: u16, branch: Branch, cseq: &str) -> Vec<u8> {
    format!(
        "SIP/2.0 {code} x\r\nVia: SIP/2.0/UDP 192.0.2.9:5070;branch={branch}\r\nCall-ID: c\r\n\
         CSeq: {cseq}\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// An endpoint with one NOTIFY (CSeq 7) whose first copy has been sent.
struct Fixture {
    endpoint: Endpoint,
    start: Instant,
    id: TransactionId,
    branch: Branch,
}

impl Fixture {
    fn new() -> Self {
        let start = Instant::now();
        let mut endpoint = Endpoint::new(Timers::default(), 42, 10);
        let (id, branch) = begin(&mut endpoint, start);
        assert_eq!(endpoint.poll_transmit().expect("the first copy").copy, 1);
        assert_eq!(endpoint.poll_transmit(), None);
        Self { endpoint, start, id, branch }
    }

    fn hear(&mut self, after: u64, code: u16) -> Received {
        let bytes = answer(code, self.branch, "7 NOTIFY");
        self.endpoint.handle_datagram(self.start + ms(after), proxy(), &bytes)
    }

    fn hear_bytes(&mut self, bytes: &[u8]) -> Received {
        self.endpoint.handle_datagram(self.start, proxy(), bytes)
    }

    /// Fires every timer; returns when copies were sent, in milliseconds.
    fn run(&mut self) -> Vec<u128> {
        let mut sent = Vec::new();
        while let Some(at) = self.endpoint.poll_timeout() {
            self.endpoint.handle_timeout(at);
            assert!(self.endpoint.poll_timeout().is_none_or(|next| next > at), "a busy loop");
            while self.endpoint.poll_transmit().is_some() {
                sent.push((at - self.start).as_millis());
            }
        }
        sent
    }

    fn ending(&mut self) -> Ending {
        let completed = self.endpoint.poll_event().expect("the transaction completed");
        assert_eq!((completed.id, completed.branch), (self.id, self.branch));
        assert_eq!(self.endpoint.poll_event(), None);
        completed.ending
    }
}

fn begin(endpoint: &mut Endpoint, now: Instant) -> (TransactionId, Branch) {
    let branch = endpoint.branch();
    let id = endpoint.start(now, branch, 7, Method::Notify, proxy(), notify(branch, 7)).unwrap();
    (id, branch)
}

fn code(ending: &Ending) -> u16 {
    match ending {
        Ending::Final(response) => response.code,
        other => panic!("no answer: {other:?}"),
    }
}

#[test]
fn rfc3261_17_1_4_a_datagram_that_cannot_be_sent_ends_its_own_transaction_only() {
    let start = Instant::now();
    let mut endpoint = Endpoint::new(Timers::default(), 42, 10);
    let ((first, _), (second, branch)) = (begin(&mut endpoint, start), begin(&mut endpoint, start));
    endpoint.handle_not_sent(start, first, "Message too long");
    let completed = endpoint.poll_event().unwrap();
    assert_eq!(completed.id, first);
    assert_eq!(completed.ending, Ending::NotSent { why: "Message too long".into() });
    assert_eq!((endpoint.in_flight(), endpoint.stats().not_sent), (1, 1));
    assert_eq!(endpoint.poll_transmit().unwrap().id, second, "nothing of the first is sent");
    endpoint.handle_datagram(start, proxy(), &answer(200, branch, "7 NOTIFY"));
    assert_eq!(code(&endpoint.poll_event().unwrap().ending), 200);
    endpoint.handle_not_sent(start, second, "too late");
    assert_eq!(endpoint.poll_event(), None);
}

#[test]
fn rfc3261_17_1_2_2_eleven_copies_then_timer_f() {
    let mut fixture = Fixture::new();
    let expected = [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
    assert_eq!(fixture.run(), expected);
    let completed = fixture.endpoint.poll_event().unwrap();
    assert_eq!(completed.ending, Ending::TimedOut);
    assert_eq!((completed.copies, completed.elapsed), (11, ms(32_000)));
    let stats = *fixture.endpoint.stats();
    assert_eq!((stats.started, stats.copies, stats.timed_out), (1, 11, 1));
}

#[test]
fn rfc3261_17_1_2_2_each_copy_is_the_same_bytes_to_the_same_place() {
    let mut fixture = Fixture::new();
    let at = fixture.endpoint.poll_timeout().unwrap();
    fixture.endpoint.handle_timeout(at);
    let second = fixture.endpoint.poll_transmit().unwrap();
    let expected =
        Transmit { id: fixture.id, to: proxy(), bytes: notify(fixture.branch, 7), copy: 2 };
    assert_eq!(second, expected);
}

#[test]
fn rfc3261_17_1_2_2_a_final_answer_ends_it_and_timer_k_absorbs_the_rest() {
    let mut fixture = Fixture::new();
    let id = fixture.id;
    let first = Received::Answer { id, code: 200, retransmitted: false };
    let again = Received::Answer { id, code: 200, retransmitted: true };
    assert_eq!(fixture.hear(30, 200), first);
    assert_eq!(fixture.endpoint.in_flight(), 0);
    assert_eq!(fixture.hear(530, 200), again);
    let late_trying = Received::Answer { id, code: 100, retransmitted: true };
    assert_eq!(fixture.hear(600, 100), late_trying);
    let completed = fixture.endpoint.poll_event().unwrap();
    assert_eq!((completed.copies, completed.elapsed), (1, ms(30)));
    assert_eq!(code(&completed.ending), 200);
    assert_eq!(fixture.endpoint.poll_timeout(), Some(fixture.start + ms(5030)));
    assert_eq!(fixture.run(), [0_u128; 0]);
    assert_eq!(fixture.endpoint.poll_event(), None, "exactly one event");
    assert_eq!(fixture.hear(5031, 200), Received::Stray { code: 200 });
}

#[test]
fn rfc3261_17_1_2_2_after_a_provisional_answer_every_t2() {
    let mut fixture = Fixture::new();
    let provisional = Received::Provisional { id: fixture.id, code: 100 };
    assert_eq!(fixture.hear(100, 100), provisional);
    assert_eq!(fixture.run(), [500, 4500, 8500, 12_500, 16_500, 20_500, 24_500, 28_500]);
    assert_eq!(fixture.ending(), Ending::TimedOut);
}

/// A 100 with two Call-IDs was taken, and the NOTIFY sent less often.
#[test]
fn a_provisional_answer_that_may_be_read_in_two_ways_changes_nothing() {
    let mut fixture = Fixture::new();
    let twice = String::from_utf8(answer(100, fixture.branch, "7 NOTIFY")).unwrap();
    let twice = twice.replace("Call-ID: c", "Call-ID: c\r\nCall-ID: d");
    let repeated = MessageError::Repeated { name: "Call-ID" };
    assert_eq!(fixture.hear_bytes(twice.as_bytes()), Received::Garbage(repeated));
    assert_eq!(fixture.run().len(), 10, "as often as without an answer");
}

#[test]
fn rfc3261_17_1_3_an_answer_after_timer_f_is_a_stray() {
    let mut fixture = Fixture::new();
    fixture.run();
    assert_eq!(fixture.ending(), Ending::TimedOut);
    assert_eq!(fixture.hear(32_001, 200), Received::Stray { code: 200 });
    assert_eq!(fixture.endpoint.poll_event(), None);
    assert_eq!(fixture.endpoint.stats().strays, 1);
}

#[test]
fn rfc3261_17_1_3_branch_method_and_number_must_match() {
    let mut fixture = Fixture::new();
    let forged = Branches::new(43).next();
    for bytes in [
        answer(200, fixture.branch, "7 SUBSCRIBE"),
        answer(200, fixture.branch, "7 notify"),
        answer(200, fixture.branch, "8 NOTIFY"),
        answer(200, forged, "7 NOTIFY"),
    ] {
        assert_eq!(fixture.hear_bytes(&bytes), Received::Stray { code: 200 });
    }
    let text = String::from_utf8(answer(200, fixture.branch, "7 NOTIFY")).unwrap();
    let below = text.replace("Via: ", "Via: SIP/2.0/UDP other;branch=z9hG4bKx, ");
    assert_eq!(fixture.hear_bytes(below.as_bytes()), Received::Stray { code: 200 });
    let none = text.replace(";branch=", ";twig=");
    assert_eq!(fixture.hear_bytes(none.as_bytes()), Received::Stray { code: 200 });
    assert_eq!(fixture.endpoint.stats().strays, 6);
    assert_eq!((fixture.endpoint.in_flight(), fixture.endpoint.poll_event()), (1, None));
}

#[test]
fn rfc3261_8_1_3_3_an_answer_with_a_second_via_is_dropped() {
    let mut fixture = Fixture::new();
    let text = String::from_utf8(answer(200, fixture.branch, "7 NOTIFY")).unwrap();
    let misrouted = text.replace("Call-ID", "v: SIP/2.0/UDP other;branch=z9hG4bKx\r\nCall-ID");
    assert_eq!(fixture.hear_bytes(misrouted.as_bytes()), Received::Stray { code: 200 });
}

#[test]
fn rfc3261_17_1_3_the_source_address_need_not_match() {
    let mut fixture = Fixture::new();
    let bytes = answer(200, fixture.branch, "7 NOTIFY");
    let elsewhere = "203.0.113.5:9".parse().unwrap();
    let received = fixture.endpoint.handle_datagram(fixture.start, elsewhere, &bytes);
    assert!(matches!(received, Received::Answer { .. }));
}

#[test]
fn what_has_the_branch_of_a_transaction_is_awaited_and_nothing_else_is() {
    let mut fixture = Fixture::new();
    let awaited = answer(200, fixture.branch, "7 NOTIFY");
    assert!(fixture.endpoint.awaits(&awaited));
    let loud = String::from_utf8(awaited.clone()).unwrap().to_uppercase();
    assert!(fixture.endpoint.awaits(loud.as_bytes()), "the case of a branch means nothing");
    let other = fixture.endpoint.branch();
    assert!(!fixture.endpoint.awaits(&answer(200, other, "7 NOTIFY")), "it is nobody's");
    let request = [b"SUBSCRIBE sip:a@b ", &awaited[..]].concat();
    assert!(!fixture.endpoint.awaits(&request), "a request is no answer");
    assert!(!fixture.endpoint.awaits(b""));
    assert!(!fixture.endpoint.awaits(b"SIP/2.0 200 OK\r\nv: z9hG4bK"));
    let late = [b"SIP/2.0 200 OK\r\n", &[b'x'; 1024][..], &awaited].concat();
    assert!(!fixture.endpoint.awaits(&late), "it is not looked for for ever");
    fixture.hear(10, 200);
    assert!(fixture.endpoint.awaits(&awaited), "its copies are, until Timer K");
}

#[test]
fn rfc3261_17_1_4_icmp_fails_what_has_heard_nothing_from_there() {
    let start = Instant::now();
    let mut endpoint = Endpoint::new(Timers::default(), 1, 10);
    let (trying, _) = begin(&mut endpoint, start);
    let (_, proceeding) = begin(&mut endpoint, start);
    let other_branch = endpoint.branch();
    let other = "192.0.2.2:5060".parse().unwrap();
    let bytes = notify(other_branch, 7);
    endpoint.start(start, other_branch, 7, Method::Notify, other, bytes).unwrap();
    let (last, _) = begin(&mut endpoint, start);
    endpoint.handle_datagram(start, proxy(), &answer(100, proceeding, "7 NOTIFY"));
    endpoint.handle_unreachable(start + ms(3), proxy());
    for id in [trying, last] {
        let completed = endpoint.poll_event().unwrap();
        assert_eq!((completed.id, completed.ending), (id, Ending::Unreachable));
        assert_eq!(completed.elapsed, ms(3));
    }
    assert_eq!(endpoint.poll_event(), None);
    assert_eq!((endpoint.in_flight(), endpoint.stats().unreachable), (2, 2));
}

#[test]
fn abandon_ends_everything_in_flight_and_nothing_twice() {
    let mut fixture = Fixture::new();
    let (second, branch) = begin(&mut fixture.endpoint, fixture.start);
    fixture.hear(10, 200);
    assert_eq!(code(&fixture.ending()), 200);
    fixture.endpoint.abandon(fixture.start + ms(20));
    let completed = fixture.endpoint.poll_event().unwrap();
    assert_eq!((completed.id, completed.ending), (second, Ending::Abandoned));
    assert_eq!(completed.copies, 0, "its first copy was still waiting");
    assert_eq!(fixture.endpoint.poll_transmit(), None, "and is not sent any more");
    assert_eq!(fixture.endpoint.poll_event(), None);
    let late = fixture.hear_bytes(&answer(200, branch, "7 NOTIFY"));
    assert_eq!(late, Received::Stray { code: 200 });
    fixture.run();
    assert_eq!(fixture.endpoint.poll_timeout(), None);
}

#[test]
fn everything_else_is_counted_as_what_it_is() {
    let mut fixture = Fixture::new();
    let branch = fixture.branch;
    assert_eq!(fixture.hear_bytes(b"\r\n\r\n"), Received::KeepAlive);
    assert!(matches!(fixture.hear_bytes(b"\x16\x03\x01"), Received::Garbage(_)));
    let Received::Request(request) = fixture.hear_bytes(&notify(branch, 7)) else {
        panic!("our own request, sent back to us, is a request");
    };
    assert_eq!(request.cseq().unwrap().method, "NOTIFY");
    let twice = String::from_utf8(answer(200, branch, "7 NOTIFY")).unwrap();
    let twice = twice.replace("Call-ID: c", "Call-ID: c\r\nCall-ID: d");
    assert!(matches!(fixture.hear_bytes(twice.as_bytes()), Received::Garbage(_)));
    let stats = fixture.endpoint.stats();
    assert_eq!((stats.keep_alives, stats.requests, stats.garbage), (1, 1, 2));
    assert_eq!(fixture.endpoint.in_flight(), 1, "none of it touched the transaction");
}

/// Nothing is heard of most crowds that end so, and no timer fires after the last Timer F.
#[test]
fn a_crowd_leaves_no_memory_behind_however_it_ends() {
    const CROWD: usize = 5000;
    let timers = Timers::default();
    let end: [fn(&mut Endpoint, Instant); 3] = [
        |endpoint, start| endpoint.handle_timeout(start + ms(32_000)),
        |endpoint, start| endpoint.handle_unreachable(start, proxy()),
        Endpoint::abandon,
    ];
    for end in end {
        let (start, mut endpoint) = (Instant::now(), Endpoint::new(timers, 42, CROWD));
        for _ in 0..CROWD {
            begin(&mut endpoint, start);
        }
        while endpoint.poll_transmit().is_some() {}
        end(&mut endpoint, start);
        while endpoint.poll_transmit().is_some() {}
        assert_eq!(std::iter::from_fn(|| endpoint.poll_event()).count(), CROWD);
        assert_eq!(endpoint.poll_timeout(), None);
        let Endpoint { in_flight, completed, transmits, events, .. } = &endpoint;
        let tables = [in_flight.capacity(), completed.capacity()];
        assert_eq!((tables, transmits.capacity(), events.capacity()), ([0, 0], 0, 0));
    }
}

#[test]
fn capacity_bounds_what_is_in_flight_and_completed_ones_make_room() {
    let start = Instant::now();
    let mut endpoint = Endpoint::new(Timers::default(), 1, 2);
    let (_, first) = begin(&mut endpoint, start);
    begin(&mut endpoint, start);
    let third = endpoint.branch();
    let full = endpoint.start(start, third, 7, Method::Notify, proxy(), notify(third, 7));
    assert_eq!(full, Err(StartError::Full { capacity: 2 }));
    endpoint.handle_datagram(start, proxy(), &answer(200, first, "7 NOTIFY"));
    endpoint.start(start, third, 7, Method::Notify, proxy(), notify(third, 7)).unwrap();
    assert_eq!((endpoint.in_flight.len(), endpoint.completed.len()), (2, 0), "it has gone");
    let late = endpoint.handle_datagram(start, proxy(), &answer(200, first, "7 NOTIFY"));
    assert_eq!(late, Received::Stray { code: 200 });
}

#[test]
fn a_branch_starts_one_transaction_only() {
    let mut fixture = Fixture::new();
    let (branch, start) = (fixture.branch, fixture.start);
    let bytes = notify(branch, 7);
    let again = fixture.endpoint.start(start, branch, 7, Method::Notify, proxy(), bytes);
    assert_eq!(again, Err(StartError::BranchInUse { branch }));
}

#[test]
fn a_copy_that_waits_is_not_queued_again_nor_sent_after_the_answer() {
    let start = Instant::now();
    let mut endpoint = Endpoint::new(Timers::default(), 1, 2);
    let (_, branch) = begin(&mut endpoint, start);
    for after in [500, 1500, 3500] {
        endpoint.handle_timeout(start + ms(after));
    }
    let transmit = endpoint.poll_transmit().unwrap();
    assert_eq!((transmit.copy, endpoint.poll_transmit()), (1, None), "one, not four");
    endpoint.handle_timeout(start + ms(7500));
    endpoint.handle_datagram(start + ms(7500), proxy(), &answer(200, branch, "7 NOTIFY"));
    assert_eq!(endpoint.poll_transmit(), None);
    assert_eq!(endpoint.poll_event().unwrap().copies, 1);
}

#[test]
fn new_timers_are_for_new_transactions() {
    let mut fixture = Fixture::new();
    fixture.endpoint.set_timers(Timers { t1: ms(100), ..Timers::default() });
    assert_eq!(fixture.endpoint.poll_timeout(), Some(fixture.start + ms(500)));
    begin(&mut fixture.endpoint, fixture.start);
    assert_eq!(fixture.endpoint.poll_timeout(), Some(fixture.start + ms(100)));
}

#[test]
fn zero_timers_end_at_once_and_do_not_loop() {
    let start = Instant::now();
    let zero = Timers { t1: Duration::ZERO, t2: Duration::ZERO, t4: Duration::ZERO };
    let mut endpoint = Endpoint::new(zero, 1, 2);
    let (_, branch) = begin(&mut endpoint, start);
    begin(&mut endpoint, start);
    endpoint.handle_datagram(start, proxy(), &answer(200, branch, "7 NOTIFY"));
    assert_eq!(endpoint.poll_timeout(), Some(start));
    endpoint.handle_timeout(start);
    assert_eq!(endpoint.poll_timeout(), None);
    assert_eq!(code(&endpoint.poll_event().unwrap().ending), 200);
    assert_eq!(endpoint.poll_event().unwrap().ending, Ending::TimedOut);
}

/// 50,000 at once, all unanswered: 550,000 copies in virtual time. A scan of all transactions on
/// each timer or answer would take minutes here.
#[test]
fn fifty_thousand_transactions_at_once() {
    let start = Instant::now();
    let mut endpoint = Endpoint::new(Timers::default(), 1, 50_000);
    let bytes: Arc<[u8]> = b"NOTIFY".as_slice().into();
    let mut branches = Vec::new();
    for index in 0..50_000_u64 {
        let branch = endpoint.branch();
        branches.push(branch);
        let now = start + Duration::from_micros(20 * index);
        endpoint.start(now, branch, 7, Method::Notify, proxy(), Arc::clone(&bytes)).unwrap();
        assert!(endpoint.poll_transmit().is_some());
        while endpoint.poll_timeout().is_some_and(|at| at <= now) {
            endpoint.handle_timeout(now);
            while endpoint.poll_transmit().is_some() {}
        }
    }
    for branch in &branches[..10_000] {
        let bytes = answer(200, *branch, "7 NOTIFY");
        endpoint.handle_datagram(start + ms(1000), proxy(), &bytes);
    }
    while let Some(at) = endpoint.poll_timeout() {
        endpoint.handle_timeout(at);
        while endpoint.poll_transmit().is_some() {}
    }
    let stats = *endpoint.stats();
    assert_eq!((stats.answers, stats.timed_out), (10_000, 40_000));
    assert!(stats.copies >= 40_000 * 11 + 10_000, "{stats:?}");
    assert_eq!(std::iter::from_fn(|| endpoint.poll_event()).count(), 50_000);
}

/// An endpoint and a phone with a network between them.
struct World {
    endpoint: Endpoint,
    network: Network,
    phone: Phone,
    completed: HashMap<TransactionId, Completed>,
}

impl World {
    fn new(seed: u64, weather: Weather, phone: Phone) -> Self {
        Self {
            endpoint: Endpoint::new(Timers::default(), seed.into(), 1000),
            network: Network::new(seed, weather),
            phone,
            completed: HashMap::new(),
        }
    }

    /// Sends `count` NOTIFYs, and lets time run until nothing is left to happen.
    fn run(&mut self, count: usize) {
        let mut now = Instant::now();
        let started: Vec<_> = (0..count).map(|_| begin(&mut self.endpoint, now)).collect();
        self.drain(now);
        let mut steps = 0;
        let next = |world: &Self| {
            [world.endpoint.poll_timeout(), world.network.poll_timeout()]
                .into_iter()
                .flatten()
                .min()
        };
        while let Some(at) = next(self) {
            assert!(at >= now, "time went backwards");
            now = at;
            while let Some(datagram) = self.network.receive(now) {
                self.arrive(now, datagram);
            }
            if self.endpoint.poll_timeout().is_some_and(|at| at <= now) {
                self.endpoint.handle_timeout(now);
                let next = self.endpoint.poll_timeout();
                assert!(next.is_none_or(|next| next > now), "handle_timeout made no progress");
            }
            self.drain(now);
            steps += 1;
            assert!(steps < 200 * count, "a busy loop");
        }
        for (id, branch) in started {
            let completed = &self.completed[&id];
            assert_eq!(completed.branch, branch);
            assert!((1..=11).contains(&completed.copies), "{completed:?}");
            assert!(completed.elapsed <= ms(32_000), "{completed:?}");
        }
        assert_eq!((self.completed.len(), self.endpoint.in_flight()), (count, 0));
        assert!(self.endpoint.completed.is_empty(), "nothing is kept after Timer K");
    }

    fn arrive(&mut self, now: Instant, datagram: Datagram) {
        if datagram.to == ours() {
            self.endpoint.handle_datagram(now, datagram.from, &datagram.bytes);
        } else {
            let bytes = self.phone.answer(&datagram.bytes);
            self.network.send(now, Datagram { from: datagram.to, to: datagram.from, bytes });
        }
    }

    fn drain(&mut self, now: Instant) {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            assert!(!self.completed.contains_key(&transmit.id), "a copy after the end");
            let bytes = transmit.bytes.to_vec();
            self.network.send(now, Datagram { from: ours(), to: transmit.to, bytes });
        }
        while let Some(completed) = self.endpoint.poll_event() {
            let twice = self.completed.insert(completed.id, completed);
            assert_eq!(twice, None, "a second event for one transaction");
        }
    }
}

#[test]
fn ten_losses_in_a_row_do_not_stop_the_answer_and_eleven_do() {
    for losses in 0..=11 {
        let mut world = World::new(1, Weather::default(), Phone::new("200 OK", false));
        world.network.lose_next(losses);
        world.run(1);
        let completed = world.completed.values().next().unwrap();
        if losses <= 10 {
            assert_eq!((code(&completed.ending), completed.copies), (200, losses + 1));
        } else {
            assert_eq!((&completed.ending, completed.copies), (&Ending::TimedOut, 11));
        }
    }
}

fn weather() -> impl Strategy<Value = Weather> {
    (0..=100_u8, 0..=50_u8, prop::sample::select(vec![0, 20, 900, 40_000]))
        .prop_map(|(loss, doubling, delay)| Weather { loss, doubling, delay: ms(delay) })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// [`World::run`] holds the properties: at most 11 copies, exactly one event, none after it,
    /// progress on every timeout, nothing left at the end.
    #[test]
    fn in_any_weather_each_transaction_completes_exactly_once(
        seed in any::<u64>(),
        weather in weather(),
        count in 1_usize..20,
        trying_first in any::<bool>(),
    ) {
        let mut world = World::new(seed, weather, Phone::new("200 OK", trying_first));
        world.run(count);
        let stats = *world.endpoint.stats();
        let finals = world.completed.values().filter(|one| matches!(one.ending, Ending::Final(_)));
        prop_assert_eq!(finals.count() as u64, stats.answers);
        prop_assert_eq!(stats.answers + stats.timed_out, count as u64);
        prop_assert_eq!(stats.copies, world.completed.values().map(|one| u64::from(one.copies)).sum::<u64>());
        prop_assert_eq!(stats.garbage + stats.requests + stats.keep_alives, 0);
        if weather.loss == 0 && weather.delay < ms(1000) {
            prop_assert_eq!(stats.answers, count as u64);
        }
    }

    /// Ten losses, at any place and in either direction, are survived.
    #[test]
    fn any_ten_losses_are_survived(pattern in prop::collection::vec(any::<bool>(), 22)) {
        let mut endpoint = Endpoint::new(Timers::default(), 9, 1);
        let mut now = Instant::now();
        let (_, branch) = begin(&mut endpoint, now);
        let mut losses = 0;
        let mut lost = pattern.into_iter().map(|lost| {
            losses += u32::from(lost);
            lost && losses <= 10
        });
        let completed = loop {
            if endpoint.poll_transmit().is_some() && !lost.next().unwrap() && !lost.next().unwrap() {
                endpoint.handle_datagram(now, proxy(), &answer(200, branch, "7 NOTIFY"));
            }
            if let Some(completed) = endpoint.poll_event() {
                break completed;
            }
            now = endpoint.poll_timeout().expect("in flight");
            endpoint.handle_timeout(now);
        };
        prop_assert_eq!(code(&completed.ending), 200);
    }

    #[test]
    fn hostile_datagrams_never_end_a_transaction(
        datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..30),
    ) {
        let mut fixture = Fixture::new();
        for datagram in &datagrams {
            fixture.hear_bytes(datagram);
        }
        prop_assert_eq!((fixture.endpoint.in_flight(), fixture.endpoint.poll_event()), (1, None));
    }
}
