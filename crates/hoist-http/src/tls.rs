//! TLS: certificates from PEM files, reloaded while the server runs.
//!
//! Owns the rustls configuration and the certificate in use. Connections keep the certificate they began with.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::sync::lock;
use crate::transport::StagedSocket;

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
    live: Arc<LiveCertificate>,
}

impl Acceptor {
    /// Loads a certificate chain and its private key from PEM files (they may be the same file).
    ///
    /// # Errors
    /// Returns an error if a file cannot be read, holds no certificate or no key, or if the key is not the
    /// certificate's.
    pub fn from_pem_files(chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, Error> {
        let files = Files::new(chain.into(), key.into());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let current = load(&files, &provider)?;
        let live = LiveCertificate { provider, files: Mutex::new(files), current: Mutex::new(current) };
        let live = Arc::new(live);
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&live.provider))
            .with_safe_default_protocol_versions()
            .map_err(|source| Error::Unusable { source })?
            .with_no_client_auth()
            .with_cert_resolver(live.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Acceptor { acceptor: TlsAcceptor::from(Arc::new(config)), live })
    }

    /// Loads the files again, for new connections. Blocks while it reads them.
    ///
    /// # Errors
    /// As for [`from_pem_files`](Self::from_pem_files); the old certificate stays in use.
    pub fn reload(&self) -> Result<(), Error> {
        let files = lock(&self.live.files).looked_at();
        lock(&self.live.files).seen = files.seen;
        let loaded = load(&files, &self.live.provider)?;
        *lock(&self.live.current) = loaded;
        Ok(())
    }

    /// Replaces the certificate by the one that `other` uses, for new connections, and from then on checks its files for
    /// changes. Returns whether the certificate is another one.
    pub fn replace_with(&self, other: &Acceptor) -> bool {
        let (files, new) = (lock(&other.live.files).clone(), Arc::clone(&lock(&other.live.current)));
        *lock(&self.live.files) = files;
        let old = std::mem::replace(&mut *lock(&self.live.current), Arc::clone(&new));
        old.cert != new.cert
    }

    /// Returns the period in which every certificate of the chain in use is valid. `None` if one cannot be parsed.
    pub fn validity(&self) -> Option<Validity> {
        let current = Arc::clone(&lock(&self.live.current));
        Validity::of(&current.cert)
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
        let files = lock(&self.live.files).clone();
        if files.looked_at().seen == files.seen {
            return;
        }
        match self.reload() {
            Ok(()) => tracing::info!(chain = %files.chain.display(), "certificate reloaded"),
            Err(error) => tracing::error!(%error, "certificate not reloaded, the old one stays in use"),
        }
    }

    pub(crate) async fn accept(&self, socket: StagedSocket) -> io::Result<TlsStream<StagedSocket>> {
        self.acceptor.accept(socket).await
    }
}

/// Returns the reason for which a handshake failed, if TLS knows it.
pub(crate) fn describe(error: &io::Error) -> Option<Cow<'static, str>> {
    use rustls::{AlertDescription, Error, InvalidMessage};
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => "the client does not speak TLS".into(),
        Error::InvalidMessage(_) => "the client sent a malformed message".into(),
        Error::PeerIncompatible(_) => "client and server have no version or cipher suite in common".into(),
        Error::PeerMisbehaved(_) => "the client violated the protocol".into(),
        Error::AlertReceived(alert) => match alert {
            AlertDescription::UnknownCA => "the client does not trust the issuer of the certificate".into(),
            AlertDescription::CertificateExpired => "the certificate has expired, says the client".into(),
            AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate => "the client does not accept the certificate".into(),
            alert => format!("the client sent alert {}", u8::from(*alert)).into(),
        },
        error => error.to_string().into(),
    })
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").field("files", &lock(&self.live.files)).finish_non_exhaustive()
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
    /// The key is not the certificate's.
    #[error("the key does not belong to the certificate")]
    OtherKey {
        /// The error that TLS reports.
        source: rustls::Error,
    },
    /// The certificate or the key cannot be used.
    #[error("the certificate and its key cannot be used")]
    Unusable {
        /// The error that TLS reports.
        source: rustls::Error,
    },
}

/// A period of time, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: SystemTime,
    /// The last second.
    pub not_after: SystemTime,
}

impl Validity {
    /// Returns the period in which all these certificates are valid.
    fn of(chain: &[CertificateDer<'_>]) -> Option<Validity> {
        let mut periods = chain.iter().map(|certificate| {
            let certificate = ParsedCertificate::try_from(certificate).ok()?;
            Some(Validity { not_before: not_before(&certificate)?, not_after: not_after(&certificate)? })
        });
        let first = periods.next()??;
        periods.try_fold(first, |all, next| {
            let next = next?;
            Some(Validity {
                not_before: all.not_before.max(next.not_before),
                not_after: all.not_after.min(next.not_after),
            })
        })
    }
}

/// Returns the start of a certificate's validity, which rustls tells only when it refuses the certificate as too early.
fn not_before(certificate: &ParsedCertificate<'_>) -> Option<SystemTime> {
    match refusal_at(certificate, UnixTime::since_unix_epoch(Duration::ZERO))? {
        CertificateError::NotValidYetContext { not_before, .. } => as_system_time(not_before),
        // From the epoch or earlier.
        _ => Some(SystemTime::UNIX_EPOCH),
    }
}

/// Returns the end of a certificate's validity, which rustls tells only when it refuses the certificate as too late.
fn not_after(certificate: &ParsedCertificate<'_>) -> Option<SystemTime> {
    // After the last day of the year 9999, the latest time that a certificate can have.
    let end_of_time = Duration::from_hours(70_389_528);
    match refusal_at(certificate, UnixTime::since_unix_epoch(end_of_time))? {
        CertificateError::ExpiredContext { not_after, .. } => as_system_time(not_after),
        _ => None,
    }
}

/// Returns why a certificate is refused at a time. Its validity is checked first, so the trusted roots do not matter.
fn refusal_at(certificate: &ParsedCertificate<'_>, time: UnixTime) -> Option<CertificateError> {
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let no_roots = RootCertStore::empty();
    match verify_server_cert_signed_by_trust_anchor(certificate, &no_roots, &[], time, algorithms) {
        Err(rustls::Error::InvalidCertificate(error)) => Some(error),
        Ok(()) | Err(_) => None,
    }
}

fn as_system_time(time: UnixTime) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()))
}

/// The certificate in use, and the files it came from.
#[derive(Debug)]
struct LiveCertificate {
    provider: Arc<CryptoProvider>,
    files: Mutex<Files>,
    current: Mutex<Arc<CertifiedKey>>,
}

#[derive(Clone, Debug)]
struct Files {
    chain: PathBuf,
    key: PathBuf,
    /// The modification times of the files that were loaded last, successfully or not.
    seen: (Option<SystemTime>, Option<SystemTime>),
}

impl Files {
    fn new(chain: PathBuf, key: PathBuf) -> Self {
        let seen = (modified(&chain), modified(&key));
        Files { chain, key, seen }
    }

    /// Returns the files with their present modification times.
    fn looked_at(&self) -> Self {
        Files::new(self.chain.clone(), self.key.clone())
    }
}

impl ResolvesServerCert for LiveCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&lock(&self.current)))
    }
}

fn load(files: &Files, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, Error> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Pem { path, source }
    };
    let (chain, key) = (&files.chain, &files.key);
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(at(chain))?;
    if certificates.is_empty() {
        return Err(at(chain)(pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(at(key))?;
    let certified = CertifiedKey::from_der(certificates, key, provider);
    certified.map(Arc::new).map_err(|source| match source {
        rustls::Error::InconsistentKeys(_) => Error::OtherKey { source },
        source => Error::Unusable { source },
    })
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate for these years.
    fn certificate(years: std::ops::Range<i32>) -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("signed").der().clone()
    }

    fn at(year_start_seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(year_start_seconds)
    }

    #[test]
    fn a_chain_is_valid_while_all_its_certificates_are() {
        let (y2001, y2020, y2030) = (at(978_307_200), at(1_577_836_800), at(1_893_456_000));
        let (leaf, issuer) = (certificate(2001..2030), certificate(2020..2040));
        let alone = Validity { not_before: y2001, not_after: y2030 };
        assert_eq!(Validity::of(std::slice::from_ref(&leaf)), Some(alone));
        assert_eq!(Validity::of(&[leaf, issuer]), Some(Validity { not_before: y2020, not_after: y2030 }));
        let forever = Validity::of(&[certificate(1975..9999)]).expect("parsed");
        assert_eq!(forever.not_before, at(157_766_400));
        assert_eq!(Validity::of(&[CertificateDer::from(vec![1, 2, 3])]), None);
        assert_eq!(Validity::of(&[]), None);
    }
}
