//! TLS: certificates from PEM files, reloaded while the server runs.
//!
//! Owns the rustls configuration and the certificate in use. Connections keep the certificate they began with.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::sync::lock;
use crate::transport::Socket;

/// The interval at which the files are checked for changes.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// A TLS acceptor whose certificate can be replaced while the server runs.
///
/// Supports TLS 1.2 and 1.3 by aws-lc-rs, and offers `h2` and `http/1.1`. While a [`Server`](crate::Server) runs, the
/// files are checked every ten seconds. A changed certificate is used for new connections. An unusable one (half
/// written, or not matching its key) is logged, and the old certificate stays in use. Clones share the certificate.
#[derive(Clone)]
pub struct Acceptor {
    acceptor: TlsAcceptor,
    files: Arc<Files>,
}

impl Acceptor {
    /// Loads a certificate chain and its private key from PEM files (they may be the same file).
    ///
    /// # Errors
    /// Returns an error if a file cannot be read, holds no certificate or no key, or if the key is not the
    /// certificate's.
    pub fn from_pem_files(chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, Error> {
        let (chain, key) = (chain.into(), key.into());
        let seen = Mutex::new((modified(&chain), modified(&key)));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let current = Mutex::new(load(&chain, &key, &provider)?);
        let files = Arc::new(Files { chain, key, provider, seen, current });
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&files.provider))
            .with_safe_default_protocol_versions()
            .map_err(|source| Error::Unusable { source })?
            .with_no_client_auth()
            .with_cert_resolver(files.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Acceptor { acceptor: TlsAcceptor::from(Arc::new(config)), files })
    }

    /// Loads the files again, for new connections. Blocks while it reads them.
    ///
    /// # Errors
    /// As for [`from_pem_files`](Self::from_pem_files); the old certificate stays in use.
    pub fn reload(&self) -> Result<(), Error> {
        let Files { chain, key, provider, seen, current } = &*self.files;
        *lock(seen) = (modified(chain), modified(key));
        let loaded = load(chain, key, provider)?;
        *lock(current) = loaded;
        Ok(())
    }

    /// Reloads the files whenever they change, until `stop` is cancelled.
    pub(crate) async fn watch(self, stop: CancellationToken) {
        while tokio::time::timeout(POLL_INTERVAL, stop.cancelled()).await.is_err() {
            let acceptor = self.clone();
            if tokio::task::spawn_blocking(move || acceptor.reload_changed()).await.is_err() {
                return;
            }
        }
    }

    fn reload_changed(&self) {
        let Files { chain, key, seen, .. } = &*self.files;
        let now = (modified(chain), modified(key));
        let unchanged = *lock(seen) == now;
        if unchanged {
            return;
        }
        match self.reload() {
            Ok(()) => tracing::info!(chain = %chain.display(), "certificate reloaded"),
            Err(error) => tracing::error!(%error, "certificate not reloaded, the old one stays in use"),
        }
    }

    pub(crate) async fn accept(&self, socket: Socket) -> io::Result<TlsStream<Socket>> {
        self.acceptor.accept(socket).await
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").field("chain", &self.files.chain).finish_non_exhaustive()
    }
}

/// The reason why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read, or is not PEM.
    #[error("cannot read {}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// The error of reading or parsing it.
        source: pem::Error,
    },
    /// The certificate or the key cannot be used, or the key is not the certificate's.
    #[error("the certificate and its key cannot be used")]
    Unusable {
        /// The error that TLS reports.
        source: rustls::Error,
    },
}

#[derive(Debug)]
struct Files {
    chain: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    /// The modification times of the files that were loaded last, successfully or not.
    seen: Mutex<(Option<SystemTime>, Option<SystemTime>)>,
    current: Mutex<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Files {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&lock(&self.current)))
    }
}

fn load(chain: &Path, key: &Path, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, Error> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Pem { path, source }
    };
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(at(chain))?;
    if certificates.is_empty() {
        return Err(at(chain)(pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(at(key))?;
    let certified = CertifiedKey::from_der(certificates, key, provider);
    certified.map(Arc::new).map_err(|source| Error::Unusable { source })
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
