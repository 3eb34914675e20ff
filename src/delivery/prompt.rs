//! The fence around `digest_auth`: its parser cuts text inside of a character and panics, so it
//! is never given a challenge to read, only the fields of one that was read by the core.

use std::sync::Arc;

use digest_auth::{
    Algorithm, AlgorithmType, AuthContext, Charset, HttpMethod, Qop, WwwAuthenticateHeader,
};
use mwid_core::message::Challenge;

use crate::config::Credentials;

/// The longest challenge that is answered, in bytes: its realm, nonce and opaque come back in
/// every NOTIFY, which has to fit into a datagram.
const MAX_CHALLENGE: usize = 1024;

/// Who asked, and under which nonce.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asker {
    /// A proxy asked (Proxy-Authenticate), not the far end (WWW-Authenticate).
    pub(super) proxy: bool,
    pub(super) realm: String,
    pub(super) nonce: String,
}

impl Asker {
    /// Whether the same credentials answer both (RFC 3261 §22.1: the realm alone).
    pub(super) fn is_same_realm(&self, other: &Self) -> bool {
        self.proxy == other.proxy && self.realm == other.realm
    }
}

/// A digest challenge that mwid knows how to answer.
#[derive(Debug)]
pub(super) struct Prompt {
    pub(super) asker: Arc<Asker>,
    /// The nonce of the refused answer was too old, the answer itself right.
    pub(super) stale: bool,
    header: WwwAuthenticateHeader,
}

impl Prompt {
    /// Reads a challenge; `None` when it is not Digest with `qop=auth` or without qop, in an
    /// algorithm of RFC 8760.
    pub(super) fn read(challenge: &Challenge) -> Option<Self> {
        if challenge.value.len() > MAX_CHALLENGE {
            return None;
        }
        let params = challenge.digest()?;
        let param = |name: &str| {
            let mut all = params.iter();
            all.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
        };
        let is_true = |name| param(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let (realm, nonce) = (param("realm")?.to_owned(), param("nonce")?.to_owned());
        let qop = match param("qop") {
            None => None,
            Some(list) if offers_auth(list) => Some(vec![Qop::AUTH]),
            Some(_) => return None,
        };
        let header = WwwAuthenticateHeader {
            domain: None,
            realm: realm.clone(),
            nonce: nonce.clone(),
            opaque: param("opaque").map(str::to_owned),
            stale: is_true("stale"),
            algorithm: param("algorithm").map_or(Some(Algorithm::default()), algorithm)?,
            qop,
            userhash: is_true("userhash"),
            charset: Charset::UTF8,
            nc: 0,
        };
        let asker = Arc::new(Asker { proxy: challenge.proxy, realm, nonce });
        Some(Self { asker, stale: header.stale, header })
    }

    /// The header line of the next request, of this method and to this Request-URI; `None` when the nonce has been
    /// used as often as can be counted.
    pub(super) fn line(
        &mut self,
        credentials: &Credentials,
        method: &'static str,
        request_uri: &str,
    ) -> Option<String> {
        let context = AuthContext::new_with_method(
            credentials.user.as_str(),
            credentials.password.reveal(),
            request_uri,
            None::<&[u8]>,
            HttpMethod(method.into()),
        );
        self.header.nc.checked_add(1)?;
        let answer = self.header.respond(&context).ok()?;
        let name = if self.asker.proxy { "Proxy-Authorization" } else { "Authorization" };
        Some(format!("{name}: {answer}"))
    }
}

fn offers_auth(list: &str) -> bool {
    list.split(',').any(|option| option.trim().eq_ignore_ascii_case("auth"))
}

fn algorithm(name: &str) -> Option<Algorithm> {
    let upper = name.to_ascii_uppercase();
    let (name, session) = match upper.strip_suffix("-SESS") {
        Some(name) => (name, true),
        None => (upper.as_str(), false),
    };
    let kind = match name {
        "MD5" => AlgorithmType::MD5,
        "SHA-256" => AlgorithmType::SHA2_256,
        "SHA-512-256" => AlgorithmType::SHA2_512_256,
        _ => return None,
    };
    Some(Algorithm::new(kind, session))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use proptest::prelude::*;

    fn read(value: &str) -> Option<Prompt> {
        Prompt::read(&Challenge { proxy: true, value: value.into() })
    }

    fn line(prompt: &mut Prompt) -> String {
        let credentials = Credentials { user: "mwid".into(), password: Secret::new("secret") };
        prompt.line(&credentials, "NOTIFY", "sip:202@192.0.2.7").unwrap()
    }

    #[test]
    fn a_challenge_with_foreign_letters_is_no_reason_to_panic() {
        assert!(read("Digest aé=\"x\"").is_none());
        let mut zurich = read("Digest realm=\"Zürich\", nonce=\"ñ\", aéb=1");
        assert!(zurich.is_none(), "a name that is none");
        zurich = read("Digest realm=\"Zürich\", nonce=\"ñ\", ext=\"é\"");
        let line = line(&mut zurich.unwrap());
        assert!(line.contains("realm=\"Zürich\", nonce=\"ñ\""), "{line}");
    }

    #[test]
    fn rfc2617_3_5_the_response_without_qop_is_what_the_rfc_says() {
        // MD5(MD5("mwid:example.com:secret"):abc:MD5("NOTIFY:sip:202@192.0.2.7")), by hand.
        let md5 = |text: &str| Algorithm::default().hash(text.as_bytes());
        let (a1, a2) = (md5("mwid:example.com:secret"), md5("NOTIFY:sip:202@192.0.2.7"));
        let response = md5(&format!("{a1}:abc:{a2}"));
        let line = line(&mut read("Digest realm=\"example.com\", nonce=\"abc\"").unwrap());
        assert!(line.contains(&format!("response=\"{response}\"")), "{line}");
        assert!(!line.contains("cnonce"), "{line}");
    }

    #[test]
    fn rfc8760_2_the_algorithms_are_known_in_any_case_and_others_are_not_guessed_at() {
        for name in ["MD5", "md5", "MD5-sess", "SHA-256", "sha-512-256", "SHA-256-SESS"] {
            assert!(
                read(&format!("Digest realm=r, nonce=n, algorithm={name}")).is_some(),
                "{name}"
            );
        }
        for name in ["SHA-1", "AKAv1-MD5", "MD5-sess-sess", ""] {
            assert!(read(&format!("Digest realm=r, nonce=n, algorithm=\"{name}\"")).is_none());
        }
    }

    #[test]
    fn only_auth_is_answered_and_only_what_fits_into_a_datagram() {
        assert!(read("Digest realm=r, nonce=n, qop=\"auth-int\"").is_none());
        let line = line(&mut read("Digest realm=r, nonce=n, qop=\"auth-int, auth\"").unwrap());
        assert!(line.contains("qop=auth,") && line.contains("nc=00000001"), "{line}");
        assert!(read(&format!("Digest realm=r, nonce={}", "n".repeat(1024))).is_none());
        assert!(read("Digest realm=r").is_none() && read("Digest nonce=n").is_none());
    }

    proptest! {
        #[test]
        fn no_challenge_makes_mwid_panic(
            value in any::<String>(),
            (realm, nonce) in (any::<String>(), any::<String>()),
        ) {
            for text in [
                value.clone(),
                format!("Digest {value}"),
                format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", {value}"),
                format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", opaque=\"{value}\", qop=auth"),
            ] {
                if let Some(mut prompt) = read(&text) {
                    line(&mut prompt);
                }
            }
        }
    }
}
