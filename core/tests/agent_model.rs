//! The presence agent and the reconciler together against a model of everything around them, in
//! virtual time: a table, phones that subscribe, refresh, unsubscribe, forget and reboot, a network
//! that loses and doubles, an agent that is killed and starts again with its table and its ledger.
//! A failing seed is printed; `SEED=n cargo test -p mwid-core --test agent_model` replays it alone.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mwid_core::agent::{
    self, Agent, Algorithm, Changed, Expiry, FAREWELL, InDialog, Permissions, Stored, TIMEOUT,
    Ticket,
};
use mwid_core::dialog::{ACTIVE, Dialog, Identity, Row, TERMINATED};
use mwid_core::mailbox::Account;
use mwid_core::message::Message;
use mwid_core::pace::Backoff;
use mwid_core::reconciler::{Action, Reconciler, Remembered, Settings, Urgency, Verdict};
use mwid_core::summary::Summary;

use common::{Random, seeds};

const UNIX: u64 = 1_800_000_000;
const PHONES: usize = 6;
const ACCOUNTS: u64 = 3;
const SECOND: Duration = Duration::from_secs(1);

fn settings() -> Settings {
    Settings {
        min_interval: SECOND,
        settle: Duration::ZERO,
        rate: 1000,
        backoff: Backoff { min: SECOND, max: Duration::from_secs(8) },
        max_lookups: 4,
        max_in_flight: 16,
        shared: false,
    }
}

fn agent(seed: u64) -> Agent {
    let settings = agent::Settings {
        authority: "10.0.0.9:5070".into(),
        server: "mwid".into(),
        expiry: Expiry { min: 60, default: 3600, max: 7200 },
        trusted: vec!["10.0.0.0/8".parse().unwrap()],
        realm: None,
        algorithms: Algorithm::ALL.into(),
        nonce_lifetime: 300,
        rate: 1000,
        permissions: Permissions::default(),
        timer_j: Duration::from_secs(32),
    };
    Agent::new(settings, [u8::try_from(seed % 256).unwrap(); 32])
}

/// A subscription as its phone sees it.
#[derive(Debug, Default)]
struct Subscription {
    call_id: String,
    tag: String,
    /// Known after the 200.
    remote_tag: String,
    cseq: u32,
    highest: u32,
    /// A NOTIFY came, with these counts or with none.
    shows: Option<Option<Summary>>,
    /// It was granted, and not ended.
    lasts: bool,
    terminated: bool,
    unsubscribed: bool,
}

/// A SUBSCRIBE that is not answered yet.
#[derive(Clone, Debug)]
struct Asked {
    text: String,
    cseq: u32,
    expires: u64,
    copies: u32,
}

#[derive(Debug, Default)]
struct Phone {
    subscription: Option<Subscription>,
    asked: Option<Asked>,
}

enum Event {
    ToAgent(usize, String),
    ToPhone(usize, String),
    Copy(usize, u32),
    Insert(Ticket, Box<Row>, i64),
    Update(Ticket, Box<InDialog>, u64, Option<&'static str>),
    Find(Account),
    Claim(Arc<Dialog>, u32),
    Notify(Arc<Dialog>, Option<Summary>, u32),
    Sweep,
}

struct World {
    seed: u64,
    random: Random,
    start: Instant,
    now: Instant,
    agent: Agent,
    reconciler: Reconciler,
    ledger: HashMap<Identity, Remembered>,
    rows: Vec<Row>,
    last_row: i64,
    truth: BTreeMap<Account, Summary>,
    phones: Vec<Phone>,
    calls: u32,
    branches: u32,
    /// One datagram in so many is lost.
    loss: u64,
    events: Vec<(Instant, Event)>,
    notifies: usize,
    farewells: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let start = Instant::now();
        let mut world = Self {
            seed,
            random: Random(seed),
            start,
            now: start,
            agent: agent(seed),
            reconciler: Reconciler::new(settings(), seed),
            ledger: HashMap::new(),
            rows: Vec::new(),
            last_row: 0,
            truth: BTreeMap::new(),
            phones: (0..PHONES).map(|_| Phone::default()).collect(),
            calls: 0,
            branches: 0,
            loss: 6,
            events: Vec::new(),
            notifies: 0,
            farewells: 0,
        };
        world.after(SECOND, Event::Sweep);
        world
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    fn after(&mut self, pause: Duration, event: Event) {
        self.events.push((self.now + pause, event));
    }

    fn soon(&mut self, event: Event) {
        let pause = Duration::from_millis(1) + self.random.millis(40);
        self.after(pause, event);
    }

    /// Over the network: lost, doubled, late.
    fn send(&mut self, event: impl Fn() -> Event) {
        for _ in 0..=u64::from(self.below(8) == 0) {
            if self.loss == 0 || self.below(self.loss) > 0 {
                self.soon(event());
            }
        }
    }

    fn unix(&self) -> u64 {
        UNIX + (self.now - self.start).as_secs()
    }

    fn account(phone: usize) -> Account {
        Account::new(&format!("{}", 200 + phone as u64 % ACCOUNTS), "example.com").unwrap()
    }

    fn subscribe(&mut self, phone: usize) {
        self.calls += 1;
        let subscription = Subscription {
            call_id: format!("call-{}", self.calls),
            tag: format!("phone-{}", self.calls),
            ..Subscription::default()
        };
        self.phones[phone].subscription = Some(subscription);
        let expires = 60 + self.below(200);
        self.ask(phone, expires);
    }

    /// The next SUBSCRIBE of the phone's subscription.
    fn ask(&mut self, phone: usize, expires: u64) {
        self.branches += 1;
        let (branch, account) = (self.branches, Self::account(phone));
        let Some(subscription) = &mut self.phones[phone].subscription else { return };
        subscription.cseq += 1;
        subscription.unsubscribed |= expires == 0;
        let Subscription { call_id, tag, remote_tag, cseq, .. } = &*subscription;
        let (target, to_tag) = match remote_tag.as_str() {
            "" => (account.to_string(), String::new()),
            tag => ("sip:10.0.0.9:5070".into(), format!(";tag={tag}")),
        };
        let text = format!(
            "SUBSCRIBE {target} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK{branch}\r\n\
             From: <{account}>;tag={tag}\r\nTo: <{account}>{to_tag}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} SUBSCRIBE\r\nEvent: message-summary\r\nExpires: {expires}\r\n\
             Contact: <sip:phone@10.0.1.{phone}>\r\n\r\n"
        );
        let asked = Asked { text, cseq: *cseq, expires, copies: 0 };
        self.phones[phone].asked = Some(asked);
        self.copy(phone, branch);
    }

    /// Sends the SUBSCRIBE that waits for an answer, once more (RFC 3261 §17.1.2.2).
    fn copy(&mut self, phone: usize, branch: u32) {
        let Some(asked) = &mut self.phones[phone].asked else { return };
        if !asked.text.contains(&format!("z9hG4bK{branch}\r\n")) {
            return;
        }
        asked.copies += 1;
        let (text, copies) = (asked.text.clone(), asked.copies);
        if copies > 10 {
            // Timer F: nobody is there. The phone forgets the subscription.
            self.phones[phone] = Phone::default();
            return;
        }
        self.send(|| Event::ToAgent(phone, text.clone()));
        let pause = Duration::from_millis((500 << (copies - 1).min(3)).min(4000));
        self.after(pause, Event::Copy(phone, branch));
    }

    fn answered(&mut self, phone: usize, reply: &str) {
        let header =
            |name: &str| reply.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let Some(asked) = self.phones[phone].asked.clone() else { return };
        let Some(subscription) = &mut self.phones[phone].subscription else { return };
        let own = header("Call-ID") == Some(&subscription.call_id)
            && header("CSeq") == Some(&format!("{} SUBSCRIBE", asked.cseq));
        if !own {
            return;
        }
        let code: u16 = reply[8..11].parse().unwrap();
        match code {
            200 => {
                let tag = header("To").unwrap().rsplit(";tag=").next().unwrap();
                subscription.remote_tag = tag.to_owned();
                let granted: u64 = header("Expires").unwrap().parse().unwrap();
                assert_eq!(granted, asked.expires, "seed {}", self.seed);
                subscription.lasts = granted > 0;
                self.phones[phone].asked = None;
            }
            481 => self.phones[phone] = Phone::default(),
            other => panic!("seed {}: {other} to {}", self.seed, asked.text),
        }
    }

    fn disturb(&mut self) {
        let phone = usize::try_from(self.below(PHONES as u64)).unwrap();
        let idle = self.phones[phone].asked.is_none();
        let subscribed = self.phones[phone].subscription.as_ref().is_some_and(|it| it.lasts);
        match self.below(20) {
            0..=6 if self.phones[phone].subscription.is_none() => self.subscribe(phone),
            7..=10 if idle && subscribed => {
                let expires = 60 + self.below(200);
                self.ask(phone, expires);
            }
            11 if idle && subscribed => self.ask(phone, 0),
            // A reboot: everything is forgotten, and a new subscription begins.
            12 => self.subscribe(phone),
            13 => self.phones[phone] = Phone::default(),
            14..=17 => {
                let count = u32::try_from(self.below(5)).unwrap();
                self.change(phone, count);
            }
            18 if self.below(3) == 0 => self.crash(),
            _ => {}
        }
    }

    fn change(&mut self, phone: usize, count: u32) {
        let account = Self::account(phone);
        let summary = Summary { new: count, ..Summary::default() };
        self.truth.insert(account.clone(), summary);
        self.reconciler.set(&account, summary, Urgency::Fresh, false);
    }

    /// kill -9 and a new start: the table is there, the transactions are not.
    fn crash(&mut self) {
        self.events.retain(|(_, event)| {
            matches!(
                event,
                Event::ToAgent(..) | Event::ToPhone(..) | Event::Copy(..) | Event::Sweep
            )
        });
        self.now += 2 * SECOND;
        self.agent = agent(self.below(256));
        self.reconciler = Reconciler::new(settings(), self.seed);
        self.reconciler.remember(self.ledger.iter().map(|(identity, past)| (*identity, *past)));
        for (account, summary) in &self.truth {
            self.reconciler.set(account, *summary, Urgency::CatchUp, false);
        }
        let accounts: Vec<Account> = self.rows.iter().map(presentity).collect();
        for account in accounts {
            self.tell(&account);
        }
    }

    /// The account's rows have changed.
    fn tell(&mut self, account: &Account) {
        self.reconciler.introduce(account);
        self.reconciler.look_up(account, Urgency::Fresh);
    }

    fn act(&mut self) {
        while let Some(action) = self.agent.poll_action() {
            match action {
                agent::Action::User { .. } => unreachable!("everybody is trusted"),
                agent::Action::Insert { ticket, row, status } => {
                    self.soon(Event::Insert(ticket, row, status));
                }
                agent::Action::Update { ticket, dialog, expires, ends } => {
                    self.soon(Event::Update(ticket, dialog, expires, ends));
                }
            }
        }
        while let Some(reply) = self.agent.poll_reply() {
            let text = String::from_utf8(reply.bytes.to_vec()).unwrap();
            let phone = usize::from(reply.to.port()) - 5060;
            self.send(|| Event::ToPhone(phone, text.clone()));
        }
        while let Some(Changed { account, .. }) = self.agent.poll_changed() {
            self.tell(&account);
        }
        while let Some(action) = self.reconciler.poll_action(self.now) {
            match action {
                Action::Find(account) => self.soon(Event::Find(account)),
                Action::Claim { dialog, above } => self.soon(Event::Claim(dialog, above)),
                Action::Notify { dialog, summary, cseq, .. } => {
                    let past = Remembered {
                        high_water: cseq,
                        delivered: None,
                        dead: false,
                        version: dialog.version(),
                        expires: dialog.expires,
                    };
                    self.ledger.insert(dialog.identity(), past);
                    self.notifies += 1;
                    self.soon(Event::Notify(dialog, summary, cseq));
                }
                Action::Publish(order) => panic!("nothing is published here: {order:?}"),
            }
        }
    }

    fn insert(&mut self, row: Row, status: i64) -> Stored {
        let account = presentity(&row);
        let same = self.rows.iter().any(|it| it.callid == row.callid && it.to_tag == row.to_tag);
        if !same {
            let twice = self.rows.iter().any(|it| it.callid == row.callid);
            assert!(!twice, "seed {}: two dialogs of one SUBSCRIBE: {row:?}", self.seed);
            self.last_row += 1;
            let reason = (status == TERMINATED).then(|| TIMEOUT.to_owned());
            self.rows.push(Row { id: self.last_row, status: Some(status), reason, ..row });
        }
        Stored::Done(account)
    }

    fn update(&mut self, dialog: &InDialog, expires: u64, ends: Option<&str>) -> Stored {
        let unix = i64::try_from(self.unix()).unwrap();
        let is_it = |row: &&mut Row| {
            row.callid.as_ref() == Some(&dialog.call_id)
                && row.to_tag.as_ref() == Some(&dialog.local_tag)
                && row.from_tag.as_ref() == Some(&dialog.remote_tag)
                && row.status == Some(ACTIVE)
                && row.expires > Some(unix)
        };
        let Some(row) = self.rows.iter_mut().find(is_it) else { return Stored::Unknown };
        if row.remote_cseq > Some(i64::from(dialog.remote_cseq)) {
            return Stored::OutOfOrder;
        }
        row.remote_cseq = Some(dialog.remote_cseq.into());
        row.expires = i64::try_from(expires).ok();
        row.status = Some(if ends.is_some() { TERMINATED } else { ACTIVE });
        row.reason = ends.map(str::to_owned);
        Stored::Done(presentity(row))
    }

    /// What is over is told so, and goes when that has had its time.
    fn sweep(&mut self) {
        let unix = i64::try_from(self.unix()).unwrap();
        let farewell = i64::try_from(FAREWELL).unwrap();
        self.rows.retain(|row| row.status == Some(ACTIVE) || row.expires > Some(unix));
        let mut ended = Vec::new();
        for row in self.rows.iter_mut().filter(|row| row.expires <= Some(unix)) {
            row.status = Some(TERMINATED);
            row.expires = Some(unix + farewell);
            ended.push(presentity(row));
        }
        for account in ended {
            self.tell(&account);
        }
        self.after(SECOND, Event::Sweep);
    }

    fn find(&mut self, account: &Account) {
        let unix = self.unix();
        let live =
            self.rows.iter().rev().filter(|row| {
                presentity(row) == *account && row.expires > i64::try_from(unix).ok()
            });
        let found = live.map(|row| Dialog::from_row(row).unwrap()).collect();
        self.reconciler.handle_dialogs(account, found, self.now, unix);
    }

    fn claim(&mut self, dialog: &Dialog, above: u32) {
        let row = self.rows.iter_mut().find(|row| row.id == dialog.row.0);
        let claimed = row.map(|row| {
            let next = (row.local_cseq.unwrap() + 1).max(i64::from(above) + 1);
            row.local_cseq = Some(next);
            u32::try_from(next).unwrap()
        });
        self.reconciler.handle_claim(dialog.row, claimed, self.now);
    }

    fn notify(&mut self, dialog: &Dialog, summary: Option<Summary>, cseq: u32) {
        let lost = self.loss > 0 && self.below(self.loss) == 0;
        let arrives = !lost || self.below(2) == 0;
        let verdict = if arrives { self.take(dialog, summary, cseq) } else { Verdict::Later(None) };
        let verdict = if lost { Verdict::Later(None) } else { verdict };
        let over = dialog.ended.is_some() && verdict == Verdict::Delivered;
        if over || verdict == Verdict::Gone {
            self.rows.retain(|row| row.id != dialog.row.0);
        }
        if verdict == Verdict::Delivered
            && let Some(past) = self.ledger.get_mut(&dialog.identity())
            && past.high_water == cseq
        {
            past.delivered = summary;
        }
        self.reconciler.handle_verdict(dialog.row, verdict, self.now);
    }

    /// The phone's answer.
    fn take(&mut self, dialog: &Dialog, summary: Option<Summary>, cseq: u32) -> Verdict {
        let own = self.phones.iter_mut().filter_map(|phone| phone.subscription.as_mut());
        let own = own.into_iter().find(|it| it.call_id == *dialog.call_id && !it.terminated);
        let Some(subscription) = own else { return Verdict::Gone };
        assert!(
            cseq > subscription.highest,
            "seed {}: CSeq {cseq} after {} in {}",
            self.seed,
            subscription.highest,
            subscription.call_id
        );
        subscription.highest = cseq;
        subscription.shows = Some(summary);
        if dialog.ended.is_some() {
            subscription.terminated = true;
            self.farewells += 1;
        }
        Verdict::Delivered
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToAgent(phone, text) => {
                let port = 5060 + u16::try_from(phone).unwrap();
                let from = SocketAddr::from(([10, 0, 0, 1], port));
                // The Via has no rport: answer to where the phone listens.
                let text = text.replacen("UDP 10.0.0.1;", &format!("UDP 10.0.0.1:{port};"), 1);
                let message = Message::parse(text.as_bytes()).unwrap();
                self.agent.handle_request(self.now, self.unix(), from, &message);
            }
            Event::ToPhone(phone, reply) => self.answered(phone, &reply),
            Event::Copy(phone, branch) => self.copy(phone, branch),
            Event::Insert(ticket, row, status) => {
                let stored = self.insert(*row, status);
                self.agent.handle_stored(ticket, stored, self.unix());
            }
            Event::Update(ticket, dialog, expires, ends) => {
                let stored = self.update(&dialog, expires, ends);
                self.agent.handle_stored(ticket, stored, self.unix());
            }
            Event::Find(account) => self.find(&account),
            Event::Claim(dialog, above) => self.claim(&dialog, above),
            Event::Notify(dialog, summary, cseq) => self.notify(&dialog, summary, cseq),
            Event::Sweep => self.sweep(),
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            self.act();
            let due = self.events.iter().map(|(at, _)| *at).min();
            let next = due.into_iter().chain(self.reconciler.poll_timeout(self.now)).min();
            let Some(next) = next.filter(|next| *next < until) else { break };
            self.now = self.now.max(next);
            let now = self.now;
            while let Some(index) = self.events.iter().position(|(at, _)| *at <= now) {
                let (_, event) = self.events.swap_remove(index);
                self.happen(event);
            }
        }
        self.now = self.now.max(until);
    }

    fn run(&mut self) {
        for _ in 0..150 {
            self.disturb();
            let pause = Duration::from_millis(self.below(3000));
            self.pass(pause);
        }
        self.loss = 0;
        self.pass(Duration::from_secs(60));
        // Everybody subscribes, half of them unsubscribe, and all counts change once more: what is
        // left of forgotten subscriptions answers 481.
        for phone in 0..PHONES {
            self.subscribe(phone);
        }
        self.pass(Duration::from_secs(10));
        for phone in (0..PHONES).step_by(2) {
            self.ask(phone, 0);
        }
        for phone in 0..PHONES {
            self.change(phone, 9);
        }
        self.pass(Duration::from_secs(40));
        self.check();
    }

    fn check(&self) {
        let seed = self.seed;
        for (index, phone) in self.phones.iter().enumerate() {
            let subscription = phone.subscription.as_ref().unwrap();
            let of = |row: &&Row| row.callid.as_ref() == Some(&subscription.call_id);
            let rows = self.rows.iter().filter(of).count();
            let truth = self.truth.get(&Self::account(index)).copied();
            assert!(phone.asked.is_none(), "seed {seed}: phone {index} is not answered: {phone:?}");
            if subscription.unsubscribed {
                assert!(subscription.terminated, "seed {seed}: no last NOTIFY: {subscription:?}");
                assert_eq!(rows, 0, "seed {seed}: phone {index} left a row");
            } else {
                assert_eq!(rows, 1, "seed {seed}: phone {index} has no row");
                assert_eq!(subscription.shows, Some(truth), "seed {seed}: phone {index}");
                assert!(!subscription.terminated, "seed {seed}: phone {index}");
            }
        }
        let live = self.phones.iter().filter(|it| !it.subscription.as_ref().unwrap().unsubscribed);
        assert_eq!(self.rows.len(), live.count(), "seed {seed}: rows are left: {:?}", self.rows);
    }
}

fn presentity(row: &Row) -> Account {
    row.presentity_uri.as_deref().unwrap().parse().unwrap()
}

#[test]
fn whatever_happens_each_subscription_is_one_row_and_its_phone_has_the_truth() {
    let (mut notifies, mut farewells) = (0, 0);
    for seed in seeds() {
        let mut world = World::new(seed);
        world.run();
        notifies += world.notifies;
        farewells += world.farewells;
    }
    println!("{notifies} NOTIFYs, {farewells} of them the last of their subscription");
    assert!(notifies > 20 && farewells > 2, "the model sent {notifies} NOTIFYs");
}
