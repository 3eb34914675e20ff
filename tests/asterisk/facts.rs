//! What our documents say of Asterisk, asked of Asterisk.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::asterisk::{Asterisk, Line, number, value};

#[test]
fn externnotify_is_called_with_urgent_messages_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (command, calls) = (folder.path().join("note"), folder.path().join("calls"));
    let script = format!("#!/bin/sh\nprintf '[%s]' \"$@\" >>{0}\necho >>{0}\n", calls.display());
    fs::write(&command, script).unwrap();
    fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).unwrap();
    let asterisk = Asterisk::start(command.to_str().unwrap());
    for (extension, mailbox, counts) in [
        ("202@leave", "202@default", "1/0 (0/0)"),
        ("202@leave-urgent", "202@default", "2/0 (1/0)"),
        ("300@leave-elsewhere", "300@example.com", "1/0 (0/0)"),
    ] {
        asterisk.leave(extension);
        asterisk.holds(mailbox, counts);
    }
    asterisk.press("202", "hear");
    asterisk.holds("202@default", "1/1 (0/0)");
    let expected = "[default][202][1][0][0]\n[default][202][1][0][1]\n\
                    [example.com][300][1][0][0]\n[default][202][1][1][0]\n";
    asterisk.until("its calls", || {
        let said = fs::read_to_string(&calls).unwrap_or_default();
        (said.lines().count() >= 4).then(|| assert_eq!(said, expected))
    });
    let spool = asterisk.spool().join("default/202");
    assert!(spool.join("INBOX/msg0000.txt").is_file());
    assert!(spool.join("Old/msg0000.txt").is_file());
    assert!(!spool.join("Urgent/msg0000.txt").exists());
}

#[test]
fn the_list_includes_urgent_messages_and_the_count_of_a_stranger_is_zero() {
    let asterisk = Asterisk::start("/bin/true");
    asterisk.leave("202@leave-urgent");
    asterisk.holds("202@default", "1/0 (1/0)");
    let mut line = Line::log_in(&asterisk);
    let start = line.ask("VoicemailUsersList");
    assert_eq!(value(&start, "EventList"), "start");
    let mut boxes = Vec::new();
    loop {
        let packet = line.hear();
        match value(&packet, "Event") {
            "VoicemailUserEntry" => boxes.push((
                format!("{}@{}", value(&packet, "VoiceMailbox"), value(&packet, "VMContext")),
                number(&packet, "NewMessageCount"),
            )),
            "VoicemailUserEntryComplete" => break,
            other => panic!("{other}: {packet:?}"),
        }
    }
    let with_new: Vec<_> = boxes.iter().filter(|(_, new)| *new > 0).collect();
    assert_eq!((boxes.len(), with_new), (11, vec![&("202@default".to_owned(), 1)]));
    // So an answer of 0 does not say that there is such a mailbox, and its absence from the list
    // does not say that it is empty.
    assert_eq!(line.count("999@nowhere").to_string(), "0/0 (0/0)");
}
