//! Codecs: how the text of one value becomes a Rust value, and how it is shown again.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use mwid_core::mailbox::{Account, NameError};
use mwid_core::publication::{Way, Ways};
use serde_json::Value as Json;
use thiserror::Error;

use super::error::Cut;
use super::secret::MASK;
use crate::config::{HostPort, HostPortError, HttpUrlError, UrlError, host};

/// The longest path of a Unix socket (`sun_path` without its NUL), in bytes.
const MAX_SOCKET_PATH: usize = 107;

/// The longest value that goes into a header, in characters.
const MAX_TEXT: usize = 200;

/// The longest name of a table (PostgreSQL's 63, MySQL's 64), in bytes.
const MAX_TABLE: usize = 63;

/// The longest name of a node, in bytes.
const MAX_NODE: usize = 64;

/// The longest list: accounts of one mailbox, proxies.
const MAX_ELEMENTS: usize = 1000;

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ValueError {
    /// Not a number, or one outside of its range.
    #[error("{found:?} is not a whole number{unit} from {} to {}", range.start(), range.end())]
    Number {
        /// The value.
        found: String,
        /// ` of seconds`, ` of milliseconds` or nothing.
        unit: &'static str,
        /// What is allowed.
        range: RangeInclusive<u64>,
    },
    /// Not one of a few words.
    #[error("{found:?} is not one of: {valid}")]
    Choice {
        /// The value.
        found: String,
        /// The words.
        valid: String,
    },
    /// Not an address of this machine and a port.
    #[error("{found:?} is not address:port; write 127.0.0.1:8080 or [::1]:8080")]
    SocketAddress {
        /// The value.
        found: String,
    },
    /// A path that does not start at the root.
    #[error("{found:?} is not an absolute path; start it with /")]
    Relative {
        /// The value.
        found: String,
    },
    /// A path that is too long for a socket.
    #[error("the path has {length} bytes; a socket's may have {MAX_SOCKET_PATH}")]
    SocketPath {
        /// Its length.
        length: usize,
    },
    /// A character that may not stand there.
    #[error("{found:?} is not allowed there; use {allowed}")]
    Character {
        /// The character.
        found: char,
        /// What may.
        allowed: &'static str,
    },
    /// A text that is too long.
    #[error("has {length} characters; at most {limit} are allowed")]
    Length {
        /// How many it has.
        length: usize,
        /// How many it may have.
        limit: usize,
    },
    /// An empty element of a list.
    #[error("an element of the list is empty; write one comma between two elements")]
    EmptyElement,
    /// A list that is too long.
    #[error("the list has more than {MAX_ELEMENTS} elements")]
    TooMany,
    /// An element twice.
    #[error("{found:?} is in the list twice; remove one")]
    Twice {
        /// The element.
        found: String,
    },
    /// A bad host or port.
    #[error(transparent)]
    Address(#[from] HostPortError),
    /// A bad mailbox, account, context or domain.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A bad database address.
    #[error("the address {0}")]
    Url(#[from] UrlError),
    /// A bad HTTP address.
    #[error("the address {0}")]
    HttpUrl(#[from] HttpUrlError),
    /// Not a header, or one that is written already.
    #[error(
        "{found:?} is no header that can be added; write Name: value, without quotes and backslashes, several with | between them"
    )]
    ExtraHeader {
        /// What stands there, cut short.
        found: String,
    },
    /// Not a SIP URI.
    #[error("{found:?} is no SIP URI; write sip:host:port")]
    SipUri {
        /// What stands there, cut short.
        found: String,
    },
    /// Not `udp:host:port`.
    #[error("{found:?} does not say how; write udp:host:port")]
    Transport {
        /// The value.
        found: String,
    },
    /// Neither an address nor a network.
    #[error("{found:?} is neither an address nor a network; write 192.0.2.1 or 192.0.2.0/24")]
    Network {
        /// The value.
        found: String,
    },
    /// A user without a password.
    #[error("no password; write user@domain = password")]
    NoPassword,
    /// What the effective configuration prints in place of a password.
    #[error("{MASK} is what mwid prints in place of a password; write the password itself")]
    Mask,
}

/// How one kind of value is read and shown.
pub(super) trait Codec {
    /// The kind of value.
    type Value;

    /// Reads a value; the text is trimmed. The empty text is read only where it is the default.
    fn parse(&self, text: &str) -> Result<Self::Value, ValueError>;

    /// Shows a value as JSON has it; [`text`] makes ini of it.
    fn show(&self, value: &Self::Value) -> Json;
}

/// What [`Codec::show`] said, as an ini file has it.
pub(super) fn text(json: &Json) -> String {
    match json {
        Json::Null => String::new(),
        Json::Bool(true) => "yes".to_owned(),
        Json::Bool(false) => "no".to_owned(),
        Json::String(text) => text.clone(),
        Json::Array(elements) => elements.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// A whole number in a range.
pub(super) struct Number<T> {
    range: RangeInclusive<u64>,
    of: PhantomData<T>,
}

pub(super) fn number<T>(min: u64, max: u64) -> Number<T> {
    Number { range: min..=max, of: PhantomData }
}

impl<T: TryFrom<u64> + Copy + Into<u64>> Codec for Number<T> {
    type Value = T;

    fn parse(&self, text: &str) -> Result<T, ValueError> {
        let error = || ValueError::Number {
            found: Cut(text).to_string(),
            unit: "",
            range: self.range.clone(),
        };
        let number = whole(text, &self.range).ok_or_else(error)?;
        T::try_from(number).map_err(|_| error())
    }

    fn show(&self, value: &T) -> Json {
        Json::from((*value).into())
    }
}

fn whole(text: &str, range: &RangeInclusive<u64>) -> Option<u64> {
    let digits = text.chars().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|number| digits && range.contains(number))
}

/// A duration in a unit.
pub(super) struct Span {
    range: RangeInclusive<u64>,
    unit: &'static str,
    millis: u64,
}

pub(super) fn seconds(min: u64, max: u64) -> Span {
    Span { range: min..=max, unit: " of seconds", millis: 1000 }
}

pub(super) fn milliseconds(min: u64, max: u64) -> Span {
    Span { range: min..=max, unit: " of milliseconds", millis: 1 }
}

impl Codec for Span {
    type Value = Duration;

    fn parse(&self, text: &str) -> Result<Duration, ValueError> {
        let number = whole(text, &self.range).ok_or_else(|| ValueError::Number {
            found: Cut(text).to_string(),
            unit: self.unit,
            range: self.range.clone(),
        })?;
        Ok(Duration::from_millis(number.saturating_mul(self.millis)))
    }

    fn show(&self, value: &Duration) -> Json {
        Json::from(value.as_millis() as u64 / self.millis)
    }
}

/// Asterisk's truth values.
pub(super) struct Flag;

impl Codec for Flag {
    type Value = bool;

    fn parse(&self, text: &str) -> Result<bool, ValueError> {
        match text.to_ascii_lowercase().as_str() {
            "yes" | "true" | "on" | "1" | "y" | "t" => Ok(true),
            "no" | "false" | "off" | "0" | "n" | "f" => Ok(false),
            _ => Err(ValueError::Choice {
                found: Cut(text).to_string(),
                valid: "yes, no, true, false, on, off, 1, 0".to_owned(),
            }),
        }
    }

    fn show(&self, value: &bool) -> Json {
        Json::from(*value)
    }
}

/// One of a few words.
pub(super) struct OneOf<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Codec for OneOf<T> {
    type Value = T;

    fn parse(&self, text: &str) -> Result<T, ValueError> {
        let found = self.0.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
        found.map(|(_, value)| *value).ok_or_else(|| ValueError::Choice {
            found: Cut(text).to_string(),
            valid: self.0.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", "),
        })
    }

    fn show(&self, value: &T) -> Json {
        let word = self.0.iter().find(|(_, other)| other == value);
        word.map_or(Json::Null, |(word, _)| Json::from(*word))
    }
}

/// An absolute path.
pub(super) struct AbsolutePath;

impl Codec for AbsolutePath {
    type Value = PathBuf;

    fn parse(&self, text: &str) -> Result<PathBuf, ValueError> {
        if text.starts_with('/') {
            Ok(PathBuf::from(text))
        } else {
            Err(ValueError::Relative { found: Cut(text).to_string() })
        }
    }

    fn show(&self, value: &PathBuf) -> Json {
        Json::from(value.to_string_lossy())
    }
}

/// The path of a Unix socket.
pub(super) struct SocketPath;

impl Codec for SocketPath {
    type Value = PathBuf;

    fn parse(&self, text: &str) -> Result<PathBuf, ValueError> {
        match text.len() {
            length if length > MAX_SOCKET_PATH => Err(ValueError::SocketPath { length }),
            _ => AbsolutePath.parse(text),
        }
    }

    fn show(&self, value: &PathBuf) -> Json {
        AbsolutePath.show(value)
    }
}

/// An address of this machine and a port, 0 for any.
pub(super) struct Listen;

impl Codec for Listen {
    type Value = SocketAddr;

    fn parse(&self, text: &str) -> Result<SocketAddr, ValueError> {
        text.parse().map_err(|_| ValueError::SocketAddress { found: Cut(text).to_string() })
    }

    fn show(&self, address: &SocketAddr) -> Json {
        Json::from(address.to_string())
    }
}

/// A text that a function checks and may bring into another form.
pub(super) struct Text(pub(super) fn(&str) -> Result<String, ValueError>);

impl Codec for Text {
    type Value = String;

    fn parse(&self, text: &str) -> Result<String, ValueError> {
        (self.0)(text)
    }

    fn show(&self, value: &String) -> Json {
        Json::from(value.as_str())
    }
}

/// The value of a header: no control character, so no line of its own. Empty: mwid's own name.
pub(super) fn user_agent(text: &str) -> Result<String, ValueError> {
    match text {
        "" => Ok(concat!("mwid/", env!("CARGO_PKG_VERSION")).to_owned()),
        _ => header(text),
    }
}

/// Text without control characters, of a length that fits into one datagram with the rest.
pub(super) fn header(text: &str) -> Result<String, ValueError> {
    if let Some(found) = text.chars().find(|c| c.is_control()) {
        return Err(ValueError::Character { found, allowed: "visible characters and spaces" });
    }
    match text.chars().count() {
        length if length > MAX_TEXT => Err(ValueError::Length { length, limit: MAX_TEXT }),
        _ => Ok(text.to_owned()),
    }
}

/// The name of a realm: it stands in a header, in quotes.
pub(super) fn realm(text: &str) -> Result<String, ValueError> {
    match text.chars().find(|&c| c == '"' || c == '\\') {
        Some(found) => Err(ValueError::Character { found, allowed: "no quotes and backslashes" }),
        None => header(text),
    }
}

/// An account whose domain is compared without regard to case.
pub(super) fn account(text: &str) -> Result<Account, ValueError> {
    let account: Account = text.parse()?;
    Ok(Account::new(account.user(), &account.domain().to_ascii_lowercase())?)
}

/// The same as a codec.
pub(super) struct AnyCase;

impl Codec for AnyCase {
    type Value = Account;

    fn parse(&self, text: &str) -> Result<Account, ValueError> {
        account(text)
    }

    fn show(&self, value: &Account) -> Json {
        Json::from(value.as_str())
    }
}

/// `udp:host:port`
pub(super) struct ListenUdp;

impl Codec for ListenUdp {
    type Value = HostPort;

    fn parse(&self, text: &str) -> Result<HostPort, ValueError> {
        let (how, address) = text.split_once(':').unwrap_or((text, ""));
        if !how.eq_ignore_ascii_case("udp") {
            return Err(ValueError::Transport { found: Cut(text).to_string() });
        }
        Ok(address.parse()?)
    }

    fn show(&self, value: &HostPort) -> Json {
        Json::from(format!("udp:{value}"))
    }
}

/// An address, or a network.
pub(super) struct Network;

impl Codec for Network {
    type Value = IpNet;

    fn parse(&self, text: &str) -> Result<IpNet, ValueError> {
        let network = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse());
        let network = network.map(|network| network.trunc());
        network.map_err(|_| ValueError::Network { found: Cut(text).to_string() })
    }

    fn show(&self, value: &IpNet) -> Json {
        Json::from(value.to_string())
    }
}

/// The user part of a SIP URI (RFC 3261 §25.1).
pub(super) fn sip_user(text: &str) -> Result<String, ValueError> {
    Ok(Account::new(text, "host").map(|account| account.user().to_owned())?)
}

/// A SIP URI as a whole, `sip:proxy.example.com:5060;transport=tcp`.
pub(super) fn sip_uri(text: &str) -> Result<String, ValueError> {
    let is_uri_char = |c: char| c.is_ascii_graphic() && !"<>\"\\^`{|}".contains(c);
    let rest = text.strip_prefix("sip:").or_else(|| text.strip_prefix("sips:"));
    match rest {
        Some(rest) if !rest.is_empty() && rest.chars().all(is_uri_char) => header(text),
        _ => Err(ValueError::SipUri { found: Cut(text).to_string() }),
    }
}

/// The host part of a SIP URI of an account.
pub(super) fn sip_domain(text: &str) -> Result<String, ValueError> {
    Ok(Account::new("0", text).map(|account| account.domain().to_owned())?)
}

/// A host for Via and Contact.
pub(super) fn bind_host(text: &str) -> Result<String, ValueError> {
    Ok(host::header_host(text)?)
}

/// The name of a table, safe to be written into SQL.
pub(super) fn table_name(text: &str) -> Result<String, ValueError> {
    match text.chars().find(|&c| !c.is_ascii_alphanumeric() && c != '_') {
        Some(found) => Err(ValueError::Character { found, allowed: "letters, digits and _" }),
        None if text.len() > MAX_TABLE => {
            Err(ValueError::Length { length: text.len(), limit: MAX_TABLE })
        }
        None => Ok(text.to_owned()),
    }
}

/// The name of a node of a cluster.
///
/// # Errors
/// [`ValueError`] when it has another character than letters, digits, `.`, `-`, `_`, or too many.
pub fn node_name(text: &str) -> Result<String, ValueError> {
    match text.chars().find(|&c| !c.is_ascii_alphanumeric() && !".-_".contains(c)) {
        Some(found) => Err(ValueError::Character { found, allowed: "letters, digits, . - and _" }),
        None if text.len() > MAX_NODE => {
            Err(ValueError::Length { length: text.len(), limit: MAX_NODE })
        }
        None => Ok(text.to_owned()),
    }
}

/// A host and a port, which may be left out.
pub(super) struct Address {
    /// The port of a host without one.
    pub(super) port: u16,
}

impl Codec for Address {
    type Value = HostPort;

    fn parse(&self, text: &str) -> Result<HostPort, ValueError> {
        Ok(HostPort::with_default(text, self.port)?)
    }

    fn show(&self, value: &HostPort) -> Json {
        Json::from(value.to_string())
    }
}

/// A type that reads and prints itself.
pub(super) struct Itself<T>(PhantomData<T>);

pub(super) fn itself<T>() -> Itself<T> {
    Itself(PhantomData)
}

impl<T: FromStr<Err: Into<ValueError>> + fmt::Display> Codec for Itself<T> {
    type Value = T;

    fn parse(&self, text: &str) -> Result<T, ValueError> {
        text.parse().map_err(Into::into)
    }

    fn show(&self, value: &T) -> Json {
        Json::from(value.to_string())
    }
}

/// A value that may be left out.
pub(super) struct Optional<C>(pub(super) C);

impl<C: Codec> Codec for Optional<C> {
    type Value = Option<C::Value>;

    fn parse(&self, text: &str) -> Result<Self::Value, ValueError> {
        if text.is_empty() { Ok(None) } else { self.0.parse(text).map(Some) }
    }

    fn show(&self, value: &Self::Value) -> Json {
        value.as_ref().map_or(Json::Null, |value| self.0.show(value))
    }
}

/// Any number of values with commas between them, none of them twice.
pub(super) struct List<C>(pub(super) C);

impl<C: Codec<Value: PartialEq>> Codec for List<C> {
    type Value = Vec<C::Value>;

    fn parse(&self, text: &str) -> Result<Self::Value, ValueError> {
        let mut values = Vec::new();
        let elements = text.split(',').map(str::trim);
        for element in elements.filter(|_| !text.is_empty()) {
            if element.is_empty() {
                return Err(ValueError::EmptyElement);
            }
            if values.len() == MAX_ELEMENTS {
                return Err(ValueError::TooMany);
            }
            let value = self.0.parse(element)?;
            if values.contains(&value) {
                return Err(ValueError::Twice { found: Cut(element).to_string() });
            }
            values.push(value);
        }
        Ok(values)
    }

    fn show(&self, values: &Self::Value) -> Json {
        values.iter().map(|value| self.0.show(value)).collect()
    }
}

/// Ways of delivery, at least one.
pub(super) struct WayList;

impl Codec for WayList {
    type Value = Ways;

    fn parse(&self, text: &str) -> Result<Ways, ValueError> {
        let way = |word: &str| Way::ALL.into_iter().find(|way| way.name() == word);
        let choice = |word: &str| ValueError::Choice {
            found: Cut(word).to_string(),
            valid: Way::ALL.map(Way::name).join(", "),
        };
        let words = List(Text(|word| Ok(word.to_ascii_lowercase()))).parse(text)?;
        if words.is_empty() {
            return Err(ValueError::EmptyElement);
        }
        words.iter().map(|word| way(word).ok_or_else(|| choice(word))).collect()
    }

    fn show(&self, ways: &Ways) -> Json {
        ways.iter().map(|way| Json::from(way.name())).collect()
    }
}
