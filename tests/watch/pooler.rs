//! A connection through which nothing is heard: a pooler in transaction mode gives `LISTEN` to one
//! connection to the server and what follows to another.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mwid::config::{Database, DatabaseUrl};
use mwid::dialogs::watch::Way;
use mwid_core::dialog::Flavour;

use crate::bed::{Bed, Kind};
use crate::seen::{Seen, install, subscribe};

/// Passes everything on but the notifications, while it is deaf.
struct Deaf {
    port: u16,
    deaf: Arc<AtomicBool>,
}

impl Deaf {
    fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let deaf = Arc::new(AtomicBool::new(true));
        let shared = Arc::clone(&deaf);
        std::thread::spawn(move || {
            for client in listener.incoming().map(Result::unwrap) {
                let server = TcpStream::connect(("127.0.0.1", server)).unwrap();
                let (up, down) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || {
                    // Errors mean that one side has closed.
                    drop(io::copy(&mut &client, &mut &server));
                    drop(server.shutdown(std::net::Shutdown::Both));
                });
                let deaf = Arc::clone(&shared);
                std::thread::spawn(move || {
                    drop(filter(up, &down, &deaf));
                    drop(down.shutdown(std::net::Shutdown::Both));
                });
            }
        });
        Self { port, deaf }
    }
}

/// Messages of the server: a letter, a length that counts itself, a body. A is a notification.
fn filter(mut from: TcpStream, mut to: &TcpStream, deaf: &AtomicBool) -> io::Result<()> {
    loop {
        let mut head = [0; 5];
        from.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4;
        let mut message = head.to_vec();
        message.resize(5 + length, 0);
        from.read_exact(&mut message[5..])?;
        if head[0] != b'A' || !deaf.load(Ordering::SeqCst) {
            to.write_all(&message)?;
        }
    }
}

#[tokio::test]
async fn what_is_not_heard_is_noticed_and_the_table_paged() {
    let bed = Bed::new(Kind::Postgres, Flavour::Kamailio);
    install(&bed.settings).await;
    let mut settings = Database {
        resync: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        ..bed.settings.clone()
    };
    let DatabaseUrl::Postgres(server) = &mut settings.url else { panic!("not PostgreSQL") };
    let deaf = Deaf::start(server.port);
    server.port = deaf.port;

    let mut seen = Seen::with(settings);
    seen.until_way(Way::Paging).await;
    let health = seen.watch.health();
    assert!(health.to_string().contains("transaction mode"), "{health}");
    subscribe(&bed, "202");
    seen.until("202").await;

    // The pooler is taken away.
    deaf.deaf.store(false, Ordering::SeqCst);
    seen.until_way(Way::Listen).await;
    subscribe(&bed, "203");
    seen.until("203").await;

    // A connection that is forgotten on the way is noticed, and what was missed is found.
    deaf.deaf.store(true, Ordering::SeqCst);
    subscribe(&bed, "204");
    seen.until("204").await;
}
