//! Flags for the access to a NATS server or a Kafka broker: the user and TLS.

use anyhow::{Context, bail};
use clap::Args;
use rustls::ClientConfig;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::tls_client::{read_trusted_certificates, tls_client_config};

/// The first line of a credentials file of NATS.
const NATS_CREDENTIALS_HEAD: &str = "-----BEGIN NATS USER JWT-----";

/// Flags for the access to a NATS server or a Kafka broker.
#[derive(Debug, Clone, Args)]
pub(super) struct AccessFlags {
    /// File with one line `user:password`, or with NATS credentials.
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
    /// PEM file with the CA certificates to trust.
    #[arg(long, value_name = "FILE")]
    pub(super) tls_ca: Option<PathBuf>,
    /// PEM file with the certificate by which a server recognises this client.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the private key of --tls-cert.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

/// The content of a credentials file.
pub(super) enum Credentials {
    /// Credentials of NATS: a token and a key.
    Nats(String),
    /// A user and a password.
    Password(String, String),
}

impl AccessFlags {
    /// Reads the credentials file, if there is one.
    pub(super) fn read_credentials(&self) -> anyhow::Result<Option<Credentials>> {
        let Some(file) = &self.credentials else { return Ok(None) };
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        if text.contains(NATS_CREDENTIALS_HEAD) {
            return Ok(Some(Credentials::Nats(text)));
        }
        match text.trim_end_matches(['\r', '\n']).split_once(':') {
            Some((user, password)) if !password.contains('\n') => {
                Ok(Some(Credentials::Password(user.to_owned(), password.to_owned())))
            }
            _ => bail!("{} must contain one line `user:password`, or NATS credentials", file.display()),
        }
    }

    /// The files of the client's certificate and of its key.
    pub(super) fn identity(&self) -> Option<(&Path, &Path)> {
        self.tls_cert.as_deref().zip(self.tls_key.as_deref())
    }

    /// All files.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.credentials, &self.tls_ca, &self.tls_cert, &self.tls_key].into_iter().filter_map(|file| file.as_deref())
    }

    /// Whether a flag of TLS is set.
    pub(super) fn uses_tls(&self) -> bool {
        self.tls_ca.is_some() || self.tls_cert.is_some()
    }

    /// The TLS configuration of a connection.
    pub(super) fn tls_config(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let trusted = self.tls_ca.as_ref().map(|file| read_trusted_certificates("--tls-ca", file)).transpose()?;
        tls_client_config(trusted.as_ref(), self.identity())
    }
}

/// An address without the user and the password that it may contain.
pub(super) fn without_password(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => address.to_owned(),
    }
}
