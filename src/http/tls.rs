//! TLS: the certificate and its private key, which are reloaded when their files change.

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, ServerConfig};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::http::tls_message::describe_tls_error;
use crate::http::tls_validity::CertificateValidity;

/// The files of the certificate and its private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain in PEM, beginning with the daemon's own certificate.
    pub cert: PathBuf,
    /// The private key in PEM.
    pub key: PathBuf,
}

/// Errors of setting up TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read as PEM", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The cause.
        #[source]
        source: PemError,
    },
    /// The file contains no certificate.
    #[error("{} contains no certificate", .0.display())]
    NoCertificate(PathBuf),
    /// The certificate and the key are invalid or do not match.
    #[error("certificate and key cannot be used: {}", describe_tls_error(.0))]
    InvalidKeyPair(Error),
}

impl From<Error> for TlsError {
    fn from(error: Error) -> Self {
        Self::InvalidKeyPair(error)
    }
}

/// The modification time and the length of a file, by which a replaced file is noticed. `None` if
/// there is no file.
type CertificateVersion = Option<(SystemTime, u64)>;

/// The certificate in use, and the versions of its files.
#[derive(Debug)]
pub(in crate::http) struct TlsCertificate {
    files: TlsFiles,
    current: ArcSwap<CertifiedKey>,
    last_versions: Mutex<[CertificateVersion; 2]>,
}

impl TlsCertificate {
    pub(in crate::http) fn open(files: &TlsFiles) -> Result<Arc<Self>, TlsError> {
        let last_versions = file_versions(files);
        Ok(Arc::new(Self {
            current: ArcSwap::from_pointee(read_certified_key(files)?),
            last_versions: Mutex::new(last_versions),
            files: files.clone(),
        }))
    }

    /// Reloads the certificate if its files have changed. Returns whether they have changed.
    ///
    /// # Errors
    /// If the changed files cannot be used. The previous certificate stays in use, and the error is
    /// returned once per change.
    pub(in crate::http) fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let mut last_versions = self.last_versions.lock().unwrap_or_else(PoisonError::into_inner);
        let file_versions = file_versions(&self.files);
        if *last_versions == file_versions {
            return Ok(false);
        }
        *last_versions = file_versions;
        self.current.store(Arc::new(read_certified_key(&self.files)?));
        Ok(true)
    }

    /// The validity of the certificate in use.
    pub(in crate::http) fn validity(&self) -> Option<CertificateValidity> {
        self.current.load().cert.first().and_then(CertificateValidity::read)
    }

    /// The TLS configuration of a server.
    pub(in crate::http) fn server_config(self: &Arc<Self>) -> Result<ServerConfig, TlsError> {
        let versions = ServerConfig::builder_with_provider(crypto_provider()).with_safe_default_protocol_versions()?;
        Ok(versions.with_no_client_auth().with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>))
    }
}

impl ResolvesServerCert for TlsCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn file_versions(files: &TlsFiles) -> [CertificateVersion; 2] {
    [&files.cert, &files.key].map(|file| {
        let data = fs::metadata(file).ok()?;
        Some((data.modified().ok()?, data.len()))
    })
}

fn read_certified_key(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let read_error = |file: &Path| {
        let file = file.to_owned();
        |source| TlsError::Read { file, source }
    };
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(read_error(&files.cert))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(files.cert.clone()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(read_error(&files.key))?;
    Ok(CertifiedKey::from_der(chain, key, &crypto_provider())?)
}
