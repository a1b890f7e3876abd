//! Tasks that the servers run every second.

use actix_web::rt;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use crate::http::rate_limits::RateLimits;
use crate::http::state::ApiState;
use crate::http::suspicious_senders::SenderMonitor;
use crate::http::tls::TlsCertificate;
use crate::http::tls_validity::ValidityMonitor;
use crate::metrics::ReloadTarget;

/// Interval of the tasks.
const TASK_INTERVAL: Duration = Duration::from_secs(1);

/// The state that the periodic tasks work on.
pub(in crate::http) struct PeriodicTasks {
    pub(in crate::http) api: ApiState,
    pub(in crate::http) limits: Arc<RateLimits>,
    pub(in crate::http) certificate: Option<Arc<TlsCertificate>>,
}

impl PeriodicTasks {
    /// Reloads changed keys and certificates, warns before the certificate expires, warns about
    /// suspicious API keys, and removes idle rate limiters. Repeats this every second until the
    /// actix task is aborted.
    pub(in crate::http) async fn run(self) {
        let mut interval = rt::time::interval(TASK_INTERVAL);
        let (mut validity, mut senders) = (ValidityMonitor::default(), SenderMonitor::default());
        loop {
            interval.tick().await;
            self.report_reload(self.api.key_store.reload_if_changed(), ReloadTarget::Keys, "the keys");
            self.report_reload(
                self.certificate.as_ref().map_or(Ok(false), |certificate| certificate.reload_if_changed()),
                ReloadTarget::Certificate,
                "the certificate",
            );
            if let Some(found) = self.certificate.as_ref().and_then(|certificate| certificate.validity()) {
                validity.check(found, self.api.clock.now(), self.api.metrics());
            }
            senders.check(&self.api);
            self.limits.evict_idle(&self.api.key_store.key_ring());
        }
    }

    /// Logs whether a reload changed anything or failed, and counts failures.
    fn report_reload(&self, result: Result<bool, impl Error + 'static>, target: ReloadTarget, name: &str) {
        match result {
            Ok(false) => {}
            Ok(true) => tracing::info!(what = name, "reloaded a changed file"),
            Err(error) => {
                self.api.metrics().reload_failures.with_label(target).increment(1);
                tracing::error!(
                    what = name,
                    error = &error as &dyn Error,
                    "a changed file cannot be loaded; its previous content stays in force"
                );
            }
        }
    }
}
