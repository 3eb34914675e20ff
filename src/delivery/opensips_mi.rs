//! By OpenSIPS's management interface: `pua_publish` of its module pua_mi, as JSON-RPC over HTTP
//! (OpenSIPS 3) or as lines over a FIFO or datagrams (1 and 2).
//!
//! Each call without the entity-tag of the last one puts one more document beside it (measured on
//! 3.6.8), and a tag that is left out must be absent in JSON-RPC and `.` in the lines.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mwid_core::publication::{ETag, Order, TRIAL, Wish};
use serde_json::{Map, Value as Json, json};

use super::mi_transport::{MiError, Transport};
use super::pua::{self, CONTENT_TYPE, Call, EVENT, Said, UserAgent};
use super::{Published, cut, json_rpc, mi_lines};
use crate::config::{MiUrl, OpensipsMi as Settings};
use crate::http_client::{ClientError, HttpClient};

const COMMAND: &str = "pua_publish";

/// What stands for a parameter that is left out, in the lines.
const NONE: &str = ".";

/// Publishes by OpenSIPS.
#[derive(Debug)]
pub struct OpensipsMi {
    door: Door,
    settings: Settings,
    voicemail: Option<String>,
    /// The presence server takes nothing for as short a time as [`TRIAL`].
    is_trial_too_brief: AtomicBool,
}

#[derive(Clone, Debug)]
enum Door {
    Http(Box<HttpClient>),
    Lines(Transport),
}

impl OpensipsMi {
    /// One that asks `[opensips-mi] url`, where there is one. `voicemail` is the extension in
    /// `Message-Account`.
    ///
    /// # Errors
    /// [`ClientError`] when the address cannot be asked.
    pub fn new(
        settings: &Settings,
        voicemail: Option<String>,
    ) -> Result<Option<Self>, ClientError> {
        let door = match settings.url.clone() {
            None => return Ok(None),
            Some(MiUrl::Http(url)) => Door::Http(Box::new(HttpClient::new(url, settings.timeout)?)),
            Some(MiUrl::Fifo(path)) => Door::Lines(Transport::Fifo(path)),
            Some(MiUrl::Udp(address)) => Door::Lines(Transport::Udp(address)),
            Some(MiUrl::Unix(path)) => Door::Lines(Transport::Unix(path)),
        };
        let is_trial_too_brief = AtomicBool::new(false);
        Ok(Some(Self { door, settings: settings.clone(), voicemail, is_trial_too_brief }))
    }

    /// Carries one order out.
    pub async fn deliver(&self, order: &Order) -> Published {
        pua::publish(self, order).await
    }

    /// Parameters by name; what is absent is left out.
    async fn by_http(&self, http: &HttpClient, call: &Call<'_>) -> Said {
        let mut params = Map::new();
        let mut put = |name: &str, value: Json| params.insert(name.to_owned(), value);
        put("presentity_uri", json!(call.account.as_str()));
        put("expires", json!(call.expires.as_secs()));
        put("event_package", json!(EVENT));
        put("content_type", json!(CONTENT_TYPE));
        put("body", json!(String::from_utf8_lossy(&call.body)));
        if let Some(etag) = call.etag {
            put("etag", json!(etag.as_str()));
        }
        let headers = call.headers(&self.settings.extra_headers.lines());
        if !headers.is_empty() {
            put("extra_headers", json!(headers));
        }
        match json_rpc::call(http, COMMAND, Json::Object(params)).await {
            json_rpc::Reply::Result(Json::Object(result)) => {
                let text = |name| match result.get(name)? {
                    Json::String(text) => Some(text.clone()),
                    other => Some(other.to_string()),
                };
                let (reply, etag, expires) = (text("reply"), text("ETag"), text("Expires"));
                answered(reply.as_deref(), etag.as_deref(), expires.as_deref(), call)
            }
            // Without a handler for the reply: accepted, and no word of what came of it.
            json_rpc::Reply::Result(Json::String(words)) => accepted(&words, call),
            json_rpc::Reply::Result(other) => {
                let words = format!("the result is no object: {:?}", cut(&other.to_string()));
                Said::Failed(words, None)
            }
            json_rpc::Reply::Error { code, message } => refused(code, &message),
            json_rpc::Reply::None(words, wait) => Said::Failed(words, wait),
            json_rpc::Reply::Silent(words) => Said::Silent(words),
        }
    }

    async fn by_lines(&self, lines: &Transport, call: &Call<'_>) -> Said {
        let asked = tokio::time::timeout(self.settings.timeout, self.lines(lines, call)).await;
        let bytes = match asked.unwrap_or(Err(MiError::Timeout(self.settings.timeout))) {
            Ok(bytes) => bytes,
            Err(error @ (MiError::Line(_) | MiError::TooLong(_) | MiError::TooMuch)) => {
                return Said::Failed(error.to_string(), None);
            }
            Err(error) => return Said::Silent(error.to_string()),
        };
        let Some(reply) = mi_lines::read(&bytes) else {
            let words = cut(&String::from_utf8_lossy(&bytes));
            return Said::Failed(format!("no reply of OpenSIPS: {words:?}"), None);
        };
        match reply.code {
            200 => {
                answered(reply.value.as_deref(), reply.named("ETag"), reply.named("Expires"), call)
            }
            202 => accepted(&reply.reason, call),
            code => refused(code, &reply.reason),
        }
    }

    async fn lines(&self, to: &Transport, call: &Call<'_>) -> Result<Vec<u8>, MiError> {
        let expires = call.expires.as_secs().to_string();
        let headers = call.headers(&self.settings.extra_headers.lines());
        let body = String::from_utf8_lossy(&call.body);
        let values = [
            call.account.as_str(),
            &expires,
            EVENT,
            CONTENT_TYPE,
            call.etag.map_or(NONE, ETag::as_str),
            if headers.is_empty() { NONE } else { &headers },
            &body,
        ];
        let write = |reply: &str| mi_lines::write(COMMAND, reply, &values);
        to.ask(&self.settings.reply_folder, write).await
    }
}

impl UserAgent for OpensipsMi {
    async fn call(&self, call: &Call<'_>) -> Said {
        let said = match &self.door {
            Door::Http(http) => self.by_http(http, call).await,
            Door::Lines(lines) => self.by_lines(lines, call).await,
        };
        match said {
            // OpenSIPS does not hand Min-Expires on.
            Said::TooBrief(_)
                if !call.expires.is_zero() && call.expires < self.settings.expires =>
            {
                self.is_trial_too_brief.store(true, Ordering::Relaxed);
                said
            }
            Said::TooBrief(words) => Said::Failed(words, None),
            said => said,
        }
    }

    fn expires(&self, wish: Wish) -> Duration {
        match wish {
            Wish::State(_) if !self.is_trial_too_brief.load(Ordering::Relaxed) => {
                self.settings.expires.min(TRIAL)
            }
            Wish::State(_) | Wish::Refresh(_) | Wish::Remove => self.settings.expires,
        }
    }

    fn voicemail(&self) -> Option<&str> {
        self.voicemail.as_deref()
    }
}

/// What the presence server answered to the PUBLISH, as OpenSIPS hands it on.
fn answered(
    reply: Option<&str>,
    etag: Option<&str>,
    expires: Option<&str>,
    call: &Call<'_>,
) -> Said {
    let reply = cut(reply.unwrap_or("no reply of the presence server"));
    let has_tag = call.etag.is_some() || call.if_match.is_some();
    if reply.starts_with("412") && has_tag {
        return Said::Unknown(reply);
    }
    if reply.starts_with("423") {
        return Said::TooBrief(format!("the presence server says {reply}"));
    }
    if !reply.starts_with('2') {
        return Said::Failed(format!("the presence server says {reply}"), None);
    }
    let expires = expires.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    match etag.map(|etag| ETag::new(etag.trim())) {
        Some(Ok(etag)) => Said::Done { etag: Some(etag), expires, answer: reply },
        Some(Err(error)) => Said::Failed(format!("the ETag is none: {error}"), None),
        None if call.expires.is_zero() => Said::Done { etag: None, expires, answer: reply },
        None => Said::Failed(format!("{reply}, but without an ETag"), None),
    }
}

/// OpenSIPS has it and tells no more: it is there for as long as was asked.
fn accepted(words: &str, call: &Call<'_>) -> Said {
    Said::Done { etag: None, expires: Some(call.expires), answer: cut(words) }
}

fn refused(code: i64, message: &str) -> Said {
    let words = cut(&format!("{code} {message}"));
    if code == 418 { Said::Unknown(words) } else { Said::Failed(words, None) }
}
