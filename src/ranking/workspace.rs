//! The workspace on which one moment's candidates are gathered, described and ranked.

use super::{Ranker, RankingFeatures, SourceAffinity};
use crate::candidates::{CandidateSet, CandidateSources, EVIDENCE_COLUMNS, EvidenceColumn, FeatureColumn, QueryContext};
use crate::domain::{Candidate, ItemIx, SourceName};

/// What the network says of a moment.
#[derive(Clone, Copy)]
pub struct NetworkScores<'a> {
    /// Its best items with their logits, best first.
    pub top: &'a [(ItemIx, f32)],
    /// Logarithm of the sum of the exponentials of all logits.
    pub log_partition: f32,
    /// The logit of any item.
    pub logit: &'a dyn Fn(ItemIx) -> f32,
}

/// Log-probabilities below this are taken as this.
const LEAST: f32 = -12.0;

/// Candidates of one moment, ranked. Reused from moment to moment, it allocates nothing once warm.
#[derive(Debug, Clone)]
pub struct RankingWorkspace {
    slate: CandidateSet,
    features: RankingFeatures,
    items: Vec<ItemIx>,
    scores: Vec<f32>,
    hidden: Vec<super::ranker::HiddenUnits>,
    order: Vec<(f32, usize)>,
    limit: usize,
}

impl RankingWorkspace {
    /// A desk for at most `limit` candidates a moment; 256 serve well.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            slate: CandidateSet::default(),
            features: RankingFeatures::default(),
            items: Vec::new(),
            scores: Vec::new(),
            hidden: Vec::new(),
            order: Vec::new(),
            limit: limit.max(1),
        }
    }

    /// Keeps at most `limit` candidates of the moments to come.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.max(1);
    }

    /// Gathers, cuts, describes and scores the candidates of a moment. `clusters` are candidates with their logits, found by the embeddings.
    pub fn score_candidates(
        &mut self,
        sources: &CandidateSources,
        ranker: &Ranker,
        moment: &QueryContext<'_>,
        mood: &SourceAffinity,
        network: Option<&NetworkScores<'_>>,
        clusters: &[(ItemIx, f32)],
    ) {
        sources.generate(moment, &mut self.slate);
        if let Some(network) = network {
            for (channel, list) in [(EvidenceColumn::Network, network.top), (EvidenceColumn::Clusters, clusters)] {
                for &(item, logit) in list {
                    self.slate.add(item, channel, (logit - network.log_partition).clamp(LEAST, 0.0).exp());
                }
                self.slate.add_total(channel, 1.0);
            }
        }
        self.slate.keep_top(self.limit, moment);
        sources.add_features(moment, &mut self.slate);
        let best = network.and_then(|network| network.top.first().map(|(_, logit)| logit - network.log_partition));
        if let Some(network) = network {
            for (item, evidence, facts) in self.slate.rows_mut() {
                let log_probability = ((network.logit)(item) - network.log_partition).clamp(LEAST, 0.0);
                facts[FeatureColumn::IsInNetworkTop as usize] = f32::from(evidence[EvidenceColumn::Network as usize] > 0.0);
                facts[FeatureColumn::NetworkLogProbability as usize] = log_probability - LEAST;
                facts[FeatureColumn::NetworkMargin as usize] = (best.unwrap_or(0.0) - log_probability).max(0.0);
                evidence[EvidenceColumn::Network as usize] = log_probability.exp();
            }
        }
        self.features.compute(&self.slate, moment, mood, best);
        self.items.clear();
        self.items.extend(self.slate.items());
        ranker.normalise(&mut self.features);
        ranker.score(&self.features, &self.items, &mut self.hidden, &mut self.scores);
    }

    /// The rank of an item among the candidates, 1 for the best; `None` if it is none of them.
    #[must_use]
    pub fn rank_of(&self, item: ItemIx) -> Option<usize> {
        let score = *self.scores.get(self.slate.position(item)?)?;
        let better = |(&other, &theirs): (&ItemIx, &f32)| theirs > score || (theirs == score && other < item);
        Some(1 + self.items.iter().zip(&self.scores).filter(|pair| better(*pair)).count())
    }

    /// The source that brought an item, `None` if it is no candidate.
    #[must_use]
    pub fn source_of(&self, item: ItemIx) -> Option<SourceName> {
        Some(self.slate.source_at(self.slate.position(item)?))
    }

    /// The best `limit` candidates that `admit` lets through, best first, ties by the smaller item number, put into `out`.
    pub fn best(&mut self, limit: usize, admit: impl Fn(ItemIx) -> bool, out: &mut Vec<Candidate>) {
        let Self { items, scores, order, slate, .. } = self;
        order.clear();
        order.extend(
            scores.iter().copied().enumerate().map(|(position, score)| (score, position)).filter(|&(_, position)| admit(items[position])),
        );
        order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| items[a.1].cmp(&items[b.1])));
        out.clear();
        out.extend(order.iter().take(limit).map(|&(score, position)| Candidate {
            item: items[position],
            score,
            source: slate.source_at(position),
        }));
    }

    /// The candidates with the evidence behind them: counts by source, each source's own best list.
    #[must_use]
    pub fn candidates(&self) -> &CandidateSet {
        &self.slate
    }

    /// The share features of an item's channels, `None` if it is no candidate: what [`SourceAffinity::learn`] takes.
    #[must_use]
    pub fn shares_of(&self, item: ItemIx) -> Option<&[f32; EVIDENCE_COLUMNS]> {
        self.features.raw_items.get(self.slate.position(item)?)?.first_chunk()
    }

    /// Teaches the ranker that `item` came at the moment last considered. Returns the loss −ln p(item) in nats, `None` if it was no candidate: then there is nothing to learn.
    ///
    /// The scores are spent by it: ask for ranks and the best before.
    pub fn train(&mut self, ranker: &mut Ranker, item: ItemIx) -> Option<f32> {
        let target = self.slate.position(item)?;
        Some(ranker.learn(&self.features, &self.items, &self.hidden, &mut self.scores, target))
    }

    /// Teaches the ranker that `item` was waved away at the moment last considered.
    pub fn train_dismissal(&mut self, ranker: &mut Ranker, item: ItemIx) {
        if let Some(position) = self.slate.position(item) {
            ranker.learn_dismissal(&self.scores, position, item);
        }
    }
}
