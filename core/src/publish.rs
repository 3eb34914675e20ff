//! The bytes of a PUBLISH (RFC 3903 §4, RFC 3261 §8.1.1).

use crate::mailbox::Account;
use crate::notify::{Hop, Notifier, write_end};
use crate::publication::{ETag, Wish};
use crate::text::put;

/// One PUBLISH: a step of one publication, in one transaction.
///
/// It is sent outside of any dialog, and each is a call of its own: From tag and Call-ID come from
/// the branch, which is another in every transaction and cannot be guessed.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    /// Whose state: the Request-URI, From and To.
    pub account: &'a Account,
    /// What it is to become.
    pub wish: Wish,
    /// What the server called it last (SIP-If-Match).
    pub etag: Option<&'a ETag>,
    /// How long the server is asked to keep it, in seconds; 0 to remove it (RFC 3903 §4.5).
    pub expires: u32,
    /// CSeq number.
    pub cseq: u32,
    /// Via branch, new for every transaction (RFC 3261 §8.1.1.7).
    pub branch: &'a str,
    /// The first hop.
    pub hop: &'a Hop,
    /// Now, in Unix seconds.
    pub unix: u64,
    /// Whole `Authorization: …` and `Proxy-Authorization: …` lines without their CRLF.
    pub authorization: &'a [String],
}

impl Publish<'_> {
    /// Writes the message to the end of `out`.
    pub fn write(&self, notifier: &Notifier, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        if let Wish::State(summary) = self.wish {
            summary.write_body(&mut body, self.account, notifier.voicemail.as_deref());
        }
        self.write_around(notifier, &body, out);
    }

    fn write_around(&self, notifier: &Notifier, body: &[u8], out: &mut Vec<u8>) {
        let Hop { host, port, .. } = self.hop;
        let (account, branch) = (self.account.as_str(), self.branch);
        let id = branch.strip_prefix("z9hG4bK").unwrap_or(branch);
        put!(out, "PUBLISH ", account, " SIP/2.0\r\n");
        put!(out, "Via: SIP/2.0/UDP ", host, ":", port, ";branch=", branch, ";rport\r\n");
        put!(out, "Max-Forwards: 70\r\n");
        put!(out, "From: <", account, ">;tag=", id, "\r\n");
        put!(out, "To: <", account, ">\r\n");
        put!(out, "Call-ID: ", id, "@", host, "\r\n");
        put!(out, "CSeq: ", self.cseq, " PUBLISH\r\n");
        put!(out, "Event: message-summary\r\n");
        put!(out, "Expires: ", self.expires, "\r\n");
        if let Some(etag) = self.etag {
            put!(out, "SIP-If-Match: ", etag.as_str(), "\r\n");
        }
        write_end(out, notifier, self.unix, self.authorization, body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::{RequestUri, Route};
    use crate::summary::Summary;

    const SUMMARY: Summary = Summary { new: 3, old: 5, new_urgent: 1, old_urgent: 0 };

    fn bytes(wish: Wish, etag: Option<&str>, expires: u32) -> String {
        let notifier = Notifier {
            user_agent: "mwid/0.1.0".into(),
            contact_user: None,
            voicemail: Some("*97".into()),
            request_uri: RequestUri::Contact,
            route: Route::Auto,
        };
        let hop = Hop {
            authority: "proxy.example.com:5060".into(),
            resolved: "192.0.2.1:5060".into(),
            host: "192.0.2.9".into(),
            port: 40000,
        };
        let etag = etag.map(|etag| ETag::new(etag).unwrap());
        let publish = Publish {
            account: &"202@example.com".parse().unwrap(),
            wish,
            etag: etag.as_ref(),
            expires,
            cseq: 7,
            branch: "z9hG4bK0123456789abcdef",
            hop: &hop,
            unix: 1_795_000_000,
            authorization: &[],
        };
        let mut out = Vec::new();
        publish.write(&notifier, &mut out);
        String::from_utf8(out).unwrap()
    }

    const HEAD: &str = "PUBLISH sip:202@example.com SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.9:40000;branch=z9hG4bK0123456789abcdef;rport\r\n\
        Max-Forwards: 70\r\n\
        From: <sip:202@example.com>;tag=0123456789abcdef\r\n\
        To: <sip:202@example.com>\r\n\
        Call-ID: 0123456789abcdef@192.0.2.9\r\n\
        CSeq: 7 PUBLISH\r\n\
        Event: message-summary\r\n";

    const TAIL: &str = "User-Agent: mwid/0.1.0\r\n\
        Date: Wed, 18 Nov 2026 11:06:40 GMT\r\n";

    const BODY: &str = "Content-Type: application/simple-message-summary\r\n\
        Content-Length: 87\r\n\
        \r\n\
        Messages-Waiting: yes\r\n\
        Message-Account: sip:*97@example.com\r\n\
        Voice-Message: 3/5 (1/0)\r\n";

    const EMPTY: &str = "Content-Length: 0\r\n\r\n";

    #[test]
    fn rfc3903_4_2_an_initial_publication_has_a_body_and_no_entity_tag() {
        let expected = format!("{HEAD}Expires: 60\r\n{TAIL}{BODY}");
        assert_eq!(bytes(Wish::State(SUMMARY), None, 60), expected);
    }

    #[test]
    fn rfc3903_4_4_a_modification_has_a_body_and_the_entity_tag() {
        let expected = format!("{HEAD}Expires: 60\r\nSIP-If-Match: a.1.2\r\n{TAIL}{BODY}");
        assert_eq!(bytes(Wish::State(SUMMARY), Some("a.1.2"), 60), expected);
    }

    #[test]
    fn rfc3903_4_3_a_refresh_has_no_body() {
        let expected = format!("{HEAD}Expires: 3600\r\nSIP-If-Match: a.1.2\r\n{TAIL}{EMPTY}");
        assert_eq!(bytes(Wish::Refresh(SUMMARY), Some("a.1.2"), 3600), expected);
    }

    #[test]
    fn rfc3903_4_5_a_removal_expires_at_once() {
        let expected = format!("{HEAD}Expires: 0\r\nSIP-If-Match: a.1.2\r\n{TAIL}{EMPTY}");
        assert_eq!(bytes(Wish::Remove, Some("a.1.2"), 0), expected);
    }
}
