//! Digest authentication (RFC 3261 §22, RFC 8760): remembers what each next hop asked, and answers
//! it in advance.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use mwid_core::message::Challenge;

use super::prompt::{Asker, Prompt};
use crate::config::{Config, Credentials, HostPort};

/// Next hops whose challenges are remembered. Rows name next hops, so there may be many.
const MAX_HOPS: usize = 256;

/// Realms that are remembered of one next hop: every NOTIFY through it carries an answer to each.
const MAX_REALMS: usize = 4;

/// How often in a row a new nonce is taken for the reason of a refusal that does not say so. A
/// proxy that restarted knows no nonce of before, and not all call that stale.
const MAX_RENEWALS: u32 = 1;

/// What was asked, and what answers it.
///
/// Who answers a NOTIFY chooses the nonce, and can try passwords on what comes back. So only a
/// proxy is answered, or the presence server that the operator names, or only the realm that the
/// operator names.
#[derive(Debug, Default)]
pub(super) struct Authenticator {
    credentials: Option<Credentials>,
    realm: Option<String>,
    /// `[publish] server`: who answers a PUBLISH there is no stranger.
    servers: Vec<HostPort>,
    hops: HashMap<HostPort, Vec<Asked>>,
}

#[derive(Debug)]
struct Asked {
    prompt: Prompt,
    /// New nonces in a row without an answer that was accepted.
    renewals: u32,
}

/// What to do after a challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answerable {
    /// Send again: the next NOTIFY carries the answer.
    Yes,
    /// No credentials are configured.
    NoCredentials,
    /// The credentials were sent, and refused.
    Refused,
    /// No challenge that mwid knows how to answer (Digest with qop=auth or none).
    Unsupported,
    /// The realm is not the configured one.
    OtherRealm(String),
    /// The far end asks, and no realm is configured.
    FarEnd(String),
}

impl Authenticator {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            credentials: config.general.credentials.clone(),
            realm: config.general.auth_realm.clone(),
            servers: config.publish.server.clone(),
            hops: HashMap::new(),
        }
    }

    /// Takes the challenges of a 401 or 407 to a request of this method that came through `hop`. Of each realm the first that
    /// can be answered counts, as the far end lists them in its order of preference (RFC 8760
    /// §2.4). `answered` is what the request that was refused answered already.
    pub(super) fn take(
        &mut self,
        hop: &HostPort,
        method: &str,
        challenges: &[Challenge],
        answered: &[Arc<Asker>],
    ) -> Answerable {
        if self.credentials.is_none() {
            return Answerable::NoCredentials;
        }
        let (mut prompts, mut foreign): (Vec<Prompt>, _) = (Vec::new(), None);
        for prompt in challenges.iter().filter_map(Prompt::read) {
            match self.forbidden(hop, method, &prompt.asker) {
                Some(why) => foreign = foreign.or(Some(why)),
                None if prompts.iter().any(|it| it.asker.is_same_realm(&prompt.asker)) => {}
                None => prompts.push(prompt),
            }
        }
        if prompts.is_empty() {
            return foreign.unwrap_or(Answerable::Unsupported);
        }
        if self.hops.len() >= MAX_HOPS && !self.hops.contains_key(hop) {
            self.hops.clear();
        }
        let asked = self.hops.entry(hop.clone()).or_default();
        let mut all = prompts.into_iter().map(|prompt| take_one(asked, prompt, answered));
        if all.all(|answerable| answerable) { Answerable::Yes } else { Answerable::Refused }
    }

    /// Why this one is not answered, if so.
    fn forbidden(&self, hop: &HostPort, method: &str, asker: &Asker) -> Option<Answerable> {
        let is_server = method == "PUBLISH" && self.servers.contains(hop);
        match &self.realm {
            Some(realm) if *realm == asker.realm => None,
            Some(_) => Some(Answerable::OtherRealm(asker.realm.clone())),
            None if asker.proxy || is_server => None,
            None => Some(Answerable::FarEnd(asker.realm.clone())),
        }
    }

    /// The header lines that answer what was asked through `hop`, for a request of this
    /// method to this Request-URI, and what they answer.
    pub(super) fn lines(
        &mut self,
        hop: &HostPort,
        method: &'static str,
        request_uri: &str,
    ) -> (Vec<String>, Vec<Arc<Asker>>) {
        let (Some(credentials), Some(asked)) = (&self.credentials, self.hops.get_mut(hop)) else {
            return Default::default();
        };
        let answer = |asked: &mut Asked| {
            let line = asked.prompt.line(credentials, method, request_uri)?;
            Some((line, Arc::clone(&asked.prompt.asker)))
        };
        // What a presence server asked of a PUBLISH is not for the phone that a NOTIFY goes to.
        let is_for_all = |asked: &&mut Asked| {
            method == "PUBLISH" || asked.prompt.asker.proxy || self.realm.is_some()
        };
        asked.iter_mut().filter(is_for_all).filter_map(answer).unzip()
    }

    /// A NOTIFY with these answers was let through.
    pub(super) fn accepted(&mut self, hop: &HostPort, answered: &[Arc<Asker>]) {
        let asked = self.hops.get_mut(hop).into_iter().flatten();
        for asked in asked.filter(|asked| answered.contains(&asked.prompt.asker)) {
            asked.renewals = 0;
        }
    }
}

/// Takes one challenge; `false` when the credentials were refused.
fn take_one(asked: &mut Vec<Asked>, prompt: Prompt, answered: &[Arc<Asker>]) -> bool {
    let same = |asker: &Asker| asker.is_same_realm(&prompt.asker);
    let place = asked.iter().position(|asked| same(&asked.prompt.asker));
    let before = answered.iter().find(|asker| same(asker)).filter(|_| !prompt.stale);
    let mut renewals = 0;
    if let Some(before) = before {
        let known = place.map(|place| &asked[place]);
        if known.is_some_and(|known| known.prompt.asker.nonce != before.nonce) {
            // Another NOTIFY was refused for the same reason, and has brought a new nonce.
            return true;
        }
        renewals = known.map_or(0, |known| known.renewals) + 1;
        if before.nonce == prompt.asker.nonce || renewals > MAX_RENEWALS {
            asked.retain(|asked| !same(&asked.prompt.asker));
            return false;
        }
    }
    match place {
        Some(place) => asked[place] = Asked { prompt, renewals },
        None => {
            if asked.len() >= MAX_REALMS {
                asked.remove(0);
            }
            asked.push(Asked { prompt, renewals });
        }
    }
    true
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{General, Publish, Secret};
    use proptest::prelude::*;

    fn proxy(value: &str) -> Challenge {
        Challenge { proxy: true, value: value.into() }
    }

    fn phone(value: &str) -> Challenge {
        Challenge { proxy: false, value: value.into() }
    }

    fn hop(name: &str) -> HostPort {
        name.parse().unwrap()
    }

    /// With the hop `a`, as most tests need no other.
    struct Rig(Authenticator);

    impl Rig {
        fn new(realm: Option<&str>) -> Self {
            let credentials = Credentials { user: "mwid".into(), password: Secret::new("secret") };
            let auth_realm = realm.map(str::to_owned);
            let credentials = Some(credentials);
            let server = vec![hop("presence")];
            Self(Authenticator::new(&Config {
                general: General { credentials, auth_realm, ..General::default() },
                publish: Publish { server, ..Publish::default() },
                ..Config::default()
            }))
        }

        fn take(&mut self, challenges: &[Challenge], answered: &[Arc<Asker>]) -> Answerable {
            self.0.take(&hop("a"), "NOTIFY", challenges, answered)
        }

        fn lines(&mut self) -> Vec<String> {
            self.0.lines(&hop("a"), "NOTIFY", "sip:202@192.0.2.7").0
        }

        fn answered(&mut self) -> Vec<Arc<Asker>> {
            self.0.lines(&hop("a"), "NOTIFY", "sip:202@192.0.2.7").1
        }
    }

    const MD5: &str = r#"Digest realm="example.com", nonce="abc", qop="auth", algorithm=MD5"#;
    const SHA: &str = r#"Digest realm="example.com", nonce="abc", qop="auth", algorithm=SHA-256"#;
    const NEW: &str = r#"Digest realm="example.com", nonce="def", qop="auth""#;
    const NEWER: &str = r#"Digest realm="example.com", nonce="ghi", qop="auth""#;
    const OTHER: &str = r#"Digest realm="other", nonce="xyz""#;

    #[test]
    fn rfc8760_2_4_the_first_challenge_that_can_be_answered_counts() {
        let mut rig = Rig::new(None);
        let basic = proxy(r#"Basic realm="example.com""#);
        assert_eq!(rig.take(&[basic, proxy(SHA), proxy(MD5)], &[]), Answerable::Yes);
        let lines = rig.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line = &lines[0];
        assert!(line.starts_with("Proxy-Authorization: Digest username=\"mwid\""), "{line}");
        assert!(line.contains("algorithm=SHA-256") && line.contains("nc=00000001"), "{line}");
        assert!(rig.lines()[0].contains("nc=00000002"));
    }

    #[test]
    fn refused_credentials_are_not_sent_again_but_a_stale_nonce_is_renewed() {
        let mut rig = Rig::new(None);
        rig.take(&[proxy(MD5)], &[]);
        let answered = rig.answered();
        let stale = proxy(&format!("{MD5}, stale=true"));
        assert_eq!(rig.take(&[stale], &answered), Answerable::Yes);
        assert_eq!(rig.take(&[proxy(MD5)], &answered), Answerable::Refused);
        assert_eq!(rig.lines(), [""; 0]);
    }

    #[test]
    fn a_nonce_that_a_restarted_proxy_does_not_know_is_renewed_once() {
        let mut rig = Rig::new(None);
        rig.take(&[proxy(MD5)], &[]);
        let (first, second) = (rig.answered(), rig.answered());
        assert_eq!(rig.take(&[proxy(NEW)], &first), Answerable::Yes);
        assert_eq!(rig.take(&[proxy(NEWER)], &second), Answerable::Yes, "renewed meanwhile");
        let answered = rig.answered();
        assert_eq!(answered[0].nonce, "def");
        rig.0.accepted(&hop("a"), &answered);
        assert_eq!(rig.take(&[proxy(NEWER)], &answered), Answerable::Yes);
        let answered = rig.answered();
        assert_eq!(rig.take(&[proxy(MD5)], &answered), Answerable::Refused, "twice in a row");
        assert_eq!(rig.lines(), [""; 0]);
    }

    #[test]
    fn each_next_hop_has_its_own_nonces_and_realms() {
        let mut rig = Rig::new(None);
        rig.take(&[proxy(MD5)], &[]);
        assert_eq!(rig.0.take(&hop("b"), "NOTIFY", &[proxy(OTHER)], &[]), Answerable::Yes);
        assert!(rig.lines()[0].contains("nonce=\"abc\""));
        let (lines, answered) = rig.0.lines(&hop("b"), "NOTIFY", "sip:x");
        assert!(lines.len() == 1 && lines[0].contains("nonce=\"xyz\""), "{lines:?}");
        assert_eq!(
            rig.0.take(&hop("b"), "NOTIFY", &[proxy(OTHER)], &answered),
            Answerable::Refused
        );
        assert_eq!(rig.lines().len(), 1, "that was the other's");
        assert_eq!(rig.0.lines(&hop("c"), "NOTIFY", "sip:x").0, [""; 0]);
    }

    #[test]
    fn rfc3261_22_3_a_proxy_and_the_phone_behind_it_are_both_answered() {
        let mut rig = Rig::new(Some("example.com"));
        assert_eq!(rig.take(&[proxy(MD5)], &[]), Answerable::Yes);
        let answered = rig.answered();
        assert_eq!(rig.take(&[phone(NEW)], &answered), Answerable::Yes, "another one asks");
        let lines = rig.lines();
        assert!(lines[0].starts_with("Proxy-Authorization: "), "{lines:?}");
        assert!(lines[1].starts_with("Authorization: ") && lines.len() == 2, "{lines:?}");
    }

    #[test]
    fn nobody_but_the_proxy_gets_a_digest_to_guess_at_unless_its_realm_is_configured() {
        let far_end = Answerable::FarEnd("example.com".into());
        assert_eq!(Rig::new(None).take(&[phone(MD5)], &[]), far_end);
        let mut rig = Rig::new(Some("other"));
        let other = Answerable::OtherRealm("example.com".into());
        assert_eq!(rig.take(&[phone(MD5)], &[]), other);
        assert_eq!(rig.take(&[proxy(MD5)], &[]), other);
        assert_eq!(rig.lines(), [""; 0]);
        assert_eq!(rig.take(&[phone(MD5), phone(OTHER)], &[]), Answerable::Yes);
    }

    #[test]
    fn a_presence_server_that_is_named_is_answered_and_the_phones_behind_it_are_not() {
        let (mut rig, server) = (Rig::new(None), hop("presence"));
        let far_end = Answerable::FarEnd("example.com".into());
        assert_eq!(rig.0.take(&server, "NOTIFY", &[phone(MD5)], &[]), far_end);
        assert_eq!(rig.0.take(&hop("a"), "PUBLISH", &[phone(MD5)], &[]), far_end, "not named");
        assert_eq!(rig.0.take(&server, "PUBLISH", &[phone(MD5)], &[]), Answerable::Yes);
        let lines = rig.0.lines(&server, "PUBLISH", "sip:x").0;
        assert!(lines.len() == 1 && lines[0].starts_with("Authorization: Digest"), "{lines:?}");
        assert_eq!(rig.0.lines(&server, "NOTIFY", "sip:x").0, [""; 0]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut rig = Rig::new(None);
        for number in 0..1000 {
            let challenge = proxy(&format!("Digest realm=r{number}, nonce=n"));
            rig.take(std::slice::from_ref(&challenge), &[]);
            rig.0.take(&hop(&format!("h{number}")), "NOTIFY", &[challenge], &[]);
        }
        assert!(rig.0.hops.len() <= MAX_HOPS);
        rig.take(&[proxy(MD5)], &[]);
        assert!(rig.lines().len() <= MAX_REALMS);
        assert!(rig.lines().last().unwrap().contains("nonce=\"abc\""), "the newest stays");
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
        let taken = authenticator.take(&hop("a"), "NOTIFY", &[proxy(MD5)], &[]);
        assert_eq!(taken, Answerable::NoCredentials);
        assert_eq!(Rig::new(None).take(&[proxy("Bearer x")], &[]), Answerable::Unsupported);
    }

    proptest! {
        #[test]
        fn no_challenge_makes_mwid_panic(values in prop::collection::vec(any::<String>(), 0..5)) {
            let mut rig = Rig::new(None);
            let challenges: Vec<Challenge> = values
                .iter()
                .flat_map(|value| [proxy(value), proxy(&format!("Digest realm=a, nonce={value}"))])
                .collect();
            rig.take(&challenges, &[]);
            let answered = rig.answered();
            rig.take(&challenges, &answered);
        }
    }
}
