//! Readiness of the service.

use std::borrow::Cow;

use crate::actors::learner::LearnerStatus;
use crate::actors::system::System;

/// The reason why the service is not ready; `None` if it is ready.
pub(in crate::http) fn not_ready_reason(system: &System, learner: &LearnerStatus) -> Option<Cow<'static, str>> {
    if learner.has_failed {
        return Some(Cow::Borrowed(
            "learning has stopped with an error; the daemon tries again, and the log has the error",
        ));
    }
    if system.ingest.is_draining() {
        return Some(Cow::Borrowed("the daemon is draining: it accepts no writes, and recommendations continue"));
    }
    if system.store.has_failed() {
        return Some(Cow::Borrowed(
            "the journal accepts no writes, because a write failed; the daemon tries again, and the log has the error",
        ));
    }
    system.cluster.as_ref().and_then(|cluster| cluster.not_ready_reason()).map(Cow::Owned)
}
