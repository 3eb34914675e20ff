//! A fake of OpenSIPS's `pua_publish`, from what was measured on 3.6.8 and read in the sources of
//! pua_mi, pua, mi_fifo and mi_datagram: OpenSIPS is no package of Debian.
//!
//! - Each call without an entity-tag makes one more document.
//! - A tag that the user agent (pua) does not know is refused with `418 Wrong ETag`; so is `.` as
//!   the `etag` of JSON-RPC. In the lines `.` is none.
//! - One that only the presence server does not know is answered 412, and pua forgets it.
//! - Every reply to a publication has a new tag. Expires is one second more than was asked for.
//! - Extra headers go into the PUBLISH: a SIP-If-Match there reaches the presence server.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use serde_json::{Value as Json, json};

use super::http::{HttpDouble, Say};

/// One published state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub account: String,
    pub etag: String,
    pub expires: u64,
    pub body: String,
    pub ends: Instant,
}

/// What pua and the presence server remember.
#[derive(Debug, Default)]
struct State {
    documents: Vec<Document>,
    known: HashSet<String>,
    made: u32,
    /// The presence server answers this instead.
    answer: Option<String>,
}

/// A call, whatever way it came.
#[derive(Debug, Default)]
struct Call {
    account: String,
    expires: u64,
    etag: Option<String>,
    headers: String,
    body: String,
}

/// What is said to it.
enum Said {
    /// Of the interface: `418 Wrong ETag`.
    Refused(i64, &'static str),
    /// Of the presence server, with tag and seconds when it is 200.
    Reply(String, Option<(String, u64)>),
}

/// The memory, shared by the ways to it.
#[derive(Clone, Debug, Default)]
pub struct OpenSips(Arc<Mutex<State>>);

impl OpenSips {
    pub fn new() -> Self {
        Self::default()
    }

    /// What the presence server has now, the newest last.
    pub fn documents(&self) -> Vec<Document> {
        let mut documents = self.0.lock().unwrap().documents.clone();
        documents.retain(|it| it.ends > Instant::now());
        documents
    }

    /// It starts again without `db_url`: pua has forgotten its tags, the presence server nothing.
    pub fn forget_tags(&self) {
        self.0.lock().unwrap().known.clear();
    }

    /// The presence server's table is emptied.
    pub fn forget_documents(&self) {
        self.0.lock().unwrap().documents.clear();
    }

    /// The presence server answers this from now on.
    pub fn presence_server_says(&self, answer: &str) {
        self.0.lock().unwrap().answer = Some(answer.to_owned());
    }

    fn publish(&self, call: Call) -> Said {
        let mut state = self.0.lock().unwrap();
        if call.etag.as_ref().is_some_and(|etag| !state.known.contains(etag)) {
            return Said::Refused(418, "Wrong ETag");
        }
        if let Some(answer) = &state.answer {
            return Said::Reply(answer.clone(), None);
        }
        let by_hand = call.headers.lines().find_map(|line| line.strip_prefix("SIP-If-Match: "));
        let matched = call.etag.clone().or_else(|| by_hand.map(str::to_owned));
        if let Some(etag) = &matched {
            state.known.remove(etag);
            let found = |it: &Document| it.etag == *etag && it.account == call.account;
            let Some(index) = state.documents.iter().position(found) else {
                return Said::Reply("412 Conditional Request Failed".to_owned(), None);
            };
            state.documents.remove(index);
        }
        state.made += 1;
        let etag = format!("a.1795.{}.0", state.made);
        if call.expires == 0 {
            return Said::Reply("200 OK".to_owned(), Some((etag, 0)));
        }
        assert!(!call.body.is_empty(), "a publication has a body");
        state.known.insert(etag.clone());
        let expires = call.expires + 1;
        let Call { account, body, .. } = call;
        let ends = Instant::now() + Duration::from_secs(expires);
        state.documents.push(Document { account, etag: etag.clone(), expires, body, ends });
        Said::Reply("200 OK".to_owned(), Some((etag, expires)))
    }

    /// mi_http of OpenSIPS 3 at `…/mi`.
    pub fn over_http(&self) -> HttpDouble {
        let this = self.clone();
        HttpDouble::start(move |asked| {
            assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/mi"));
            let call: Json = serde_json::from_str(&asked.body).expect("JSON");
            assert_eq!((&call["jsonrpc"], &call["method"]), (&json!("2.0"), &json!("pua_publish")));
            let answer = match named(&call["params"]).map(|call| this.publish(call)) {
                Err(what) => json!({ "error": { "code": -32602, "message": what } }),
                Ok(Said::Refused(code, message)) => {
                    json!({ "error": { "code": code, "message": message } })
                }
                Ok(Said::Reply(reply, None)) => json!({ "result": { "reply": reply } }),
                Ok(Said::Reply(reply, Some((etag, expires)))) => {
                    json!({ "result": { "reply": reply, "ETag": etag, "Expires": expires } })
                }
            };
            let mut answer = answer;
            answer["jsonrpc"] = json!("2.0");
            answer["id"] = call["id"].clone();
            Say::Answer(200, "application/json", answer.to_string())
        })
    }

    /// mi_fifo, at this path; it replies in this folder. It ends with the process.
    pub fn over_fifo(&self, path: &Path, replies: &Path) {
        nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).expect("our own folder");
        // Both ends: so that it stays open between two callers, as in mi_init_fifo_server().
        let file = OpenOptions::new().read(true).write(true).open(path).expect("our own FIFO");
        let (this, replies) = (self.clone(), replies.to_owned());
        thread::spawn(move || {
            let mut lines = BufReader::new(file);
            loop {
                let mut call = Vec::new();
                // An empty line ends the call.
                while !call.ends_with(b"\n\n") {
                    lines.read_until(b'\n', &mut call).expect("a line");
                }
                let (name, values) = parse(std::str::from_utf8(&call).expect("UTF-8"));
                assert!(!name.is_empty() && !name.contains(['.', '/', '\\']), "forbidden: {name}");
                let reply = this.lines(&values);
                let mut file = reply_fifo(&replies.join(name));
                file.write_all(reply.as_bytes()).expect("somebody reads the reply");
            }
        });
    }

    /// mi_datagram over UDP.
    pub fn over_udp(&self) -> SocketAddr {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        let this = self.clone();
        thread::spawn(move || {
            let mut buffer = [0; 65_535];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let (_, values) = parse(std::str::from_utf8(&buffer[..length]).expect("UTF-8"));
                socket.send_to(this.lines(&values).as_bytes(), from).expect("loopback takes it");
            }
        });
        address
    }

    /// mi_datagram over a Unix socket at this path.
    pub fn over_unix(&self, path: &Path) {
        let socket = UnixDatagram::bind(path).expect("our own folder");
        let this = self.clone();
        thread::spawn(move || {
            let mut buffer = [0; 65_535];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let (_, values) = parse(std::str::from_utf8(&buffer[..length]).expect("UTF-8"));
                let from: PathBuf = from.as_pathname().expect("it has a name").to_owned();
                socket.send_to(this.lines(&values).as_bytes(), from).expect("it is still there");
            }
        });
    }

    /// The reply of the old interface to these parameters.
    fn lines(&self, values: &[String]) -> String {
        let [account, expires, event, kind, etag, headers, body] = values else {
            return "400 Too few or too many parameters\n\n".to_owned();
        };
        assert_eq!((event.as_str(), kind.as_str()), ("message-summary", super::SUMMARY));
        let given = |value: &String| (value != ".").then(|| value.clone());
        let call = Call {
            account: account.clone(),
            expires: expires.parse().expect("a number"),
            etag: given(etag),
            headers: given(headers).unwrap_or_default(),
            body: body.clone(),
        };
        match self.publish(call) {
            Said::Refused(code, reason) => format!("{code} {reason}\n\n"),
            Said::Reply(reply, None) => format!("200 OK\n{reply}\n\n"),
            Said::Reply(reply, Some((etag, expires))) => {
                format!("200 OK\n{reply}\nETag:: {etag}\nExpires:: {expires}\n\n")
            }
        }
    }
}

/// The parameters of JSON-RPC, by name; anything else is `Invalid params`.
fn named(params: &Json) -> Result<Call, String> {
    let params = params.as_object().ok_or("no object")?;
    let text = |name: &str| match params.get(name) {
        None => Ok(None),
        Some(Json::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
        Some(other) => Err(format!("{name}: {other}")),
    };
    let known = [
        "presentity_uri",
        "expires",
        "event_package",
        "content_type",
        "body",
        "etag",
        "extra_headers",
    ];
    if let Some(unknown) = params.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("unknown: {unknown}"));
    }
    assert_eq!(text("event_package")?.as_deref(), Some("message-summary"));
    assert_eq!(text("content_type")?.as_deref(), Some(super::SUMMARY));
    Ok(Call {
        account: text("presentity_uri")?.ok_or("no presentity_uri")?,
        expires: params.get("expires").and_then(Json::as_u64).ok_or("expires is no number")?,
        etag: text("etag")?,
        headers: text("extra_headers")?.unwrap_or_default(),
        body: text("body")?.ok_or("no body")?,
    })
}

/// Takes a call apart as mi_parse_node() does: the name of the reply FIFO, and the values.
fn parse(call: &str) -> (String, Vec<String>) {
    let (first, mut rest) = call.split_once('\n').expect("a line");
    let name = first.strip_prefix(":pua_publish:").unwrap_or_else(|| panic!("command: {first}"));
    let mut values = Vec::new();
    while !rest.trim().is_empty() {
        let (value, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (value, after) = quoted.split_once('"').expect("a closing quote");
                assert!(after.starts_with('\n'), "the line ends behind the quote: {after:?}");
                (value, &after[1..])
            }
            None => {
                let (value, after) = rest.split_once('\n').expect("a line");
                assert!(!value.contains("::"), "that would be a name and a value: {value}");
                (value, after)
            }
        };
        values.push(value.to_owned());
        rest = after;
    }
    (name.to_owned(), values)
}

/// Opens a reply FIFO as mi_open_reply_pipe() does, with its checks.
fn reply_fifo(path: &Path) -> File {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
    let metadata = fs::symlink_metadata(path).expect("the reply FIFO is there");
    assert!(metadata.file_type().is_fifo() && metadata.nlink() == 1);
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o660, "nobody else may write there");
    OpenOptions::new().write(true).open(path).expect("somebody reads there")
}
