//! What many choose now.

use super::simd_math::exp;
use super::{CandidateSet, CandidateSource, EvidenceColumn, FeatureColumn, QueryContext};
use crate::domain::{ItemIx, PagedVec, SourceName, Step};
use serde::{Deserialize, Serialize};
use std::f32::consts::LN_2;

/// Half-lives of the two popularities, in events.
const HALF_LIVES: [f32; 2] = [300.0, 5_000.0];
/// Items kept in each list of the most popular.
const LISTED: usize = 50;

/// What is known of one item's popularity.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct DecayedPopularity {
    /// Decayed counts, as of event `at`.
    counts: [f32; 2],
    at: u64,
    first: u64,
    sessions: u32,
}

/// What is left of one after `events`.
fn decay(events: f32, half_life: f32) -> f32 {
    exp(-events * (LN_2 / half_life))
}

impl DecayedPopularity {
    fn now(&self, now: u64) -> [f32; 2] {
        let idle = now.saturating_sub(self.at) as f32;
        [self.counts[0] * decay(idle, HALF_LIVES[0]), self.counts[1] * decay(idle, HALF_LIVES[1])]
    }
}

/// What is counted of one item.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ItemCounts {
    /// Choices, each halving every 300 entries.
    pub hour: f32,
    /// Choices, each halving every 5,000 entries.
    pub day: f32,
    /// Sessions that chose it.
    pub sessions: u32,
    /// The entry of its first choice.
    pub first: u64,
    /// The entry of its latest choice.
    pub last: u64,
}

/// Exponentially decayed counts of every item, and the most popular of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TrendingSource {
    items: PagedVec<DecayedPopularity, 64>,
    /// The most popular by each half-life. The key `log2(count) + at / half-life` orders as the decayed counts do, whenever asked.
    top: [Vec<(f64, ItemIx)>; 2],
    totals: [f32; 2],
    now: u64,
}

impl TrendingSource {
    /// What is counted of an item, as of the entry `now`; `None` if nothing ever chose it.
    #[must_use]
    pub fn item_counts(&self, item: ItemIx, now: u64) -> Option<ItemCounts> {
        let known = self.items.get(item as usize).filter(|known| known.sessions > 0)?;
        let [hour, day] = known.now(now);
        Some(ItemCounts { hour, day, sessions: known.sessions, first: known.first, last: known.at })
    }

    /// The popularity of the day: an item's decayed count as of the entry `now`.
    #[must_use]
    pub fn popularity(&self, item: ItemIx, now: u64) -> f32 {
        self.items.get(item as usize).map_or(0.0, |popularity| popularity.now(now)[1])
    }

    /// The most popular items of the day with their popularity, best first, ties by the smaller number.
    #[must_use]
    pub fn top_items(&self, now: u64) -> Vec<(ItemIx, f32)> {
        let mut listed: Vec<_> = self.top[1].iter().map(|&(_, item)| (item, self.popularity(item, now))).collect();
        listed.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        listed
    }
}

impl CandidateSource for TrendingSource {
    fn name(&self) -> SourceName {
        SourceName::Trending
    }

    fn learn(&mut self, moment: &QueryContext<'_>, arrival: &Step) {
        let Some(item) = arrival.item else { return };
        let now = moment.now;
        if item as usize >= self.items.len() {
            self.items.grow(item as usize + 1, || DecayedPopularity { first: now, ..DecayedPopularity::default() });
        }
        let Some(popularity) = self.items.get_mut(item as usize) else { return };
        popularity.counts = popularity.now(now).map(|count| count + 1.0);
        popularity.at = now;
        if !moment.recent_items().any(|seen| seen == item) {
            popularity.sessions += 1;
        }
        let elapsed = now.saturating_sub(self.now) as f32;
        for (((total, half_life), top), count) in self.totals.iter_mut().zip(HALF_LIVES).zip(&mut self.top).zip(popularity.counts) {
            *total = *total * decay(elapsed, half_life) + 1.0;
            let key = f64::from(count.log2()) + now as f64 / f64::from(half_life);
            if let Some(known) = top.iter_mut().find(|(_, known)| *known == item) {
                known.0 = key;
            } else if top.len() < LISTED {
                top.push((key, item));
            } else if let Some(least) = top.iter_mut().min_by(|a, b| a.0.total_cmp(&b.0))
                && least.0 < key
            {
                *least = (key, item);
            }
        }
        self.now = now;
    }

    fn learn_dismissal(&mut self, moment: &QueryContext<'_>, item: ItemIx) {
        if let Some(popularity) = self.items.get_mut(item as usize) {
            popularity.counts = popularity.now(moment.now).map(|count| (count - 1.0).max(0.0));
            popularity.at = moment.now;
        }
        self.top.iter_mut().for_each(|top| top.retain(|(_, listed)| *listed != item));
    }

    fn generate(&self, moment: &QueryContext<'_>, slate: &mut CandidateSet) {
        for ((top, half_life), channel) in
            self.top.iter().zip(HALF_LIVES).zip([EvidenceColumn::HourlyPopularity, EvidenceColumn::DailyPopularity])
        {
            for &(key, item) in top {
                slate.add(item, channel, (key - moment.now as f64 / f64::from(half_life)).exp2() as f32);
            }
        }
        let elapsed = moment.now.saturating_sub(self.now) as f32;
        slate.add_total(EvidenceColumn::HourlyPopularity, self.totals[0] * decay(elapsed, HALF_LIVES[0]));
        slate.add_total(EvidenceColumn::DailyPopularity, self.totals[1] * decay(elapsed, HALF_LIVES[1]));
    }

    fn add_features(&self, moment: &QueryContext<'_>, slate: &mut CandidateSet) {
        for (item, evidence, facts) in slate.rows_mut() {
            let Some(popularity) = self.items.get(item as usize) else { continue };
            let counts = popularity.now(moment.now);
            evidence[EvidenceColumn::HourlyPopularity as usize] = counts[0];
            evidence[EvidenceColumn::DailyPopularity as usize] = counts[1];
            facts[FeatureColumn::SessionCount as usize] = popularity.sessions as f32;
            facts[FeatureColumn::EventsSinceLastSeen as usize] = moment.now.saturating_sub(popularity.at) as f32;
            facts[FeatureColumn::EventsSinceFirstSeen as usize] = moment.now.saturating_sub(popularity.first) as f32;
            facts[FeatureColumn::PopularityTrend as usize] = (counts[0] + 0.1) / (counts[1] + 0.1);
        }
    }

    fn entry_count(&self) -> usize {
        self.items.len()
    }

    fn memory_bytes(&self) -> usize {
        self.items.len() * size_of::<DecayedPopularity>()
    }
}
