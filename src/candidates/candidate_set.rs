//! The candidate set: gathered items with evidence per column and features.

use super::columns::{EVIDENCE_COLUMNS, EvidenceColumn, FEATURE_COLUMNS};
use super::dense_index::DenseIndex;
use super::query_context::{QueryContext, SessionIx};
use crate::domain::{ItemIx, SourceName};

/// Maximum number of gathered items. Further items are dropped.
const MAX_GATHERED: usize = 8192;

/// Candidates of one query: gathered, cut to the best and described by features.
///
/// Reused between queries; it allocates nothing once warm.
#[derive(Debug, Clone)]
pub struct CandidateSet {
    items: DenseIndex,
    evidence: Vec<[f32; EVIDENCE_COLUMNS]>,
    /// Per gathered item, a bit mask of the columns with evidence.
    column_bits: Vec<u16>,
    features: Vec<[f32; FEATURE_COLUMNS]>,
    totals: [f32; EVIDENCE_COLUMNS],
    order: Vec<(f32, u32)>,
    kept: Vec<u32>,
    pub(super) neighbour_scratch: NeighbourScratch,
}

/// Scratch of the neighbour search.
#[derive(Debug, Clone)]
pub(super) struct NeighbourScratch {
    pub(super) session_index: DenseIndex,
    /// The matching sessions, by slot of `session_index`.
    pub(super) similar_sessions: Vec<SimilarSession>,
}

/// A past session that shares items with the current one.
#[derive(Debug, Clone, Copy)]
pub(super) struct SimilarSession {
    pub(super) session: SessionIx,
    pub(super) similarity: f32,
    /// The latest item of the current session that both share, and its distance from the end.
    pub(super) anchor: ItemIx,
    pub(super) distance_from_end: u32,
}

impl Default for CandidateSet {
    fn default() -> Self {
        Self {
            items: DenseIndex::new(MAX_GATHERED),
            evidence: Vec::new(),
            column_bits: Vec::new(),
            features: Vec::new(),
            totals: [0.0; EVIDENCE_COLUMNS],
            order: Vec::new(),
            kept: Vec::new(),
            neighbour_scratch: NeighbourScratch {
                session_index: DenseIndex::new(1 << 14),
                similar_sessions: Vec::new(),
            },
        }
    }
}

impl CandidateSet {
    /// Starts a new query.
    pub fn clear(&mut self) {
        self.items.clear();
        self.evidence.clear();
        self.column_bits.clear();
        self.features.clear();
        self.totals = [0.0; EVIDENCE_COLUMNS];
        self.kept.clear();
    }

    /// Adds evidence for an item, which makes it a candidate.
    #[inline]
    pub fn add(&mut self, item: ItemIx, column: EvidenceColumn, weight: f32) {
        self.add_columns(item, [(column, weight)]);
    }

    /// Adds evidence in several columns at once.
    #[inline]
    pub fn add_columns<const N: usize>(&mut self, item: ItemIx, weights: [(EvidenceColumn, f32); N]) {
        if let Some((position, new)) = self.items.get_or_insert(item) {
            if new {
                self.evidence.push([0.0; EVIDENCE_COLUMNS]);
                self.column_bits.push(0);
            }
            let (evidence, column_bits) = (&mut self.evidence[position], &mut self.column_bits[position]);
            for (column, weight) in weights {
                evidence[column as usize] += weight;
                *column_bits |= 1 << column as u16;
            }
        }
    }

    /// Adds to the total weight of a column. Evidence divided by the total is the candidate's
    /// share.
    pub fn add_total(&mut self, column: EvidenceColumn, total: f32) {
        self.totals[column as usize] += total;
    }

    /// Total weights of the columns.
    #[must_use]
    pub fn totals(&self) -> &[f32; EVIDENCE_COLUMNS] {
        &self.totals
    }

    /// Number of gathered items.
    #[must_use]
    pub fn gathered_count(&self) -> usize {
        self.evidence.len()
    }

    /// Keeps the `limit` candidates with the largest weighted sum of shares,
    /// `Σ_c selection_weight(c) · evidence_c / total_c`.
    ///
    /// Ties go to the smaller item number. Dismissed items are dropped
    /// unless a later step selected them again.
    pub fn keep_top(&mut self, limit: usize, context: &QueryContext<'_>) {
        let mut scale = [0.0; EVIDENCE_COLUMNS];
        for column in EvidenceColumn::ALL {
            let total = self.totals[column as usize];
            scale[column as usize] = if total > 0.0 { column.selection_weight() / total } else { 0.0 };
        }
        let items = self.items.keys();
        self.order.clear();
        for (position, evidence) in self.evidence.iter().enumerate() {
            let mut lanes = [0.0f32; EVIDENCE_COLUMNS];
            for ((lane, evidence), scale) in lanes.iter_mut().zip(evidence).zip(&scale) {
                *lane = evidence * scale;
            }
            self.order.push((lanes.iter().sum(), position as u32));
        }
        for dismissed in context.dismissed_items() {
            if let Some(position) = self.items.find(dismissed) {
                self.order.retain(|&(_, other)| other as usize != position);
            }
        }
        if self.order.len() > limit {
            let best_first = |a: &(f32, u32), b: &(f32, u32)| {
                b.0.total_cmp(&a.0).then_with(|| items[a.1 as usize].cmp(&items[b.1 as usize]))
            };
            self.order.select_nth_unstable_by(limit, best_first);
            self.order.truncate(limit);
        }
        self.kept.clear();
        self.kept.extend(self.order.iter().map(|&(_, position)| position));
        self.kept.sort_unstable();
        self.features.clear();
        self.features.resize(self.kept.len(), [0.0; FEATURE_COLUMNS]);
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

    /// Items of the kept candidates.
    pub fn items(&self) -> impl ExactSizeIterator<Item = ItemIx> {
        let items = self.items.keys();
        self.kept.iter().map(move |&position| items[position as usize])
    }

    /// Position of an item among the kept candidates.
    #[must_use]
    pub fn position(&self, item: ItemIx) -> Option<usize> {
        let position = self.items.find(item)? as u32;
        self.kept.binary_search(&position).ok()
    }

    /// The kept candidates: evidence, features and number of columns with evidence.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = (&[f32; EVIDENCE_COLUMNS], &[f32; FEATURE_COLUMNS], u32)> {
        let positions = self.kept.iter().map(|&position| position as usize);
        positions
            .zip(&self.features)
            .map(|(position, features)| (&self.evidence[position], features, self.column_bits[position].count_ones()))
    }

    /// Source of a kept candidate. If several sources generated it, the first by
    /// [`SourceName::ALL`].
    #[must_use]
    pub fn source_at(&self, position: usize) -> SourceName {
        let column_bits =
            self.kept.get(position).and_then(|&position| self.column_bits.get(position as usize)).copied().unwrap_or(0);
        EvidenceColumn::ALL
            .into_iter()
            .filter(|column| column_bits >> *column as u16 & 1 == 1)
            .map(EvidenceColumn::source)
            .min()
            .unwrap_or(SourceName::Session)
    }

    /// Number of kept candidates that each source generated, in the order of [`SourceName::ALL`].
    #[must_use]
    pub fn counts_by_source(&self) -> [usize; SourceName::ALL.len()] {
        let columns = SourceName::ALL.map(|source| {
            let of_source = EvidenceColumn::ALL.into_iter().filter(|column| column.source() == source);
            of_source.fold(0_u16, |bits, column| bits | 1 << column as u16)
        });
        let mut counts = [0; SourceName::ALL.len()];
        for column_bits in self.kept.iter().filter_map(|&position| self.column_bits.get(position as usize)) {
            counts.iter_mut().zip(columns).for_each(|(count, bits)| *count += usize::from(column_bits & bits != 0));
        }
        counts
    }

    /// Mutable access to the kept candidates: items, evidence, features.
    pub fn rows_mut(
        &mut self,
    ) -> impl Iterator<Item = (ItemIx, &mut [f32; EVIDENCE_COLUMNS], &mut [f32; FEATURE_COLUMNS])> {
        // Kept positions ascend, so one pass over the evidence visits them all.
        let mut kept = self.kept.iter().copied().peekable();
        let mut features = self.features.iter_mut();
        self.items.keys().iter().zip(&mut self.evidence).enumerate().filter_map(move |(position, (&item, evidence))| {
            if kept.peek() != Some(&(position as u32)) {
                return None;
            }
            kept.next();
            features.next().map(|features| (item, evidence, features))
        })
    }

    /// Rank of an item by each source alone, among all items that the source generated, in the
    /// order of [`SourceName::ALL`].
    ///
    /// Rank 1 is the best, ties go to the smaller item number. `None` if the source did not
    /// generate the item. One pass over the gathered items.
    #[must_use]
    pub fn source_ranks(&self, item: ItemIx) -> [Option<usize>; SourceName::ALL.len()] {
        let columns = SourceName::ALL.map(|source| EvidenceColumn::primary_of(source) as usize);
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

    /// The best `limit` gathered items by one column, best first; ties by the smaller item number.
    pub fn best(&self, column: EvidenceColumn, limit: usize) -> Vec<(ItemIx, f32)> {
        let with_evidence = self
            .items
            .keys()
            .iter()
            .zip(&self.evidence)
            .zip(&self.column_bits)
            .filter(|(_, column_bits)| **column_bits >> column as u16 & 1 == 1);
        let mut list: Vec<_> = with_evidence.map(|((&item, evidence), _)| (item, evidence[column as usize])).collect();
        list.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        list.truncate(limit);
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Step;

    fn step(item: ItemIx, value: f32) -> Step {
        Step { item: Some(item), kind: 0, starts_session: false, at: 0, value }
    }

    fn candidates() -> CandidateSet {
        let mut candidates = CandidateSet::default();
        for (item, weight) in [(9, 4.0), (3, 2.0), (5, 2.0), (7, 1.0)] {
            candidates.add(item, EvidenceColumn::WindowTransitions, weight);
        }
        candidates.add(7, EvidenceColumn::DailyPopularity, 1.0);
        candidates.add_total(EvidenceColumn::WindowTransitions, 9.0);
        candidates.add_total(EvidenceColumn::DailyPopularity, 100.0);
        candidates
    }

    #[test]
    fn keep_top_keeps_the_largest_shares_and_breaks_ties_by_item() {
        let mut candidates = candidates();
        candidates.keep_top(2, &QueryContext { steps: &[], session: 0, session_start: 0, now: 0 });
        assert_eq!(candidates.items().collect::<Vec<_>>(), [9, 3]);
        assert_eq!(candidates.position(3), Some(1));
        assert_eq!(candidates.position(5), None);
        assert_eq!(candidates.best(EvidenceColumn::WindowTransitions, 3), [(9, 4.0), (3, 2.0), (5, 2.0)]);
    }

    #[test]
    fn source_ranks_cover_only_generated_items_and_break_ties_by_item() {
        let mut candidates = candidates();
        for (item, weight) in [(7, 1.0), (9, 3.0), (3, 1.0), (2, 1.0)] {
            candidates.add(item, EvidenceColumn::primary_of(SourceName::Neighbours), weight);
        }
        let ranks_of = |item| -> Vec<_> {
            let ranks = SourceName::ALL.into_iter().zip(candidates.source_ranks(item));
            ranks.filter_map(|(source, rank)| Some((source, rank?))).collect()
        };
        // Neighbours: 9 with weight 3, then 2, 3 and 7 with weight 1. The window column is not the
        // primary column of a source.
        assert_eq!(ranks_of(7), [(SourceName::Neighbours, 4), (SourceName::Trending, 1)]);
        assert_eq!(ranks_of(3), [(SourceName::Neighbours, 3)]);
        assert_eq!(ranks_of(9), [(SourceName::Neighbours, 1)]);
        assert_eq!(ranks_of(5), []);
        assert_eq!(ranks_of(1), []);
    }

    #[test]
    fn dismissed_items_are_dropped_until_selected_again() {
        let mut candidates = candidates();
        candidates.keep_top(
            10,
            &QueryContext {
                steps: &[step(3, -1.0), step(9, -1.0), step(9, 1.0)],
                session: 0,
                session_start: 0,
                now: 0,
            },
        );
        assert_eq!(candidates.items().collect::<Vec<_>>(), [9, 5, 7]);
    }

    #[test]
    fn a_candidate_is_attributed_to_its_first_source() {
        let mut candidates = candidates();
        candidates.keep_top(10, &QueryContext { steps: &[], session: 0, session_start: 0, now: 0 });
        assert_eq!(
            candidates.position(7).map(|position| candidates.source_at(position)),
            Some(SourceName::Transitions)
        );
        let counts: Vec<_> =
            SourceName::ALL.into_iter().zip(candidates.counts_by_source()).filter(|(_, count)| *count > 0).collect();
        assert_eq!(counts, [(SourceName::Transitions, 4), (SourceName::Trending, 1)]);
    }
}
