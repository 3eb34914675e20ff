//! What goes wrong.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use crate::support::fleet::daemon::Daemon;
use crate::support::fleet::random::Random;
use crate::support::fleet::rows::Rows;
use crate::support::fleet::spool::Spool;
use crate::support::fleet::switchboard::{Mode, Switchboard, Weather};

/// A bad network.
const STORM: Weather =
    Weather { lost: 20, doubled: 10, late: 20, delay: Duration::from_millis(150) };

/// One of the things that go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The network loses, doubles and delays.
    Storm,
    /// The proxy answers nothing.
    Silent,
    /// The proxy's port is closed.
    Gone,
    /// The proxy answers 500, without a phone.
    Error500,
    /// The proxy answers 503, without a phone.
    Error503,
    /// The database stops, whoever is connected.
    Database,
    /// mwid reads its configuration again.
    Reload,
    /// mwid stands still, as in a virtual machine that is paused.
    Pause,
    /// The folder of all mailboxes is away.
    Unmounted,
    /// In its place is an empty one.
    EmptyMountPoint,
    /// mwid is killed and started again.
    Kill,
}

/// The last one is only for when mwid may be killed.
const ALL: [Trouble; 11] = [
    Trouble::Storm,
    Trouble::Silent,
    Trouble::Gone,
    Trouble::Error500,
    Trouble::Error503,
    Trouble::Database,
    Trouble::Reload,
    Trouble::Pause,
    Trouble::Unmounted,
    Trouble::EmptyMountPoint,
    Trouble::Kill,
];

impl Trouble {
    /// Any of them, or of those that `SOAK_TROUBLES` names: `Unmounted,Reload`.
    pub fn choose(random: &mut Random, may_kill: bool) -> Self {
        let Ok(wanted) = std::env::var("SOAK_TROUBLES") else {
            return ALL[random.index(ALL.len() - usize::from(!may_kill))];
        };
        let names: Vec<&str> = wanted.split(',').collect();
        let name = names[random.index(names.len())];
        let found = ALL.into_iter().find(|it| format!("{it:?}") == name);
        found.unwrap_or_else(|| panic!("SOAK_TROUBLES: {name:?} is none of {ALL:?}"))
    }

    /// Whether both can be at once.
    pub fn goes_with(self, other: Self) -> bool {
        self.place() != other.place()
    }

    /// What it befalls.
    fn place(self) -> u8 {
        match self {
            Self::Storm | Self::Silent | Self::Gone | Self::Error500 | Self::Error503 => 0,
            Self::Database => 1,
            Self::Reload | Self::Pause | Self::Kill => 2,
            Self::Unmounted | Self::EmptyMountPoint => 3,
        }
    }
}

/// How often each of them came.
#[derive(Debug, Default)]
pub struct Tally([u32; ALL.len()]);

impl Tally {
    /// In a long time each of them must have come.
    pub fn check(&self, length: Duration) {
        let is_long = length > Duration::from_secs(1200);
        let least = u32::from(is_long && std::env::var_os("SOAK_TROUBLES").is_none());
        assert!(self.0.iter().all(|&count| count >= least), "not all kinds of trouble: {self}");
        assert!(self.0.iter().sum::<u32>() > 0, "there was no trouble");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = ALL.iter().zip(&self.0).map(|(trouble, count)| format!("{trouble:?} {count}"));
        formatter.write_str(&words.collect::<Vec<_>>().join(", "))
    }
}

/// Where it happens.
pub struct Scene<'a> {
    /// mwid.
    pub mwid: &'a mut Daemon,
    /// The proxy and the phones.
    pub board: &'a Switchboard,
    /// The mailboxes.
    pub spool: &'a Spool,
    /// The presence server's table.
    pub rows: &'a Rows,
    /// Whoever holds it changes mailboxes, and nobody else.
    pub hand: &'a Mutex<()>,
}

impl<'a> Scene<'a> {
    /// All these at once, for some seconds; then a moment of peace.
    pub fn suffer(&mut self, troubles: &[Trouble], random: &mut Random, tally: &mut Tally) {
        let held: Vec<_> = troubles.iter().map(|&trouble| self.begin(trouble, tally)).collect();
        thread::sleep(Duration::from_millis(500 + random.below(3500)));
        for (trouble, held) in troubles.iter().zip(held) {
            self.end(*trouble, held);
        }
        thread::sleep(Duration::from_millis(100 + random.below(1900)));
    }

    fn begin(&mut self, trouble: Trouble, tally: &mut Tally) -> Option<MutexGuard<'a, ()>> {
        let index = ALL.iter().position(|it| *it == trouble).expect("all are in the list");
        tally.0[index] += 1;
        let mut held = None;
        match trouble {
            Trouble::Storm => self.board.set_weather(STORM),
            Trouble::Silent => self.board.set_mode(Mode::Silent),
            Trouble::Gone => self.board.set_mode(Mode::Gone),
            Trouble::Error500 => self.board.set_mode(Mode::Refusing(500)),
            Trouble::Error503 => self.board.set_mode(Mode::Refusing(503)),
            Trouble::Database => self.rows.stop_server(),
            Trouble::Reload => {
                self.mwid.wait_until_up();
                assert!(self.mwid.reload(), "its own configuration is taken again");
            }
            Trouble::Pause => self.mwid.pause(),
            Trouble::Unmounted | Trouble::EmptyMountPoint => {
                held = Some(self.hand.lock().expect("no other thread panics with it"));
                let root = self.spool.root();
                fs::rename(root, away(root)).unwrap();
                if trouble == Trouble::EmptyMountPoint {
                    fs::create_dir(root).unwrap();
                }
            }
            Trouble::Kill => {
                self.mwid.kill();
                self.board.expect_another_start();
                self.mwid.spawn();
            }
        }
        held
    }

    fn end(&mut self, trouble: Trouble, held: Option<MutexGuard<'a, ()>>) {
        match trouble {
            Trouble::Storm => self.board.set_weather(Weather::default()),
            Trouble::Silent | Trouble::Gone | Trouble::Error500 | Trouble::Error503 => {
                self.board.set_mode(Mode::Up);
            }
            Trouble::Database => self.rows.start_server(),
            Trouble::Pause => self.mwid.resume(),
            Trouble::Unmounted | Trouble::EmptyMountPoint => {
                let root = self.spool.root();
                if trouble == Trouble::EmptyMountPoint {
                    fs::remove_dir(root).unwrap();
                }
                fs::rename(away(root), root).unwrap();
            }
            Trouble::Reload | Trouble::Kill => {}
        }
        drop(held);
    }
}

fn away(root: &Path) -> PathBuf {
    root.with_extension("away")
}
