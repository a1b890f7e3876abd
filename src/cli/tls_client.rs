//! TLS of commands that connect to a server: the trusted certificates and the client's own one.

use anyhow::Context;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use sequor_client::TrustedCertificates;
use std::path::Path;
use std::sync::Arc;

/// Reads the certificates of authorities from the PEM file that `flag` names.
///
/// # Errors
/// If the file cannot be read, or contains no certificate.
pub(super) fn read_trusted_certificates(flag: &str, file: &Path) -> anyhow::Result<TrustedCertificates> {
    let pem = std::fs::read(file).with_context(|| format!("cannot read {flag} {}", file.display()))?;
    TrustedCertificates::from_pem(&pem).with_context(|| format!("cannot use {flag} {}", file.display()))
}

/// The TLS configuration of a client. Without `trusted`, it trusts the root certificates of Mozilla.
/// `identity` has the PEM files of the client's certificate chain and of its private key.
///
/// # Errors
/// If a certificate or the key cannot be used.
pub(super) fn tls_client_config(
    trusted: Option<&TrustedCertificates>,
    identity: Option<(&Path, &Path)>,
) -> anyhow::Result<Arc<ClientConfig>> {
    let mut store = RootCertStore::empty();
    match trusted {
        Some(roots) => {
            for root in roots.der() {
                store.add(root.to_vec().into()).context("a trusted CA certificate is invalid")?;
            }
        }
        None => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store);
    let Some((cert, key)) = identity else { return Ok(Arc::new(config.with_no_client_auth())) };
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.with_context(|| format!("cannot read the certificate {}", cert.display()))?;
    let private_key = PrivateKeyDer::from_pem_file(key);
    let private_key = private_key.with_context(|| format!("cannot read the private key {}", key.display()))?;
    let config = config.with_client_auth_cert(chain, private_key);
    Ok(Arc::new(config.with_context(|| format!("cannot use {} with {}", cert.display(), key.display()))?))
}
