//! TLS: a certificate and its key from files, taken anew when these change.

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

/// Where the certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those that lead to a known authority, the daemon's own first; PEM.
    pub cert: PathBuf,
    /// Its private key; PEM.
    pub key: PathBuf,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read as PEM", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: PemError,
    },
    /// There is no certificate.
    #[error("{} holds no certificate", .0.display())]
    NoCertificate(PathBuf),
    /// Certificate and key cannot be used.
    #[error("certificate and key cannot be used: {0}")]
    InvalidKeyPair(#[from] Error),
}

/// By what it is seen that a file is another one.
type CertificateVersion = Option<(SystemTime, u64)>;

/// The certificate in force.
#[derive(Debug)]
pub(in crate::http) struct TlsCertificate {
    files: TlsFiles,
    current: ArcSwap<CertifiedKey>,
    seen: Mutex<[CertificateVersion; 2]>,
}

impl TlsCertificate {
    pub(in crate::http) fn open(files: &TlsFiles) -> Result<Arc<Self>, TlsError> {
        let seen = stamps(files);
        Ok(Arc::new(Self { current: ArcSwap::from_pointee(read(files)?), seen: Mutex::new(seen), files: files.clone() }))
    }

    /// Looks whether the files are others and takes what they hold; whether they were.
    ///
    /// # Errors
    /// If that cannot be used: once for each change, and what was in force stays.
    pub(in crate::http) fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&self.files);
        if *seen == stamps {
            return Ok(false);
        }
        *seen = stamps;
        self.current.store(Arc::new(read(&self.files)?));
        Ok(true)
    }

    /// What a server is made with.
    pub(in crate::http) fn server_config(self: &Arc<Self>) -> Result<ServerConfig, TlsError> {
        let versions = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        Ok(versions.with_no_client_auth().with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>))
    }
}

impl ResolvesServerCert for TlsCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn stamps(files: &TlsFiles) -> [CertificateVersion; 2] {
    [&files.cert, &files.key].map(|file| {
        let data = fs::metadata(file).ok()?;
        Some((data.modified().ok()?, data.len()))
    })
}

fn read(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let unread = |file: &Path| {
        let file = file.to_owned();
        |source| TlsError::Read { file, source }
    };
    let chain = CertificateDer::pem_file_iter(&files.cert).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(unread(&files.cert))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(files.cert.clone()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(unread(&files.key))?;
    Ok(CertifiedKey::from_der(chain, key, &provider())?)
}
