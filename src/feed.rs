//! What happens, as it happens: for `mwid watch`.
//!
//! Nobody waits for a reader. Each has a queue of its own; one that is slow is told how many lines it
//! missed. While nobody reads, it costs a look at a number.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mwid_core::mailbox::Account;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::clock;

/// Lines that wait for one reader.
const QUEUE: usize = 1024;

/// Readers at once.
const MAX_READERS: usize = 16;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// For a person.
    pub text: String,
    /// For a script.
    pub data: Value,
    /// How far something is: the next such line takes the place of this one on a terminal.
    pub is_progress: bool,
}

/// Where it is told, and who reads it.
#[derive(Clone, Debug, Default)]
pub struct Feed(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    readers: Mutex<Vec<Reader>>,
    /// As many as there are.
    count: AtomicUsize,
}

#[derive(Debug)]
struct Reader {
    /// Lines of this account alone, and of none.
    account: Option<Account>,
    queue: mpsc::Sender<Arc<Line>>,
    missed: u64,
}

impl Reader {
    /// Hands a line over, or counts it as missed. False when the reader went away.
    fn take(&mut self, line: &Arc<Line>) -> bool {
        if !self.confess() {
            return !self.queue.is_closed();
        }
        match self.queue.try_send(line.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(line)) => {
                // Another progress line will come.
                self.missed += u64::from(!line.is_progress);
                true
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }

    /// Says how many were missed. False while there is no room for that: then this one is, too.
    fn confess(&mut self) -> bool {
        if self.missed == 0 {
            return true;
        }
        let missed = self.missed;
        let text = format!("{missed} lines were missed: this reader is slower than what happens");
        let line = Line::new("", &text, json!({ "type": "missed", "lines": missed }));
        if self.queue.try_send(Arc::new(line)).is_ok() {
            self.missed = 0;
            return true;
        }
        self.missed += 1;
        false
    }
}

impl Line {
    /// A line that happens now, in UTC. `who` is the account, where it is about one. Control characters are
    /// not printed: a text holds what databases and peers said.
    #[must_use]
    pub fn new(who: &str, what: &str, mut data: Value) -> Self {
        let now = clock::since_1970();
        let (seconds, millis) = (now.as_secs(), now.subsec_millis());
        let [hour, minute, second] = [seconds / 3600 % 24, seconds / 60 % 60, seconds % 60];
        let who = if who.is_empty() { String::new() } else { format!("{who:<24}  ") };
        let text = format!("{hour:02}:{minute:02}:{second:02}.{millis:03}Z  {who}{what}");
        data["time"] = json!(now.as_secs_f64());
        Self { text: text.replace(char::is_control, "?"), data, is_progress: false }
    }
}

impl Feed {
    /// Whether anybody reads: nobody need be told anything otherwise.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.0.count.load(Ordering::Relaxed) > 0
    }

    /// Tells those who read everything, or this account.
    pub fn tell(&self, account: Option<&Account>, line: Line) {
        let line = Arc::new(line);
        let mut readers = self.lock();
        readers.retain_mut(|reader| {
            let is_wanted = match (&reader.account, account) {
                (None, _) | (_, None) => true,
                (Some(wanted), Some(account)) => wanted == account,
            };
            if is_wanted { reader.take(&line) } else { !reader.queue.is_closed() }
        });
        self.0.count.store(readers.len(), Ordering::Relaxed);
    }

    /// One more reader, of this account or of everything; `None` when there are too many.
    #[must_use]
    pub fn read(&self, account: Option<Account>) -> Option<mpsc::Receiver<Arc<Line>>> {
        let (queue, lines) = mpsc::channel(QUEUE);
        let mut readers = self.lock();
        readers.retain(|reader| !reader.queue.is_closed());
        if readers.len() >= MAX_READERS {
            return None;
        }
        readers.push(Reader { account, queue, missed: 0 });
        self.0.count.store(readers.len(), Ordering::Relaxed);
        Some(lines)
    }

    /// Those who missed something are told so, also when nothing more happens.
    pub fn flush(&self) {
        self.lock().retain_mut(|reader| {
            let missed = reader.missed;
            if !reader.confess() {
                reader.missed = missed;
            }
            !reader.queue.is_closed()
        });
    }

    /// Nothing more will happen: every reader comes to its end.
    pub fn close(&self) {
        self.lock().clear();
        self.0.count.store(0, Ordering::Relaxed);
    }

    /// The data behind this lock is whole at every moment.
    fn lock(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.0.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: usize) -> Line {
        Line::new("202@example.com", &number.to_string(), json!({ "number": number }))
    }

    fn read(lines: &mut mpsc::Receiver<Arc<Line>>) -> Vec<Value> {
        std::iter::from_fn(|| lines.try_recv().ok()).map(|line| line.data.clone()).collect()
    }

    #[test]
    fn a_slow_reader_is_told_how_many_lines_it_missed_and_keeps_nobody_waiting() {
        let feed = Feed::default();
        let (mut slow, mut quick) = (feed.read(None).unwrap(), feed.read(None).unwrap());
        let mut heard = 0;
        for number in 0..QUEUE + 10 {
            feed.tell(None, line(number));
            heard += read(&mut quick).len();
        }
        assert_eq!(heard, QUEUE + 10);
        assert_eq!(read(&mut slow).len(), QUEUE);
        feed.flush();
        assert_eq!(read(&mut slow)[0]["lines"], 10);
        feed.tell(None, line(0));
        assert_eq!(read(&mut slow)[0]["number"], 0);
    }

    #[test]
    fn who_reads_one_account_hears_of_it_and_of_all_and_of_no_other() {
        let feed = Feed::default();
        let (one, other): (Account, Account) =
            ("202@example.com".parse().unwrap(), "203@example.com".parse().unwrap());
        let mut lines = feed.read(Some(one.clone())).unwrap();
        feed.tell(Some(&other), line(1));
        feed.tell(Some(&one), line(2));
        feed.tell(None, line(3));
        let heard: Vec<_> = read(&mut lines).iter().map(|it| it["number"].clone()).collect();
        assert_eq!(heard, [json!(2), json!(3)]);
    }

    #[test]
    fn readers_are_bounded_and_one_that_went_away_makes_room() {
        let feed = Feed::default();
        assert!(!feed.is_read());
        let mut readers: Vec<_> = (0..MAX_READERS).map(|_| feed.read(None).unwrap()).collect();
        assert!(feed.is_read() && feed.read(None).is_none());
        readers.pop();
        assert!(feed.read(None).is_some());
        drop(readers);
        feed.tell(None, line(1));
        assert!(!feed.is_read());
    }

    #[test]
    fn no_control_character_reaches_a_terminal() {
        let line = Line::new("a\u{1b}[2J", "b\r\n", json!({}));
        assert_eq!(line.text.find("Z  a"), Some("00:00:00.000".len()), "{line:?}");
        assert!(line.text.ends_with("b??") && line.text.contains("a?[2J"), "{line:?}");
    }
}
