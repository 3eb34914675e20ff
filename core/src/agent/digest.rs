//! Digest authentication, the server's side (RFC 7616, RFC 8760): who asks, by a password that is
//! never sent.
//!
//! A nonce is stateless: the time and a number, sealed with a secret of this process. What is
//! remembered is only how often each was used, so that nothing can be replayed.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::message::Challenge;

/// Nonces whose use is remembered. When there are more, the oldest ones are no longer accepted.
const MAX_NONCES: usize = 65_536;

/// The longest value of an Authorization parameter, in bytes.
const MAX_VALUE: usize = 256;

/// A hash of RFC 8760.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-256, preferred.
    Sha256,
    /// MD5, what most phones know.
    Md5,
}

impl Algorithm {
    /// In the order in which they are offered (RFC 8760 §2.4).
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Md5];

    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Md5 => "MD5",
        }
    }

    fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// The hash of a text in lower-case hexadecimal.
    #[must_use]
    pub fn hash(self, text: &str) -> String {
        match self {
            Self::Sha256 => hex(&Sha256::digest(text)),
            Self::Md5 => hex(&Md5::digest(text)),
        }
    }

    /// The hash of user, realm and password that servers keep instead of a password (`ha1`).
    #[must_use]
    pub fn ha1(self, user: &str, realm: &str, password: &str) -> String {
        self.hash(&format!("{user}:{realm}:{password}"))
    }
}

/// What is known of a user: the hash of user, realm and password in lower-case hexadecimal, for each
/// algorithm that it is known for.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// `ha1`
    pub md5: Option<String>,
    /// `ha1_sha256`
    pub sha256: Option<String>,
}

/// Never shows them.
impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}

/// What an Authorization header says (RFC 7616 §3.4), for a nonce of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: String,
    /// The URI that was hashed.
    pub(super) uri: String,
    algorithm: Algorithm,
    response: String,
    nonce: String,
    nc: String,
    cnonce: String,
}

/// Why there are no [`Credentials`] that could be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotChecked {
    /// None for our realm, or malformed, or with a nonce that is not ours: to be asked for.
    Absent,
    /// The nonce is too old, or was used: to be asked for with `stale=true`.
    Stale,
}

/// Makes nonces, and knows which were used.
#[derive(Debug)]
pub(super) struct Nonces {
    secret: [u8; 32],
    count: u64,
    /// How long one is good for, in seconds.
    lifetime: u64,
    /// The highest count of each that was used.
    used: HashMap<u64, u32>,
    order: VecDeque<u64>,
    /// Nonces up to this number may have been used and forgotten.
    forgotten: u64,
}

impl Nonces {
    /// `secret` is random, and another in each process.
    pub(super) fn new(secret: [u8; 32], lifetime: u64) -> Self {
        let (used, order) = (HashMap::new(), VecDeque::new());
        Self { secret, count: 0, lifetime, used, order, forgotten: 0 }
    }

    pub(super) fn configure(&mut self, lifetime: u64) {
        self.lifetime = lifetime;
    }

    fn seal(&self, unix: u64, number: u64) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("any length is a key");
        mac.update(&unix.to_be_bytes());
        mac.update(&number.to_be_bytes());
        format!("{unix:016x}{number:016x}{}", hex(&mac.finalize().into_bytes()[..16]))
    }

    /// The challenges for a realm, one for each algorithm, as whole header lines.
    pub(super) fn challenge(
        &mut self,
        realm: &str,
        algorithms: &[Algorithm],
        stale: bool,
        unix: u64,
    ) -> Vec<String> {
        self.count += 1;
        let nonce = self.seal(unix, self.count);
        let stale = if stale { ", stale=true" } else { "" };
        let line = |algorithm: Algorithm| {
            format!(
                "WWW-Authenticate: Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={}, qop=\"auth\"{stale}",
                algorithm.name()
            )
        };
        algorithms.iter().copied().map(line).collect()
    }

    /// The number of a nonce of ours that is young enough.
    fn open(&self, nonce: &str, unix: u64) -> Result<u64, NotChecked> {
        let number =
            |range| nonce.get(range).and_then(|digits: &str| u64::from_str_radix(digits, 16).ok());
        let (Some(made), Some(count)) = (number(0..16), number(16..32)) else {
            return Err(NotChecked::Absent);
        };
        if !bool::from(self.seal(made, count).as_bytes().ct_eq(nonce.as_bytes())) {
            return Err(NotChecked::Absent);
        }
        let young = made <= unix && unix - made <= self.lifetime;
        if young && count > self.forgotten { Ok(count) } else { Err(NotChecked::Stale) }
    }

    /// Reads what the Authorization headers say for a realm. Whether it is true, [`is_right`] says,
    /// and only then it counts as used.
    pub(super) fn read<'a>(
        &self,
        values: impl Iterator<Item = &'a str>,
        realm: &str,
        unix: u64,
    ) -> Result<Credentials, NotChecked> {
        let credentials = values.filter_map(|value| credentials(value, realm)).next();
        let credentials = credentials.ok_or(NotChecked::Absent)?;
        let number = self.open(&credentials.nonce, unix)?;
        let before = self.used.get(&number).copied().unwrap_or_default();
        if credentials.count() <= before { Err(NotChecked::Stale) } else { Ok(credentials) }
    }

    /// These credentials were right: they will not be again.
    pub(super) fn use_up(
        &mut self,
        credentials: &Credentials,
        unix: u64,
    ) -> Result<(), NotChecked> {
        let number = self.open(&credentials.nonce, unix)?;
        let highest = self.used.entry(number).or_insert_with(|| {
            self.order.push_back(number);
            0
        });
        if credentials.count() <= *highest {
            return Err(NotChecked::Stale);
        }
        *highest = credentials.count();
        if self.order.len() > MAX_NONCES
            && let Some(oldest) = self.order.pop_front()
        {
            self.used.remove(&oldest);
            self.forgotten = self.forgotten.max(oldest);
        }
        Ok(())
    }
}

impl Credentials {
    fn count(&self) -> u32 {
        u32::from_str_radix(&self.nc, 16).unwrap_or_default()
    }

    /// Whether they are those of the user with these secrets. For a user that is not there the same
    /// is computed, so that the time does not tell who is.
    pub(super) fn is_right(&self, secrets: Option<&Secrets>, method: &str) -> bool {
        let known = secrets.and_then(|secrets| match self.algorithm {
            Algorithm::Md5 => secrets.md5.as_deref(),
            Algorithm::Sha256 => secrets.sha256.as_deref(),
        });
        let nobody = self.algorithm.hash("nobody");
        let ha1 = known.unwrap_or(&nobody);
        let ha2 = self.algorithm.hash(&format!("{method}:{}", self.uri));
        let Self { nonce, nc, cnonce, .. } = self;
        let expected = self.algorithm.hash(&format!("{ha1}:{nonce}:{nc}:{cnonce}:auth:{ha2}"));
        let given = self.response.to_ascii_lowercase();
        bool::from(expected.as_bytes().ct_eq(given.as_bytes())) && known.is_some()
    }
}

/// The parameters of one Authorization header, when all are there that qop=auth needs.
fn credentials(value: &str, realm: &str) -> Option<Credentials> {
    let header = Challenge { proxy: false, value: value.into() };
    let params = header.digest()?;
    let find = |name: &str| {
        let found = params.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).filter(|value| value.len() <= MAX_VALUE)
    };
    let qop = find("qop").is_some_and(|qop| qop.eq_ignore_ascii_case("auth"));
    if find("realm") != Some(realm) || !qop {
        return None;
    }
    let nc = find("nc").filter(|nc| nc.len() == 8 && nc.bytes().all(|b| b.is_ascii_hexdigit()))?;
    Some(Credentials {
        user: find("username")?.to_owned(),
        uri: find("uri")?.to_owned(),
        algorithm: Algorithm::by_name(find("algorithm").unwrap_or("MD5"))?,
        response: find("response")?.to_owned(),
        nonce: find("nonce")?.to_owned(),
        nc: nc.to_owned(),
        cnonce: find("cnonce")?.to_owned(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REALM: &str = "example.com";
    const URI: &str = "sip:202@example.com";

    fn nonces() -> Nonces {
        Nonces::new([7; 32], 300)
    }

    fn secrets() -> Secrets {
        let ha1 = |algorithm: Algorithm| Some(algorithm.ha1("202", REALM, "secret"));
        Secrets { md5: ha1(Algorithm::Md5), sha256: ha1(Algorithm::Sha256) }
    }

    fn nonce_of(challenges: &[String]) -> String {
        let (_, rest) = challenges[0].split_once("nonce=\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }

    /// What a phone answers.
    fn authorization(nonce: &str, algorithm: Algorithm, password: &str, nc: u32) -> String {
        let ha1 = algorithm.ha1("202", REALM, password);
        let ha2 = algorithm.hash(&format!("SUBSCRIBE:{URI}"));
        let response = algorithm.hash(&format!("{ha1}:{nonce}:{nc:08x}:c:auth:{ha2}"));
        format!(
            "Digest username=\"202\", realm=\"{REALM}\", nonce=\"{nonce}\", uri=\"{URI}\", \
             response=\"{response}\", algorithm={}, cnonce=\"c\", qop=auth, nc={nc:08x}",
            algorithm.name()
        )
    }

    fn read(nonces: &Nonces, value: &str, unix: u64) -> Result<Credentials, NotChecked> {
        nonces.read([value].into_iter(), REALM, unix)
    }

    #[test]
    fn rfc8760_2_4_both_algorithms_are_offered_the_better_one_first() {
        let challenges = nonces().challenge(REALM, &Algorithm::ALL, false, 1000);
        assert!(challenges[0].contains("algorithm=SHA-256, qop=\"auth\""), "{challenges:?}");
        assert!(challenges[1].contains("algorithm=MD5, qop=\"auth\""), "{challenges:?}");
        assert!(nonces().challenge(REALM, &Algorithm::ALL, true, 1)[0].ends_with(", stale=true"));
    }

    #[test]
    fn rfc7616_3_4_1_the_right_password_is_right_by_either_algorithm() {
        let mut nonces = nonces();
        for algorithm in Algorithm::ALL {
            let nonce = nonce_of(&nonces.challenge(REALM, &Algorithm::ALL, false, 1000));
            let right =
                read(&nonces, &authorization(&nonce, algorithm, "secret", 1), 1001).unwrap();
            assert_eq!((right.user.as_str(), right.uri.as_str()), ("202", URI));
            assert!(right.is_right(Some(&secrets()), "SUBSCRIBE"));
            assert!(!right.is_right(Some(&secrets()), "OPTIONS"), "the method is hashed");
            assert!(!right.is_right(None, "SUBSCRIBE"), "nobody is there");
            assert!(!right.is_right(Some(&Secrets::default()), "SUBSCRIBE"));
            let wrong = read(&nonces, &authorization(&nonce, algorithm, "guess", 1), 1001).unwrap();
            assert!(!wrong.is_right(Some(&secrets()), "SUBSCRIBE"));
        }
    }

    #[test]
    fn rfc7616_3_9_1_the_example_of_the_rfc() {
        let credentials = |algorithm, response: &str| Credentials {
            user: "Mufasa".into(),
            uri: "/dir/index.html".into(),
            algorithm,
            response: response.into(),
            nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v".into(),
            nc: "00000001".into(),
            cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ".into(),
        };
        let ha1 = |algorithm: Algorithm| {
            Some(algorithm.ha1("Mufasa", "http-auth@example.org", "Circle of Life"))
        };
        let secrets = Secrets { md5: ha1(Algorithm::Md5), sha256: ha1(Algorithm::Sha256) };
        let md5 = credentials(Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec");
        assert!(md5.is_right(Some(&secrets), "GET"));
        let sha256 = credentials(
            Algorithm::Sha256,
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        );
        assert!(sha256.is_right(Some(&secrets), "GET"));
    }

    #[test]
    fn rfc7616_3_3_an_old_nonce_is_stale_and_a_foreign_one_is_none() {
        let mut nonces = nonces();
        let nonce = nonce_of(&nonces.challenge(REALM, &Algorithm::ALL, false, 1000));
        let value = authorization(&nonce, Algorithm::Md5, "secret", 1);
        assert!(read(&nonces, &value, 1300).is_ok());
        assert_eq!(read(&nonces, &value, 1301), Err(NotChecked::Stale));
        assert_eq!(read(&nonces, &value, 999), Err(NotChecked::Stale), "from the future");
        let foreign = Nonces::new([8; 32], 300);
        assert_eq!(read(&foreign, &value, 1000), Err(NotChecked::Absent));
        let made_up = value.replacen(&nonce, "0000", 1);
        assert_eq!(read(&nonces, &made_up, 1000), Err(NotChecked::Absent));
    }

    #[test]
    fn rfc7616_5_4_what_was_used_cannot_be_replayed_and_the_next_count_can() {
        let mut nonces = nonces();
        let nonce = nonce_of(&nonces.challenge(REALM, &Algorithm::ALL, false, 1000));
        let value = |nc| authorization(&nonce, Algorithm::Sha256, "secret", nc);
        let first = read(&nonces, &value(1), 1000).unwrap();
        assert_eq!(nonces.use_up(&first, 1000), Ok(()));
        assert_eq!(nonces.use_up(&first, 1000), Err(NotChecked::Stale));
        assert_eq!(read(&nonces, &value(1), 1001), Err(NotChecked::Stale));
        assert!(read(&nonces, &value(2), 1001).is_ok());
    }

    #[test]
    fn what_is_forgotten_is_not_accepted_again() {
        let mut nonces = nonces();
        let first = nonce_of(&nonces.challenge(REALM, &Algorithm::ALL, false, 1000));
        let first = authorization(&first, Algorithm::Md5, "secret", 1);
        let used = read(&nonces, &first, 1000).unwrap();
        nonces.use_up(&used, 1000).unwrap();
        for _ in 0..MAX_NONCES {
            let nonce = nonce_of(&nonces.challenge(REALM, &Algorithm::ALL, false, 1000));
            let credentials = Credentials { nonce, ..used.clone() };
            nonces.use_up(&credentials, 1000).unwrap();
        }
        assert_eq!(nonces.used.len(), MAX_NONCES);
        assert_eq!(read(&nonces, &first, 1000), Err(NotChecked::Stale));
    }

    #[test]
    fn what_qop_auth_needs_must_be_there() {
        let mut nonces = nonces();
        let nonce = nonce_of(&nonces.challenge(REALM, &Algorithm::ALL, false, 1000));
        let value = authorization(&nonce, Algorithm::Md5, "secret", 1);
        for (from, to) in [
            ("qop=auth", "qop=auth-int"),
            (", qop=auth", ""),
            ("nc=00000001", "nc=1"),
            ("cnonce=\"c\", ", ""),
            (REALM, "elsewhere.org"),
            ("algorithm=MD5", "algorithm=MD5-sess"),
            ("Digest", "Basic"),
        ] {
            let bad = value.replacen(from, to, 1);
            assert_eq!(read(&nonces, &bad, 1000), Err(NotChecked::Absent), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_refused(value in any::<String>(), nonce in any::<String>()) {
            let nonces = nonces();
            let _ = read(&nonces, &value, 1000);
            let quoted = nonce.replace('\\', "\\\\").replace('"', "\\\"");
            let value = authorization(&quoted, Algorithm::Md5, "secret", 1);
            prop_assert_eq!(read(&nonces, &value, 1000), Err(NotChecked::Absent));
        }
    }
}
