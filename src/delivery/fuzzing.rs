//! For fuzz/: the private readers of what presence servers and proxies answer, with what must hold
//! of everything that they read. A broken promise is a panic.

use mwid_core::message::Challenge;
use mwid_core::publication::ETag;

use super::json_rpc::{self, Reply};
use super::mi_lines;
use super::prompt::Prompt;
use super::xml_rpc::{self, Answer as XmlAnswer};
use crate::config::{Credentials, Secret};
use crate::http_client::Answer;

/// The longest text that goes into a log line, in characters.
const MAX_WORDS: usize = 1000;

/// A challenge of a proxy or phone: what answers it is one header line.
pub fn answer_challenge(challenge: &Challenge) {
    let Some(mut prompt) = Prompt::read(challenge) else { return };
    let credentials = Credentials { user: "mwid".into(), password: Secret::new("s3cret") };
    for _ in 0..2 {
        let line = prompt.line(&credentials, "NOTIFY", "sip:202@192.0.2.7");
        let line = line.expect("a nonce can be used twice");
        assert!(!line.contains(char::is_control) && line.len() < 8192, "{line:?}");
        assert!(!line.contains("s3cret"), "{line:?}");
    }
}

/// The body of an HTTP answer to a call of JSON-RPC.
pub fn json_rpc(body: &[u8]) {
    let content_type = "application/json".to_owned();
    let answer = Answer { status: 200, content_type, retry_after: None, body: body.to_vec() };
    match json_rpc::read(&answer, 7) {
        Reply::Result(_) => {}
        Reply::Error { message: words, .. } | Reply::None(words, _) | Reply::Silent(words) => {
            log_line(&words);
        }
    }
}

/// A reply of mi_fifo or mi_datagram; and the bytes as a value of a call, which an empty line ends.
pub fn mi_lines(bytes: &[u8]) {
    if let Some(reply) = mi_lines::read(bytes) {
        assert!((0..1000).contains(&reply.code), "{reply:?}");
        for (name, value) in &reply.named {
            assert!(!name.contains('\n') && !value.contains('\n'), "{reply:?}");
        }
    }
    let text = String::from_utf8_lossy(bytes);
    if let Ok(call) = mi_lines::write("pua_publish", "reply", &[&text]) {
        let call = String::from_utf8(call).expect("it was made of text");
        let end = call.find("\n\n").expect("a call has an end");
        assert_eq!(end + 2, call.len(), "{call:?}");
        assert!(call.contains(&*text), "{call:?}");
    }
}

/// The body of an HTTP answer to a call of XML-RPC; and the bytes as a parameter of a call, which a
/// parser must read as they were meant.
pub fn xml_rpc(body: &[u8]) {
    match xml_rpc::read_answer(body) {
        Ok(XmlAnswer::Result(members)) => {
            let length: usize = members.iter().map(|(name, value)| name.len() + value.len()).sum();
            assert!(length <= body.len() * 4, "{members:?}");
        }
        Ok(XmlAnswer::Fault { message, .. }) => log_line(&message),
        Err(error) => assert!(error.to_string().len() < 4 * MAX_WORDS, "{error}"),
    }
    let text = String::from_utf8_lossy(body);
    let call = xml_rpc::write_call("m", &[&text]);
    assert!(!call.contains('\r'), "a parser would make LF of it");
    let (_, rest) = call.split_once("<value><string>").expect("its only parameter");
    let (text_of_it, _) = rest.rsplit_once("</string></value>").expect("its only parameter");
    let answer = format!(
        "<methodResponse><member><name>it</name><value><string>{text_of_it}</string></value>\
         </member></methodResponse>"
    );
    match xml_rpc::read_answer(answer.as_bytes()) {
        Ok(XmlAnswer::Result(members)) => assert_eq!(members.get("it"), Some(&text.into_owned())),
        // Not each character may stand in XML, and the text may be too long.
        Ok(other) => panic!("{other:?}"),
        Err(_) => {}
    }
}

/// An entity-tag is a token.
pub fn etag(bytes: &[u8]) {
    if let Some(etag) = std::str::from_utf8(bytes).ok().and_then(|text| ETag::new(text).ok()) {
        assert!(etag.as_str().bytes().all(|byte| byte.is_ascii_graphic()), "{etag}");
        assert_eq!(etag.as_str().as_bytes(), bytes);
    }
}

fn log_line(words: &str) {
    assert!(!words.contains(char::is_control), "{words:?}");
    assert!(words.chars().count() <= MAX_WORDS, "{words}");
}
