//! Errors as `application/problem+json` (RFC 9457).

use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Refusal;

/// The longest explanation, in characters: a part of it may come from the client.
const MAX_DETAIL: usize = 500;

/// When a client may try again, in seconds: what is not counted or written now may be then.
const RETRY: &str = "5";

/// Why a request was not done.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl ToString) -> Self {
        let detail = detail.to_string().chars().take(MAX_DETAIL).collect();
        Self { status, detail, headers: Vec::new() }
    }

    /// Not now, but perhaps soon.
    pub(super) fn later(detail: impl ToString) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            .with(RETRY_AFTER, HeaderValue::from_static(RETRY))
    }

    /// No token, or a wrong one (RFC 6750 §3, RFC 7617 §2).
    pub(super) fn unauthorized(challenge: &'static str, detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
            .with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
            .with(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"mwid\""))
    }

    /// The resource has only these methods.
    pub(super) fn not_allowed(allowed: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("only {allowed} can be done here"))
            .with(ALLOW, HeaderValue::from_static(allowed))
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unknown(_) => Self::new(StatusCode::NOT_FOUND, refusal),
            Refusal::Unsure(_) | Refusal::Database(_) => Self::later(refusal),
            Refusal::NotItsMailbox { .. } | Refusal::Elsewhere { .. } => {
                Self::new(StatusCode::CONFLICT, refusal)
            }
            Refusal::NoMailbox(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, refusal),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, detail, headers } = self;
        // Without a type the title is what the status means (RFC 9457 §4.2.1).
        let title = status.canonical_reason().unwrap_or_default();
        let body = json!({ "title": title, "status": status.as_u16(), "detail": detail });
        let kind = [(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))];
        let mut response = (status, kind, body.to_string()).into_response();
        for (name, value) in headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}
