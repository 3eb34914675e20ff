//! Requests that are none, too large, too slow, or for something that is not there.

use std::io::{Read, Write};

use crate::client::{Response, address, ask, ask_with, connect, house, request, say};
use crate::peer::Peer;

const EVENT: &str = "/cgi/StatusEvent.cgi?identity=202@example.com";
const SUMMARY: &str = "/v1/accounts/202@example.com/summary";
const BODY: &str = r#"{"new": 1, "old": 0}"#;

#[test]
fn a_body_of_4096_bytes_is_read_and_a_larger_one_is_not() {
    let proxy = Peer::silent();
    let house = house(&proxy);
    let mwid = house.start();
    let door = address(&mwid);
    let padded = |length| BODY.to_owned() + &" ".repeat(length - BODY.len());
    assert_eq!(ask(door, "PUT", SUMMARY, padded(4096)).status, 204);
    for length in [4097, 100_000] {
        let bytes = request("PUT", SUMMARY, "", padded(length));
        // Not sent to the end, so that nothing unread resets the connection.
        let head = bytes.iter().position(|&byte| byte == b'{').unwrap();
        Response::parse(&say(door, &bytes[..head])).refused(413, "4096 bytes");
    }
    // Nobody says how long it will be.
    let chunked = "Transfer-Encoding: chunked\r\n";
    let mut bytes = request("GET", EVENT, chunked, "");
    bytes.extend(format!("1001\r\n{}\r\n0\r\n\r\n", " ".repeat(4097)).bytes());
    Response::parse(&say(door, &bytes)).refused(413, "4096 bytes");
    // Without an end, which is not waited for.
    let mut endless = request("GET", EVENT, chunked, "");
    endless.extend(format!("1001\r\n{}\r\n", " ".repeat(4097)).bytes());
    Response::parse(&say(door, &endless)).refused(413, "4096 bytes");
    let mut bytes = request("PUT", SUMMARY, chunked, "");
    bytes.extend(format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len()).bytes());
    assert_eq!(Response::parse(&say(door, &bytes)).status, 204);
}

#[test]
fn a_method_that_is_not_there_is_refused_with_those_that_are() {
    let proxy = Peer::silent();
    let house = house(&proxy);
    let mwid = house.start();
    let door = address(&mwid);
    for (target, methods, allowed) in [
        (EVENT, &["HEAD", "OPTIONS", "PUT", "DELETE", "BREW"][..], "GET, POST"),
        ("/cgi/voicemail.cgi?identity=202@example.com", &["OPTIONS", "POST"], "GET,HEAD"),
        (SUMMARY, &["GET", "HEAD", "OPTIONS", "POST", "PATCH"], "PUT"),
        ("/v1/accounts/202@example.com", &["PUT", "OPTIONS", "DELETE"], "GET,HEAD"),
        ("/v1/accounts/202@example.com/resend", &["GET", "HEAD", "OPTIONS"], "POST"),
        ("/v1/status", &["POST", "TRACE"], "GET,HEAD"),
    ] {
        for method in methods {
            let response = ask(door, method, target, "");
            assert_eq!(response.status, 405, "{method} {target}: {response:?}");
            assert_eq!(response.header("allow"), Some(allowed), "{method} {target}");
        }
    }
    assert_eq!(mwid.status()["mailboxes"], 0);
}

#[test]
fn what_is_not_there_is_not_found() {
    let proxy = Peer::silent();
    let house = house(&proxy);
    let mwid = house.start();
    let door = address(&mwid);
    for target in [
        "//",
        "/v1",
        "/v1/accounts",
        "/v1/accounts/",
        "/v1/accounts/202@example.com/",
        "/v1/accounts/202@example.com/summary/",
        "/v1//accounts/202@example.com",
        "/cgi/statusevent.cgi?identity=202@example.com",
        "/v1/../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
    ] {
        ask(door, "GET", target, "").refused(404, "there is nothing here");
    }
}

#[test]
fn what_is_no_http_harms_nobody() {
    let proxy = Peer::silent();
    let house = house(&proxy);
    let mwid = house.start();
    let door = address(&mwid);
    let noise: Vec<u8> =
        (0_u32..20_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
    let header = format!("GET /v1/status HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET /v1/status HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(5_000));
    for bytes in [
        &noise[..],
        b"",
        b"\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v1/status\r\n\r\n",
        b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"PUT /v1/accounts/202@example.com/summary HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"PUT /v1/accounts/202@example.com/summary HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v1/status HTTP/1.1\r\nA\x00B: c\r\n\r\n",
        b"GET /v1/\xff HTTP/1.1\r\n\r\n",
        b"NOTIFY sip:202@example.com SIP/2.0\r\nVia: SIP/2.0/TCP x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        long.as_bytes(),
        header.as_bytes(),
        many.as_bytes(),
    ] {
        let answer = say(door, bytes);
        let fine = answer.is_empty() || answer.starts_with(b"HTTP/1.1 4");
        assert!(fine, "{}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(ask(door, "GET", "/v1/status", "").status, 200);
    assert_eq!(mwid.status()["mailboxes"], 0);
}

/// A value that looks like a header, or like another request, stays a value.
#[test]
fn nothing_of_a_request_comes_back_as_a_header() {
    let proxy = Peer::silent();
    let house = house(&proxy);
    let mwid = house.start();
    let door = address(&mwid);
    for target in [
        "/v1/accounts/202%0d%0aSet-Cookie:%20a@example.com",
        "/cgi/voicemail.cgi?identity=x%0d%0aSet-Cookie:%20a",
        "/cgi/voicemail.cgi?identity=202@example.com&format=%0d%0aSet-Cookie:%20a",
    ] {
        let response = ask(door, "GET", target, "");
        response.refused(400, "");
        assert!(!response.head.to_ascii_lowercase().contains("set-cookie"), "{response:?}");
    }
}

#[test]
fn a_client_that_sends_its_head_slowly_is_cut_off_and_others_are_served() {
    let proxy = Peer::silent();
    let house = house(&proxy);
    let mwid = house.start();
    let door = address(&mwid);
    // All places are taken by clients that say a little and then nothing.
    let mut slow: Vec<_> = (0..600).map(|_| connect(door)).collect();
    for (index, stream) in slow.iter_mut().enumerate() {
        let said = &b"GET /v1/status HTTP/1.1\r\nHost: x\r\nX-Slow: "[..index % 43];
        stream.write_all(said).unwrap();
    }
    assert_eq!(ask(door, "GET", "/v1/status", "").status, 200);
    for mut stream in slow {
        let mut answer = Vec::new();
        // Closed in one way or the other, or this fails by its time limit.
        match stream.read_to_end(&mut answer) {
            Ok(_) => {
                assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{answer:?}")
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let proxy = Peer::silent();
    let house = house(&proxy);
    let mwid = house.start();
    let mut stream = connect(address(&mwid));
    let bytes = request("PUT", SUMMARY, "", BODY);
    stream.write_all(&bytes[..bytes.len() - 1]).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    Response::parse(&answer).refused(408, "the body did not come within 5 s");
    assert_eq!(mwid.status()["mailboxes"], 0);
}

#[test]
fn a_connection_serves_several_requests_and_an_idle_one_is_closed() {
    let proxy = Peer::silent();
    let house = house(&proxy);
    let mwid = house.start();
    let mut stream = connect(address(&mwid));
    for new in 1..=3 {
        let body = format!(r#"{{"new": {new}, "old": 0}}"#);
        let length = body.len();
        let head = format!("PUT {SUMMARY} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        assert_eq!(Response::parse(&answer).status, 204);
    }
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "nothing more is said, it is closed");
    mwid.until("closed", |status| status["http"]["connections"] == 0);
}

#[test]
fn a_client_that_goes_away_before_its_answer_harms_nobody() {
    let proxy = Peer::silent();
    let house = house(&proxy);
    let mwid = house.start();
    let door = address(&mwid);
    for _ in 0..100 {
        connect(door).write_all(&request("PUT", SUMMARY, "", BODY)).unwrap();
    }
    let expects = "Expect: 100-continue\r\n";
    let answer = say(door, &request("PUT", SUMMARY, expects, BODY));
    assert!(String::from_utf8_lossy(&answer).contains("HTTP/1.1 204"), "{answer:?}");
    assert_eq!(ask_with(door, "GET", "/v1/status", "", "").status, 200);
}
