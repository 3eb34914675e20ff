//! A row of `active_watchers`, its columns separated by U+001E and in the order of `Row`: what is
//! believed makes one NOTIFY with each value in its place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mwid_core::dialog::{Dialog, Row};
use mwid_core::summary::Summary;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let mut columns = text.split('\u{1e}');
    let mut text = || columns.next().filter(|it| *it != "NULL").map(str::to_owned);
    let mut row = Row {
        presentity_uri: text(),
        from_user: text(),
        from_domain: text(),
        to_user: text(),
        to_domain: text(),
        to_tag: text(),
        from_tag: text(),
        callid: text(),
        contact: text(),
        record_route: text(),
        event_id: text(),
        local_contact: text(),
        socket_info: text(),
        reason: text(),
        ..Row::default()
    };
    let mut number = || columns.next().and_then(|it| it.parse().ok());
    row.id = number().unwrap_or_default();
    (row.expires, row.remote_cseq, row.sent_cseq) = (number(), number(), number());
    (row.local_cseq, row.status) = (number(), number());
    match Dialog::from_row(&row) {
        Ok(dialog) => {
            let summary = Summary { new: 3, old: 5, new_urgent: 1, old_urgent: 0 };
            if dialog.ended.is_none() {
                mwid_fuzz::notify(&dialog, summary);
            }
            let again = Dialog::from_row(&row).expect("it was believed");
            assert_eq!((again.identity(), again.version()), (dialog.identity(), dialog.version()));
        }
        Err(error) => assert!(error.to_string().len() < 4096, "{error}"),
    }
});
