//! Offline evaluation of the network alone: ranks the whole catalog at every step of held-out
//! sessions.

use crate::domain::{EventKinds, ItemIx, Step};
use crate::evaluation::{RankingMetrics, rank_by_score};
use crate::nn::{NetworkScratch, Weights};
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, Axis, Slice};
use serde::{Deserialize, Serialize};

use super::super::training_window::step_input;

/// The evaluation results over all evaluated steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct OfflineScores {
    /// Ranking metrics.
    pub metrics: RankingMetrics,
    /// An error that earlier versions measured. It is part of the encoding.
    unused_error: Option<f64>,
}

/// Number of steps that one matrix product scores together.
const STEPS_PER_BATCH: usize = 128;

/// Evaluates the network on every step after a session's first one: ranks the step's target item
/// among all items by exact logits. Each session starts from the initial hidden state.
#[must_use]
pub fn score_sessions(weights: &Weights, sessions: &[Vec<Step>], kinds: &EventKinds) -> OfflineScores {
    let mut batch = QueryBatch::new(weights);
    let mut scores = OfflineScores::default();
    let (mut scratch, mut query) = (NetworkScratch::default(), Vec::new());
    for session in sessions {
        let mut state = weights.initial_state();
        for (number, next) in session.iter().enumerate().skip(1) {
            if let Some(input) = step_input(session, number - 1) {
                weights.advance(&mut state, &input, &mut scratch);
            }
            let Some(item) = next.target_item(kinds) else { continue };
            weights.compute_query(&state, &mut query);
            batch.add_query(&query, item, &mut scores.metrics);
        }
    }
    batch.score_pending_queries(&mut scores.metrics);
    scores
}

/// All item embeddings, and the queries that wait to be scored in one matrix product.
struct QueryBatch {
    /// Embedding and bias of every item, `(items, hidden + 1)`.
    items: Array2<f32>,
    /// Pending queries, each followed by a 1 that multiplies the bias, `(STEPS_PER_BATCH, hidden +
    /// 1)`.
    queries: Array2<f32>,
    targets: Vec<ItemIx>,
    /// Logits of all items for each query, `(STEPS_PER_BATCH, items)`.
    logits: Array2<f32>,
}

impl QueryBatch {
    fn new(weights: &Weights) -> Self {
        let (items, hidden) = (weights.item_count(), weights.dimension());
        let mut items_with_bias = Array2::zeros((items, hidden + 1));
        let (zero_query, mut embedding) = (vec![0.0; hidden], vec![0.0; hidden]);
        for (item, mut row) in (0..).zip(items_with_bias.rows_mut()) {
            weights.copy_embedding(item, &mut embedding);
            // For a query of zeros, the logit of an item equals its bias.
            let values = embedding.iter().copied().chain([weights.logit(&zero_query, item)]);
            row.iter_mut().zip(values).for_each(|(to, from)| *to = from);
        }
        Self {
            items: items_with_bias,
            queries: Array2::ones((STEPS_PER_BATCH, hidden + 1)),
            targets: Vec::with_capacity(STEPS_PER_BATCH),
            logits: Array2::zeros((STEPS_PER_BATCH, items)),
        }
    }

    fn add_query(&mut self, query: &[f32], item: ItemIx, quality: &mut RankingMetrics) {
        if let Some(row) = self.queries.rows_mut().into_iter().nth(self.targets.len()) {
            row.into_iter().zip(query).for_each(|(to, from)| *to = *from);
        }
        self.targets.push(item);
        if self.targets.len() == STEPS_PER_BATCH {
            self.score_pending_queries(quality);
        }
    }

    fn score_pending_queries(&mut self, quality: &mut RankingMetrics) {
        let rows = self.targets.len();
        let queries = self.queries.slice_axis(Axis(0), Slice::from(..rows));
        let mut logits = self.logits.slice_axis_mut(Axis(0), Slice::from(..rows));
        general_mat_mul(1.0, &queries, &self.items.t(), 0.0, &mut logits);
        for (row, item) in logits.rows().into_iter().zip(self.targets.drain(..)) {
            quality.record_rank(row.as_slice().and_then(|scores| rank_by_score(scores, item)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::EventKind;
    use crate::nn::{NetworkSettings, Trainer};

    #[test]
    fn batched_scores_equal_stepwise_scores() {
        let kinds = EventKinds::default();
        let network = NetworkSettings { hidden: 12, initial_scale: 1.0, ..Default::default() };
        let mut trainer = Trainer::new(network, kinds.len(), 5).unwrap();
        trainer.grow_items(50);
        let weights = trainer.publish(1);
        let [view, search] = [EventKind::View, EventKind::Search].map(|kind| kinds.id_of(&kind).unwrap());
        let step = |number: u32| Step {
            item: (number % 9 != 4).then_some(number * 7 % 50),
            kind: if number % 9 == 4 { search } else { view },
            starts_session: false,
            at: 0,
            value: number as f32,
        };
        // The sessions have more steps than fit in one batch, and the last batch is not full.
        let sessions: Vec<Vec<Step>> =
            (0..40).map(|session| (session..session + 2 + session % 11).map(step).collect()).collect();
        let found = score_sessions(&weights, &sessions, &kinds);

        let mut quality = RankingMetrics::default();
        let (mut scratch, mut query) = (NetworkScratch::default(), Vec::new());
        for session in &sessions {
            let mut state = weights.initial_state();
            for (number, pair) in session.windows(2).enumerate() {
                weights.advance(&mut state, &step_input(session, number).unwrap(), &mut scratch);
                let Some(item) = pair[1].item else { continue };
                weights.compute_query(&state, &mut query);
                let better = |other: &u32| {
                    let (other_score, score) = (weights.logit(&query, *other), weights.logit(&query, item));
                    other_score > score || (other_score == score && *other < item)
                };
                quality.record_rank(Some(1 + (0..50).filter(better).count()));
            }
        }
        assert!(quality.steps > 128);
        assert_eq!(found.metrics, quality);
    }
}
