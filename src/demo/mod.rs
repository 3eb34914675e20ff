//! `mwid demo`: the whole way of a voicemail to a phone, with nothing installed. A temporary
//! spool, the embedded SQLite with the OpenSIPS schema, the real daemon in this process, and a
//! strict little phone over real UDP.

use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::json;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::clock;
use crate::config::{Config, DatabaseUrl, HostPort};
use crate::daemon::{Daemon, StartError};

mod ladder;
pub mod line;
pub mod phone;

use ladder::Ladder;
use line::{Line, What};
use phone::{Phone, Subscription};

/// The table as OpenSIPS 3.6 makes it.
const SCHEMA: &str = include_str!("../../sql/sqlite/opensips-active_watchers.sql");

/// How long one step may take: Timer E gives eleven copies in less.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why the demo did not come to its end.
#[derive(Debug, Error)]
pub enum DemoError {
    /// The file system or a socket refused.
    #[error("{what}: {source}")]
    Io {
        /// What was to be done.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The embedded database refused.
    #[error("the embedded database: {0}")]
    Database(#[from] rusqlite::Error),
    /// The daemon does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Ctrl-C.
    #[error("it was interrupted")]
    Interrupted,
    /// The phone did not get the truth.
    #[error("{step}: the phone should show {wanted} and shows {shown}")]
    Untrue {
        /// At which step.
        step: &'static str,
        /// What is true.
        wanted: String,
        /// What the phone shows.
        shown: String,
    },
}

/// mwid tells a phone at most once a second (RFC 3842 §3.11): the story waits for that, so that the
/// ladder shows how fast each step is.
const BREATH: Duration = Duration::from_millis(1100);

/// One step of the story: what the phone must show in the end.
struct Step {
    name: &'static str,
    lamp: bool,
    voice_message: &'static str,
}

/// What a step took.
struct Told {
    step: Step,
    copies_lost: usize,
    milliseconds: u128,
}

/// Runs the demo; exit code 1 when the phone did not get the truth.
#[must_use]
pub fn main(json: bool) -> ExitCode {
    let (text, code) = report(&demo(json), json);
    // A reader that went away is nobody's error.
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::from(code)
}

/// What is printed in the end, and the exit code.
fn report(outcome: &Result<Vec<Told>, DemoError>, json: bool) -> (String, u8) {
    let text = match (outcome, json) {
        (Ok(told), true) => format!(
            "{:#}\n",
            json!({ "ok": true, "steps": told.iter().map(Told::json).collect::<Vec<_>>() })
        ),
        (Err(error), true) => format!("{:#}\n", json!({ "ok": false, "error": error.to_string() })),
        (Ok(_), false) => String::new(),
        (Err(error), false) => format!("\n  The demo failed. {error}\n"),
    };
    (text, u8::from(outcome.is_err()))
}

fn demo(quiet: bool) -> Result<Vec<Told>, DemoError> {
    let folder = tempfile::tempdir().map_err(io_error("a temporary folder"))?;
    let (socket, address) = Line::open().map_err(io_error("a UDP socket on 127.0.0.1"))?;
    let place = Place::make(folder.path(), address)?;
    play(socket, &place, quiet)
}

/// Runs the daemon in this place, and tells the story.
fn play(socket: UdpSocket, place: &Place, quiet: bool) -> Result<Vec<Told>, DemoError> {
    let address = socket.local_addr().map_err(io_error("the address of a UDP socket"))?;
    let line = Line::connect(socket, address, place.phone.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io_error("a runtime"))?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(io_error("Ctrl-C"))?;
        let (daemon, _requests) = Daemon::start(place.config.clone(), PathBuf::new())?;
        let (stop, stopped) = oneshot::channel();
        let story = async {
            let ladder = Ladder::new(quiet);
            let told = tokio::select! {
                told = tell(line, place, &ladder) => told,
                // Leaving by the ordinary way takes the temporary folder along.
                _ = interrupt.recv() => Err(DemoError::Interrupted),
            };
            // The daemon is there until it is told to stop.
            let _ = stop.send(());
            told
        };
        let daemon = daemon.run(async {
            let _ = stopped.await;
        });
        tokio::join!(story, daemon).0
    })
}

async fn tell(mut line: Line, place: &Place, ladder: &Ladder) -> Result<Vec<Told>, DemoError> {
    ladder.head(&place.spool.display().to_string());
    let mut told = Vec::new();
    ladder.spool("empty", "mwid starts; what the phone shows is not known");
    told.push(place.wait(&mut line, ladder, Step::new("start", false, "0/0 (0/0)")).await?);

    tokio::time::sleep(BREATH).await;
    line.lose(1);
    place.leave_message()?;
    ladder.spool("INBOX/msg0000.txt", "somebody leaves a message");
    told.push(place.wait(&mut line, ladder, Step::new("message left", true, "1/0 (0/0)")).await?);

    tokio::time::sleep(BREATH).await;
    place.hear_message()?;
    ladder.spool("Old/msg0000.txt", "it is heard");
    told.push(place.wait(&mut line, ladder, Step::new("message heard", false, "0/1 (0/0)")).await?);
    ladder.say("  The phone shows the truth.\n");
    Ok(told)
}

/// The temporary installation.
struct Place {
    /// How long one step may take.
    patience: Duration,
    spool: PathBuf,
    config: Config,
    phone: Arc<Mutex<Phone>>,
}

impl Place {
    fn make(folder: &Path, proxy: SocketAddr) -> Result<Self, DemoError> {
        let spool = folder.join("voicemail");
        fs::create_dir_all(spool.join("example.com/202/INBOX")).map_err(io_error("the spool"))?;
        fs::create_dir_all(spool.join("example.com/202/Old")).map_err(io_error("the spool"))?;
        let subscription = subscription(proxy);
        let database = folder.join("dialogs.db");
        insert(&database, &subscription, &proxy.to_string())?;
        let mut config = Config::default();
        config.general.proxy = vec![HostPort { host: proxy.ip().to_string(), port: proxy.port() }];
        config.general.bindip = Some("127.0.0.1".into());
        config.general.vmexten = Some("*97".into());
        config.spool.path.clone_from(&spool);
        config.database.url = DatabaseUrl::Sqlite(database);
        config.state.path = folder.join("ledger.db");
        config.control.socket = folder.join("run/control.sock");
        config.control.externnotify = folder.join("run/externnotify.sock");
        config.control.drop = folder.join("drop");
        let phone = Arc::new(Mutex::new(Phone::new(subscription)));
        Ok(Self { patience: PATIENCE, spool, config, phone })
    }

    /// As Asterisk does it: recorded in a folder of its own, then renamed.
    fn leave_message(&self) -> Result<(), DemoError> {
        let mailbox = self.spool.join("example.com/202");
        let recording = mailbox.join("tmp");
        fs::create_dir_all(&recording).map_err(io_error("the recording"))?;
        fs::write(recording.join("rec.wav"), b"RIFF").map_err(io_error("the recording"))?;
        fs::write(recording.join("rec.txt"), b"[message]\n").map_err(io_error("the recording"))?;
        for kind in ["wav", "txt"] {
            let from = recording.join(format!("rec.{kind}"));
            fs::rename(from, mailbox.join(format!("INBOX/msg0000.{kind}")))
                .map_err(io_error("the message"))?;
        }
        Ok(())
    }

    fn hear_message(&self) -> Result<(), DemoError> {
        let mailbox = self.spool.join("example.com/202");
        for kind in ["txt", "wav"] {
            let name = format!("msg0000.{kind}");
            fs::rename(mailbox.join("INBOX").join(&name), mailbox.join("Old").join(&name))
                .map_err(io_error("the message"))?;
        }
        Ok(())
    }

    /// Draws what happens until the phone shows what it must.
    async fn wait(&self, line: &mut Line, ladder: &Ladder, step: Step) -> Result<Told, DemoError> {
        let start = Instant::now();
        let deadline = tokio::time::Instant::now() + self.patience;
        let mut copies_lost = 0;
        while !self.shows(&step) {
            match tokio::time::timeout_at(deadline, line.events.recv()).await {
                Ok(Some(event)) => {
                    copies_lost += usize::from(matches!(event.what, What::Lost(_)));
                    ladder.event(&event);
                }
                _ => return Err(step.failed(&self.phone)),
            }
        }
        // What made the lamp right is on the ladder as well.
        while let Ok(event) = line.events.try_recv() {
            ladder.event(&event);
        }
        Ok(Told { step, copies_lost, milliseconds: start.elapsed().as_millis() })
    }

    fn shows(&self, step: &Step) -> bool {
        let phone = self.phone.lock().expect("the phone does not panic");
        phone.shows.is_some_and(|(lamp, summary)| {
            lamp == step.lamp && summary.to_string() == step.voice_message
        })
    }
}

impl Step {
    fn new(name: &'static str, lamp: bool, voice_message: &'static str) -> Self {
        Self { name, lamp, voice_message }
    }

    fn failed(&self, phone: &Mutex<Phone>) -> DemoError {
        let phone = phone.lock().expect("the phone does not panic");
        let words = |lamp: bool, counts: &str| {
            format!("lamp {}, {counts}", if lamp { "on" } else { "off" })
        };
        DemoError::Untrue {
            step: self.name,
            wanted: words(self.lamp, self.voice_message),
            shown: phone.shows.map_or_else(
                || "nothing".to_owned(),
                |(lamp, summary)| words(lamp, &summary.to_string()),
            ),
        }
    }
}

impl Told {
    fn json(&self) -> serde_json::Value {
        json!({
            "step": self.step.name, "lamp": self.step.lamp,
            "voice_message": self.step.voice_message, "copies_lost": self.copies_lost,
            "milliseconds": self.milliseconds,
        })
    }
}

/// A phone at this address that watches its own mailbox.
fn subscription(address: SocketAddr) -> Subscription {
    Subscription {
        user: "202".into(),
        domain: "example.com".into(),
        call_id: "demo-call@127.0.0.1".into(),
        phone_tag: "phone".into(),
        server_tag: "presence-server".into(),
        contact: format!("sip:202@{address}"),
        expires: clock::unix() + 3600,
        cseq: 1,
    }
}

/// The presence server's table, with one subscription.
fn insert(database: &Path, subscription: &Subscription, server: &str) -> Result<(), DemoError> {
    let connection = Connection::open(database)?;
    connection.execute_batch(SCHEMA)?;
    subscription.insert(&connection, server)?;
    Ok(())
}

fn io_error(what: &'static str) -> impl Fn(io::Error) -> DemoError {
    move |source| DemoError::Io { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_phone_that_does_not_get_the_truth_is_exit_code_1() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, address) = Line::open().unwrap();
        let mut place = Place::make(folder.path(), address).unwrap();
        place.patience = Duration::from_millis(1500);
        // The phone has another dialog than the row: it refuses what mwid sends.
        let other = Subscription { phone_tag: "another".into(), ..subscription(address) };
        place.phone = Arc::new(Mutex::new(Phone::new(other)));
        let outcome = play(socket, &place, true);

        let error = "start: the phone should show lamp off, 0/0 (0/0) and shows nothing";
        let (text, code) = report(&outcome, true);
        let said: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((said, code), (json!({ "ok": false, "error": error }), 1));
        let (text, code) = report(&outcome, false);
        assert_eq!((text, code), (format!("\n  The demo failed. {error}\n"), 1));
    }
}
