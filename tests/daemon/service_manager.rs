//! What systemd hears on the socket that it names in the environment.

use std::fs;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};

use crate::held_up::HeldUp;
use crate::house::{House, MWID, Mwid};
use crate::peer::{Peer, SOON};

/// What stands in for systemd.
struct Manager {
    socket: UnixDatagram,
    name: String,
}

impl Manager {
    fn of(house: &House) -> Self {
        let path = house.path("notify.sock");
        Self { socket: UnixDatagram::bind(&path).unwrap(), name: path.display().to_string() }
    }

    fn abstract_of(house: &House) -> Self {
        let name = format!("{}/notify", house.path("").display());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        Self { socket: UnixDatagram::bind_addr(&address).unwrap(), name: format!("@{name}") }
    }

    /// mwid as the unit starts it.
    fn start(&self, house: &House, watchdog: Option<Duration>) -> Mwid {
        let mut command = Command::new(MWID);
        command.env("NOTIFY_SOCKET", &self.name);
        if let Some(watchdog) = watchdog {
            command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        }
        house.launch_by(command)
    }

    /// The next word; `None` when none came for so long.
    fn word(&self, patience: Duration) -> Option<String> {
        let mut buffer = [0; 4096];
        self.socket.set_read_timeout(Some(patience)).unwrap();
        match self.socket.recv(&mut buffer) {
            Ok(length) => Some(String::from_utf8(buffer[..length].to_vec()).unwrap()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The next word that has a line with this beginning.
    fn hears(&self, beginning: &str) -> String {
        let deadline = Instant::now() + SOON;
        let mut others = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // No time at all is no timeout.
            match self.word(left.max(Duration::from_millis(1))) {
                Some(word) if word.lines().any(|line| line.starts_with(beginning)) => return word,
                Some(word) => others.push(word),
                None if left.is_zero() => break,
                None => {}
            }
        }
        panic!("waited {SOON:?} in vain for {beginning}, but heard {others:?}");
    }
}

fn monotonic() -> u128 {
    Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap()).as_micros()
}

/// The `MONOTONIC_USEC` of a word.
fn moment(word: &str) -> u128 {
    let line = word.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    line.unwrap_or_else(|| panic!("no MONOTONIC_USEC in {word:?}")).parse().unwrap()
}

#[test]
fn it_hears_of_start_reload_and_stop() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    let manager = Manager::of(&house);
    let mwid = manager.start(&house, None);
    manager.hears("READY=1");
    // What READY promises: commands are answered from now on.
    assert_eq!(house.mwid(&["status"]).code, 0);

    house.set("general", "useragent", "another");
    let asked = monotonic();
    mwid.signal(Signal::SIGHUP);
    let reloading = manager.hears("RELOADING=1");
    assert!((asked..=monotonic()).contains(&moment(&reloading)), "{asked} {reloading}");
    manager.hears("READY=1");
    mwid.log("Configuration reloaded: [general]");

    let good = fs::read_to_string(house.config()).unwrap();
    fs::write(house.config(), format!("[general]\nprxy = 192.0.2.1\n{good}")).unwrap();
    assert_eq!(house.mwid(&["reload"]).code, 1);
    assert!(moment(&manager.hears("RELOADING=1")) >= moment(&reloading));
    let refused = manager.hears("READY=1");
    assert!(refused.contains("the last reload was refused"), "{refused}");
    fs::write(house.config(), good).unwrap();
    assert_eq!(house.mwid(&["reload"]).code, 0);
    manager.hears("RELOADING=1");
    let ready = manager.hears("READY=1");
    assert!(!ready.contains("refused"), "{ready}");

    assert!(mwid.stop().success());
    manager.hears("STOPPING=1");
}

#[test]
fn it_hears_how_mwid_is_when_that_changes() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 3, 0);
    let manager = Manager::of(&house);
    let _mwid = manager.start(&house, None);
    manager.hears("STATUS=1 accounts, 1 phones, all told");
    let table = "ALTER TABLE active_watchers RENAME TO elsewhere";
    house.sql(table);
    house.messages("example.com/202", 4, 0);
    let trouble = manager.hears("STATUS=1 accounts, 1 phones, 1 to be told; database: ");
    assert_eq!(trouble.lines().count(), 1, "one line: {trouble}");
    house.sql("ALTER TABLE elsewhere RENAME TO active_watchers");
    manager.hears("STATUS=1 accounts, 1 phones, all told");
}

#[test]
fn it_hears_signs_of_life_from_the_loop_and_none_when_that_hangs() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    // An abstract socket, as managers of containers have it.
    let manager = Manager::abstract_of(&house);
    let interval = Duration::from_millis(200);
    let mwid = manager.start(&house, Some(2 * interval));
    manager.hears("READY=1");
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }

    // The thread of the loop stands still, those of spool and ledger do not.
    let held = HeldUp::thread(mwid.id());
    while manager.word(Duration::from_millis(1)).is_some() {}
    assert_eq!(manager.word(10 * interval), None);
    drop(held);
    manager.hears("WATCHDOG=1");
    assert!(mwid.stop().success());
}

#[test]
fn a_watchdog_of_another_process_gets_no_sign_of_life() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    let manager = Manager::of(&house);
    let mut command = Command::new(MWID);
    command.env("NOTIFY_SOCKET", &manager.name);
    command.env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1");
    let mwid = house.launch_by(command);
    manager.hears("READY=1");
    assert!(mwid.stop().success());
    let mut words = std::iter::from_fn(|| manager.word(Duration::from_millis(1)));
    assert!(words.all(|word| !word.contains("WATCHDOG")));
}

#[test]
fn a_manager_that_cannot_be_reached_or_does_not_listen_stops_nothing() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    for name in ["/nowhere/notify.sock", "nonsense", "vsock:2:9999"] {
        let mut command = Command::new(MWID);
        command.env("NOTIFY_SOCKET", name);
        let mwid = house.launch_by(command);
        mwid.log("NOTIFY_SOCKET cannot be used");
        mwid.log("mwid runs");
        assert!(mwid.stop().success());
    }
    // Its queue is full after some words: the lamps go on.
    let manager = Manager::of(&house);
    let mwid = manager.start(&house, Some(Duration::from_millis(2)));
    house.subscribe(&proxy, "202", "call");
    for new in 1..20 {
        house.messages("example.com/202", new, 0);
        proxy.shows("call", &format!("{new}/0 (0/0)"));
    }
    assert!(mwid.stop().success());
}
