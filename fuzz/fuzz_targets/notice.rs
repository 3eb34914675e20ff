//! What externnotify's command is given, and what its datagram or file tells the daemon: a notice
//! is read as it was written, and counts are only those that were said.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mwid::source::externnotify::fuzzing::arguments;
use mwid::source::externnotify::{FileName, MAX_NOTICE, Notice};

fuzz_target!(|data: &[u8]| {
    if let Ok(notice) = Notice::parse(data) {
        same(&notice);
        let said = data.windows(7).any(|seven| seven == b"counts ");
        assert!(notice.given().is_none() || said, "{notice:?}");
        assert!(notice.given().is_none_or(|it| it.new_urgent <= it.new && it.old_urgent <= it.old));
        mwid_fuzz::one_line(notice.mailbox.number());
        mwid_fuzz::one_line(notice.mailbox.context());
    }
    if let Some(name) = std::str::from_utf8(data).ok().and_then(FileName::parse) {
        assert_eq!(name.to_string().as_bytes(), data);
        assert!(!name.to_string().contains(['/', '\0']) && data.first() != Some(&b'.'));
    }
    if let Some((mailbox, counts)) = arguments(data) {
        same(&Notice { stamp: 1, mailbox, counts, file: None });
    }
});

fn same(notice: &Notice) {
    let text = notice.to_text();
    assert!(text.len() <= MAX_NOTICE, "{text}");
    assert_eq!(Notice::parse(text.as_bytes()).as_ref(), Ok(notice), "{text}");
}
