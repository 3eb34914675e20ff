//! The daemon's side: takes datagrams and dropped files, hands their calls on.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mwid_core::mailbox::Mailbox;
use serde::Serialize;
use tokio::net::UnixDatagram;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::collect::Collector;
use super::drop;
use super::notice::{MAX_NOTICE, Notice};
use super::receipt::{FileReceipt, Files, Taken};
use super::stamps::Stamps;
use crate::clock::unix_nanos;
use crate::config;
use crate::source::{Call, Receipt};
use crate::unix_socket::{self, Bound, SocketError};

/// Between two looks into the drop folder.
const COLLECT: Duration = Duration::from_secs(2);
/// So many datagrams without a pause nearly fill the queue of the kernel (`max_dgram_qlen`, 10):
/// there may be files whose datagrams found no room.
const CROWD: u32 = 8;
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
    /// Notices of the drop folder that came without a datagram.
    pub dropped: u64,
    /// Files in the drop folder that were no notice.
    pub bad_files: u64,
    /// Notices with counts that newer ones had overtaken.
    pub stale: u64,
    /// Files in the drop folder that were handed on and cannot be removed.
    pub stuck: u64,
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
/// in the drop folder for the next start. A [`FileReceipt`] may be done later.
#[derive(Debug)]
pub struct Externnotify {
    bound: Option<Bound<StdDatagram>>,
    files: Arc<Files>,
    stamps: Arc<Mutex<Stamps>>,
    counters: Arc<Counters>,
    tasks: [JoinHandle<()>; 2],
}

/// What both tasks share.
#[derive(Debug, Clone)]
struct Desk {
    calls: mpsc::Sender<Call>,
    files: Arc<Files>,
    stamps: Arc<Mutex<Stamps>>,
    counters: Arc<Counters>,
    /// Rung when the drop folder is worth a look.
    crowd: Arc<Notify>,
}

/// The socket, of which nothing is taken yet, and the drop folder.
#[derive(Debug)]
pub struct Socket {
    bound: Bound<StdDatagram>,
    socket: UnixDatagram,
    drop: PathBuf,
}

impl Socket {
    /// Makes both. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`SocketError`] when the socket belongs to somebody else or cannot be made.
    pub fn bind(settings: &config::Control) -> Result<Self, SocketError> {
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
        Ok(Self { bound, socket, drop: settings.drop.clone() })
    }
}

impl Externnotify {
    /// Listens on the socket and watches over the drop folder; each call goes to `calls`. While
    /// `calls` is full nothing is taken: files then wait. `past` are the stamps of the counts that
    /// are remembered from before: what is older is stale. Must be called in a tokio runtime.
    #[must_use]
    pub fn start(
        socket: Socket,
        calls: mpsc::Sender<Call>,
        past: impl IntoIterator<Item = (Mailbox, u64)>,
    ) -> Self {
        let Socket { bound, socket, drop } = socket;
        let counters = Arc::new(Counters::default());
        let files = Arc::new(Files::new(drop));
        let stamps = Arc::new(Mutex::new(Stamps::new(past, unix_nanos())));
        let desk = Desk {
            calls,
            files: Arc::clone(&files),
            stamps: Arc::clone(&stamps),
            counters: Arc::clone(&counters),
            crowd: Arc::default(),
        };
        let tasks = [
            tokio::spawn(desk.clone().listen(socket)),
            tokio::spawn(desk.collect(Collector::new(Arc::clone(&files)))),
        ];
        Self { bound: Some(bound), files, stamps, counters, tasks }
    }

    /// Somebody else counted a mailbox, not before `stamp` (nanoseconds since 1970). What the
    /// command was started for earlier and comes now is stale.
    pub fn overtake(&self, mailbox: &Mailbox, stamp: u64) {
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        stamps.overtake(mailbox, stamp, unix_nanos(), Instant::now());
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
            stuck: self.files.stuck(),
        }
    }

    /// What lies in the socket is lost when it is closed, so it becomes files where it is none.
    fn save(&self, socket: &StdDatagram) {
        let mut buffer = [0; MAX_NOTICE + 1];
        while let Ok(length) = socket.recv(&mut buffer) {
            let Ok(mut notice) = Notice::parse(&buffer[..length]) else { continue };
            let folder = self.files.folder();
            if notice.file.take().is_some_and(|name| folder.join(name.to_string()).exists()) {
                continue;
            }
            if let Err(error) = drop::leave(folder, &notice) {
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
        let mut garbage_said: Option<Instant> = None;
        let mut in_a_row: u32 = 0;
        loop {
            let ready = socket.readable().await;
            // A datagram is taken only when there is room for its call.
            let Ok(permit) = self.calls.reserve().await else { return };
            let length = match ready.and_then(|()| socket.try_recv(&mut buffer)) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if std::mem::take(&mut in_a_row) >= CROWD {
                        self.crowd.notify_one();
                    }
                    continue;
                }
                Err(error) => {
                    std::mem::drop(permit);
                    tracing::error!(%error, "the externnotify socket failed; trying again");
                    tokio::time::sleep(COLLECT).await;
                    continue;
                }
            };
            in_a_row += 1;
            let notice = match Notice::parse(&buffer[..length]) {
                Ok(notice) => notice,
                Err(error) => {
                    let count = self.counters.garbage.fetch_add(1, Ordering::Relaxed) + 1;
                    if garbage_said.is_none_or(|at| at.elapsed() > GARBAGE) {
                        garbage_said = Some(Instant::now());
                        tracing::warn!(count, %error, "the externnotify socket got garbage");
                    }
                    continue;
                }
            };
            let receipt = match notice.file.map(|name| self.files.take(name)) {
                Some(Taken::Known) => continue,
                Some(Taken::New(receipt)) => Some(receipt),
                // Where there is no room the collector comes to the file later.
                Some(Taken::NoRoom) | None => None,
            };
            self.hand_on(permit, notice, receipt);
        }
    }

    async fn collect(self, mut collector: Collector) {
        let mut ticks = tokio::time::interval(COLLECT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.crowd.notified() => {}
            }
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
            let mut room = true;
            for dropped in batch.dropped {
                let Ok(permit) = self.calls.reserve().await else { return };
                match self.files.take(dropped.name) {
                    Taken::Known => {}
                    Taken::New(receipt) => {
                        self.counters.dropped.fetch_add(1, Ordering::Relaxed);
                        self.hand_on(permit, dropped.notice, Some(receipt));
                    }
                    Taken::NoRoom => room = false,
                }
            }
            if batch.more && room {
                ticks.reset_immediately();
            }
        }
    }

    /// Judges and sends under one lock, so that calls leave in the order of their stamps, whether
    /// they came as datagrams or as files.
    fn hand_on(
        &self,
        permit: mpsc::Permit<'_, Call>,
        notice: Notice,
        receipt: Option<FileReceipt>,
    ) {
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        if stamps.is_fresh(&notice, unix_nanos(), Instant::now()) {
            self.counters.calls.fetch_add(1, Ordering::Relaxed);
            let (given, stamp) = (notice.given(), notice.stamp);
            let (mailbox, receipt) = (notice.mailbox, receipt.map(Receipt::File));
            permit.send(Call { mailbox, given, stamp, receipt, source: "externnotify" });
            return;
        }
        std::mem::drop(stamps);
        self.counters.stale.fetch_add(1, Ordering::Relaxed);
        if let Some(receipt) = receipt {
            receipt.done();
        }
    }
}
