//! The candidate set: the items that the candidate sources generated for a query, with the evidence
//! for each item and its features.

mod selection;

use super::columns::{EVIDENCE_COLUMN_COUNT, EvidenceColumn, FEATURE_COLUMN_COUNT};
use super::dense_index::DenseIndex;
use super::query_context::SessionIx;
use crate::domain::{ItemIx, SourceName};

/// Maximum number of items that the sources can add to a set. Further items are dropped.
const MAX_GATHERED_ITEMS: usize = 8192;

/// For each source, in the order of [`SourceName::ALL`], a bit mask of its columns.
const COLUMNS_BY_SOURCE: [u32; SourceName::ALL.len()] = {
    let mut columns = [0; SourceName::ALL.len()];
    let (mut source, mut column) = (0, 0);
    while source < columns.len() {
        while column < EVIDENCE_COLUMN_COUNT {
            if EvidenceColumn::ALL[column].source() as usize == SourceName::ALL[source] as usize {
                columns[source] |= 1 << EvidenceColumn::ALL[column] as u32;
            }
            column += 1;
        }
        (source, column) = (source + 1, 0);
    }
    columns
};

/// The weighted sum of shares of an added item, and the item's position.
type WeighedPosition = (f32, u32);

/// The candidates of one query. First the sources add items with evidence. Then the set keeps the
/// best items. Finally the sources add features to the kept items.
///
/// Later queries reuse the buffers and allocate nothing.
#[derive(Debug, Clone)]
pub struct CandidateSet {
    items: DenseIndex,
    evidence: Vec<[f32; EVIDENCE_COLUMN_COUNT]>,
    /// For each added item, a bit mask of the columns in which it has evidence.
    column_bits: Vec<u32>,
    totals: [f32; EVIDENCE_COLUMN_COUNT],
    /// Weighted sum of shares of each candidate, with its position among the added items.
    order: Vec<WeighedPosition>,
    /// The candidates after the limit that a chooser may keep, with their groups.
    after_limit: Vec<(WeighedPosition, u64)>,
    /// Whether candidates were dropped only because of the limit.
    has_more: bool,
    /// Positions of the kept candidates among the added items, in ascending order.
    kept: Vec<u32>,
    /// Item number, evidence and features of each kept candidate. The evidence is a copy, so that
    /// later passes over the kept candidates read contiguous memory.
    kept_items: Vec<ItemIx>,
    kept_evidence: Vec<[f32; EVIDENCE_COLUMN_COUNT]>,
    features: Vec<[f32; FEATURE_COLUMN_COUNT]>,
    pub(super) neighbour_scratch: NeighbourScratch,
}

/// Buffers of the neighbour search.
#[derive(Debug, Clone)]
pub(super) struct NeighbourScratch {
    pub(super) session_index: DenseIndex,
    /// Past sessions that share items with the current session. `session_index` maps a session
    /// number to its position here.
    pub(super) similar_sessions: Vec<SimilarSession>,
}

/// A past session that shares items with the current one.
#[derive(Debug, Clone, Copy)]
pub(super) struct SimilarSession {
    pub(super) session: SessionIx,
    pub(super) similarity: f32,
    /// The anchor: the latest item of the current session that the past session also contains.
    pub(super) anchor: ItemIx,
    /// Distance of the anchor from the end of the current session.
    pub(super) distance_from_end: u32,
}

impl Default for CandidateSet {
    fn default() -> Self {
        Self {
            items: DenseIndex::new(MAX_GATHERED_ITEMS),
            evidence: Vec::new(),
            column_bits: Vec::new(),
            totals: [0.0; EVIDENCE_COLUMN_COUNT],
            order: Vec::new(),
            after_limit: Vec::new(),
            has_more: false,
            kept: Vec::new(),
            kept_items: Vec::new(),
            kept_evidence: Vec::new(),
            features: Vec::new(),
            neighbour_scratch: NeighbourScratch {
                session_index: DenseIndex::new(1 << 14),
                similar_sessions: Vec::new(),
            },
        }
    }
}

/// A block of kept candidates, see [`CandidateSet::kept_blocks_mut`]. The slices have equal lengths.
#[derive(Debug)]
pub struct CandidateBlock<'a> {
    /// Item numbers.
    pub items: &'a [ItemIx],
    /// Evidence of each item.
    pub evidence: &'a mut [[f32; EVIDENCE_COLUMN_COUNT]],
    /// Features of each item.
    pub features: &'a mut [[f32; FEATURE_COLUMN_COUNT]],
}

impl CandidateSet {
    /// Maximum number of candidates in a block of [`CandidateSet::kept_blocks_mut`].
    pub const BLOCK_LEN: usize = 16;
    /// Number of candidates on which a chooser decides, those with the largest weighted sums.
    pub const MAX_EXAMINED: usize = 2048;

    /// Removes all candidates, before a new query.
    pub fn clear(&mut self) {
        self.items.clear();
        self.evidence.clear();
        self.column_bits.clear();
        self.totals = [0.0; EVIDENCE_COLUMN_COUNT];
        self.kept.clear();
        self.kept_items.clear();
        self.kept_evidence.clear();
        self.features.clear();
    }

    /// Adds evidence for an item in one column. Any evidence makes the item a candidate.
    #[inline]
    pub fn add_evidence(&mut self, item: ItemIx, column: EvidenceColumn, weight: f32) {
        self.add_evidence_in_columns(item, [(column, weight)]);
    }

    /// Adds evidence for an item in several columns.
    #[inline]
    pub fn add_evidence_in_columns<const N: usize>(&mut self, item: ItemIx, weights: [(EvidenceColumn, f32); N]) {
        if let Some((position, new)) = self.items.get_or_insert(item) {
            if new {
                self.evidence.push([0.0; EVIDENCE_COLUMN_COUNT]);
                self.column_bits.push(0);
            }
            let (evidence, column_bits) = (&mut self.evidence[position], &mut self.column_bits[position]);
            for (column, weight) in weights {
                evidence[column as usize] += weight;
                *column_bits |= 1 << column as u32;
            }
        }
    }

    /// Increases the total weight of a column by `total`. The share of a candidate in a column is
    /// its evidence divided by the total weight of the column.
    pub fn add_column_total(&mut self, column: EvidenceColumn, total: f32) {
        self.totals[column as usize] += total;
    }

    /// Total weight of each evidence column.
    #[must_use]
    pub fn column_totals(&self) -> &[f32; EVIDENCE_COLUMN_COUNT] {
        &self.totals
    }

    /// Number of items that the sources added.
    #[must_use]
    pub fn gathered_count(&self) -> usize {
        self.evidence.len()
    }

    /// Also keeps the given items, even those without evidence and those that the user dismissed.
    pub fn keep_also(&mut self, items: &[ItemIx]) {
        items.iter().for_each(|item| self.add_evidence_in_columns(*item, []));
        self.kept.extend(items.iter().filter_map(|item| self.items.find(*item)).map(|position| position as u32));
        self.copy_kept_rows();
    }

    /// Sorts the kept positions, removes repeated ones and copies their rows.
    fn copy_kept_rows(&mut self) {
        self.kept.sort_unstable();
        self.kept.dedup();
        let items = self.items.keys();
        self.kept_items.clear();
        self.kept_items.extend(self.kept.iter().map(|&position| items[position as usize]));
        self.kept_evidence.clear();
        self.kept_evidence.extend(self.kept.iter().map(|&position| self.evidence[position as usize]));
        self.features.clear();
        self.features.resize(self.kept.len(), [0.0; FEATURE_COLUMN_COUNT]);
    }

    /// Number of kept candidates.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether no candidate was kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Item numbers of the kept candidates.
    pub fn kept_items(&self) -> impl ExactSizeIterator<Item = ItemIx> {
        self.kept_items.iter().copied()
    }

    /// Position of an item among the kept candidates; `None` if it was not kept.
    #[must_use]
    pub fn position_of(&self, item: ItemIx) -> Option<usize> {
        let position = self.items.find(item)? as u32;
        self.kept.binary_search(&position).ok()
    }

    /// The evidence, the features and the number of columns with evidence of each kept candidate.
    pub fn kept_rows(
        &self,
    ) -> impl ExactSizeIterator<Item = (&[f32; EVIDENCE_COLUMN_COUNT], &[f32; FEATURE_COLUMN_COUNT], u32)> {
        let column_counts = self.kept.iter().map(|&position| self.column_bits[position as usize].count_ones());
        let rows = self.kept_evidence.iter().zip(&self.features).zip(column_counts);
        rows.map(|((evidence, features), column_count)| (evidence, features, column_count))
    }

    /// Source of a kept candidate. If several sources generated the item, this is the first of them
    /// in [`SourceName::ALL`]. `None` if no source generated it.
    #[must_use]
    pub fn source_at(&self, position: usize) -> Option<SourceName> {
        let column_bits = *self.column_bits.get(*self.kept.get(position)? as usize)?;
        let mut sources = SourceName::ALL.into_iter().zip(COLUMNS_BY_SOURCE);
        sources.find(|(_, columns)| column_bits & columns != 0).map(|(source, _)| source)
    }

    /// Number of kept candidates that each source generated, in the order of [`SourceName::ALL`].
    #[must_use]
    pub fn counts_by_source(&self) -> [usize; SourceName::ALL.len()] {
        let mut counts = [0; SourceName::ALL.len()];
        for column_bits in self.kept.iter().filter_map(|&position| self.column_bits.get(position as usize)) {
            for (count, columns) in counts.iter_mut().zip(COLUMNS_BY_SOURCE) {
                *count += usize::from(column_bits & columns != 0);
            }
        }
        counts
    }

    /// The kept candidates in blocks of at most [`CandidateSet::BLOCK_LEN`]: item numbers, evidence and
    /// writable features. A source that reads its table once per candidate first reads all entries
    /// of a block, so that their cache misses overlap.
    pub fn kept_blocks_mut(&mut self) -> impl Iterator<Item = CandidateBlock<'_>> {
        let evidence = self.kept_evidence.chunks_mut(Self::BLOCK_LEN);
        let features = self.features.chunks_mut(Self::BLOCK_LEN);
        let blocks = self.kept_items.chunks(Self::BLOCK_LEN).zip(evidence).zip(features);
        blocks.map(|((items, evidence), features)| CandidateBlock { items, evidence, features })
    }

    /// The kept candidates: item number, evidence and writable features of each.
    pub fn kept_rows_mut(
        &mut self,
    ) -> impl Iterator<Item = (ItemIx, &mut [f32; EVIDENCE_COLUMN_COUNT], &mut [f32; FEATURE_COLUMN_COUNT])> {
        let rows = self.kept_items.iter().zip(&mut self.kept_evidence).zip(&mut self.features);
        rows.map(|((&item, evidence), features)| (item, evidence, features))
    }

    /// For each source, in the order of [`SourceName::ALL`]: the rank of `item` among all items
    /// that this source generated, by the evidence of this source alone.
    ///
    /// Rank 1 is the best. Among equal weights, the smaller item number ranks first. The rank is
    /// `None` if the source did not generate the item.
    #[must_use]
    pub fn source_ranks(&self, item: ItemIx) -> [Option<usize>; SourceName::ALL.len()] {
        let columns = SourceName::ALL.map(|source| EvidenceColumn::primary_column_of(source) as usize);
        let position = self.items.find(item);
        let Some((&column_bits, evidence)) =
            position.and_then(|position| Some((self.column_bits.get(position)?, self.evidence.get(position)?)))
        else {
            return [None; SourceName::ALL.len()];
        };
        let (bits, weights) = (columns.map(|column| column_bits & 1 << column), columns.map(|column| evidence[column]));
        let all = bits.into_iter().fold(0, |all, bit| all | bit);
        let mut ranks = [1; SourceName::ALL.len()];
        for ((&other, other_evidence), &column_bits) in
            self.items.keys().iter().zip(&self.evidence).zip(&self.column_bits)
        {
            if column_bits & all == 0 {
                continue;
            }
            for (((rank, column), bit), weight) in ranks.iter_mut().zip(columns).zip(bits).zip(weights) {
                let better = other_evidence[column] > weight || (other_evidence[column] == weight && other < item);
                *rank += usize::from(column_bits & bit != 0 && better);
            }
        }
        let mut column_bits = bits.into_iter();
        ranks.map(|rank| column_bits.next().filter(|bit| *bit != 0).map(|_| rank))
    }

    /// The `limit` items with the most evidence in one column, in descending order of evidence.
    /// Among equal weights, the smaller item number comes first.
    pub fn best_by_column(&self, column: EvidenceColumn, limit: usize) -> Vec<(ItemIx, f32)> {
        let with_evidence = self
            .items
            .keys()
            .iter()
            .zip(&self.evidence)
            .zip(&self.column_bits)
            .filter(|(_, column_bits)| **column_bits >> column as u32 & 1 == 1);
        let mut list: Vec<_> = with_evidence.map(|((&item, evidence), _)| (item, evidence[column as usize])).collect();
        list.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        list.truncate(limit);
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candidates::QueryContext;
    use crate::domain::Step;

    fn step_on_item(item: ItemIx, value: f32) -> Step {
        Step { item: Some(item), kind: 0, starts_session: false, at: 0, value }
    }

    fn candidates_of_four_items() -> CandidateSet {
        let mut candidates = CandidateSet::default();
        for (item, weight) in [(9, 4.0), (3, 2.0), (5, 2.0), (7, 1.0)] {
            candidates.add_evidence(item, EvidenceColumn::WindowTransitions, weight);
        }
        candidates.add_evidence(7, EvidenceColumn::LongTermPopularity, 1.0);
        candidates.add_column_total(EvidenceColumn::WindowTransitions, 9.0);
        candidates.add_column_total(EvidenceColumn::LongTermPopularity, 100.0);
        candidates
    }

    #[test]
    fn the_candidates_with_the_largest_shares_are_kept_and_ties_go_to_the_smaller_item() {
        let mut candidates = candidates_of_four_items();
        candidates.keep_top_candidates(
            2,
            &QueryContext { steps: &[], session: 0, session_start: 0, now: 0, ..QueryContext::default() },
        );
        assert_eq!(candidates.kept_items().collect::<Vec<_>>(), [9, 3]);
        assert_eq!(candidates.position_of(3), Some(1));
        assert_eq!(candidates.position_of(5), None);
        assert_eq!(candidates.best_by_column(EvidenceColumn::WindowTransitions, 3), [(9, 4.0), (3, 2.0), (5, 2.0)]);
    }

    #[test]
    fn source_ranks_cover_only_generated_items_and_break_ties_by_item() {
        let mut candidates = candidates_of_four_items();
        for (item, weight) in [(7, 1.0), (9, 3.0), (3, 1.0), (2, 1.0)] {
            candidates.add_evidence(item, EvidenceColumn::primary_column_of(SourceName::Neighbours), weight);
        }
        let ranks_of = |item| -> Vec<_> {
            let ranks = SourceName::ALL.into_iter().zip(candidates.source_ranks(item));
            ranks.filter_map(|(source, rank)| Some((source, rank?))).collect()
        };
        // In the neighbours column, item 9 has weight 3, and items 2, 3 and 7 have weight 1. The
        // window transitions column does not count, because it is not the column by which its
        // source ranks items.
        assert_eq!(ranks_of(7), [(SourceName::Neighbours, 4), (SourceName::Trending, 1)]);
        assert_eq!(ranks_of(3), [(SourceName::Neighbours, 3)]);
        assert_eq!(ranks_of(9), [(SourceName::Neighbours, 1)]);
        assert_eq!(ranks_of(5), []);
        assert_eq!(ranks_of(1), []);
    }

    #[test]
    fn dismissed_items_are_dropped_until_selected_again() {
        let mut candidates = candidates_of_four_items();
        candidates.keep_top_candidates(
            10,
            &QueryContext {
                steps: &[step_on_item(3, -1.0), step_on_item(9, -1.0), step_on_item(9, 1.0)],
                session: 0,
                session_start: 0,
                now: 0,
                ..QueryContext::default()
            },
        );
        assert_eq!(candidates.kept_items().collect::<Vec<_>>(), [9, 5, 7]);
    }

    #[test]
    fn given_items_are_kept_too_even_dismissed_ones_and_those_without_evidence() {
        let mut candidates = candidates_of_four_items();
        let dismissal = [step_on_item(3, -1.0)];
        candidates.keep_top_candidates(1, &QueryContext { steps: &dismissal, ..QueryContext::default() });
        candidates.keep_also(&[42, 7, 9, 3, 42]);
        assert_eq!(candidates.kept_items().collect::<Vec<_>>(), [9, 3, 7, 42]);
        let weights: Vec<f32> =
            candidates.kept_rows().map(|(evidence, ..)| evidence[EvidenceColumn::WindowTransitions as usize]).collect();
        assert_eq!(weights, [4.0, 2.0, 1.0, 0.0]);
        let source_of = |item| candidates.source_at(candidates.position_of(item).unwrap());
        assert_eq!((source_of(3), source_of(42)), (Some(SourceName::Transitions), None));
        assert_eq!(candidates.position_of(5), None);
    }

    #[test]
    fn a_candidate_is_attributed_to_its_first_source() {
        let mut candidates = candidates_of_four_items();
        candidates.keep_top_candidates(
            10,
            &QueryContext { steps: &[], session: 0, session_start: 0, now: 0, ..QueryContext::default() },
        );
        assert_eq!(
            candidates.position_of(7).and_then(|position| candidates.source_at(position)),
            Some(SourceName::Transitions)
        );
        let counts: Vec<_> =
            SourceName::ALL.into_iter().zip(candidates.counts_by_source()).filter(|(_, count)| *count > 0).collect();
        assert_eq!(counts, [(SourceName::Transitions, 4), (SourceName::Trending, 1)]);
    }
}
