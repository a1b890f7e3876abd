//! Which clusters are in use, and from when the next ones are.

use crate::candidates::{ClusterError, ClusterSettings, Clusters};
use crate::domain::Offset;
use crate::nn::Weights;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::background_jobs::BackgroundJobs;

/// What a clustering hands back.
pub type ClusteringResult = Result<Clusters, ClusterError>;

/// The clusters in use. A clustering begins every so many entries, from the embeddings of that
/// offset, and is used from a set later offset on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ClusteringSchedule {
    current: Option<Arc<Clusters>>,
    /// Done, but not yet due.
    ready: Option<Arc<Clusters>>,
    #[serde(skip)]
    running: bool,
    /// Where the one begun last comes into use.
    due: Option<Offset>,
    /// One is to begin at once.
    asked: bool,
}

impl ClusteringSchedule {
    /// The clusters in use, if there are any yet.
    #[must_use]
    pub fn current(&self) -> Option<&Arc<Clusters>> {
        self.current.as_ref()
    }

    /// The next offset to be crossed begins a clustering, border or not.
    pub fn request_now(&mut self) {
        self.asked = true;
    }

    /// Begins a clustering, or takes one into use, if the offset is a border for that.
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
            let (weights, most) = (Arc::clone(weights), settings.most);
            background.start(Box::new(move || Clusters::build(&embeddings(&weights), most, seed ^ next)));
            self.running = true;
        }
    }

    /// Waits for the clustering under way, without using its result before its border. Where it
    /// gave none the clusters stay as they were.
    pub fn finish_pending(&mut self, background: &mut dyn BackgroundJobs<ClusteringResult>) {
        if std::mem::take(&mut self.running) {
            match background.finish() {
                Ok(Ok(clusters)) => self.ready = Some(Arc::new(clusters)),
                Ok(Err(error)) => tracing::warn!(error = &error as &dyn std::error::Error, "the clusters stay as they were"),
                Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "the clusters stay as they were"),
            }
        }
    }
}

/// `(items, dimension)`.
fn embeddings(weights: &Weights) -> Array2<f32> {
    let mut rows = Array2::zeros((weights.item_count(), weights.dimension()));
    for (item, mut row) in rows.rows_mut().into_iter().enumerate() {
        if let Some(embedding) = weights.embedding(item as u32) {
            row.iter_mut().zip(embedding).for_each(|(to, from)| *to = *from);
        }
    }
    rows
}
