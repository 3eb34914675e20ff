//! The bytes of an in-dialog NOTIFY (RFC 6665 §4.2.2, RFC 3842 §3, RFC 3261 §12.2.1.1).

use std::time::{Duration, UNIX_EPOCH};

use crate::dialog::Dialog;
use crate::mailbox::Account;
use crate::summary::Summary;
use crate::text::put;

/// What a NOTIFY is addressed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestUri {
    /// The row's `contact`, as RFC 3261 §12.2.1.1 wants it.
    #[default]
    Contact,
    /// The watcher's address of record, as res_zonkey_mwi did it, for a script that looks it up.
    Aor,
}

/// Which Route header a NOTIFY carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Route {
    /// The row's route set, the proxy in front.
    #[default]
    Auto,
    /// None, as res_zonkey_mwi did it.
    None,
}

/// What all NOTIFYs of one mwid have in common.
///
/// Invariant, kept by the configuration: no value holds a control character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notifier {
    /// User-Agent.
    pub user_agent: String,
    /// Makes Contact `<sip:contact_user@our host>` instead of the row's `local_contact`.
    pub contact_user: Option<String>,
    /// The user in Message-Account instead of the account's own.
    pub voicemail: Option<String>,
    /// What a NOTIFY is addressed to.
    pub request_uri: RequestUri,
    /// Which Route header it carries.
    pub route: Route,
}

/// Where a NOTIFY goes first, and where we are, seen from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// `host:port` of the proxy, as it is configured.
    pub authority: String,
    /// `address:port` of the proxy, as it was resolved.
    pub resolved: String,
    /// Our own host, for Via and, with `contact_user`, for Contact.
    pub host: String,
    /// Our own port, for Via.
    pub port: u16,
}

/// One NOTIFY: a summary for one dialog, through one proxy, in one transaction.
#[derive(Clone, Copy, Debug)]
pub struct Notify<'a> {
    /// The subscription.
    pub dialog: &'a Dialog,
    /// Whose messages are counted; differs from the dialog's own when rows are found by watcher.
    pub account: &'a Account,
    /// The counts; without them the body is empty (RFC 6665 §4.2.1.2): nobody knows them yet.
    pub summary: Option<Summary>,
    /// CSeq number, claimed for this NOTIFY alone.
    pub cseq: u32,
    /// Via branch, new for every transaction (RFC 3261 §8.1.1.7).
    pub branch: &'a str,
    /// The first hop.
    pub hop: &'a Hop,
    /// Now, in Unix seconds: for Date and for what remains of the subscription.
    pub unix: u64,
    /// Whole `Authorization: …` and `Proxy-Authorization: …` lines without their CRLF.
    pub authorization: &'a [String],
}

impl Notify<'_> {
    /// Writes the message to the end of `out`.
    pub fn write(&self, notifier: &Notifier, out: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(128);
        if let Some(summary) = self.summary {
            summary.write_body(&mut body, self.account, notifier.voicemail.as_deref());
        }
        self.write_around(notifier, &body, out);
    }

    /// The Request-URI as it stands in the start line.
    #[must_use]
    pub fn request_uri(&self, notifier: &Notifier) -> &str {
        self.path(notifier).request_uri
    }

    fn write_around(&self, notifier: &Notifier, body: &[u8], out: &mut Vec<u8>) {
        let (dialog, path) = (self.dialog, self.path(notifier));
        let Hop { host, port, .. } = self.hop;
        put!(out, "NOTIFY ", path.request_uri, " SIP/2.0\r\n");
        put!(out, "Via: SIP/2.0/UDP ", host, ":", port, ";branch=", self.branch, ";rport\r\n");
        path.write_routes(out);
        put!(out, "Max-Forwards: 70\r\n");
        put!(out, "From: <", dialog.local_uri, ">;tag=", dialog.local_tag, "\r\n");
        put!(out, "To: <", dialog.remote_uri, ">;tag=", dialog.remote_tag, "\r\n");
        put!(out, "Call-ID: ", dialog.call_id, "\r\n");
        put!(out, "CSeq: ", self.cseq, " NOTIFY\r\n");
        match &notifier.contact_user {
            Some(user) => put!(out, "Contact: <sip:", user, "@", host, ">\r\n"),
            None => put!(out, "Contact: <", dialog.local_contact, ">\r\n"),
        }
        match &dialog.event_id {
            Some(id) => put!(out, "Event: message-summary;id=", id, "\r\n"),
            None => put!(out, "Event: message-summary\r\n"),
        }
        match &dialog.ended {
            Some(reason) => put!(out, "Subscription-State: terminated;reason=", reason, "\r\n"),
            None => {
                // RFC 3261 §20.19: a number of seconds has at most 32 bits.
                let remaining = dialog.remaining(self.unix).min(u32::MAX.into());
                put!(out, "Subscription-State: active;expires=", remaining, "\r\n");
            }
        }
        write_end(out, notifier, self.unix, self.authorization, body);
    }

    /// The Request-URI and the Route entries (RFC 3261 §12.2.1.1, §8.1.2).
    ///
    /// The proxy stands in front as a loose router, so a strict router can only be first when the
    /// first entry already is the proxy: then it takes the place of the Request-URI, and the
    /// remote target goes to the end of the route.
    ///
    /// It stands there by the address that it listens at, not by the configured name: a proxy
    /// relays to a name that it does not know as its own, and so to itself.
    fn path(&self, notifier: &Notifier) -> Path<'_> {
        let target = match notifier.request_uri {
            RequestUri::Contact => &*self.dialog.remote_target,
            RequestUri::Aor => &*self.dialog.remote_uri,
        };
        let direct = Path { request_uri: target, proxy: None, route_set: &[], last: None };
        if notifier.route == Route::None {
            return direct;
        }
        let route_set = self.dialog.route_set.as_slice();
        match route_set.first().filter(|first| self.is_proxy(first)) {
            None => Path { proxy: Some(&self.hop.resolved), route_set, ..direct },
            Some(first) if is_loose(first) => Path { route_set, ..direct },
            Some(first) => Path {
                request_uri: route_uri(first),
                proxy: None,
                route_set: &route_set[1..],
                last: Some(target),
            },
        }
    }

    fn is_proxy(&self, entry: &str) -> bool {
        let host_port = host_port(route_uri(entry));
        [&self.hop.authority, &self.hop.resolved].iter().any(|hop| same_authority(hop, host_port))
    }
}

struct Path<'a> {
    request_uri: &'a str,
    proxy: Option<&'a str>,
    route_set: &'a [Box<str>],
    last: Option<&'a str>,
}

impl Path<'_> {
    fn write_routes(&self, out: &mut Vec<u8>) {
        if let Some(proxy) = self.proxy {
            put!(out, "Route: <sip:", proxy, ";lr>\r\n");
        }
        for entry in self.route_set {
            put!(out, "Route: ", entry, "\r\n");
        }
        if let Some(target) = self.last {
            put!(out, "Route: <", target, ">\r\n");
        }
    }
}

/// The headers that NOTIFY and PUBLISH have in common, and the body.
pub(crate) fn write_end(
    out: &mut Vec<u8>,
    notifier: &Notifier,
    unix: u64,
    authorization: &[String],
    body: &[u8],
) {
    put!(out, "User-Agent: ", notifier.user_agent, "\r\n");
    put!(out, "Date: ", date(unix), "\r\n");
    for line in authorization {
        put!(out, line, "\r\n");
    }
    if !body.is_empty() {
        put!(out, "Content-Type: application/simple-message-summary\r\n");
    }
    put!(out, "Content-Length: ", body.len(), "\r\n\r\n");
    out.extend_from_slice(body);
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 3261 §20.17). Years past 9999 have no such form.
fn date(unix: u64) -> String {
    const YEAR_9999: u64 = 253_402_300_799;
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(unix.min(YEAR_9999)))
}

/// The URI between the angle brackets of a route entry.
#[must_use]
pub fn route_uri(entry: &str) -> &str {
    let inner = entry.split_once('<').map_or(entry, |(_, rest)| rest);
    inner.split_once('>').map_or(inner, |(uri, _)| uri)
}

/// Whether the URI of a route entry has the `lr` parameter, with or without a value.
fn is_loose(entry: &str) -> bool {
    let parameters = route_uri(entry).split(';').skip(1);
    parameters
        .map(|parameter| parameter.split('=').next().unwrap_or_default())
        .any(|name| name.eq_ignore_ascii_case("lr"))
}

/// `host:port` of `sip:user@host:port;parameters?headers`.
fn host_port(uri: &str) -> &str {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    rest.split([';', '?']).next().unwrap_or_default()
}

/// Whether two `host[:port]` are the same, 5060 being the port that may be left out.
fn same_authority(a: &str, b: &str) -> bool {
    let [a, b] = [a, b].map(|text| text.strip_suffix(":5060").unwrap_or(text));
    a.eq_ignore_ascii_case(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialog::Row;

    fn dialog(record_route: Option<&str>) -> Dialog {
        let text = |value: &str| Some(value.to_owned());
        Dialog::from_row(&Row {
            id: 1,
            presentity_uri: text("sip:202@example.com"),
            from_user: text("202"),
            from_domain: text("example.com"),
            to_user: text("202"),
            to_domain: text("example.com"),
            to_tag: text("server"),
            from_tag: text("phone"),
            callid: text("call@192.0.2.7"),
            local_cseq: Some(3),
            remote_cseq: Some(2),
            contact: text("sip:202@192.0.2.7:5062;transport=udp"),
            record_route: record_route.map(str::to_owned),
            expires: Some(1_795_003_600),
            event_id: None,
            local_contact: text("sip:192.0.2.1:5060"),
            socket_info: None,
            ..Row::default()
        })
        .unwrap()
    }

    fn notifier() -> Notifier {
        Notifier {
            user_agent: "mwid/0.1.0".into(),
            contact_user: None,
            voicemail: Some("*97".into()),
            request_uri: RequestUri::Contact,
            route: Route::Auto,
        }
    }

    fn bytes(dialog: &Dialog, notifier: &Notifier) -> String {
        let summary = Summary { new: 3, old: 5, new_urgent: 1, old_urgent: 0 };
        bytes_with(dialog, notifier, Some(summary))
    }

    fn bytes_with(dialog: &Dialog, notifier: &Notifier, summary: Option<Summary>) -> String {
        let notify = Notify {
            dialog,
            account: &dialog.account,
            summary,
            cseq: 150,
            branch: "z9hG4bK0123456789abcdef",
            hop: &Hop {
                authority: "proxy.example.com:5060".into(),
                resolved: "192.0.2.1:5060".into(),
                host: "192.0.2.9".into(),
                port: 40000,
            },
            unix: 1_795_000_000,
            authorization: &[],
        };
        let mut out = Vec::new();
        notify.write(notifier, &mut out);
        let text = String::from_utf8(out).unwrap();
        let start = format!("NOTIFY {} SIP/2.0\r\n", notify.request_uri(notifier));
        assert!(text.starts_with(&start), "{start}");
        text
    }

    fn lines<'a>(message: &'a str, name: &str) -> Vec<&'a str> {
        message.lines().filter(|line| line.starts_with(name)).collect()
    }

    #[test]
    fn golden_notify() {
        let expected = "NOTIFY sip:202@192.0.2.7:5062;transport=udp SIP/2.0\r\n\
            Via: SIP/2.0/UDP 192.0.2.9:40000;branch=z9hG4bK0123456789abcdef;rport\r\n\
            Route: <sip:192.0.2.1:5060;lr>\r\n\
            Max-Forwards: 70\r\n\
            From: <sip:202@example.com>;tag=server\r\n\
            To: <sip:202@example.com>;tag=phone\r\n\
            Call-ID: call@192.0.2.7\r\n\
            CSeq: 150 NOTIFY\r\n\
            Contact: <sip:192.0.2.1:5060>\r\n\
            Event: message-summary\r\n\
            Subscription-State: active;expires=3600\r\n\
            User-Agent: mwid/0.1.0\r\n\
            Date: Wed, 18 Nov 2026 11:06:40 GMT\r\n\
            Content-Type: application/simple-message-summary\r\n\
            Content-Length: 87\r\n\
            \r\n\
            Messages-Waiting: yes\r\n\
            Message-Account: sip:*97@example.com\r\n\
            Voice-Message: 3/5 (1/0)\r\n";
        assert_eq!(bytes(&dialog(None), &notifier()), expected);
    }

    #[test]
    fn rfc6665_4_2_1_2_without_a_known_state_the_body_is_empty() {
        let text = bytes_with(&dialog(None), &notifier(), None);
        assert_eq!(lines(&text, "Content-"), ["Content-Length: 0"]);
        assert!(text.ends_with("\r\n\r\n"));
    }

    #[test]
    fn rfc6665_4_1_3_the_last_notify_says_why_the_subscription_has_ended() {
        let ended = Dialog { ended: Some("timeout".into()), ..dialog(None) };
        let text = bytes(&ended, &notifier());
        let state = lines(&text, "Subscription-State");
        assert_eq!(state, ["Subscription-State: terminated;reason=timeout"]);
        assert!(text.ends_with("Voice-Message: 3/5 (1/0)\r\n"), "the state once more");
    }

    #[test]
    fn golden_notify_in_the_shape_of_res_zonkey_mwi() {
        let notifier = Notifier {
            contact_user: Some("voicemail-user".into()),
            user_agent: "Asterisk Media Server01".into(),
            request_uri: RequestUri::Aor,
            route: Route::None,
            ..notifier()
        };
        let mut dialog = dialog(Some("<sip:192.0.2.1;lr>"));
        dialog.event_id = Some("7".into());
        let expected = "NOTIFY sip:202@example.com SIP/2.0\r\n\
            Via: SIP/2.0/UDP 192.0.2.9:40000;branch=z9hG4bK0123456789abcdef;rport\r\n\
            Max-Forwards: 70\r\n\
            From: <sip:202@example.com>;tag=server\r\n\
            To: <sip:202@example.com>;tag=phone\r\n\
            Call-ID: call@192.0.2.7\r\n\
            CSeq: 150 NOTIFY\r\n\
            Contact: <sip:voicemail-user@192.0.2.9>\r\n\
            Event: message-summary;id=7\r\n\
            Subscription-State: active;expires=3600\r\n\
            User-Agent: Asterisk Media Server01\r\n\
            Date: Wed, 18 Nov 2026 11:06:40 GMT\r\n\
            Content-Type: application/simple-message-summary\r\n\
            Content-Length: 87\r\n\
            \r\n\
            Messages-Waiting: yes\r\n\
            Message-Account: sip:*97@example.com\r\n\
            Voice-Message: 3/5 (1/0)\r\n";
        assert_eq!(bytes(&dialog, &notifier), expected);
    }

    #[test]
    fn the_proxy_is_not_put_in_front_of_itself() {
        for first in [
            "<sip:192.0.2.1;lr=on;ftag=x>",
            "<sip:Proxy.Example.com:5060;lr>",
            "<sip:user@192.0.2.1:5060;transport=udp;LR>",
        ] {
            let message = bytes(&dialog(Some(&format!("{first},<sip:192.0.2.2;lr>"))), &notifier());
            let expected = [format!("Route: {first}"), "Route: <sip:192.0.2.2;lr>".to_owned()];
            assert_eq!(lines(&message, "Route:"), expected);
        }
    }

    #[test]
    fn the_proxy_stands_in_front_by_its_address_not_by_its_name() {
        let message = bytes(&dialog(None), &notifier());
        assert_eq!(lines(&message, "Route:"), ["Route: <sip:192.0.2.1:5060;lr>"]);
    }

    #[test]
    fn another_proxy_of_the_route_comes_after_ours() {
        let message = bytes(&dialog(Some("<sip:192.0.2.1:5080;lr>")), &notifier());
        assert_eq!(
            lines(&message, "Route:"),
            ["Route: <sip:192.0.2.1:5060;lr>", "Route: <sip:192.0.2.1:5080;lr>"]
        );
    }

    #[test]
    fn rfc3261_12_2_1_1_strict_router() {
        let message = bytes(&dialog(Some("<sip:192.0.2.1>,<sip:192.0.2.2;lr>")), &notifier());
        assert!(message.starts_with("NOTIFY sip:192.0.2.1 SIP/2.0\r\n"));
        assert_eq!(
            lines(&message, "Route:"),
            ["Route: <sip:192.0.2.2;lr>", "Route: <sip:202@192.0.2.7:5062;transport=udp>"]
        );
    }

    #[test]
    fn a_subscription_that_never_ends_has_a_date_all_the_same() {
        assert_eq!(date(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
        let mut dialog = dialog(None);
        dialog.expires = 1 << 62;
        let message = bytes(&dialog, &notifier());
        let state = "Subscription-State: active;expires=4294967295";
        assert_eq!(lines(&message, "Subscription-State"), [state]);
    }
}
