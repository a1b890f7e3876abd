//! Connects to the brokers of Kafka: TLS, and authentication by SASL.

use anyhow::{bail, ensure};
use clap::ValueEnum;
use rskafka::BackoffConfig;
use rskafka::client::{Client, ClientBuilder, Credentials as SaslCredentials, SaslConfig};
use std::time::Duration;

use super::access_flags::{AccessFlags, Credentials};

/// Longest pause between two attempts of a request.
const MAX_REQUEST_PAUSE: Duration = Duration::from_secs(1);

/// A mechanism of SASL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum SaslMechanism {
    /// The password itself (RFC 4616), which only TLS encrypts.
    Plain,
    /// A proof of the password (RFC 7677).
    #[value(name = "scram-sha-256")]
    ScramSha256,
    /// A proof of the password with SHA-512.
    #[value(name = "scram-sha-512")]
    ScramSha512,
}

/// The brokers to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KafkaBrokers {
    /// `HOST:PORT` of each broker, separated by commas.
    pub(super) addresses: String,
    /// Whether the connections use TLS.
    pub(super) uses_tls: bool,
}

/// Connects to one of the brokers. `answer_limit` is the longest time that the brokers have for an
/// answer; a third of it is for retries, whose last error tells more than that there is no answer.
///
/// # Errors
/// If the flags do not fit together, a file cannot be used, or no broker accepts the connection.
pub(super) async fn connect(
    brokers: &KafkaBrokers,
    sasl: SaslMechanism,
    access: &AccessFlags,
    answer_limit: Duration,
) -> anyhow::Result<Client> {
    let backoff =
        BackoffConfig { max_backoff: MAX_REQUEST_PAUSE, deadline: Some(answer_limit / 3), ..BackoffConfig::default() };
    let addresses = brokers.addresses.split(',').map(str::to_owned).collect();
    let mut builder = ClientBuilder::new(addresses).client_id("sequor").backoff_config(backoff);
    ensure!(brokers.uses_tls || !access.uses_tls(), "--tls-ca and --tls-cert need an address with kafka+tls://");
    if brokers.uses_tls {
        builder = builder.tls_config(access.tls_config()?);
    }
    match access.read_credentials()? {
        Some(Credentials::Nats(_)) => bail!("--credentials has NATS credentials; Kafka needs one line `user:password`"),
        Some(Credentials::Password(user, password)) => {
            if sasl == SaslMechanism::Plain && !brokers.uses_tls {
                eprintln!("warning: the password is sent unencrypted; use kafka+tls:// or --sasl scram-sha-512");
            }
            let credentials = SaslCredentials::new(user, password);
            builder = builder.sasl_config(match sasl {
                SaslMechanism::Plain => SaslConfig::Plain(credentials),
                SaslMechanism::ScramSha256 => SaslConfig::ScramSha256(credentials),
                SaslMechanism::ScramSha512 => SaslConfig::ScramSha512(credentials),
            });
        }
        None => {}
    }
    builder.build().await.map_err(|error| {
        let hint = hint_for(&error.to_string(), brokers.uses_tls);
        anyhow::Error::new(error).context(format!("cannot connect to {}{hint}", brokers.addresses))
    })
}

/// What the user can do about a failed connection. The library describes most causes as text only.
fn hint_for(error: &str, uses_tls: bool) -> &'static str {
    let is_closed = error.contains("eof") || error.contains("close_notify") || error.contains("CertificateRequired");
    if error.contains("UnsupportedSaslMechanism") || error.contains("unsupported sasl mechanism") {
        ", which does not support this --sasl mechanism"
    } else if error.contains("SaslAuthenticationFailed") || error.contains("SCRAM outcome error") {
        ", which refuses the user or the password of --credentials"
    } else if error.contains("UnknownIssuer") {
        ", whose certificate is not trusted; name its CA certificate with --tls-ca"
    } else if is_closed && error.contains("Sasl handshake failed") {
        ", which closes the connection; it may not support this --sasl mechanism"
    } else if is_closed && uses_tls {
        ", which closes the connection; it may require --tls-cert or --credentials"
    } else if is_closed {
        ", which closes the connection; it may require TLS (kafka+tls://) or --credentials"
    } else {
        ""
    }
}
