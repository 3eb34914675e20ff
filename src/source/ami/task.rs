//! The task: connects, carries the conversation, and connects again.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mwid_core::mailbox::Mailbox;
use mwid_core::pace::{Backoff, Jitter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until, timeout};

use super::error::AmiError;
use super::health::{Condition, Phase};
use super::packet::{Packet, Scanner};
use super::session::{Counted, Outcome, Pace, ROOM, Session};
use super::{AMI, Call};
use crate::clock::unix_nanos;
use crate::config::{Credentials, HostPort};

/// Pauses between two connections: Asterisk restarts within seconds; a wrong secret stays wrong.
const PAUSES: Backoff = Backoff { min: Duration::from_millis(500), max: Duration::from_secs(30) };

/// Bytes that are read at once.
const CHUNK: usize = 16 * 1024;

/// What the task needs.
#[derive(Debug)]
pub(super) struct Task {
    host: HostPort,
    login: Credentials,
    pace: Pace,
    known: HashSet<Mailbox>,
    calls: mpsc::Sender<Call>,
    jitter: Jitter,
}

/// Nobody takes calls any more.
struct Stopped;

/// How a connection ends.
enum End {
    Failed(AmiError),
    Stopped,
}

impl From<AmiError> for End {
    fn from(error: AmiError) -> Self {
        Self::Failed(error)
    }
}

impl From<Stopped> for End {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

impl Task {
    pub(super) fn new(
        host: HostPort,
        login: Credentials,
        pace: Pace,
        known: impl IntoIterator<Item = Mailbox>,
        calls: mpsc::Sender<Call>,
        seed: u64,
    ) -> Self {
        let known = known.into_iter().take(ROOM).collect();
        Self { host, login, pace, known, calls, jitter: Jitter::new(seed) }
    }

    /// Runs until nobody takes calls any more.
    pub(super) async fn run(mut self, condition: Arc<Condition>) {
        let mut failures: u32 = 0;
        loop {
            let connections = condition.health().connections;
            let error = match self.converse(&condition).await {
                Ok(never) => match never {},
                Err(End::Stopped) => return,
                Err(End::Failed(error)) => error,
            };
            let followed = condition.health().connections > connections;
            failures = if followed { 1 } else { failures.saturating_add(1) };
            if condition.failed(error.to_string()) {
                tracing::warn!(
                    manager = %self.host,
                    "Asterisk's manager: {error}; trying again, then all mailboxes are read"
                );
            }
            sleep(self.jitter.spread(PAUSES.pause(failures))).await;
        }
    }

    async fn converse(&mut self, condition: &Condition) -> Result<Infallible, End> {
        let mut stream = self.connect().await?;
        let patience = self.pace.timeout;
        let mut session = Session::new(&self.login, self.pace, &mut self.known, Instant::now());
        let mut scanner = Scanner::default();
        let mut buffer = vec![0; CHUNK];
        loop {
            while let Some(request) = session.poll_request(Instant::now(), unix_nanos()) {
                let written = timeout(patience, stream.write_all(request.as_bytes())).await;
                let late = |_| AmiError::Late { what: "room for a question", after: patience };
                written.map_err(late)?.map_err(AmiError::Broken)?;
            }
            tokio::select! {
                read = stream.read(&mut buffer) => {
                    let length = read.map_err(AmiError::Broken)?;
                    if length == 0 {
                        return Err(AmiError::Closed.into());
                    }
                    let mut input = &buffer[..length];
                    while let Some(packet) = scanner.next(&mut input)? {
                        take(&mut session, packet, condition, &self.calls).await?;
                    }
                }
                () = sleep_until(session.poll_timeout().into()) => {
                    session.handle_timeout(Instant::now())?;
                }
            }
        }
    }

    async fn connect(&self) -> Result<TcpStream, AmiError> {
        let HostPort { host, port } = &self.host;
        let late = |_| AmiError::Connect(io::ErrorKind::TimedOut.into());
        let connecting = timeout(self.pace.timeout, TcpStream::connect((host.as_str(), *port)));
        let stream = connecting.await.map_err(late)?.map_err(AmiError::Connect)?;
        stream.set_nodelay(true).map_err(AmiError::Broken)?;
        Ok(stream)
    }
}

/// Hands a packet to the conversation, and on what comes of it.
async fn take(
    session: &mut Session<'_>,
    packet: Packet,
    condition: &Condition,
    calls: &mpsc::Sender<Call>,
) -> Result<(), End> {
    condition.note(|health| health.packets += 1);
    if let Packet::Banner(banner) = &packet {
        condition.note(|health| health.banner = Some(banner.clone()));
    }
    match session.handle_packet(Instant::now(), packet)? {
        Outcome::Nothing => {}
        Outcome::LoggedIn => {
            condition.reached(Phase::Reading);
        }
        Outcome::Changed => condition.note(|health| health.changes += 1),
        Outcome::Following => {
            if condition.reached(Phase::Following) {
                tracing::info!("Asterisk's manager tells of every change of a mailbox");
            }
        }
        Outcome::Counted(Counted { mailbox, summary, stamp }) => {
            condition.note(|health| health.counted += 1);
            let call = Call { mailbox, given: Some(summary), stamp, source: AMI, receipt: None };
            calls.send(call).await.map_err(|_| Stopped)?;
        }
        Outcome::BadName(error) => {
            let mut first = false;
            condition.note(|health| {
                first = health.bad_names == 0;
                health.bad_names += 1;
            });
            if first {
                tracing::warn!(
                    "Asterisk's manager names what is no mailbox: {error}; it is left out"
                );
            }
        }
    }
    Ok(())
}
