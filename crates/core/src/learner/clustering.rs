//! The clustering schedule: at which offset a clustering starts, and from which offset the learner
//! uses its clusters.

use crate::candidates::{ClusterError, ClusterInput, ClusterSettings, Clusters};
use crate::domain::{ItemIx, Offset};
use crate::nn::{RowOrder, Weights};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::background_jobs::BackgroundJobs;

/// The result of a clustering job.
pub type ClusteringResult = Result<ClusteringOutcome, ClusterError>;

/// New clusters.
#[derive(Debug)]
pub struct ClusteringOutcome {
    clusters: Clusters,
    /// The weights that were clustered, with their items in the order of the clusters; `None` in a
    /// catalog of at most [`ClusterSettings::exact_up_to`] items.
    ordered: Option<Weights>,
}

/// Schedules the clusterings of item embeddings. A clustering starts every `clusters.every` journal
/// entries, from the embeddings at that offset. The learner uses the new clusters `clusters.lag`
/// entries later. In a large catalog, both numbers are multiplied by
/// [`ClusterSettings::interval_factor`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ClusteringSchedule {
    current: Option<Arc<Clusters>>,
    /// The result of a finished clustering that is not yet in use.
    ready: Option<Arc<Clusters>>,
    /// [`ClusteringOutcome::ordered`] of `ready` and of `current`.
    #[serde(skip)]
    ready_weights: Option<Weights>,
    #[serde(skip)]
    current_weights: Option<Weights>,
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

    /// Takes the weights that the clusters in use were computed from, with their items in the order
    /// of these clusters. `None` if they were taken before or are not known.
    pub fn take_ordered_weights(&mut self) -> Option<Weights> {
        self.current_weights.take()
    }

    /// Requests a clustering at the next offset, regardless of the schedule.
    pub fn request_now(&mut self) {
        self.is_requested = true;
    }

    /// Whether the schedule starts a clustering at offset `next`. In a large catalog, the interval is
    /// longer; it is cut short if a ninth of the items is newer than the clusters, because a query
    /// scores all newer items.
    fn is_due(&self, next: Offset, items: usize, settings: &ClusterSettings) -> bool {
        let clustered = self.current.as_ref().map_or(0, |clusters| clusters.item_count());
        let has_grown = self.apply_at.is_none() && items - items / 9 > clustered;
        next.is_multiple_of(settings.every * settings.interval_factor(items))
            || (next.is_multiple_of(settings.every) && has_grown)
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
                (self.current, self.current_weights) = (Some(ready), self.ready_weights.take());
            }
        }
        let items = weights.item_count();
        if (self.is_due(next, items, settings) || std::mem::take(&mut self.is_requested)) && items > 0 {
            self.finish_pending(background);
            self.apply_at = Some(next + settings.lag * settings.interval_factor(items));
            let (weights, max_clusters, previous) = (Arc::clone(weights), settings.most, self.current.clone());
            let needs_order = items > settings.exact_up_to;
            background.start(Box::new(move || {
                let copy_embedding = |item: ItemIx, out: &mut [f32]| weights.copy_embedding(item, out);
                let input = ClusterInput { items, dimension: weights.dimension(), copy_embedding: &copy_embedding };
                let clusters = Clusters::build(&input, max_clusters, seed ^ next, previous.as_deref())?;
                let order = needs_order.then(|| Arc::new(RowOrder::new(clusters.items_by_cluster())));
                let ordered = order.map(|order| weights.with_row_order(Some(order)));
                Ok(ClusteringOutcome { clusters, ordered })
            }));
            self.is_running = true;
        }
    }

    /// Whether [`ClusteringSchedule::run_due_work`] at offset `next` waits for the pending clustering,
    /// or may wait for it.
    #[must_use]
    pub fn needs_result_at(&self, next: Offset, settings: &ClusterSettings) -> bool {
        let may_start = next.is_multiple_of(settings.every) || self.is_requested;
        self.is_running && (self.apply_at == Some(next) || may_start)
    }

    /// Waits for the pending clustering to end and keeps its result until the offset at which the
    /// learner uses it. If the clustering fails, the current clusters stay in use.
    pub fn finish_pending(&mut self, background: &mut dyn BackgroundJobs<ClusteringResult>) {
        if std::mem::take(&mut self.is_running) {
            match background.take_result() {
                Ok(Ok(ClusteringOutcome { clusters, ordered })) => {
                    (self.ready, self.ready_weights) = (Some(Arc::new(clusters)), ordered);
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learner::InlineJobs;
    use crate::nn::{NetworkSettings, Trainer};

    #[test]
    fn clusters_take_effect_exactly_after_the_lag_and_their_number_is_bounded() {
        let settings = ClusterSettings { every: 100, lag: 30, most: 4, ..ClusterSettings::default() };
        let mut trainer = Trainer::new(NetworkSettings { hidden: 4, ..NetworkSettings::default() }, 1, 5).unwrap();
        trainer.grow_items(800);
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

    #[test]
    fn a_large_catalog_is_clustered_less_often_unless_it_grows() {
        let settings = ClusterSettings { every: 10, lag: 5, most: 4, ..ClusterSettings::default() };
        let mut trainer = Trainer::new(NetworkSettings { hidden: 4, ..NetworkSettings::default() }, 1, 5).unwrap();
        let (mut schedule, mut jobs) = (ClusteringSchedule::default(), InlineJobs::default());
        let mut item_counts = Vec::new();
        for next in 1..=500 {
            // The catalog is complete at offset 100, and gets further items at offset 331.
            match next {
                1..=100 => trainer.grow_items(10 * next as usize),
                331 => trainer.grow_items(1_200),
                _ => {}
            }
            schedule.run_due_work(next, &trainer.publish(next), &settings, 1, &mut jobs);
            let Some(clusters) = schedule.current_clusters() else { continue };
            if item_counts.last().is_none_or(|(_, items)| *items != clusters.item_count()) {
                item_counts.push((next, clusters.item_count()));
            }
        }
        // An interval has at least one entry per 8 items.
        let factor = |items| settings.interval_factor(items);
        assert_eq!([80, 81, 160, 161, 1_000, 1_200].map(factor), [1, 2, 2, 4, 16, 16]);
        // While the catalog grows, a clustering begins when the one before takes effect. Later, one
        // begins every 160 entries and takes effect 80 entries later. The items of offset 331 are
        // too many to wait for the clustering at offset 480, so one begins at 400.
        assert_eq!(item_counts, [(20, 100), (40, 200), (80, 400), (160, 800), (240, 1_000), (480, 1_200)]);
    }
}
