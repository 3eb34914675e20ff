//! A subscription as the presence server keeps it: one row of `active_watchers`.
//!
//! A [`Row`] is what the database said, nothing believed. A [`Dialog`] is a row whose every value
//! may be written into a SIP message: [`Dialog::from_row`] is the only way from one to the other.
//! Values are checked and then kept **as they are**: a Request-URI or route that is written again
//! by a parser is no longer the one that the phone gave.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use thiserror::Error;

use crate::mailbox::{Account, is_host_char, is_user_char};
use crate::message::split_text;

/// The highest CSeq that RFC 3261 §8.1.1.5 allows: the number must be less than 2³¹.
pub const MAX_CSEQ: u32 = (1 << 31) - 1;

/// The longest value of a column, in bytes. All of them together still fit into a UDP datagram.
pub const MAX_COLUMN: usize = 4096;

/// The `id` column: names a row for as long as the row lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowId(pub i64);

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One row of `active_watchers`, as read. Text that is not UTF-8 arrives with U+FFFD in it and is
/// refused by [`Dialog::from_row`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// `id`
    pub id: i64,
    /// `presentity_uri`: whose mailbox is watched.
    pub presentity_uri: Option<String>,
    /// The user who watches: Kamailio's `from_user`, OpenSIPS's `watcher_username`.
    pub from_user: Option<String>,
    /// The domain of the user who watches: `from_domain` or `watcher_domain`.
    pub from_domain: Option<String>,
    /// `to_user`: the To of the SUBSCRIBE.
    pub to_user: Option<String>,
    /// `to_domain`
    pub to_domain: Option<String>,
    /// `to_tag`: the **notifier's** tag.
    pub to_tag: Option<String>,
    /// `from_tag`: the **phone's** tag.
    pub from_tag: Option<String>,
    /// `callid`
    pub callid: Option<String>,
    /// `local_cseq`, in the server's own counting (see [`Flavour`]).
    pub local_cseq: Option<i64>,
    /// `remote_cseq`: the CSeq of the phone's last SUBSCRIBE.
    pub remote_cseq: Option<i64>,
    /// `contact`: the phone's remote target.
    pub contact: Option<String>,
    /// `record_route`: the route set as one header value.
    pub record_route: Option<String>,
    /// `expires`, absolute Unix seconds.
    pub expires: Option<i64>,
    /// `event_id`
    pub event_id: Option<String>,
    /// `local_contact`: the presence server's own Contact in this dialog.
    pub local_contact: Option<String>,
    /// `socket_info`: the presence server's socket.
    pub socket_info: Option<String>,
    /// `status`: 1 active, 3 terminated; only a presence agent's rows are read in any other than 1.
    pub status: Option<i64>,
    /// `reason`: why it has ended (RFC 6665 §4.1.3).
    pub reason: Option<String>,
    /// No column: what `local_cseq` says was last on the wire ([`Flavour::wire`]).
    pub sent_cseq: Option<i64>,
}

/// `status` of a live row.
pub const ACTIVE: i64 = 1;

/// `status` of the row of a subscription that has ended.
pub const TERMINATED: i64 = 3;

/// How the presence server counts `local_cseq`, measured on both servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// The row holds the CSeq last put on the wire; the next one is row + 1.
    OpenSips,
    /// The row holds one less than the wire; the next one is row + 2.
    Kamailio,
}

impl Flavour {
    /// What the wire carries when the row has been set to `row`.
    #[must_use]
    pub fn wire(self, row: i64) -> i64 {
        match self {
            Self::OpenSips => row,
            Self::Kamailio => row + 1,
        }
    }

    /// What the row must hold for the wire to carry `wire`.
    #[must_use]
    pub fn row(self, wire: i64) -> i64 {
        match self {
            Self::OpenSips => wire,
            Self::Kamailio => wire - 1,
        }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenSips => "OpenSIPS",
            Self::Kamailio => "Kamailio",
        })
    }
}

/// A column that cannot be put into a NOTIFY. Such a row is skipped; the others are not touched.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("active_watchers row {row}: column {column} {problem}")]
pub struct RowError {
    /// The row's `id`.
    pub row: RowId,
    /// The column's name.
    pub column: &'static str,
    /// What is wrong with it.
    pub problem: ColumnProblem,
}

/// What is wrong with a column.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ColumnProblem {
    /// NULL or empty where a dialog needs a value.
    #[error("is NULL or empty; without it there is no dialog")]
    Missing,
    /// A character that would end the header or change its meaning.
    #[error("contains {found:?} in {value:?}, which no NOTIFY may carry there")]
    Character {
        /// The value, printed escaped and cut.
        value: String,
        /// The offending character.
        found: char,
    },
    /// So long that the NOTIFY would be no datagram any more.
    #[error("has {length} bytes; a dialog has at most {MAX_COLUMN}")]
    TooLong {
        /// The length in bytes.
        length: usize,
    },
    /// Not a SIP URI where one is needed.
    #[error("is no SIP URI: {value:?}")]
    NotAUri {
        /// The value, printed escaped and cut.
        value: String,
    },
    /// A number outside of what its meaning allows.
    #[error("is {value}, outside of its range")]
    Range {
        /// The value.
        value: i64,
    },
}

/// One live subscription, from the notifier's point of view (RFC 6665 §4.4.1): `local` is the
/// presence server that mwid speaks for, `remote` is the phone.
///
/// Invariant: no field holds CR, LF, NUL or any other control character, and every URI has the
/// shape of one, so each may be written into a message as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialog {
    /// The row that this dialog was read from.
    pub row: RowId,
    /// Whose mailbox is watched.
    pub account: Account,
    /// Call-ID.
    pub call_id: Box<str>,
    /// The notifier's tag: goes into From.
    pub local_tag: Box<str>,
    /// The phone's tag: goes into To.
    pub remote_tag: Box<str>,
    /// The notifier's URI: the To of the SUBSCRIBE.
    pub local_uri: Box<str>,
    /// The phone's URI: the From of the SUBSCRIBE.
    pub remote_uri: Box<str>,
    /// Where requests in this dialog go: the phone's Contact.
    pub remote_target: Box<str>,
    /// The route set, each entry as it stands in the header, `<` and `>` included.
    pub route_set: Vec<Box<str>>,
    /// The presence server's own Contact in this dialog.
    pub local_contact: Box<str>,
    /// The `id` parameter of the Event header, when the phone gave one.
    pub event_id: Option<Box<str>>,
    /// When the subscription ends, absolute Unix seconds.
    pub expires: u64,
    /// CSeq of the phone's last SUBSCRIBE: grows with every refresh.
    pub remote_cseq: u32,
    /// The presence server's socket, `udp:127.0.0.1:5060`.
    pub socket_info: Option<Box<str>>,
    /// The CSeq that was last on the wire, mwid's or the server's, as the row counts.
    pub sent_cseq: Option<u32>,
    /// Why the subscription has ended (RFC 6665 §4.1.3): its phone gets one last NOTIFY. `None`
    /// while it is live.
    pub ended: Option<Box<str>>,
}

impl Dialog {
    /// Believes a row, after having looked at every value.
    ///
    /// # Errors
    /// [`RowError`] names the first column that no NOTIFY can be made of.
    pub fn from_row(row: &Row) -> Result<Self, RowError> {
        let columns = Columns { row: RowId(row.id) };
        let account = columns
            .required("presentity_uri", row.presentity_uri.as_deref())?
            .parse()
            .map_err(|_| columns.not_a_uri("presentity_uri", row.presentity_uri.as_deref()))?;
        Ok(Self {
            row: columns.row,
            account,
            call_id: columns.word("callid", row.callid.as_deref())?,
            local_tag: columns.word("to_tag", row.to_tag.as_deref())?,
            remote_tag: columns.word("from_tag", row.from_tag.as_deref())?,
            local_uri: columns.address(
                ("to_user", row.to_user.as_deref()),
                ("to_domain", row.to_domain.as_deref()),
            )?,
            remote_uri: columns.address(
                ("watcher_username", row.from_user.as_deref()),
                ("watcher_domain", row.from_domain.as_deref()),
            )?,
            remote_target: columns.uri("contact", row.contact.as_deref())?,
            route_set: columns.routes("record_route", row.record_route.as_deref())?,
            local_contact: columns.uri("local_contact", row.local_contact.as_deref())?,
            event_id: match present(row.event_id.as_deref()) {
                Some(_) => Some(columns.word("event_id", row.event_id.as_deref())?),
                None => None,
            },
            expires: columns.number("expires", row.expires)?,
            remote_cseq: columns.number("remote_cseq", row.remote_cseq.or(Some(0)))?,
            socket_info: match present(row.socket_info.as_deref()) {
                Some(_) => Some(columns.word("socket_info", row.socket_info.as_deref())?),
                None => None,
            },
            sent_cseq: row.sent_cseq.and_then(|cseq| u32::try_from(cseq).ok()),
            ended: match (row.status, present(row.reason.as_deref())) {
                (Some(TERMINATED), Some(_)) => Some(columns.word("reason", row.reason.as_deref())?),
                (Some(TERMINATED), None) => Some("timeout".into()),
                _ => None,
            },
        })
    }

    /// Seconds that the subscription still has at `unix` (Unix seconds), 0 when it has ended.
    #[must_use]
    pub fn remaining(&self, unix: u64) -> u64 {
        self.expires.saturating_sub(unix)
    }

    /// Which dialog this is. A row id may be used again after a table was emptied; a dialog may not.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::of(&self.call_id, &self.local_tag, &self.remote_tag)
    }

    /// In which state its phone's last SUBSCRIBE left it.
    #[must_use]
    pub fn version(&self) -> Version {
        Facts {
            remote_cseq: self.remote_cseq,
            expires: self.expires,
            remote_target: &self.remote_target,
        }
        .version()
    }
}

/// A dialog by its Call-ID and both tags (RFC 3261 §12), as a hash: small enough to keep one for
/// each row of a large table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(u64);

impl Identity {
    /// The dialog with this Call-ID and these tags.
    #[must_use]
    pub fn of(call_id: &str, local_tag: &str, remote_tag: &str) -> Self {
        Self(hash((call_id, local_tag, remote_tag)))
    }
}

/// What a SUBSCRIBE in the dialog changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts<'a> {
    /// CSeq of the phone's last SUBSCRIBE.
    pub remote_cseq: u32,
    /// When the subscription ends, absolute Unix seconds.
    pub expires: u64,
    /// The phone's Contact.
    pub remote_target: &'a str,
}

impl Facts<'_> {
    /// A short form: two are equal when nothing was changed.
    #[must_use]
    pub fn version(&self) -> Version {
        Version(hash((self.remote_cseq, self.expires, self.remote_target)))
    }
}

/// Tells a dialog that was refreshed from one that was not: a hash of its [`Facts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version(u64);

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn present(value: Option<&str>) -> Option<&str> {
    value.filter(|text| !text.is_empty())
}

/// Checks the columns of one row; knows the row's id for the error.
struct Columns {
    row: RowId,
}

impl Columns {
    fn error(&self, column: &'static str, problem: ColumnProblem) -> RowError {
        RowError { row: self.row, column, problem }
    }

    fn not_a_uri(&self, column: &'static str, value: Option<&str>) -> RowError {
        let value = cut(value.unwrap_or_default());
        self.error(column, ColumnProblem::NotAUri { value })
    }

    fn required<'a>(
        &self,
        column: &'static str,
        value: Option<&'a str>,
    ) -> Result<&'a str, RowError> {
        present(value).ok_or_else(|| self.error(column, ColumnProblem::Missing))
    }

    fn fits(&self, column: &'static str, value: &str) -> Result<(), RowError> {
        match value.len() {
            ..=MAX_COLUMN => Ok(()),
            length => Err(self.error(column, ColumnProblem::TooLong { length })),
        }
    }

    fn only(
        &self,
        column: &'static str,
        value: &str,
        allowed: impl Fn(char) -> bool,
    ) -> Result<(), RowError> {
        self.fits(column, value)?;
        match value.chars().find(|&c| !allowed(c)) {
            Some(found) => {
                Err(self.error(column, ColumnProblem::Character { value: cut(value), found }))
            }
            None => Ok(()),
        }
    }

    /// A Call-ID, a tag, a socket: visible ASCII without the marks that end a header parameter.
    fn word(&self, column: &'static str, value: Option<&str>) -> Result<Box<str>, RowError> {
        let value = self.required(column, value)?;
        self.only(column, value, |c| c.is_ascii_graphic() && !matches!(c, ',' | ';' | '"'))?;
        Ok(value.into())
    }

    fn address(
        &self,
        (user_column, user): (&'static str, Option<&str>),
        (domain_column, domain): (&'static str, Option<&str>),
    ) -> Result<Box<str>, RowError> {
        let domain = self.required(domain_column, domain)?;
        self.only(domain_column, domain, is_host_char)?;
        let Some(user) = present(user) else { return Ok(["sip:", domain].concat().into()) };
        self.only(user_column, user, is_user_char)?;
        Ok(["sip:", user, "@", domain].concat().into())
    }

    /// A SIP or SIPS URI, bare or in angle brackets.
    fn uri(&self, column: &'static str, value: Option<&str>) -> Result<Box<str>, RowError> {
        let value = self.required(column, value)?;
        let bare = value.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(value);
        self.only(column, bare, is_uri_char)?;
        if !is_sip_uri(bare) {
            return Err(self.not_a_uri(column, Some(value)));
        }
        Ok(bare.into())
    }

    fn routes(&self, column: &'static str, value: Option<&str>) -> Result<Vec<Box<str>>, RowError> {
        let Some(value) = present(value) else { return Ok(Vec::new()) };
        self.fits(column, value)?;
        split_text(value, b',')
            .filter(|entry| !entry.is_empty())
            .map(|entry| {
                self.only(column, entry, |c| c.is_ascii_graphic() || c == ' ')?;
                match entry.split_once('<').and_then(|(_, rest)| rest.split_once('>')) {
                    Some((uri, _)) if is_sip_uri(uri) && uri.chars().all(is_uri_char) => {
                        Ok(entry.into())
                    }
                    _ => Err(self.not_a_uri(column, Some(entry))),
                }
            })
            .collect()
    }

    fn number<T: TryFrom<i64>>(
        &self,
        column: &'static str,
        value: Option<i64>,
    ) -> Result<T, RowError> {
        let value = value.ok_or_else(|| self.error(column, ColumnProblem::Missing))?;
        T::try_from(value).map_err(|_| self.error(column, ColumnProblem::Range { value }))
    }
}

/// What may stand in a URI: visible ASCII but for the marks that would end it.
fn is_uri_char(c: char) -> bool {
    c.is_ascii_graphic() && !matches!(c, '<' | '>' | '"' | '\\' | '^' | '`' | '{' | '|' | '}')
}

fn is_sip_uri(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once(':') else { return false };
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    (scheme.eq_ignore_ascii_case("sip") || scheme.eq_ignore_ascii_case("sips"))
        && host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
}

/// At most 80 characters of a hostile value, for an error text.
fn cut(value: &str) -> String {
    value.chars().take(80).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A row as Kamailio 5.6 wrote it for a phone behind it.
    pub(crate) fn row() -> Row {
        let text = |value: &str| Some(value.to_owned());
        Row {
            id: 7,
            presentity_uri: text("sip:202@example.com"),
            from_user: text("202"),
            from_domain: text("example.com"),
            to_user: text("202"),
            to_domain: text("example.com"),
            to_tag: text("944cfec2ae51664c1f4ff1ec5d501247-9753"),
            from_tag: text("B22C69FD-D3E2550A"),
            callid: text("3c26700857a6-xyz@192.0.2.7"),
            local_cseq: Some(3),
            remote_cseq: Some(2),
            contact: text("sip:202@192.0.2.7:5062;transport=udp"),
            record_route: text("<sip:192.0.2.1;lr=on;ftag=B22C>, <sip:[2001:db8::1]:5060;lr>"),
            expires: Some(1_795_000_000),
            event_id: None,
            local_contact: text("sip:192.0.2.1:5060"),
            socket_info: text("udp:192.0.2.1:5060"),
            status: Some(1),
            ..Row::default()
        }
    }

    fn problem(change: impl FnOnce(&mut Row)) -> (&'static str, ColumnProblem) {
        let mut row = row();
        change(&mut row);
        let error = Dialog::from_row(&row).unwrap_err();
        (error.column, error.problem)
    }

    #[test]
    fn the_phone_is_remote_and_the_server_is_local() {
        let dialog = Dialog::from_row(&row()).unwrap();
        assert_eq!(&*dialog.local_tag, "944cfec2ae51664c1f4ff1ec5d501247-9753");
        assert_eq!(&*dialog.remote_tag, "B22C69FD-D3E2550A");
        assert_eq!(dialog.route_set.len(), 2);
        assert_eq!(dialog.remaining(1_794_999_990), 10);
        assert_eq!(dialog.remaining(1_795_000_001), 0);
    }

    #[test]
    fn rfc3261_8_1_1_5_a_cseq_is_below_2_to_the_31() {
        assert_eq!(MAX_CSEQ, 2_147_483_647);
    }

    #[test]
    fn rfc6665_4_1_3_a_terminated_row_says_why_it_ended() {
        let ended = |status, reason: Option<&str>| {
            let row = Row { status: Some(status), reason: reason.map(str::to_owned), ..row() };
            Dialog::from_row(&row).unwrap().ended.map(|word| word.to_string())
        };
        assert_eq!(ended(TERMINATED, Some("deactivated")).as_deref(), Some("deactivated"));
        assert_eq!(ended(TERMINATED, None).as_deref(), Some("timeout"));
        assert_eq!(ended(1, Some("deactivated")), None);
        let bad = |row: &mut Row| {
            (row.status, row.reason) = (Some(TERMINATED), Some("no\r\nresource".to_owned()));
        };
        assert_eq!(problem(bad).0, "reason");
    }

    #[test]
    fn null_and_empty_columns_are_named() {
        assert_eq!(problem(|row| row.callid = None), ("callid", ColumnProblem::Missing));
        assert_eq!(problem(|row| row.contact = Some(String::new())).0, "contact");
        assert_eq!(problem(|row| row.expires = None).0, "expires");
        let mut without_route = row();
        without_route.record_route = None;
        without_route.event_id = Some(String::new());
        without_route.socket_info = None;
        let dialog = Dialog::from_row(&without_route).unwrap();
        assert!(dialog.route_set.is_empty() && dialog.event_id.is_none());
    }

    #[test]
    fn header_injection_through_any_column_is_refused() {
        let evil = Some("sip:202@192.0.2.7\r\nVia: SIP/2.0/UDP evil".to_owned());
        for set in [
            (|row, v| row.contact = v) as fn(&mut Row, Option<String>),
            |row, v| row.local_contact = v,
            |row, v| row.record_route = v,
            |row, v| row.callid = v,
            |row, v| row.to_tag = v,
            |row, v| row.from_tag = v,
            |row, v| row.to_user = v,
            |row, v| row.from_domain = v,
            |row, v| row.event_id = v,
            |row, v| row.presentity_uri = v,
        ] {
            let mut row = row();
            set(&mut row, evil.clone());
            assert!(Dialog::from_row(&row).is_err(), "{row:?} was believed");
        }
    }

    #[test]
    fn a_contact_that_is_no_uri_is_refused() {
        for bad in ["202", "*", "http://x", "sip:", "tel:+1", "sip:a@b c", "\"x\" <sip:a@b>"] {
            let (column, _) = problem(|row| row.contact = Some(bad.to_owned()));
            assert_eq!(column, "contact", "{bad:?}");
        }
        let (_, named) = problem(|row| row.contact = Some("tel:+1".to_owned()));
        assert_eq!(named, ColumnProblem::NotAUri { value: "tel:+1".to_owned() });
        let mut bracketed = row();
        bracketed.contact = Some("<sip:202@[2001:db8::7]:5062;gr=urn:uuid:1>".to_owned());
        let dialog = Dialog::from_row(&bracketed).unwrap();
        assert_eq!(&*dialog.remote_target, "sip:202@[2001:db8::7]:5062;gr=urn:uuid:1");
    }

    /// What stood behind an empty entry was lost, and the NOTIFY took a shorter way.
    #[test]
    fn rfc3261_7_3_1_a_route_set_is_split_at_its_commas_and_nowhere_else() {
        let routes = |value: &str| {
            let mut row = row();
            row.record_route = Some(value.to_owned());
            Dialog::from_row(&row).map(|dialog| dialog.route_set)
        };
        let (one, two) = ("\"a \\\", b\" <sip:x,y@192.0.2.1;lr>", "<sip:192.0.2.2;lr>;z=\"<,\"");
        for value in [format!("{one},{two}"), format!(" {one} ,, {two} ,")] {
            assert_eq!(routes(&value).unwrap(), [one.into(), two.into()], "{value}");
        }
        assert_eq!(
            routes("<sip:192.0.2.2;x=\"a,b\">").map(drop).unwrap_err().column,
            "record_route"
        );
        assert_eq!(routes(" , ").unwrap(), []);
    }

    /// A route set of 70,000 bytes made a datagram that no socket takes, and its proxy was thought
    /// to be unreachable for everybody.
    #[test]
    fn a_value_that_fits_into_no_datagram_is_refused() {
        let long = || Some(format!("<sip:{}@192.0.2.1;lr>", "a".repeat(MAX_COLUMN)));
        for set in [
            (|row, v| row.contact = v) as fn(&mut Row, Option<String>),
            |row, v| row.local_contact = v,
            |row, v| row.record_route = v,
        ] {
            let (_, problem) = problem(|row| set(row, long()));
            assert!(matches!(problem, ColumnProblem::TooLong { .. }), "{problem:?}");
        }
        let routes = "<sip:192.0.2.1;lr>,".repeat(MAX_COLUMN / 10);
        let (column, _) = problem(|row| row.record_route = Some(routes));
        assert_eq!(column, "record_route");
        let (column, _) = problem(|row| row.callid = Some("a".repeat(MAX_COLUMN + 1)));
        assert_eq!(column, "callid");
    }

    #[test]
    fn numbers_outside_their_range_are_refused() {
        assert_eq!(
            problem(|row| row.expires = Some(-1)),
            ("expires", ColumnProblem::Range { value: -1 })
        );
        assert_eq!(problem(|row| row.remote_cseq = Some(-5)).0, "remote_cseq");
    }

    #[test]
    fn each_flavour_counts_in_its_own_way() {
        // OpenSIPS: first NOTIFY wire 1, row 1. Kamailio: first NOTIFY wire 1, row 0.
        assert_eq!((Flavour::OpenSips.wire(1), Flavour::Kamailio.wire(0)), (1, 1));
        for flavour in [Flavour::OpenSips, Flavour::Kamailio] {
            assert_eq!(flavour.wire(flavour.row(77)), 77);
        }
    }

    proptest! {
        #[test]
        fn no_believed_row_holds_a_control_character(
            contact in any::<String>(), route in any::<String>(), call_id in any::<String>()
        ) {
            let mut row = row();
            row.contact = Some(contact);
            row.record_route = Some(route);
            row.callid = Some(call_id);
            if let Ok(dialog) = Dialog::from_row(&row) {
                let all = format!("{}{}{}", dialog.remote_target, dialog.call_id, dialog.route_set.concat());
                prop_assert!(!all.chars().any(char::is_control));
            }
        }
    }
}
