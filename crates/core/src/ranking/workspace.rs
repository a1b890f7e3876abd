//! The ranking workspace: gathers the candidates of a query, keeps the best ones, computes their
//! features and scores them.

use super::source_affinity::AFFINITY_COLUMN_COUNT;
use super::{ObjectiveHead, Ranker, RankingFeatures, SourceAffinity};
use crate::candidates::{
    CandidateChooser, CandidateSet, CandidateSources, EvidenceColumn, FeatureColumn, QueryContext,
};
use crate::domain::{Candidate, ItemIx, SourceName};
use crate::nn::ItemRelation;

/// Logits of the network for one query.
#[derive(Clone, Copy)]
pub struct NetworkScores<'a> {
    /// Top items with their logits, best first.
    pub top: &'a [(ItemIx, f32)],
    /// Candidates from embedding clusters with their logits.
    pub clusters: &'a [(ItemIx, f32)],
    /// Logarithm of the softmax denominator, `ln Σ exp(logit)` over all items. A logit minus this
    /// number is the log-probability of the item.
    pub log_partition: f32,
    /// Writes the relations of any items to a vector, in the order of the items.
    pub relate: &'a dyn Fn(&[ItemIx], &mut Vec<ItemRelation>),
}

/// Log-probabilities of the network below this value are raised to it.
const MIN_LOG_PROBABILITY: f32 = -12.0;

/// The candidates of one query, with their features and scores. Later queries reuse the buffers and
/// allocate nothing.
#[derive(Debug, Clone)]
pub struct RankingWorkspace {
    candidates: CandidateSet,
    features: RankingFeatures,
    items: Vec<ItemIx>,
    relations: Vec<ItemRelation>,
    scores: Vec<f32>,
    /// Scores with the contribution of a head.
    head_scores: Vec<f32>,
    hidden: Vec<super::ranker::HiddenActivations>,
    limit: usize,
    /// Items that are ranked beyond the limit, even if they are not candidates.
    also_ranked: Vec<ItemIx>,
}

/// A key whose ascending order is the order of a ranked list: the largest score first, in the order
/// of [`f32::total_cmp`]. Among equal scores, the smaller item number comes first.
fn best_first_key(score: f32, item: ItemIx) -> u64 {
    let bits = score.to_bits();
    // As integers, the bits of negative floats are in descending order and above those of positive
    // floats. The bits of positive floats without the sign are inverted to descend too.
    let descending = if bits >> 31 == 0 { !bits ^ 1 << 31 } else { bits };
    u64::from(descending) << 32 | u64::from(item)
}

impl RankingWorkspace {
    /// Creates a workspace for at most `limit` candidates per query. A good limit is 128.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            candidates: CandidateSet::default(),
            features: RankingFeatures::default(),
            items: Vec::new(),
            relations: Vec::new(),
            scores: Vec::new(),
            head_scores: Vec::new(),
            hidden: Vec::new(),
            limit: limit.max(1),
            also_ranked: Vec::new(),
        }
    }

    /// Sets the maximum number of candidates of later queries, and the items that they rank beyond
    /// this number, even if they are not candidates.
    pub fn set_limit(&mut self, limit: usize, also_ranked: &[ItemIx]) {
        self.limit = limit.max(1);
        self.also_ranked.clear();
        self.also_ranked.extend_from_slice(also_ranked);
    }

    /// Gathers the candidates of a query, keeps the best ones, computes their features and scores
    /// them. `chooser` decides which candidates are kept; without it, the best ones are.
    pub fn score_candidates(
        &mut self,
        sources: &CandidateSources,
        ranker: &Ranker,
        context: &QueryContext<'_>,
        affinity: &SourceAffinity,
        network: Option<&NetworkScores<'_>>,
        chooser: Option<&mut dyn CandidateChooser>,
    ) {
        sources.generate(context, &mut self.candidates);
        if let Some(network) = network {
            for (column, list) in [(EvidenceColumn::Network, network.top), (EvidenceColumn::Clusters, network.clusters)]
            {
                for &(item, logit) in list {
                    self.candidates.add_evidence(
                        item,
                        column,
                        (logit - network.log_partition).clamp(MIN_LOG_PROBABILITY, 0.0).exp(),
                    );
                }
                self.candidates.add_column_total(column, 1.0);
            }
        }
        match chooser {
            Some(chooser) => self.candidates.keep_chosen(self.limit, context, chooser),
            None => self.candidates.keep_top_candidates(self.limit, context),
        }
        if !self.also_ranked.is_empty() {
            self.candidates.keep_also(&self.also_ranked);
        }
        sources.add_features(context, &mut self.candidates);
        let best_log_probability =
            network.and_then(|network| network.top.first().map(|(_, logit)| logit - network.log_partition));
        self.items.clear();
        self.items.extend(self.candidates.kept_items());
        if let Some(network) = network {
            (network.relate)(&self.items, &mut self.relations);
            for ((_, evidence, features), relation) in self.candidates.kept_rows_mut().zip(&self.relations) {
                let log_probability = (relation.logit - network.log_partition).clamp(MIN_LOG_PROBABILITY, 0.0);
                features[FeatureColumn::IsInNetworkTop as usize] =
                    f32::from(evidence[EvidenceColumn::Network as usize] > 0.0);
                features[FeatureColumn::NetworkLogProbability as usize] = log_probability - MIN_LOG_PROBABILITY;
                features[FeatureColumn::NetworkMargin as usize] =
                    (best_log_probability.unwrap_or(0.0) - log_probability).max(0.0);
                features[FeatureColumn::NetworkInputLogit as usize] = relation.input_logit;
                features[FeatureColumn::NetworkBias as usize] = relation.bias;
                features[FeatureColumn::LastItemSimilarity as usize] = relation.last_item_similarity;
                evidence[EvidenceColumn::Network as usize] = log_probability.exp();
            }
        }
        self.features.compute_raw_features(&self.candidates, context, affinity, best_log_probability);
        ranker.normalise(&mut self.features);
        ranker.score(&self.features, &self.items, &mut self.hidden, &mut self.scores);
    }

    /// The candidates of the last query, and their scores for writing. After
    /// [`RankingWorkspace::train_ranker`], the scores are the weighted gradients of the loss.
    pub fn scored_items_mut(&mut self) -> (&[ItemIx], &mut [f32]) {
        (&self.items, &mut self.scores)
    }

    /// Rank of an item among the candidates, 1 for the best; `None` if the item is not a candidate.
    #[must_use]
    pub fn rank_of(&self, item: ItemIx) -> Option<usize> {
        self.rank_by(&self.scores, item)
    }

    fn rank_by(&self, scores: &[f32], item: ItemIx) -> Option<usize> {
        let score = *scores.get(self.candidates.position_of(item)?)?;
        let better =
            |(&other, &other_score): (&ItemIx, &f32)| other_score > score || (other_score == score && other < item);
        Some(1 + self.items.iter().zip(scores).filter(|pair| better(*pair)).count())
    }

    /// Adds the contributions of a head to the scores.
    pub fn add_head(&mut self, head: &ObjectiveHead) {
        for ((score, row), item) in self.scores.iter_mut().zip(&self.features.items).zip(&self.items) {
            *score += head.contribution(row, *item);
        }
    }

    /// What a head adds to the score of an item; `None` if the item is not a candidate.
    #[must_use]
    pub fn head_contribution(&self, head: &ObjectiveHead, item: ItemIx) -> Option<f32> {
        Some(head.contribution(self.features.items.get(self.candidates.position_of(item)?)?, item))
    }

    /// Rank of an item among the candidates by their scores and the contributions of a head, 1 for
    /// the best; `None` if the item is not a candidate. [`RankingWorkspace::train_head`] learns from
    /// the scores of this call.
    pub fn rank_with_head(&mut self, head: &ObjectiveHead, item: ItemIx) -> Option<usize> {
        let rows = self.scores.iter().zip(&self.features.items).zip(&self.items);
        self.head_scores.clear();
        self.head_scores.extend(rows.map(|((score, row), item)| score + head.contribution(row, *item)));
        self.rank_by(&self.head_scores, item)
    }

    /// Trains a head with `item` as the target item of the last query, after
    /// [`RankingWorkspace::rank_with_head`] for this head. `weight` multiplies the gradient of the
    /// loss. Does nothing if the item was not a candidate.
    pub fn train_head(&mut self, head: &mut ObjectiveHead, item: ItemIx, weight: f32) {
        if let Some(target) = self.candidates.position_of(item) {
            head.learn(&self.features.items, &self.items, &mut self.head_scores, target, weight);
        }
    }

    /// Score of an item; `None` if the item is not a candidate.
    #[must_use]
    pub fn score_of(&self, item: ItemIx) -> Option<f32> {
        self.scores.get(self.candidates.position_of(item)?).copied()
    }

    /// Source of a candidate; `None` if the item is not a candidate, or if no source generated it.
    #[must_use]
    pub fn source_of(&self, item: ItemIx) -> Option<SourceName> {
        self.candidates.source_at(self.candidates.position_of(item)?)
    }

    /// Writes the candidates to `out`, best first. `adjusted` returns the final score of an item.
    /// Among equal scores, the smaller item number comes first.
    pub fn best_candidates(&self, mut adjusted: impl FnMut(ItemIx, f32) -> f32, out: &mut Vec<Candidate>) {
        let scored = self.items.iter().zip(&self.scores).enumerate();
        out.clear();
        out.extend(scored.filter_map(|(position, (&item, &score))| {
            Some(Candidate { item, score: adjusted(item, score), source: self.candidates.source_at(position)? })
        }));
        out.sort_unstable_by_key(|candidate| best_first_key(candidate.score, candidate.item));
    }

    /// The candidates of the last query, with their evidence.
    #[must_use]
    pub fn candidates(&self) -> &CandidateSet {
        &self.candidates
    }

    /// Share features of an item, for [`SourceAffinity::update`]; `None` if the item is not a
    /// candidate.
    #[must_use]
    pub fn share_features_of(&self, item: ItemIx) -> Option<&[f32; AFFINITY_COLUMN_COUNT]> {
        self.features.raw_items.get(self.candidates.position_of(item)?)?.first_chunk()
    }

    /// Trains the ranker with `item` as the target item of the last query. `weight` multiplies the
    /// gradient of the loss.
    ///
    /// Returns the loss −ln p(item) in nats. If the item was not a candidate, returns `None` and
    /// does not train. The call overwrites the scores, so the caller must read ranks and candidates
    /// before the call.
    pub fn train_ranker(&mut self, ranker: &mut Ranker, item: ItemIx, weight: f32) -> Option<f32> {
        let target = self.candidates.position_of(item)?;
        Some(ranker.train_on_target(&self.features, &self.items, &self.hidden, &mut self.scores, target, weight))
    }

    /// Trains the ranker with a dismissal of `item`, if it was a candidate of the last query.
    pub fn train_dismissal(&mut self, ranker: &mut Ranker, item: ItemIx) {
        if let Some(position) = self.candidates.position_of(item) {
            ranker.train_dismissal(&self.scores, position, item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_order_of_keys_is_the_order_of_a_ranked_list(a in any::<(f32, ItemIx)>(), b in any::<(f32, ItemIx)>()) {
            let expected = b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
            prop_assert_eq!(best_first_key(a.0, a.1).cmp(&best_first_key(b.0, b.1)), expected);
            prop_assert_eq!(best_first_key(a.0, a.1).cmp(&best_first_key(a.0, b.1)), a.1.cmp(&b.1));
        }
    }
}
