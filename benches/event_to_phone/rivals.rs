//! What people use without mwid, and what no way can be faster than.

use std::fs::{self, Permissions};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use mwid_core::message::{Message, StartLine};
use mwid_core::summary::Summary;
use mysql_async::prelude::Queryable;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::PATIENCE;
use crate::common::Times;
use crate::common::phones::{Phones, ok, receive, shown, socket};
use crate::common::site::{self, CONTEXT, call_id, user};
use crate::support::kamailio;
use crate::support::mariadb::MariaDb;
use crate::support::process;
use crate::support::tables::Tables;

/// As found in many places: Asterisk's externnotify runs it with context, mailbox, new and old. It
/// claims the CSeq and reads the row in one call of the client.
const SCRIPT: &str = r#"#!/bin/sh
account="sip:$2@$1"
where="presentity_uri = '$account' AND event = 'message-summary' AND status = 1"
mariadb --no-defaults --batch --skip-column-names --user=root --socket="$SOCKET" "$DATABASE" -e "
UPDATE active_watchers SET local_cseq = local_cseq + 1 WHERE $where;
SELECT callid, to_tag, from_tag, local_cseq, contact, local_contact FROM active_watchers WHERE $where" |
while read -r callid to_tag from_tag cseq contact local_contact; do
	file=$(mktemp "$TEMPORARY/XXXXXX")
	body=$(printf 'Messages-Waiting: yes\r\nMessage-Account: %s\r\nVoice-Message: %s/%s (0/0)\r\n.' "$account" "$3" "$4")
	body=${body%.}
	printf '%s\r\n' "NOTIFY $contact SIP/2.0" \
		"Via: SIP/2.0/UDP 127.0.0.1:5099;branch=z9hG4bK$$.$cseq;rport" \
		"Max-Forwards: 70" "From: <$account>;tag=$to_tag" "To: <$account>;tag=$from_tag" \
		"Call-ID: $callid" "CSeq: $cseq NOTIFY" "Contact: <$local_contact>" \
		"Event: message-summary" "Subscription-State: active;expires=600" \
		"Content-Type: application/simple-message-summary" "Content-Length: ${#body}" "" >"$file"
	printf '%s' "$body" >>"$file"
	sipsak -i -f "$file" -s "sip:proxy@$PROXY" >/dev/null
	rm "$file"
done
"#;

/// The script, from its start to the NOTIFY.
pub fn script(events: usize) -> Times {
    process::program(&["sipsak"], "sipsak");
    let folder = TempDir::with_prefix("mwid-script-").unwrap();
    let mut phones = Phones::open(events);
    let address = phones.address.to_string();
    let rows = site::rows(site::server("mariadb"), folder.path(), &address, events);
    let file = folder.path().join("externnotify.sh");
    fs::write(&file, SCRIPT).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
    let url = rows.url();
    let times = (0..events).map(|number| {
        let mut command = Command::new(&file);
        command
            .args([CONTEXT, &user(number), "1", "0"])
            .env("SOCKET", MariaDb::shared().socket())
            .env("DATABASE", url.rsplit('/').next().unwrap())
            .env("TEMPORARY", folder.path())
            .env("PROXY", &address)
            .stdin(Stdio::null());
        let began = Instant::now();
        let mut child = command.spawn().unwrap();
        let new = Summary { new: 1, ..Summary::default() };
        let at = phones.next(&call_id(number), new, PATIENCE);
        assert!(child.wait().unwrap().success(), "the script ended well");
        at - began
    });
    Times::new(times.collect())
}

/// Kamailio with its presence and pua modules, asked by curl, until its own NOTIFY comes.
pub fn publish(events: usize) -> Times {
    process::program(&["curl"], "curl");
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).with_rpc().start();
    let phone = socket();
    let proxy = kamailio.address();
    let own = phone.local_addr().unwrap();
    let subscribe = format!(
        "SUBSCRIBE sip:202@{CONTEXT} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKbench;rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:202@{CONTEXT}>;tag=phone\r\nTo: <sip:202@{CONTEXT}>\r\n\
         Call-ID: {}\r\nCSeq: 1 SUBSCRIBE\r\nContact: <sip:202@{own}>\r\n\
         Event: message-summary\r\nAccept: application/simple-message-summary\r\n\
         Expires: 3600\r\nContent-Length: 0\r\n\r\n",
        call_id(0)
    );
    phone.send_to(subscribe.as_bytes(), proxy).unwrap();
    told(&phone, None);
    let times = (1..=events).map(|new| {
        let body = format!(
            "Messages-Waiting: yes\r\nMessage-Account: sip:202@{CONTEXT}\r\nVoice-Message: {new}/0 (0/0)\r\n"
        );
        let params = serde_json::json!([
            format!("sip:202@{CONTEXT}"),
            "3600",
            "message-summary",
            "application/simple-message-summary",
            "bench",
            ".",
            format!("sip:{proxy}"),
            ".",
            body
        ]);
        let call = serde_json::json!({
            "jsonrpc": "2.0", "method": "pua.publish", "params": params, "id": new
        });
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--data", &call.to_string()]);
        command.arg(format!("{}/RPC", kamailio.rpc())).stdin(Stdio::null()).stdout(Stdio::null());
        let began = Instant::now();
        let mut child = command.spawn().unwrap();
        let at = told(&phone, Some(&format!("{new}/0 (0/0)")));
        assert!(child.wait().unwrap().success(), "curl ended well");
        at - began
    });
    Times::new(times.collect())
}

/// When a NOTIFY with these counts came, or any; all are answered.
fn told(phone: &UdpSocket, counts: Option<&str>) -> Instant {
    let (began, mut buffer) = (Instant::now(), vec![0; 65_535]);
    loop {
        assert!(began.elapsed() < PATIENCE, "waited in vain for a NOTIFY with {counts:?}");
        let Some((length, from)) = receive(phone, &mut buffer) else { continue };
        let at = Instant::now();
        let message = Message::parse(&buffer[..length]).unwrap();
        let StartLine::Request { .. } = message.start() else { continue };
        phone.send_to(&ok(&message), from).unwrap();
        if counts.is_none() || shown(&message).as_deref() == counts {
            return at;
        }
    }
}

/// A static process that does nothing, one bare statement that claims a CSeq, one datagram.
pub fn floor(server: &str, events: usize) -> Times {
    let folder = TempDir::with_prefix("mwid-floor-").unwrap();
    let rows = site::rows(site::server(server), folder.path(), "127.0.0.1:5060", events);
    let nothing = compile(folder.path());
    let database = Database::open(&rows.url());
    let (phone, sender) = (socket(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let address = phone.local_addr().unwrap();
    let (bytes, mut buffer) = (vec![b'x'; 700], vec![0; 65_535]);
    let times = (1..=events).map(|id| {
        let began = Instant::now();
        assert!(Command::new(&nothing).status().unwrap().success());
        database.claim(id);
        sender.send_to(&bytes, address).unwrap();
        receive(&phone, &mut buffer).expect("a datagram on loopback");
        began.elapsed()
    });
    Times::new(times.collect())
}

fn compile(folder: &Path) -> std::path::PathBuf {
    let (source, program) = (folder.join("nothing.c"), folder.join("nothing"));
    fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let mut compiler = Command::new(process::program(&["cc", "gcc"], "gcc"));
    process::run(compiler.args(["-O2", "-static", "-o"]).args([&program, &source]), b"");
    program
}

enum Database {
    MariaDb(Runtime, std::cell::RefCell<mysql_async::Conn>),
    Postgres(Runtime, tokio_postgres::Client),
    Sqlite(rusqlite::Connection),
}

impl Database {
    fn open(url: &str) -> Self {
        let runtime =
            || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        if let Some(path) = url.strip_prefix("sqlite:") {
            return Self::Sqlite(rusqlite::Connection::open(path).unwrap());
        }
        let runtime = runtime();
        if url.starts_with("mysql:") {
            let opts = mysql_async::Opts::from_url(url).unwrap();
            let connection = runtime.block_on(mysql_async::Conn::new(opts)).unwrap();
            return Self::MariaDb(runtime, connection.into());
        }
        let connect = tokio_postgres::connect(url, tokio_postgres::NoTls);
        let (client, connection) = runtime.block_on(connect).unwrap();
        runtime.spawn(connection);
        Self::Postgres(runtime, client)
    }

    fn claim(&self, id: usize) {
        let sql = format!("UPDATE active_watchers SET local_cseq = local_cseq + 1 WHERE id = {id}");
        match self {
            Self::MariaDb(runtime, connection) => {
                runtime.block_on(connection.borrow_mut().query_drop(sql)).unwrap();
            }
            Self::Postgres(runtime, client) => {
                runtime.block_on(client.batch_execute(&sql)).unwrap();
            }
            Self::Sqlite(connection) => connection.execute_batch(&sql).unwrap(),
        }
    }
}
