//! The reconciler against a model of everything around it, in virtual time: a database, a presence
//! server that counts its own CSeq (and rolls the row back, as OpenSIPS does), phones that reboot,
//! a network that loses, a mwid that is killed and starts again with its ledger, mailboxes that are
//! removed meanwhile. A failing seed is printed; `SEED=n cargo test -p mwid-core --test
//! reconciler_model` replays it alone.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mwid_core::dialog::{Dialog, Flavour, Identity, Row, RowId};
use mwid_core::mailbox::Account;
use mwid_core::pace::Backoff;
use mwid_core::reconciler::{Action, Reconciler, Remembered, Settings, Urgency, Verdict};
use mwid_core::summary::Summary;

const UNIX: u64 = 1_795_000_000;

fn settings() -> Settings {
    Settings {
        min_interval: Duration::from_secs(1),
        settle: Duration::from_millis(100),
        rate: 100,
        backoff: Backoff { min: Duration::from_secs(2), max: Duration::from_secs(30) },
        max_lookups: 4,
        max_in_flight: 16,
    }
}

/// One subscription in the model: the row, and the phone at its end.
struct Subscription {
    row: Row,
    /// The server's own count: what it last put on the wire.
    server_cseq: i64,
    phone: Phone,
}

struct Phone {
    gone: bool,
    highest: u32,
    shows: Option<Summary>,
    /// Everything that mwid sent into this dialog.
    seen: Vec<u32>,
    last_notify: Option<Instant>,
}

/// Something that will come back to the reconciler.
enum Pending {
    /// The rows as they were when the database read them.
    Find(Account, Vec<Dialog>),
    Claim(RowId, u32),
    Notify {
        dialog: Arc<Dialog>,
        summary: Summary,
        cseq: u32,
    },
    /// The server's own NOTIFY of a refresh, which its notifier process sends later.
    Server(i64),
}

struct World {
    seed: u64,
    random: Random,
    start: Instant,
    now: Instant,
    flavour: Flavour,
    reconciler: Reconciler,
    /// What the ledger has written.
    ledger: HashMap<Identity, Remembered>,
    /// And what the accounts showed last, until their phones were told that there is nothing.
    lasts: BTreeMap<Account, Summary>,
    truth: BTreeMap<Account, Summary>,
    rows: BTreeMap<i64, Subscription>,
    next_row: i64,
    pending: Vec<(Instant, Pending)>,
    in_flight: HashMap<RowId, u32>,
    database_down_until: Instant,
    proxy_down_until: Instant,
    notifies: usize,
}

/// Seeded uniform numbers (a 64-bit LCG, its upper half).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn millis(&mut self, bound: u64) -> Duration {
        Duration::from_millis(self.below(bound))
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let start = Instant::now();
        let mut random = Random(seed);
        let flavour = if random.below(2) == 0 { Flavour::OpenSips } else { Flavour::Kamailio };
        Self {
            seed,
            random,
            start,
            now: start,
            flavour,
            reconciler: Reconciler::new(settings(), seed),
            ledger: HashMap::new(),
            lasts: BTreeMap::new(),
            truth: BTreeMap::new(),
            rows: BTreeMap::new(),
            next_row: 1,
            pending: Vec::new(),
            in_flight: HashMap::new(),
            database_down_until: start,
            proxy_down_until: start,
            notifies: 0,
        }
    }

    fn unix(&self) -> u64 {
        UNIX + (self.now - self.start).as_secs()
    }

    fn account(number: u64) -> Account {
        Account::new(&format!("{}", 200 + number), "example.com").unwrap()
    }

    fn subscribe(&mut self, account: &Account) {
        let id = self.next_row;
        self.next_row += 1;
        let text = |value: &str| Some(value.to_owned());
        let row = Row {
            id,
            presentity_uri: text(account.as_str()),
            from_user: text(account.user()),
            from_domain: text(account.domain()),
            to_user: text(account.user()),
            to_domain: text(account.domain()),
            to_tag: text("server"),
            from_tag: text("phone"),
            callid: Some(format!("call-{id}-{}", self.seed)),
            local_cseq: Some(self.flavour.row(1)),
            remote_cseq: Some(1),
            contact: text("sip:202@192.0.2.7"),
            expires: Some(i64::try_from(self.unix() + 100_000).unwrap()),
            local_contact: text("sip:192.0.2.1"),
            ..Row::default()
        };
        let phone =
            Phone { gone: false, highest: 1, shows: None, seen: Vec::new(), last_notify: None };
        self.rows.insert(id, Subscription { row, server_cseq: 1, phone });
        self.reconciler.look_up(account, Urgency::CatchUp);
    }

    /// A phone refreshes: the server sends its own NOTIFY at once, or a notifier process does so
    /// up to 4 s later.
    fn refresh(&mut self, id: i64) {
        let late = self.random.below(3) == 0;
        let after = self.now + self.random.millis(4000);
        let Some(subscription) = self.rows.get_mut(&id) else { return };
        *subscription.row.remote_cseq.as_mut().unwrap() += 1;
        let account: Account = subscription.row.presentity_uri.as_deref().unwrap().parse().unwrap();
        if late {
            self.pending.push((after, Pending::Server(id)));
        } else {
            self.server_notifies(id);
        }
        self.reconciler.look_up(&account, Urgency::CatchUp);
    }

    /// The server's own NOTIFY, with an empty body, by its own count.
    fn server_notifies(&mut self, id: i64) {
        let flavour = self.flavour;
        let Some(subscription) = self.rows.get_mut(&id) else { return };
        let next = match flavour {
            // In memory: what mwid claimed is not seen, and the row is rolled back.
            Flavour::OpenSips => subscription.server_cseq + 1,
            Flavour::Kamailio => flavour.wire(subscription.row.local_cseq.unwrap() + 1),
        };
        subscription.server_cseq = next;
        subscription.row.local_cseq = Some(flavour.row(next));
        let next = u32::try_from(next).unwrap();
        if next > subscription.phone.highest {
            subscription.phone.highest = next;
            subscription.phone.shows = None;
        }
    }

    fn change(&mut self, account: &Account) {
        let mut count = |bound| u32::try_from(self.random.below(bound)).unwrap();
        let summary = Summary::from_asterisk(count(4), count(3), 0);
        self.truth.insert(account.clone(), summary);
        self.desire(account, summary, Urgency::Fresh);
    }

    fn desire(&mut self, account: &Account, summary: Summary, urgency: Urgency) {
        if summary != Summary::default() || self.lasts.contains_key(account) {
            self.lasts.insert(account.clone(), summary);
        }
        self.reconciler.set(account, summary, urgency, false);
    }

    /// Something came of an account: it need not be remembered when all phones show that it is dark.
    fn forget_told(&mut self, account: &Account) {
        let is_dark = self.lasts.get(account) == Some(&Summary::default());
        if is_dark && self.reconciler.is_told(account) {
            self.lasts.remove(account);
        }
    }

    fn disturb(&mut self) {
        let number = self.random.below(5);
        let account = Self::account(number);
        match self.random.below(20) {
            0..=9 => self.change(&account),
            10..=12 => self.subscribe(&account),
            13 | 14 => {
                let id = 1 + i64::try_from(self.random.below(self.next_row as u64)).unwrap();
                self.refresh(id);
            }
            15 => {
                // A reboot: the old dialog answers 481, a new one is made.
                let id = 1 + i64::try_from(self.random.below(self.next_row as u64)).unwrap();
                if let Some(old) = self.rows.get_mut(&id) {
                    old.phone.gone = true;
                    let account = old.row.presentity_uri.clone().unwrap().parse().unwrap();
                    self.subscribe(&account);
                }
            }
            16 => {
                let id = 1 + i64::try_from(self.random.below(self.next_row as u64)).unwrap();
                self.rows.remove(&id);
            }
            17 => self.database_down_until = self.now + self.random.millis(20_000),
            18 => self.proxy_down_until = self.now + self.random.millis(20_000),
            _ => self.crash(),
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.reconciler.poll_action(self.now) {
            let after = self.now + self.random.millis(40);
            match action {
                Action::Find(account) => {
                    let found = self.find(&account);
                    self.pending.push((after, Pending::Find(account, found)));
                }
                Action::Claim { dialog, above } => {
                    self.pending.push((after, Pending::Claim(dialog.row, above)));
                }
                Action::Notify { dialog, summary, cseq, .. } => {
                    self.sent(&dialog, cseq);
                    self.pending.push((after, Pending::Notify { dialog, summary, cseq }));
                }
            }
        }
    }

    fn find(&self, account: &Account) -> Vec<Dialog> {
        let rows = self.rows.values().rev().map(|subscription| &subscription.row);
        rows.filter(|row| row.presentity_uri.as_deref() == Some(account.as_str()))
            .map(|row| {
                let sent_cseq = row.local_cseq.map(|row| self.flavour.wire(row));
                Dialog::from_row(&Row { sent_cseq, ..row.clone() }).unwrap()
            })
            .collect()
    }

    /// Invariants of what goes out.
    fn sent(&mut self, dialog: &Dialog, cseq: u32) {
        self.notifies += 1;
        let in_flight = self.in_flight.entry(dialog.row).or_default();
        *in_flight += 1;
        assert_eq!(*in_flight, 1, "seed {}: two NOTIFYs in flight in {dialog:?}", self.seed);
        let Some(subscription) = self.rows.get_mut(&dialog.row.0) else { return };
        let phone = &mut subscription.phone;
        assert!(
            phone.seen.last().is_none_or(|last| *last < cseq),
            "seed {}: CSeq fell from {:?} to {cseq}",
            self.seed,
            phone.seen
        );
        phone.seen.push(cseq);
        let past = Remembered {
            high_water: cseq,
            delivered: None,
            dead: false,
            version: dialog.version(),
            expires: dialog.expires,
        };
        self.ledger.insert(dialog.identity(), past);
    }

    fn deliver(&mut self, dialog: &Dialog, summary: Summary, cseq: u32) -> Verdict {
        if self.now < self.proxy_down_until || self.random.below(10) == 0 {
            // Lost on the way there or on the way back.
            if self.random.below(2) == 0 {
                self.take(dialog, summary, cseq);
            }
            return Verdict::Later(None);
        }
        self.take(dialog, summary, cseq)
    }

    fn take(&mut self, dialog: &Dialog, summary: Summary, cseq: u32) -> Verdict {
        let (now, seed, row) = (self.now, self.seed, dialog.row);
        let Some(subscription) = self.rows.get_mut(&row.0) else { return Verdict::Gone };
        let phone = &mut subscription.phone;
        if phone.gone || subscription.row.callid.as_deref() != Some(&*dialog.call_id) {
            return Verdict::Gone;
        }
        if cseq <= phone.highest {
            return Verdict::TooLow;
        }
        let early = phone.last_notify.is_some_and(|last| now < last + Duration::from_millis(900));
        assert!(!early, "seed {seed}: two NOTIFYs within a second in row {row}");
        phone.last_notify = Some(now);
        phone.highest = cseq;
        phone.shows = Some(summary);
        Verdict::Delivered
    }

    /// The ledger hears of an answer; it may be too late for it to be written.
    fn note(&mut self, dialog: &Dialog, verdict: Verdict, summary: Summary, cseq: u32) {
        let is_written = self.random.below(4) > 0;
        let Some(entry) = self.ledger.get_mut(&dialog.identity()).filter(|_| is_written) else {
            return;
        };
        match verdict {
            Verdict::Delivered if entry.high_water == cseq => entry.delivered = Some(summary),
            Verdict::Gone => entry.dead = true,
            _ => {}
        }
    }

    /// kill -9, and a new start: what was in flight may still arrive, nobody hears the answer.
    fn crash(&mut self) {
        for (_, pending) in std::mem::take(&mut self.pending) {
            if let Pending::Notify { dialog, summary, cseq } = pending
                && self.random.below(2) == 0
            {
                self.take(&dialog, summary, cseq);
            }
        }
        self.in_flight.clear();
        // A restart takes longer than a second, so no phone is told twice within one.
        self.now += Duration::from_secs(1);
        self.reconciler = Reconciler::new(settings(), self.seed);
        self.reconciler.remember(self.ledger.iter().map(|(identity, past)| (*identity, *past)));
        // Now and then a mailbox was removed, so that no source speaks of it any more.
        self.truth.retain(|_, _| self.random.below(8) > 0);
        for (account, summary) in self.truth.clone() {
            self.desire(&account, summary, Urgency::CatchUp);
        }
        let lasts: Vec<Account> = self.lasts.keys().cloned().collect();
        for account in lasts.iter().filter(|account| !self.truth.contains_key(account)) {
            self.reconciler.set(account, Summary::default(), Urgency::CatchUp, false);
            self.lasts.insert(account.clone(), Summary::default());
        }
    }

    fn answer(&mut self, pending: Pending) {
        let database_up = self.now >= self.database_down_until;
        match pending {
            Pending::Find(account, _) if !database_up => {
                self.reconciler.handle_lookup_failure(&account, self.now);
            }
            Pending::Find(account, found) => {
                let unix = self.unix();
                self.reconciler.handle_dialogs(&account, found, self.now, unix);
                self.forget_told(&account);
            }
            Pending::Claim(row, _) if !database_up => {
                self.reconciler.handle_claim_failure(row, self.now);
            }
            Pending::Claim(row, above) => {
                let flavour = self.flavour;
                let claimed = self.rows.get_mut(&row.0).map(|subscription| {
                    let old = subscription.row.local_cseq.unwrap();
                    let new = (old + 1).max(flavour.row(i64::from(above) + 1));
                    subscription.row.local_cseq = Some(new);
                    u32::try_from(flavour.wire(new)).unwrap()
                });
                self.reconciler.handle_claim(row, claimed, self.now);
            }
            Pending::Server(id) => self.server_notifies(id),
            Pending::Notify { dialog, summary, cseq } => {
                let verdict = self.deliver(&dialog, summary, cseq);
                self.in_flight.insert(dialog.row, 0);
                self.note(&dialog, verdict, summary, cseq);
                self.reconciler.handle_verdict(dialog.row, verdict, self.now);
                self.forget_told(&dialog.account);
            }
        }
    }

    /// Moves the clock to the next thing that happens, at most to `until`.
    fn step(&mut self, until: Instant) {
        self.act();
        let due = self.pending.iter().map(|(at, _)| *at).min();
        let timeout = self.reconciler.poll_timeout(self.now);
        let next = due.into_iter().chain(timeout).min().unwrap_or(until).min(until);
        assert!(
            next > self.now || due.is_some_and(|due| due <= self.now) || next == until,
            "seed {}: the reconciler asks to be called at once for ever",
            self.seed
        );
        self.now = self.now.max(next);
        let now = self.now;
        while let Some(index) = self.pending.iter().position(|(at, _)| *at <= now) {
            let (_, pending) = self.pending.swap_remove(index);
            self.answer(pending);
        }
        self.act();
    }

    fn run(&mut self) {
        for _ in 0..120 {
            self.disturb();
            let until = self.now + self.random.millis(1500);
            while self.now < until {
                self.step(until);
            }
        }
        self.database_down_until = self.now;
        self.proxy_down_until = self.now;
        // Those that no source speaks of any more stay as they are.
        for account in self.truth.keys().cloned().collect::<Vec<_>>() {
            self.change_in_flight(&account);
        }
        let until = self.now + Duration::from_secs(300);
        while self.now < until {
            self.step(until);
        }
        self.check();
    }

    /// A last change of an account, while the NOTIFY of the one before is under way.
    fn change_in_flight(&mut self, account: &Account) {
        self.change(account);
        let until = self.now + Duration::from_secs(3);
        while self.now < until && !self.is_in_flight(account) {
            self.step(until);
        }
        self.change(account);
    }

    fn is_in_flight(&self, account: &Account) -> bool {
        self.rows.values().any(|subscription| {
            subscription.row.presentity_uri.as_deref() == Some(account.as_str())
                && self.in_flight.get(&RowId(subscription.row.id)) == Some(&1)
        })
    }

    fn check(&self) {
        for (id, subscription) in &self.rows {
            let account: Account =
                subscription.row.presentity_uri.as_deref().unwrap().parse().unwrap();
            let (phone, truth) = (&subscription.phone, self.truth.get(&account));
            // Where no source speaks of an account its phones show nothing, or what they were told.
            let shown = phone.shows.unwrap_or_default();
            let is_right = match truth {
                Some(truth) => phone.shows == Some(*truth),
                None => shown == Summary::default(),
            };
            assert!(
                phone.gone || is_right,
                "seed {}: the phone of row {id} shows {shown} and not {truth:?}",
                self.seed
            );
        }
        assert!(self.lasts.values().all(|last| *last != Summary::default()), "seed {}", self.seed);
        let census = self.reconciler.census();
        assert_eq!(census.in_flight, 0, "seed {}: {census:?}", self.seed);
        assert_eq!(census.waiting, 0, "seed {}: {census:?}", self.seed);
    }
}

#[test]
fn whatever_happens_every_phone_ends_with_the_truth() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => seed.parse().unwrap()..=seed.parse().unwrap(),
        Err(_) => 0..=400,
    };
    let mut notifies = 0;
    for seed in seeds {
        let mut world = World::new(seed);
        world.run();
        notifies += world.notifies;
    }
    println!("{notifies} NOTIFYs");
    assert!(notifies > 100, "the model sent only {notifies} NOTIFYs");
}
