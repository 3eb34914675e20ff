//! Digest authentication (RFC 3261 §22, RFC 8760): answers the challenge of a proxy or a phone.

use std::borrow::Cow;

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

/// A message as it may be logged: the digest of a password can be guessed at, so it is left out.
pub(crate) fn masked(message: &str) -> Cow<'_, str> {
    let answers = |line: &str| {
        let name = line.split(':').next().unwrap_or_default().trim_end();
        ["Authorization", "Proxy-Authorization"].iter().any(|it| name.eq_ignore_ascii_case(it))
    };
    if !message.lines().any(answers) {
        return Cow::Borrowed(message);
    }
    let lines = message.split_inclusive('\n');
    lines.map(|line| if answers(line) { masked_line(line) } else { line.to_owned() }).collect()
}

/// Masks whatever looks like it: realm and opaque are the far end's, and may hold a decoy.
fn masked_line(line: &str) -> String {
    const RESPONSE: &str = "response=";
    let lower = line.to_ascii_lowercase();
    let (mut masked, mut done) = (String::with_capacity(line.len()), 0);
    for (at, _) in lower.match_indices(RESPONSE) {
        let start = at + RESPONSE.len();
        let end = line[start..].find([',', '\r', '\n']).map_or(line.len(), |end| start + end);
        if start >= done {
            masked.push_str(&line[done..start]);
            masked.push_str("\"***\"");
            done = end;
        }
    }
    masked.push_str(&line[done..]);
    masked
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
    fn a_logged_message_does_not_hold_the_digest() {
        let message = "NOTIFY sip:a SIP/2.0\r\nproxy-authorization: Digest username=\"mwid\", \
                       uri=\"sip:a\", response=\"0123456789abcdef\", nc=00000001\r\n\r\nresponse=1\r\n";
        let expected = message.replace("0123456789abcdef", "***");
        assert_eq!(masked(message), expected);
        let last = "Authorization: Digest Response=0123456789abcdef";
        assert_eq!(masked(last), "Authorization: Digest Response=\"***\"");
        let decoy = "Authorization: Digest realm=\"response=x\", response=\"0123456789abcdef\"\r\n";
        assert!(!masked(decoy).contains("0123"), "{}", masked(decoy));
        assert_eq!(masked("Subject: response=\"1\"\r\n"), "Subject: response=\"1\"\r\n");
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
