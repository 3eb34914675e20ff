//! A sidecar made by hand: what mwid does, byte by byte, without mwid.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use super::SOON;
use super::phone::Phone;
use super::sip::Message;

/// One socket that sends NOTIFYs in the dialogs of phones.
#[derive(Debug)]
pub struct Sidecar {
    socket: UdpSocket,
}

impl Sidecar {
    /// At 127.0.0.1, which the proxy trusts.
    pub fn new() -> Self {
        Self::at(Ipv4Addr::LOCALHOST)
    }

    /// At another address of the loopback network.
    pub fn at(address: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind((address, 0)).expect("a free port of the loopback network");
        socket.set_read_timeout(Some(SOON)).expect("it is more than zero");
        Self { socket }
    }

    /// Where it sends from.
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is bound")
    }

    /// A NOTIFY of one new message in the phone's dialog, with a Route if there is a `proxy`.
    pub fn notify(
        &self,
        proxy: Option<SocketAddr>,
        request_uri: &str,
        phone: &Phone,
        cseq: u32,
    ) -> String {
        let own = self.address();
        let body = "Messages-Waiting: yes\r\nMessage-Account: sip:202@example.com\r\n\
                    Voice-Message: 1/0 (0/0)\r\n";
        let mut lines = vec![
            format!("NOTIFY {request_uri} SIP/2.0"),
            format!("Via: SIP/2.0/UDP {own};branch=z9hG4bK{cseq}-{};rport", phone.tag()),
        ];
        lines.extend(proxy.map(|proxy| format!("Route: <sip:{proxy};lr>")));
        lines.extend([
            "Max-Forwards: 70".into(),
            format!("From: <sip:202@example.com>;tag={}", phone.server_tag()),
            format!("To: <sip:202@example.com>;tag={}", phone.tag()),
            format!("Call-ID: {}", phone.call_id()),
            format!("CSeq: {cseq} NOTIFY"),
            format!("Contact: <{}>", phone.target()),
            "Event: message-summary".into(),
            "Subscription-State: active;expires=500".into(),
            "Content-Type: application/simple-message-summary".into(),
            format!("Content-Length: {}", body.len()),
            String::new(),
            body.into(),
        ]);
        lines.join("\r\n")
    }

    /// A REGISTER of the phone's Contact for `sip:user@domain`.
    pub fn register(&self, phone: &Phone, user: &str, domain: &str) -> String {
        let own = self.address();
        let contact = phone.contact();
        [
            format!("REGISTER sip:{domain} SIP/2.0"),
            format!("Via: SIP/2.0/UDP {own};branch=z9hG4bKregister-{};rport", phone.tag()),
            "Max-Forwards: 70".into(),
            format!("From: <sip:{user}@{domain}>;tag=register"),
            format!("To: <sip:{user}@{domain}>"),
            format!("Call-ID: register-{}", phone.call_id()),
            "CSeq: 1 REGISTER".into(),
            format!("Contact: <{contact}>;expires=600"),
            "Content-Length: 0\r\n\r\n".into(),
        ]
        .join("\r\n")
    }

    /// Whether the proxy has sent nothing more: the next that comes answers a question put now.
    pub fn nothing_more(&self, proxy: SocketAddr) -> bool {
        let own = self.address();
        let options = [
            format!("OPTIONS sip:{proxy} SIP/2.0"),
            format!("Via: SIP/2.0/UDP {own};branch=z9hG4bKmarker;rport"),
            "Max-Forwards: 70".into(),
            format!("From: <sip:marker@{own}>;tag=marker"),
            format!("To: <sip:{proxy}>"),
            format!("Call-ID: marker@{own}"),
            "CSeq: 1 OPTIONS".into(),
            "Content-Length: 0\r\n\r\n".into(),
        ];
        let answer = self.ask_for_answer(&options.join("\r\n"), proxy);
        answer.header("CSeq") == Some("1 OPTIONS")
    }

    /// Sends it and waits for nothing.
    pub fn send(&self, bytes: &str, proxy: SocketAddr) {
        self.socket.send_to(bytes.as_bytes(), proxy).expect("loopback takes it");
    }

    /// Sends it and gives the status code of the final answer.
    pub fn ask(&self, bytes: &str, proxy: SocketAddr) -> u16 {
        self.ask_for_answer(bytes, proxy).status().expect("it is an answer")
    }

    /// Sends it and gives the final answer.
    pub fn ask_for_answer(&self, bytes: &str, proxy: SocketAddr) -> Message {
        self.send(bytes, proxy);
        let mut buffer = [0; 4096];
        loop {
            let length = self.socket.recv(&mut buffer).expect("an answer before the deadline");
            let text = std::str::from_utf8(&buffer[..length]).expect("a proxy answers in UTF-8");
            let answer = Message::parse(text);
            if let Some(answer) = answer.filter(|answer| answer.status() >= Some(200)) {
                return answer;
            }
        }
    }
}
