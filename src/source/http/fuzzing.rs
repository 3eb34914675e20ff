//! For fuzz/: a connection at the door, its bytes as they come.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use mwid_core::mailbox::Account;
use mwid_core::summary::Summary;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot, watch};

use super::desk::Desk;
use super::domains::Domains;
use super::guests::Guests;
use super::listen::{self, Hall};
use super::{Ask, QUEUE, Refusal, routes};
use crate::config::{Config, Secret};

/// What the door with tokens asks for.
pub const TOKEN: &str = "open-sesame";
/// What is shown to it by those who may only ask.
pub const READ_TOKEN: &str = "look-inside";

/// The door, twice, and what stands for the daemon's loop.
pub struct Bed {
    runtime: Runtime,
    /// Without tokens, and with them.
    halls: [Hall; 2],
    loop_end: RefCell<mpsc::Receiver<Ask>>,
    _open: watch::Sender<()>,
}

/// What came of a connection.
#[derive(Debug, Default)]
pub struct Heard {
    /// What the loop was asked, or told, by how many requests.
    pub asked: usize,
    /// What it was given.
    pub given: Vec<(Account, Summary)>,
    /// All that was answered.
    pub answer: Vec<u8>,
}

impl Bed {
    /// Opens it.
    pub fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        let (asks, asked) = mpsc::channel(QUEUE);
        let (open, end) = watch::channel(());
        let hall = |token: Option<&str>| {
            let mut config = Config::default();
            config.http.token = token.map(Secret::new);
            config.http.read_token = token.map(|_| Secret::new(READ_TOKEN));
            let domains = Domains::new(&config);
            let desk = Desk::new(&config, domains, asks.clone(), Arc::default());
            let (places, guests) = (listen::places(), Guests::default());
            Hall { tls: None, router: routes::router(desk), places, guests, end: end.clone() }
        };
        let halls = [hall(None), hall(Some(TOKEN))];
        Self { runtime, halls, loop_end: RefCell::new(asked), _open: open }
    }

    /// A client that says all this and then listens.
    pub fn connection(&self, bytes: &[u8], token: bool) -> Heard {
        let hall = self.halls[usize::from(token)].clone();
        let mut asks = self.loop_end.borrow_mut();
        let guest = hall.guests.clone().enter();
        self.runtime.block_on(async {
            let mut heard = Heard::default();
            let (mut client, server) = duplex(1 << 20);
            let talk = async {
                let mut answer = Vec::new();
                client.write_all(bytes).await.expect("there is room");
                // The server may be gone already.
                let _ = client.shutdown().await;
                let _ = client.read_to_end(&mut answer).await;
                answer
            };
            let serve = hall.converse(server, &guest, Duration::from_secs(60));
            let both = async { tokio::join!(talk, serve) };
            tokio::pin!(both);
            loop {
                tokio::select! {
                    (answer, _) = &mut both => return Heard { answer, ..heard },
                    Some(ask) = asks.recv() => heard.ask(ask),
                }
            }
        })
    }
}

impl Heard {
    /// Nobody may be left to hear what is replied.
    fn ask(&mut self, ask: Ask) {
        self.asked += 1;
        let summary = Summary { new: 3, old: 5, new_urgent: 1, old_urgent: 0 };
        match ask {
            Ask::Give { account, summary, reply } => {
                self.given.push((account, summary));
                let (written, when) = oneshot::channel();
                let _ = written.send(());
                let _ = reply.send(Ok(when));
            }
            Ask::Summary { reply, .. } | Ask::Resend { reply, .. } => {
                let _ = reply.send(Ok(summary));
            }
            Ask::Account { account, reply } => {
                let _ = reply.send(Err(Refusal::Unknown(account)));
            }
            // All else is only shown: it is answered as by a daemon that stops.
            _ => {}
        }
    }
}
