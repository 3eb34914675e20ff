//! What the SIP socket receives while a NOTIFY is under way: only an answer to it ends it, once.
#![no_main]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use mwid::delivery::fuzzing::answer_challenge;
use mwid_core::endpoint::{Ending, Endpoint, Received};
use mwid_core::message::{Method, Response};
use mwid_core::outcome::outcome;
use mwid_core::timers::Timers;

/// The branch of the first request is always the same one, so that a corpus can answer it.
const SEED: u128 = 0x5eed;

fuzz_target!(|data: &[u8]| {
    let now = Instant::now();
    let proxy = SocketAddr::from(([192, 0, 2, 1], 5060));
    let mut endpoint = Endpoint::new(Timers::default(), SEED, 4);
    let branch = endpoint.branch();
    let request: Arc<[u8]> = format!("NOTIFY … branch={branch}").into_bytes().into();
    let id = endpoint.start(now, branch, 7, Method::Notify, proxy, request).expect("there is room");
    while endpoint.poll_transmit().is_some() {}

    let message = mwid_fuzz::message(data);
    let received = endpoint.handle_datagram(now, proxy, data);
    let completed = endpoint.poll_event();
    if let Received::Answer { code, .. } | Received::Provisional { code, .. } = &received {
        let message = message.expect("an answer is a message");
        assert_eq!(Response::read(&message).map(|it| it.code).as_ref(), Ok(code));
        let via = message.via().expect("it was found by its Via");
        // In any case: it is a token (RFC 3261 §7.3.1).
        assert!(via.branch().is_some_and(|it| it.eq_ignore_ascii_case(branch.as_str())));
        assert_eq!(message.cseq().map(|it| (it.number, it.method)), Ok((7, "NOTIFY")));
    }
    assert_eq!(completed.is_some(), matches!(received, Received::Answer { .. }));
    if let Some(completed) = &completed {
        assert_eq!(completed.id, id);
        let Ending::Final(response) = &completed.ending else { panic!("{completed:?}") };
        mwid_fuzz::one_line(&response.reason);
        response.challenges.iter().for_each(answer_challenge);
        let _ = outcome(&completed.ending);
    }
    // The same once more ends nothing, and whatever came, it ends.
    endpoint.handle_datagram(now, proxy, data);
    let mut endings = usize::from(completed.is_some());
    while let Some(next) = endpoint.poll_timeout() {
        endpoint.handle_timeout(next);
        while endpoint.poll_transmit().is_some() {}
        endings += std::iter::from_fn(|| endpoint.poll_event()).count();
    }
    assert_eq!(endings, 1);
});
