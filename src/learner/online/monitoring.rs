//! What is watched of a fold and not learned: no checkpoint holds it, and a fold that goes on from
//! one watches anew.

use crate::domain::SourceName;
use crate::evaluation::{K, RankingMetrics, SlidingRankingMetrics};

/// How each source does.
#[derive(Debug)]
pub(super) struct MonitoredCounters {
    /// See [`super::LearningReport::hits_by_source`].
    hits: [u64; SourceName::ALL.len()],
    /// See [`super::LearningReport::live_by_source`].
    live: [SlidingRankingMetrics; SourceName::ALL.len()],
}

impl MonitoredCounters {
    /// Of the tests, each source alone is measured in one of so many, drawn by offset: all of them
    /// would add a few per cent to what a test costs, to know little more.
    pub(super) const SOURCES_EVERY: u64 = 4;

    /// Nothing yet; the live figures are of the last `window` tests that were drawn.
    pub(super) fn new(window: usize) -> Self {
        Self { hits: Default::default(), live: std::array::from_fn(|_| SlidingRankingMetrics::new(window)) }
    }

    /// Counts a test: the rank that the item which came had been given, and the source that had
    /// brought it.
    pub(super) fn count_hit(&mut self, rank: Option<usize>, brought: Option<SourceName>) {
        let source = brought.filter(|_| rank.is_some_and(|rank| rank <= K));
        for (hits, _) in self.hits.iter_mut().zip(SourceName::ALL).filter(|(_, other)| source == Some(*other)) {
            *hits += 1;
        }
    }

    /// Counts a test that was drawn: the rank that each source alone had given the item.
    pub(super) fn count_source_ranks(&mut self, ranks: &[Option<usize>; SourceName::ALL.len()]) {
        self.live.iter_mut().zip(ranks).for_each(|(live, rank)| live.count(*rank));
    }

    /// The hits by source.
    pub(super) fn hits_by_source(&self) -> [u64; SourceName::ALL.len()] {
        self.hits
    }

    /// The quality of each source alone.
    pub(super) fn live_by_source(&self) -> [RankingMetrics; SourceName::ALL.len()] {
        self.live.each_ref().map(SlidingRankingMetrics::metrics)
    }
}
