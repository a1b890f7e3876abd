//! Shares the results of trainings with the other nodes of a cluster.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::Counter;

use crate::cluster::{MemberStatus, TrainingResults};
use crate::domain::NodeRole;
use crate::learner::{SharedTraining, TrainingExchange};
use crate::metrics::Metrics;

/// Shares the results of trainings with the other nodes of a cluster: a replica fetches them, and one
/// of the learners publishes them.
#[derive(Debug)]
pub struct ClusterTrainingExchange {
    results: TrainingResults,
    status: Arc<MemberStatus>,
    fetched_trainings: Counter,
    role: NodeRole,
    /// The longest time that a replica waits for a result.
    train_after: Duration,
    waiting: Mutex<WaitingRule>,
}

/// Decides for which results a replica waits. After results that did not arrive in time, it waits for
/// fewer of the following ones, and only looks for the others.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct WaitingRule {
    /// Number of consecutive results for which the replica waited in vain.
    failures: u32,
    /// Number of following results for which the replica does not wait.
    skipped: u32,
}

impl WaitingRule {
    /// Largest number of results for which the replica does not wait.
    const MAX_SKIPPED: u32 = 256;

    /// Whether the replica waits for the next result.
    fn waits(self) -> bool {
        self.skipped == 0
    }

    /// Records whether the next result was there.
    fn record(&mut self, is_there: bool) {
        if is_there {
            *self = Self::default();
        } else if self.waits() {
            self.failures += 1;
            self.skipped = 1_u32.checked_shl(self.failures).unwrap_or(Self::MAX_SKIPPED).min(Self::MAX_SKIPPED);
        } else {
            self.skipped -= 1;
        }
    }
}

impl ClusterTrainingExchange {
    /// Creates the exchange of a node.
    #[must_use]
    pub fn new(
        results: TrainingResults,
        status: Arc<MemberStatus>,
        metrics: &Metrics,
        role: NodeRole,
        train_after: Duration,
    ) -> Self {
        let fetched_trainings = metrics.cluster_fetched_trainings.clone();
        Self { results, status, fetched_trainings, role, train_after, waiting: Mutex::default() }
    }
}

impl TrainingExchange for ClusterTrainingExchange {
    fn fetch(&self, boundary: u64) -> Option<SharedTraining> {
        if self.role != NodeRole::Replica || self.status.is_cut_off() {
            return None;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let has_learner = self.status.nodes().iter().any(|report| report.role == NodeRole::Learner);
        let longest = if waiting.waits() && has_learner { self.train_after } else { Duration::ZERO };
        let fetched = self.results.fetch(boundary, longest);
        waiting.record(fetched.is_some());
        drop(waiting);
        let training = SharedTraining::from_bytes(&fetched?)?;
        self.fetched_trainings.increment(1);
        Some(training)
    }

    fn publishes(&self) -> bool {
        self.status.holds_training_lease()
    }

    fn publish(&self, boundary: u64, training: SharedTraining) {
        self.results.publish(boundary, training.to_bytes());
    }

    fn report_difference(&self, boundary: u64) {
        self.status.set_mismatch(format!(
            "the result of the training at boundary {boundary} differs from that of this node; check that the settings of the model are equal on all nodes, empty the data directory of this node and run `sequor cluster join`"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_waits_less_often_the_longer_no_result_arrives() {
        let mut rule = WaitingRule::default();
        let mut waits = 0;
        for _ in 0..1_000 {
            waits += u32::from(rule.waits());
            rule.record(false);
        }
        // After 2, 4, 8, … results without waiting, and later after 256.
        assert!((8..=11).contains(&waits), "{waits}");
        rule.record(true);
        assert_eq!(rule, WaitingRule::default());
        assert!(rule.waits());
    }
}
