//! What people and Prometheus read.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::Ask;
use super::desk::Desk;
use super::problem::Problem;
use crate::metrics;

/// `GET /metrics`
pub(super) async fn metrics(State(desk): State<Desk>) -> Result<impl IntoResponse, Problem> {
    let page = desk.ask(|reply| Ask::Metrics { reply }).await?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], page))
}
