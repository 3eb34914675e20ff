//! A platform of several media servers: each with its own mwid, all on one presence database.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mwid::demo::phone::Subscription;
use mwid_core::dialog::Flavour;
use mwid_core::summary::Summary;
use tempfile::TempDir;

use crate::support::fleet::daemon::Daemon;
use crate::support::fleet::handset::Rules;
use crate::support::fleet::random::Random;
use crate::support::fleet::rows::{Rows, Server};
use crate::support::fleet::spool::{CONTEXT, Spool};
use crate::support::fleet::switchboard::Switchboard;

/// `[cluster] lease` of all nodes.
pub const LEASE: Duration = Duration::from_secs(2);

/// How long lamps may take to become right when nothing is broken.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Whose messages the nodes see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Own,
    Shared,
}

/// What a platform is made of.
pub struct Setup {
    pub name: &'static str,
    pub nodes: usize,
    /// Mailboxes, each an account with a phone.
    pub accounts: usize,
    pub scope: Scope,
    pub server: Server,
    pub flavour: Flavour,
    /// Whether the tables are there from the beginning.
    pub tables: bool,
    /// Another database for the cluster's tables.
    pub cluster: Option<Server>,
    /// `[timers] min_interval`.
    pub min_interval: u32,
    pub seed: u64,
}

impl Setup {
    pub fn new(name: &'static str, nodes: usize, scope: Scope) -> Self {
        Self {
            name,
            nodes,
            accounts: 60,
            scope,
            server: Server::Sqlite,
            flavour: Flavour::OpenSips,
            tables: true,
            cluster: None,
            min_interval: 50,
            seed: 1,
        }
    }

    pub fn build(self) -> Platform {
        let folder = TempDir::with_prefix("mwid-cluster-").unwrap();
        let mut random = Random::new(self.seed);
        // Several mwid send: what one of them sent may arrive after what another sent later.
        let rules = Rules {
            min_interval: Duration::ZERO,
            timer_f: Duration::ZERO,
            orderly: false,
            shared: true,
        };
        let board = Switchboard::open(rules, random.fork());
        board.expect_another_start();
        let address = board.address().to_string();
        let subscriptions: Vec<_> = (0..self.accounts).map(subscription).collect();
        board.connect(&subscriptions);
        let rows = Rows::new(self.server, self.flavour, folder.path());
        rows.insert(&subscriptions, &address);
        let elsewhere = self.cluster.map(|server| {
            let folder = folder.path().join("elsewhere");
            std::fs::create_dir(&folder).unwrap();
            Rows::new(server, self.flavour, &folder)
        });
        let spools = match self.scope {
            Scope::Own => self.nodes,
            Scope::Shared => 1,
        };
        let spools: Vec<Spool> = (0..spools)
            .map(|index| {
                Spool::new(&folder.path().join(format!("voicemail{index}")), self.accounts)
            })
            .collect();
        let mut platform = Platform {
            nodes: Vec::new(),
            board,
            spools,
            rows,
            elsewhere,
            random,
            setup: self,
            folder,
        };
        for index in 0..platform.setup.nodes {
            let node = platform.node(index, &format!("vm{index}"));
            platform.nodes.push(node);
        }
        if platform.setup.tables {
            platform.make_tables();
        }
        platform
    }
}

fn subscription(number: usize) -> Subscription {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Subscription {
        user: Spool::user(number),
        domain: CONTEXT.into(),
        call_id: call_id(number),
        phone_tag: format!("phone-{number}"),
        server_tag: format!("server-{number}"),
        contact: format!("sip:phone{number}@192.0.2.{}:5062", number % 250),
        expires: unix + 3600,
        cseq: 1,
    }
}

fn call_id(number: usize) -> String {
    format!("call-{number}@phones.example.com")
}

/// The platform. No node is started by itself.
pub struct Platform {
    /// Dropped, and so killed, before all else.
    pub nodes: Vec<Daemon>,
    pub board: Switchboard,
    pub spools: Vec<Spool>,
    pub rows: Rows,
    pub elsewhere: Option<Rows>,
    pub random: Random,
    setup: Setup,
    folder: TempDir,
}

impl Platform {
    /// A mwid that was not started yet.
    pub fn node(&self, index: usize, name: &str) -> Daemon {
        let folder = self.folder.path().join(format!("node{index}-{name}"));
        std::fs::create_dir(&folder).unwrap();
        let (scope, spool) = match self.setup.scope {
            Scope::Own => ("own", &self.spools[index]),
            Scope::Shared => ("shared", &self.spools[0]),
        };
        let cluster =
            self.elsewhere.as_ref().map(|it| format!("url = {}\n", it.url())).unwrap_or_default();
        let configuration = format!(
            "[general]\nproxy = {}\nbindip = 127.0.0.1\n\
             [spool]\npath = {}\npoll = 1\nscope = {scope}\n\
             [database]\nurl = {}\ntimeout = 2\n\
             [cluster]\nnode = {name}\nlease = {}\npoll = 20\n{cluster}\
             [timers]\nt1 = 100\nt2 = 400\nt4 = 400\nmin_interval = {}\nrate = 100000\n\
             retry_min = 1\nretry_max = 2\nshutdown = 1\n",
            self.board.address(),
            spool.root().display(),
            self.rows.url(),
            LEASE.as_secs(),
            self.setup.min_interval,
        );
        Daemon::new(&folder, &configuration)
    }

    /// The database that the cluster's tables are in.
    pub fn tables(&self) -> &Rows {
        self.elsewhere.as_ref().unwrap_or(&self.rows)
    }

    pub fn make_tables(&self) {
        let server = self.setup.cluster.unwrap_or(self.setup.server);
        let folder = match server {
            Server::Sqlite => "sqlite",
            Server::MariaDb(_) => "mysql",
            Server::Postgres(_) => "postgres",
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql").join(folder);
        let script = std::fs::read_to_string(script.join("cluster.sql")).unwrap();
        // Twice: an operator does not know whether somebody did it before.
        self.tables().sql(&script);
        self.tables().sql(&script);
    }

    /// Starts all nodes and waits until they have agreed.
    pub fn start(&mut self) {
        self.nodes.iter_mut().for_each(Daemon::spawn);
        self.nodes.iter_mut().for_each(Daemon::wait_until_up);
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        self.agree(&all);
    }

    /// Waits until exactly these nodes are alive, agree, and have all accounts among them.
    pub fn agree(&self, alive: &[usize]) -> Duration {
        let began = Instant::now();
        let names: Vec<String> = alive.iter().map(|index| format!("vm{index}")).collect();
        loop {
            let clusters = alive.iter().map(|index| self.nodes[*index].status()["cluster"].clone());
            let clusters: Vec<_> = clusters.collect();
            let agreed = clusters.iter().all(|cluster| {
                cluster["live"] == serde_json::json!(names) && cluster["agreed"] == true
            });
            let owned: u64 = clusters.iter().map(|it| it["owned"].as_u64().unwrap()).sum();
            if agreed && owned == self.setup.accounts as u64 {
                return began.elapsed();
            }
            assert!(
                began.elapsed() < LIMIT,
                "{names:?} do not agree: {clusters:#?}\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn log(&self) -> String {
        let logs = self.nodes.iter().enumerate();
        logs.map(|(index, node)| format!("--- vm{index}\n{}", node.log_tail())).collect()
    }

    /// What every mailbox holds on all nodes together.
    pub fn truths(&self) -> Vec<Summary> {
        let mut sums = vec![Summary::default(); self.setup.accounts];
        for spool in &self.spools {
            for (sum, truth) in sums.iter_mut().zip(spool.truths()) {
                *sum = sum.plus(truth);
            }
        }
        sums
    }

    /// What a phone shows.
    pub fn shows(&self, number: usize) -> Option<Summary> {
        self.board.ask(&call_id(number), |handset| handset.shows())
    }

    /// Phones that do not show the truth.
    pub fn wrong(&self) -> Vec<String> {
        let compare = |(number, truth): (usize, &Summary)| {
            let shown = self.shows(number);
            (shown != Some(*truth)).then(|| format!("{number} shows {shown:?}, not {truth}"))
        };
        self.truths().iter().enumerate().filter_map(compare).collect()
    }

    /// Waits until all phones show the truth; how long that took.
    pub fn settle(&self) -> Duration {
        let began = Instant::now();
        loop {
            self.board.check();
            let wrong = self.wrong();
            if wrong.is_empty() {
                return began.elapsed();
            }
            assert!(began.elapsed() < LIMIT, "{wrong:#?}\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the phone of a mailbox shows the truth; how long that took.
    pub fn settle_one(&self, number: usize) -> Duration {
        let began = Instant::now();
        let truth = self.truths()[number];
        while self.shows(number) != Some(truth) {
            assert!(began.elapsed() < LIMIT, "{number}: {:?}\n{}", self.shows(number), self.log());
            thread::sleep(Duration::from_millis(2));
        }
        began.elapsed()
    }

    /// So many changes on these spools, a few milliseconds apart, while something else happens.
    pub fn change_during(
        &mut self,
        spools: &[usize],
        count: usize,
        meanwhile: impl FnOnce(&mut Vec<Daemon>),
    ) {
        let mut random = self.random.fork();
        let own = &self.spools;
        let nodes = &mut self.nodes;
        thread::scope(|scope| {
            scope.spawn(move || {
                let began = Instant::now();
                for step in 0..count {
                    let due = began + Duration::from_millis(4) * u32::try_from(step).unwrap();
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    own[spools[random.index(spools.len())]].change(&mut random);
                }
            });
            meanwhile(nodes);
        });
    }

    /// Which of these nodes tells the phone of a mailbox, by asking it to.
    pub fn owner_of(&self, number: usize, alive: &[usize]) -> usize {
        let nodes: Vec<String> = alive.iter().map(|index| format!("vm{index}")).collect();
        let account = format!("sip:{}@{CONTEXT}", Spool::user(number)).parse().unwrap();
        let owner = mwid_core::ownership::owner(&nodes, &account).unwrap();
        owner.trim_start_matches("vm").parse().unwrap()
    }

    /// A mailbox that this node tells of when these are alive.
    pub fn owned_by(&self, node: usize, alive: &[usize]) -> usize {
        let mut all = 0..self.setup.accounts;
        all.find(|number| self.owner_of(*number, alive) == node).expect("there are many accounts")
    }

    pub fn report(&self, note: &str) {
        let figures = self.board.figures();
        let changes: usize = self.spools.iter().map(Spool::changes).sum();
        println!(
            "{}: {changes} changes, {} NOTIFYs, {} copies, {} times 500, {note}",
            self.setup.name, figures.notifies, figures.copies, figures.too_low
        );
    }
}
