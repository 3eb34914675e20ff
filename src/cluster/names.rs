//! Names of mailboxes and contexts as the tables hold them: ASCII, whatever a database's character
//! set and collation make of anything else.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// A blank at the end is nothing to some collations.
const SPECIAL: &AsciiSet = &CONTROLS.add(b'%').add(b' ').add(b'\'').add(b'"').add(b'\\');

pub(super) fn encode(name: &str) -> String {
    utf8_percent_encode(name, SPECIAL).to_string()
}

/// `None` when it is nothing that [`encode`] could have made.
pub(super) fn decode(text: &str) -> Option<String> {
    let name = percent_decode_str(text).decode_utf8().ok()?.into_owned();
    (encode(&name) == text).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_were_and_are_ascii_in_between() {
        for name in ["202", "example.com", "a b ", "Zoë", "50%", "%41", "it's"] {
            let text = encode(name);
            assert!(text.is_ascii() && !text.contains([' ', '\'']), "{text}");
            assert_eq!(decode(&text).as_deref(), Some(name));
        }
        assert_eq!(encode("202"), "202");
    }

    #[test]
    fn what_was_not_encoded_is_not_believed() {
        for text in ["a b", "%41", "%ff", "Zoë", "%", "%zz"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
