//! The clustering schedule: at which offset a clustering starts, and from which offset the learner
//! uses its clusters.

use crate::candidates::{ClusterError, ClusterSettings, Clusters};
use crate::domain::Offset;
use crate::nn::Weights;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::background_jobs::BackgroundJobs;

/// The result of a clustering job.
pub type ClusteringResult = Result<Clusters, ClusterError>;

/// Schedules the clusterings of item embeddings. A clustering starts every `clusters.every` journal
/// entries, from the embeddings at that offset. The learner uses the new clusters `clusters.lag`
/// entries later.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ClusteringSchedule {
    current: Option<Arc<Clusters>>,
    /// The result of a finished clustering that is not yet in use.
    ready: Option<Arc<Clusters>>,
    #[serde(skip)]
    is_running: bool,
    /// The offset from which the learner uses the result of the pending clustering.
    apply_at: Option<Offset>,
    /// Whether a clustering was requested. A requested clustering starts at the next offset.
    is_requested: bool,
}

impl ClusteringSchedule {
    /// The clusters in use; `None` before the first clustering.
    #[must_use]
    pub fn current_clusters(&self) -> Option<&Arc<Clusters>> {
        self.current.as_ref()
    }

    /// Requests a clustering at the next offset, regardless of the schedule.
    pub fn request_now(&mut self) {
        self.is_requested = true;
    }

    /// Does the work that is due at offset `next`: puts the result of the last clustering into use,
    /// starts the next clustering, or both.
    pub fn run_due_work(
        &mut self,
        next: Offset,
        weights: &Arc<Weights>,
        settings: &ClusterSettings,
        seed: u64,
        background: &mut dyn BackgroundJobs<ClusteringResult>,
    ) {
        if self.apply_at == Some(next) {
            self.apply_at = None;
            self.finish_pending(background);
            if let Some(ready) = self.ready.take() {
                self.current = Some(ready);
            }
        }
        if (next.is_multiple_of(settings.every) || std::mem::take(&mut self.is_requested)) && weights.item_count() > 0 {
            self.finish_pending(background);
            self.apply_at = Some(next + settings.lag);
            let (weights, max_clusters, previous) = (Arc::clone(weights), settings.most, self.current.clone());
            background.start(Box::new(move || {
                Clusters::build(&embedding_matrix(&weights), max_clusters, seed ^ next, previous.as_deref())
            }));
            self.is_running = true;
        }
    }

    /// Waits for the pending clustering to end and keeps its result until the offset at which the
    /// learner uses it. If the clustering fails, the current clusters stay in use.
    pub fn finish_pending(&mut self, background: &mut dyn BackgroundJobs<ClusteringResult>) {
        if std::mem::take(&mut self.is_running) {
            match background.take_result() {
                Ok(Ok(clusters)) => self.ready = Some(Arc::new(clusters)),
                Ok(Err(error)) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "clustering failed; the current clusters stay in use"
                    )
                }
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "clustering failed; the current clusters stay in use"
                    )
                }
            }
        }
    }
}

/// Copies all item embeddings into a matrix of shape `(items, dimension)`.
fn embedding_matrix(weights: &Weights) -> Array2<f32> {
    let mut rows = Array2::zeros((weights.item_count(), weights.dimension()));
    for (item, mut row) in rows.rows_mut().into_iter().enumerate() {
        if let Some(embedding) = weights.embedding(item as u32) {
            row.iter_mut().zip(embedding).for_each(|(to, from)| *to = *from);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learner::InlineJobs;
    use crate::nn::{NetworkSettings, Trainer};

    #[test]
    fn clusters_take_effect_exactly_after_the_lag_and_their_number_is_bounded() {
        let settings = ClusterSettings { every: 100, lag: 30, most: 4, ..ClusterSettings::default() };
        let mut trainer = Trainer::new(NetworkSettings { hidden: 4, ..NetworkSettings::default() }, 1, 5).unwrap();
        trainer.grow_items(1_000);
        let weights = trainer.publish(1);
        let (mut schedule, mut jobs) = (ClusteringSchedule::default(), InlineJobs::default());
        let mut changes = Vec::new();
        for next in 1..=350 {
            let before = schedule.current_clusters().cloned();
            schedule.run_due_work(next, &weights, &settings, 1, &mut jobs);
            let Some(clusters) = schedule.current_clusters() else { continue };
            assert!(clusters.len() <= settings.most);
            if !before.is_some_and(|before| Arc::ptr_eq(&before, clusters)) {
                changes.push(next);
            }
        }
        assert_eq!(changes, [130, 230, 330]);
    }
}
