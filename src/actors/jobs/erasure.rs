//! The erasure job: removes the users whose erasure was requested.

use std::time::Duration;

use super::maintenance::StoreMaintenance;
use crate::actors::error::SystemError;
use crate::actors::system::System;
use crate::store::PendingTask;

/// How often the job looks for erasures without being asked: those of an earlier process, and those
/// that failed.
const INTERVAL: Duration = Duration::from_secs(1);

/// Runs erasures for as long as the system runs. A request is stored in the journal and in the
/// store, so that the next start resumes an erasure that was interrupted.
pub async fn run_erasures(system: System) {
    let mut interval = actix::clock::interval(INTERVAL);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = system.erasure_progress().wait_for_request() => {}
        }
        match erase_pending(&system).await {
            Ok(()) | Err(SystemError::NotReached { .. } | SystemError::MaintenanceRunning) => {}
            Err(SystemError::ActorStopped(_) | SystemError::Stopping) => return,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "users could not be erased; the job tries again");
            }
        }
    }
}

/// Erases every pending user, once all derived state contains the request.
async fn erase_pending(system: &System) -> Result<(), SystemError> {
    let store = system.store().clone();
    let due = store.erasures().in_progress()?;
    let Some((last, _)) = due.last() else {
        // A compaction that an earlier pass could not run.
        let maintenance = system.maintenance().clone();
        let is_pending = store.erasures().is_pending(PendingTask::Compaction)?;
        return if is_pending { run_blocking(move || rewrite_database(&maintenance)).await } else { Ok(()) };
    };
    let beyond = last + 1;
    system.wait_for_offset(beyond, INTERVAL).await?;
    let reached = system.persist_with(false).await?;
    if reached < beyond {
        return Err(SystemError::NotReached { wanted: beyond, reached });
    }
    let (maintenance, users) = (system.maintenance().clone(), due.len());
    let summary = run_blocking(move || {
        let summary = store.erase_users(&due)?;
        rewrite_database(&maintenance)?;
        Ok(summary)
    })
    .await?;
    tracing::info!(users, "users were erased");
    system.forget_event_ids(summary.event_ids).await?;
    system.erasure_progress().publish_outcomes(&summary.removed_by_user);
    Ok(())
}

/// Rewrites the database's files, so that they hold no bytes of what was erased.
fn rewrite_database(maintenance: &StoreMaintenance) -> Result<(), SystemError> {
    maintenance.compact()?;
    Ok(maintenance.store().erasures().clear_pending(PendingTask::Compaction)?)
}

/// Runs blocking work on a thread that may wait.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SystemError> + Send + 'static,
) -> Result<T, SystemError> {
    actix_rt::task::spawn_blocking(work).await.map_err(|_| SystemError::ActorStopped("erasure job"))?
}
