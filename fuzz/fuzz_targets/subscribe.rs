//! A request at the presence agent, once from a proxy that is trusted and once from a stranger who
//! is asked for a password: of what gets a row a NOTIFY can be made, and each answer is a message.
#![no_main]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use mwid_core::agent::{Action, Agent, Algorithm, Expiry, Permissions, Settings, Stored};
use mwid_core::dialog::Dialog;
use mwid_core::message::{Message, StartLine};
use mwid_core::summary::Summary;

/// What an answer may have that its request has not.
const OWN_WORDS: usize = 4096;

fuzz_target!(|data: &[u8]| {
    let Some(request) = mwid_fuzz::message(data) else { return };
    for (from, trusted) in [([10, 0, 0, 1], true), ([192, 0, 2, 66], false)] {
        let from = SocketAddr::from((from, 5060));
        let mut agent = Agent::new(settings(), [9; 32]);
        let now = Instant::now();
        agent.handle_request(now, mwid_fuzz::UNIX, from, &request);
        let mut stored = 0;
        while let Some(action) = agent.poll_action() {
            match action {
                Action::User { ticket, user, domain } => {
                    assert!(!trusted);
                    mwid_fuzz::one_line(&user);
                    mwid_fuzz::one_line(&domain);
                    drop(agent.handle_user(ticket, Ok(None), mwid_fuzz::UNIX));
                }
                Action::Insert { ticket, row, status } => {
                    assert!(trusted, "nobody knows the password");
                    let dialog = Dialog::from_row(&row).expect("of a row a NOTIFY can be made");
                    mwid_fuzz::notify(&dialog, Summary::default());
                    assert!([1, 3].contains(&status));
                    stored += 1;
                    agent.handle_stored(ticket, Stored::Done(dialog.account), mwid_fuzz::UNIX);
                }
                Action::Update { ticket, dialog, .. } => {
                    assert!(trusted, "nobody knows the password");
                    let tags = [&dialog.call_id, &dialog.local_tag, &dialog.remote_tag];
                    tags.into_iter().chain(&dialog.contact).for_each(|it| mwid_fuzz::one_line(it));
                    agent.handle_stored(ticket, Stored::Unknown, mwid_fuzz::UNIX);
                }
            }
        }
        let mut accepted = 0;
        while let Some(reply) = agent.poll_reply() {
            assert_eq!(reply.to.ip(), from.ip(), "whoever asked is answered, and nobody else");
            assert!(reply.bytes.len() <= 2 * data.len() + OWN_WORDS, "{}", reply.bytes.len());
            let text = String::from_utf8_lossy(&reply.bytes);
            let answer = Message::parse(&reply.bytes).unwrap_or_else(|it| panic!("{it}: {text}"));
            let StartLine::Status { code, .. } = answer.start() else { panic!("{text}") };
            assert_eq!(answer.call_id(), request.call_id(), "{text}");
            assert_eq!(answer.header("CSeq"), request.header("CSeq"), "{text}");
            assert!(answer.body().is_empty(), "{text}");
            accepted += usize::from(code == 200 && answer.header("Expires").is_some());
        }
        assert_eq!(accepted, stored, "200 is said of what is stored");
        assert_eq!(std::iter::from_fn(|| agent.poll_changed()).count(), stored);
    }
});

fn settings() -> Settings {
    Settings {
        authority: "10.0.0.9:5070".into(),
        server: "mwid".into(),
        expiry: Expiry { min: 60, default: 3600, max: 7200 },
        trusted: vec!["10.0.0.1/32".parse().expect("a network")],
        realm: Some("example.com".into()),
        algorithms: Algorithm::ALL.into(),
        nonce_lifetime: 300,
        rate: 1000,
        permissions: Permissions { own_box: vec!["*97".into()], ..Permissions::default() },
        timer_j: Duration::from_secs(32),
    }
}
