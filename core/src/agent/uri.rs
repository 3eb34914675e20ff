//! A SIP URI looked at, never rewritten: its user and its host (RFC 3261 §19.1.1).

use crate::mailbox::Account;

/// The parts of a `sip:` URI that say whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SipUri<'a> {
    /// The user, without its password; `None` without one.
    pub(super) user: Option<&'a str>,
    /// The host, without its port; an IPv6 reference keeps its brackets.
    pub(super) host: &'a str,
    /// The host, and the port if there is one.
    pub(super) authority: &'a str,
}

impl<'a> SipUri<'a> {
    /// Reads `sip:user:password@host:port;params?headers`; `None` for any other scheme, or without
    /// a host.
    pub(super) fn read(uri: &'a str) -> Option<Self> {
        let (scheme, rest) = uri.split_once(':')?;
        if !scheme.eq_ignore_ascii_case("sip") {
            return None;
        }
        // A user may hold `;` and `?`, a host may not; behind the host there may be another `@`.
        let (user, rest) = match rest.split_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        let user = user.map(|user| user.split_once(':').map_or(user, |(user, _)| user));
        let end = rest.find([';', '?']).unwrap_or(rest.len());
        let authority = &rest[..end];
        let host = without_port(authority);
        (!host.is_empty()).then_some(Self { user, host, authority })
    }

    /// The address of record: the domain in lower case, since it means the same in any case.
    pub(super) fn account(self) -> Option<Account> {
        Account::new(self.user?, &self.host.to_ascii_lowercase()).ok()
    }
}

/// `host` of `host:port`; an IPv6 reference keeps its brackets.
pub(super) fn without_port(authority: &str) -> &str {
    match authority.rfind(']') {
        Some(end) => &authority[..=end],
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    }
}

/// The URI of `"Name" <uri>;params` or of `uri;params` (RFC 3261 §20.10): without angle brackets
/// everything behind a `;` is the header's. Nothing when quotes or brackets are not closed: a tag that
/// is added to such a value would not be read as one.
pub(super) fn uri_of(value: &str) -> &str {
    let quoted = value.trim_start();
    let behind_name = match quoted.strip_prefix('"') {
        Some(rest) => end_of_quotes(rest),
        None => quoted,
    };
    match behind_name.split_once('<') {
        Some((_, rest)) => rest.split_once('>').map_or("", |(uri, _)| uri),
        None => behind_name.split_once(';').map_or(behind_name, |(uri, _)| uri).trim(),
    }
}

/// What follows the closing quote; nothing when there is none.
fn end_of_quotes(text: &str) -> &str {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return &text[at + 1..],
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn user_and_host_are_found_between_everything_else() {
        let read = |uri| SipUri::read(uri).map(|uri| (uri.user, uri.host));
        assert_eq!(read("sip:202@example.com"), Some((Some("202"), "example.com")));
        assert_eq!(read("SIP:202:pw@pbx.org:5070;a=b?c=d"), Some((Some("202"), "pbx.org")));
        assert_eq!(read("sip:a;b?c@host;d@e"), Some((Some("a;b?c"), "host")));
        assert_eq!(read("sip:[2001:db8::1]:5060"), Some((None, "[2001:db8::1]")));
        assert_eq!(read("sip:host"), Some((None, "host")));
        assert_eq!(read("tel:+4930"), None);
        assert_eq!(read("sips:a@b"), None);
        assert_eq!(read("sip:a@"), None);
    }

    #[test]
    fn a_name_addr_gives_its_uri() {
        assert_eq!(uri_of("<sip:a@b;lr>;tag=1"), "sip:a@b;lr");
        assert_eq!(uri_of("\"<sip:no@no>\\\"\" <sip:a@b>"), "sip:a@b");
        assert_eq!(uri_of("Bob <sip:a@b>"), "sip:a@b");
        assert_eq!(uri_of("sip:a@b;tag=1"), "sip:a@b");
        assert_eq!(uri_of("\"never closed <sip:a@b>"), "");
        assert_eq!(uri_of("<sip:a@b;tag=1"), "");
    }

    #[test]
    fn a_domain_means_the_same_in_any_case() {
        let account = SipUri::read("sip:202@Example.COM").and_then(SipUri::account);
        assert_eq!(account.map(|it| it.to_string()).as_deref(), Some("sip:202@example.com"));
        assert_eq!(SipUri::read("sip:a b@c").and_then(SipUri::account), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            SipUri::read(&text).and_then(SipUri::account);
            SipUri::read(&format!("sip:{text}")).and_then(SipUri::account);
            uri_of(&text);
        }
    }
}
