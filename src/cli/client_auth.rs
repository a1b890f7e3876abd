//! The API key and the trusted certificates of commands that connect to a daemon.

use anyhow::Context;
use clap::Args;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use sequor_client::{Connection, ConnectionOptions, TrustedCertificates};
use std::path::PathBuf;
use std::sync::Arc;

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
    fn trusted_certificates(&self) -> anyhow::Result<Option<TrustedCertificates>> {
        let Some(file) = &self.ca else { return Ok(None) };
        let pem = std::fs::read(file).with_context(|| format!("cannot read --ca {}", file.display()))?;
        let trusted = TrustedCertificates::from_pem(&pem);
        Ok(Some(trusted.with_context(|| format!("cannot use --ca {}", file.display()))?))
    }

    /// Connections to the daemon at `url`, with the key and the certificates of the flags and the
    /// time limits of `limits`.
    pub(super) fn connect(&self, url: &str, limits: ConnectionOptions) -> anyhow::Result<Connection> {
        let options = ConnectionOptions { key: self.key.clone(), trusted: self.trusted_certificates()?, ..limits };
        Ok(Connection::new(url, &options)?)
    }

    pub(super) fn awc_tls_config(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let mut store = RootCertStore::empty();
        match self.trusted_certificates()? {
            Some(roots) => {
                for root in roots.der() {
                    store.add(root.to_vec().into()).context("--ca contains an invalid CA certificate")?;
                }
            }
            None => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?;
        Ok(Arc::new(config.with_root_certificates(store).with_no_client_auth()))
    }
}
