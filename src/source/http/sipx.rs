//! The two sides of sipXpbx's message waiting interface.

use axum::extract::{RawQuery, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::response::IntoResponse;
use mwid_core::mailbox::Account;
use mwid_core::summary::Summary;

use super::Ask;
use super::body;
use super::desk::Desk;
use super::problem::Problem;
use super::query::parameter;

/// The only event type that sipX asks for.
const EVENT: &str = "message-summary";

/// The plugin's side: a voicemail system says that a mailbox changed, with a body on a GET. "This
/// should have been a POST", says its document, so that is taken too.
pub(super) async fn status_event(
    State(desk): State<Desk>,
    request: Request,
) -> Result<(), Problem> {
    // A HEAD would be a change that nobody expects of one.
    if request.method() != Method::GET && request.method() != Method::POST {
        return Err(Problem::not_allowed("GET, POST"));
    }
    let account = identity(&desk, request.uri().query())?;
    let body = body::read(request.into_body()).await?;
    let summary =
        Summary::read_body(&body).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error))?;
    let written = desk.ask(|reply| Ask::Give { account, summary, reply }).await?;
    desk.written(written).await
}

/// The voicemail system's side: a sipXpublisher asks for the state of a mailbox. An account that
/// nobody knows is no zero.
pub(super) async fn voicemail(
    State(desk): State<Desk>,
    RawQuery(query): RawQuery,
) -> Result<impl IntoResponse, Problem> {
    let query = query.as_deref();
    let account = identity(&desk, query)?;
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    if let Some(other) = parameter(query, "eventtype")?.filter(|it| it != EVENT) {
        return Err(bad(format!("eventtype is {other:?}; there is only {EVENT}")));
    }
    let old = match parameter(query, "format")?.as_deref() {
        None | Some("rfc3842") => false,
        Some("2.4") => true,
        Some(other) => return Err(bad(format!("format is {other:?}; there are rfc3842 and 2.4"))),
    };
    let asked = account.clone();
    let summary = desk.ask(|reply| Ask::Summary { account: asked, reply }).await?;
    let mut text = Vec::new();
    match old {
        true => summary.write_old_body(&mut text),
        false => summary.write_body(&mut text, &account, desk.vmexten()),
    }
    Ok(([(CONTENT_TYPE, "application/simple-message-summary")], text))
}

fn identity(desk: &Desk, query: Option<&str>) -> Result<Account, Problem> {
    let missing = || {
        let detail = "the parameter identity is missing; write ?identity=user@domain";
        Problem::new(StatusCode::BAD_REQUEST, detail)
    };
    desk.account(&parameter(query, "identity")?.ok_or_else(missing)?)
}
