//! An HTTP server made by hand: strict about what it is asked, and as good or bad in its answers as
//! a test wants it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{SOON, wait_for};

/// A request, as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// The first connection is 1.
    pub connection: usize,
}

impl Asked {
    /// The value of a header, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// What it does about a request.
#[derive(Clone, Debug)]
pub enum Say {
    /// Status, type, body.
    Answer(u16, &'static str, String),
    /// These bytes, then the end of the connection.
    Raw(Vec<u8>),
    /// Nothing, for ever.
    Nothing,
}

/// A server on a free port of 127.0.0.1. It ends when this is dropped.
pub struct HttpDouble {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    is_over: Arc<AtomicBool>,
}

impl HttpDouble {
    /// One that answers as `say` has it.
    pub fn start(say: impl FnMut(&Asked) -> Say + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let double =
            Self { address, asked: Arc::default(), open: Arc::default(), is_over: Arc::default() };
        let (asked, open) = (double.asked.clone(), double.open.clone());
        let is_over = double.is_over.clone();
        let say = Arc::new(Mutex::new(say));
        thread::spawn(move || {
            let connections = AtomicUsize::new(0);
            for stream in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let stream = stream.expect("a connection");
                open.lock().unwrap().push(stream.try_clone().expect("a socket can be doubled"));
                let connection = 1 + connections.fetch_add(1, Ordering::SeqCst);
                let (asked, say) = (asked.clone(), say.clone());
                thread::spawn(move || {
                    serve(stream, connection, |request| {
                        asked.lock().unwrap().push(request.clone());
                        (say.lock().unwrap())(request)
                    });
                });
            }
        });
        double
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that it was asked, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits until it was asked so often.
    pub fn wait_for(&self, count: usize) -> Vec<Asked> {
        wait_for(&format!("request {count}"), SOON, || {
            let asked = self.asked();
            (asked.len() >= count).then_some(asked)
        })
    }
}

impl Drop for HttpDouble {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        for stream in self.open.lock().unwrap().drain(..) {
            // One that the other side has closed already is no error.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        let _ = TcpStream::connect(self.address);
    }
}

/// Answers the requests of one connection until it ends.
fn serve(mut stream: TcpStream, connection: usize, mut say: impl FnMut(&Asked) -> Say) {
    let mut bytes = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break bytes.drain(..end + 4).collect::<Vec<u8>>();
            }
            if !more(&mut stream, &mut bytes) {
                return;
            }
        };
        let mut request = parse(std::str::from_utf8(&head).expect("a head is ASCII"), connection);
        assert_eq!(request.header("transfer-encoding"), None, "a length is wanted");
        let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
        while bytes.len() < length {
            assert!(more(&mut stream, &mut bytes), "the body is shorter than it says");
        }
        request.body = String::from_utf8(bytes.drain(..length).collect()).expect("UTF-8");
        let answer = match say(&request) {
            Say::Nothing => {
                let _ = stream.read(&mut [0; 1]);
                return;
            }
            Say::Raw(answer) => {
                let _ = stream.write_all(&answer);
                return;
            }
            Say::Answer(status, kind, body) => format!(
                "HTTP/1.1 {status} As It Is\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> bool {
    let mut part = [0; 4096];
    match stream.read(&mut part) {
        Ok(0) | Err(_) => false,
        Ok(length) => {
            bytes.extend_from_slice(&part[..length]);
            true
        }
    }
}

fn parse(head: &str, connection: usize) -> Asked {
    let mut lines = head.trim_end_matches("\r\n").split("\r\n");
    let request = lines.next().unwrap_or_default().split(' ').collect::<Vec<_>>();
    let [method, target, "HTTP/1.1"] = request[..] else { panic!("no request line: {head:?}") };
    let headers: Vec<_> = lines
        .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("no header: {line:?}")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let (method, target) = (method.to_owned(), target.to_owned());
    let asked = Asked { method, target, headers, body: String::new(), connection };
    assert!(asked.header("host").is_some(), "no Host: {head:?}");
    asked
}
