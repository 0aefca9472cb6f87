//! Trusted certificates of TLS connections: those of the operating system, or those in one file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::sync::OnceCell;

use super::{Http2, tls_fault};
use crate::error::Error;
use crate::quoted::Quoted;

/// Trusted certificates, read when the first TLS connection needs them.
pub struct Trust {
    roots: Roots,
    config: OnceCell<Arc<ClientConfig>>,
}

/// The certificates that are trusted.
#[derive(Clone, Debug, Default)]
pub(crate) enum Roots {
    /// Those of the operating system.
    #[default]
    System,
    /// Those in a PEM file.
    File(PathBuf),
    /// Every certificate.
    Any,
}

impl Trust {
    /// Trusts the certificates in a PEM file, or those of the operating system.
    pub fn new(file: Option<PathBuf>) -> Self {
        file.map_or(Roots::System, Roots::File).into()
    }

    /// Trusts every certificate.
    pub fn any() -> Self {
        Roots::Any.into()
    }

    /// Returns the TLS configuration, which offers the versions of HTTP by ALPN.
    ///
    /// # Errors
    /// Returns [`Error::Trust`] if the certificates cannot be read or there are none.
    ///
    /// # Cancellation
    /// Safe to drop; the next caller reads the certificates again.
    pub async fn config(&self, http2: Http2) -> Result<Arc<ClientConfig>, Error> {
        self.config.get_or_try_init(|| self.load(http2)).await.cloned()
    }

    async fn load(&self, http2: Http2) -> Result<Arc<ClientConfig>, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match &self.roots {
            Roots::Any => Arc::new(AnyCertificate(provider.signature_verification_algorithms)),
            Roots::System => {
                let certificates = read("the operating system".to_owned(), read_system).await?;
                webpki(&provider, "the operating system", &certificates)?
            }
            Roots::File(file) => {
                let (from, path) = (Quoted::new(file).to_string(), file.clone());
                let certificates = read(from.clone(), move || read_file(&path)).await?;
                let webpki = webpki(&provider, &from, &certificates)?;
                Arc::new(PinnedCertificates { webpki, certificates })
            }
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        let (h1, h2) = (b"http/1.1".to_vec(), b"h2".to_vec());
        config.alpn_protocols = match http2 {
            Http2::Auto => vec![h2, h1],
            Http2::PriorKnowledge => vec![h2],
            Http2::Never => vec![h1],
        };
        Ok(Arc::new(config))
    }
}

impl From<Roots> for Trust {
    fn from(roots: Roots) -> Self {
        Self { roots, config: OnceCell::new() }
    }
}

type Certificates = Vec<CertificateDer<'static>>;

/// Reads certificates on a blocking thread. `from` names their place in errors.
async fn read(
    from: String,
    read: impl FnOnce() -> io::Result<Certificates> + Send + 'static,
) -> Result<Certificates, Error> {
    let read = tokio::task::spawn_blocking(read).await.map_err(io::Error::other).flatten();
    read.map_err(|source| Error::Trust { from, source })
}

/// Returns the verifier of rustls for these root certificates.
fn webpki(
    provider: &Arc<CryptoProvider>,
    from: &str,
    certificates: &[CertificateDer<'static>],
) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let mut roots = rustls::RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates.iter().cloned());
    if added == 0 {
        let source = io::Error::new(io::ErrorKind::InvalidData, "no usable certificate");
        return Err(Error::Trust { from: from.to_owned(), source });
    }
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    Ok(built.expect("there is a root certificate, and there are no revocation lists"))
}

fn read_file(file: &Path) -> io::Result<Certificates> {
    let pem = std::fs::read(file)?;
    CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(tls_fault::pem_fault)
}

fn read_system() -> io::Result<Certificates> {
    let mut found = rustls_native_certs::load_native_certs();
    // One unreadable file does not matter if others can be read.
    match found.errors.pop() {
        Some(error) if found.certs.is_empty() => Err(io::Error::other(error)),
        _ => Ok(found.certs),
    }
}

/// Verifies a server certificate as rustls does, and also accepts one that is in the trusted file, byte for byte.
///
/// rustls alone refuses a certificate that is marked as that of an authority, as `openssl req -x509` makes them, and one
/// whose issuer is not in the file.
#[derive(Debug)]
struct PinnedCertificates {
    webpki: Arc<WebPkiServerVerifier>,
    certificates: Certificates,
}

impl ServerCertVerifier for PinnedCertificates {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{BadSignature, Other, UnknownIssuer};
        let verified =
            self.webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The chain is at fault. `CaUsedAsEndEntity` is one of the others.
            Err(rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature | Other(_)))
                if self.certificates.contains(end_entity) =>
            {
                // webpki has checked the dates before it reports these errors, but not the name.
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Accepts every certificate. The server still has to prove that it has the certificate's key.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
