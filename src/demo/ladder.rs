//! The SIP ladder that the demo prints: who said what to whom, and when.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::line::{Event, What};

/// Columns of the three life lines.
const WIDTH: usize = 24;

/// Prints the ladder as it grows, or keeps quiet for `--json`.
pub(super) struct Ladder {
    start: Instant,
    quiet: bool,
    colour: bool,
}

impl Ladder {
    pub(super) fn new(quiet: bool) -> Self {
        Self { start: Instant::now(), quiet, colour: io::stdout().is_terminal() }
    }

    pub(super) fn head(&self, spool: &str) {
        self.say(&format!("\n  A voicemail finds its phone. The spool is {spool}\n"));
        let (one, two, three) = ("voicemail spool", "mwid", "phone (via proxy)");
        self.say(&format!("{:>10}  {one:^WIDTH$}{two:^WIDTH$}{three:^WIDTH$}", "seconds"));
        self.row(None, &rung(' ', ' '), "");
    }

    /// Something happened in the spool.
    pub(super) fn spool(&self, what: &str, note: &str) {
        let arrow = format!("-{:-<width$}>", format!(" {what} "), width = WIDTH - 3);
        let line =
            format!("{:half$}|{arrow}|{:gap$}|", "", "", half = WIDTH / 2 - 1, gap = WIDTH - 1);
        self.row(Some(Instant::now()), &line, note);
        self.row(None, &rung(' ', ' '), "");
    }

    pub(super) fn event(&self, event: &Event) {
        let at = Some(event.at);
        match &event.what {
            What::Lost(_) => {
                self.row(at, &message("NOTIFY", '-', "-x"), "lost on its way, on purpose")
            }
            What::Believed { cseq, summary, lamp } => {
                let lamp = self.lamp(*lamp);
                self.row(
                    at,
                    &message(&format!("NOTIFY {cseq}"), '-', "->"),
                    &format!("Voice-Message: {summary}"),
                );
                self.row(at, &back("200 OK"), &format!("the phone believes it: {lamp}"));
                self.row(None, &rung(' ', ' '), "");
            }
            What::Repeated => {
                self.row(at, &message("NOTIFY", '-', "->"), "the same once more");
                self.row(at, &back("200 OK"), "");
            }
            What::Refused { code, why } => {
                self.row(at, &message("NOTIFY", '-', "->"), "");
                self.row(at, &back(&code.to_string()), &format!("refused: {why}"));
            }
            What::Ignored(why) => {
                self.row(at, &message("?", '-', "->"), &format!("ignored: {why}"))
            }
        }
    }

    pub(super) fn say(&self, text: &str) {
        if !self.quiet {
            // A reader that went away is nobody's error.
            let _ = writeln!(io::stdout(), "{text}");
        }
    }

    fn lamp(&self, on: bool) -> String {
        match (on, self.colour) {
            (true, true) => "\x1b[1;33m(*) lamp ON\x1b[0m".to_owned(),
            (true, false) => "(*) lamp ON".to_owned(),
            (false, _) => "( ) lamp off".to_owned(),
        }
    }

    fn row(&self, at: Option<Instant>, line: &str, note: &str) {
        let mut text = String::new();
        let since = at.map(|at| at.saturating_duration_since(self.start));
        // Writing to a String cannot fail.
        let _ = write!(text, "{:>10}  {line}  {note}", since.map(seconds).unwrap_or_default());
        self.say(text.trim_end());
    }
}

fn seconds(since: Duration) -> String {
    format!("{:.3}", since.as_secs_f64())
}

fn rung(left: char, right: char) -> String {
    let half = WIDTH / 2 - 1;
    let (left, right) = (left.to_string().repeat(WIDTH - 1), right.to_string().repeat(WIDTH - 1));
    format!("{:half$}|{left}|{right}|", "")
}

/// An arrow from mwid to the phone.
fn message(label: &str, fill: char, head: &str) -> String {
    let width = WIDTH - 1 - head.len();
    let mut arrow = format!(" {label} ");
    arrow.insert(0, fill);
    while arrow.len() < width {
        arrow.push(fill);
    }
    format!("{:half$}|{:gap$}|{arrow}{head}|", "", "", half = WIDTH / 2 - 1, gap = WIDTH - 1)
}

/// An arrow from the phone back to mwid.
fn back(label: &str) -> String {
    let mut arrow = format!("<{}", "-".repeat(WIDTH - 5 - label.len()));
    arrow.push_str(&format!(" {label} -"));
    format!("{:half$}|{:gap$}|{arrow}|", "", "", half = WIDTH / 2 - 1, gap = WIDTH - 1)
}
