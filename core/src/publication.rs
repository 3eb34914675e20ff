//! Publications: an account's summary as event state that others hand on to the phones (RFC 3903).
//!
//! A dialog is one phone's; a publication is one account's, by one [`Way`]. The presence server keeps
//! it for a time, names it by an entity-tag and gives it to whoever subscribes. Whether it goes there
//! as a PUBLISH, through OpenSIPS's MI, Kamailio's RPC or an HTTP request makes no difference here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::mailbox::Account;
use crate::message::is_token_char;
use crate::summary::Summary;

/// The longest entity-tag that is kept, in bytes. OpenSIPS and Kamailio make about 40.
pub const MAX_ETAG: usize = 255;

/// How long a server is asked to keep a new state, where it chooses the entity-tag: when its answer
/// gets lost (a crash, a network that is down), nobody has the tag, and what was published stands
/// beside whatever comes after it until it ends. A refresh asks for the full time, once the tag is
/// known; a refresh whose own answer gets lost leaves its document for as long as that.
pub const TRIAL: Duration = Duration::from_secs(60);

/// A way to make an account's phones know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// An in-dialog NOTIFY to each phone. The only way that works on dialogs and makes no publication.
    Notify,
    /// SIP PUBLISH to the presence server (RFC 3903).
    Publish,
    /// `pua_publish` of OpenSIPS's management interface.
    OpensipsMi,
    /// `pua.publish` of Kamailio's RPC.
    KamailioRpc,
    /// `StatusEvent.cgi` of a sipXpublisher. It keeps what it was told: nothing to refresh.
    Sipx,
}

impl Way {
    /// All ways.
    pub const ALL: [Self; 5] =
        [Self::Notify, Self::Publish, Self::OpensipsMi, Self::KamailioRpc, Self::Sipx];

    /// As the configuration and the ledger call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Publish => "publish",
            Self::OpensipsMi => "opensips-mi",
            Self::KamailioRpc => "kamailio-rpc",
            Self::Sipx => "sipx",
        }
    }

    /// Whether its server names a publication by an entity-tag of its own choice: without that,
    /// nothing more can be done about the publication. Elsewhere the account alone names it.
    #[must_use]
    pub fn is_tagged(self) -> bool {
        matches!(self, Self::Publish | Self::OpensipsMi)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The ways by which an account is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ways(u8);

impl Ways {
    /// None: nobody is told.
    pub const NONE: Self = Self(0);

    /// With this one too.
    #[must_use]
    pub const fn with(self, way: Way) -> Self {
        Self(self.0 | 1 << way as u8)
    }

    /// Those of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are in both.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether this one is among them.
    #[must_use]
    pub const fn contains(self, way: Way) -> bool {
        self.0 & 1 << way as u8 != 0
    }

    /// One by one, in the order of [`Way::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Way> {
        Way::ALL.into_iter().filter(move |way| self.contains(*way))
    }

    /// Those that make a publication.
    pub fn publications(self) -> impl Iterator<Item = Way> {
        self.iter().filter(|way| *way != Way::Notify)
    }
}

/// NOTIFY alone.
impl Default for Ways {
    fn default() -> Self {
        Self::NONE.with(Way::Notify)
    }
}

impl FromIterator<Way> for Ways {
    fn from_iter<T: IntoIterator<Item = Way>>(ways: T) -> Self {
        ways.into_iter().fold(Self::NONE, Self::with)
    }
}

/// Why a text is no entity-tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ETagError {
    /// Nothing, or more than [`MAX_ETAG`] bytes.
    #[error("an entity-tag has 1 to {MAX_ETAG} bytes, this one has {0}")]
    Length(usize),
    /// Not a token (RFC 3261 §25.1).
    #[error("{0:?} is not allowed in an entity-tag")]
    Character(char),
}

/// The entity-tag that names a publication at its server: the value of SIP-ETag and SIP-If-Match.
///
/// Invariant: a token (RFC 3903 §11.3.1), so it can go into a header as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ETag(Arc<str>);

impl ETag {
    /// Reads what a server gave.
    ///
    /// # Errors
    /// [`ETagError`] when it is no token or too long.
    pub fn new(text: &str) -> Result<Self, ETagError> {
        if text.is_empty() || text.len() > MAX_ETAG {
            return Err(ETagError::Length(text.len()));
        }
        match text.chars().find(|c| !is_token_char(*c)) {
            Some(c) => Err(ETagError::Character(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// The token.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a publication is to become (RFC 3903 §4.1, table 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// This state: an initial publication without an entity-tag, a modification with one. A way
    /// that [is tagged](Way::is_tagged) asks for [`TRIAL`] only.
    State(Summary),
    /// This state, which it has already, for longer: a refresh, where the way knows one.
    Refresh(Summary),
    /// Nothing: it is removed. Only ever wished with an entity-tag, or of a way that has none.
    Remove,
}

/// One step of one publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// By which way; never [`Way::Notify`].
    pub way: Way,
    /// Whose.
    pub account: Account,
    /// What it is to become.
    pub wish: Wish,
    /// What its server called it last.
    pub etag: Option<ETag>,
}

/// What became of an [`Order`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server took it.
    Accepted {
        /// What the server calls it from now on; `None` where the way has no such name.
        etag: Option<ETag>,
        /// How long the server keeps it; `None` for ever.
        expires: Option<Duration>,
    },
    /// The server does not know the entity-tag (412): begin afresh, at once.
    Stale,
    /// Try again at once: another server, with credentials, with another expiry.
    Again,
    /// Try again later: after the given time, or after the growing back-off.
    Later(Option<Duration>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3903_11_3_1_an_entity_tag_is_a_token() {
        assert_eq!(ETag::new("a.1795.5.0").unwrap().as_str(), "a.1795.5.0");
        assert_eq!(ETag::new(""), Err(ETagError::Length(0)));
        assert_eq!(ETag::new(&"a".repeat(256)), Err(ETagError::Length(256)));
        for hostile in ["a\r\nX: y", "a b", "a;b", "\"a\"", "é"] {
            assert!(matches!(ETag::new(hostile), Err(ETagError::Character(_))), "{hostile:?}");
        }
    }

    #[test]
    fn each_way_has_a_name_of_its_own() {
        let all: Ways = Way::ALL.into_iter().collect();
        assert_eq!(all.iter().collect::<Vec<_>>(), Way::ALL);
        assert_eq!(Ways::default().publications().next(), None);
        let names: std::collections::HashSet<_> = Way::ALL.iter().map(|way| way.name()).collect();
        assert_eq!(names.len(), Way::ALL.len());
    }
}
