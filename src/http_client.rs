//! What mwid asks by HTTP: one request, one answer, both small, within a time.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue, InvalidHeaderValue};
use hyper::{Method, Request, Response, body::Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use thiserror::Error;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{CertificateError, ClientConfig, RootCertStore};

use crate::config::{HttpUrl, HttpUser, Secret};

/// The largest body of an answer that is read, in bytes.
pub const MAX_ANSWER: usize = 64 * 1024;

/// The longest Retry-After that is believed.
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Connections that stay open for the next request.
const MAX_IDLE: usize = 4;

/// How long they do: shorter than Kamailio's 120 seconds.
const IDLE: Duration = Duration::from_secs(30);

/// Why an address cannot be asked at all.
#[derive(Debug, Error)]
pub enum ClientError {
    /// `https`, and nothing to check a certificate with.
    #[error(
        "{url}: the certificates of this machine cannot be read: {source}; install the package ca-certificates, or name a file with SSL_CERT_FILE"
    )]
    Certificates {
        /// The address, its password masked.
        url: Box<HttpUrl>,
        /// What was wrong.
        #[source]
        source: io::Error,
    },
    /// The TLS library refuses its own defaults.
    #[error("{url}: TLS cannot be used: {source}")]
    Tls {
        /// The address, its password masked.
        url: Box<HttpUrl>,
        /// What was wrong.
        #[source]
        source: tokio_rustls::rustls::Error,
    },
    /// User and password, or the token, make no header.
    #[error("{url}: user and password, or the token, cannot be sent: {source}")]
    User {
        /// The address, its password masked.
        url: Box<HttpUrl>,
        /// What was wrong.
        #[source]
        source: InvalidHeaderValue,
    },
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum HttpError {
    /// Nothing, or not all of it, in time.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The address is none after all.
    #[error("it cannot be asked: {0}")]
    Request(#[source] hyper::http::Error),
    /// Another server than the one that is meant, as far as this machine can tell.
    #[error(
        "the certificate of the server is refused: {0}; a file with the certificate that signed it can be named with SSL_CERT_FILE"
    )]
    Certificate(CertificateError),
    /// No connection, or it ended too early. The text names the first cause too.
    #[error("{0}")]
    Connection(String),
    /// More than [`MAX_ANSWER`].
    #[error("the answer has more than {MAX_ANSWER} bytes")]
    TooMuch,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// GET or POST; either may have a body.
    pub method: Method,
    /// What is added to the query of the address, percent-encoded.
    pub query: String,
    /// The type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

/// An answer. Redirects are answers like others: none is followed.
#[derive(Clone, Debug)]
pub struct Answer {
    /// `200`, …
    pub status: u16,
    /// Its type without parameters, in lower case; empty when it names none.
    pub content_type: String,
    /// Seconds of Retry-After, where it has them.
    pub retry_after: Option<Duration>,
    /// At most [`MAX_ANSWER`] bytes.
    pub body: Vec<u8>,
}

impl Answer {
    /// Whether it is of class 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Asks one address, over connections that stay open between two requests.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: HttpUrl,
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

impl HttpClient {
    /// A client of this address, which answers within `timeout`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError`] when `https` cannot be spoken on this machine.
    pub fn new(url: HttpUrl, timeout: Duration) -> Result<Self, ClientError> {
        let named = || Box::new(url.clone());
        let authorization = url.user.as_ref().map(basic).transpose();
        let authorization =
            authorization.map_err(|source| ClientError::User { url: named(), source })?;
        let provider = ring::default_provider();
        let builder = HttpsConnectorBuilder::new();
        let builder = if url.tls {
            builder
                .with_provider_and_native_roots(provider)
                .map_err(|source| ClientError::Certificates { url: named(), source })?
        } else {
            // Never used: plain addresses lead to no TLS, since no redirect is followed.
            let config = ClientConfig::builder_with_provider(provider.into())
                .with_safe_default_protocol_versions()
                .map_err(|source| ClientError::Tls { url: named(), source })?;
            let config = config.with_root_certificates(RootCertStore::empty());
            builder.with_tls_config(config.with_no_client_auth())
        };
        let connector = builder.https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .pool_max_idle_per_host(MAX_IDLE)
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(Self { client, url, authorization, timeout })
    }

    /// The same, with a token instead of a user.
    ///
    /// # Errors
    /// [`ClientError`] when the token makes no header.
    pub fn with_token(mut self, token: &Secret) -> Result<Self, ClientError> {
        let value = HeaderValue::try_from(format!("Bearer {}", token.reveal()));
        let url = || Box::new(self.url.clone());
        let mut value = value.map_err(|source| ClientError::User { url: url(), source })?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(self)
    }

    /// Where it asks.
    #[must_use]
    pub fn url(&self) -> &HttpUrl {
        &self.url
    }

    /// Asks, and waits for the whole answer.
    ///
    /// # Errors
    /// [`HttpError`] when there is none, or too much of it.
    pub async fn ask(&self, ask: Ask) -> Result<Answer, HttpError> {
        let asked = tokio::time::timeout(self.timeout, self.exchange(ask)).await;
        asked.unwrap_or(Err(HttpError::Timeout(self.timeout)))
    }

    async fn exchange(&self, ask: Ask) -> Result<Answer, HttpError> {
        let mut request = Request::builder()
            .method(ask.method)
            .uri(self.url.with_query(&ask.query))
            .header(header::USER_AGENT, concat!("mwid/", env!("CARGO_PKG_VERSION")));
        if !ask.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, ask.content_type);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Full::from(ask.body)).map_err(HttpError::Request)?;
        let response = self.client.request(request).await;
        read(response.map_err(|error| no_connection(&error))?).await
    }
}

async fn read(response: Response<Incoming>) -> Result<Answer, HttpError> {
    let value = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let content_type = value(header::CONTENT_TYPE).unwrap_or_default();
    let content_type = content_type.split(';').next().unwrap_or_default().trim();
    let content_type = content_type.to_ascii_lowercase();
    let seconds = value(header::RETRY_AFTER).and_then(|text| text.trim().parse().ok());
    let retry_after = seconds.map(|seconds| Duration::from_secs(seconds).min(MAX_WAIT));
    let status = response.status().as_u16();
    match Limited::new(response.into_body(), MAX_ANSWER).collect().await {
        Ok(body) => {
            let body = body.to_bytes().to_vec();
            Ok(Answer { status, content_type, retry_after, body })
        }
        Err(error) if error.is::<LengthLimitError>() => Err(HttpError::TooMuch),
        Err(error) => Err(HttpError::Connection(causes(error.as_ref()))),
    }
}

fn no_connection(error: &(dyn std::error::Error + 'static)) -> HttpError {
    match chain(error).find_map(certificate) {
        Some(refused) => HttpError::Certificate(refused.clone()),
        None => HttpError::Connection(causes(error)),
    }
}

/// Why a certificate was refused, when that is the error.
fn certificate<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a CertificateError> {
    // An I/O error shows the source of the error in it, and not that itself; here one is in another.
    let mut inner = error;
    while let Some(error) = inner.downcast_ref::<io::Error>() {
        inner = error.get_ref()?;
    }
    match inner.downcast_ref()? {
        tokio_rustls::rustls::Error::InvalidCertificate(why) => Some(why),
        _ => None,
    }
}

fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// An error and what it comes from: hyper's own says only that something failed.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    chain(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// RFC 7617 §2.
fn basic(user: &HttpUser) -> Result<HeaderValue, InvalidHeaderValue> {
    use base64::Engine as _;
    let password = user.password.as_ref().map(|secret| secret.reveal()).unwrap_or_default();
    let clear = format!("{}:{password}", user.name);
    let encoded = base64::engine::general_purpose::STANDARD.encode(clear);
    let mut value = HeaderValue::try_from(format!("Basic {encoded}"))?;
    value.set_sensitive(true);
    Ok(value)
}
