//! Names of the spool: a mailbox stays in its folder, an account stays in its header, and a message
//! is what Asterisk takes for one.
#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;
use mwid::source::spool::fuzzing::is_message;
use mwid_core::mailbox::{Account, MAX_NAME, Mailbox};

fuzz_target!(|data: &[u8]| {
    assert_eq!(is_message(data), asterisk(data));
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(mailbox) = Mailbox::parse(text) {
        assert_eq!(Mailbox::parse(&mailbox.to_string()), Ok(mailbox.clone()));
        for name in [mailbox.number(), mailbox.context()] {
            mwid_fuzz::one_line(name);
            assert!(name.len() <= MAX_NAME);
            // As a path it is one name below where it is put.
            let mut parts = Path::new(name).components();
            assert_eq!(parts.next(), Some(Component::Normal(OsStr::from_bytes(name.as_bytes()))));
            assert_eq!(parts.next(), None, "{name:?}");
        }
    }
    if let Ok(account) = text.parse::<Account>() {
        mwid_fuzz::one_line(account.as_str());
        assert!(account.as_str().is_ascii() && !account.as_str().contains([' ', '<', '>', '"']));
        assert_eq!(account.as_str().parse().as_ref(), Ok(&account));
        assert_eq!(Account::new(account.user(), account.domain()), Ok(account));
    }
});

/// `__has_voicemail` of app_voicemail.c, on a name that C would see: without a NUL.
fn asterisk(name: &[u8]) -> bool {
    let at = |index: usize| name.get(index).copied().unwrap_or(0).to_ascii_lowercase();
    let begins = [at(0), at(1), at(2)] == *b"msg";
    begins && name.len() > 8 && [at(8), at(9), at(10)] == *b"txt"
}
