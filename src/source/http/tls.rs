//! The certificate and its key.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::HttpError;
use crate::config::{Environment, Http, Process};

/// The largest file that is read, in bytes.
const MAX_PEM: u64 = 1024 * 1024;

/// What TLS needs.
#[derive(Clone)]
pub(super) struct Tls {
    acceptor: TlsAcceptor,
    chain: Arc<[CertificateDer<'static>]>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("certificates", &self.chain.len()).finish()
    }
}

impl Tls {
    /// Reads both files; `None` for plain HTTP.
    pub(super) fn load(settings: &Http) -> Result<Option<Self>, HttpError> {
        let (Some(cert), Some(key)) = (&settings.tls_cert, &settings.tls_key) else {
            return Ok(None);
        };
        let no_pem =
            |key, path: &Path, wanted| HttpError::NoPem { key, path: path.to_owned(), wanted };
        let bytes = read("tls_cert", cert)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| no_pem("tls_cert", cert, "certificate"))?;
        let bytes = read("tls_key", key)?;
        let private = PrivateKeyDer::from_pem_slice(&bytes)
            .map_err(|_| no_pem("tls_key", key, "private key"))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain.clone(), private)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Self { acceptor: TlsAcceptor::from(Arc::new(config)), chain: chain.into() }))
    }

    pub(super) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// What is shown to clients.
    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, HttpError> {
    Process.read(path, MAX_PEM).map_err(|source| HttpError::Read { key, source })
}
