//! Who may ask: whoever shows a token (RFC 6750, or RFC 7617 as the password), or anybody on this
//! machine where there is none. One token opens everything, the other what only asks.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONNECTION, HOST};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::desk::Desk;
use super::problem::Problem;

/// What a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    Read,
    Write,
}

/// Lets a request through that only asks, or not, and counts it.
pub(super) async fn to_read(State(desk): State<Desk>, request: Request, next: Next) -> Response {
    check(&desk, Right::Read, request, next).await
}

/// The same for one that says or does something.
pub(super) async fn to_write(State(desk): State<Desk>, request: Request, next: Next) -> Response {
    check(&desk, Right::Write, request, next).await
}

async fn check(desk: &Desk, right: Right, request: Request, next: Next) -> Response {
    let counters = &desk.counters;
    counters.requests.fetch_add(1, Ordering::Relaxed);
    if let Err(problem) = judge(request.headers(), desk, right) {
        let mut response = problem.into_response();
        let counter = match response.status() {
            StatusCode::UNAUTHORIZED => &counters.unauthorized,
            _ => &counters.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
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

fn judge(headers: &HeaderMap, desk: &Desk, right: Right) -> Result<(), Problem> {
    // A browser says whose page makes it ask, and no page can make it say otherwise.
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if right == Right::Write && site.is_some_and(|site| !matches!(site, b"same-origin" | b"none")) {
        let detail = "a page of another site makes your browser ask this";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    if desk.token().is_none() && desk.read_token().is_none() {
        if headers.get_all(HOST).iter().all(|host| is_ours(host.as_bytes())) {
            return Ok(());
        }
        let detail = "Host is a name that anybody's DNS may lead here; ask 127.0.0.1 or localhost, or set a token in [http]";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (shown.next(), shown.next()) else {
        let detail =
            "show the token, once: Authorization: Bearer TOKEN, or as the password of Basic";
        return Err(Problem::unauthorized("Bearer realm=\"mwid\"", detail));
    };
    let shown = bearer(value.as_bytes()).or_else(|| basic(value.as_bytes())).unwrap_or_default();
    // As long as it takes for any token of this length, whichever byte is wrong.
    let is = |token: Option<&str>| token.is_some_and(|it| bool::from(shown.ct_eq(it.as_bytes())));
    match (is(desk.token()), is(desk.read_token()), right) {
        (true, ..) | (_, true, Right::Read) => Ok(()),
        (_, true, Right::Write) => {
            let detail = "this is [http] read_token: with it one can only ask";
            Err(Problem::new(StatusCode::FORBIDDEN, detail))
        }
        (false, false, _) => {
            let challenge = "Bearer realm=\"mwid\", error=\"invalid_token\"";
            Err(Problem::unauthorized(challenge, "this is not the token"))
        }
    }
}

/// Whether this is an address, or a name without a dot, which nobody outside can own. A page of any
/// other name could make its DNS lead here once it is loaded, and be of the same site then.
fn is_ours(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    !name.contains('.') || name.parse::<Ipv4Addr>().is_ok()
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
