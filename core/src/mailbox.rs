//! Names: an Asterisk voicemail box ([`Mailbox`]) and the address of record that phones watch
//! ([`Account`]). Both come from folder names, command lines, databases and sockets, so both are
//! checked once, here, and cannot hold a hostile value afterwards.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// The longest mailbox number, context, user or domain, in bytes (Asterisk's `AST_MAX_EXTENSION`
/// and `AST_MAX_CONTEXT` are 80; a DNS name is at most 253).
pub const MAX_NAME: usize = 253;

/// Why a name was refused. The text says what is wrong and what a good one looks like.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing between the separators.
    #[error("the {part} is empty")]
    Empty {
        /// Which part of the name.
        part: &'static str,
    },
    /// Longer than [`MAX_NAME`].
    #[error("the {part} has {length} bytes; at most {MAX_NAME} are allowed")]
    TooLong {
        /// Which part of the name.
        part: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// A character that would leave the folder, the header or the URI that the name goes into.
    #[error("the {part} {value:?} contains {found:?}, which is not allowed there")]
    Character {
        /// Which part of the name.
        part: &'static str,
        /// The offending value, printed escaped.
        value: String,
        /// The offending character.
        found: char,
    },
    /// A name that starts with a dot or contains `..`: a hidden folder or a way out of the spool.
    #[error("the {part} {value:?} starts with a dot or contains \"..\"")]
    Dots {
        /// Which part of the name.
        part: &'static str,
        /// The offending value, printed escaped.
        value: String,
    },
    /// Something without `@` where an account is needed.
    #[error("{value:?} is not an account; write user@domain or sip:user@domain")]
    NotAnAccount {
        /// The offending value, printed escaped.
        value: String,
    },
}

/// An Asterisk voicemail box: a number in a context, written `202@default`.
///
/// Invariant: each part is 1 to [`MAX_NAME`] bytes of UTF-8 without control characters, `/` or
/// `@`, without `..` and without a leading dot, so it is safe as one component of a path.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mailbox(Arc<str>);

impl Mailbox {
    /// A mailbox from its number and context.
    ///
    /// # Errors
    /// [`NameError`] when a part breaks the invariant of the type.
    pub fn new(number: &str, context: &str) -> Result<Self, NameError> {
        check_folder("mailbox number", number)?;
        check_folder("voicemail context", context)?;
        Ok(Self(format!("{number}@{context}").into()))
    }

    /// Reads `202@default`; `202` alone is in Asterisk's context `default`.
    ///
    /// # Errors
    /// [`NameError`] when a part breaks the invariant of the type.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (number, context) = text.split_once('@').unwrap_or((text, "default"));
        Self::new(number, context)
    }

    /// The number: `202`.
    #[must_use]
    pub fn number(&self) -> &str {
        parts(&self.0).0
    }

    /// The context: `default`.
    #[must_use]
    pub fn context(&self) -> &str {
        parts(&self.0).1
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The address of record (presentity) that phones watch, written `sip:202@example.com`.
///
/// Invariant: the user is made of the characters that RFC 3261 §25.1 allows in a `user` (`%` for
/// escapes included), the domain of those of a host name or address, so `Display` is a valid SIP
/// URI. Equality is by byte: the presence server compares `presentity_uri` in its own way.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Account(Arc<str>);

const SCHEME: &str = "sip:";

impl Account {
    /// An account from its user and domain parts.
    ///
    /// # Errors
    /// [`NameError`] when a part breaks the invariant of the type.
    pub fn new(user: &str, domain: &str) -> Result<Self, NameError> {
        check("user", user, is_user_char)?;
        check("domain", domain, is_host_char)?;
        Ok(Self([SCHEME, user, "@", domain].concat().into()))
    }

    /// The user part: `202`.
    #[must_use]
    pub fn user(&self) -> &str {
        parts(&self.0[SCHEME.len()..]).0
    }

    /// The domain part: `example.com`.
    #[must_use]
    pub fn domain(&self) -> &str {
        parts(&self.0).1
    }

    /// The whole address of record: `sip:202@example.com`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether its user and domain stand in a text, and no longer ones that end or begin like them.
    #[must_use]
    pub fn is_named_in(&self, text: &str) -> bool {
        let who = &self.0[SCHEME.len()..];
        text.match_indices(who).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = text[at + who.len()..].chars().next();
            // A colon ends the scheme, and begins a port.
            let is_longer = before.is_some_and(|c| c != ':' && is_user_char(c));
            !is_longer && !after.is_some_and(|c| c != ':' && is_host_char(c))
        })
    }
}

impl FromStr for Account {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bare = text.strip_prefix(SCHEME).unwrap_or(text);
        let (user, domain) = bare
            .split_once('@')
            .ok_or_else(|| NameError::NotAnAccount { value: text.to_owned() })?;
        Self::new(user, domain)
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is on either side of the `@`. Neither part of a name can have one.
fn parts(name: &str) -> (&str, &str) {
    name.split_once('@').unwrap_or((name, ""))
}

fn check_folder(part: &'static str, value: &str) -> Result<(), NameError> {
    check(part, value, |c| !c.is_control() && c != '/' && c != '@')?;
    if value.starts_with('.') || value.contains("..") {
        return Err(NameError::Dots { part, value: value.to_owned() });
    }
    Ok(())
}

fn check(part: &'static str, value: &str, allowed: fn(char) -> bool) -> Result<(), NameError> {
    if value.is_empty() {
        return Err(NameError::Empty { part });
    }
    if value.len() > MAX_NAME {
        return Err(NameError::TooLong { part, length: value.len() });
    }
    match value.chars().find(|&c| !allowed(c)) {
        Some(found) => Err(NameError::Character { part, value: value.to_owned(), found }),
        None => Ok(()),
    }
}

/// `unreserved`, `escaped` and `user-unreserved` of RFC 3261 §25.1.
pub(crate) fn is_user_char(c: char) -> bool {
    const MARKS: &[u8] = b"-_.!~*'()%&=+$,;?/";
    c.is_ascii_alphanumeric() || u8::try_from(c).is_ok_and(|c| MARKS.contains(&c))
}

/// A host name (underscores tolerated, contexts have them), an IPv4 address or an IPv6 reference.
pub(crate) fn is_host_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '[' | ']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_named_where_its_whole_uri_stands() {
        let account: Account = "202@example.com".parse().unwrap();
        for text in [
            "To: <sip:202@example.com>;tag=x",
            "SUBSCRIBE sip:202@example.com SIP/2.0",
            "sip:202@example.com:5060",
            "202@example.com",
        ] {
            assert!(account.is_named_in(text), "{text}");
        }
        for text in
            ["<sip:1202@example.com>", "<sip:202@example.com.au>", "<sip:202@example.org>", ""]
        {
            assert!(!account.is_named_in(text), "{text}");
        }
    }

    #[test]
    fn a_mailbox_without_context_is_in_default() {
        assert_eq!(Mailbox::parse("202").unwrap().to_string(), "202@default");
        assert_eq!(Mailbox::parse("202@example.com").unwrap().context(), "example.com");
    }

    #[test]
    fn hostile_mailbox_names_are_refused() {
        for bad in [
            "",
            "@default",
            "202@",
            "../x",
            "a/../b",
            "..",
            ".lock-1",
            "20\x002",
            "202\r\nEvil: 1",
            "202@a@b",
            "202@../../etc",
        ] {
            assert!(Mailbox::parse(bad).is_err(), "{bad:?} was accepted");
        }
        let long = "2".repeat(300);
        assert_eq!(
            Mailbox::parse(&long),
            Err(NameError::TooLong { part: "mailbox number", length: 300 })
        );
    }

    #[test]
    fn an_account_knows_its_parts() {
        let account: Account = "sip:*97@pbx.example.com".parse().unwrap();
        assert_eq!((account.user(), account.domain()), ("*97", "pbx.example.com"));
        assert_eq!(account, "*97@pbx.example.com".parse().unwrap());
    }

    #[test]
    fn an_account_that_would_break_a_header_is_refused() {
        for bad in
            ["202", "a b@c", "202@x\r\nVia: y", "202@x>", "<202@x", "é@x", "2@3@4", "\"x\"@y"]
        {
            assert!(bad.parse::<Account>().is_err(), "{bad:?} was accepted");
        }
    }
}
