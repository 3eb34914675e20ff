//! A server that counts CSeq in its memory, as OpenSIPS does: the real mwid on OpenSIPS's table, and
//! the demo's strict phone, which believes a NOTIFY only when every rule holds.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

use mwid::clock;
use mwid::demo::line::{Line, What};
use mwid::demo::phone::{Phone, Subscription};
use mwid_core::dialog::Dialog;
use mwid_core::notify::{Hop, Notifier, Notify, RequestUri, Route};
use mwid_core::summary::Summary;
use rusqlite::Connection;
use support::mwid::Mwid;
use support::sip::Message;
use support::voicemail::Voicemail;
use support::{SOON, wait_for};
use tempfile::TempDir;

const SCHEMA: &str = include_str!("../sql/sqlite/opensips-active_watchers.sql");

/// What the server's own NOTIFYs say: somebody published it.
const OWN: &str = "9/0 (0/0)";

/// A presence server with one subscription, its table, and its phone.
struct Server {
    folder: TempDir,
    table: Connection,
    socket: UdpSocket,
    subscription: Subscription,
    line: Line,
}

impl Server {
    /// The subscription's first NOTIFY, with CSeq 1, has been sent.
    fn new() -> Self {
        let folder = TempDir::with_prefix("mwid-opensips-").unwrap();
        let (phone, address) = Line::open().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let subscription = Subscription {
            user: "202".into(),
            domain: "example.com".into(),
            call_id: "3c26700857a6-xyz@127.0.0.1".into(),
            phone_tag: "B22C69FD-D3E2550A".into(),
            server_tag: "944cfec2ae51664c1f4ff1ec5d501247-9753".into(),
            contact: format!("sip:202@{address}"),
            expires: clock::unix() + 600,
            cseq: 1,
        };
        let strict = Arc::new(Mutex::new(Phone::new(subscription.clone())));
        let line = Line::connect(phone, address, strict);
        let table = Connection::open(folder.path().join("opensips.db")).unwrap();
        table.execute_batch(SCHEMA).unwrap();
        let server = Self { folder, table, socket, subscription, line };
        server.subscription.insert(&server.table, &server.address().to_string()).unwrap();
        server
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// An mwid, and an empty mailbox that the phone has been told of with CSeq 2.
    fn mwid(&mut self) -> (Mwid, Voicemail) {
        let url = format!("sqlite:{}", self.folder.path().join("opensips.db").display());
        // The order of things, not the pace, is what is looked at.
        let setup = Mwid::on(&url).through(self.line.address);
        let mwid = setup.with("timers", "min_interval = 0").start();
        let mailbox = mwid.mailbox("202@example.com");
        mailbox.open();
        assert_eq!(self.hear_until("0/0 (0/0)"), (vec![200], 2));
        assert_eq!(self.stored(), 2, "the row holds what was on the wire");
        (mwid, mailbox)
    }

    /// What the row says.
    fn stored(&self) -> u32 {
        let sql = "SELECT local_cseq FROM active_watchers";
        self.table.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// The server writes the count that it has in its memory into the row.
    fn write_back(&self, cseq: u32) {
        self.table.execute("UPDATE active_watchers SET local_cseq = ?1", [cseq]).unwrap();
    }

    /// The server's own NOTIFY; gives what the phone answered.
    fn notify(&self, cseq: u32) -> u16 {
        let dialog = self.subscription.row(1, &self.address().to_string());
        let dialog = Dialog::from_row(&dialog).unwrap();
        let own = self.address();
        let hop = Hop {
            authority: self.line.address.to_string(),
            resolved: self.line.address.to_string(),
            host: own.ip().to_string(),
            port: own.port(),
        };
        let notify = Notify {
            dialog: &dialog,
            account: &dialog.account,
            summary: Some(Summary { new: 9, ..Summary::default() }),
            cseq,
            branch: &format!("z9hG4bKserver{cseq}"),
            hop: &hop,
            unix: clock::unix(),
            authorization: &[],
        };
        let notifier = Notifier {
            user_agent: "OpenSIPS".into(),
            contact_user: None,
            voicemail: None,
            request_uri: RequestUri::Contact,
            route: Route::None,
        };
        let (mut bytes, mut buffer) = (Vec::new(), [0; 2048]);
        notify.write(&notifier, &mut bytes);
        self.socket.send_to(&bytes, self.line.address).unwrap();
        let length = self.socket.recv(&mut buffer).unwrap();
        let answer = Message::parse(std::str::from_utf8(&buffer[..length]).unwrap()).unwrap();
        answer.status().unwrap()
    }

    /// What the phone answers until it believes these counts: the codes, and the last CSeq.
    fn hear_until(&mut self, summary: &str) -> (Vec<u16>, u32) {
        let mut codes = Vec::new();
        loop {
            let event = wait_for("word from the phone", SOON, || self.line.events.try_recv().ok());
            match event.what {
                What::Believed { cseq, summary: shown, .. } => {
                    codes.push(200);
                    if shown.to_string() == summary {
                        return (codes, cseq);
                    }
                }
                What::Refused { code, .. } => codes.push(code),
                What::Repeated => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_row_that_the_server_rolled_back_does_not_make_mwid_go_back() {
    let mut server = Server::new();
    let (_mwid, mailbox) = server.mwid();
    server.write_back(1);
    mailbox.leave();
    assert_eq!(server.hear_until("1/0 (0/0)"), (vec![200], 3));
    assert_eq!(server.stored(), 3);
}

#[test]
fn a_notify_of_the_server_that_the_row_does_not_tell_of_costs_one_500() {
    let mut server = Server::new();
    let (mwid, mailbox) = server.mwid();
    // The server, whose memory says 1, counts past mwid: 2 is refused, 3 is believed.
    server.write_back(1);
    assert_eq!([server.notify(2), server.notify(3)], [500, 200]);
    assert_eq!(server.hear_until(OWN), (vec![500, 200], 3));

    mailbox.leave();
    assert_eq!(server.hear_until("1/0 (0/0)"), (vec![500, 200], 5));
    assert_eq!(server.stored(), 5);
    mwid.wait_for_status("/lamps/delivered", 1);
    assert_eq!(mwid.status()["counters"]["cseq_too_low"], 1);
}

#[test]
fn each_500_makes_the_next_jump_longer() {
    let mut server = Server::new();
    let (_mwid, mailbox) = server.mwid();
    assert_eq!(server.notify(60), 200);
    assert_eq!(server.hear_until(OWN), (vec![200], 60));

    mailbox.leave();
    // The row's 2 and one more, then 2, 10 and 100 further.
    assert_eq!(server.hear_until("1/0 (0/0)"), (vec![500, 500, 500, 200], 3 + 2 + 10 + 100));
    mailbox.leave();
    assert_eq!(server.hear_until("2/0 (0/0)"), (vec![200], 116));
}
