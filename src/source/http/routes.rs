//! Which path is which: one line for each.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::{any, get, post, put};

use super::desk::Desk;
use super::problem::Problem;
use super::{json, page, sipx, token};

/// What etc/openapi.json says is what is served.
const OPENAPI: &str = include_str!("../../../etc/openapi.json");

/// All paths, behind a token, but for the page that says nothing by itself.
pub(super) fn router(desk: Desk) -> Router {
    let reads = Router::new()
        .route("/metrics", get(page::metrics))
        .route("/v1/pending", get(page::pending))
        .route("/v1/recent", get(page::recent))
        .route("/cgi/voicemail.cgi", get(sipx::voicemail))
        .route("/v1/accounts/{aor}", get(json::account_report))
        .route("/v1/status", get(page::status))
        .route("/v1/openapi.json", get(openapi))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(middleware::from_fn_with_state(desk.clone(), token::to_read));
    let writes = Router::new()
        .route("/cgi/StatusEvent.cgi", any(sipx::status_event))
        .route("/v1/accounts/{aor}/summary", put(json::put_summary))
        .route("/v1/accounts/{aor}/resend", post(json::resend))
        .method_not_allowed_fallback(not_allowed)
        .layer(middleware::from_fn_with_state(desk.clone(), token::to_write));
    let page = Router::new().route("/", get(page::page)).method_not_allowed_fallback(not_allowed);
    reads.merge(writes).merge(page).with_state(desk)
}

async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], OPENAPI)
}

async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing here; see /v1/openapi.json")
}

/// axum adds which methods there are.
async fn not_allowed(method: Method) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} cannot be done here"))
}
