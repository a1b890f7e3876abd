//! Tasks that the servers run every second.

use actix_web::rt;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use crate::http::rate_limits::RateLimits;
use crate::http::state::ApiState;
use crate::http::tls::TlsCertificate;
use crate::metrics::ReloadTarget;

/// How often it is looked whether keys and certificate are others.
const LOOK: Duration = Duration::from_secs(1);

/// What is to be done.
pub(in crate::http) struct PeriodicTasks {
    pub(in crate::http) api: ApiState,
    pub(in crate::http) limits: Arc<RateLimits>,
    pub(in crate::http) certificate: Option<Arc<TlsCertificate>>,
}

impl PeriodicTasks {
    /// Takes up what others do to the files of keys and of the certificate, and forgets who has not
    /// come lately.
    pub(in crate::http) async fn run(self) {
        let mut every = rt::time::interval(LOOK);
        loop {
            every.tick().await;
            self.told(self.api.key_store.reload_if_changed(), ReloadTarget::Keys, "the keys");
            self.told(
                self.certificate.as_ref().map_or(Ok(false), |certificate| certificate.reload_if_changed()),
                ReloadTarget::Certificate,
                "the certificate",
            );
            self.limits.evict_idle(&self.api.key_store.key_ring());
        }
    }

    /// Says what came of looking at a file.
    fn told(&self, looked: Result<bool, impl Error + 'static>, what: ReloadTarget, name: &str) {
        match looked {
            Ok(false) => {}
            Ok(true) => tracing::info!(what = name, "a file was read again"),
            Err(error) => {
                self.api.metrics().reload_failures.with_label(what).increment(1);
                tracing::error!(
                    what = name,
                    error = &error as &dyn Error,
                    "a file that changed cannot be used; what it held before stays in force"
                );
            }
        }
    }
}
