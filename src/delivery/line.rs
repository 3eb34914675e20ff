//! The line before a server that publishes for mwid: so many steps at once, each a connection or a
//! file or two, however many accounts there are. One that answers nothing costs its time-out once,
//! not once per account.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mwid_core::publication::Outcome;
use tokio::sync::Semaphore;

use super::Published;

/// After a step without an answer nobody asks for this long, and then one.
const PAUSE: Duration = Duration::from_secs(1);

/// How long the others wait for that one.
const PROBE: Duration = Duration::from_secs(60);

/// One server's line.
#[derive(Debug)]
pub(super) struct Line {
    places: Semaphore,
    pause: Duration,
    silent: Mutex<Option<Silent>>,
}

/// The server gave no answer.
#[derive(Debug)]
struct Silent {
    why: String,
    /// When the next step may be taken.
    until: Instant,
}

impl Line {
    pub(super) fn new(places: usize) -> Self {
        Self { places: Semaphore::new(places), pause: PAUSE, silent: Mutex::default() }
    }

    /// Takes a step when its turn has come; none while the server is silent. Time-outs of the step
    /// begin then.
    pub(super) async fn pass(&self, step: impl Future<Output = Published>) -> Published {
        let Ok(_place) = self.places.acquire().await else {
            return Published::silent("mwid is stopping".to_owned());
        };
        if let Some(why) = self.turned_away() {
            return Published::silent(format!("not asked, it was silent just now: {why}"));
        }
        let published = step.await;
        let until = Instant::now() + self.pause;
        let why = published.is_silent.then(|| published.answer.clone());
        *self.silence() = why.map(|why| Silent { why, until });
        published
    }

    /// Whoever waits gives up. What is under way goes on.
    pub(super) fn close(&self) {
        self.places.close();
    }

    fn turned_away(&self) -> Option<String> {
        let (mut silence, now) = (self.silence(), Instant::now());
        let silent = silence.as_mut()?;
        if now < silent.until {
            return Some(silent.why.clone());
        }
        silent.until = now + PROBE;
        None
    }

    fn silence(&self) -> MutexGuard<'_, Option<Silent>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Published {
    /// Its server gave no answer.
    pub(super) fn silent(answer: String) -> Self {
        Self { outcome: Outcome::Later(None), answer, is_silent: true }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::watch;
    use tokio::task::{JoinHandle, yield_now};

    use super::*;

    /// A server that answers when it is told to, and counts who asked.
    struct Server {
        line: Line,
        asked: AtomicUsize,
        answer: watch::Sender<Option<Published>>,
    }

    impl Server {
        fn new(pause: Duration) -> Arc<Self> {
            let line = Line { pause, ..Line::new(4) };
            Arc::new(Self { line, asked: AtomicUsize::new(0), answer: watch::Sender::new(None) })
        }

        fn ask(self: &Arc<Self>) -> JoinHandle<Published> {
            let server = self.clone();
            let step = async move {
                server.asked.fetch_add(1, Ordering::SeqCst);
                let mut answer = server.answer.subscribe();
                answer.wait_for(Option::is_some).await.unwrap().clone().unwrap()
            };
            let server = self.clone();
            tokio::spawn(async move { server.line.pass(step).await })
        }

        async fn was_asked(&self, times: usize) {
            while self.asked.load(Ordering::SeqCst) < times {
                yield_now().await;
            }
        }
    }

    fn silence() -> Option<Published> {
        Some(Published::silent("no answer".to_owned()))
    }

    fn accepted() -> Option<Published> {
        let outcome = Outcome::Accepted { etag: None, expires: None };
        Some(Published { outcome, answer: "200 OK".to_owned(), is_silent: false })
    }

    #[tokio::test]
    async fn silence_costs_as_many_time_outs_as_there_are_places() {
        let server = Server::new(PROBE);
        let all: Vec<_> = (0..3000).map(|_| server.ask()).collect();
        server.was_asked(4).await;
        server.answer.send_replace(silence());
        for one in all {
            assert!(one.await.unwrap().is_silent);
        }
        assert_eq!(server.asked.load(Ordering::SeqCst), 4);
    }

    #[tokio::test]
    async fn after_silence_one_goes_before_the_others_and_an_answer_opens_the_line() {
        let server = Server::new(Duration::ZERO);
        server.answer.send_replace(silence());
        assert!(server.ask().await.unwrap().is_silent);
        server.answer.send_replace(None);
        let probe = server.ask();
        server.was_asked(2).await;
        let other = server.ask().await.unwrap();
        assert_eq!(other.answer, "not asked, it was silent just now: no answer");
        server.answer.send_replace(accepted());
        assert_eq!(probe.await.unwrap(), accepted().unwrap());
        assert_eq!(server.ask().await.unwrap(), accepted().unwrap());
        assert_eq!(server.asked.load(Ordering::SeqCst), 3);
        server.line.close();
        assert_eq!(server.ask().await.unwrap().answer, "mwid is stopping");
    }
}
