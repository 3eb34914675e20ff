//! The real Asterisk, unpacked by scripts/setup-asterisk: a voicemail server without a phone, in a
//! folder and on a port of its own.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use mwid_core::summary::Summary;
use tempfile::TempDir;

use super::group::Group;
use super::net::{TcpPort, UdpPort};

/// How long a step may take that takes a second or two on an idle machine.
pub const SOON: Duration = Duration::from_secs(40);

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/asterisk");
const MODULES: &str = include_str!("../fixtures/asterisk/modules.conf");
const EXTENSIONS: &str = include_str!("../fixtures/asterisk/extensions.conf");
/// What we tell operators to write.
const MANAGER: &str = include_str!("../../etc/asterisk/manager.conf");
const VOICEMAIL: &str = include_str!("../../etc/asterisk/voicemail.conf");
const COMMAND: &str = "/usr/bin/mwid-externnotify";

const VOICEMAIL_MODULE: &str = "usr/lib/asterisk/modules/app_voicemail.so";
const ODBC_MODULE: &str = "odbcstorage/usr/lib/asterisk/modules/app_voicemail.so";
const PHONE_MODULES: &str = "load = res_mwi_devstate.so\nload = chan_sip.so\n";
const TABLE: &str = "CREATE TABLE voicemessages (
    uniqueid INTEGER PRIMARY KEY, msgnum INTEGER, dir TEXT, context TEXT, macrocontext TEXT,
    callerid TEXT, origtime TEXT, duration TEXT, mailboxuser TEXT, mailboxcontext TEXT,
    recording BLOB, flag TEXT, msg_id TEXT, category TEXT)";

/// The user of etc/asterisk/manager.conf.
pub const USER: &str = "mwid";
/// The secret of etc/asterisk/manager.conf.
pub const SECRET: &str = "change-me";

/// The server. It ends when this is dropped; what it logged is printed when the test fails.
pub struct Asterisk {
    folder: TempDir,
    port: TcpPort,
    sip: UdpPort,
    group: Option<Group>,
}

impl Asterisk {
    /// Starts one with the mailboxes 200 to 209 in `default`, 300 in `example.com`, and this
    /// `externnotify`.
    pub fn start(externnotify: &str) -> Self {
        Self::with(externnotify, VOICEMAIL_MODULE, "", "")
    }

    /// The same, with its messages in a database: SQLite by ODBC.
    pub fn start_odbc(externnotify: &str) -> Self {
        let modules = "preload = res_odbc_transaction.so\npreload = res_odbc.so\n";
        let storage = "odbcstorage = vm\nodbctable = voicemessages\n";
        Self::with(externnotify, ODBC_MODULE, modules, storage)
    }

    /// One that is a phone, by chan_sip: it subscribes by this line `mwi =>`, for so many seconds, and
    /// has a lamp for what it hears of the mailbox `202@SIP_Remote`.
    pub fn start_phone(mwi: &str, seconds: u32) -> Self {
        let mut asterisk = Self::prepare("/bin/true", VOICEMAIL_MODULE, PHONE_MODULES, "");
        let sip = format!(
            "[general]\nudpbindaddr = {}\nmwiexpiry = {seconds}\nmwi => {mwi}\n",
            asterisk.sip.address(),
        );
        fs::write(asterisk.path("etc/sip.conf"), sip).expect("our own folder");
        asterisk.run();
        asterisk
    }

    fn with(externnotify: &str, module: &str, modules: &str, storage: &str) -> Self {
        let mut asterisk = Self::prepare(externnotify, module, modules, storage);
        asterisk.run();
        asterisk
    }

    fn prepare(externnotify: &str, module: &str, modules: &str, storage: &str) -> Self {
        let folder = TempDir::with_prefix("mwid-asterisk-").expect("a temporary folder");
        let (port, sip) = (TcpPort::claim(), UdpPort::claim());
        let asterisk = Self { folder, port, sip, group: None };
        for name in ["etc", "lib", "log", "modules", "run", "spool"] {
            fs::create_dir(asterisk.path(name)).expect("our own folder");
        }
        asterisk.choose_modules(module);
        asterisk.shorten_prompts();
        asterisk.make_database();
        asterisk.configure(externnotify, modules, storage);
        asterisk
    }

    /// All modules, but voicemail as it is wanted.
    fn choose_modules(&self, voicemail: &str) {
        let to = self.path("modules");
        for module in missing(fs::read_dir(Path::new(ROOT).join("usr/lib/asterisk/modules"))) {
            let module = module.expect("it can be listed");
            if module.file_name() != "app_voicemail.so" {
                symlink(module.path(), to.join(module.file_name())).expect("our own folder");
            }
        }
        let voicemail = missing(Path::new(ROOT).join(voicemail).canonicalize());
        symlink(voicemail, to.join("app_voicemail.so")).expect("our own folder");
    }

    /// Where the messages are with ODBC storage.
    pub fn database(&self) -> PathBuf {
        self.path("voicemail.db")
    }

    fn make_database(&self) {
        let database = rusqlite::Connection::open(self.database()).expect("our own folder");
        database.execute_batch(TABLE).expect("the table of Asterisk's documents");
        let driver = missing(fs::read_dir(Path::new(ROOT).join("usr/lib")))
            .map(|folder| folder.expect("it can be listed").path().join("odbc/libsqlite3odbc.so"))
            .find(|driver| driver.is_file());
        let driver = missing(driver.ok_or_else(|| io::Error::other("no ODBC driver")));
        let sqlite = format!("[SQLite3]\nDriver = {}\n", driver.display());
        fs::write(self.path("odbcinst.ini"), sqlite).expect("our own folder");
        let source = format!("[vm]\nDriver = SQLite3\nDatabase = {}\n", self.database().display());
        fs::write(self.path("odbc.ini"), source).expect("our own folder");
    }

    fn configure(&self, externnotify: &str, modules: &str, storage: &str) {
        let at = |name: &str| self.path(name).display().to_string();
        let (etc, lib, spool) = (at("etc"), at("lib"), at("spool"));
        let directories = format!(
            "[directories]\nastetcdir = {etc}\nastmoddir = {}\n\
             astdatadir = {}\nastvarlibdir = {lib}\nastdbdir = {lib}\n\
             astkeydir = {lib}\nastagidir = {lib}\nastsbindir = {lib}\nastspooldir = {spool}\n\
             astrundir = {}\nastlogdir = {}\n[options]\nnocolor = yes\n",
            at("modules"),
            at("data"),
            at("run"),
            at("log"),
        );
        let manager = format!(
            "[general]\nenabled = yes\nbindaddr = 127.0.0.1\nport = {}\n{MANAGER}\n\
             [deaf]\nsecret = x\nread = call\n\
             [loud]\nsecret = x\nread = call\nwrite = reporting\n",
            self.port.number(),
        );
        let mut voicemail = VOICEMAIL.replace(COMMAND, externnotify);
        assert_ne!(voicemail, VOICEMAIL, "the snippet names {COMMAND}");
        // Messages of any length; nothing is said about them before they are played.
        voicemail.push_str("format = wav\nminsecs = 0\nenvelope = no\nsaycid = no\n");
        voicemail.push_str(&format!("{storage}[default]\n"));
        (200..210).for_each(|box_| voicemail.push_str(&format!("{box_} => 1234,User\n")));
        voicemail.push_str("[example.com]\n300 => 1234,User\n");
        for (name, text) in [
            ("asterisk.conf", directories.as_str()),
            ("manager.conf", &manager),
            ("voicemail.conf", &voicemail),
            ("modules.conf", &format!("{MODULES}{modules}")),
            ("res_odbc.conf", "[vm]\nenabled = yes\ndsn = vm\npre-connect = yes\n"),
            ("extensions.conf", EXTENSIONS),
            ("logger.conf", "[general]\n[logfiles]\nconsole => warning,error\n"),
        ] {
            fs::write(self.path("etc").join(name), text).expect("our own folder");
        }
    }

    /// Prompts that last 20 ms, one frame of GSM: a key finds Asterisk waiting for it.
    fn shorten_prompts(&self) {
        const DATA: &str = "usr/share/asterisk";
        let (all, data) = (Path::new(ROOT).join(DATA), self.path("data"));
        let (from, to) = (all.join("sounds/en"), data.join("sounds/en"));
        fs::create_dir_all(to.join("digits")).expect("our own folder");
        symlink(all.join("documentation"), data.join("documentation")).expect("our own folder");
        let beep = missing(fs::read(from.join("beep.gsm")));
        fs::write(to.join("beep.gsm"), &beep).expect("our own folder");
        let frame = data.join("frame");
        fs::write(&frame, &beep[..33]).expect("our own folder");
        for folder in ["", "digits"] {
            for prompt in missing(fs::read_dir(from.join(folder))) {
                let name = prompt.expect("it can be listed").file_name();
                if name.to_string_lossy().starts_with("vm-") || !folder.is_empty() {
                    let link = to.join(folder).join(name);
                    fs::hard_link(&frame, link).expect("our own folder");
                }
            }
        }
    }

    /// Starts it, again with the same folder, and waits until it has come up.
    pub fn run(&mut self) {
        let program = Path::new(ROOT).join("asterisk");
        let log = File::options().create(true).append(true).open(self.path("output"));
        let log = log.expect("our own folder");
        let mut command = Command::new(program);
        command.arg("-C").arg(self.path("etc/asterisk.conf")).args(["-f", "-n"]);
        command.env("ODBCSYSINI", self.folder.path()).env("ODBCINI", self.path("odbc.ini"));
        command.stdout(log.try_clone().expect("a file handle can be doubled")).stderr(log);
        let mut group = Group::spawn(&mut command).expect("Asterisk can be run");
        self.until("Asterisk to start", || {
            if let Some(status) = group.ended() {
                panic!("Asterisk ended with {status}: {}", self.output());
            }
            self.cli("core waitfullybooted").contains("fully booted").then_some(())
        });
        self.group = Some(group);
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        self.group = None;
    }

    /// `asterisk -rx COMMAND`
    pub fn cli(&self, command: &str) -> String {
        let mut asterisk = Command::new(Path::new(ROOT).join("asterisk"));
        asterisk.arg("-C").arg(self.path("etc/asterisk.conf")).args(["-rx", command]);
        let output = asterisk.stdin(Stdio::null()).output().expect("Asterisk can be run");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// Where the manager listens.
    pub fn manager(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// The folder that holds the contexts.
    pub fn spool(&self) -> PathBuf {
        self.path("spool/voicemail")
    }

    /// Somebody calls this extension of `leave` or a sibling of it, and leaves a message. Returns
    /// at once.
    pub fn leave(&self, extension: &str) {
        self.cli(&format!("channel originate Local/{extension} application Playback beep"));
    }

    /// Somebody listens to a mailbox of `default` and presses these keys. Returns at once.
    pub fn press(&self, mailbox: &str, keys: &str) {
        self.cli(&format!("channel originate Local/{mailbox}@listen extension {keys}@keys"));
    }

    /// Waits until Asterisk itself counts this, `new/old (urgent/0)`.
    pub fn holds(&self, mailbox: &str, counts: &str) {
        let mut last = String::new();
        self.until(&format!("{mailbox} to hold {counts}"), || {
            last = Line::log_in(self).count(mailbox).to_string();
            (last == counts).then_some(())
        });
    }

    /// Waits until the lamp of a phone is as wanted.
    pub fn lamp(&self, lit: bool) {
        let wanted = if lit { "State:InUse" } else { "State:Idle" };
        self.until(wanted, || self.cli("core show hint 202").contains(wanted).then_some(()));
    }

    /// When a message of this mailbox of `default` was last moved to where it is.
    pub fn last_moved(&self, mailbox: &str) -> SystemTime {
        let folder = self.spool().join("default").join(mailbox);
        let folders = ["INBOX", "Old", "Urgent", "Work"].map(|name| folder.join(name));
        let files = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
        let times = files.filter_map(|file| {
            let file = file.ok()?;
            let metadata = file.metadata().ok()?;
            let nanos = Duration::new(
                metadata.ctime().try_into().ok()?,
                metadata.ctime_nsec().try_into().ok()?,
            );
            Some(SystemTime::UNIX_EPOCH + nanos)
        });
        times.max().expect("there is a message")
    }

    /// Asks until there is an answer.
    pub fn until<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}: {}", self.output());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn output(&self) -> String {
        fs::read_to_string(self.path("output")).unwrap_or_default()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Asterisk {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- Asterisk\n{}", self.output());
        }
    }
}

/// Fails the test that cannot run without Asterisk.
fn missing<T>(found: io::Result<T>) -> T {
    found.unwrap_or_else(|error| {
        panic!("no Asterisk in {ROOT}: {error}; run scripts/setup-asterisk")
    })
}

/// A connection to the manager, by the same user as mwid's.
pub struct Line(BufReader<TcpStream>);

impl Line {
    /// Logs in.
    pub fn log_in(asterisk: &Asterisk) -> Self {
        let stream = TcpStream::connect(asterisk.manager()).expect("the manager listens");
        stream.set_read_timeout(Some(SOON)).expect("a socket takes a timeout");
        let mut line = Self(BufReader::new(stream));
        let mut banner = String::new();
        line.0.read_line(&mut banner).expect("the manager greets");
        let login = format!("Login\r\nUsername: {USER}\r\nSecret: {SECRET}");
        assert_eq!(line.ask(&login)[0], "Response: Success");
        line
    }

    /// The lines of the answer to an action.
    pub fn ask(&mut self, action: &str) -> Vec<String> {
        let action = format!("Action: {action}\r\nActionID: it\r\n\r\n");
        self.0.get_mut().write_all(action.as_bytes()).expect("the manager takes it");
        loop {
            let packet = self.hear();
            if packet[0].starts_with("Response: ") {
                return packet;
            }
        }
    }

    /// The lines of the next packet.
    pub fn hear(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).expect("it comes"), 0, "the manager hung up");
            match line.trim_end() {
                "" => return lines,
                text => lines.push(text.to_owned()),
            }
        }
    }

    /// What Asterisk itself counts in a mailbox.
    pub fn count(&mut self, mailbox: &str) -> Summary {
        let answer = self.ask(&format!("MailboxCount\r\nMailbox: {mailbox}"));
        let [new, old, urgent] =
            ["NewMessages", "OldMessages", "UrgMessages"].map(|key| number(&answer, key));
        Summary::from_asterisk(new, old, urgent)
    }
}

/// The value of a key of a packet.
pub fn value<'a>(packet: &'a [String], key: &str) -> &'a str {
    let mut values = packet.iter().filter_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    values.next().unwrap_or_else(|| panic!("no {key} in {packet:?}")).trim()
}

/// The number of a key of a packet.
pub fn number(packet: &[String], key: &str) -> u32 {
    let value = value(packet, key);
    value.parse().unwrap_or_else(|_| panic!("{key} is {value:?}"))
}
