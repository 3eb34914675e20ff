//! A whole connection at the HTTP door, with and without a token: what it answers is HTTP, what it
//! gives to the loop was said, and without the token it gives nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mwid::source::http::fuzzing::{Bed, READ_TOKEN, TOKEN};
use mwid_core::summary::Summary;

/// The longest answer to one request, and the shortest request.
const ANSWER: usize = 64 * 1024;
const REQUEST: usize = 16;

fuzz_target!(|data: &[u8]| {
    thread_local!(static BED: Bed = Bed::new());
    let open = BED.with(|bed| bed.connection(data, false));
    let closed = BED.with(|bed| bed.connection(data, true));
    for heard in [&open, &closed] {
        let answer = String::from_utf8_lossy(&heard.answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1."), "{answer}");
        assert!(!answer.starts_with("HTTP/1.1 500"), "{answer}");
        // A problem repeats the method, in which a client may have said it itself.
        assert!(!answer.contains(TOKEN) || contains(data, TOKEN.as_bytes()), "{answer}");
        assert!(answer.len() <= ANSWER * (1 + data.len() / REQUEST), "{}", answer.len());
        for (account, summary) in &heard.given {
            mwid_fuzz::one_line(account.as_str());
            assert!(*summary != Summary::default() || mwid_fuzz::says_nothing_waits(data));
        }
    }
    // In base64 it may stand in many ways.
    let has = |word: &str| contains(data, word.as_bytes()) || contains(data, b"asic ");
    assert!(has(TOKEN) || closed.given.is_empty(), "{closed:?}");
    assert!(has(TOKEN) || has(READ_TOKEN) || closed.asked == 0, "{closed:?}");
});

fn contains(data: &[u8], word: &[u8]) -> bool {
    data.to_ascii_lowercase().windows(word.len()).any(|it| it == word)
}
