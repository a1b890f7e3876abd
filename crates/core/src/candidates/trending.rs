//! The source of trending items: exponentially decayed item counts.

use super::candidate_set::{CandidateBlock, CandidateSet};
use super::cluster_affinity::ClusterAffinity;
use super::columns::{EvidenceColumn, FeatureColumn};
use super::query_context::QueryContext;
use super::simd_math::exp;
use super::source::CandidateSource;
use crate::domain::{ItemIx, PagedVec, SourceName, Step};
use serde::{Deserialize, Serialize};
use std::f32::consts::LN_2;

/// Half-lives of the short-term and the long-term popularity, in journal entries.
const HALF_LIVES_IN_ENTRIES: [f32; 2] = [300.0, 5_000.0];
/// Maximum number of items in a list of the most popular items.
const MAX_TOP_ITEMS: usize = 50;
/// Number of clusters of a profile whose popular items become candidates.
const MAX_PROFILE_CLUSTERS: usize = 4;
/// Number of popular items of such a cluster that become candidates.
const MAX_ITEMS_PER_PROFILE_CLUSTER: usize = 20;
/// Of a larger cluster, only this many newest items are compared.
const MAX_ITEMS_SEARCHED_PER_CLUSTER: usize = 1_024;

/// Popularity counts of one item.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct DecayedPopularity {
    /// Counts with the short and the long half-life, decayed to journal entry `updated_at`.
    counts: [f32; 2],
    updated_at: u64,
    first: u64,
    sessions: u32,
}

/// Decay factor after `entries` journal entries, `2^(−entries / half_life)`.
#[inline(always)]
fn decay_factor(entries: f32, half_life: f32) -> f32 {
    exp(-entries * (LN_2 / half_life))
}

impl DecayedPopularity {
    fn decayed_counts_at(&self, now: u64) -> [f32; 2] {
        let elapsed = now.saturating_sub(self.updated_at) as f32;
        [
            self.counts[0] * decay_factor(elapsed, HALF_LIVES_IN_ENTRIES[0]),
            self.counts[1] * decay_factor(elapsed, HALF_LIVES_IN_ENTRIES[1]),
        ]
    }
}

/// Popularity counts of a block of candidates.
#[derive(Default)]
struct PopularityBlock {
    /// Number of journal entries since the last update of the counts.
    elapsed: [f32; CandidateSet::BLOCK_LEN],
    /// Counts with the short and the long half-life.
    counts: [[f32; CandidateSet::BLOCK_LEN]; 2],
}

/// Decays the counts of a block of candidates like [`DecayedPopularity::decayed_counts_at`].
struct DecayKernel<'a> {
    block: &'a mut PopularityBlock,
}

impl pulp::NullaryFnOnce for DecayKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let PopularityBlock { elapsed, counts } = self.block;
        for (counts, half_life) in counts.iter_mut().zip(HALF_LIVES_IN_ENTRIES) {
            for (count, elapsed) in counts.iter_mut().zip(&*elapsed) {
                *count *= decay_factor(*elapsed, half_life);
            }
        }
    }
}

/// Counts of one item, for the admin pages.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ItemCounts {
    /// Number of target events, decayed with a half-life of 300 journal entries.
    pub hour: f32,
    /// Number of target events, decayed with a half-life of 5,000 journal entries.
    pub day: f32,
    /// Number of target events on the item, not counting events of users whose recent steps already
    /// contained the item. The count is close to the number of sessions with the item.
    pub sessions: u32,
    /// Journal entry at which the item was first counted.
    pub first: u64,
    /// Journal entry of the latest target event or dismissal.
    pub last: u64,
}

/// Exponentially decayed counts of every item, and the most popular items.
///
/// A target event adds 1 to the counts of its item. A dismissal subtracts 1 (a count never falls
/// below 0) and removes the item from the lists of most popular items until its next target event.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TrendingSource {
    items: PagedVec<DecayedPopularity, 64>,
    /// The most popular items for each half-life, in no particular order, each with a key. The key
    /// is `log2(count) + entry / half_life`, where `count` is the count at journal entry `entry`.
    /// All counts decay at the same rate, so the order of the keys equals the order of the decayed
    /// counts at any later time.
    top: [Vec<(f64, ItemIx)>; 2],
    totals: [f32; 2],
    now: u64,
}

impl TrendingSource {
    /// Counts of an item at journal entry `now`; `None` if the item has no target event.
    #[must_use]
    pub fn item_counts(&self, item: ItemIx, now: u64) -> Option<ItemCounts> {
        let entry = self.items.get(item as usize).filter(|entry| entry.sessions > 0)?;
        let [hour, day] = entry.decayed_counts_at(now);
        Some(ItemCounts { hour, day, sessions: entry.sessions, first: entry.first, last: entry.updated_at })
    }

    /// Long-term popularity: decayed count of an item at journal entry `now`.
    #[must_use]
    pub fn popularity(&self, item: ItemIx, now: u64) -> f32 {
        self.items.get(item as usize).map_or(0.0, |popularity| popularity.decayed_counts_at(now)[1])
    }

    /// The items with the highest long-term popularity, the highest first. Among equally popular
    /// items, the smaller item number comes first.
    #[must_use]
    pub fn top_items(&self, now: u64) -> Vec<(ItemIx, f32)> {
        let mut ranked: Vec<_> = self.top[1].iter().map(|&(_, item)| (item, self.popularity(item, now))).collect();
        ranked.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked
    }

    /// Adds the most popular items of the clusters in which the user was most in earlier sessions.
    pub(super) fn add_profile_clusters(&self, context: &QueryContext<'_>, candidates: &mut CandidateSet) {
        let Some(clusters) = context.clusters else { return };
        let affinity = ClusterAffinity::of(context);
        let mut popular = Vec::new();
        for (cluster, weight) in affinity.heaviest_clusters(MAX_PROFILE_CLUSTERS) {
            let items = clusters.items_in_cluster(cluster);
            let newest = items.get(items.len().saturating_sub(MAX_ITEMS_SEARCHED_PER_CLUSTER)..).unwrap_or_default();
            popular.clear();
            popular.extend(newest.iter().map(|item| (self.popularity(*item, context.now), *item)));
            let total: f32 = popular.iter().map(|(popularity, _)| popularity).sum();
            let best_first = |a: &(f32, ItemIx), b: &(f32, ItemIx)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
            if popular.len() > MAX_ITEMS_PER_PROFILE_CLUSTER {
                popular.select_nth_unstable_by(MAX_ITEMS_PER_PROFILE_CLUSTER, best_first);
                popular.truncate(MAX_ITEMS_PER_PROFILE_CLUSTER);
            }
            for (popularity, item) in popular.iter().filter(|(popularity, _)| *popularity > 0.0) {
                candidates.add_evidence(*item, EvidenceColumn::ProfileClusters, weight * popularity / total);
            }
        }
        candidates.add_column_total(EvidenceColumn::ProfileClusters, affinity.total());
    }
}

impl CandidateSource for TrendingSource {
    fn name(&self) -> SourceName {
        SourceName::Trending
    }

    fn learn(&mut self, context: &QueryContext<'_>, arrival: &Step) {
        let Some(item) = arrival.item else { return };
        let now = context.now;
        if item as usize >= self.items.len() {
            self.items.grow(item as usize + 1, || DecayedPopularity { first: now, ..DecayedPopularity::default() });
        }
        let Some(popularity) = self.items.get_mut(item as usize) else { return };
        popularity.counts = popularity.decayed_counts_at(now).map(|count| count + 1.0);
        popularity.updated_at = now;
        if !context.recent_items().any(|seen| seen == item) {
            popularity.sessions += 1;
        }
        let elapsed = now.saturating_sub(self.now) as f32;
        for (((total, half_life), top), count) in
            self.totals.iter_mut().zip(HALF_LIVES_IN_ENTRIES).zip(&mut self.top).zip(popularity.counts)
        {
            *total = *total * decay_factor(elapsed, half_life) + 1.0;
            let key = f64::from(count.log2()) + now as f64 / f64::from(half_life);
            if let Some(entry) = top.iter_mut().find(|(_, entry)| *entry == item) {
                entry.0 = key;
            } else if top.len() < MAX_TOP_ITEMS {
                top.push((key, item));
            } else if let Some(lowest) = top.iter_mut().min_by(|a, b| a.0.total_cmp(&b.0))
                && lowest.0 < key
            {
                *lowest = (key, item);
            }
        }
        self.now = now;
    }

    fn learn_dismissal(&mut self, context: &QueryContext<'_>, item: ItemIx) {
        if let Some(popularity) = self.items.get_mut(item as usize) {
            popularity.counts = popularity.decayed_counts_at(context.now).map(|count| (count - 1.0).max(0.0));
            popularity.updated_at = context.now;
        }
        self.top.iter_mut().for_each(|top| top.retain(|(_, ranked)| *ranked != item));
    }

    fn generate(&self, context: &QueryContext<'_>, candidates: &mut CandidateSet) {
        for ((top, half_life), column) in self
            .top
            .iter()
            .zip(HALF_LIVES_IN_ENTRIES)
            .zip([EvidenceColumn::ShortTermPopularity, EvidenceColumn::LongTermPopularity])
        {
            for &(key, item) in top {
                candidates.add_evidence(item, column, (key - context.now as f64 / f64::from(half_life)).exp2() as f32);
            }
        }
        let elapsed = context.now.saturating_sub(self.now) as f32;
        candidates.add_column_total(
            EvidenceColumn::ShortTermPopularity,
            self.totals[0] * decay_factor(elapsed, HALF_LIVES_IN_ENTRIES[0]),
        );
        candidates.add_column_total(
            EvidenceColumn::LongTermPopularity,
            self.totals[1] * decay_factor(elapsed, HALF_LIVES_IN_ENTRIES[1]),
        );
    }

    fn add_features(&self, context: &QueryContext<'_>, candidates: &mut CandidateSet) {
        for CandidateBlock { items, evidence, features } in candidates.kept_blocks_mut() {
            let mut entries = [None; CandidateSet::BLOCK_LEN];
            let mut block = PopularityBlock::default();
            for (position, (item, entry)) in items.iter().zip(&mut entries).enumerate() {
                let Some(known) = self.items.get(*item as usize) else { continue };
                *entry = Some(known);
                block.elapsed[position] = context.now.saturating_sub(known.updated_at) as f32;
                block.counts[0][position] = known.counts[0];
                block.counts[1][position] = known.counts[1];
            }
            crate::simd::arch().dispatch(DecayKernel { block: &mut block });
            for (position, ((entry, evidence), features)) in entries.iter().zip(evidence).zip(features).enumerate() {
                let Some(entry) = entry else { continue };
                let counts = [block.counts[0][position], block.counts[1][position]];
                evidence[EvidenceColumn::ShortTermPopularity as usize] = counts[0];
                evidence[EvidenceColumn::LongTermPopularity as usize] = counts[1];
                features[FeatureColumn::SessionCount as usize] = entry.sessions as f32;
                features[FeatureColumn::EventsSinceLastSeen as usize] = block.elapsed[position];
                features[FeatureColumn::EventsSinceFirstSeen as usize] = context.now.saturating_sub(entry.first) as f32;
                features[FeatureColumn::PopularityTrend as usize] = (counts[0] + 0.1) / (counts[1] + 0.1);
            }
        }
    }

    fn entry_count(&self) -> usize {
        self.items.len()
    }

    fn memory_bytes(&self) -> usize {
        self.items.len() * size_of::<DecayedPopularity>()
    }
}
