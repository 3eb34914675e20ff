//! A database that is down, silent, stopped or replaced.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mwid::config::{Database, DatabaseUrl};
use mwid::dialogs::{DialogStore, Found, StoreError};
use mwid_core::dialog::{Dialog, Flavour};
use mwid_core::mailbox::Account;

use crate::bed::{Bed, Kind, NOW, account, ids, on_server, settings};
use crate::support::mariadb::MariaDb;
use crate::support::net::TcpPort;
use crate::support::postgres::Postgres;
use crate::support::wait_for;

/// An answer that comes after its caller has gone must never be taken for a later caller's.
pub async fn a_silent_database_is_given_up_in_time_and_asked_again_cleanly(bed: Bed) {
    bed.insert(&[&[("id", "1")], &[("id", "2"), ("presentity_uri", "'sip:203@example.com'")]]);
    let timeout = Duration::from_secs(1);
    let store = bed.store_with(|settings| (settings.timeout, settings.connections) = (timeout, 1));
    let (one, two) = (account(), "sip:203@example.com".parse::<Account>().unwrap());
    let dialog = Dialog::from_row(&store.find(&one, NOW).await.unwrap().rows[0]).unwrap();

    let lock = bed.lock();
    let began = Instant::now();
    let error = store.claim(&dialog, 0).await.unwrap_err();
    assert!(matches!(error, StoreError::Timeout { .. }), "{error}");
    assert!(error.is_transient() && error.to_string().contains("within 1 s"), "{error}");
    assert!(began.elapsed() < 3 * timeout, "{:?}", began.elapsed());
    // A caller that gives up by itself, in the middle of its question.
    let given_up = tokio::time::timeout(timeout / 10, store.find(&one, NOW)).await;
    assert!(given_up.is_err());

    // The next question is on its way when the answers to all of them arrive.
    let mut question = pin!(store.find(&two, NOW));
    assert!(tokio::time::timeout(timeout / 10, &mut question).await.is_err());
    drop(lock);
    let found = question.await.unwrap();
    assert_eq!(ids(&found), [2], "the answer to this question, not to an earlier one");
    assert_eq!(ids(&store.find(&one, NOW).await.unwrap()), [1]);
    assert!(store.claim(&dialog, 0).await.unwrap().is_some());
}

/// Asks until the database answers: the back-off may still hold for up to 5 s.
async fn answer(store: &DialogStore, account: &Account) -> Found {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match store.find(account, NOW).await {
            Ok(found) => return found,
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                assert!(Instant::now() < deadline, "no answer: {error}");
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The stores of one server, over TCP and over its Unix socket, through two restarts.
async fn survives_restarts(urls: Vec<DatabaseUrl>, stop: impl Fn(), start: impl Fn()) {
    stop();
    let store = |url: DatabaseUrl| {
        let settings = Database { timeout: Duration::from_secs(5), ..settings(url) };
        DialogStore::new(&settings).unwrap()
    };
    let stores: Vec<DialogStore> = urls.into_iter().map(store).collect();
    for _ in 0..2 {
        for store in &stores {
            let error = store.find(&account(), NOW).await.unwrap_err();
            assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
            assert!(error.is_transient() && error.to_string().contains("[database] url"));
        }
        start();
        for store in &stores {
            let found = answer(store, &account()).await;
            assert_eq!(ids(&found), [1]);
            let dialog = Dialog::from_row(&found.rows[0]).unwrap();
            // All connections of the pool are in use once, so that all are stale after a stop.
            let claims = (0..8).map(|_| {
                let (store, dialog) = (store.clone(), dialog.clone());
                async move { store.claim(&dialog, 0).await.unwrap().unwrap() }
            });
            let mut claimed = claims.collect::<tokio::task::JoinSet<_>>().join_all().await;
            claimed.sort_unstable();
            claimed.dedup();
            assert_eq!(claimed.len(), 8);
        }
        stop();
    }
    // Stopped and started between two calls: the next one works, without an error in between.
    start();
    for store in &stores {
        answer(store, &account()).await;
    }
    stop();
    start();
    for store in &stores {
        assert_eq!(ids(&store.find(&account(), NOW).await.unwrap()), [1]);
    }
}

fn with_row(schema: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(schema);
    std::fs::read_to_string(path).unwrap()
        + &format!(
            "INSERT INTO active_watchers (id, presentity_uri, watcher_username, watcher_domain, \
             to_user, to_domain, event, to_tag, from_tag, callid, local_cseq, remote_cseq, \
             contact, expires, status, socket_info, local_contact) VALUES (1, \
             'sip:202@example.com', 'alice', 'example.com', '202', 'example.com', \
             'message-summary', 't', 'f', 'c', 1, 1, 'sip:alice@127.0.0.1', {}, 1, '', \
             'sip:127.0.0.1');",
            crate::bed::ENDS
        )
}

#[tokio::test]
async fn mariadb_may_be_down_at_first_and_stop_and_start() {
    let server = MariaDb::start();
    server.create_database("restarts");
    server.sql("restarts", &with_row("mysql/opensips-active_watchers.sql"));
    let tcp = on_server(server.port(), "restarts");
    let mut socket = tcp.clone();
    socket.socket = Some(server.socket());
    let urls = vec![DatabaseUrl::MySql(tcp), DatabaseUrl::MySql(socket)];
    survives_restarts(urls, || server.stop(), || server.start_again()).await;
}

#[tokio::test]
async fn postgres_may_be_down_at_first_and_stop_and_start() {
    let server = Postgres::start();
    server.create_database("restarts");
    server.sql("restarts", &with_row("postgres/opensips-active_watchers.sql"));
    let tcp = on_server(server.port(), "restarts");
    let mut socket = tcp.clone();
    socket.socket = Some(server.socket());
    let urls = vec![DatabaseUrl::Postgres(tcp), DatabaseUrl::Postgres(socket)];
    survives_restarts(urls, || server.stop(), || server.start_again()).await;
}

/// Both servers' urls to a port.
fn both(port: u16) -> [DatabaseUrl; 2] {
    let server = on_server(port, "any");
    [DatabaseUrl::MySql(server.clone()), DatabaseUrl::Postgres(server)]
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for url in both(listener.local_addr().unwrap().port()) {
        let timeout = Duration::from_millis(300);
        let store = DialogStore::new(&Database { timeout, ..settings(url) }).unwrap();
        let began = Instant::now();
        let error = store.find(&account(), NOW).await.unwrap_err();
        assert!(matches!(error, StoreError::Timeout { .. }), "{error}");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
}

/// A firewall forgot the connection: nothing comes through it any more, and nobody is told.
#[tokio::test]
async fn a_connection_that_is_cut_off_is_replaced() {
    for kind in [Kind::MariaDb, Kind::Postgres] {
        let bed = Bed::new(kind, Flavour::OpenSips);
        bed.insert(&[&[("id", "1")]]);
        let mut firewall = None;
        let store = bed.store_with(|settings| {
            (settings.timeout, settings.connections) = (Duration::from_secs(1), 1);
            let (DatabaseUrl::MySql(server) | DatabaseUrl::Postgres(server)) = &mut settings.url
            else {
                panic!("not a server")
            };
            let started = Firewall::start(server.port);
            server.port = started.port;
            firewall = Some(started);
        });
        assert_eq!(ids(&store.find(&account(), NOW).await.unwrap()), [1]);
        firewall.unwrap().forget();
        let error = store.find(&account(), NOW).await.unwrap_err();
        assert!(matches!(error, StoreError::Timeout { .. }), "{error}");
        assert_eq!(ids(&store.find(&account(), NOW).await.unwrap()), [1]);
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_not_hammered() {
    let nobody = TcpPort::claim();
    for url in both(nobody.number()) {
        let store = DialogStore::new(&settings(url)).unwrap();
        let mut told = Vec::new();
        for _ in 0..1000 {
            told.push(store.find(&account(), NOW).await.unwrap_err().to_string());
        }
        told.dedup();
        assert_eq!(told.len(), 1, "the last error while the pause lasts: {told:?}");
        assert!(told[0].contains("refused"), "{told:?}");
    }
}

#[tokio::test]
async fn a_server_that_talks_nonsense_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let speaker = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut peer, _) = listener.accept().unwrap();
            peer.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        }
    });
    for url in both(port) {
        let store = DialogStore::new(&settings(url)).unwrap();
        let error = store.find(&account(), NOW).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
    }
    speaker.join().unwrap();
}

#[tokio::test]
async fn a_missing_sqlite_file_is_told_and_never_created() {
    let bed = Bed::new(Kind::Sqlite, Flavour::Kamailio);
    bed.insert(&[&[("id", "1")]]);
    let away = bed.file().with_extension("away");
    std::fs::rename(bed.file(), &away).unwrap();
    let store = bed.store();
    let error = store.find(&account(), NOW).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{text}");
    assert!(text.contains("dialogs.db") && text.contains("[database] url"), "{text}");
    assert!(!bed.file().exists());
    std::fs::rename(&away, bed.file()).unwrap();
    assert_eq!(ids(&store.find(&account(), NOW).await.unwrap()), [1]);
}

/// A restored backup has another inode; the old file must not be claimed from any more.
#[tokio::test]
async fn a_replaced_sqlite_file_is_opened_again() {
    let bed = Bed::new(Kind::Sqlite, Flavour::OpenSips);
    bed.insert(&[&[("id", "1")]]);
    let store = bed.store();
    assert_eq!(ids(&store.find(&account(), NOW).await.unwrap()), [1]);
    let copy = bed.file().with_extension("copy");
    std::fs::copy(bed.file(), &copy).unwrap();
    bed.insert(&[&[("id", "2")]]);
    std::fs::rename(&copy, bed.file()).unwrap();
    assert_eq!(ids(&store.find(&account(), NOW).await.unwrap()), [1]);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_an_error() {
    let bed = Bed::new(Kind::Sqlite, Flavour::OpenSips);
    std::fs::write(bed.file(), "[general]\nproxy = 127.0.0.1\n".repeat(100)).unwrap();
    let error = bed.store().find(&account(), NOW).await.unwrap_err();
    assert!(error.to_string().contains("not a database"), "{error}");
}

#[tokio::test]
async fn the_sqlite_thread_ends_with_its_last_store() {
    let bed = Bed::new(Kind::Sqlite, Flavour::OpenSips);
    let store = bed.store();
    let clone = store.clone();
    clone.find(&account(), NOW).await.unwrap();
    let open = || {
        let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        links.filter_map(|link| std::fs::read_link(link.path()).ok()).any(|path| path == bed.file())
    };
    drop(store);
    clone.find(&account(), NOW).await.unwrap();
    assert!(open());
    drop(clone);
    wait_for("the thread to close its file", Duration::from_secs(10), || (!open()).then_some(()));
}

/// Passes TCP connections on, until it forgets those that it has.
struct Firewall {
    port: u16,
    /// Connections of an older age are neither passed on nor closed.
    age: Arc<AtomicU32>,
}

impl Firewall {
    fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let age = Arc::new(AtomicU32::new(0));
        let current = Arc::clone(&age);
        std::thread::spawn(move || {
            for client in listener.incoming().map(Result::unwrap) {
                let server = TcpStream::connect(("127.0.0.1", server)).unwrap();
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                for (from, to) in [(client, server), back] {
                    let (current, born) = (Arc::clone(&current), current.load(Ordering::SeqCst));
                    std::thread::spawn(move || {
                        pass(from, to, || current.load(Ordering::SeqCst) == born)
                    });
                }
            }
        });
        Self { port, age }
    }

    fn forget(&self) {
        self.age.fetch_add(1, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, open: impl Fn() -> bool) {
    let mut bytes = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        if open() && to.write_all(&bytes[..length]).is_err() {
            return;
        }
    }
    if open() {
        // The other side may have closed first.
        drop(to.shutdown(Shutdown::Both));
    }
}
