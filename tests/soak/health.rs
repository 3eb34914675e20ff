//! What mwid takes of the machine, looked at whenever it has nothing to do.

use std::fmt;
use std::fs;
use std::time::Duration;

use nix::unistd::Pid;

use crate::support::fleet::daemon::Daemon;

/// Looks at one life that say whether mwid grows; with fewer nothing is judged.
const ENOUGH: usize = 8;
/// What memory may differ by between two quarters of a life, in kB: what an allocator keeps.
const SLACK: u64 = 1024;
/// The same of file descriptors: connections to the database come and go.
const MORE_FILES: usize = 2;

/// One look.
#[derive(Clone, Debug)]
pub struct State {
    process: Pid,
    at: Duration,
    /// `VmRSS`, kB.
    memory: u64,
    files: usize,
    /// Of the processor, since the process was started.
    used: Duration,
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { process, memory, files, used, .. } = self;
        write!(
            formatter,
            "process {process}: {memory} kB, {files} files, {:.1} s of a core",
            used.as_secs_f32()
        )
    }
}

/// All looks, in order.
#[derive(Debug, Default)]
pub struct Health(Vec<State>);

impl Health {
    /// Looks.
    pub fn look(&mut self, mwid: &Daemon, at: Duration) -> State {
        let process = mwid.id();
        let folder = format!("/proc/{process}");
        let status = fs::read_to_string(format!("{folder}/status")).unwrap();
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let memory = memory.trim().strip_suffix(" kB").unwrap().parse().unwrap();
        let files = fs::read_dir(format!("{folder}/fd")).unwrap().count();
        let stat = fs::read_to_string(format!("{folder}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        // utime and stime, in hundredths of a second on every Linux.
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        let state = State { process, at, memory, files, used: Duration::from_millis(ticks * 10) };
        self.0.push(state.clone());
        state
    }

    /// Panics if the longest life grew.
    pub fn check(&self) {
        let life = self.longest_life();
        if life.len() < ENOUGH {
            return;
        }
        let (early, late) = quarters(life);
        let memory = |states: &[State]| median(states.iter().map(|state| state.memory).collect());
        let (was, is) = (memory(early), memory(late));
        assert!(is <= was + was / 20 + SLACK, "{is} kB after {was} kB: {self}");
        let files = |states: &[State]| states.iter().map(|state| state.files).max().unwrap();
        let (was, is) = (files(early), files(late));
        assert!(is <= was + MORE_FILES, "{is} files after {was}: {self}");
    }

    fn longest_life(&self) -> &[State] {
        let lives = self.0.chunk_by(|one, other| one.process == other.process);
        lives.max_by_key(|life| life.len()).unwrap_or_default()
    }
}

impl fmt::Display for Health {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let life = self.longest_life();
        let (Some(first), Some(last)) = (life.first(), life.last()) else { return Ok(()) };
        let lived = last.at - first.at;
        let span = |of: fn(&State) -> u64, states: &[State]| {
            let values = || states.iter().map(of);
            let (low, high) = (values().min().unwrap_or(0), values().max().unwrap_or(0));
            format!("{low} to {high}, median {}", median(values().collect()))
        };
        let (early, late) = quarters(life);
        for (name, states) in [("second quarter", early), ("last quarter", late)] {
            let memory = span(|state| state.memory, states);
            let files = span(|state| state.files as u64, states);
            write!(formatter, "{name}: {memory} kB; {files} files. ")?;
        }
        let used = (last.used - first.used).as_secs_f32();
        write!(formatter, "It lived {} s and used {used:.0} s of a core", lived.as_secs())
    }
}

/// The first quarter of a life is for warming up.
fn quarters(life: &[State]) -> (&[State], &[State]) {
    let quarter = life.len().div_ceil(4);
    let early = &life[quarter.min(life.len() - 1)..];
    (&early[..quarter.min(early.len())], &life[life.len() - quarter..])
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}
