//! A client that says exactly what a test wants, and its daemon.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::house::{House, Mwid};
use crate::peer::{Peer, SOON};

/// A house with an HTTP door and no spool.
pub fn house(proxy: &Peer) -> House {
    let mut house = House::new(proxy);
    house.set("spool", "enabled", "no");
    house.set("http", "listen", "127.0.0.1:0");
    house
}

/// Where it listens.
pub fn address(mwid: &Mwid) -> SocketAddr {
    let line = mwid.log("HTTP listens");
    line.rsplit_once("socket=").unwrap().1.trim().parse().unwrap()
}

/// What was answered.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Response {
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let parted = text.split_once("\r\n\r\n");
        let (head, body) = parted.unwrap_or_else(|| panic!("no whole answer: {text:?}"));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status: {head:?}"));
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }

    /// Is refused with this status and explanation (RFC 9457).
    #[track_caller]
    pub fn refused(&self, status: u16, detail: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem["status"], status);
        let told = problem["detail"].as_str().unwrap();
        assert!(told.contains(detail), "{told:?} does not speak of {detail:?}");
    }
}

/// The bytes of a request; `lines` are more header lines, each ended by CRLF.
pub fn request(method: &str, target: &str, lines: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = match body.len() {
        0 => String::new(),
        length => format!("Content-Length: {length}\r\n"),
    };
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: mwid\r\nConnection: close\r\n{lines}{length}\r\n"
    );
    [head.as_bytes(), body].concat()
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream
}

/// Says these bytes; gives what is answered until the connection is closed, nothing where nobody
/// listens.
pub fn say(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let Ok(mut stream) = TcpStream::connect(address) else { return Vec::new() };
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    // The daemon need not listen to the end.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

pub fn ask(address: SocketAddr, method: &str, target: &str, body: impl AsRef<[u8]>) -> Response {
    ask_with(address, method, target, "", body)
}

pub fn ask_with(
    address: SocketAddr,
    method: &str,
    target: &str,
    lines: &str,
    body: impl AsRef<[u8]>,
) -> Response {
    Response::parse(&say(address, &request(method, target, lines, body)))
}
