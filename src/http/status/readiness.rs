//! Readiness of the service.

use crate::actors::learner::LearnerStatus;
use crate::actors::system::System;

/// The reason why the service is not ready; `None` if it is ready.
pub(in crate::http) fn not_ready_reason(system: &System, learner: &LearnerStatus) -> Option<&'static str> {
    if learner.has_failed {
        return Some("learning has stopped for an error and is tried again; the log names it");
    }
    if system.ingest.is_draining() {
        return Some("the daemon is being drained: it takes nothing any more, and answers go on");
    }
    if system.store.has_failed() {
        return Some("the journal takes no writes since one failed; the log tells why, and it is tried again");
    }
    None
}
