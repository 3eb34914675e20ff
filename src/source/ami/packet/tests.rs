use proptest::prelude::*;

use super::*;

const BANNER: &[u8] = b"Asterisk Call Manager/5.0.4\r\n";

/// All packets of a text that comes in pieces of this size, and how it ended.
fn scan(bytes: &[u8], piece: usize) -> (Vec<Packet>, Option<AmiError>) {
    let mut scanner = Scanner::default();
    let mut found = Vec::new();
    for mut input in bytes.chunks(piece.max(1)) {
        loop {
            match scanner.next(&mut input) {
                Ok(Some(packet)) => found.push(packet),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
        assert!(scanner.partial.capacity() <= 2 * MAX_LINE + 1, "memory is bounded");
    }
    (found, None)
}

/// The packets behind a banner.
fn packets(text: &str) -> Vec<Packet> {
    let (mut found, error) = scan(&[BANNER, text.as_bytes()].concat(), usize::MAX);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(found.remove(0), Packet::Banner("Asterisk Call Manager/5.0.4".into()));
    found
}

/// As the real one sent it.
const CONVERSATION: &str = "Event: Newstate\r\nPrivilege: call,all\r\nMailbox: not@me\r\n\r\n\
    Event: MessageWaiting\r\nPrivilege: call,all\r\nChannel: Local/202@vmu-00000000;2\r\n\
    CallerIDNum: <unknown>\r\nMailbox: 202@default\r\nWaiting: 1\r\nNew: 1\r\nOld: 0\r\n\r\n\
    Response: Success\r\nActionID: 7\r\nMessage: Mailbox Message Count\r\nMailbox: 202@default\r\n\
    UrgMessages: 1\r\nNewMessages: 0\r\nOldMessages: 3\r\n\r\n\
    Response: Success\r\nActionID: 8\r\nEventList: start\r\nMessage: Voicemail user list will follow\r\n\r\n\
    Event: VoicemailUserEntry\r\nActionID: 8\r\nVMContext: default\r\nVoiceMailbox: 203\r\n\
    Email: (null)\r\nNewMessageCount: 0\r\nOldMessageCount: 2\r\n\r\n\
    Event: VoicemailUserEntryComplete\r\nActionID: 8\r\nEventList: Complete\r\nListItems: 1\r\n\r\n\
    Response: Success\r\nActionID: 9\r\nChallenge: 153906251\r\n\r\n\
    Response: Error\r\nActionID: 10\r\nMessage: Authentication failed\r\n\r\n";

fn conversation() -> Vec<Packet> {
    let counts = |mailbox: &str, new, old, id| Counts {
        mailbox: mailbox.into(),
        new: Some(new),
        old: Some(old),
        id,
    };
    let answer = |id, message: &str| Answer {
        id: Some(id),
        success: true,
        message: message.into(),
        ..Answer::default()
    };
    vec![
        Packet::Other,
        Packet::Changed(counts("202@default", 1, 0, None)),
        Packet::Answer(Answer {
            new: Some(0),
            old: Some(3),
            urgent: Some(1),
            ..answer(7, "Mailbox Message Count")
        }),
        Packet::Answer(Answer { list: true, ..answer(8, "Voicemail user list will follow") }),
        Packet::User { counts: counts("203", 0, 2, Some(8)), context: "default".into() },
        Packet::ListEnd { id: Some(8) },
        Packet::Answer(Answer { challenge: Some("153906251".into()), ..answer(9, "") }),
        Packet::Answer(Answer { success: false, ..answer(10, "Authentication failed") }),
    ]
}

#[test]
fn what_asterisk_says_is_read_and_the_rest_is_passed_over() {
    assert_eq!(packets(CONVERSATION), conversation());
}

#[test]
fn a_packet_is_the_same_in_whatever_pieces_it_comes() {
    let bytes = [BANNER, CONVERSATION.as_bytes()].concat();
    for piece in [1, 2, 3, 7, 64, 1000] {
        let (found, error) = scan(&bytes, piece);
        assert!(error.is_none() && found[1..] == conversation(), "pieces of {piece}");
    }
}

#[test]
fn a_line_that_is_too_long_is_passed_over_and_its_packet_is_not() {
    for piece in [100, usize::MAX] {
        let long = "x".repeat(MAX_LINE + 1);
        let text = format!("Event: MessageWaiting\r\nChannel: {long}\r\nMailbox: 5@c\r\n\r\n");
        let (found, error) = scan(&[BANNER, text.as_bytes()].concat(), piece);
        assert!(error.is_none(), "{error:?}");
        let counts = Counts { mailbox: "5@c".into(), ..Counts::default() };
        assert_eq!(found[1..], [Packet::Changed(counts)]);
    }
}

#[test]
fn an_endless_line_and_an_endless_packet_are_errors() {
    let line = [BANNER, &vec![b'a'; MAX_PACKET + 1]].concat();
    let packet =
        [BANNER, b"Event: Any\r\n", &b"Key: value\r\n".repeat(MAX_PACKET / 12 + 1)].concat();
    let banner = vec![b'a'; MAX_PACKET + 1];
    for bytes in [line, packet, banner] {
        for piece in [1000, usize::MAX] {
            let (_, error) = scan(&bytes, piece);
            assert!(matches!(error, Some(AmiError::TooLong { .. })), "{error:?}");
        }
    }
}

#[test]
fn a_line_that_begins_no_packet_is_an_error_that_shows_its_beginning() {
    for line in ["HTTP/1.1 400 Bad Request", "Hello", "Key: value", ":"] {
        let (_, error) = scan(&[BANNER, line.as_bytes(), b"\r\n"].concat(), usize::MAX);
        let printed = error.expect("it is refused").to_string();
        assert_eq!(printed, format!("{line:?} is no line of a manager"));
    }
}

#[test]
fn numbers_are_digits_and_nothing_else() {
    for bad in ["-1", "+1", " ", "", "1 2", "4294967296", "0x1"] {
        let text = format!("Event: MessageWaiting\r\nNew: {bad}\r\nOld: 1\r\n\r\n");
        let counts = Counts { old: Some(1), ..Counts::default() };
        assert_eq!(packets(&text), [Packet::Changed(counts)], "{bad:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_in_bounded_memory(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b':')], 0..500),
        piece in 1_usize..500,
    ) {
        let _ = scan(&bytes, piece);
        let _ = scan(&[BANNER, b"Response: Success\r\n", &bytes].concat(), piece);
        let _ = scan(&[BANNER, b"Event: MessageWaiting\r\n", &bytes].concat(), piece);
    }
}
