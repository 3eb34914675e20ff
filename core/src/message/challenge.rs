//! A demand for credentials, and its parameters taken apart.

use super::canonical::is_token;
use super::params::split_text;

/// A demand for credentials (RFC 3261 §22).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Whether a proxy asks (Proxy-Authenticate) or the far end (WWW-Authenticate).
    pub proxy: bool,
    /// The header's value, as sent: `Digest realm="…", …`.
    pub value: Box<str>,
}

impl Challenge {
    /// The parameters of a Digest challenge (RFC 3261 §25.1), in their order: names as sent, values
    /// without their quotes and escapes. `None` when it is of another scheme, or malformed, or says
    /// one thing twice, or has control characters, which the answer would repeat: what cannot be read
    /// for sure is not answered.
    #[must_use]
    pub fn digest(&self) -> Option<Vec<(&str, String)>> {
        let (scheme, rest) = self.value.split_once([' ', '\t'])?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let mut params: Vec<(&str, String)> = Vec::new();
        for piece in split_text(rest, b',').filter(|piece| !piece.is_empty()) {
            let (name, value) = piece.split_once('=')?;
            let name = name.trim_end();
            let twice = params.iter().any(|(before, _)| before.eq_ignore_ascii_case(name));
            if twice || !is_token(name) {
                return None;
            }
            let value = unquoted(value.trim_start())?;
            if value.contains(char::is_control) {
                return None;
            }
            params.push((name, value));
        }
        Some(params)
    }
}

/// `a"b` of `"a\"b"`; a value without quotes is itself. Some servers do not quote a nonce, so any
/// visible text will do there.
fn unquoted(value: &str) -> Option<String> {
    let Some(inner) = value.strip_prefix('"') else {
        let plain = !value.is_empty() && !value.contains(['"', ' ', '\t']);
        return plain.then(|| value.to_owned());
    };
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner.chars();
    loop {
        match rest.next()? {
            '"' => return rest.as_str().is_empty().then_some(text),
            '\\' => text.push(rest.next()?),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(value: &str) -> Option<Vec<(String, String)>> {
        let challenge = Challenge { proxy: true, value: value.into() };
        let params = challenge.digest()?;
        Some(params.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    #[test]
    fn parameters_lose_their_quotes_and_escapes() {
        let read = digest(
            "digest  realm=\"a, \\\"b\\\" = Zürich\" ,,nonce = x==\t, qop=\"auth,auth-int\"",
        );
        let expected = [("realm", "a, \"b\" = Zürich"), ("nonce", "x=="), ("qop", "auth,auth-int")];
        assert_eq!(read.unwrap(), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn what_cannot_be_read_for_sure_is_not_read() {
        for value in [
            "Basic realm=\"a\"",
            "Digest",
            "Digest realm",
            "Digest realm=",
            "Digest realm=\"a",
            "Digest realm=\"a\\",
            "Digest realm=\"a\"b",
            "Digest realm=a b",
            "Digest aé=\"x\"",
            "Digest realm=a, Realm=b",
            "Digest =a",
            "Digest nonce=\"a\u{1}b\"",
            "Digest nonce=\"a\\\tb\"",
            "Digest nonce=a\u{7f}",
        ] {
            assert_eq!(digest(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(value in any::<String>()) {
            digest(&value);
            digest(&format!("Digest {value}"));
        }

        #[test]
        fn any_value_survives_its_quotes(value in "\\PC*") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let read = digest(&format!("Digest realm=\"{quoted}\", nonce=1")).unwrap();
            prop_assert_eq!(&read[0].1, &value);
        }
    }
}
