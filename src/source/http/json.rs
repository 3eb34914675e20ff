//! Accounts in JSON, with the counts in the words of babble-drachtio-presence.

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use mwid_core::mailbox::Account;
use mwid_core::summary::Summary;
use serde::Serialize;

use super::desk::Desk;
use super::problem::Problem;
use super::{Ask, body};
use crate::report::Counts;
use crate::source::voicemail_out::{self, NotOut};

type Aor = Result<Path<String>, PathRejection>;

/// `PUT /v1/accounts/{aor}/summary`: answered when the ledger has the counts.
pub(super) async fn put_summary(
    State(desk): State<Desk>,
    aor: Aor,
    request: Request,
) -> Result<StatusCode, Problem> {
    let account = account(&desk, aor)?;
    refuse_other_types(request.headers())?;
    let summary = read(&desk, &account, &body::read(request.into_body()).await?)?;
    let written = desk.ask(|reply| Ask::Give { account, summary, reply }).await?;
    desk.written(written).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/accounts/{aor}`
pub(super) async fn account_report(
    State(desk): State<Desk>,
    aor: Aor,
) -> Result<Response, Problem> {
    let account = account(&desk, aor)?;
    let report = desk.ask(|reply| Ask::Account { account, reply }).await?;
    Ok(json(StatusCode::OK, &report))
}

/// `POST /v1/accounts/{aor}/resend`: told once more, whatever they acknowledged.
pub(super) async fn resend(State(desk): State<Desk>, aor: Aor) -> Result<Response, Problem> {
    let account = account(&desk, aor)?;
    let summary = desk.ask(|reply| Ask::Resend { account, reply }).await?;
    Ok(json(StatusCode::ACCEPTED, &Counts::from(summary)))
}

fn account(desk: &Desk, aor: Aor) -> Result<Account, Problem> {
    let Path(aor) = aor.map_err(|error| Problem::new(error.status(), error.body_text()))?;
    desk.account(&aor)
}

fn refuse_other_types(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    if essence.trim().eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail = "the body must be JSON: Content-Type: application/json";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
}

fn read(desk: &Desk, account: &Account, body: &[u8]) -> Result<Summary, Problem> {
    let (entity, summary) = voicemail_out::read(body).map_err(|error| match error {
        NotOut::NoJson(detail) => Problem::new(StatusCode::BAD_REQUEST, detail),
        NotOut::NoCounts(detail) => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail),
    })?;
    if let Some(entity) = &entity
        && desk.account(entity)? != *account
    {
        let detail = format!("entity is {entity:?}, but the path says {account}");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    Ok(summary)
}

fn json(status: StatusCode, data: &impl Serialize) -> Response {
    match written(data) {
        Ok(text) => (status, KIND, text).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// The header of what is written so.
pub(super) const KIND: [(HeaderName, HeaderValue); 1] =
    [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];

pub(super) fn written(data: &impl Serialize) -> Result<Bytes, Problem> {
    let text = serde_json::to_vec(data);
    text.map(Bytes::from).map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error))
}
