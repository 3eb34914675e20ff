//! To a sipXpublisher: the status update notice of its MwiPlugin, as voicemail systems of sipX send
//! it: a GET of `StatusEvent.cgi?identity=user@domain` with the new state as its body.

use hyper::Method;
use mwid_core::mailbox::Account;
use mwid_core::publication::{Order, Outcome, Wish};
use mwid_core::summary::Summary;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::pua::CONTENT_TYPE;
use super::{Published, cut};
use crate::config::{Sipx as Settings, SipxBody, SipxMethod};
use crate::http_client::{Ask, ClientError, HttpClient};

/// What stands as it is in a query: RFC 3986's `unreserved`, and the `@` that every identity has.
const IDENTITY: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@');

/// The query that names an account: `identity=user@domain`.
#[must_use]
pub fn identity(account: &Account) -> String {
    let identity = format!("{}@{}", account.user(), account.domain());
    format!("identity={}", utf8_percent_encode(&identity, IDENTITY))
}

/// Tells a sipXpublisher.
#[derive(Clone, Debug)]
pub struct Sipx {
    http: HttpClient,
    method: Method,
    body: SipxBody,
    voicemail: Option<String>,
}

impl Sipx {
    /// One that tells `[sipx] publisher`, where there is one. `voicemail` is the extension in
    /// `Message-Account`.
    ///
    /// # Errors
    /// [`ClientError`] when the address cannot be asked.
    pub fn new(
        settings: &Settings,
        voicemail: Option<String>,
    ) -> Result<Option<Self>, ClientError> {
        let Some(url) = settings.publisher.clone() else { return Ok(None) };
        let http = HttpClient::new(url, settings.timeout)?;
        let method = match settings.method {
            SipxMethod::Get => Method::GET,
            SipxMethod::Post => Method::POST,
        };
        Ok(Some(Self { http, method, body: settings.body, voicemail }))
    }

    /// Carries one order out. sipX keeps what it was told: nothing expires, and what is removed has
    /// no messages.
    pub async fn deliver(&self, order: &Order) -> Published {
        let summary = match order.wish {
            Wish::State(summary) | Wish::Refresh(summary) => summary,
            Wish::Remove => Summary::default(),
        };
        let ask = Ask {
            method: self.method.clone(),
            query: identity(&order.account),
            content_type: CONTENT_TYPE,
            body: self.body(summary, &order.account),
        };
        match self.http.ask(ask).await {
            Ok(answer) if answer.is_success() => Published {
                outcome: Outcome::Accepted { etag: None, expires: None },
                answer: format!("HTTP {}", answer.status),
                is_silent: false,
            },
            Ok(answer) => {
                let body = cut(&String::from_utf8_lossy(&answer.body));
                let words = format!("HTTP {}: {body:?}", answer.status);
                let outcome = Outcome::Later(answer.retry_after);
                Published { outcome, answer: words, is_silent: false }
            }
            Err(error) => Published::silent(error.to_string()),
        }
    }

    fn body(&self, summary: Summary, account: &Account) -> Vec<u8> {
        match self.body {
            SipxBody::Rfc3842 => {
                let mut body = Vec::new();
                summary.write_body(&mut body, account, self.voicemail.as_deref());
                body
            }
            SipxBody::V24 => {
                let waiting = if summary.waiting() { "yes" } else { "no" };
                format!("Messages-Waiting: {waiting}\r\nVoice-Message: {summary}\r\n").into_bytes()
            }
        }
    }
}
