//! The quality watchdog: rolls the model back if its loss or its quality gets worse.

use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::Duration;

use crate::actors::error::{MaintenanceError, RequestError};
use crate::actors::system::System;
use crate::clock::Clock;
use crate::learner::SafetySettings;

/// The time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Checks the model until the system stops. The watchdog's operations are journal entries, like
/// those of an operator.
pub async fn run_watchdog(system: System, safety: Arc<ArcSwap<SafetySettings>>, clock: Clock) {
    let mut interval = actix::clock::interval(CHECK_INTERVAL);
    loop {
        interval.tick().await;
        match check_model(&system, &safety.load(), &clock).await {
            Ok(()) => {}
            Err(MaintenanceError::Request(RequestError::ActorStopped(_))) => return,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the model could not be rolled back")
            }
        }
    }
}

async fn check_model(system: &System, safety: &SafetySettings, clock: &Clock) -> Result<(), MaintenanceError> {
    let status = system.model.status();
    // If the learner lags, the check is skipped. The journal may already contain an operation of an
    // earlier check that the learner has not applied yet, and a second operation for the same cause
    // must not follow.
    let lag = system.store.journal().next_offset()?.saturating_sub(status.next_offset);
    if status.has_failed || lag > system.ingest.admission().limit() as u64 {
        return Ok(());
    }
    if status.report.is_paused {
        if let Some((operation, cause)) = safety.decide_trial(status.next_offset, &status.operations) {
            tracing::warn!("learning was paused because the model got worse; it now resumes for a trial");
            system.model.apply_job_operation(operation, cause, status.next_offset, clock.now()).await?;
        }
        return Ok(());
    }
    let points = || {
        Ok::<_, MaintenanceError>(system.store.list_restore_points()?.into_iter().map(|point| point.offset).collect())
    };
    let mut decided_at = status.next_offset;
    for (operation, cause) in safety.decide_operations(&status.health, &status.operations, points)? {
        let health = status.health.current();
        tracing::error!(
            act = operation.name(),
            reason = cause.name(),
            mrr = health.quality.recent,
            usual_mrr = health.quality.usual,
            loss = health.loss.recent,
            usual_loss = health.loss.usual,
            not_finite = health.non_finite_share,
            "the model got worse and is changed"
        );
        // The next operation belongs to the same decision, so this one does not prevent it.
        decided_at = system.model.apply_job_operation(operation, cause, decided_at, clock.now()).await? + 1;
    }
    Ok(())
}
