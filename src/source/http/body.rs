//! Bodies: bounded in size and in time.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;

use super::problem::Problem;

/// The largest body that is read, in bytes.
pub(super) const MAX_BODY: usize = 4096;

/// How long a client may take to send it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads the whole body.
pub(super) async fn read(body: Body) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("the body has more than {MAX_BODY} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(PATIENCE, Bytes::from_request(Request::new(body), &())).await {
        Ok(Ok(bytes)) if bytes.len() > MAX_BODY => Err(too_large()),
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(too_large()),
        Ok(Err(error)) => Err(Problem::new(StatusCode::BAD_REQUEST, error.body_text())),
        Err(_) => {
            let detail = format!("the body did not come within {} s", PATIENCE.as_secs());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail))
        }
    }
}
