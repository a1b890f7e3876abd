//! The model is steered: paused, rolled back, clustered anew.

use crate::domain::{ItemIx, ModelChange, ModelOperation, Offset};

use super::Learner;
use crate::learner::error::LearnerError;
use crate::learner::state::LearnerState;

/// Acts upon the model that are remembered.
const ACTS: usize = 64;

impl Learner {
    /// The model is steered.
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
        }
        let acts = &mut self.state.operations;
        if acts.len() >= ACTS {
            acts.pop_front();
        }
        acts.push_back((offset, *change));
        Ok(())
    }

    /// Network, ranker and clusters become what they were. What the catalog has said since is said
    /// again: their rows may not know it.
    fn roll_back(&mut self, to: Offset) -> Result<(), LearnerError> {
        self.state()?;
        let earlier = self.state_history.state_at(&self.state, to).map_err(|source| LearnerError::HistoryUnavailable { to, source })?;
        let LearnerState { settings, next_offset: next, item_count: items, catalog, vocabulary, training, health, .. } = &mut self.state;
        let known_then = earlier.item_count;
        if let (Some(training), Some(earlier)) = (training, earlier.training) {
            training.roll_back(earlier, *next / settings.learning.interval, settings.learning.refresh_after);
            for item in (0..*items).filter_map(|item| ItemIx::try_from(item).ok()) {
                let Some(known) = catalog.get(item) else { continue };
                let values = vocabulary.encode(known);
                if item as usize >= known_then {
                    let mut alike = vocabulary.similar_items(&values);
                    alike.retain(|other| *other != item);
                    training.add_item_like(item, alike);
                }
                training.set_attributes(item, values);
            }
        }
        health.restart_from(to);
        (self.state.ranker, self.state.clustering) = (earlier.ranker, earlier.clustering);
        Ok(())
    }
}
