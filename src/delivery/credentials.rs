//! Digest authentication (RFC 3261 §22, RFC 8760): answers the challenge of a proxy or a phone.

use digest_auth::{AuthContext, HttpMethod, Qop, WwwAuthenticateHeader};
use mwid_core::message::Challenge;

use crate::config::Credentials;

/// What was asked last, and what answers it.
#[derive(Debug, Default)]
pub(super) struct Authenticator {
    credentials: Option<Credentials>,
    challenge: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    proxy: bool,
    prompt: WwwAuthenticateHeader,
}

/// What to do after a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answerable {
    /// Send again: the next NOTIFY carries the answer.
    Yes,
    /// No credentials are configured.
    NoCredentials,
    /// The credentials were sent, and refused.
    Refused,
    /// No challenge that mwid knows how to answer (Digest with qop=auth or none).
    Unsupported,
}

impl Authenticator {
    pub(super) fn new(credentials: Option<Credentials>) -> Self {
        Self { credentials, challenge: None }
    }

    /// Takes the challenges of a 401 or 407; the first that can be answered counts, as the far
    /// end lists them in its order of preference (RFC 8760 §2.4). `answered` is whether the
    /// request that was refused carried an answer already.
    pub(super) fn take(&mut self, challenges: &[Challenge], answered: bool) -> Answerable {
        if self.credentials.is_none() {
            return Answerable::NoCredentials;
        }
        let Some(asked) = challenges.iter().find_map(read) else {
            return Answerable::Unsupported;
        };
        if answered && !asked.prompt.stale {
            self.challenge = None;
            return Answerable::Refused;
        }
        self.challenge = Some(asked);
        Answerable::Yes
    }

    /// The header line that answers the last challenge, for a NOTIFY to this Request-URI.
    pub(super) fn line(&mut self, request_uri: &str) -> Option<String> {
        let credentials = self.credentials.as_ref()?;
        let asked = self.challenge.as_mut()?;
        let context = AuthContext::new_with_method(
            credentials.user.as_str(),
            credentials.password.reveal(),
            request_uri,
            None::<&[u8]>,
            HttpMethod("NOTIFY".into()),
        );
        let answer = asked.prompt.respond(&context).ok()?;
        let name = if asked.proxy { "Proxy-Authorization" } else { "Authorization" };
        Some(format!("{name}: {answer}"))
    }
}

fn read(challenge: &Challenge) -> Option<Asked> {
    let prompt = WwwAuthenticateHeader::parse(&challenge.value).ok()?;
    let answerable = prompt.qop.as_ref().is_none_or(|qop| qop.contains(&Qop::AUTH));
    answerable.then_some(Asked { proxy: challenge.proxy, prompt })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn challenge(value: &str) -> Challenge {
        Challenge { proxy: true, value: value.into() }
    }

    fn authenticator() -> Authenticator {
        let credentials = Credentials { user: "mwid".into(), password: Secret::new("secret") };
        Authenticator::new(Some(credentials))
    }

    const MD5: &str = r#"Digest realm="example.com", nonce="abc", qop="auth", algorithm=MD5"#;
    const SHA: &str = r#"Digest realm="example.com", nonce="abc", qop="auth", algorithm=SHA-256"#;

    #[test]
    fn rfc8760_2_4_the_first_challenge_that_can_be_answered_counts() {
        let mut authenticator = authenticator();
        let basic = challenge(r#"Basic realm="example.com""#);
        let challenges = [basic, challenge(SHA), challenge(MD5)];
        assert_eq!(authenticator.take(&challenges, false), Answerable::Yes);
        let line = authenticator.line("sip:202@192.0.2.7").unwrap();
        assert!(line.starts_with("Proxy-Authorization: Digest username=\"mwid\""), "{line}");
        assert!(line.contains("algorithm=SHA-256") && line.contains("nc=00000001"), "{line}");
        assert!(authenticator.line("sip:202@192.0.2.7").unwrap().contains("nc=00000002"));
    }

    #[test]
    fn refused_credentials_are_not_sent_again_but_a_stale_nonce_is_renewed() {
        let mut authenticator = authenticator();
        authenticator.take(&[challenge(MD5)], false);
        let stale = challenge(&format!("{MD5}, stale=true"));
        assert_eq!(authenticator.take(&[stale], true), Answerable::Yes);
        assert_eq!(authenticator.take(&[challenge(MD5)], true), Answerable::Refused);
        assert_eq!(authenticator.line("sip:202@192.0.2.7"), None);
    }

    #[test]
    fn without_credentials_nothing_is_answered() {
        let mut authenticator = Authenticator::default();
        assert_eq!(authenticator.take(&[challenge(MD5)], false), Answerable::NoCredentials);
        assert_eq!(
            super::tests::authenticator().take(&[challenge("Bearer x")], false),
            Answerable::Unsupported
        );
    }
}
