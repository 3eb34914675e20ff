//! The branch of a transaction: unique, and not to be guessed, so that nobody who did not see the
//! request can forge its answer.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use memchr::memchr2_iter;

/// What every branch of RFC 3261 begins with (§8.1.1.7).
const COOKIE: &str = "z9hG4bK";
const DIGITS: usize = 32;
const LENGTH: usize = COOKIE.len() + DIGITS;

/// The `branch` parameter of a Via header: `z9hG4bK` and 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Branch {
    key: Key,
    text: [u8; LENGTH],
}

impl Branch {
    /// The branch as it stands in Via.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).expect("cookie and digits are ASCII")
    }

    pub(super) fn key(&self) -> Key {
        self.key
    }

    pub(super) fn new(key: Key) -> Self {
        let mut text = [0; LENGTH];
        let (cookie, digits) = text.split_at_mut(COOKIE.len());
        cookie.copy_from_slice(COOKIE.as_bytes());
        let bytes = [key.high.to_be_bytes(), key.low.to_be_bytes()];
        for (byte, two) in bytes.as_flattened().iter().zip(digits.chunks_exact_mut(2)) {
            let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
            two.copy_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
        }
        Self { key, text }
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The number of 128 bits that a branch writes: what transactions are found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    high: u64,
    low: u64,
}

impl Key {
    /// The key in a branch from the wire; `None` when it cannot be one of ours. A branch is a
    /// token, so its case does not matter (RFC 3261 §7.3.1).
    pub(super) fn parse(branch: &[u8]) -> Option<Self> {
        let (cookie, digits) = branch.split_at_checked(COOKIE.len())?;
        if !cookie.eq_ignore_ascii_case(COOKIE.as_bytes()) || digits.len() != DIGITS {
            return None;
        }
        let (high, low) = digits.split_at(DIGITS / 2);
        Some(Self { high: hexadecimal(high)?, low: hexadecimal(low)? })
    }
}

/// The number that these up to 16 digits write.
fn hexadecimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, &digit| {
        let value = char::from(digit).to_digit(16)?;
        Some(number << 4 | u64::from(value))
    })
}

/// Half of it will do: both are hashes under a secret of our own.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.low);
    }
}

/// The keys of everything in an answer that looks like a branch of ours; none in a request.
pub(super) fn keys(datagram: &[u8]) -> impl Iterator<Item = Key> {
    let is_answer = datagram.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/"));
    let likely = memchr2_iter(b'z', b'Z', if is_answer { datagram } else { &[] });
    likely.filter_map(|at| Key::parse(datagram.get(at..at + LENGTH)?))
}

/// Makes branches: a keyed hash (SipHash) of a counter, under the secret of this process.
#[derive(Clone, Debug)]
pub(super) struct Branches {
    secret: u128,
    count: u64,
}

impl Branches {
    pub(super) fn new(secret: u128) -> Self {
        Self { secret, count: 0 }
    }

    pub(super) fn next(&mut self) -> Branch {
        self.count += 1;
        let half = |which: u8| {
            let mut hasher = DefaultHasher::new();
            (self.secret, self.count, which).hash(&mut hasher);
            hasher.finish()
        };
        Branch::new(Key { high: half(0), low: half(1) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn rfc3261_8_1_1_7_a_branch_begins_with_the_cookie_and_is_unique() {
        let mut branches = Branches::new(7);
        let mut seen = HashSet::new();
        for _ in 0..10_000 {
            let branch = branches.next();
            assert!(branch.as_str().starts_with("z9hG4bK"));
            assert_eq!(branch.as_str().len(), 39);
            assert!(seen.insert(branch));
        }
    }

    #[test]
    fn another_secret_gives_other_branches() {
        assert_ne!(Branches::new(1).next(), Branches::new(2).next());
        assert_eq!(Branches::new(1).next(), Branches::new(1).next());
    }

    #[test]
    fn a_branch_is_read_back_in_any_case_and_nothing_else_is() {
        let branch = Branches::new(3).next();
        let key = branch.key();
        assert_eq!(Key::parse(branch.to_string().to_uppercase().as_bytes()), Some(key));
        assert_eq!(Branch::new(key), branch);
        let text = branch.as_str();
        for bad in
            ["", "z9hG4bK", &text[1..], &text[..38], "z9hG4bK+1", "é9hG4bK", &[text, "0"].concat()]
        {
            assert_eq!(Key::parse(bad.as_bytes()), None, "{bad:?}");
        }
        let signed = format!("z9hG4bK+{}", &text[8..]);
        assert_eq!(Key::parse(signed.as_bytes()), None, "a sign is no digit");
    }
}
