//! The API key and the trusted certificates of commands that connect to a daemon.

use anyhow::{Context, ensure};
use clap::Args;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::path::PathBuf;
use std::sync::Arc;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Flags of every command that connects to a daemon.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct ClientAuth {
    /// API key, if the daemon requires one (`sequor key create`). Prefer the environment variable:
    /// other users of the machine can read command lines.
    #[arg(long, value_name = "KEY", env = "SEQUOR_KEY", hide_env_values = true, global = true)]
    key: Option<String>,
    /// PEM file with the CA certificates to trust for https:// URLs [default: the built-in Mozilla
    /// root certificates].
    #[arg(long, value_name = "FILE", env = "SEQUOR_CA", global = true)]
    ca: Option<PathBuf>,
}

impl ClientAuth {
    /// The value of the `Authorization` header, if a key is set.
    pub(super) fn authorization_header(&self) -> Option<String> {
        self.key.as_ref().map(|key| format!("Bearer {key}"))
    }

    /// The certificates of `--ca`; `None` selects the built-in Mozilla roots.
    fn trusted_roots(&self) -> anyhow::Result<Option<Vec<CertificateDer<'static>>>> {
        let Some(file) = &self.ca else { return Ok(None) };
        let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let roots = read.with_context(|| format!("cannot read --ca {} as PEM", file.display()))?;
        ensure!(!roots.is_empty(), "--ca {} contains no certificate", file.display());
        Ok(Some(roots))
    }

    pub(super) fn ureq_tls_config(&self) -> anyhow::Result<TlsConfig> {
        let roots = match self.trusted_roots()? {
            Some(roots) => RootCerts::new_with_certs(
                &roots.iter().map(|root| Certificate::from_der(root).to_owned()).collect::<Vec<_>>(),
            ),
            None => RootCerts::WebPki,
        };
        Ok(TlsConfig::builder().root_certs(roots).build())
    }

    pub(super) fn awc_tls_config(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let mut store = RootCertStore::empty();
        match self.trusted_roots()? {
            Some(roots) => {
                for root in roots {
                    store.add(root).context("--ca contains an invalid CA certificate")?;
                }
            }
            None => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?;
        Ok(Arc::new(config.with_root_certificates(store).with_no_client_auth()))
    }
}
