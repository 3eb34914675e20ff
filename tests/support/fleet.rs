//! A fleet: many strict phones behind one proxy, their rows in a real database, a real spool and
//! the real mwid between them. It watches all that mwid sends and can tell whether every phone
//! shows what the spool holds.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use mwid::clock;
use mwid::demo::phone::Subscription;
use mwid_core::dialog::Flavour;
use mwid_core::summary::Summary;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

pub mod daemon;
pub mod handset;
pub mod random;
pub mod rows;
pub mod spool;
pub mod switchboard;

use daemon::Daemon;
use handset::Rules;
use random::Random;
use rows::{Rows, Server};
use spool::{CONTEXT, Spool};
use switchboard::Switchboard;

use super::{SOON, wait_for};

/// What a fleet is made of.
#[derive(Clone, Copy)]
pub struct Setup {
    /// What its figures are printed under.
    pub name: &'static str,
    /// Mailboxes, each an account with a phone.
    pub accounts: usize,
    /// How many of them have a second phone.
    pub pairs: usize,
    /// Where the rows are.
    pub server: Server,
    /// Whose rows they are.
    pub flavour: Flavour,
    /// `[timers] t1`: 64 times this is how long mwid waits for an answer.
    pub t1: Duration,
    /// Somebody else counts in the dialogs too.
    pub shared: bool,
    /// For everything that is random.
    pub seed: u64,
}

/// `[timers] min_interval` of all fleets.
const MIN_INTERVAL: Duration = Duration::from_millis(50);

/// The fleet. mwid is not started by itself.
pub struct Fleet {
    /// mwid; dropped, and so killed, before all else.
    pub mwid: Daemon,
    /// The phones.
    pub board: Switchboard,
    /// The mailboxes.
    pub spool: Spool,
    /// The presence server's table.
    pub rows: Rows,
    /// For everything that is random.
    pub random: Random,
    setup: Setup,
    /// Each phone's Call-ID and its mailbox. The row of the first has the id 1.
    phones: Vec<(String, usize)>,
    folder: TempDir,
}

impl Setup {
    /// A fleet in SQLite with the rows of OpenSIPS, whose mwid is patient.
    pub fn new(name: &'static str, accounts: usize, pairs: usize) -> Self {
        Self {
            name,
            accounts,
            pairs,
            server: Server::Sqlite,
            flavour: Flavour::OpenSips,
            t1: Duration::from_millis(200),
            shared: false,
            seed: 1,
        }
    }

    /// Makes it.
    pub fn build(self) -> Fleet {
        let folder = TempDir::with_prefix("mwid-fleet-").expect("a temporary folder");
        let mut random = Random::new(self.seed);
        let rules = Rules {
            min_interval: MIN_INTERVAL,
            timer_f: self.t1 * 64,
            orderly: true,
            shared: self.shared,
        };
        let board = Switchboard::open(rules, random.fork());
        let address = board.address().to_string();
        let (subscriptions, phones) = self.subscriptions();
        board.connect(&subscriptions);
        let rows = Rows::new(self.server, self.flavour, folder.path());
        rows.insert(&subscriptions, &address);
        let spool = Spool::new(&folder.path().join("voicemail"), self.accounts);
        let configuration = self.configuration(&address, &rows.url(), spool.root());
        let mwid = Daemon::new(folder.path(), &configuration);
        Fleet { mwid, board, spool, rows, random, setup: self, phones, folder }
    }

    fn subscriptions(&self) -> (Vec<Subscription>, Vec<(String, usize)>) {
        let mailboxes = (0..self.accounts).chain(0..self.pairs);
        let subscribe = |(number, mailbox): (usize, usize)| Subscription {
            user: Spool::user(mailbox),
            domain: CONTEXT.into(),
            call_id: format!("call-{number}@phones.example.com"),
            phone_tag: format!("phone-{number}"),
            server_tag: format!("server-{number}"),
            contact: format!("sip:phone{number}@192.0.2.{}:5062", number % 250),
            // Longer than any test.
            expires: clock::unix() + 86_400,
            cseq: 1,
        };
        let subscriptions: Vec<_> = mailboxes.clone().enumerate().map(subscribe).collect();
        let call_ids = subscriptions.iter().map(|it| it.call_id.clone());
        let phones = call_ids.zip(mailboxes).collect();
        (subscriptions, phones)
    }

    fn configuration(&self, proxy: &str, url: &str, spool: &Path) -> String {
        let (t1, min_interval) = (self.t1.as_millis(), MIN_INTERVAL.as_millis());
        // Without triggers a row that somebody else refreshed is seen by a full read only.
        let resync = if self.shared { 1 } else { 300 };
        format!(
            "[general]\nproxy = {proxy}\nbindip = 127.0.0.1\n\
             [spool]\npath = {}\npoll = 1\n\
             [database]\nurl = {url}\ntimeout = 2\nresync = {resync}\n\
             [timers]\nt1 = {t1}\nt2 = {}\nt4 = {}\nmin_interval = {min_interval}\n\
             rate = 100000\nretry_min = 1\nretry_max = 2\n",
            spool.display(),
            t1 * 4,
            t1 * 4,
        )
    }
}

impl Fleet {
    /// How many phones there are.
    pub fn size(&self) -> usize {
        self.phones.len()
    }

    /// A phone's Call-ID.
    pub fn call_id(&self, phone: usize) -> &str {
        &self.phones[phone].0
    }

    /// The folder that everything is in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts mwid and waits until it answers.
    pub fn start(&mut self) {
        self.board.expect_another_start();
        self.mwid.start();
    }

    /// kill -9, and the next one is started at once. Nobody waits for it.
    pub fn kill_and_spawn(&mut self) {
        self.mwid.kill();
        self.board.expect_another_start();
        self.mwid.spawn();
    }

    /// So many changes, one each `step`: not faster, as people are not.
    pub fn change(&mut self, count: usize, step: Duration) {
        let mut random = self.random.fork();
        change(&self.spool, &mut random, count, step);
    }

    /// Makes changes while something else happens, and returns when both have come to an end.
    pub fn change_during(&mut self, count: usize, step: Duration, meanwhile: impl FnOnce(&Self)) {
        let mut random = self.random.fork();
        let fleet = &*self;
        thread::scope(|scope| {
            scope.spawn(|| change(&fleet.spool, &mut random, count, step));
            meanwhile(fleet);
        });
    }

    /// Phones that do not show what the spool holds.
    pub fn wrong(&self) -> Vec<String> {
        self.compare(&self.spool.truths())
    }

    /// Waits until every phone shows what the spool holds and mwid has nothing left to do; panics
    /// when that takes longer than `limit`, and when mwid has done what it must never do.
    pub fn settle(&mut self, limit: Duration) -> Duration {
        let began = Instant::now();
        self.mwid.wait_until_up();
        let truths = self.spool.truths();
        loop {
            self.board.check();
            let wrong = self.compare(&truths);
            if wrong.is_empty() {
                break;
            }
            let shown = wrong.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
            assert!(
                began.elapsed() < limit,
                "{} phones are wrong after {limit:?}:\n{shown}\n{:#}\n{}",
                wrong.len(),
                self.mwid.status(),
                self.mwid.log_tail()
            );
            thread::sleep(Duration::from_millis(10));
        }
        let took = began.elapsed();
        let phones = self.size() as u64;
        while self.mwid.number("/lamps/waiting") > 0
            || self.mwid.number("/lamps/delivered") < phones
        {
            let late = began.elapsed() > limit;
            assert!(!late, "mwid does not come to rest: {:#}", self.mwid.status());
            thread::sleep(Duration::from_millis(10));
        }
        self.board.check();
        took
    }

    /// Dialogs of the ledger whose phone has acknowledged what it was sent last.
    pub fn acknowledged(&self) -> usize {
        let count = self.ask_ledger("SELECT count(*) FROM dialogs WHERE new IS NOT NULL");
        usize::try_from(count).expect("a count")
    }

    /// Waits until the ledger knows what every phone shows and what was claimed in every row: what
    /// nobody waits for is written a moment later.
    pub fn wait_until_written(&self) {
        wait_for("ledger to know all phones", SOON, || {
            let noted = self.ask_ledger("SELECT sum(high_water) FROM dialogs");
            let claimed = "SELECT sum(local_cseq) FROM active_watchers;";
            let claimed: i64 = self.rows.sql(claimed).parse().expect("one number");
            let ahead = self.rows.flavour().wire(0) * i64::try_from(self.size()).expect("not many");
            (self.acknowledged() == self.size() && noted == claimed + ahead).then_some(())
        });
    }

    fn ask_ledger(&self, question: &str) -> i64 {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let file = Connection::open_with_flags(self.mwid.ledger(), flags).expect("mwid made it");
        file.query_row(question, [], |row| row.get(0)).expect("one number")
    }

    /// Prints what happened on the wire.
    pub fn report(&self, converged: Duration, note: &str) {
        let figures = self.board.figures();
        println!(
            "{}: {} changes, {} phones, {} NOTIFYs, {} copies, {} retries, {} times 500, \
             {:.2} s to converge{note}",
            self.setup.name,
            self.spool.changes(),
            self.size(),
            figures.notifies,
            figures.copies,
            figures.retries,
            figures.too_low,
            converged.as_secs_f32(),
        );
    }

    /// NOTIFYs that each phone was sent, copies not counted.
    pub fn notifies(&self) -> Vec<usize> {
        let count = |(call_id, _): &(String, usize)| self.board.ask(call_id, |it| it.notifies());
        self.phones.iter().map(count).collect()
    }

    /// The longest row of 500s in one dialog.
    pub fn most_too_low(&self) -> u32 {
        let most = |(call_id, _): &(String, usize)| self.board.ask(call_id, |it| it.most_too_low());
        self.phones.iter().map(most).max().unwrap_or_default()
    }

    fn compare(&self, truths: &[Summary]) -> Vec<String> {
        let compare = |(call_id, mailbox): &(String, usize)| {
            let (shown, truth) = (self.board.ask(call_id, |it| it.shows()), truths[*mailbox]);
            let words = || {
                let shown = shown.map_or_else(|| "nothing".to_owned(), |it| it.to_string());
                format!("{call_id} of {} shows {shown}, not {truth}", Spool::user(*mailbox))
            };
            (shown != Some(truth)).then(words)
        };
        self.phones.iter().filter_map(compare).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let kept = std::env::temp_dir().join(format!("mwid-fleet-{}.log", self.setup.seed));
            if fs::write(&kept, log).is_ok() {
                eprintln!(
                    "--- {}: the whole log of mwid is in {}",
                    self.setup.name,
                    kept.display()
                );
            }
        }
    }
}

fn change(spool: &Spool, random: &mut Random, count: usize, step: Duration) {
    for () in pace(count, step) {
        spool.change(random);
    }
}

/// Ticks, one each `step`: what happens in the world takes its time.
pub fn pace(count: usize, step: Duration) -> impl Iterator<Item = ()> {
    let began = Instant::now();
    (0..count).map(move |number| {
        let due = began + step * u32::try_from(number).expect("not that many");
        thread::sleep(due.saturating_duration_since(Instant::now()));
    })
}
