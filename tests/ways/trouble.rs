//! Servers that answer rubbish, too much, too little, or nothing.

use std::net::TcpListener;
use std::time::Duration;

use mwid::delivery::Published;
use mwid::delivery::kamailio_rpc::KamailioRpc;
use mwid::delivery::opensips_mi::OpensipsMi;
use mwid::delivery::sipx::Sipx;
use mwid_core::publication::{ETag, Outcome, Way};
use tempfile::TempDir;

use crate::support::http::{HttpDouble, Say};
use crate::{Runtime, config, new, order};

/// Every client that speaks HTTP, asking this address.
fn all(url: &str) -> Vec<Published> {
    let config = config(&format!(
        "[opensips-mi]\nurl = {url}\ntimeout = 1\n[kamailio-rpc]\nurl = {url}\ntimeout = 1\n\
         [sipx]\npublisher = {url}\ntimeout = 1\n"
    ));
    let mut xml = config.kamailio_rpc.clone();
    xml.format = config::RpcFormat::Xml;
    let etag = Some(ETag::new("a.1").unwrap());
    Runtime::new().wait(async {
        let opensips = OpensipsMi::new(&config.opensips_mi, None).unwrap().unwrap();
        let kamailio = KamailioRpc::new(&config.kamailio_rpc, None).unwrap().unwrap();
        let xml = KamailioRpc::new(&xml, None).unwrap().unwrap();
        let sipx = Sipx::new(&config.sipx, None).unwrap().unwrap();
        vec![
            opensips.deliver(&order(Way::OpensipsMi, new(1), etag.clone())).await,
            kamailio.deliver(&order(Way::KamailioRpc, new(1), etag.clone())).await,
            xml.deliver(&order(Way::KamailioRpc, new(1), etag)).await,
            sipx.deliver(&order(Way::Sipx, new(1), None)).await,
        ]
    })
}

/// None of them takes it for success, nor for the end of what was published before.
#[track_caller]
fn later(published: &[Published], words: &str) {
    for published in published {
        assert!(matches!(published.outcome, Outcome::Later(_)), "{published:?}");
        assert!(published.answer.contains(words), "{words}: {published:?}");
        assert!(published.answer.len() < 400, "{published:?}");
    }
}

#[test]
fn a_500_with_html() {
    let page = "<!DOCTYPE html><html><body><h1>Internal Server Error</h1></body></html>";
    let server = HttpDouble::start(move |_| Say::Answer(500, "text/html", page.to_owned()));
    later(&all(&server.url()), "HTTP 500");
}

#[test]
fn a_200_that_is_no_answer() {
    for body in ["", "OK", "<html></html>", "{}", "[]", "null", "\"Accepted\"", "{\"id\": 1}"] {
        let server = HttpDouble::start(move |_| Say::Answer(200, "text/html", body.to_owned()));
        // For sipX every 200 is an answer.
        later(&all(&server.url())[..3], "HTTP 200");
    }
}

#[test]
fn a_503_says_when_to_come_again() {
    let server = HttpDouble::start(|_| {
        Say::Raw(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n".to_vec())
    });
    for published in all(&server.url()) {
        assert_eq!(published.outcome, Outcome::Later(Some(Duration::from_secs(7))));
    }
}

#[test]
fn an_answer_that_is_too_long() {
    let server = HttpDouble::start(|_| Say::Answer(200, "text/plain", "a".repeat(70_000)));
    later(&all(&server.url()), "more than 65536 bytes");
    let endless = HttpDouble::start(|_| {
        let mut answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
        answer.resize(300_000, b'a');
        Say::Raw(answer)
    });
    later(&all(&endless.url()), "more than 65536 bytes");
}

#[test]
fn an_answer_that_ends_too_early_or_never_comes() {
    let server = HttpDouble::start(|_| {
        Say::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"jsonrpc\"".to_vec())
    });
    later(&all(&server.url()), "");
    let closing = HttpDouble::start(|_| Say::Raw(Vec::new()));
    later(&all(&closing.url()), "");
    let rubbish = HttpDouble::start(|_| Say::Raw(b"SIP/2.0 400 Bad Request\r\n\r\n".to_vec()));
    later(&all(&rubbish.url()), "");
    let silent = HttpDouble::start(|_| Say::Nothing);
    later(&all(&silent.url()), "no answer within 1 s");
}

#[test]
fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    later(&all(&format!("http://{address}/")), "refused");
}

#[test]
fn a_password_goes_as_basic_authentication_and_into_no_word() {
    let server = HttpDouble::start(|_| Say::Answer(401, "text/html", String::new()));
    let url = server.url().replace("http://", "http://mwid:hunter2@");
    for published in all(&url) {
        assert!(!format!("{published:?}").contains("hunter2"));
    }
    for asked in server.asked() {
        assert_eq!(asked.header("authorization"), Some("Basic bXdpZDpodW50ZXIy"));
    }
}

/// What asks by lines is as patient.
#[test]
fn an_opensips_that_is_not_there_or_says_nothing() {
    let folder = TempDir::with_prefix("mwid-mi-").unwrap();
    let path = folder.path().join("fifo");
    let deliver = |url: &str| {
        let replies = folder.path().display();
        let lines = format!("[opensips-mi]\nurl = {url}\nreply_folder = {replies}\ntimeout = 1\n");
        let config = config(&lines);
        Runtime::new().wait(async {
            let client = OpensipsMi::new(&config.opensips_mi, None).unwrap().unwrap();
            client.deliver(&order(Way::OpensipsMi, new(1), None)).await
        })
    };
    let fifo = format!("fifo:{}", path.display());
    later(&[deliver(&fifo)], "No such file");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    later(&[deliver(&fifo)], "nobody reads");
    let keep = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    later(&[deliver(&fifo)], "no reply within 1 s");
    drop(keep);
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    later(&[deliver(&format!("udp:{}", silent.local_addr().unwrap()))], "no reply within 1 s");
    let socket = folder.path().join("mi.sock");
    later(&[deliver(&format!("unixgram:{}", socket.display()))], "No such file");
    let left: Vec<_> = folder.path().read_dir().unwrap().map(|it| it.unwrap().path()).collect();
    assert_eq!(left, [path], "nothing of mwid's own is left behind");
}
