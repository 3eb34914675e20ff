//! Accounts in JSON, with the counts in the words of babble-drachtio-presence.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use mwid_core::mailbox::Account;
use mwid_core::summary::Summary;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Number;

use super::desk::Desk;
use super::problem::Problem;
use super::{Ask, Counts, body};

/// The most messages of a kind; exact in a floating point number.
const MAX_COUNT: f64 = u32::MAX as f64;

/// The event `presence.voicemail.out`: the names of its README and of its code.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VoicemailOut {
    #[serde(default, deserialize_with = "not_null")]
    entity: Option<String>,
    #[serde(alias = "new", deserialize_with = "count")]
    newcount: u32,
    #[serde(alias = "old", deserialize_with = "count")]
    oldcount: u32,
    #[serde(default, deserialize_with = "count")]
    newurgent: u32,
    #[serde(default, deserialize_with = "count")]
    oldurgent: u32,
    /// Both are the same here: the lamp is state.
    #[serde(default, rename = "reason", deserialize_with = "not_null")]
    _reason: Option<Reason>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reason {
    Init,
    Update,
}

/// JSON has one kind of numbers: `3.0` is the integer 3, as JSON Schema has it.
fn count<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let number = Number::deserialize(from)?;
    let whole = number.as_f64().filter(|it| it.fract() == 0.0 && (0.0..=MAX_COUNT).contains(it));
    let text = whole.map(|whole| format!("{whole:.0}")).unwrap_or_default();
    text.parse().map_err(|_| D::Error::custom(format!("{number} is no number of messages")))
}

fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

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

/// `GET /v1/status`: what `mwid status --json` prints.
pub(super) async fn status(State(desk): State<Desk>) -> Result<Response, Problem> {
    Ok(json(StatusCode::OK, &desk.status().await?.data))
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
    // serde would take an array of the values too.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "the body is no JSON object"));
    }
    let event: VoicemailOut = serde_json::from_slice(body).map_err(|error| {
        // JSON of another shape, or none at all.
        let status = match error.is_data() {
            true => StatusCode::UNPROCESSABLE_ENTITY,
            false => StatusCode::BAD_REQUEST,
        };
        Problem::new(status, format!("the body is no summary: {error}"))
    })?;
    let bad = |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
    if let Some(entity) = &event.entity
        && desk.account(entity)? != *account
    {
        return Err(bad(format!("entity is {entity:?}, but the path says {account}")));
    }
    let VoicemailOut { newcount: new, oldcount: old, newurgent, oldurgent, .. } = event;
    if newurgent > new || oldurgent > old {
        return Err(bad(format!(
            "{newurgent} of {new} new and {oldurgent} of {old} old messages cannot be urgent; the urgent ones are a part of them (RFC 3842)"
        )));
    }
    Ok(Summary { new, old, new_urgent: newurgent, old_urgent: oldurgent })
}

fn json(status: StatusCode, data: &impl Serialize) -> Response {
    match serde_json::to_string(data) {
        Ok(text) => {
            let kind = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
            (status, kind, text).into_response()
        }
        Err(error) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error).into_response(),
    }
}
