//! The certificate of the servers that speak TLS, and the configurations that use it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Returns the file of the certificate in a directory.
pub(crate) fn certificate(directory: &Path) -> PathBuf {
    directory.join("cert.pem")
}

/// Returns the file of the private key in a directory.
pub(crate) fn key(directory: &Path) -> PathBuf {
    directory.join("key.pem")
}

/// Writes a certificate for `localhost` and its key.
pub(crate) fn create(directory: &Path) -> Result<()> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    fs::write(certificate(directory), made.cert.pem())?;
    fs::write(key(directory), made.signing_key.serialize_pem())?;
    Ok(())
}

/// Returns the configuration of a server.
pub(crate) fn server_config(directory: &Path) -> Result<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_file(certificate(directory))?];
    let key = PrivateKeyDer::from_pem_file(key(directory))?;
    Ok(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?)
}

/// Returns the configuration of a client that trusts the certificate.
pub(crate) fn client_config(directory: &Path) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate(directory))?)?;
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}
