//! The API key and the trusted certificates of commands that connect to a daemon.

use clap::Args;
use rustls::ClientConfig;
use sequor_client::{Connection, ConnectionOptions, TrustedCertificates};
use std::path::PathBuf;
use std::sync::Arc;

use super::tls_client::{read_trusted_certificates, tls_client_config};

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
        self.ca.as_ref().map(|file| read_trusted_certificates("--ca", file)).transpose()
    }

    /// Connections to the daemon at `url`, with the key and the certificates of the flags and the
    /// time limits of `limits`.
    pub(super) fn connect(&self, url: &str, limits: ConnectionOptions) -> anyhow::Result<Connection> {
        let options = ConnectionOptions { key: self.key.clone(), trusted: self.trusted_certificates()?, ..limits };
        Ok(Connection::new(url, &options)?)
    }

    pub(super) fn awc_tls_config(&self) -> anyhow::Result<Arc<ClientConfig>> {
        tls_client_config(self.trusted_certificates()?.as_ref(), None)
    }
}
