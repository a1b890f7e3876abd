//! Looks after the model: takes it back when it does worse than it did.

use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::Duration;

use crate::actors::error::SystemError;
use crate::actors::system::System;
use crate::clock::Clock;
use crate::learner::SafetySettings;

/// How often the model is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Watches over the model for as long as the system runs. What it does stands in the journal, as
/// what an operator does.
pub async fn run_watchdog(system: System, safety: Arc<ArcSwap<SafetySettings>>, clock: Clock) {
    let mut every = actix::clock::interval(EVERY);
    loop {
        every.tick().await;
        match look(&system, &safety.load(), &clock).await {
            Ok(()) => {}
            Err(SystemError::ActorStopped(_)) => return,
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "the model should be taken back and could not be"),
        }
    }
}

async fn look(system: &System, safety: &SafetySettings, clock: &Clock) -> Result<(), SystemError> {
    let standing = system.learner_status().await?;
    // What is old was judged when it was new, and what was done then may still lie ahead of the
    // fold.
    let lag = system.store().journal().next_offset()?.saturating_sub(standing.next_offset);
    if standing.report.is_paused || standing.has_failed || lag > system.admission().limit() as u64 {
        return Ok(());
    }
    let points = || Ok::<_, SystemError>(system.store().list_restore_points()?.into_iter().map(|point| point.offset).collect());
    for (act, cause) in safety.decide_operations(&standing.health, &standing.operations, points)? {
        let now = standing.health.current();
        tracing::error!(
            act = act.name(),
            reason = cause.name(),
            mrr = now.quality.recent,
            usual_mrr = now.quality.usual,
            loss = now.loss.recent,
            usual_loss = now.loss.usual,
            not_finite = now.non_finite_share,
            "the model does worse than it did and is taken back"
        );
        system.steer(act, cause, clock.now()).await?;
    }
    Ok(())
}
