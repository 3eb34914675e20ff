//! Splitting a header value at its separators, but not inside quotes or angle brackets. By hand:
//! `rsip` refuses IPv6 and `tel:`, and cuts parameters that it does not know.

use memchr::memchr3;

/// Splits `value` at every `separator` outside of `"…"` (with `\` escapes) and `<…>`. A quote or
/// bracket that is never closed keeps the rest in one piece.
pub(super) fn split(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let value = rest?;
        match find(value, separator) {
            Some(at) => {
                rest = Some(&value[at + 1..]);
                Some(&value[..at])
            }
            None => rest.take(),
        }
    })
}

/// The same for text, without the white space around each piece.
pub(crate) fn split_text(value: &str, separator: u8) -> impl Iterator<Item = &str> {
    pieces(value, separator).map(str::trim)
}

/// `separator` is ASCII, so every piece is text again.
fn pieces(value: &str, separator: u8) -> impl Iterator<Item = &str> {
    debug_assert!(separator.is_ascii(), "a piece would begin inside of a character");
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let value = rest?;
        match find(value.as_bytes(), separator) {
            Some(at) => {
                rest = Some(&value[at + 1..]);
                Some(&value[..at])
            }
            None => rest.take(),
        }
    })
}

fn find(value: &[u8], separator: u8) -> Option<usize> {
    // Up to there nothing is quoted or bracketed.
    let plain = memchr3(separator, b'"', b'<', value)?;
    if value[plain] == separator { Some(plain) } else { find_outside(value, separator) }
}

fn find_outside(value: &[u8], separator: u8) -> Option<usize> {
    let (mut quoted, mut bracketed, mut escaped) = (false, false, false);
    for (at, &byte) in value.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if !bracketed => quoted = !quoted,
            _ if quoted => {}
            b'<' => bracketed = true,
            b'>' => bracketed = false,
            _ if byte == separator && !bracketed => return Some(at),
            _ => {}
        }
    }
    None
}

/// The value of a header parameter: `tag` in `<sip:a@b;tag=no>;tag=yes`. The name matches without
/// regard to case (RFC 3261 §7.3.1). `None` when it is not there, or has no value.
pub(super) fn param<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    pieces(value, b';').skip(1).find_map(|piece| {
        let (found, value) = piece.split_once('=')?;
        let is_it = found.trim_ascii().eq_ignore_ascii_case(name);
        Some(value.trim_ascii()).filter(|value| is_it && !value.is_empty())
    })
}
