//! HTTP: voicemail systems and scripts say what waits, or ask for it.
//!
//! Three shapes of one door: the two sides of sipX (sipx.rs: `StatusEvent.cgi`, which a voicemail
//! system calls at every change, and the status request that a sipXpublisher makes) and JSON
//! (json.rs), which etc/openapi.json describes. All of them end in an [`Ask`] to the daemon's loop.
//!
//! A request passes, in this order: a place among [`listen::MAX_CONNECTIONS`], TLS, the times and
//! sizes of listen.rs, the token (token.rs), the route, the bound of its body (body.rs), and the
//! gate of its account (desk.rs). What does not pass gets a problem of RFC 9457 (problem.rs).

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::{Config, Http, ReadError};

mod ask;
mod body;
mod desk;
mod domains;
#[cfg(fuzzing)]
pub mod fuzzing;
mod guests;
mod json;
mod listen;
mod page;
mod problem;
mod query;
mod routes;
mod shared;
mod sipx;
mod tls;
mod token;

pub use ask::{Ask, Refusal, Reply};

use desk::Desk;
use domains::Domains;
use guests::Guests;
use listen::Listener;
use tls::Tls;

/// How a call of this source is marked.
pub const HTTP: &str = "http";

/// Questions that wait for the loop; their clients wait when it is full.
pub const QUEUE: usize = 64;

/// Why there is no HTTP.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The address cannot be had.
    #[error("cannot listen on [http] listen = {address}: {source}")]
    Bind {
        /// As it is written.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A file of the certificate or key cannot be read.
    #[error("[http] {key}: {source}")]
    Read {
        /// `tls_cert` or `tls_key`.
        key: &'static str,
        /// Why not.
        source: ReadError,
    },
    /// It holds nothing that is wanted.
    #[error("[http] {key}: {} holds no {wanted} in PEM form", path.display())]
    NoPem {
        /// `tls_cert` or `tls_key`.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What should be in it.
        wanted: &'static str,
    },
    /// The two do not fit, or are of a kind that rustls does not do.
    #[error("[http] tls_cert and tls_key cannot be used: {0}")]
    Tls(#[from] tokio_rustls::rustls::Error),
}

/// Whether the certificate and the key of `[http]` can be used.
///
/// # Errors
/// [`HttpError`] with what [`Door::open`] would say.
pub fn check(settings: &Http) -> Result<(), HttpError> {
    Tls::load(settings).map(drop)
}

/// How the door is, for `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Where it listens.
    pub listen: Vec<String>,
    /// Whether it speaks HTTPS.
    pub tls: bool,
    /// Connections that are open now.
    pub connections: usize,
    /// Requests since the start.
    pub requests: u64,
    /// Requests without the right token.
    pub unauthorized: u64,
    /// Requests that were answered with another error.
    pub refused: u64,
}

/// `https://192.0.2.10:8443: 3 connections, 120 requests, 2 without the token, 1 refused`
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listen, tls, connections, requests, unauthorized, refused } = self;
        let scheme = if *tls { "https" } else { "http" };
        for (index, address) in listen.iter().enumerate() {
            write!(f, "{}{scheme}://{address}", if index == 0 { "" } else { ", " })?;
        }
        write!(
            f,
            ": {connections} connections, {requests} requests, {unauthorized} without the token, {refused} refused"
        )
    }
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    unauthorized: AtomicU64,
    refused: AtomicU64,
}

/// The open door. When it is dropped no more connections are taken; what was asked is still
/// answered, as long as the runtime runs.
#[derive(Debug)]
pub struct Door {
    listeners: Vec<Listener>,
    accepting: Vec<JoinHandle<()>>,
    tls: Option<Tls>,
    domains: Domains,
    places: Arc<Semaphore>,
    guests: Guests,
    counters: Arc<Counters>,
    /// Dropped: every connection ends after its present request.
    _open: watch::Sender<()>,
}

impl Door {
    /// Opens the door as `[http]` says; `None` where it says nothing. A listener, the places and
    /// the counters of the `old` one are taken over, so a reload loses no connection that waits.
    /// On a tokio runtime.
    ///
    /// # Errors
    /// [`HttpError`] when an address or a certificate cannot be had. The old one is still open then.
    pub fn open(
        config: &Config,
        old: Option<&Self>,
        asks: mpsc::Sender<Ask>,
    ) -> Result<Option<Self>, HttpError> {
        if config.http.listen.is_empty() {
            return Ok(None);
        }
        let tls = Tls::load(&config.http)?;
        let kept = old.map_or(&[][..], |old| &old.listeners);
        let listeners = listen::bind(&config.http.listen, kept)?;
        let places = old.map_or_else(listen::places, |old| old.places.clone());
        let guests = old.map(|old| old.guests.clone()).unwrap_or_default();
        let counters = old.map_or_else(Arc::default, |old| old.counters.clone());
        let (open, end) = watch::channel(());
        let domains = Domains::new(config);
        let desk = Desk::new(config, domains.clone(), asks, counters.clone());
        let router = routes::router(desk);
        let (places_of, guests_of) = (places.clone(), guests.clone());
        let hall =
            listen::Hall { tls: tls.clone(), router, places: places_of, guests: guests_of, end };
        let accepting = listeners.iter().map(|listener| hall.clone().open(listener)).collect();
        Ok(Some(Self { listeners, accepting, tls, domains, places, guests, counters, _open: open }))
    }

    /// Whether both show the same certificate.
    #[must_use]
    pub fn has_same_certificate(&self, other: &Self) -> bool {
        self.tls.as_ref().map(Tls::chain) == other.tls.as_ref().map(Tls::chain)
    }

    /// Whether the accounts of this domain may be named.
    #[must_use]
    pub fn may_name(&self, domain: &str) -> bool {
        self.domains.has(domain)
    }

    /// How the door is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let taken = listen::MAX_CONNECTIONS - self.places.available_permits();
        Stats {
            listen: self.listeners.iter().map(|listener| listener.local().to_string()).collect(),
            tls: self.tls.is_some(),
            // Each listener holds the place of its next one.
            connections: taken.saturating_sub(self.listeners.len()),
            requests: read(&self.counters.requests),
            unauthorized: read(&self.counters.unauthorized),
            refused: read(&self.counters.refused),
        }
    }

    /// Closes the door and waits a little until what was asked is answered: the process is about
    /// to end.
    pub async fn close(self) {
        let places = self.places.clone();
        drop(self);
        listen::drain(&places).await;
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.accepting.iter().for_each(JoinHandle::abort);
    }
}
