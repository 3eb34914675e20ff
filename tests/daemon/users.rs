//! Asterisk and mwid are two users, as etc/mwid.service and etc/mwid.tmpfiles have it: what the one
//! leaves, the other reads.

use std::fs::{self, Permissions};
use std::net::UdpSocket;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use mwid::lock;
use nix::sys::signal::Signal;
use rusqlite::Connection;

use crate::house::{House, MWID, Mwid};
use crate::peer::Peer;

const ASTERISK: u32 = 65_501;
const MWID_USER: u32 = 65_502;
/// The group in which both meet.
const GROUP: u32 = 65_503;
const OTHER_GROUP: u32 = 65_504;

/// How Asterisk may run.
#[derive(Clone, Copy, Debug)]
enum Asterisk {
    /// As a user whose group it is.
    Own,
    /// As a user who is one of its members.
    Member,
    /// As root, who is none.
    Root,
}

impl Asterisk {
    /// A program run by this Asterisk, with the umask that is often set for it.
    fn runs(self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "umask 077; exec \"$@\"", "sh"]);
        match self {
            Self::Own => as_user(&mut command, ASTERISK, GROUP, None),
            Self::Member => as_user(&mut command, ASTERISK, OTHER_GROUP, Some(GROUP)),
            Self::Root => {}
        }
        command.arg(program);
        command
    }
}

fn as_user(command: &mut Command, user: u32, group: u32, also: Option<u32>) {
    let also = also.map_or("--clear-groups".to_owned(), |group| format!("--groups={group}"));
    let (user, group) = (format!("--reuid={user}"), format!("--regid={group}"));
    command.args(["setpriv", &user, &group, &also, "--"]);
}

fn own(path: &Path, user: u32, mode: u32) {
    chown(path, Some(user), Some(GROUP)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// An installation for two users.
struct Site {
    house: House,
    programs: tempfile::TempDir,
}

impl Site {
    fn new(proxy: &Peer) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test plays Asterisk's user and mwid's: run it as root (sudo, or a container)"
        );
        let house = House::new(proxy);
        for folder in ["run", "drop", "spool/example.com/203/INBOX"] {
            fs::create_dir_all(house.path(folder)).unwrap();
        }
        own(&house.path(""), MWID_USER, 0o750);
        own(&house.path("dialogs.db"), MWID_USER, 0o640);
        own(&house.config(), 0, 0o640);
        own(&house.path("run"), MWID_USER, 0o750);
        own(&house.path("drop"), MWID_USER, 0o2770);
        for folder in ["spool", "spool/example.com", "spool/example.com/203"] {
            own(&house.path(folder), ASTERISK, 0o750);
        }
        own(&house.path("spool/example.com/203/INBOX"), ASTERISK, 0o750);
        // The folder of the build may be one that only its owner can enter.
        let programs = tempfile::tempdir().unwrap();
        fs::set_permissions(programs.path(), Permissions::from_mode(0o755)).unwrap();
        for program in [MWID, env!("CARGO_BIN_EXE_mwid-externnotify")] {
            let name = Path::new(program).file_name().unwrap();
            // By a process of its own: a child of another test may still hold open what this one writes.
            let copied = Command::new("cp").arg(program).arg(programs.path().join(name)).status();
            assert!(copied.unwrap().success());
        }
        Self { house, programs }
    }

    fn program(&self, name: &str) -> PathBuf {
        self.programs.path().join(name)
    }

    fn start(&self) -> Mwid {
        let mwid = self.launch();
        mwid.log("mwid runs");
        mwid
    }

    /// Starts it, which may be refused.
    fn launch(&self) -> Mwid {
        let mut command = Command::new("env");
        as_user(&mut command, MWID_USER, GROUP, None);
        command.arg(self.program("mwid"));
        self.house.launch_by(command)
    }

    fn set(&mut self, section: &str, key: &str, value: &str) {
        self.house.set(section, key, value);
        own(&self.house.config(), 0, 0o640);
    }

    /// Gives the ledger a folder of its own, of mwid's user.
    fn ledger(&mut self) -> PathBuf {
        let ledger = self.house.path("state/ledger.db");
        self.set("state", "path", ledger.to_str().unwrap());
        fs::create_dir(self.house.path("state")).unwrap();
        own(&self.house.path("state"), MWID_USER, 0o750);
        ledger
    }

    fn calls(&self, asterisk: Asterisk, new: u32) {
        let mut command = asterisk.runs(&self.program("mwid-externnotify"));
        command.arg("--socket").arg(self.house.path("run/externnotify.sock"));
        command.arg("--drop").arg(self.house.path("drop"));
        succeeds(command.args(["example.com", "202", &new.to_string(), "0", "0"]));
    }

    /// The ledgers that were set aside.
    fn aside(&self) -> Vec<String> {
        let entries = fs::read_dir(self.house.path("state")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains(".foreign-owner-")).collect()
    }

    fn dropped(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.house.path("drop")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{command:?}: {output:?}");
    output
}

#[test]
fn what_asterisk_leaves_mwid_reads_whatever_users_they_are() {
    let proxy = Peer::phones();
    let site = Site::new(&proxy);
    site.house.subscribe(&proxy, "202", "call");
    for (asterisk, new) in [(Asterisk::Own, 1), (Asterisk::Member, 3), (Asterisk::Root, 5)] {
        eprintln!("{asterisk:?}");
        site.calls(asterisk, new);
        let files = site.dropped();
        assert_eq!(files.len(), 1);
        let metadata = fs::metadata(&files[0]).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.gid()), (0o640, GROUP));
        let mwid = site.start();
        proxy.shows("call", &format!("{new}/0 (0/0)"));
        mwid.until("collected", |_| site.dropped().is_empty());
        // And while it runs, by its socket.
        site.calls(asterisk, new + 1);
        proxy.shows("call", &format!("{}/0 (0/0)", new + 1));
        mwid.until("done", |_| site.dropped().is_empty());
        let stats = &mwid.status()["externnotify"];
        assert_eq!([&stats["calls"], &stats["dropped"], &stats["stuck"]], [2, 1, 0], "{stats}");
        assert_eq!(mwid.stop().code(), Some(0));
    }
}

#[test]
fn asterisks_user_may_ask_and_its_private_messages_are_counted() {
    let proxy = Peer::phones();
    let site = Site::new(&proxy);
    site.house.subscribe(&proxy, "203", "call");
    let mwid = site.start();
    proxy.shows("call", "0/0 (0/0)");
    // A file that only its owner can read: it is its name that counts.
    let message = site.house.path("spool/example.com/203/INBOX/msg0000.txt");
    succeeds(Asterisk::Own.runs(Path::new("touch")).arg(&message));
    assert_eq!(fs::metadata(&message).unwrap().mode() & 0o777, 0o600);
    proxy.shows("call", "1/0 (0/0)");
    assert_eq!(mwid.status()["spool"]["troubles_total"], 0);

    let mut ask = Asterisk::Own.runs(&site.program("mwid"));
    let output = succeeds(ask.arg("--config").arg(site.house.config()).arg("status"));
    assert!(output.stdout.starts_with(b"Module ENABLED\n"), "{output:?}");
    let config = site.program("zonkeymwi.conf");
    fs::copy(site.house.config(), &config).unwrap();
    fs::set_permissions(&config, Permissions::from_mode(0o644)).unwrap();
    let mut ask = Command::new("env");
    as_user(&mut ask, ASTERISK, OTHER_GROUP, None);
    let stranger = ask.arg(site.program("mwid")).arg("--config").arg(config).arg("status");
    let output = stranger.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("no permission for"), "{output:?}");
}

#[test]
fn a_ledger_of_another_user_is_said_with_its_remedy_and_stops_no_lamp() {
    let proxy = Peer::phones();
    let site = Site::new(&proxy);
    site.house.subscribe(&proxy, "203", "call");
    let ledger = site.house.path("state/ledger.db");
    let mut house = site.house;
    house.set("state", "path", ledger.to_str().unwrap());
    own(&house.config(), 0, 0o640);
    let site = Site { house, programs: site.programs };
    let folder = site.house.path("state");
    fs::create_dir(&folder).unwrap();
    // Left behind by a mwid that root once started by hand.
    fs::write(&ledger, "").unwrap();
    fs::set_permissions(&ledger, Permissions::from_mode(0o600)).unwrap();
    let remedy = format!("and mwid is user {MWID_USER}: chown -R {MWID_USER} {}", folder.display());

    // Its folder is root's as well: nothing can be written.
    let mwid = site.start();
    let said = mwid.log(&remedy);
    assert!(said.contains("state/ledger.db belongs to user 0"), "{said}");
    mwid.log("mwid goes on without");
    proxy.shows("call", "0/0 (0/0)");
    mwid.until("told", |status| {
        status["ledger"]["error"].as_str().is_some_and(|error| error.contains(&remedy))
    });
    assert_eq!(mwid.stop().code(), Some(0));
    assert!(ledger.exists());

    // Only the file is: it is kept, and a new one is made.
    own(&folder, MWID_USER, 0o750);
    let mwid = site.start();
    mwid.log("and a new one is made");
    mwid.log(&remedy);
    assert_eq!(mwid.settled()["ledger"]["error"], serde_json::Value::Null);
    assert_eq!(mwid.stop().code(), Some(0));
    assert_eq!(fs::metadata(&ledger).unwrap().uid(), MWID_USER);
    assert_eq!(site.aside().len(), 1, "{:?}", site.aside());
}

#[test]
fn what_a_readable_ledger_of_another_user_says_is_taken_over() {
    let proxy = Peer::phones();
    let mut site = Site::new(&proxy);
    site.house.subscribe(&proxy, "202", "call");
    let ledger = site.ledger();
    let mut mwid = site.start();
    site.calls(Asterisk::Own, 3);
    proxy.shows("call", "3/0 (0/0)");
    // What the phone acknowledged is written a little later.
    let written = || {
        let file = Connection::open(&ledger).unwrap();
        let count = "SELECT count(*) FROM dialogs WHERE new = 3";
        file.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    mwid.until("written", |_| written() == 1);
    // Its journal too, which a mwid that was killed leaves behind.
    mwid.signal(Signal::SIGKILL);
    mwid.ended(Duration::from_secs(10));
    let files = ["", "-wal", "-shm", ".lock"].map(|it| format!("{}{it}", ledger.display()));
    for file in &files {
        own(file.as_ref(), 0, 0o640);
    }

    let mwid = site.start();
    mwid.log("nothing keeps a second mwid away");
    let said = mwid.log("all that it says is in a file of mwid's own now");
    assert!(said.contains("ledger.db belongs to user 0"), "{said}");
    let status = mwid.settled();
    assert_eq!(status["ledger"]["error"], serde_json::Value::Null);
    assert_eq!(status["counters"]["delivered"], 0, "the phone shows it: {status:#}");
    assert_eq!(mwid.stop().code(), Some(0));
    assert_eq!(fs::metadata(&ledger).unwrap().uid(), MWID_USER);
    assert!(!site.aside().is_empty());
}

#[test]
fn what_root_made_by_hand_is_left_to_the_user_of_its_folder() {
    let proxy = Peer::phones();
    let mut site = Site::new(&proxy);
    site.house.subscribe(&proxy, "202", "call");
    site.ledger();
    let mwid = site.house.start();
    site.calls(Asterisk::Own, 3);
    proxy.shows("call", "3/0 (0/0)");
    mwid.settled();
    let mut made = ["", "-wal", "-shm", ".lock"].map(|it| format!("state/ledger.db{it}")).to_vec();
    made.extend(["control", "externnotify"].map(|it| format!("run/{it}.sock.lock")));
    for name in made {
        let file = fs::metadata(site.house.path(&name)).unwrap();
        assert_eq!((file.uid(), file.gid()), (MWID_USER, GROUP), "{name}");
    }
    assert_eq!(mwid.stop().code(), Some(0));

    let mwid = site.start();
    let status = mwid.settled();
    assert_eq!(status["ledger"]["error"], serde_json::Value::Null);
    assert_eq!(status["counters"]["delivered"], 0, "the phone shows it: {status:#}");
    assert_eq!(mwid.count("ledger"), 0, "{}", mwid.logged());
    assert_eq!(mwid.stop().code(), Some(0));
    assert!(site.aside().is_empty(), "{:?}", site.aside());
}

/// Somebody else's mwid runs with it, and would go on in a file that nobody reads any more.
#[test]
fn a_start_that_fails_does_not_take_the_ledger_over() {
    let proxy = Peer::phones();
    let mut site = Site::new(&proxy);
    let ledger = site.ledger();
    assert_eq!(site.start().stop().code(), Some(0));
    own(&ledger, 0, 0o640);
    own(&site.house.path("state/ledger.db.lock"), 0, 0o640);
    let inode = || fs::metadata(&ledger).unwrap().ino();
    let before = inode();
    let refused = |site: &Site, why: &str| {
        let mut mwid = site.launch();
        assert_eq!(mwid.ended(Duration::from_secs(10)).code(), Some(1), "{}", mwid.logged());
        mwid.log(why);
        assert_eq!((inode(), site.aside()), (before, Vec::new()), "{}", mwid.logged());
    };
    for socket in ["run/control.sock", "run/externnotify.sock"] {
        let _held = lock::take(&site.house.path(socket)).unwrap();
        refused(&site, &format!("{socket} is in use by another mwid"));
    }
    let port = UdpSocket::bind("127.0.0.1:0").unwrap();
    let number = port.local_addr().unwrap().port();
    site.set("general", "bindport", &number.to_string());
    refused(&site, "cannot open a UDP socket");
    // Where nothing is in the way it is taken over.
    drop(port);
    let mwid = site.start();
    mwid.log("all that it says is in a file of mwid's own now");
    assert_eq!(mwid.stop().code(), Some(0));
    assert_ne!(inode(), before);
}

/// As docs/troubleshooting.md says.
#[test]
fn what_calls_gave_comes_back_from_a_ledger_that_could_not_be_read() {
    let proxy = Peer::phones();
    let mut site = Site::new(&proxy);
    site.house.subscribe(&proxy, "202", "call");
    let ledger = site.ledger();
    let mut mwid = site.start();
    site.calls(Asterisk::Own, 3);
    proxy.shows("call", "3/0 (0/0)");
    mwid.until("written", |_| site.dropped().is_empty());
    // Its journal has it.
    mwid.signal(Signal::SIGKILL);
    mwid.ended(Duration::from_secs(10));
    for suffix in ["", "-wal"] {
        own(format!("{}{suffix}", ledger.display()).as_ref(), 0, 0o600);
    }
    let mwid = site.start();
    mwid.log("the counts that calls gave are not known until the next call");
    assert_eq!(mwid.stop().code(), Some(0));

    let aside = site.aside();
    let name = aside.iter().find(|it| !it.ends_with("-wal") && !it.ends_with("-shm")).unwrap();
    for suffix in ["", "-wal"] {
        let file = site.house.path("state").join(format!("{name}{suffix}"));
        own(&file, MWID_USER, 0o640);
        fs::rename(file, format!("{}.given{suffix}", ledger.display())).unwrap();
    }
    let mwid = site.start();
    let given = Connection::open(&ledger).unwrap();
    let count = "SELECT count(*) FROM mailboxes WHERE number = '202' AND new = 3";
    assert_eq!(given.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    drop(given);
    assert_eq!(mwid.stop().code(), Some(0));
}
