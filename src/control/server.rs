//! The answering end of the control socket.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mwid_core::mailbox::NameError;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

use super::{Answer, Command, Request, ask};
use crate::feed::{Feed, Line};
use crate::unix_socket::{self, Bound, SocketError};

/// The longest command line: names are at most 253 bytes each.
const MAX_LINE: u64 = 4096;

/// Clients at once; more wait in the kernel's queue. Far more than ask, so that some who connect and
/// say nothing keep nobody waiting.
const MAX_CLIENTS: u32 = 256;

/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the last answers may take at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Listens on the control socket until dropped.
#[derive(Debug)]
pub struct Server {
    task: tokio::task::JoinHandle<()>,
    /// Has all its places when no command is under way.
    answering: Arc<Semaphore>,
    feed: Feed,
    _bound: Bound<Arc<UnixListener>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens on `socket` (mode 0660) and passes commands on.
///
/// # Errors
/// [`SocketError`] when the socket cannot be made, or another daemon listens on it.
pub fn listen(socket: &Path, requests: mpsc::Sender<Request>) -> Result<Server, SocketError> {
    let bound = unix_socket::bind(socket, |path| UnixListener::bind(path).map(Arc::new))?;
    let answering = places();
    let feed = Feed::default();
    let task =
        tokio::spawn(accept(bound.socket.clone(), requests, answering.clone(), feed.clone()));
    Ok(Server { task, answering, feed, _bound: bound })
}

impl Server {
    /// What clients watch.
    #[must_use]
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// Waits until every command that was answered has its answer: the process is about to end.
    pub async fn flush(&self) {
        let all = self.answering.acquire_many(MAX_CLIENTS);
        if tokio::time::timeout(LAST_ANSWERS, all).await.is_err() {
            tracing::debug!("a control client did not take its last answer");
        }
    }
}

fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_CLIENTS as usize))
}

async fn accept(
    listener: Arc<UnixListener>,
    requests: mpsc::Sender<Request>,
    answering: Arc<Semaphore>,
    feed: Feed,
) {
    let places = places();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (requests, answering) = (requests.clone(), answering.clone());
                let feed = feed.clone();
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, &requests, &answering, &feed).await {
                        tracing::debug!(%error, "a control client went away");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket cannot accept");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn serve(
    mut stream: UnixStream,
    requests: &mpsc::Sender<Request>,
    answering: &Semaphore,
    feed: &Feed,
) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(MAX_LINE));
    tokio::time::timeout(PATIENCE, reader.read_line(&mut line)).await??;
    let (answer, lines) = {
        let _answering = answering.acquire().await;
        let (answer, lines) = match serde_json::from_str::<Command>(&line) {
            Ok(command) => answer(command, requests, feed).await,
            Err(error) => {
                let problem = format!("this mwid does not know that command: {error}");
                (Answer::refused(problem), None)
            }
        };
        say(&mut write, &answer).await?;
        (answer, lines)
    };
    let Some(mut lines) = lines.filter(|_| answer.code == 0) else { return Ok(()) };
    let mut nothing = [0];
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) => say(&mut write, &*line).await?,
                None => return Ok(()),
            },
            // The client has nothing more to say: it went away.
            _ = reader.read(&mut nothing) => return Ok(()),
        }
    }
}

/// What the loop says; and what follows, where the command is to watch. The queue is there before
/// the answer, so that nothing is missed in between.
async fn answer(
    command: Command,
    requests: &mpsc::Sender<Request>,
    feed: &Feed,
) -> (Answer, Option<mpsc::Receiver<Arc<Line>>>) {
    let mut lines = None;
    if let Command::Watch { account } = &command {
        let account = match account.as_ref().map(|account| account.parse()).transpose() {
            Ok(account) => account,
            Err(error) => return (Answer::refused(NameError::to_string(&error)), None),
        };
        lines = feed.read(account);
        if lines.is_none() {
            return (Answer::refused("too many watch already; end one of them"), None);
        }
    }
    let answer = ask(requests, command).await;
    (answer.unwrap_or_else(|| Answer::refused("mwid is stopping")), lines)
}

async fn say(write: &mut (impl AsyncWrite + Unpin), what: &impl Serialize) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(what)?;
    bytes.push(b'\n');
    write.write_all(&bytes).await
}
