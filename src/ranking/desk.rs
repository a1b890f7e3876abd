//! The workspace on which one moment's candidates are gathered, described and ranked.

use super::{Features, Mood, Ranker};
use crate::candidates::{CHANNELS, Channel, Fact, Moment, Slate, Sources};
use crate::domain::{Candidate, ItemIx, SourceName};

/// What the network says of a moment.
#[derive(Clone, Copy)]
pub struct NetworkView<'a> {
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
pub struct Desk {
    slate: Slate,
    features: Features,
    items: Vec<ItemIx>,
    scores: Vec<f32>,
    hidden: Vec<super::ranker::Units>,
    order: Vec<(f32, usize)>,
    limit: usize,
}

impl Desk {
    /// A desk for at most `limit` candidates a moment; 256 serve well.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            slate: Slate::default(),
            features: Features::default(),
            items: Vec::new(),
            scores: Vec::new(),
            hidden: Vec::new(),
            order: Vec::new(),
            limit: limit.max(1),
        }
    }

    /// Keeps at most `limit` candidates of the moments to come.
    pub fn keep(&mut self, limit: usize) {
        self.limit = limit.max(1);
    }

    /// Gathers, cuts, describes and scores the candidates of a moment. `clusters` are candidates with their logits, found by the embeddings.
    pub fn consider(
        &mut self,
        sources: &Sources,
        ranker: &Ranker,
        moment: &Moment<'_>,
        mood: &Mood,
        network: Option<&NetworkView<'_>>,
        clusters: &[(ItemIx, f32)],
    ) {
        sources.gather(moment, &mut self.slate);
        if let Some(network) = network {
            for (channel, list) in [(Channel::Network, network.top), (Channel::Clusters, clusters)] {
                for &(item, logit) in list {
                    self.slate.add(item, channel, (logit - network.log_partition).clamp(LEAST, 0.0).exp());
                }
                self.slate.weigh(channel, 1.0);
            }
        }
        self.slate.cut(self.limit, moment);
        sources.describe(moment, &mut self.slate);
        let best = network.and_then(|network| network.top.first().map(|(_, logit)| logit - network.log_partition));
        if let Some(network) = network {
            for (item, evidence, facts) in self.slate.describe() {
                let log_probability = ((network.logit)(item) - network.log_partition).clamp(LEAST, 0.0);
                facts[Fact::Listed as usize] = f32::from(evidence[Channel::Network as usize] > 0.0);
                facts[Fact::Network as usize] = log_probability - LEAST;
                facts[Fact::Below as usize] = (best.unwrap_or(0.0) - log_probability).max(0.0);
                evidence[Channel::Network as usize] = log_probability.exp();
            }
        }
        self.features.fill(&self.slate, moment, mood, best);
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
        Some(self.slate.source(self.slate.position(item)?))
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
            source: slate.source(position),
        }));
    }

    /// The candidates with the evidence behind them: counts by source, each source's own best list.
    #[must_use]
    pub fn slate(&self) -> &Slate {
        &self.slate
    }

    /// The share features of an item's channels, `None` if it is no candidate: what [`Mood::learn`] takes.
    #[must_use]
    pub fn shares(&self, item: ItemIx) -> Option<&[f32; CHANNELS]> {
        self.features.raw.get(self.slate.position(item)?)?.first_chunk()
    }

    /// Teaches the ranker that `item` came at the moment last considered. Returns the loss −ln p(item) in nats, `None` if it was no candidate: then there is nothing to learn.
    ///
    /// The scores are spent by it: ask for ranks and the best before.
    pub fn teach(&mut self, ranker: &mut Ranker, item: ItemIx) -> Option<f32> {
        let target = self.slate.position(item)?;
        Some(ranker.learn(&self.features, &self.items, &self.hidden, &mut self.scores, target))
    }

    /// Teaches the ranker that `item` was waved away at the moment last considered.
    pub fn teach_dismissal(&mut self, ranker: &mut Ranker, item: ItemIx) {
        if let Some(position) = self.slate.position(item) {
            ranker.dismiss(&self.scores, position, item);
        }
    }
}
