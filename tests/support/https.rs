//! TLS in front of an HTTP double, with certificates of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread;

use rcgen::{CertificateParams, CertifiedKey, DnType, KeyPair};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// A certificate that is signed by itself, which calls itself `signer`, for this name or address.
pub fn certificate(signer: &str, name: &str) -> CertifiedKey<KeyPair> {
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, signer);
    let signing_key = KeyPair::generate().expect("ring makes keys");
    let cert = params.self_signed(&signing_key).expect("its own key");
    CertifiedKey { cert, signing_key }
}

/// A server that ends TLS, on a free port of 127.0.0.1. It ends with this.
pub struct TlsDouble {
    address: SocketAddr,
    shown: Arc<Mutex<TlsAcceptor>>,
    /// Dropped: it ends.
    _open: oneshot::Sender<()>,
}

impl TlsDouble {
    /// Shows this certificate and hands on to `behind`.
    pub fn start(behind: SocketAddr, made: &CertifiedKey<KeyPair>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shown = Arc::new(Mutex::new(acceptor(made)));
        let (open, end) = oneshot::channel();
        let current = Arc::clone(&shown);
        thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = end => {}
                    () = accept(listener, current, behind) => {}
                }
            });
        });
        Self { address, shown, _open: open }
    }

    /// Shows another certificate from now on.
    pub fn show(&self, made: &CertifiedKey<KeyPair>) {
        *self.shown.lock().expect("nobody panics with it") = acceptor(made);
    }

    /// `https://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}

async fn accept(listener: TcpListener, shown: Arc<Mutex<TlsAcceptor>>, behind: SocketAddr) {
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = shown.lock().expect("nobody panics with it").clone();
        tokio::spawn(async move {
            // Whoever does not like the certificate goes away, and so may both ends later.
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let Ok(mut behind) = TcpStream::connect(behind).await else { return };
            let _ = copy_bidirectional(&mut stream, &mut behind).await;
        });
    }
}

fn acceptor(made: &CertifiedKey<KeyPair>) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("they belong together");
    TlsAcceptor::from(Arc::new(config))
}
