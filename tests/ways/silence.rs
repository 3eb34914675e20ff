//! Servers that take connections and answer nothing: no account and no other door pays for them.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::house::{House, MWID};
use crate::peer::Peer;
use crate::support::opensips_mi::OpenSips;
use crate::support::{SOON, wait_for};

const ACCOUNTS: u32 = 3000;

/// Takes every connection, and keeps it. It ends with the test.
fn silent() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/mi", listener.local_addr().unwrap());
    let taken = Arc::new(Mutex::new(Vec::new()));
    thread::spawn(move || {
        listener.incoming().for_each(|stream| taken.lock().unwrap().push(stream))
    });
    url
}

#[test]
fn a_server_that_answers_nothing_takes_no_files_and_is_caught_up_with() {
    let proxy = Peer::phones();
    let mut house = House::new(&proxy);
    house.set("delivery", "use", "opensips-mi");
    house.set("opensips-mi", "url", &silent());
    house.set("opensips-mi", "timeout", "2");
    for number in 0..ACCOUNTS {
        house.messages(&format!("example.com/{}", 1000 + number), 1, 0);
    }
    let mut limited = Command::new("prlimit");
    limited.args(["--nofile=256:256", MWID]);
    let mwid = house.launch_by(limited);
    let line = mwid.log("not published, will be tried again");
    assert!(line.contains("WARN") && line.contains("no answer within 2 s"), "{line}");
    let status = mwid.until("trouble", |status| {
        status["publications"]["known"] == ACCOUNTS && status["troubles"][0].is_string()
    });
    assert_eq!(status["troubles"][0], "publishing by opensips-mi fails");
    let way = &status["publications"]["ways"][0];
    assert_eq!((&way["way"], &way["accepted"]), (&"opensips-mi".into(), &0.into()));
    let files = fs::read_dir(format!("/proc/{}/fd", status["pid"])).unwrap().count();
    assert!(files < 100, "{files} open files");
    assert_eq!(house.externnotify(&["example.com", "202", "1", "0", "0"]).code, 0);
    let said = house.mwid(&["status"]).out;
    assert!(said.contains("TROUBLE: publishing by opensips-mi fails"), "{said}");
    assert!(!said.contains("proxy:"), "nobody asks it: {said}");
    // Said once, not once per account and try.
    assert_eq!(mwid.count("not published, will be tried again"), 1);
    let opensips = OpenSips::new();
    let http = opensips.over_http();
    house.set("opensips-mi", "url", &format!("{}/mi", http.url()));
    assert_eq!(house.mwid(&["reload"]).code, 0);
    let all = ACCOUNTS as usize + 1;
    wait_for("all documents", SOON, || (opensips.documents().len() == all).then_some(()));
    mwid.log("opensips-mi works again");
    mwid.stop();
}
