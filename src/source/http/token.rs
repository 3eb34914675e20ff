//! Who may ask: whoever shows the token (RFC 6750), or anybody on this machine where there is none.

use std::sync::atomic::Ordering;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::desk::Desk;
use super::problem::Problem;

/// Lets a request through, or not, and counts it.
pub(super) async fn check(State(desk): State<Desk>, request: Request, next: Next) -> Response {
    let counters = &desk.counters;
    counters.requests.fetch_add(1, Ordering::Relaxed);
    let allowed = desk.token().map_or(Ok(()), |token| judge(request.headers(), token));
    if let Err(problem) = allowed {
        counters.unauthorized.fetch_add(1, Ordering::Relaxed);
        return problem.into_response();
    }
    let response = next.run(request).await;
    if response.status() >= StatusCode::BAD_REQUEST {
        counters.refused.fetch_add(1, Ordering::Relaxed);
    }
    response
}

fn judge(headers: &HeaderMap, token: &str) -> Result<(), Problem> {
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (shown.next(), shown.next()) else {
        let detail = "show the token, once: Authorization: Bearer TOKEN";
        return Err(Problem::unauthorized("Bearer realm=\"mwid\"", detail));
    };
    // As long as it takes for any token of this length, whichever byte is wrong.
    match bearer(value.as_bytes()) {
        Some(shown) if bool::from(shown.ct_eq(token.as_bytes())) => Ok(()),
        _ => {
            let challenge = "Bearer realm=\"mwid\", error=\"invalid_token\"";
            Err(Problem::unauthorized(challenge, "this is not the token"))
        }
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_ascii())
}
