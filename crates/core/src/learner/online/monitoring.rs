//! Counters for the metrics. Checkpoints do not contain these counters, so they restart at zero.

use crate::domain::{KindId, SourceName};
use crate::evaluation::{METRIC_CUTOFF, RankingMetrics, SlidingRankingMetrics};
use crate::learner::state::KindQuality;

/// Counters of the ranking quality of each source.
#[derive(Debug)]
pub(super) struct MonitoredCounters {
    /// See [`super::LearningReport::hits_by_source`].
    hits: [u64; SourceName::ALL.len()],
    /// See [`super::LearningReport::live_by_source`].
    live: [SlidingRankingMetrics; SourceName::ALL.len()],
    /// See [`super::LearningReport::by_kind`], by kind.
    kinds: Vec<KindCounters>,
}

/// Ranking quality over the tests of one kind of target events.
#[derive(Debug)]
struct KindCounters {
    evaluated: RankingMetrics,
    live: SlidingRankingMetrics,
}

impl MonitoredCounters {
    /// In one of this many tests, sampled by offset, the learner also measures how each source
    /// alone would have ranked the target item. Doing so in every test would make tests a few per
    /// cent slower and add little information.
    pub(super) const TESTS_PER_SOURCE_SAMPLE: u64 = 4;

    /// Creates counters at zero for `kinds` kinds of events. The live metrics cover the last `window`
    /// sampled tests, and the last `window` tests of each kind.
    pub(super) fn new(window: usize, kinds: usize) -> Self {
        let live = || SlidingRankingMetrics::new(window);
        let kind = |_| KindCounters { evaluated: RankingMetrics::default(), live: live() };
        Self { hits: Default::default(), live: std::array::from_fn(|_| live()), kinds: (0..kinds).map(kind).collect() }
    }

    /// Adds a test to the metrics of the kind of its target event. Held back events do not count in
    /// the live metrics.
    pub(super) fn count_kind_test(&mut self, kind: KindId, rank: Option<usize>, is_live: bool, is_evaluated: bool) {
        let Some(counters) = self.kinds.get_mut(usize::from(kind)) else { return };
        if is_live {
            counters.live.record_rank(rank);
        }
        if is_evaluated {
            counters.evaluated.record_rank(rank);
        }
    }

    /// Ranking metrics of the kinds with tests, in the order of the kinds.
    pub(super) fn quality_by_kind(&self) -> Vec<KindQuality> {
        let quality = |(kind, counters): (KindId, &KindCounters)| KindQuality {
            kind,
            evaluated: counters.evaluated,
            live: counters.live.metrics(),
        };
        let has_tests = |quality: &KindQuality| quality.evaluated.steps + quality.live.steps > 0;
        (0..).zip(&self.kinds).map(quality).filter(has_tests).collect()
    }

    /// If the rank of the target item is in the top 20, counts a hit for the source that generated
    /// the item.
    pub(super) fn count_hit(&mut self, rank: Option<usize>, generated_by: Option<SourceName>) {
        let source = generated_by.filter(|_| rank.is_some_and(|rank| rank <= METRIC_CUTOFF));
        for (hits, _) in self.hits.iter_mut().zip(SourceName::ALL).filter(|(_, other)| source == Some(*other)) {
            *hits += 1;
        }
    }

    /// Adds a sampled test, given the rank that each source alone gave to the target item.
    pub(super) fn count_source_ranks(&mut self, ranks: &[Option<usize>; SourceName::ALL.len()]) {
        self.live.iter_mut().zip(ranks).for_each(|(live, rank)| live.record_rank(*rank));
    }

    /// Number of hits of each source.
    pub(super) fn hits_by_source(&self) -> [u64; SourceName::ALL.len()] {
        self.hits
    }

    /// Live ranking metrics of each source alone.
    pub(super) fn live_metrics_by_source(&self) -> [RankingMetrics; SourceName::ALL.len()] {
        self.live.each_ref().map(SlidingRankingMetrics::metrics)
    }
}
