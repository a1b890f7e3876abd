//! The clustering schedule: when a clustering starts, and from which offset its clusters are used.

use crate::candidates::{ClusterError, ClusterSettings, Clusters};
use crate::domain::Offset;
use crate::nn::Weights;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::background_jobs::BackgroundJobs;

/// The result of a clustering job.
pub type ClusteringResult = Result<Clusters, ClusterError>;

/// Schedules clusterings. One starts every `clusters.every` entries, from the embeddings at that
/// offset. Its clusters come into use `clusters.lag` entries later.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ClusteringSchedule {
    current: Option<Arc<Clusters>>,
    /// Finished clusters whose offset has not been reached.
    ready: Option<Arc<Clusters>>,
    #[serde(skip)]
    running: bool,
    /// The offset from which the result of the pending clustering is used.
    due: Option<Offset>,
    /// A clustering was requested and starts at the next offset.
    asked: bool,
}

impl ClusteringSchedule {
    /// The clusters in use; `None` before the first clustering.
    #[must_use]
    pub fn current(&self) -> Option<&Arc<Clusters>> {
        self.current.as_ref()
    }

    /// Requests a clustering at the next offset, regardless of the schedule.
    pub fn request_now(&mut self) {
        self.asked = true;
    }

    /// Starts a clustering, or puts finished clusters into use, if one of these is due at offset
    /// `next`.
    pub fn advance_boundary(
        &mut self,
        next: Offset,
        weights: &Arc<Weights>,
        settings: &ClusterSettings,
        seed: u64,
        background: &mut dyn BackgroundJobs<ClusteringResult>,
    ) {
        if self.due == Some(next) {
            self.due = None;
            self.finish_pending(background);
            if let Some(ready) = self.ready.take() {
                self.current = Some(ready);
            }
        }
        if (next.is_multiple_of(settings.every) || std::mem::take(&mut self.asked)) && weights.item_count() > 0 {
            self.finish_pending(background);
            self.due = Some(next + settings.lag);
            let (weights, max_clusters) = (Arc::clone(weights), settings.most);
            background.start(Box::new(move || Clusters::build(&embeddings(&weights), max_clusters, seed ^ next)));
            self.running = true;
        }
    }

    /// Waits for the pending clustering, without using its result before it is due. If the
    /// clustering fails, the current clusters stay in use.
    pub fn finish_pending(&mut self, background: &mut dyn BackgroundJobs<ClusteringResult>) {
        if std::mem::take(&mut self.running) {
            match background.finish() {
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
fn embeddings(weights: &Weights) -> Array2<f32> {
    let mut rows = Array2::zeros((weights.item_count(), weights.dimension()));
    for (item, mut row) in rows.rows_mut().into_iter().enumerate() {
        if let Some(embedding) = weights.embedding(item as u32) {
            row.iter_mut().zip(embedding).for_each(|(to, from)| *to = *from);
        }
    }
    rows
}
