//! Every SIP message, both ways, as a capture node has it: Kamailio's sipcapture takes HEP apart.

use std::collections::HashMap;
use std::fs::{self, File};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use tempfile::TempDir;

use crate::bed::Bed;
use crate::phone::counts;
use crate::support::group::Group;
use crate::support::net::UdpPort;
use crate::support::process::program;
use crate::support::{SOON, wait_for};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/kamailio-capture.cfg");

/// What sipcapture writes, and as what; its text files know no long numbers.
const COLUMNS: &str = "date(time,null) micro_ts(int,null) method reply_code reply_reason ruri \
    ruri_user ruri_domain from_user from_domain from_tag to_user to_domain to_tag pid_user \
    contact_user auth_user callid callid_aleg via_1 via_1_branch cseq diversion reason \
    content_type auth user_agent source_ip source_port(int,null) destination_ip \
    destination_port(int,null) contact_ip contact_port(int,null) originator_ip \
    originator_port(int,null) correlation_id custom_field1 custom_field2 custom_field3 \
    proto(int,null) family(int,null) rtp_stat type(int,null) node msg";

/// A capture node.
struct Node {
    port: UdpPort,
    folder: TempDir,
    group: Group,
}

type Row = HashMap<String, String>;

impl Node {
    fn start() -> Self {
        let folder = TempDir::with_prefix("mwid-capture-").unwrap();
        let port = UdpPort::claim();
        let path = folder.path();
        let column = |name: &str| match name.contains('(') {
            true => name.to_owned(),
            false => format!("{name}(string,null)"),
        };
        let columns: Vec<String> = COLUMNS.split_whitespace().map(column).collect();
        fs::write(path.join("sip_capture"), columns.join(" ") + "\n").unwrap();
        let versions = "table_name(string) table_version(int)\nsip_capture:4\n";
        fs::write(path.join("version"), versions).unwrap();
        let log = File::create(path.join("log")).unwrap();
        let mut command = Command::new(program(&["kamailio"], "kamailio"));
        command.args(["-DD", "-E", "-m", "32", "-M", "4", "-f", SCRIPT]);
        command.arg("-P").arg(path.join("pid")).arg("-Y").arg(path).arg("-w").arg(path);
        command.arg("-A").arg(format!("MWID_TEST_TABLES=\"text://{}\"", path.display()));
        command.arg("-l").arg(format!("udp:{}", port.address()));
        command.stdout(Stdio::null()).stderr(log);
        let group = Group::spawn(&mut command).unwrap();
        let node = Self { port, folder, group };
        // It says nothing to those who send; its log tells when its children are there.
        wait_for("the capture node", SOON, || {
            node.log().contains("using database at").then_some(())
        });
        node
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Ends it once it has so many messages, and gives them.
    fn rows(mut self, count: usize) -> Vec<Row> {
        wait_for("the messages", SOON, || {
            (self.log().matches("captured ").count() >= count).then_some(())
        });
        kill(self.group.id(), Signal::SIGTERM).unwrap();
        wait_for("the end of the capture node", SOON, || self.group.ended());
        let names = COLUMNS.split_whitespace().map(|name| name.split('(').next().unwrap());
        let names: Vec<&str> = names.collect();
        let text = fs::read_to_string(self.folder.path().join("sip_capture")).unwrap();
        let row = |line: &str| {
            let line = line.replace("\\:", "\0");
            let values = line.split(':').map(|value| value.replace('\0', ":"));
            names.iter().map(|name| (*name).to_owned()).zip(values).collect()
        };
        text.lines().skip(1).map(row).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let path = self.folder.path();
            for name in ["log", "sip_capture"] {
                eprintln!("{name}:\n{}", fs::read_to_string(path.join(name)).unwrap_or_default());
            }
        }
    }
}

/// Where a message came from and went to.
fn ends(row: &Row) -> (SocketAddr, SocketAddr) {
    let end = |name: &str| {
        let (ip, port) = (&row[&format!("{name}_ip")], &row[&format!("{name}_port")]);
        format!("{ip}:{port}").parse().unwrap()
    };
    (end("source"), end("destination"))
}

#[test]
fn a_capture_node_sees_a_subscription_from_both_sides() {
    let node = Node::start();
    let mut bed = Bed::new();
    bed.house.set("capture", "hep", &node.port.address().to_string());
    bed.house.set("capture", "id", "4711");
    let mwid = bed.start();
    let mut phone = bed.phone("202");
    phone.subscribe(600);
    let (agent, call_id, phone) = (bed.address(), phone.call_id.clone(), phone.address());

    let health = mwid.until("all are mirrored", |it| it["capture"]["mirrored"] == 4);
    assert_eq!(health["capture"]["lost"], 0);
    let rows = node.rows(4);
    let row = |method: &str, of: &str| {
        let is_it = |row: &&Row| row["method"] == method && row["cseq"].ends_with(of);
        rows.iter().find(is_it).unwrap_or_else(|| panic!("no {method} of {of}: {rows:#?}"))
    };
    let (subscribe, answer) = (row("SUBSCRIBE", "SUBSCRIBE"), row("200", "SUBSCRIBE"));
    let (notify, taken) = (row("NOTIFY", "NOTIFY"), row("200", "NOTIFY"));
    for (row, from, to) in [
        (subscribe, phone, agent),
        (answer, agent, phone),
        (notify, agent, phone),
        (taken, phone, agent),
    ] {
        assert_eq!(ends(row), (from, to), "{row:?}");
        assert_eq!((&row["callid"], &row["correlation_id"]), (&call_id, &call_id));
        assert!(row["node"].ends_with(":4711"), "{row:?}");
        // 2: IPv4; UDP.
        assert_eq!((row["family"].as_str(), row["proto"].as_str()), ("2", "1"), "{row:?}");
        let date: u64 = row["date"].parse().unwrap();
        assert!(mwid::clock::unix().abs_diff(date) < 60, "{row:?}");
    }
    assert!(notify["msg"].contains("Voice-Message: 2/1 (0/0)"), "{notify:?}");
    assert_eq!(rows.len(), 4);
}

#[test]
fn nobody_at_the_other_end_costs_no_lamp_and_is_counted_and_a_reload_ends_it() {
    let mut bed = Bed::new();
    let nobody = UdpPort::claim();
    bed.house.set("capture", "hep", &nobody.address().to_string());
    let mwid = bed.start();
    let mut phone = bed.phone("202");
    assert_eq!(counts(&phone.subscribe(600)), Some("2/1 (0/0)"));
    let lost = |status: &serde_json::Value| status["capture"]["lost"].as_u64() > Some(0);
    mwid.until("counted as lost", lost);
    assert!(bed.house.mwid(&["status"]).out.contains("  capture: "));

    // A name that leads nowhere is said, and holds nothing up either.
    bed.house.set("capture", "hep", "nowhere.invalid");
    let said = bed.house.mwid(&["reload"]);
    assert!(said.out.contains("[capture]"), "{said:?}");
    mwid.log("[capture] hep cannot be resolved");

    let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
    listener.set_read_timeout(Some(SOON)).unwrap();
    bed.house.set("capture", "hep", &listener.local_addr().unwrap().to_string());
    bed.house.set("capture", "password", "s3cret");
    assert_eq!(bed.house.mwid(&["reload"]).code, 0);
    bed.house.messages("example.com/202", 3, 1);
    phone.notify_until("3 new", |notify| counts(notify) == Some("3/1 (0/0)"));
    let mut packet = [0; 4096];
    let length = listener.recv(&mut packet).unwrap();
    // Type 14, 12 bytes with its head.
    let key = [&[0, 0, 0, 14, 0, 12][..], b"s3cret"].concat();
    assert!(packet[..length].windows(key.len()).any(|window| window == key));

    bed.house.set("capture", "hep", "");
    assert_eq!(bed.house.mwid(&["reload"]).code, 0);
    assert!(mwid.status()["capture"].is_null());
    listener.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    while listener.recv(&mut packet).is_ok() {}
    bed.house.messages("example.com/202", 4, 1);
    phone.notify_until("4 new", |notify| counts(notify) == Some("4/1 (0/0)"));
    assert!(listener.recv(&mut packet).is_err());
}
