//! Bad rows, bad names, bad datagrams: each with an effect on nothing else.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use mwid::clock::unix;

use crate::house::{House, insert, subscription};
use crate::peer::{Heard, Peer};

/// A row of 202 made bad by this assignment, and a good one that must be told all the same.
fn with_bad_row(set: &str) -> (House, Peer) {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    let bad = subscription(&proxy, "202", "bad");
    insert(&house.database(), &bad, "127.0.0.1:5060");
    proxy.subscribe(bad);
    house.sql(&format!("UPDATE active_watchers SET {set} WHERE callid = 'bad'"));
    house.subscribe(&proxy, "202", "good");
    house.messages("example.com/202", 1, 0);
    (house, proxy)
}

/// The row is skipped and named, once; the other phone is told.
fn is_skipped(set: &str, said: &str) {
    let (house, proxy) = with_bad_row(set);
    let mwid = house.start();
    proxy.shows("good", "1/0 (0/0)");
    house.messages("example.com/202", 2, 0);
    proxy.shows("good", "2/0 (0/0)");
    let status = mwid.settled();
    assert_eq!(proxy.transactions(2).len(), 2, "{set}: the bad row was sent to");
    assert_eq!(proxy.refused(), [""; 0], "{set}");
    assert!(status["counters"]["bad_rows"].as_u64() >= Some(2), "{set}: {status:#}");
    let line = mwid.log("the row is skipped");
    assert!(line.contains(said), "{set}: {line}");
    assert_eq!(mwid.count("the row is skipped"), 1, "{set}: {}", mwid.logged());
}

#[test]
fn header_injection_is_refused() {
    let evil = "char(13) || char(10) || 'Via: SIP/2.0/UDP evil'";
    for column in ["contact", "local_contact", "to_tag", "from_tag", "to_user", "watcher_domain"] {
        is_skipped(
            &format!("{column} = {column} || {evil}"),
            &format!("column {column} contains '\\r'"),
        );
    }
    is_skipped(
        &format!("record_route = '<sip:192.0.2.1;lr' || {evil} || '>'"),
        "record_route contains '\\r'",
    );
    is_skipped("contact = contact || char(0)", "column contact contains '\\0'");
}

#[test]
fn a_contact_that_is_no_uri_is_refused() {
    is_skipped("contact = '202'", "column contact is no SIP URI");
    is_skipped("contact = 'tel:+1'", "column contact is no SIP URI");
    is_skipped("contact = ''", "column contact is NULL or empty");
    is_skipped("contact = x'ff00'", "column contact contains");
}

#[test]
fn a_value_that_fits_into_no_datagram_is_refused() {
    let long = "replace(hex(zeroblob(40000)), '00', 'aa')";
    is_skipped(&format!("contact = 'sip:' || {long} || '@192.0.2.1'"), "column contact has ");
    is_skipped(
        &format!("record_route = '<sip:' || {long} || '@h;lr>'"),
        "column record_route has ",
    );
}

#[test]
fn numbers_out_of_range_are_refused() {
    is_skipped("remote_cseq = -1", "column remote_cseq is -1");
    is_skipped("remote_cseq = 1 << 62", "column remote_cseq is 4611686018427387904");
}

#[test]
fn null_columns_are_refused() {
    for column in ["contact", "to_tag", "local_contact", "to_domain"] {
        let proxy = Peer::phones();
        let house = House::new(&proxy);
        // As some other software may have made the table.
        let loose = crate::house::SCHEMA.replace("NOT NULL", "");
        house.sql("DROP TABLE active_watchers");
        house.database().execute_batch(&loose).unwrap();
        house.subscribe(&proxy, "202", "bad");
        house.sql(&format!("UPDATE active_watchers SET {column} = NULL"));
        house.subscribe(&proxy, "202", "good");
        house.messages("example.com/202", 1, 0);
        let mwid = house.start();
        proxy.shows("good", "1/0 (0/0)");
        let line = mwid.log("the row is skipped");
        assert!(line.contains(&format!("column {column} is NULL or empty")), "{line}");
        mwid.settled();
        assert_eq!(proxy.transactions(1).len(), 1);
    }
}

/// Not live, so not told, and not worth a word.
#[test]
fn rows_that_are_not_live_are_left_alone() {
    for set in [
        "expires = strftime('%s', 'now') - 10",
        "expires = -1",
        "expires = NULL",
        "status = 2",
        "status = 3",
        "event = 'presence'",
        "event = 'message-summary.winfo'",
    ] {
        let proxy = Peer::phones();
        let house = House::new(&proxy);
        house.sql("DROP TABLE active_watchers");
        house.database().execute_batch(&crate::house::SCHEMA.replace("NOT NULL", "")).unwrap();
        house.subscribe(&proxy, "202", "dead");
        house.sql(&format!("UPDATE active_watchers SET {set}"));
        house.subscribe(&proxy, "202", "live");
        house.messages("example.com/202", 1, 0);
        let mwid = house.start();
        proxy.shows("live", "1/0 (0/0)");
        mwid.settled();
        assert_eq!(proxy.transactions(1).len(), 1, "{set}");
        assert_eq!(mwid.count("WARN"), 1, "{set}: {}", mwid.logged());
    }
}

#[test]
fn a_subscription_that_ends_in_a_million_years_is_told_with_a_number_that_a_phone_can_read() {
    for expires in ["2147483647", "4294967296", "(1 << 62)", "9223372036854775807"] {
        let proxy = Peer::says(200);
        let house = House::new(&proxy);
        house.subscribe(&proxy, "202", "call");
        house.sql(&format!("UPDATE active_watchers SET expires = {expires}"));
        house.messages("example.com/202", 1, 0);
        let mwid = house.start();
        let heard = proxy.told("202", "1/0 (0/0)");
        let state = heard.header("Subscription-State");
        let left = state.strip_prefix("active;expires=").unwrap();
        assert!(left.parse::<u32>().is_ok(), "{state}");
        mwid.log("delivered: 200");
    }
}

#[test]
fn a_dialog_without_a_cseq_left_says_so_once_and_nothing_bad_about_the_database() {
    let (house, proxy) = with_bad_row("local_cseq = 2147483647");
    let mwid = house.start();
    proxy.shows("good", "1/0 (0/0)");
    let line = mwid.log("has used up its CSeq numbers");
    assert!(line.contains("row 1"), "{line}");
    mwid.until("tried again", |status| status["counters"]["claims"].as_u64() >= Some(3));
    assert_eq!(mwid.count("has used up its CSeq numbers"), 1);
    assert_eq!(mwid.count("database"), 0, "{}", mwid.logged());
    assert_eq!(mwid.status()["counters"]["database_errors"], 0);
}

#[test]
fn mailboxes_that_are_named_badly_light_nothing_and_disturb_nobody() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.subscribe(&proxy, "202", "call");
    let long = "9".repeat(255);
    let names: [&[u8]; 8] = [
        b"..x",
        b".hidden",
        b"20\n2",
        b"a..b",
        b"\xff\xfe",
        long.as_bytes(),
        b"a b",
        b"20;2\"<sip:x>",
    ];
    for name in names {
        for folder in [house.path("spool/example.com"), house.path("spool")] {
            let inbox = folder.join(OsStr::from_bytes(name)).join("INBOX");
            fs::create_dir_all(&inbox).unwrap();
            fs::write(inbox.join("msg0000.txt"), "").unwrap();
        }
    }
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    proxy.shows("call", "1/0 (0/0)");
    mwid.log("the spool has been counted");
    house.messages("example.com/202", 2, 0);
    proxy.shows("call", "2/0 (0/0)");
    mwid.until("all counted", |status| status["spool"]["bad_names"].as_u64() >= Some(8));
    assert_eq!(mwid.settled()["lamps"]["accounts"], 1, "{}", mwid.logged());
    mwid.log("the name is not UTF-8");
    mwid.log("has 255 bytes; at most 253 are allowed");
    mwid.log("mailbox=a b@example.com");
}

#[test]
fn datagrams_from_outside_disturb_nobody() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    proxy.shows("call", "1/0 (0/0)");
    let (stranger, to) = (Peer::silent(), mwid.address());
    let noise: Vec<u8> =
        (0_u32..65_507).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for length in [1, 2, 100, 1400, 65_507] {
        stranger.send(to, &noise[..length]);
    }
    stranger.send(to, b"SIP/2.0 200 OK\r\n\r\n");
    stranger.send(to, format!("SIP/2.0 200 {}\r\n\r\n", "a".repeat(65_000)).as_bytes());
    // Keep-alives (RFC 5626 §4.4.1, RFC 6223) are no garbage.
    stranger.send(to, b"\r\n\r\n");
    stranger.send(to, b"\0\0\0\0");
    let request = "OPTIONS sip:mwid@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKx\r\n\
                   From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\
                   Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n";
    stranger.send(to, request.as_bytes());
    mwid.until("received", |status| status["sip"]["requests"] == 1);
    house.messages("example.com/202", 2, 0);
    proxy.shows("call", "2/0 (0/0)");
    let status = mwid.settled();
    assert!(status["sip"]["garbage"].as_u64() >= Some(6), "{status:#}");
    assert_eq!(
        mwid.count("a datagram that is no SIP message was dropped"),
        1,
        "said once a minute"
    );
}

/// Right Call-ID, tags and CSeq, but not the branch that only the proxy has seen.
#[test]
fn rfc3261_17_1_3_a_forged_answer_changes_nothing() {
    let proxy = Peer::silent();
    let house = House::new(&proxy);
    house.subscribe(&proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    let heard = proxy.transactions(1).remove(0);
    let forger = Peer::silent();
    let answer = String::from_utf8(heard.answer(481, "")).unwrap();
    let branch = heard.message.via().unwrap().branch().unwrap().to_owned();
    let other_method = answer.replace(" NOTIFY\r\n", " INVITE\r\n");
    let other_cseq = answer.replace("CSeq: ", "CSeq: 1");
    for forged in [answer.replace(&branch, "z9hG4bK0000000000000000"), other_method, other_cseq] {
        forger.send(heard.from, forged.as_bytes());
    }
    mwid.until("received", |status| status["sip"]["strays"] == 3);
    assert_eq!(mwid.status()["counters"]["gone"], 0);
    proxy.script(|heard: &Heard| vec![heard.answer(200, "")]);
    mwid.log("delivered: 200");
}

#[test]
fn a_row_that_expires_before_its_turn_is_not_told() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.subscribe(&proxy, "202", "call");
    house.sql(&format!("UPDATE active_watchers SET expires = {}", unix() + 1));
    let mwid = house.start();
    mwid.log("the spool has been counted");
    mwid.until("expired", |_| unix() > house_expires(&house));
    house.messages("example.com/202", 1, 0);
    mwid.until("looked up", |status| status["counters"]["lookups"].as_u64() >= Some(1));
    assert_eq!(mwid.settled()["sip"]["notifies"], 0);
}

fn house_expires(house: &House) -> u64 {
    let sql = "SELECT expires FROM active_watchers";
    house.database().query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap().try_into().unwrap()
}
