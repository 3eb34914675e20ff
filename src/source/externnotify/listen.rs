//! The daemon's side: takes datagrams and dropped files, hands their calls on.

use std::os::unix::net::UnixDatagram as StdDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::net::UnixDatagram;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::Call;
use super::collect::Collector;
use super::drop;
use super::notice::{MAX_NOTICE, Notice};
use super::stamps::Stamps;
use crate::config;
use crate::unix_socket::{self, Bound, SocketError};

/// Between two looks into the drop folder.
const COLLECT: Duration = Duration::from_secs(2);
/// Between two lines about garbage.
const GARBAGE: Duration = Duration::from_secs(60);
/// The modes of the drop folder when we create it: Asterisk writes there as a member of our group.
const DROP_MODE: u32 = 0o770;

/// What came in since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Calls handed on.
    pub calls: u64,
    /// Datagrams that were no notice.
    pub garbage: u64,
    /// Notices read from the drop folder.
    pub dropped: u64,
    /// Files in the drop folder that were no notice.
    pub bad_files: u64,
    /// Notices with counts that newer ones had overtaken.
    pub stale: u64,
}

#[derive(Debug, Default)]
struct Counters {
    calls: AtomicU64,
    garbage: AtomicU64,
    dropped: AtomicU64,
    bad_files: AtomicU64,
    stale: AtomicU64,
}

/// The running source. Dropping it stops it, removes the socket and leaves what was not taken yet
/// in the drop folder for the next start.
#[derive(Debug)]
pub struct Externnotify {
    bound: Option<Bound<StdDatagram>>,
    folder: PathBuf,
    counters: Arc<Counters>,
    tasks: [JoinHandle<()>; 2],
}

/// What both tasks share.
#[derive(Debug, Clone)]
struct Desk {
    calls: mpsc::Sender<Call>,
    stamps: Arc<Mutex<Stamps>>,
    counters: Arc<Counters>,
}

impl Externnotify {
    /// Listens on the socket and watches over the drop folder; each call goes to `calls`. While
    /// `calls` is full nothing is taken: commands then find the socket full and leave files.
    /// Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`SocketError`] when the socket belongs to somebody else or cannot be made.
    pub fn start(
        settings: &config::Control,
        calls: mpsc::Sender<Call>,
    ) -> Result<Self, SocketError> {
        unix_socket::make_folder(&settings.drop, DROP_MODE)?;
        let bound = unix_socket::bind(&settings.externnotify, |path| {
            let socket = StdDatagram::bind(path)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })?;
        let socket = bound.socket.try_clone().and_then(UnixDatagram::from_std);
        let socket = socket.map_err(|source| SocketError::Io {
            what: "listen on",
            path: settings.externnotify.clone(),
            source,
        })?;
        let counters = Arc::new(Counters::default());
        let stamps = Arc::new(Mutex::new(Stamps::default()));
        let desk = Desk { calls, stamps, counters: Arc::clone(&counters) };
        let folder = settings.drop.clone();
        let tasks = [
            tokio::spawn(desk.clone().listen(socket)),
            tokio::spawn(desk.collect(Collector::new(folder.clone()))),
        ];
        Ok(Self { bound: Some(bound), folder, counters, tasks })
    }

    /// What came in since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            calls: read(&self.counters.calls),
            garbage: read(&self.counters.garbage),
            dropped: read(&self.counters.dropped),
            bad_files: read(&self.counters.bad_files),
            stale: read(&self.counters.stale),
        }
    }

    /// What lies in the socket is lost when it is closed, so it becomes files.
    fn save(&self, socket: &StdDatagram) {
        let mut buffer = [0; MAX_NOTICE + 1];
        while let Ok(length) = socket.recv(&mut buffer) {
            let Ok(notice) = Notice::parse(&buffer[..length]) else { continue };
            if let Err(error) = drop::leave(&self.folder, &notice) {
                tracing::error!(mailbox = %notice.mailbox, %error, "a last call is lost");
            }
        }
    }
}

impl Drop for Externnotify {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        let Some(bound) = self.bound.take() else { return };
        let socket = bound.socket.try_clone();
        // First the name, so that no command sends to it any more.
        std::mem::drop(bound);
        match socket {
            Ok(socket) => self.save(&socket),
            Err(error) => tracing::error!(%error, "the last calls are lost"),
        }
    }
}

impl Desk {
    async fn listen(self, socket: UnixDatagram) {
        let mut buffer = [0; MAX_NOTICE + 1];
        let mut last_line: Option<Instant> = None;
        // A datagram is taken only when there is room for its call.
        while let Ok(permit) = self.calls.reserve().await {
            let notice = loop {
                let length = match socket.recv(&mut buffer).await {
                    Ok(length) => length,
                    Err(error) => {
                        tracing::error!(%error, "the externnotify socket failed; trying again");
                        tokio::time::sleep(COLLECT).await;
                        continue;
                    }
                };
                match Notice::parse(&buffer[..length]) {
                    Ok(notice) if self.is_fresh(&notice) => break notice,
                    Ok(_) => {}
                    Err(error) => {
                        let count = self.counters.garbage.fetch_add(1, Ordering::Relaxed) + 1;
                        if last_line.is_none_or(|at| at.elapsed() > GARBAGE) {
                            last_line = Some(Instant::now());
                            tracing::warn!(count, %error, "the externnotify socket got garbage");
                        }
                    }
                }
            };
            self.counters.calls.fetch_add(1, Ordering::Relaxed);
            permit.send(Call { given: notice.given(), mailbox: notice.mailbox });
        }
    }

    async fn collect(self, mut collector: Collector) {
        let mut ticks = tokio::time::interval(COLLECT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let look = tokio::task::spawn_blocking(move || {
                let batch = collector.look();
                (collector, batch)
            });
            let Ok((back, batch)) = look.await else {
                tracing::error!("the drop folder is no longer read; restart mwid");
                return;
            };
            collector = back;
            self.counters.bad_files.fetch_add(batch.bad, Ordering::Relaxed);
            for dropped in batch.dropped {
                self.counters.dropped.fetch_add(1, Ordering::Relaxed);
                if self.is_fresh(&dropped.notice) {
                    let given = dropped.notice.given();
                    let call = Call { mailbox: dropped.notice.mailbox.clone(), given };
                    if self.calls.send(call).await.is_err() {
                        return;
                    }
                    self.counters.calls.fetch_add(1, Ordering::Relaxed);
                }
                collector.remove(dropped);
            }
            if batch.more {
                ticks.reset_immediately();
            }
        }
    }

    fn is_fresh(&self, notice: &Notice) -> bool {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = stamps.is_fresh(notice, unix, Instant::now());
        if !fresh {
            self.counters.stale.fetch_add(1, Ordering::Relaxed);
        }
        fresh
    }
}
