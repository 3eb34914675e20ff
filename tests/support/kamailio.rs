//! The real Kamailio: presence server and proxy on one UDP socket of 127.0.0.1.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::group::Group;
use super::net::{TcpPort, UdpPort};
use super::tables::Tables;
use super::{SOON, wait_for};

const BINARY: &str = "/usr/sbin/kamailio";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/kamailio.cfg");
const PLAIN_SCRIPT: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/kamailio-agent.cfg");

/// What a Kamailio is to be started with.
#[derive(Clone, Debug)]
pub struct Setup {
    role: Role,
    aliases: Vec<SocketAddr>,
    nat: bool,
    rpc: bool,
    auth: bool,
    presence: Option<Presence>,
}

/// How Kamailio's presence module keeps its subscriptions and tells its phones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// `subs_db_mode`: 1 write through, 2 written every 100 s, 3 database only.
    pub subs_db_mode: u8,
    /// `notifier_processes`, which counts with 3 only. 0: whoever has the PUBLISH tells the phones.
    pub notifier_processes: u8,
}

/// Who answers SUBSCRIBE.
#[derive(Clone, Debug)]
enum Role {
    /// Kamailio's presence module, on this database.
    Presence(String),
    /// mwid, which listens there: Kamailio is a registrar and a proxy.
    Proxy(SocketAddr),
}

impl Setup {
    /// On these tables.
    pub fn on(tables: &Tables) -> Self {
        Self::as_(Role::Presence(tables.url().to_owned()))
    }

    /// Without presence module and database, in front of an mwid with an agent.
    pub fn before(agent: SocketAddr) -> Self {
        Self::as_(Role::Proxy(agent))
    }

    fn as_(role: Role) -> Self {
        Self { role, aliases: Vec::new(), nat: false, rpc: false, auth: false, presence: None }
    }

    /// A Route with this address means this Kamailio too: a relay stands in front of it.
    #[must_use]
    pub fn also_known_as(mut self, alias: SocketAddr) -> Self {
        self.aliases.push(alias);
        self
    }

    /// Phones may be behind NAT (`WITH_NAT` of the stock script).
    #[must_use]
    pub fn with_nat(mut self) -> Self {
        self.nat = true;
        self
    }

    /// It publishes what it is told by RPC (`etc/kamailio/rpc.cfg`).
    #[must_use]
    pub fn with_rpc(mut self) -> Self {
        self.rpc = true;
        self
    }

    /// A PUBLISH needs digest credentials: mwid and secret, in the realm example.com.
    #[must_use]
    pub fn with_auth(mut self) -> Self {
        self.auth = true;
        self
    }

    /// Its presence module works so, and not as the snippets want it.
    #[must_use]
    pub fn with_presence(mut self, presence: Presence) -> Self {
        self.presence = Some(presence);
        self
    }

    /// Starts it and waits until it answers.
    pub fn start(self) -> Kamailio {
        let folder = TempDir::with_prefix("mwid-kamailio-").expect("a temporary folder");
        let rpc = self.rpc.then(TcpPort::claim);
        let port = UdpPort::claim();
        let mut kamailio = Kamailio { setup: self, port, rpc, folder, group: None };
        kamailio.start();
        kamailio
    }
}

/// A running Kamailio. It and its children end when this is dropped.
#[derive(Debug)]
pub struct Kamailio {
    setup: Setup,
    port: UdpPort,
    rpc: Option<TcpPort>,
    folder: TempDir,
    group: Option<Group>,
}

impl Kamailio {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Where its RPC is: `http://127.0.0.1:port`.
    pub fn rpc(&self) -> String {
        let port = self.rpc.as_ref().expect("it was set up with_rpc");
        format!("http://127.0.0.1:{}", port.number())
    }

    /// Its leader and process group, while it runs.
    pub fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).expect("its log is readable")
    }

    /// Ends it as a power cut does. Its database and address stay.
    pub fn stop(&mut self) {
        self.group = None;
    }

    /// Starts it, again at the same address, and waits until it answers.
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_file());
        let log = log.expect("a log file in our own folder");
        let mut group = Group::spawn(&mut self.command(&log))
            .unwrap_or_else(|error| panic!("{BINARY}: {error}; scripts/setup installs it"));
        let probe = Probe::new(self.address());
        wait_for("answer of Kamailio to OPTIONS", SOON, || {
            if let Some(status) = group.ended() {
                panic!("Kamailio ended with {status}:\n{}", self.log());
            }
            probe.answered().then_some(())
        });
        self.group = Some(group);
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("kamailio.log")
    }

    fn command(&self, log: &File) -> Command {
        let folder = self.folder.path();
        let output = || Stdio::from(log.try_clone().expect("a file handle can be doubled"));
        let mut command = Command::new(BINARY);
        // -DD: the leader stays in the foreground. -m, -M: megabytes, shared and of each process.
        command.args(["-DD", "-E", "-m", "32", "-M", "4"]);
        command.arg("-P").arg(folder.join("pid")).arg("-Y").arg(folder).arg("-w").arg(folder);
        command.arg("-l").arg(format!("udp:{}", self.address()));
        match &self.setup.role {
            Role::Presence(database) => presence(&mut command, database),
            Role::Proxy(agent) => {
                command.args(["-f", PLAIN_SCRIPT, "-A"]);
                command.arg(format!("MWID_AGENT=\"sip:{agent}\""));
            }
        }
        if let Some(rpc) = &self.rpc {
            command.arg("-l").arg(format!("tcp:127.0.0.1:{}", rpc.number()));
            command.args(["-A", "MWID_TEST_RPC"]);
        }
        if self.setup.auth {
            command.args(["-A", "MWID_TEST_AUTH"]);
        }
        if let Some(Presence { subs_db_mode, notifier_processes }) = self.setup.presence {
            command.arg("-A").arg(format!("MWID_TEST_DB_MODE={subs_db_mode}"));
            command.arg("-A").arg(format!("MWID_TEST_NOTIFIERS={notifier_processes}"));
        }
        if self.setup.nat {
            command.arg("-A").arg("WITH_NAT");
        }
        for alias in &self.setup.aliases {
            command.arg("-A").arg(format!("MWID_TEST_ALIAS=udp:{alias}"));
        }
        command.stdout(output()).stderr(output());
        command
    }
}

fn presence(command: &mut Command, database: &str) {
    let module = match database.split_once("://") {
        Some(("mysql", _)) => "db_mysql.so",
        Some(("postgres", _)) => "db_postgres.so",
        _ => panic!("neither mysql:// nor postgres://: {database}"),
    };
    command.args(["-f", SCRIPT]);
    command.arg("-A").arg(format!("MWID_TEST_DB_MODULE=\"{module}\""));
    command.arg("-A").arg(format!("MWID_TEST_DB_URL=\"{database}\""));
    if module == "db_postgres.so" {
        command.arg("-A").arg("MWID_TEST_POSTGRES");
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of Kamailio at {}\n{}", self.address(), self.log());
        }
    }
}

/// Asks with OPTIONS whether a SIP server is up.
struct Probe {
    socket: UdpSocket,
    server: SocketAddr,
}

impl Probe {
    const PATIENCE: Duration = Duration::from_millis(20);

    fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on 127.0.0.1");
        socket.set_read_timeout(Some(Self::PATIENCE)).expect("it is more than zero");
        Self { socket, server }
    }

    fn answered(&self) -> bool {
        let own = self.socket.local_addr().expect("it is bound");
        let options = [
            format!("OPTIONS sip:{} SIP/2.0", self.server),
            format!("Via: SIP/2.0/UDP {own};branch=z9hG4bKprobe;rport"),
            "Max-Forwards: 70".into(),
            format!("From: <sip:probe@{own}>;tag=probe"),
            format!("To: <sip:{}>", self.server),
            format!("Call-ID: probe@{own}"),
            "CSeq: 1 OPTIONS".into(),
            "Content-Length: 0\r\n\r\n".into(),
        ]
        .join("\r\n");
        let mut answer = [0; 2048];
        // A refused port (ICMP) shows as an error of either call: not up yet.
        self.socket.send_to(options.as_bytes(), self.server).is_ok()
            && self.socket.recv(&mut answer).is_ok()
            && answer.starts_with(b"SIP/2.0 200 ")
    }
}
