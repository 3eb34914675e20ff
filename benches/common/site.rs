//! Accounts that are as many as their mailboxes and subscriptions.

use std::fs;
use std::path::{Path, PathBuf};

use mwid::clock;
use mwid::demo::phone::Subscription;
use mwid_core::dialog::Flavour;

use crate::support::fleet::rows::{Rows, Server};
use crate::support::mariadb::MariaDb;
use crate::support::postgres::Postgres;

pub const CONTEXT: &str = "example.com";

/// The databases, by the names that choose them.
pub const SERVERS: [&str; 3] = ["sqlite", "mariadb", "postgres"];

pub fn server(name: &str) -> Server {
    match name {
        "mariadb" => Server::MariaDb(MariaDb::shared()),
        "postgres" => Server::Postgres(Postgres::shared()),
        _ => Server::Sqlite,
    }
}

pub fn user(number: usize) -> String {
    format!("{}", 1_000_000 + number)
}

pub fn call_id(number: usize) -> String {
    format!("call-{number}@phones.example.com")
}

pub fn subscription(number: usize) -> Subscription {
    Subscription {
        user: user(number),
        domain: CONTEXT.into(),
        call_id: call_id(number),
        phone_tag: format!("phone-{number}"),
        server_tag: format!("server-{number}"),
        contact: format!("sip:{}@192.0.2.7:5062", user(number)),
        expires: clock::unix() + 36_000,
        cseq: 1,
    }
}

/// A table with one subscription for each of `size` accounts, whose server is at `address`.
pub fn rows(server: Server, folder: &Path, address: &str, size: usize) -> Rows {
    let rows = Rows::new(server, Flavour::OpenSips, folder);
    let subscriptions: Vec<_> = (0..size).map(subscription).collect();
    rows.insert(&subscriptions, address);
    rows
}

pub fn mailbox(spool: &Path, number: usize) -> PathBuf {
    spool.join(CONTEXT).join(user(number))
}

/// A mailbox with the folders INBOX and Old.
pub fn make_mailbox(spool: &Path, number: usize) -> PathBuf {
    let mailbox = mailbox(spool, number);
    fs::create_dir_all(mailbox.join("INBOX")).unwrap();
    fs::create_dir(mailbox.join("Old")).unwrap();
    mailbox
}

/// A spool whose mailboxes have one message each.
pub fn one_message_each(spool: &Path, size: usize) {
    for number in 0..size {
        fs::write(make_mailbox(spool, number).join("INBOX/msg0000.txt"), "").unwrap();
    }
}

/// What an mwid needs that tells the phones at this address of that spool, as fast as it can.
pub fn configuration(address: &str, spool: &Path, database: &str) -> String {
    format!(
        "[general]\nproxy = {address}\nbindip = 127.0.0.1\n[spool]\npath = {}\n\
         [database]\nurl = {database}\n[timers]\nrate = 100000\n",
        spool.display(),
    )
}
