//! By Kamailio's RPC: `pua.publish` of its module pua_rpc, over JSON-RPC or XML-RPC.
//!
//! With a fixed `id` for an account repeated calls replace each other (measured on 5.6.3). The id
//! names the account too: with `db_mode` 2 Kamailio's pua looks its publications up by id and
//! entity-tag alone.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::Method;
use mwid_core::publication::{ETag, Order, Wish};
use serde_json::{Value as Json, json};

use super::json_rpc::{self, Reply};
use super::pua::{self, CONTENT_TYPE, Call, EVENT, Said, UserAgent};
use super::xml_rpc::{self, Answer};
use super::{Published, cut};
use crate::config::{KamailioRpc as Settings, RpcFormat};
use crate::http_client::{Ask, ClientError, HttpClient};

const METHOD: &str = "pua.publish";

/// What stands for a parameter that is left out.
const NONE: &str = ".";

/// Publishes by Kamailio.
#[derive(Clone, Debug)]
pub struct KamailioRpc {
    http: HttpClient,
    settings: Settings,
    voicemail: Option<String>,
}

impl KamailioRpc {
    /// One that asks `[kamailio-rpc] url`, where there is one. `voicemail` is the extension in
    /// `Message-Account`.
    ///
    /// # Errors
    /// [`ClientError`] when the address cannot be asked.
    pub fn new(
        settings: &Settings,
        voicemail: Option<String>,
    ) -> Result<Option<Self>, ClientError> {
        let Some(url) = settings.url.clone() else { return Ok(None) };
        let http = HttpClient::new(url, settings.timeout)?;
        Ok(Some(Self { http, settings: settings.clone(), voicemail }))
    }

    /// Carries one order out.
    pub async fn deliver(&self, order: &Order) -> Published {
        pua::publish(self, order).await
    }

    async fn xml(&self, params: &[&str]) -> Reply {
        let ask = Ask {
            method: Method::POST,
            query: String::new(),
            content_type: "text/xml",
            body: xml_rpc::write_call(METHOD, params).into_bytes(),
        };
        let answer = match self.http.ask(ask).await {
            Ok(answer) => answer,
            Err(error) => return Reply::Silent(error.to_string()),
        };
        match xml_rpc::read_answer(&answer.body) {
            Ok(Answer::Result(members)) => Reply::Result(json!(members)),
            Ok(Answer::Fault { code, message }) => Reply::Error { code, message },
            Err(error) => {
                let body = cut(&String::from_utf8_lossy(&answer.body));
                let words = format!(
                    "HTTP {} that is no answer of XML-RPC ({error}): {body:?}",
                    answer.status
                );
                Reply::None(words, answer.retry_after)
            }
        }
    }
}

impl UserAgent for KamailioRpc {
    async fn call(&self, call: &Call<'_>) -> Said {
        let id = format!("{}-{}@{}", self.settings.id, call.account.user(), call.account.domain());
        let expires = call.expires.as_secs().to_string();
        let headers = call.headers(&self.settings.extra_headers.lines());
        let body = String::from_utf8_lossy(&call.body);
        let params = [
            call.account.as_str(),
            &expires,
            EVENT,
            CONTENT_TYPE,
            &id,
            call.etag.map_or(NONE, ETag::as_str),
            self.settings.outbound_proxy.as_deref().unwrap_or(NONE),
            if headers.is_empty() { NONE } else { &headers },
            &body,
        ];
        let reply = match self.settings.format {
            RpcFormat::Json => json_rpc::call(&self.http, METHOD, json!(params)).await,
            RpcFormat::Xml => self.xml(&params).await,
        };
        said(reply, call)
    }

    fn expires(&self, _: Wish) -> Duration {
        self.settings.expires
    }

    fn voicemail(&self) -> Option<&str> {
        self.voicemail.as_deref()
    }
}

/// What a reply means. Kamailio 5 says nothing when the presence server refuses: the result is an
/// empty struct. Later ones add `statusCode` and `reasonPhrase`.
fn said(reply: Reply, call: &Call<'_>) -> Said {
    let has_tag = call.etag.is_some() || call.if_match.is_some();
    let result = match reply {
        Reply::Result(Json::Object(members)) => members,
        Reply::Result(other) => {
            let words = format!("the result is no struct: {:?}", cut(&other.to_string()));
            return Said::Failed(words, None);
        }
        Reply::Error { message, .. } if message.contains("Wrong ETag") => {
            return Said::Unknown(message);
        }
        Reply::Error { code, message } => return Said::Failed(format!("{code} {message}"), None),
        Reply::None(words, wait) => return Said::Failed(words, wait),
        Reply::Silent(words) => return Said::Silent(words),
    };
    let members: BTreeMap<String, String> =
        result.iter().map(|(name, value)| (name.to_ascii_lowercase(), text(value))).collect();
    let status = members.get("statuscode").map(|code| {
        let reason = members.get("reasonphrase").map(String::as_str).unwrap_or_default();
        cut(&format!("{code} {reason}"))
    });
    let expires = members.get("expires").and_then(|text| text.trim().parse().ok());
    match (members.get("sip-etag"), status) {
        (Some(etag), status) => match ETag::new(etag.trim()) {
            Ok(etag) => Said::Done {
                etag: Some(etag),
                expires: expires.map(Duration::from_secs),
                answer: status.unwrap_or_else(|| "200 OK".to_owned()),
            },
            Err(error) => Said::Failed(format!("the SIP-ETag is none: {error}"), None),
        },
        (None, Some(status)) if status.starts_with("412") && has_tag => Said::Unknown(status),
        (None, Some(status)) => Said::Failed(format!("the presence server says {status}"), None),
        (None, None) if has_tag => Said::Unknown("the presence server refused it".to_owned()),
        (None, None) => Said::Failed(
            "the presence server took no PUBLISH; Kamailio does not say why".to_owned(),
            None,
        ),
    }
}

/// JSON has a number where XML has its digits.
fn text(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
