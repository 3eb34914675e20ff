//! One POST, and what its answer means.

use std::time::Duration;

use hyper::Method;
use thiserror::Error;

use crate::config;
use crate::http_client::{Answer, Ask, ClientError, HttpClient, HttpError};

/// Posts JSON to one address.
#[derive(Clone, Debug)]
pub struct Poster {
    http: HttpClient,
}

/// Why an event was not taken.
#[derive(Debug, Error)]
pub enum Fault {
    /// The application did not answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It did not want it.
    #[error("HTTP {status}")]
    Status {
        /// The status code.
        status: u16,
        /// When to come again, where it says so.
        retry_after: Option<Duration>,
    },
}

impl Fault {
    /// How long to wait before it is tried again, `usual` unless the answer says longer; `None`
    /// when that would change nothing.
    #[must_use]
    pub fn pause(&self, usual: Duration) -> Option<Duration> {
        match self {
            Self::Http(HttpError::Request(_)) => None,
            Self::Http(_) => Some(usual),
            Self::Status { status: 408 | 425 | 429 | 500..=599, retry_after } => {
                Some(retry_after.map_or(usual, |wait| wait.max(usual)))
            }
            Self::Status { .. } => None,
        }
    }
}

impl Poster {
    /// One for the address of these settings; `None` without one.
    ///
    /// # Errors
    /// [`ClientError`] when that cannot be asked.
    pub fn new(settings: &config::Webhook) -> Result<Option<Self>, ClientError> {
        let Some(url) = settings.url.clone() else { return Ok(None) };
        let http = HttpClient::new(url, settings.timeout)?;
        let http = match &settings.token {
            Some(token) => http.with_token(token)?,
            None => http,
        };
        Ok(Some(Self { http }))
    }

    /// Posts it, and gives an answer of class 2xx.
    ///
    /// # Errors
    /// [`Fault`] when there is none.
    pub async fn post(&self, body: Vec<u8>) -> Result<Answer, Fault> {
        let content_type = "application/json";
        let ask = Ask { method: Method::POST, query: String::new(), content_type, body };
        let answer = self.http.ask(ask).await?;
        if answer.is_success() {
            return Ok(answer);
        }
        Err(Fault::Status { status: answer.status, retry_after: answer.retry_after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_and_what_may_not_is_given_up() {
        let usual = Duration::from_secs(4);
        let pause = |status, after: Option<u64>| {
            let retry_after = after.map(Duration::from_secs);
            Fault::Status { status, retry_after }.pause(usual).map(|pause| pause.as_secs())
        };
        assert_eq!(pause(503, None), Some(4));
        assert_eq!(pause(503, Some(30)), Some(30));
        assert_eq!(pause(429, Some(1)), Some(4));
        for status in [301, 400, 401, 403, 404, 410, 422] {
            assert_eq!(pause(status, Some(1)), None, "{status}");
        }
        assert_eq!(Fault::Http(HttpError::Timeout(usual)).pause(usual), Some(usual));
    }
}
