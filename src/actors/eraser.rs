//! Carries out what was asked of users who are to be forgotten.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

use super::system::{System, SystemError};
use super::upkeep::StoreMaintenance;
use crate::store::{ErasedEntryCounts, ErasedUserDigest, PendingTask};

/// How often it is looked for erasures under way: those of an earlier process, and those that could
/// not be finished the last time.
const EVERY: Duration = Duration::from_secs(1);
/// Of how many users who were erased lately it is known what went.
const REMEMBERED: usize = 1024;

/// What is known of the erasures of this process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ErasureJob {
    shared: Arc<ErasureJobState>,
}

#[derive(Debug, Default)]
struct ErasureJobState {
    /// There may be something to do.
    asked: Notify,
    /// Something was done.
    done: Notify,
    /// The oldest first.
    gone: Mutex<VecDeque<(ErasedUserDigest, ErasedEntryCounts)>>,
}

impl ErasureJob {
    /// Has it looked for erasures at once.
    pub(super) fn request(&self) {
        self.shared.asked.notify_one();
    }

    /// What went with a user who was erased lately; what was found is not found again.
    fn take(&self, user: &str) -> Option<ErasedEntryCounts> {
        let mut all = self.shared.gone.lock().unwrap_or_else(PoisonError::into_inner);
        let place = all.iter().position(|(erased, _)| *erased == ErasedUserDigest::from_user_id(user))?;
        all.remove(place).map(|(_, gone)| gone)
    }

    /// Waits until all these users are erased, and says what went with them; `None` if that takes
    /// longer than `patience`.
    pub(super) async fn wait(&self, users: &[String], patience: Duration) -> Option<ErasedEntryCounts> {
        let wait = async {
            let (mut left, mut sum): (Vec<_>, _) = (users.iter().collect(), ErasedEntryCounts::default());
            loop {
                let done = self.shared.done.notified();
                left.retain(|user| match self.take(user) {
                    Some(gone) => {
                        sum.add(gone);
                        false
                    }
                    None => true,
                });
                if left.is_empty() {
                    return sum;
                }
                done.await;
            }
        };
        actix::clock::timeout(patience, wait).await.ok()
    }

    fn tell(&self, gone: &HashMap<String, ErasedEntryCounts>) {
        let mut all = self.shared.gone.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(gone.iter().map(|(user, gone)| (ErasedUserDigest::from_user_id(user), *gone)));
        let surplus = all.len().saturating_sub(REMEMBERED);
        all.drain(..surplus);
        drop(all);
        self.shared.done.notify_waiters();
    }
}

/// Erases for as long as the system runs. What was asked stands in the journal and in the store, so
/// that whatever dies on the way is gone on with by the next start.
pub async fn erase(system: System) {
    let mut every = actix::clock::interval(EVERY);
    loop {
        let shared = &system.erasing().shared;
        tokio::select! {
            _ = every.tick() => {}
            () = shared.asked.notified() => {}
        }
        match pass(&system).await {
            Ok(()) | Err(SystemError::NotReached { .. } | SystemError::MaintenanceRunning) => {}
            Err(SystemError::ActorStopped(_) | SystemError::Stopping) => return,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "users who are to be forgotten could not be yet; it is tried again"
                );
            }
        }
    }
}

/// Carries out everything that is under way, if whatever is folded from the journal has passed it.
async fn pass(system: &System) -> Result<(), SystemError> {
    let store = system.store().clone();
    let due = store.erasures().in_progress()?;
    let Some((last, _)) = due.last() else {
        // The last time something kept it from being done.
        let upkeep = system.upkeep().clone();
        return if store.erasures().is_pending(PendingTask::Compaction)? { blocking(move || rewrite(&upkeep)).await } else { Ok(()) };
    };
    let beyond = last + 1;
    system.wait_for_offset(beyond, EVERY).await?;
    let reached = system.persist_with(false).await?;
    if reached < beyond {
        return Err(SystemError::NotReached { wanted: beyond, reached });
    }
    let (upkeep, users) = (system.upkeep().clone(), due.len());
    let blanked = blocking(move || {
        let blanked = store.erase_users(&due)?;
        rewrite(&upkeep)?;
        Ok(blanked)
    })
    .await?;
    tracing::info!(users, "users were forgotten");
    system.forget_ids(blanked.event_ids).await?;
    system.erasing().tell(&blanked.removed_by_user);
    Ok(())
}

/// Writes the database's files anew: what they hold of what was erased goes with them.
fn rewrite(upkeep: &StoreMaintenance) -> Result<(), SystemError> {
    upkeep.compact()?;
    Ok(upkeep.store().erasures().clear_pending(PendingTask::Compaction)?)
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, SystemError> + Send + 'static) -> Result<T, SystemError> {
    actix_rt::task::spawn_blocking(work).await.map_err(|_| SystemError::ActorStopped("eraser"))?
}
