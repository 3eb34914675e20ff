//! What the benchmarks have in common: the phones, a table for docs/performance.md, and what a process
//! has used.

#![allow(dead_code, reason = "each benchmark uses its own part")]

pub mod phones;
pub mod site;

use std::fs;
use std::path::Path;
use std::time::Duration;

/// Where the tables go, for scripts/bench.
const OUT: &str = "MWID_BENCH_OUT";

/// Whether it is only to be shown that everything runs.
pub fn is_quick() -> bool {
    std::env::args().any(|it| it == "--quick")
}

/// The words that choose a part of a benchmark.
pub fn chosen() -> Vec<String> {
    std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect()
}

/// A table: printed line by line as it comes, and left as Markdown for scripts/bench.
pub struct Table {
    file: &'static str,
    markdown: String,
}

impl Table {
    /// `file`: its place among the others, and its name.
    pub fn new(file: &'static str, title: &str, columns: &[&str]) -> Self {
        println!("\n{title}\n  {}", columns.join(" | "));
        let rule = vec!["---"; columns.len()].join(" | ");
        let head = columns.join(" | ");
        Self { file, markdown: format!("### {title}\n\n| {head} |\n| {rule} |\n") }
    }

    pub fn row<S: AsRef<str>>(&mut self, cells: &[S]) {
        let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
        println!("  {:<58} {}", cells[0], cells[1..].join(" | "));
        self.markdown.push_str(&format!("| {} |\n", cells.join(" | ")));
    }

    /// What stands below the table.
    pub fn note(&mut self, text: &str) {
        println!("  {text}");
        self.markdown.push_str(&format!("\n{text}\n"));
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if let Some(out) = std::env::var_os(OUT) {
            let file = Path::new(&out).join(format!("{}.md", self.file));
            fs::write(&file, &self.markdown).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        }
    }
}

/// Some times, in their order.
pub struct Times(Vec<Duration>);

impl Times {
    pub fn new(mut times: Vec<Duration>) -> Self {
        assert!(!times.is_empty(), "something was measured");
        times.sort_unstable();
        Self(times)
    }

    pub fn at(&self, percent: usize) -> Duration {
        self.0[(self.0.len() - 1) * percent / 100]
    }

    pub fn median(&self) -> Duration {
        self.at(50)
    }
}

pub fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

pub fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// How often `small` is in `large`.
pub fn times(large: Duration, small: Duration) -> String {
    format!("{:.1} ×", large.as_secs_f64() / small.as_secs_f64())
}

/// CPU time of a process so far, its threads that have ended included.
pub fn cpu(pid: u64) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // After the name in parentheses: state is field 3, utime 14, stime 15, in hundredths.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|it| it.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// CPU time of the thread that asks.
pub fn own_cpu() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// A line of `/proc/PID/status` in megabytes: `VmRSS`, `VmHWM`.
pub fn memory(pid: u64, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
