//! What one of each keeps in memory: counted by the allocator, from N of them to twice as many.
//!
//! `cargo bench --bench memory`. Counted are the bytes that the core's own tables ask for when nothing is
//! under way, empty places included. `docs/performance.md` says what the figures mean.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has failed")]
#![allow(unreachable_pub, reason = "nothing of a benchmark is reached from elsewhere")]

use std::time::{Duration, Instant};

use mwid::clock;
use mwid_core::dialog::Dialog;
use mwid_core::mailbox::{Account, Mailbox};
use mwid_core::mailboxes::{Directory, Mailboxes};
use mwid_core::pace::Backoff;
use mwid_core::reconciler::{Action, Reconciler, Settings, Urgency, Verdict};
use mwid_core::summary::Summary;
use peak_alloc::PeakAlloc;

#[path = "common/mod.rs"]
mod common;
#[path = "../tests/support/mod.rs"]
mod support;

use common::{Table, is_quick, site};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// One message, as everybody has here.
const NEW: Summary = Summary { new: 1, old: 0, new_urgent: 0, old_urgent: 0 };

fn main() {
    let size = if is_quick() { 1000 } else { 100_000 };
    let columns = ["one more of", "bytes", "of them its names", "the rest"];
    let title = format!("Memory for one more, from {size} of them to {}", 2 * size);
    let mut table = Table::new("8-memory", &title, &columns);
    let mut house = House::new();
    let names = mailbox(0).to_string().len() + house.count(0).to_string().len();
    let mut grow = |what: &str, names: usize, more: fn(&mut House, usize)| {
        let [half, all] = [0..size, size..2 * size].map(|numbers| {
            numbers.for_each(|number| more(&mut house, number));
            house.rest();
            ALLOCATOR.current_usage()
        });
        let each = (all - half) as f64 / size as f64;
        let rest = each - names as f64;
        table.row(&[what, &format!("{each:.0}"), &names.to_string(), &format!("{rest:.0}")]);
    };
    grow("a mailbox, and the sum of its account", names, |house, number| drop(house.count(number)));
    grow("an account, none of whose phones is known", 0, House::set);
    grow("a phone: a row of the table, its dialog idle", 0, House::subscribe);
}

fn mailbox(number: usize) -> Mailbox {
    Mailbox::new(&site::user(number), site::CONTEXT).unwrap()
}

/// The tables of the core, as the daemon's loop drives them.
struct House {
    mailboxes: Mailboxes,
    reconciler: Reconciler,
    has_phones: bool,
    now: Instant,
    unix: u64,
}

impl House {
    fn new() -> Self {
        let settings = Settings {
            min_interval: Duration::from_secs(1),
            settle: Duration::from_millis(100),
            rate: u32::MAX,
            backoff: Backoff { min: Duration::from_secs(5), max: Duration::from_secs(600) },
            max_lookups: 64,
            max_in_flight: 16_384,
            shared: true,
        };
        let (mailboxes, reconciler) =
            (Mailboxes::new(Directory::default(), true), Reconciler::new(settings, 1));
        Self { mailboxes, reconciler, has_phones: false, now: Instant::now(), unix: clock::unix() }
    }

    fn count(&mut self, number: usize) -> Account {
        let mut sums = self.mailboxes.observe(&mailbox(number), NEW).unwrap();
        sums.pop().unwrap().0
    }

    fn set(&mut self, number: usize) {
        let account = self.count(number);
        self.reconciler.set(&account, NEW, Urgency::CatchUp, false);
    }

    fn subscribe(&mut self, number: usize) {
        self.has_phones = true;
        let account = self.count(number);
        self.reconciler.look_up(&account, Urgency::CatchUp);
    }

    /// Until nothing is under way, and nothing is to be looked at again.
    fn rest(&mut self) {
        loop {
            while let Some(action) = self.reconciler.poll_action(self.now) {
                self.act(action);
            }
            let Some(next) = self.reconciler.poll_timeout(self.now) else { return };
            self.now = self.now.max(next);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Find(account) => {
                let number: usize = account.user().parse().unwrap();
                let number = number - 1_000_000;
                let mut phone = site::subscription(number);
                // The same at every look: nobody refreshes it.
                phone.expires = self.unix + 36_000;
                let row = phone.row(number as i64, "192.0.2.1:5060");
                let found = self.has_phones.then(|| Dialog::from_row(&row).unwrap());
                let found = found.into_iter().collect();
                self.reconciler.handle_dialogs(&account, found, self.now, self.unix);
            }
            Action::Claim { dialog, above } => {
                self.reconciler.handle_claim(dialog.row, Some(above + 1), self.now);
            }
            Action::Notify { dialog, .. } => {
                self.reconciler.handle_verdict(dialog.row, Verdict::Delivered, self.now);
            }
            Action::Publish(order) => panic!("{order:?} of an account that is told by NOTIFY"),
        }
    }
}
