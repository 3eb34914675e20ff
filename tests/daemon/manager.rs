//! A manager that is none, or that does as the test says. The real one is in tests/asterisk.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use crate::house::{House, Mwid};
use crate::peer::{Peer, SOON};

const BANNER: &str = "Asterisk Call Manager/5.0.4\r\n";

/// Listens where a manager would.
struct Manager {
    listener: TcpListener,
    address: SocketAddr,
}

/// One connection of mwid.
struct Line {
    reader: BufReader<TcpStream>,
}

impl Manager {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Also how long `accept` waits.
        SockRef::from(&listener).set_read_timeout(Some(SOON)).unwrap();
        Self { listener, address }
    }

    /// A house without a spool that asks this manager, and the proxy with the phone of 202.
    fn house(&self) -> (Peer, House) {
        let proxy = Peer::phones();
        let mut house = House::new(&proxy);
        house.set("spool", "enabled", "no");
        house.set("contexts", "default", "example.com");
        house.set("ami", "host", &self.address.to_string());
        house.set("ami", "user", "mwid");
        house.set("ami", "secret", "hunter2");
        house.set("ami", "timeout", "1");
        house.subscribe(&proxy, "202", "call");
        (proxy, house)
    }

    /// The next connection.
    fn accept(&self) -> Line {
        let accepted = self.listener.accept();
        let (stream, _) = accepted.unwrap_or_else(|error| panic!("nobody connects: {error}"));
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        Line { reader: BufReader::new(stream) }
    }

    /// The next connection, up to the answered list of mailboxes, which is empty.
    fn accept_and_list_none(&self) -> Line {
        let mut line = self.accept();
        line.log_in();
        let list = line.action("VoicemailUsersList");
        line.say(&format!("Response: Success\r\nActionID: {list}\r\n\r\n"));
        line
    }
}

impl Line {
    /// Fails when the peer has closed it.
    fn say(&mut self, text: &str) {
        self.reader.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The lines of the next action.
    fn hear(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.reader.read_line(&mut line).unwrap(), 0, "mwid hung up: {lines:?}");
            match line.trim_end() {
                "" => return lines,
                line => lines.push(line.to_owned()),
            }
        }
    }

    /// Waits for this action and gives its ActionID.
    fn action(&mut self, name: &str) -> String {
        let lines = self.hear();
        assert_eq!(lines[0], format!("Action: {name}"), "{lines:?}");
        assert!(!lines.concat().contains("hunter2"), "the secret went over the wire");
        lines.last().unwrap().strip_prefix("ActionID: ").unwrap().to_owned()
    }

    fn log_in(&mut self) {
        self.say(BANNER);
        let id = self.action("Challenge");
        self.say(&format!("Response: Success\r\nActionID: {id}\r\nChallenge: 1\r\n\r\n"));
        let id = self.action("Login");
        self.say(&format!("Response: Success\r\nActionID: {id}\r\n\r\n"));
    }

    /// mwid asks for the mailbox 202 and is told this.
    fn counts(&mut self, new: u32, old: u32, urgent: u32) {
        let id = self.action("MailboxCount");
        self.say(&format!(
            "Response: Success\r\nActionID: {id}\r\nMailbox: 202@default\r\n\
             UrgMessages: {urgent}\r\nNewMessages: {new}\r\nOldMessages: {old}\r\n\r\n"
        ));
    }

    fn changed(&mut self) {
        self.say("Event: MessageWaiting\r\nMailbox: 202@default\r\nNew: 9\r\nOld: 9\r\n\r\n");
    }

    /// Waits until mwid hangs up.
    fn is_closed(&mut self) {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = self.reader.read_to_end(&mut rest);
    }
}

fn is_said_once_and_shown(mwid: &Mwid, error: &str) {
    mwid.log(error);
    let status = mwid.until("told of", |status| {
        status["ami"]["error"].as_str().is_some_and(|told| told.contains(error))
    });
    assert_eq!(status["ami"]["connections"], 0);
    assert_eq!(mwid.count(error), 1, "{}", mwid.logged());
}

#[test]
fn what_the_manager_counts_is_told_and_what_it_says_in_passing_is_not() {
    let manager = Manager::open();
    let (proxy, house) = manager.house();
    let mwid = house.start();
    let mut line = manager.accept_and_list_none();
    line.changed();
    line.counts(1, 2, 1);
    proxy.shows("call", "2/2 (1/0)");
    let status = mwid.settled();
    assert_eq!(status["counters"]["observed_by_ami"], 1);
    assert_eq!(
        (&status["ami"]["phase"], &status["ami"]["changes"]),
        (&"following".into(), &1.into())
    );
    let said = house.mwid(&["status"]).out;
    assert!(said.contains("  ami: connected to 127.0.0.1"), "{said}");
    assert!(!mwid.logged().contains("hunter2"));
}

#[test]
fn whoever_is_no_manager_is_named_once_and_asked_ever_more_rarely() {
    for (words, error) in [
        ("SSH-2.0-OpenSSH_9.2p1\r\n", "\"SSH-2.0-OpenSSH_9.2p1\" is not what Asterisk's manager"),
        ("Asterisk Call Manager/1\r\nrubbish\r\n", "\"rubbish\" is no line of a manager"),
    ] {
        let manager = Manager::open();
        let (_proxy, house) = manager.house();
        let mwid = house.start();
        for _ in 0..2 {
            let mut line = manager.accept();
            line.say(words);
            line.is_closed();
        }
        is_said_once_and_shown(&mwid, error);
    }
}

#[test]
fn an_endless_line_ends_the_connection() {
    let manager = Manager::open();
    let (_proxy, house) = manager.house();
    let mwid = house.start();
    let mut line = manager.accept();
    let stream = line.reader.get_mut();
    // Until mwid has had enough of it.
    while stream.write_all(&[b'a'; 4096]).is_ok() {}
    is_said_once_and_shown(&mwid, "an event of more than 262144 bytes");
}

#[test]
fn a_banner_that_comes_letter_by_letter_is_not_waited_for() {
    let manager = Manager::open();
    let (_proxy, house) = manager.house();
    let mwid = house.start();
    let mut line = manager.accept();
    let mut letters = BANNER.bytes().cycle().filter(|letter| *letter != b'\n');
    while line.reader.get_mut().write_all(&[letters.next().unwrap()]).is_ok() {
        std::thread::sleep(Duration::from_millis(20));
    }
    is_said_once_and_shown(&mwid, "no banner within 1 s");
}

#[test]
fn a_refused_login_is_said_once_and_the_right_secret_mends_it() {
    let manager = Manager::open();
    let (proxy, mut house) = manager.house();
    let mwid = house.start();
    for _ in 0..2 {
        let mut line = manager.accept();
        line.say(BANNER);
        let id = line.action("Challenge");
        line.say(&format!("Response: Success\r\nActionID: {id}\r\nChallenge: 1\r\n\r\n"));
        let id = line.action("Login");
        line.say(&format!("Response: Error\r\nActionID: {id}\r\nMessage: No\r\n\r\n"));
        line.is_closed();
    }
    is_said_once_and_shown(&mwid, "the login of mwid was refused: No; check user and secret");
    // A reload with another secret does not wait for the pause to end.
    house.set("ami", "secret", "other");
    assert!(house.mwid(&["reload"]).out.contains("Configuration reloaded: [ami]"));
    let mut line = manager.accept_and_list_none();
    line.changed();
    line.counts(1, 0, 0);
    proxy.shows("call", "1/0 (0/0)");
    assert_eq!(mwid.status()["ami"]["error"], serde_json::Value::Null);
}

#[test]
fn what_changed_while_the_connection_was_broken_is_read_after_it() {
    let manager = Manager::open();
    let (proxy, house) = manager.house();
    let mwid = house.start();
    let mut line = manager.accept_and_list_none();
    line.changed();
    line.counts(1, 0, 0);
    proxy.shows("call", "1/0 (0/0)");
    // It ends within an event.
    line.say("Event: MessageWaiting\r\nMailbox: 202@default\r\nNe");
    drop(line);
    mwid.log("the connection was closed");
    // 202 is in no list, as a user of realtime: it is asked for all the same.
    let mut line = manager.accept_and_list_none();
    line.counts(3, 0, 0);
    proxy.shows("call", "3/0 (0/0)");
    assert_eq!(mwid.status()["ami"]["connections"], 2);
}

#[test]
fn a_count_that_is_refused_changes_no_lamp() {
    let manager = Manager::open();
    let (proxy, house) = manager.house();
    let mwid = house.start();
    let mut line = manager.accept_and_list_none();
    line.changed();
    line.counts(1, 0, 0);
    proxy.shows("call", "1/0 (0/0)");
    line.changed();
    let id = line.action("MailboxCount");
    line.say(&format!("Response: Error\r\nActionID: {id}\r\nMessage: Permission denied\r\n\r\n"));
    mwid.log("MailboxCount was refused: Permission denied; the user needs read = call and write");
    proxy.shows("call", "1/0 (0/0)");
    assert_eq!(mwid.settled()["sip"]["notifies"], 1);
}

#[test]
fn externnotify_that_comes_after_the_manager_counted_is_stale() {
    let manager = Manager::open();
    let (proxy, house) = manager.house();
    let mwid = house.start();
    let mut line = manager.accept_and_list_none();
    // Written before the manager counts, and taken afterwards.
    let folder = house.path("drop");
    let early = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let stamp = early.as_nanos();
    line.changed();
    line.counts(2, 0, 0);
    proxy.shows("call", "2/0 (0/0)");
    let text =
        format!("mwid-externnotify 1\nstamp {stamp}\nmailbox 202\ncontext default\ncounts 1 0 0\n");
    let hidden = folder.join("new");
    std::fs::write(&hidden, text).unwrap();
    std::fs::rename(&hidden, folder.join(format!("{stamp:020}-1-0.call"))).unwrap();
    mwid.until("told of", |status| status["externnotify"]["stale"] == 1);
    proxy.shows("call", "2/0 (0/0)");
    assert_eq!(mwid.settled()["sip"]["notifies"], 1);
}

#[test]
fn with_a_spool_the_manager_is_one_more_reason_to_count() {
    let manager = Manager::open();
    let (proxy, mut house) = manager.house();
    house.set("spool", "enabled", "yes");
    house.set("spool", "watch", "poll");
    house.set("spool", "poll", "3600");
    house.messages("default/202", 1, 0);
    let mwid = house.start();
    proxy.shows("call", "1/0 (0/0)");
    let mut line = manager.accept_and_list_none();
    house.messages("default/202", 3, 1);
    line.changed();
    line.counts(7, 7, 7);
    proxy.shows("call", "3/1 (0/0)");
    assert_eq!(mwid.status()["counters"]["observed_by_ami"], 1);
}
