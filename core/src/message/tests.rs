//! Each trap that was measured in `rsip` 0.4 has a test of its name here, with bytes; then what
//! RFC 3261 says about parsing; then hostile bytes.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// A 200 as Kamailio relayed it from a phone, with every header that mwid looks at.
const OK: &[u8] = b"SIP/2.0 200 OK\r\n\
    Via: SIP/2.0/UDP 192.0.2.9:5070;received=192.0.2.9;rport=5070;branch=z9hG4bKabc\r\n\
    From: <sip:202@example.com>;tag=ours\r\n\
    To: \"Bob; tag=no\" <sip:202@example.com;tag=neither>;tag=theirs\r\n\
    Call-ID: 3c26700857a6@192.0.2.7\r\n\
    CSeq: 7 NOTIFY\r\n\
    Contact: <sip:202@192.0.2.7:5062;transport=udp>;+sip.instance=\"<urn:uuid:1>\"\r\n\
    Retry-After: 18000;duration=3600\r\n\
    WWW-Authenticate: Digest realm=\"a\", nonce=\"b\"\r\n\
    Content-Length: 0\r\n\r\n";

fn parse(bytes: impl AsRef<[u8]>) -> Message {
    Message::parse(bytes.as_ref()).unwrap()
}

fn refused(bytes: impl AsRef<[u8]>) -> MessageError {
    Message::parse(bytes.as_ref()).unwrap_err()
}

/// A minimal answer with these lines (each with its line end) added to it.
fn with(lines: &str) -> String {
    format!(
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nCall-ID: c\r\nCSeq: 1 NOTIFY\r\n\
         {lines}\r\n"
    )
}

fn replaced(from: &str, to: &str) -> String {
    let text = str::from_utf8(OK).unwrap();
    assert!(text.contains(from), "{from:?} is in the message");
    text.replace(from, to)
}

fn values<'a>(message: &'a Message, name: &str) -> Vec<&'a str> {
    message.headers(name).collect()
}

#[test]
fn an_answer_is_read_whole() {
    let response = Response::read(&parse(OK)).unwrap();
    assert_eq!((response.code, &*response.reason), (200, "OK"));
    assert_eq!(response.retry_after, Some(Duration::from_secs(18_000)));
    assert_eq!(&*response.challenges[0].value, "Digest realm=\"a\", nonce=\"b\"");
    assert!(!response.challenges[0].proxy);
}

#[test]
fn a_request_is_read_too() {
    let message = parse(
        "NOTIFY sip:202@192.0.2.7 SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
         Event: message-summary\r\nContent-Length: 22\r\n\r\nMessages-Waiting: yes\n",
    );
    let uri = "sip:202@192.0.2.7";
    assert_eq!(message.start(), StartLine::Request { method: "NOTIFY", uri });
    assert_eq!(message.header("event"), Some("message-summary"));
    assert_eq!(message.body(), b"Messages-Waiting: yes\n");
    let error = Response::read(&message).unwrap_err();
    assert!(matches!(error, MessageError::StartLine { .. }), "{error}");
    assert!(error.to_string().contains("NOTIFY sip:"), "it says what it is: {error}");
}

// The traps.

#[test]
fn rsip_trap_compact_names_become_long_ones() {
    let compact = OK.to_vec();
    let mut text = String::from_utf8(compact).unwrap();
    for (long, short) in [
        ("Via:", "v:"),
        ("From:", "F:"),
        ("To:", "t:"),
        ("Call-ID:", "i:"),
        ("Contact:", "m:"),
        ("Content-Length:", "l:"),
    ] {
        text = text.replace(long, short);
    }
    assert_eq!(parse(&text), parse(OK));
    let all = with(
        "a: 1\r\nb: 2\r\nC: 3\r\nd: 4\r\ne: 5\r\nj: 6\r\nk: 7\r\nn: 8\r\no: 9\r\nr: 10\r\ns: 11\r\nu: 12\r\nx: 13\r\ny: 14\r\nz: 15\r\n",
    );
    let message = parse(all);
    for (name, value) in [
        ("Accept-Contact", "1"),
        ("Referred-By", "2"),
        ("Content-Type", "3"),
        ("Request-Disposition", "4"),
        ("Content-Encoding", "5"),
        ("Reject-Contact", "6"),
        ("Supported", "7"),
        ("Identity-Info", "8"),
        ("Event", "9"),
        ("Refer-To", "10"),
        ("Subject", "11"),
        ("Allow-Events", "12"),
        ("Session-Expires", "13"),
        ("Identity", "14"),
        ("z", "15"),
    ] {
        assert_eq!(message.header(name), Some(value), "{name}");
    }
}

#[test]
fn rsip_trap_folded_header_is_unfolded() {
    let folded = replaced(";rport=5070;branch=", "\r\n ;rport=5070\r\n\t  ;branch=");
    let message = parse(folded);
    assert_eq!(message.via().unwrap().branch(), Some("z9hG4bKabc"));
    let message = parse(with("Subject: I know you're there,\r\n   \r\n pick up\r\n"));
    assert_eq!(message.header("Subject"), Some("I know you're there, pick up"));
}

#[test]
fn rsip_trap_space_before_the_colon_is_taken() {
    let message = parse(replaced("Call-ID: ", "Call-ID \t :"));
    assert_eq!(message.call_id(), Ok("3c26700857a6@192.0.2.7"));
}

#[test]
fn rsip_trap_one_latin1_byte_does_not_cost_the_message() {
    let mut bytes = OK.to_vec();
    let at = bytes.windows(2).position(|pair| pair == b"OK").unwrap();
    bytes.splice(at..at + 2, *b"Schlo\xdf");
    let message = parse(&bytes);
    assert_eq!(message.start(), StartLine::Status { code: 200, reason: "Schloß" });
    assert_eq!(message.via().unwrap().branch(), Some("z9hG4bKabc"));
    assert_eq!(message.to_tag(), Ok(Some("theirs")));
}

#[test]
fn rsip_trap_lines_that_end_in_lf_only() {
    assert_eq!(parse(replaced("\r\n", "\n")), parse(OK));
}

#[test]
fn rsip_trap_leading_crlf_is_skipped() {
    assert_eq!(parse([b"\r\n\r\n", OK].concat()), parse(OK));
    assert_eq!(parse([b"\n", OK].concat()), parse(OK));
}

#[test]
fn rsip_trap_content_length_cuts_what_follows_the_body() {
    assert_eq!(parse([OK, b"garbage"].concat()).body(), b"");
    assert_eq!(parse(with("Content-Length: 3\r\n") + "abcdef").body(), b"abc");
    assert_eq!(parse(with("l:\t3 \r\n") + "abc").body(), b"abc");
    assert_eq!(parse(with("") + "abcdef").body(), b"abcdef", "without one, all of it");
    assert_eq!(parse(with("") + " abc\n").body(), b" abc\n", "the blank line is never continued");
}

#[test]
fn rsip_trap_a_message_cut_before_its_blank_line_is_refused() {
    for cut in 1..OK.len() {
        assert!(Message::parse(&OK[..cut]).is_err(), "accepted after {cut} bytes");
    }
    assert_eq!(refused(&OK[..OK.len() - 2]), MessageError::NoBlankLine { lines: 10 });
}

#[test]
fn rsip_trap_comma_joined_via_becomes_one_a_line() {
    let joined = with("").replace(
        "Via: SIP/2.0/UDP h;branch=z9hG4bK1",
        "v: SIP/2.0/UDP a;x=\"1,\\\"2\";branch=z9hG4bKa ,, SIP/2.0/UDP [2001:db8::1]:5060;branch=b,",
    );
    let message = parse(joined);
    let expected =
        ["SIP/2.0/UDP a;x=\"1,\\\"2\";branch=z9hG4bKa", "SIP/2.0/UDP [2001:db8::1]:5060;branch=b"];
    assert_eq!(values(&message, "Via"), expected);
    assert_eq!(message.via().unwrap().branch(), Some("z9hG4bKa"));
}

#[test]
fn rsip_trap_every_record_route_line_is_seen() {
    let lines = "Record-Route: <sip:a;lr>, \"b, c\" <sip:b,c;lr>\r\nRecord-Route: <sip:d;lr>\r\n";
    let message = parse(with(lines));
    let lines = ["<sip:a;lr>, \"b, c\" <sip:b,c;lr>", "<sip:d;lr>"];
    assert_eq!(values(&message, "Record-Route"), lines);
}

#[test]
fn rsip_trap_ipv6_in_via_and_uri() {
    let message = parse(replaced("UDP 192.0.2.9:5070", "UDP [2001:db8::9]:5070"));
    assert!(message.via().unwrap().value().contains("[2001:db8::9]:5070"));
    assert_eq!(message.via().unwrap().branch(), Some("z9hG4bKabc"));
}

#[test]
fn rsip_trap_a_request_uri_of_any_scheme_is_kept_as_sent() {
    for uri in [
        "sip:202@[2001:db8::7]:5062",
        "tel:+1-201-555-0123;phone-context=example.com",
        "sip:202@example.com?Subject=a%20b",
        "sip:first.last@example.com",
        "sip:202@example.com;transport=udp;gr=urn:uuid:1",
        "urn:service:sos",
        "*",
    ] {
        let message = parse(format!("OPTIONS {uri} SIP/2.0\r\nCSeq: 1 OPTIONS\r\n\r\n"));
        assert_eq!(message.start(), StartLine::Request { method: "OPTIONS", uri });
    }
}

#[test]
fn rsip_trap_first_last_in_an_address_does_not_hide_the_tag() {
    for from in [
        "sip:first.last@example.com;tag=ours",
        "<sip:first.last@example.com>;tag=ours",
        "First Last<sip:first.last@example.com;user=phone> ; TAG = ours ;x",
        "\"a \\\" <;tag=no>\" <tel:+1>;x;tag=ours",
    ] {
        let message = parse(replaced("<sip:202@example.com>;tag=ours", from));
        assert_eq!(message.from_tag(), Ok(Some("ours")), "{from}");
    }
}

#[test]
fn what_stands_where_the_address_belongs_is_no_parameter() {
    let message = parse(replaced("<sip:202@example.com>;tag=ours", "tag=no"));
    assert_eq!(message.from_tag(), Ok(None));
}

#[test]
fn rsip_trap_unknown_uri_parameters_and_their_case_survive() {
    let contact = "<sip:202@192.0.2.7:5062;transport=udp>;+sip.instance=\"<urn:uuid:1>\"";
    assert_eq!(parse(OK).header("Contact"), Some(contact));
    let gruu = "<sip:202@192.0.2.7;gr=urn:uuid:1>";
    assert_eq!(parse(replaced(contact, gruu)).header("Contact"), Some(gruu));
}

#[test]
fn rsip_trap_an_error_never_embeds_the_packet() {
    let long = "\u{1b}[2J<evil>\u{7f}".repeat(700);
    for bytes in [
        format!("{long}\r\n\r\n"),
        with(&format!("{long}\r\n")),
        with(&format!("Content-Length: {long}\r\n")),
        format!("{long}{long}"),
    ] {
        let text = refused(bytes).to_string();
        assert!(text.len() < 200, "{} bytes: {text}", text.len());
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7f}'), "{text:?}");
    }
}

#[test]
fn rsip_trap_a_method_is_case_sensitive() {
    assert_eq!(method("NOTIFY"), Some(Method::Notify));
    assert_eq!(method("SUBSCRIBE"), Some(Method::Subscribe));
    assert_eq!(method("notify"), None);
    assert_eq!(method(" NOTIFY"), None);
    assert_eq!(method("XYZZY"), None);
    assert_eq!(parse(replaced("7 NOTIFY", "7 XYZZY")).cseq().unwrap().method, "XYZZY");
}

#[test]
fn rsip_trap_a_status_line_without_reason() {
    for line in ["SIP/2.0 200", "SIP/2.0 200 ", "sip/2.0  200  "] {
        let message = parse(replaced("SIP/2.0 200 OK", line));
        assert_eq!(message.start(), StartLine::Status { code: 200, reason: "" }, "{line:?}");
    }
}

// What the RFC says.

#[test]
fn rfc3261_7_2_only_sip_2_0_and_three_digits_make_a_status_line() {
    for line in [
        "SIP/1.0 200 OK",
        "SIP/2.0 +20 OK",
        "SIP/2.0 2000 OK",
        "SIP/2.0 20 OK",
        "SIP/2.0 099 OK",
        "SIP/2.0 700 OK",
        "SIP/2.0 200OK",
        "SIP/2.0",
        "HTTP/1.1 200 OK",
        "NOTIFY SIP/2.0",
        "NOTIFY sip:a SIP/3.0",
        "NOTIFY sip:a b SIP/2.0",
        "NOTIFY  SIP/2.0",
        "NOT(FY sip:a SIP/2.0",
        " SIP/2.0 200 OK",
    ] {
        let error = refused(replaced("SIP/2.0 200 OK", line));
        assert!(matches!(error, MessageError::StartLine { .. }), "{line:?}: {error}");
    }
}

#[test]
fn rfc3261_7_3_1_names_match_in_any_case() {
    let message = parse(replaced("Call-ID", "CALL-id"));
    assert_eq!(message.call_id(), Ok("3c26700857a6@192.0.2.7"));
    assert_eq!(message.header("call-ID"), message.header("Call-Id"));
}

#[test]
fn rfc3261_7_3_1_via_parameters_match_in_any_case_and_with_spaces() {
    let via = "SIP / 2.0 / UDP first.example.com: 4000 ;ttl=16 ;Branch = z9hG4bKabc";
    let message = parse(replaced(
        "SIP/2.0/UDP 192.0.2.9:5070;received=192.0.2.9;rport=5070;branch=z9hG4bKabc",
        via,
    ));
    assert_eq!(message.via().unwrap().branch(), Some("z9hG4bKabc"));
    assert_eq!(message.via().unwrap().param("TTL"), Some("16"));
    assert_eq!(message.via().unwrap().value(), via);
}

#[test]
fn rfc3261_18_3_a_body_shorter_than_announced_is_refused() {
    let error = refused(with("Content-Length: 7\r\n") + "abcdef");
    assert_eq!(error, MessageError::Truncated { announced: 7, arrived: 6 });
}

#[test]
fn content_length_must_be_one_number() {
    for bad in ["", "-1", "+1", "1 2", "0x1", "1,1", "99999999999999999999999"] {
        let error = refused(with(&format!("Content-Length: {bad}\r\n")) + "abc");
        assert!(matches!(error, MessageError::Value { name: "Content-Length", .. }), "{bad:?}");
    }
    let twice = refused(with("Content-Length: 0\r\nl: 0\r\n"));
    assert_eq!(twice, MessageError::Repeated { name: "Content-Length" });
}

#[test]
fn rfc5626_3_5_1_keep_alives_are_no_garbage() {
    for ping in [&b""[..], b"\r\n", b"\r\n\r\n", b"\0", b"\0\0\0\0"] {
        assert!(is_keep_alive(ping));
        assert!(Message::parse(ping).is_err(), "and no message either");
    }
    assert!(!is_keep_alive(OK) && !is_keep_alive(b" ") && !is_keep_alive(b"jaK"));
}

#[test]
fn nul_and_bare_cr_are_refused_and_named() {
    let nul = refused(replaced("Call-ID: 3c", "Call-ID: 3\0c"));
    assert_eq!(nul, MessageError::Character { line: 5, found: '\0' });
    let cr = refused(replaced("Call-ID: 3c", "Call-ID: 3\rVia: evil"));
    assert_eq!(cr, MessageError::Character { line: 5, found: '\r' });
    assert_eq!(parse(with("") + "a\0b").body(), b"a\0b", "a body may hold anything");
}

#[test]
fn other_control_characters_do_not_reach_a_log() {
    let message = parse(replaced("200 OK", "200 \u{1b}[2J\u{85}\u{7}"));
    let StartLine::Status { reason, .. } = message.start() else { panic!("an answer") };
    assert_eq!(reason, "\u{fffd}[2J\u{fffd}\u{fffd}");
}

#[test]
fn a_line_that_is_no_header_is_named() {
    for bad in ["no colon", ": no name", "sp ace: x", "Vi\u{e4}: x"] {
        let error = refused(with(&format!("{bad}\r\n")));
        assert_eq!(error, MessageError::HeaderLine { line: 5, text: Excerpt::of(bad.as_bytes()) },);
    }
    let folded_start = refused(" \r\n folded: x\r\n\r\n");
    assert!(matches!(folded_start, MessageError::HeaderLine { line: 2, .. }), "{folded_start}");
}

#[test]
fn sizes_are_bounded() {
    let long = format!("Subject: {}\r\n", "x".repeat(MAX_LINE));
    assert!(matches!(refused(with(&long)), MessageError::LineTooLong { line: 5, .. }));
    let folds = format!("Subject: x\r\n{}", format!(" {}\r\n", "x".repeat(4000)).repeat(3));
    assert!(matches!(refused(with(&folds)), MessageError::LineTooLong { .. }));
    let many = "Q: y\r\n".repeat(MAX_HEADERS);
    assert_eq!(refused(with(&many)), MessageError::TooManyHeaders);
    let joined = format!("Via: {}\r\n", "a,".repeat(MAX_HEADERS));
    assert_eq!(refused(with(&joined)), MessageError::TooManyHeaders);
    let huge = vec![b'x'; MAX_DATAGRAM + 1];
    assert_eq!(refused(huge), MessageError::TooLong { length: MAX_DATAGRAM + 1 });
    let fits = parse(with(&"Q: y\r\n".repeat(MAX_HEADERS - 3)));
    assert_eq!(values(&fits, "Q").len(), MAX_HEADERS - 3);
}

#[test]
fn what_an_answer_must_have_is_named_when_it_is_missing_or_twice() {
    let read = |bytes: String| {
        let message = parse(bytes);
        let all = [message.via().err(), message.cseq().err(), Response::read(&message).err()];
        all.into_iter().flatten().next().expect("one of them is bad")
    };
    let without = |name: &str, as_name: &str| read(with("").replace(name, as_name));
    assert_eq!(without("Via:", "X:"), MessageError::Missing { name: "Via" });
    assert_eq!(without("Call-ID:", "X:"), MessageError::Missing { name: "Call-ID" });
    assert_eq!(without("CSeq:", "X:"), MessageError::Missing { name: "CSeq" });
    assert_eq!(read(with("CSeq: 2 NOTIFY\r\n")), MessageError::Repeated { name: "CSeq" });
    assert_eq!(read(with("i: c\r\n")), MessageError::Repeated { name: "Call-ID" });
    assert_eq!(read(with("t: a\r\nTo: b\r\n")), MessageError::Repeated { name: "To" });
    for bad in ["NOTIFY", "1", "-1 NOTIFY", "+1 NOTIFY", "4294967296 NOTIFY", "1 NO TIFY"] {
        let error = read(with("").replace("1 NOTIFY", bad));
        assert!(matches!(error, MessageError::Value { name: "CSeq", .. }), "{bad:?}: {error}");
    }
    let no_branch = parse(with("").replace(";branch=z9hG4bK1", ";branch"));
    assert_eq!(no_branch.via().unwrap().branch(), None);
}

#[test]
fn an_excerpt_is_short_and_escaped() {
    let excerpt = Excerpt::of("a\u{1b}\"ü\u{202e}".as_bytes()).to_string();
    assert_eq!(excerpt, "\"a\\u{1b}\\\"ü\\u{202e}\"");
    assert_eq!(Excerpt::of(&[b'x'; 500]).to_string().len(), 82);
}

// Hostile bytes.

/// Everything that can be asked of a datagram; what it says does not matter here.
fn ask_everything(bytes: &[u8]) -> Option<Message> {
    let _ = is_keep_alive(bytes);
    let message = match Message::parse(bytes) {
        Ok(message) => message,
        Err(error) => {
            assert!(error.to_string().len() < 500, "{error}");
            return None;
        }
    };
    let _ = Response::read(&message);
    let _ = (message.cseq(), message.call_id(), message.from_tag(), message.to_tag());
    if let Ok(via) = message.via() {
        assert!(!via.value().is_empty());
        let _ = via.branch();
    }
    for (name, value) in message.iter() {
        assert!(is_token(name), "{name:?}");
        assert!(!value.contains(['\r', '\n', '\0']), "{value:?}");
        assert_eq!(value.trim_matches([' ', '\t']), value);
    }
    Some(message)
}

/// A message with bytes changed, cut out, doubled or put in.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let marks = prop::sample::select(b"\r\n\t \0:;,=<>\"\\/\xff".to_vec());
    let edit = (any::<prop::sample::Index>(), 0..4_u8, prop_oneof![marks, any::<u8>()]);
    prop::collection::vec(edit, 0..12).prop_map(|edits| {
        let mut bytes = OK.to_vec();
        for (index, kind, byte) in edits {
            let at = index.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.drain(at..(at + usize::from(byte) / 8).min(bytes.len()))),
                _ => bytes.extend_from_within(at..(at + usize::from(byte)).min(bytes.len())),
            }
            if bytes.is_empty() {
                bytes.push(byte);
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        ask_everything(&bytes);
    }

    #[test]
    fn a_mutated_answer_never_panics_and_canonical_form_is_stable(bytes in mutated()) {
        if let Some(message) = ask_everything(&bytes) {
            let first = canonical(&bytes).unwrap();
            let again = [first.head.as_bytes(), b"\r\n", first.body].concat();
            prop_assert_eq!(&canonical(&again).unwrap(), &first);
            prop_assert_eq!(Message::parse(&again).unwrap(), message);
        }
    }

    /// The whole parser of `rsip`, given the canonical form, sees the answer that we see.
    #[test]
    fn rsip_reads_the_canonical_form_as_we_do(bytes in mutated()) {
        let Some(message) = ask_everything(&bytes) else { return Ok(()) };
        let StartLine::Status { code, .. } = message.start() else { return Ok(()) };
        let form = canonical(&bytes).unwrap();
        let Ok(theirs) = rsip::Response::try_from([form.head.as_bytes(), b"\r\n"].concat()) else {
            // `sip/2.0` in small letters, or no space after the code: ours alone.
            let plain = format!("SIP/2.0 {code} ");
            prop_assert!(!form.head.starts_with(&plain));
            return Ok(());
        };
        prop_assert_eq!(theirs.status_code.code(), code);
        prop_assert_eq!(theirs.headers.iter().count(), message.iter().count());
        for (theirs, (name, value)) in theirs.headers.iter().zip(message.iter()) {
            let theirs = theirs.to_string();
            let (their_name, their_value) = theirs.split_once(": ").unwrap();
            prop_assert!(their_name.eq_ignore_ascii_case(name));
            prop_assert_eq!(their_value, value);
        }
    }
}
