//! Counts that others send in a body, as RFC 3842's text or as JSON: they are written as they were
//! read, and nothing is zero that nobody said was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mwid::source::fuzzing::voicemail_out;
use mwid_core::summary::Summary;

fuzz_target!(|data: &[u8]| {
    let account = "sip:202@example.com".parse().expect("an account");
    for summary in Summary::read_body(data).ok().into_iter().chain(voicemail_out(data)) {
        assert!(summary != Summary::default() || mwid_fuzz::says_nothing_waits(data));
        let (mut body, mut old_body) = (Vec::new(), Vec::new());
        summary.write_body(&mut body, &account, Some("*97"));
        summary.write_old_body(&mut old_body);
        assert_eq!(Summary::read_body(&body), Ok(summary));
        assert_eq!(Summary::read_body(&old_body), Ok(summary));
    }
    if let Err(error) = Summary::read_body(data) {
        assert!(error.to_string().len() < 1000, "{error}");
    }
});
