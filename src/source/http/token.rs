//! Who may ask: whoever shows the token (RFC 6750, or RFC 7617 as the password), or anybody on this
//! machine where there is none.

use std::sync::atomic::Ordering;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONNECTION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
        let mut response = problem.into_response();
        // Whoever may not ask keeps no place from those who may.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return response;
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
        let detail =
            "show the token, once: Authorization: Bearer TOKEN, or as the password of Basic";
        return Err(Problem::unauthorized("Bearer realm=\"mwid\"", detail));
    };
    // As long as it takes for any token of this length, whichever byte is wrong.
    match bearer(value.as_bytes()).or_else(|| basic(value.as_bytes())) {
        Some(shown) if bool::from(shown.ct_eq(token.as_bytes())) => Ok(()),
        _ => {
            let challenge = "Bearer realm=\"mwid\", error=\"invalid_token\"";
            Err(Problem::unauthorized(challenge, "this is not the token"))
        }
    }
}

/// RFC 6750 §2.1.
fn bearer(value: &[u8]) -> Option<Vec<u8>> {
    after(value, b"bearer ").map(<[u8]>::to_vec)
}

/// RFC 7617 §2: the token is the password, whoever the user is. For those that can only be given an
/// address, `http://mwid:TOKEN@…`.
fn basic(value: &[u8]) -> Option<Vec<u8>> {
    let mut shown = STANDARD.decode(after(value, b"basic ")?).ok()?;
    let colon = shown.iter().position(|byte| *byte == b':')?;
    Some(shown.split_off(colon + 1))
}

/// What stands after the name of a scheme.
fn after<'a>(value: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (name, shown) = value.split_at_checked(scheme.len())?;
    name.eq_ignore_ascii_case(scheme).then(|| shown.trim_ascii())
}
