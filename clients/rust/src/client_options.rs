//! Settings of the client.

use std::time::Duration;

use crate::buffer::BufferOptions;
use crate::connection::TrustedCertificates;
use crate::environment::Environment;
use crate::retry::RetryPolicy;

/// Settings of a [`SequorClient`](crate::SequorClient).
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// An API key.
    pub key: Option<String>,
    /// The authorities to trust for `https://` addresses. `None` selects the root certificates of
    /// Mozilla.
    pub trusted: Option<TrustedCertificates>,
    /// Time limit for each attempt.
    pub timeout: Duration,
    /// When a request is sent again.
    pub retry: RetryPolicy,
    /// How `track` queues and sends events.
    pub buffer: BufferOptions,
    /// The clock, the waits and the random numbers.
    pub environment: Environment,
}

impl Default for ClientOptions {
    /// No key, 10 s, and the defaults of the members.
    fn default() -> Self {
        Self {
            key: None,
            trusted: None,
            timeout: Duration::from_secs(10),
            retry: RetryPolicy::default(),
            buffer: BufferOptions::default(),
            environment: Environment::default(),
        }
    }
}
