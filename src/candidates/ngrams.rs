//! Longer contexts: what followed the last two, or three, items in this order.

use super::{CandidateSet, CandidateSource, EvidenceColumn, QueryContext};
use crate::domain::{ItemIx, PagedVec, SourceName, Step};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Items remembered per context.
const ENTRIES: usize = 8;
/// Contexts per bucket.
const WAYS: usize = 16;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct NgramContext {
    tag: u32,
    /// The event that last touched it: the oldest of a full bucket gives way.
    at: u64,
    used: u8,
    items: [ItemIx; ENTRIES],
    weights: [f32; ENTRIES],
}

/// A bounded table of contexts, keyed by the hash of their items. Two contexts of one hash share a row, which is rare and harmless.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NgramSource {
    buckets: PagedVec<Arc<Vec<NgramContext>>, 64>,
    mask: u64,
}

fn mix(key: u64, item: ItemIx) -> u64 {
    let x = (key ^ (u64::from(item) + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (x >> 32)
}

impl NgramSource {
    /// A table of about `capacity` contexts.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let buckets = (capacity / WAYS).next_power_of_two();
        let mut table = Self { buckets: PagedVec::default(), mask: buckets as u64 - 1 };
        let empty = Arc::new(Vec::new());
        table.buckets.grow(buckets, || Arc::clone(&empty));
        table
    }

    fn keys(moment: &QueryContext<'_>) -> [Option<u64>; 2] {
        let mut recent = moment.recent_items();
        let (last, before, third) = (recent.next(), recent.next(), recent.next());
        let pair = last.zip(before).map(|(last, before)| mix(mix(1, last), before));
        [pair, pair.zip(third).map(|(pair, third)| mix(pair, third))]
    }

    fn find(&self, key: u64) -> Option<&NgramContext> {
        self.buckets.get((key & self.mask) as usize)?.iter().find(|context| context.tag == (key >> 32) as u32)
    }

    fn add(&mut self, key: u64, item: ItemIx, now: u64) {
        let Some(bucket) = self.buckets.get_mut((key & self.mask) as usize) else { return };
        let bucket = Arc::make_mut(bucket);
        let tag = (key >> 32) as u32;
        let place = bucket.iter().position(|context| context.tag == tag).unwrap_or_else(|| {
            let fresh = NgramContext { tag, at: now, used: 0, items: [0; ENTRIES], weights: [0.0; ENTRIES] };
            if bucket.len() < WAYS {
                bucket.push(fresh);
                return bucket.len() - 1;
            }
            let oldest = bucket.iter().enumerate().min_by_key(|(_, context)| context.at).map_or(0, |(place, _)| place);
            bucket[oldest] = fresh;
            oldest
        });
        let context = &mut bucket[place];
        context.at = now;
        context.weights.iter_mut().for_each(|weight| *weight *= 0.9);
        let used = usize::from(context.used);
        let entry = context.items[..used].iter().position(|known| *known == item).unwrap_or_else(|| {
            let entry = if used < ENTRIES {
                context.used += 1;
                used
            } else {
                context.weights.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(entry, _)| entry)
            };
            context.items[entry] = item;
            context.weights[entry] = 0.0;
            entry
        });
        context.weights[entry] += 1.0;
    }
}

impl CandidateSource for NgramSource {
    fn name(&self) -> SourceName {
        SourceName::Transitions
    }

    fn learn(&mut self, moment: &QueryContext<'_>, arrival: &Step) {
        let Some(item) = arrival.item else { return };
        for key in Self::keys(moment).into_iter().flatten() {
            self.add(key, item, moment.now);
        }
    }

    fn generate(&self, moment: &QueryContext<'_>, slate: &mut CandidateSet) {
        for (key, channel) in Self::keys(moment).into_iter().zip([EvidenceColumn::PairContext, EvidenceColumn::TripleContext]) {
            if let Some(context) = key.and_then(|key| self.find(key)) {
                let mut total = 0.0;
                for (item, weight) in context.items.iter().zip(context.weights).take(usize::from(context.used)) {
                    slate.add(*item, channel, weight);
                    total += weight;
                }
                slate.add_total(channel, total);
            }
        }
    }

    fn entry_count(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.len()).sum()
    }

    fn memory_bytes(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.capacity() * size_of::<NgramContext>() + size_of::<Arc<Vec<NgramContext>>>()).sum()
    }
}
