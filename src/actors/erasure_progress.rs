//! Coordination of erasures: wakes the erasure job, and passes outcomes to waiting callers.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

use crate::store::{ErasedEntryCounts, ErasedUserDigest};

/// The largest number of outcomes to keep. Each erased user has one outcome: the numbers of removed
/// entries.
const MAX_KEPT_OUTCOMES: usize = 1024;

/// Connects the erasure job with the callers that request erasures and wait for their outcomes.
/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ErasureProgress {
    shared: Arc<ErasureProgressState>,
}

#[derive(Debug, Default)]
struct ErasureProgressState {
    /// Wakes the erasure job.
    requested: Notify,
    /// Wakes the callers that wait for an outcome.
    finished: Notify,
    /// Outcomes by user, oldest first.
    outcomes: Mutex<VecDeque<(ErasedUserDigest, ErasedEntryCounts)>>,
}

impl ErasureProgress {
    /// Wakes the erasure job.
    pub(super) fn wake_job(&self) {
        self.shared.requested.notify_one();
    }

    /// Waits until a caller requests an erasure.
    pub(super) async fn wait_for_request(&self) {
        self.shared.requested.notified().await;
    }

    /// Removes and returns the outcome of a user's erasure.
    fn take_outcome(&self, user: &str) -> Option<ErasedEntryCounts> {
        let mut outcomes = self.shared.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let position = outcomes.iter().position(|(erased, _)| *erased == ErasedUserDigest::from_user_id(user))?;
        outcomes.remove(position).map(|(_, counts)| counts)
    }

    /// Waits until all `users` are erased. Returns the total numbers of removed entries, or `None`
    /// if that takes longer than `timeout`.
    pub(super) async fn wait_for_outcomes(&self, users: &[String], timeout: Duration) -> Option<ErasedEntryCounts> {
        let wait = async {
            let (mut waiting, mut total): (Vec<_>, _) = (users.iter().collect(), ErasedEntryCounts::default());
            loop {
                let finished = self.shared.finished.notified();
                waiting.retain(|user| match self.take_outcome(user) {
                    Some(counts) => {
                        total.add(counts);
                        false
                    }
                    None => true,
                });
                if waiting.is_empty() {
                    return total;
                }
                finished.await;
            }
        };
        actix::clock::timeout(timeout, wait).await.ok()
    }

    /// Publishes the outcomes of finished erasures.
    pub(super) fn publish_outcomes(&self, removed_by_user: &HashMap<String, ErasedEntryCounts>) {
        let mut outcomes = self.shared.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.extend(removed_by_user.iter().map(|(user, counts)| (ErasedUserDigest::from_user_id(user), *counts)));
        let surplus = outcomes.len().saturating_sub(MAX_KEPT_OUTCOMES);
        outcomes.drain(..surplus);
        drop(outcomes);
        self.shared.finished.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_outcomes_is_bounded_and_the_latest_are_kept() {
        let progress = ErasureProgress::default();
        for number in 0..10 * MAX_KEPT_OUTCOMES {
            let counts = ErasedEntryCounts { events: number as u64, ..ErasedEntryCounts::default() };
            progress.publish_outcomes(&HashMap::from([(format!("user {number}"), counts)]));
            let kept = progress.shared.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            assert!(kept.len() <= MAX_KEPT_OUTCOMES && kept.back().unwrap().1 == counts);
        }
        let kept = |number: usize| progress.take_outcome(&format!("user {number}")).is_some();
        assert!(kept(9 * MAX_KEPT_OUTCOMES) && !kept(9 * MAX_KEPT_OUTCOMES - 1));
    }
}
