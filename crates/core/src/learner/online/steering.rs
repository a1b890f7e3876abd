//! Applies the operations on the model: pause, resume, rollback, change of the learning rate or of
//! the training share, and clustering on request.

use crate::domain::{ItemIx, ModelChange, ModelOperation, Offset};

use super::Learner;
use crate::learner::error::LearnerError;
use crate::learner::state::LearnerState;

/// Maximum number of operations on the model that are recorded.
const MAX_RECORDED_OPERATIONS: usize = 64;

impl Learner {
    /// How many times the training share has been halved. The learner tests and trains on one event
    /// in 2^halvings.
    #[must_use]
    pub fn training_share_halvings(&self) -> u8 {
        let share = self.state.operations.iter().rev().find_map(|(_, change)| match change.operation {
            ModelOperation::TrainingShare { halvings } => Some(halvings),
            _ => None,
        });
        share.unwrap_or(0).min(ModelOperation::MAX_HALVINGS)
    }

    /// Applies an operation on the model and records it.
    pub(super) fn apply_model_change(&mut self, offset: Offset, change: &ModelChange) -> Result<(), LearnerError> {
        match change.operation {
            ModelOperation::Pause => self.state.is_paused = true,
            ModelOperation::Resume => self.state.is_paused = false,
            ModelOperation::LearningRate { value } => {
                if let Some(training) = &mut self.state.training {
                    training.set_learning_rate(value);
                }
            }
            ModelOperation::Recluster => self.state.clustering.request_now(),
            ModelOperation::Rollback { to } => self.roll_back(to)?,
            ModelOperation::TrainingShare { .. } => {}
        }
        let operations = &mut self.state.operations;
        // Keep one training-share operation only: the latest. It must not be evicted, because it is
        // still in force.
        if matches!(change.operation, ModelOperation::TrainingShare { .. }) {
            operations.retain(|(_, earlier)| !matches!(earlier.operation, ModelOperation::TrainingShare { .. }));
        }
        if operations.len() >= MAX_RECORDED_OPERATIONS {
            let oldest = operations
                .iter()
                .position(|(_, earlier)| !matches!(earlier.operation, ModelOperation::TrainingShare { .. }));
            operations.remove(oldest.unwrap_or(0));
        }
        operations.push_back((offset, *change));
        Ok(())
    }

    /// Restores the network, the ranker with its heads, the clusters, the weights of scores and
    /// relevance, and what the interest models know about items from the state before entry `to`.
    /// Then sets the attributes of all items again, because the restored network does not know the
    /// attributes of items that were added after `to`.
    fn roll_back(&mut self, to: Offset) -> Result<(), LearnerError> {
        self.state()?;
        let earlier = self
            .state_history
            .state_at(&self.state, to)
            .map_err(|source| LearnerError::HistoryUnavailable { to, source })?;
        let LearnerState {
            settings, next_offset: next, item_count: items, catalog, vocabulary, training, health, ..
        } = &mut self.state;
        let earlier_item_count = earlier.item_count;
        if let (Some(training), Some(earlier)) = (training, earlier.training) {
            training.roll_back(earlier, *next / settings.learning.interval, settings.learning.refresh_after);
            for item in (0..*items).filter_map(|item| ItemIx::try_from(item).ok()) {
                let Some(known) = catalog.get(item) else { continue };
                let values = vocabulary.attribute_numbers(known);
                if item as usize >= earlier_item_count {
                    let mut similar = vocabulary.similar_items(&values);
                    similar.retain(|other| *other != item);
                    training.add_new_item(item, similar);
                }
                training.set_attributes(item, values);
            }
        }
        health.restart_after_rollback(to);
        self.state.supplement.interests.roll_back(&earlier.supplement.interests);
        (self.state.ranker, self.state.clustering) = (earlier.ranker, earlier.clustering);
        self.state.objectives.roll_back(&earlier.objectives);
        self.state.relevance.model = earlier.relevance.model;
        self.state.projections = earlier.projections;
        self.state.features.roll_back(&earlier.features);
        self.order_rows_by_cluster();
        Ok(())
    }
}
