//! The status request of sipX's MwiPlugin: `GET url?identity=user@domain&eventtype=message-summary`,
//! answered with an `application/simple-message-summary`.

use hyper::Method;
use mwid_core::mailbox::Account;
use mwid_core::summary::Summary;

use super::Found;
use crate::config::Sipx as Settings;
use crate::delivery::sipx::identity;
use crate::http_client::{Ask, ClientError, HttpClient};

/// What this source is called.
pub const SIPX: &str = "sipx";

/// A voicemail system that can be asked.
#[derive(Clone, Debug)]
pub struct Voicemail {
    http: HttpClient,
}

impl Voicemail {
    /// That of `[sipx] voicemail`, where there is one.
    ///
    /// # Errors
    /// [`ClientError`] when the address cannot be asked.
    pub fn new(settings: &Settings) -> Result<Option<Self>, ClientError> {
        let Some(url) = settings.voicemail.clone() else { return Ok(None) };
        Ok(Some(Self { http: HttpClient::new(url, settings.timeout)? }))
    }

    /// Asks for the state of one account. A 404, or a 2xx without a body, is no state.
    pub async fn ask(&self, account: &Account) -> Found {
        let ask = Ask {
            method: Method::GET,
            query: format!("{}&eventtype=message-summary", identity(account)),
            content_type: "",
            body: Vec::new(),
        };
        let answer = match self.http.ask(ask).await {
            Ok(answer) => answer,
            Err(error) => return Found::Failed(error.to_string()),
        };
        match answer.status {
            404 | 410 => Found::Nothing(format!("HTTP {}", answer.status)),
            status if !answer.is_success() => Found::Failed(format!("HTTP {status}")),
            status if answer.body.trim_ascii().is_empty() => {
                Found::Nothing(format!("HTTP {status} without a summary"))
            }
            // Whatever type it claims: CGI scripts of that time said text/plain, too.
            status => match Summary::read_body(&answer.body) {
                Ok(summary) => Found::Counts(summary),
                Err(error) => Found::Failed(format!("HTTP {status} that is no summary: {error}")),
            },
        }
    }
}
