//! The ranking workspace: gathers, cuts, describes and scores the candidates of one query.

use super::{Ranker, RankingFeatures, SourceAffinity};
use crate::candidates::{
    CandidateSet, CandidateSources, EVIDENCE_COLUMNS, EvidenceColumn, FeatureColumn, QueryContext,
};
use crate::domain::{Candidate, ItemIx, SourceName};

/// Network scores of one query.
#[derive(Clone, Copy)]
pub struct NetworkScores<'a> {
    /// Top items with their logits, best first.
    pub top: &'a [(ItemIx, f32)],
    /// Log partition function, `ln Σ exp(logit)` over all items.
    pub log_partition: f32,
    /// Logit of any item.
    pub logit: &'a dyn Fn(ItemIx) -> f32,
}

/// Lower clamp of log-probabilities.
const MIN_LOG_PROBABILITY: f32 = -12.0;

/// Ranked candidates of one query. Reused between queries; it allocates nothing once warm.
#[derive(Debug, Clone)]
pub struct RankingWorkspace {
    candidates: CandidateSet,
    features: RankingFeatures,
    items: Vec<ItemIx>,
    scores: Vec<f32>,
    hidden: Vec<super::ranker::HiddenUnits>,
    order: Vec<(f32, usize)>,
    limit: usize,
}

impl RankingWorkspace {
    /// Creates a workspace for at most `limit` candidates per query. 256 is a good value.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            candidates: CandidateSet::default(),
            features: RankingFeatures::default(),
            items: Vec::new(),
            scores: Vec::new(),
            hidden: Vec::new(),
            order: Vec::new(),
            limit: limit.max(1),
        }
    }

    /// Sets the maximum number of candidates of later queries.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.max(1);
    }

    /// Gathers, cuts, describes and scores the candidates of a query.
    ///
    /// `clusters` are candidates from embedding clusters with their logits. They are ignored
    /// without `network`.
    pub fn score_candidates(
        &mut self,
        sources: &CandidateSources,
        ranker: &Ranker,
        context: &QueryContext<'_>,
        affinity: &SourceAffinity,
        network: Option<&NetworkScores<'_>>,
        clusters: &[(ItemIx, f32)],
    ) {
        sources.generate(context, &mut self.candidates);
        if let Some(network) = network {
            for (column, list) in [(EvidenceColumn::Network, network.top), (EvidenceColumn::Clusters, clusters)] {
                for &(item, logit) in list {
                    self.candidates.add(
                        item,
                        column,
                        (logit - network.log_partition).clamp(MIN_LOG_PROBABILITY, 0.0).exp(),
                    );
                }
                self.candidates.add_total(column, 1.0);
            }
        }
        self.candidates.keep_top(self.limit, context);
        sources.add_features(context, &mut self.candidates);
        let best_log_probability =
            network.and_then(|network| network.top.first().map(|(_, logit)| logit - network.log_partition));
        if let Some(network) = network {
            for (item, evidence, features) in self.candidates.rows_mut() {
                let log_probability = ((network.logit)(item) - network.log_partition).clamp(MIN_LOG_PROBABILITY, 0.0);
                features[FeatureColumn::IsInNetworkTop as usize] =
                    f32::from(evidence[EvidenceColumn::Network as usize] > 0.0);
                features[FeatureColumn::NetworkLogProbability as usize] = log_probability - MIN_LOG_PROBABILITY;
                features[FeatureColumn::NetworkMargin as usize] =
                    (best_log_probability.unwrap_or(0.0) - log_probability).max(0.0);
                evidence[EvidenceColumn::Network as usize] = log_probability.exp();
            }
        }
        self.features.compute(&self.candidates, context, affinity, best_log_probability);
        self.items.clear();
        self.items.extend(self.candidates.items());
        ranker.normalise(&mut self.features);
        ranker.score(&self.features, &self.items, &mut self.hidden, &mut self.scores);
    }

    /// Rank of an item among the candidates, 1 for the best; `None` if it is no candidate.
    #[must_use]
    pub fn rank_of(&self, item: ItemIx) -> Option<usize> {
        let score = *self.scores.get(self.candidates.position(item)?)?;
        let better =
            |(&other, &other_score): (&ItemIx, &f32)| other_score > score || (other_score == score && other < item);
        Some(1 + self.items.iter().zip(&self.scores).filter(|pair| better(*pair)).count())
    }

    /// Source of a candidate; `None` if the item is no candidate.
    #[must_use]
    pub fn source_of(&self, item: ItemIx) -> Option<SourceName> {
        Some(self.candidates.source_at(self.candidates.position(item)?))
    }

    /// Writes the best `limit` candidates that `is_eligible` accepts to `out`, best first; ties by
    /// the smaller item number.
    pub fn best(&mut self, limit: usize, is_eligible: impl Fn(ItemIx) -> bool, out: &mut Vec<Candidate>) {
        let Self { items, scores, order, candidates, .. } = self;
        order.clear();
        order.extend(
            scores
                .iter()
                .copied()
                .enumerate()
                .map(|(position, score)| (score, position))
                .filter(|&(_, position)| is_eligible(items[position])),
        );
        order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| items[a.1].cmp(&items[b.1])));
        out.clear();
        out.extend(order.iter().take(limit).map(|&(score, position)| Candidate {
            item: items[position],
            score,
            source: candidates.source_at(position),
        }));
    }

    /// The candidate set with evidence and counts by source.
    #[must_use]
    pub fn candidates(&self) -> &CandidateSet {
        &self.candidates
    }

    /// Share features of an item, the argument of [`SourceAffinity::update`]; `None` if it is no
    /// candidate.
    #[must_use]
    pub fn shares_of(&self, item: ItemIx) -> Option<&[f32; EVIDENCE_COLUMNS]> {
        self.features.raw_items.get(self.candidates.position(item)?)?.first_chunk()
    }

    /// Trains the ranker with `item` as the target of the last scored query.
    ///
    /// Returns the loss −ln p(item) in nats. If the item was no candidate, returns `None` and does
    /// not train. The call overwrites the scores: read ranks and the best candidates first.
    pub fn train(&mut self, ranker: &mut Ranker, item: ItemIx) -> Option<f32> {
        let target = self.candidates.position(item)?;
        Some(ranker.train(&self.features, &self.items, &self.hidden, &mut self.scores, target))
    }

    /// Trains the ranker with a dismissal of `item` in the last scored query.
    pub fn train_dismissal(&mut self, ranker: &mut Ranker, item: ItemIx) {
        if let Some(position) = self.candidates.position(item) {
            ranker.train_dismissal(&self.scores, position, item);
        }
    }
}
