//! Higher-order transitions: items that followed the last two or three items in the same order.

use super::candidate_set::CandidateSet;
use super::columns::EvidenceColumn;
use super::query_context::QueryContext;
use super::source::CandidateSource;
use crate::domain::{ItemIx, PagedVec, SourceName, Step};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Maximum number of followers per context. A context is a sequence of two or three items; its
/// followers are the items that came next.
const FOLLOWERS_PER_CONTEXT: usize = 8;
/// Maximum number of contexts per hash bucket.
const CONTEXTS_PER_BUCKET: usize = 16;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct NgramContext {
    tag: u32,
    /// Journal offset of the last update. A full bucket evicts its least recently updated context.
    updated_at: u64,
    used: u8,
    items: [ItemIx; FOLLOWERS_PER_CONTEXT],
    weights: [f32; FOLLOWERS_PER_CONTEXT],
}

/// The followers of each context, in a hash table of bounded size (set-associative). The key is a
/// hash of the two or three items of the context.
///
/// Every update of a context multiplies its weights by 0.9. A full context evicts the follower with
/// the smallest weight. Two contexts with equal hashes share their followers. Equal hashes are rare
/// and only add noise.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NgramSource {
    buckets: PagedVec<Arc<Vec<NgramContext>>, 64>,
    mask: u64,
}

fn hash_item_into_key(key: u64, item: ItemIx) -> u64 {
    let x = (key ^ (u64::from(item) + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (x >> 32)
}

impl NgramSource {
    /// Creates a table for at most `capacity` contexts, rounded down to a power of two.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let buckets = 1_usize << (capacity / CONTEXTS_PER_BUCKET).max(1).ilog2();
        let mut table = Self { buckets: PagedVec::default(), mask: buckets as u64 - 1 };
        let empty = Arc::new(Vec::new());
        table.buckets.grow(buckets, || Arc::clone(&empty));
        table
    }

    fn context_keys(context: &QueryContext<'_>) -> [Option<u64>; 2] {
        let mut recent = context.recent_items();
        let (last, before, third) = (recent.next(), recent.next(), recent.next());
        let pair = last.zip(before).map(|(last, before)| hash_item_into_key(hash_item_into_key(1, last), before));
        [pair, pair.zip(third).map(|(pair, third)| hash_item_into_key(pair, third))]
    }

    fn find_context(&self, key: u64) -> Option<&NgramContext> {
        self.buckets.get((key & self.mask) as usize)?.iter().find(|context| context.tag == (key >> 32) as u32)
    }

    fn count_follower(&mut self, key: u64, item: ItemIx, now: u64) {
        let Some(bucket) = self.buckets.get_mut((key & self.mask) as usize) else { return };
        let bucket = Arc::make_mut(bucket);
        let tag = (key >> 32) as u32;
        let position = bucket.iter().position(|context| context.tag == tag).unwrap_or_else(|| {
            let new_context = NgramContext {
                tag,
                updated_at: now,
                used: 0,
                items: [0; FOLLOWERS_PER_CONTEXT],
                weights: [0.0; FOLLOWERS_PER_CONTEXT],
            };
            if bucket.len() < CONTEXTS_PER_BUCKET {
                bucket.push(new_context);
                return bucket.len() - 1;
            }
            let oldest =
                bucket.iter().enumerate().min_by_key(|(_, entry)| entry.updated_at).map_or(0, |(position, _)| position);
            bucket[oldest] = new_context;
            oldest
        });
        let context = &mut bucket[position];
        context.updated_at = now;
        context.weights.iter_mut().for_each(|weight| *weight *= 0.9);
        let used = usize::from(context.used);
        let entry = context.items[..used].iter().position(|known| *known == item).unwrap_or_else(|| {
            let entry = if used < FOLLOWERS_PER_CONTEXT {
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

    fn learn(&mut self, context: &QueryContext<'_>, arrival: &Step) {
        let Some(item) = arrival.item else { return };
        for key in Self::context_keys(context).into_iter().flatten() {
            self.count_follower(key, item, context.now);
        }
    }

    fn generate(&self, context: &QueryContext<'_>, candidates: &mut CandidateSet) {
        for (key, column) in
            Self::context_keys(context).into_iter().zip([EvidenceColumn::PairContext, EvidenceColumn::TripleContext])
        {
            if let Some(row) = key.and_then(|key| self.find_context(key)) {
                let mut total = 0.0;
                for (item, weight) in row.items.iter().zip(row.weights).take(usize::from(row.used)) {
                    candidates.add_evidence(*item, column, weight);
                    total += weight;
                }
                candidates.add_column_total(column, total);
            }
        }
    }

    fn entry_count(&self) -> usize {
        self.buckets.estimate_sum(|bucket| bucket.len())
    }

    fn memory_bytes(&self) -> usize {
        self.buckets
            .estimate_sum(|bucket| bucket.capacity() * size_of::<NgramContext>() + size_of::<Arc<Vec<NgramContext>>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression test: the capacity was rounded up to a power of two, so a table could hold almost
    /// twice as many contexts as configured.
    #[test]
    fn the_table_never_exceeds_its_capacity_and_keeps_the_latest_contexts() {
        for capacity in [1024, 1040, 2047, 2048] {
            let mut table = NgramSource::new(capacity);
            let step = |item| Step { item: Some(item), kind: 0, starts_session: false, at: 0, value: 1.0 };
            let mut largest = 0;
            // Every step has new contexts: a pair and a triple.
            for now in 3..10 * capacity as u32 {
                let steps = [step(now - 3), step(now - 2), step(now - 1)];
                let query = QueryContext {
                    steps: &steps,
                    session: 0,
                    session_start: 0,
                    now: now.into(),
                    ..QueryContext::default()
                };
                table.learn(&query, &step(now));
                let keys = NgramSource::context_keys(&query);
                assert!(keys.iter().all(|key| table.find_context(key.unwrap()).is_some()), "the latest are kept");
                largest = largest.max(table.entry_count());
            }
            assert!((capacity / 4..=capacity).contains(&largest), "{largest} contexts of {capacity}");
        }
    }
}
