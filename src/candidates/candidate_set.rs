//! The candidates of one moment with the evidence that each source gave them.

use super::{DenseIndex, EvidenceColumn, QueryContext, SessionIx};
use crate::domain::{ItemIx, SourceName};

/// Lanes of a candidate's evidence, one a [`EvidenceColumn`].
pub const EVIDENCE_COLUMNS: usize = 16;
/// Lanes of a candidate's facts, one a [`Fact`](super::Fact).
pub const FEATURE_COLUMNS: usize = 16;

/// How many items a slate can gather before it is cut; what comes beyond is not taken.
const GATHERED: usize = 8192;

/// The workspace in which candidates are gathered, cut and described. Reused from moment to moment, it allocates nothing once warm.
#[derive(Debug, Clone)]
pub struct CandidateSet {
    items: DenseIndex,
    evidence: Vec<[f32; EVIDENCE_COLUMNS]>,
    /// Per gathered item, a bit a channel that named it.
    named: Vec<u16>,
    facts: Vec<[f32; FEATURE_COLUMNS]>,
    totals: [f32; EVIDENCE_COLUMNS],
    order: Vec<(f32, u32)>,
    kept: Vec<u32>,
    pub(super) neighbour_scratch: NeighbourScratch,
}

/// Workspace of the neighbours.
#[derive(Debug, Clone)]
pub(super) struct NeighbourScratch {
    pub(super) session_index: DenseIndex,
    /// By the session's place: the session, how similar it is, and which of the matched items it shares that came last.
    pub(super) similar_sessions: Vec<SimilarSession>,
}

/// A session like the one under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct SimilarSession {
    pub(super) session: SessionIx,
    pub(super) similarity: f32,
    /// The latest item of the session under way that it shares, and that item's place from the end.
    pub(super) anchor: ItemIx,
    pub(super) distance_from_end: u32,
}

impl Default for CandidateSet {
    fn default() -> Self {
        Self {
            items: DenseIndex::new(GATHERED),
            evidence: Vec::new(),
            named: Vec::new(),
            facts: Vec::new(),
            totals: [0.0; EVIDENCE_COLUMNS],
            order: Vec::new(),
            kept: Vec::new(),
            neighbour_scratch: NeighbourScratch { session_index: DenseIndex::new(1 << 14), similar_sessions: Vec::new() },
        }
    }
}

impl CandidateSet {
    /// Begins a new moment.
    pub fn clear(&mut self) {
        self.items.clear();
        self.evidence.clear();
        self.named.clear();
        self.facts.clear();
        self.totals = [0.0; EVIDENCE_COLUMNS];
        self.kept.clear();
    }

    /// Adds evidence to an item, which becomes a candidate by it.
    #[inline]
    pub fn add(&mut self, item: ItemIx, channel: EvidenceColumn, weight: f32) {
        self.add_columns(item, [(channel, weight)]);
    }

    /// Adds evidence on several channels at once.
    #[inline]
    pub fn add_columns<const N: usize>(&mut self, item: ItemIx, weights: [(EvidenceColumn, f32); N]) {
        if let Some((place, new)) = self.items.get_or_insert(item) {
            if new {
                self.evidence.push([0.0; EVIDENCE_COLUMNS]);
                self.named.push(0);
            }
            let (evidence, named) = (&mut self.evidence[place], &mut self.named[place]);
            for (channel, weight) in weights {
                evidence[channel as usize] += weight;
                *named |= 1 << channel as u16;
            }
        }
    }

    /// Adds to the weight of which a channel's evidence is a share.
    pub fn add_total(&mut self, channel: EvidenceColumn, total: f32) {
        self.totals[channel as usize] += total;
    }

    /// The weights of which the channels' evidence are shares.
    #[must_use]
    pub fn totals(&self) -> &[f32; EVIDENCE_COLUMNS] {
        &self.totals
    }

    /// How many items were gathered.
    #[must_use]
    pub fn gathered_count(&self) -> usize {
        self.evidence.len()
    }

    /// Keeps the `limit` candidates with the largest sum of shares, each channel's multiplied by [`EvidenceColumn::weight`].
    /// Ties go to the smaller item number. Items that this session waved away, and did not choose again since, are dropped.
    pub fn keep_top(&mut self, limit: usize, moment: &QueryContext<'_>) {
        let mut scale = [0.0; EVIDENCE_COLUMNS];
        for channel in EvidenceColumn::ALL {
            let total = self.totals[channel as usize];
            scale[channel as usize] = if total > 0.0 { channel.selection_weight() / total } else { 0.0 };
        }
        let items = self.items.keys();
        self.order.clear();
        for (place, evidence) in self.evidence.iter().enumerate() {
            let mut lanes = [0.0f32; EVIDENCE_COLUMNS];
            for ((lane, evidence), scale) in lanes.iter_mut().zip(evidence).zip(&scale) {
                *lane = evidence * scale;
            }
            self.order.push((lanes.iter().sum(), place as u32));
        }
        for dismissed in moment.dismissed_items() {
            if let Some(place) = self.items.find(dismissed) {
                self.order.retain(|&(_, other)| other as usize != place);
            }
        }
        if self.order.len() > limit {
            let by = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then_with(|| items[a.1 as usize].cmp(&items[b.1 as usize]));
            self.order.select_nth_unstable_by(limit, by);
            self.order.truncate(limit);
        }
        self.kept.clear();
        self.kept.extend(self.order.iter().map(|&(_, place)| place));
        self.kept.sort_unstable();
        self.facts.clear();
        self.facts.resize(self.kept.len(), [0.0; FEATURE_COLUMNS]);
    }

    /// How many candidates were kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The kept candidates' items.
    pub fn items(&self) -> impl ExactSizeIterator<Item = ItemIx> {
        let items = self.items.keys();
        self.kept.iter().map(move |&place| items[place as usize])
    }

    /// The place of an item among the kept candidates.
    #[must_use]
    pub fn position(&self, item: ItemIx) -> Option<usize> {
        let place = self.items.find(item)? as u32;
        self.kept.binary_search(&place).ok()
    }

    /// The kept candidates: evidence, facts and the number of channels that named each.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = (&[f32; EVIDENCE_COLUMNS], &[f32; FEATURE_COLUMNS], u32)> {
        let places = self.kept.iter().map(|&place| place as usize);
        places.zip(&self.facts).map(|(place, facts)| (&self.evidence[place], facts, self.named[place].count_ones()))
    }

    /// The source that brought a kept candidate, the first by [`SourceName::ALL`] where several did.
    #[must_use]
    pub fn source_at(&self, position: usize) -> SourceName {
        let named = self.kept.get(position).and_then(|&place| self.named.get(place as usize)).copied().unwrap_or(0);
        EvidenceColumn::ALL
            .into_iter()
            .filter(|channel| named >> *channel as u16 & 1 == 1)
            .map(EvidenceColumn::source)
            .min()
            .unwrap_or(SourceName::Session)
    }

    /// How many of the kept candidates each source named, in the order of [`SourceName::ALL`].
    #[must_use]
    pub fn counts_by_source(&self) -> [usize; SourceName::ALL.len()] {
        let channels = SourceName::ALL.map(|source| {
            let own = EvidenceColumn::ALL.into_iter().filter(|channel| channel.source() == source);
            own.fold(0_u16, |bits, channel| bits | 1 << channel as u16)
        });
        let mut counts = [0; SourceName::ALL.len()];
        for named in self.kept.iter().filter_map(|&place| self.named.get(place as usize)) {
            counts.iter_mut().zip(channels).for_each(|(count, bits)| *count += usize::from(named & bits != 0));
        }
        counts
    }

    /// The kept candidates, to be described.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = (ItemIx, &mut [f32; EVIDENCE_COLUMNS], &mut [f32; FEATURE_COLUMNS])> {
        // The kept places ascend, so one pass over the evidence meets them all.
        let mut kept = self.kept.iter().copied().peekable();
        let mut facts = self.facts.iter_mut();
        self.items.keys().iter().zip(&mut self.evidence).enumerate().filter_map(move |(place, (&item, evidence))| {
            if kept.peek() != Some(&(place as u32)) {
                return None;
            }
            kept.next();
            facts.next().map(|facts| (item, evidence, facts))
        })
    }

    /// The rank that each source alone gives an item among those that it named, in the order of [`SourceName::ALL`]: 1 for the best, ties by the smaller number; `None` where it did not
    /// name it. One pass over what was gathered.
    #[must_use]
    pub fn source_ranks(&self, item: ItemIx) -> [Option<usize>; SourceName::ALL.len()] {
        let channels = SourceName::ALL.map(|source| EvidenceColumn::primary_of(source) as usize);
        let place = self.items.find(item);
        let Some((&named, evidence)) = place.and_then(|place| Some((self.named.get(place)?, self.evidence.get(place)?))) else {
            return [None; SourceName::ALL.len()];
        };
        let (bits, weights) = (channels.map(|channel| named & 1 << channel), channels.map(|channel| evidence[channel]));
        let all = bits.into_iter().fold(0, |all, bit| all | bit);
        let mut ranks = [1; SourceName::ALL.len()];
        for ((&other, theirs), &named) in self.items.keys().iter().zip(&self.evidence).zip(&self.named) {
            if named & all == 0 {
                continue;
            }
            for (((rank, channel), bit), weight) in ranks.iter_mut().zip(channels).zip(bits).zip(weights) {
                let better = theirs[channel] > weight || (theirs[channel] == weight && other < item);
                *rank += usize::from(named & bit != 0 && better);
            }
        }
        let mut named = bits.into_iter();
        ranks.map(|rank| named.next().filter(|bit| *bit != 0).map(|_| rank))
    }

    /// The best `limit` gathered items by one channel, best first, ties by the smaller number.
    pub fn best(&self, channel: EvidenceColumn, limit: usize) -> Vec<(ItemIx, f32)> {
        let named = self.items.keys().iter().zip(&self.evidence).zip(&self.named).filter(|(_, named)| **named >> channel as u16 & 1 == 1);
        let mut list: Vec<_> = named.map(|((&item, evidence), _)| (item, evidence[channel as usize])).collect();
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

    fn slate() -> CandidateSet {
        let mut slate = CandidateSet::default();
        for (item, weight) in [(9, 4.0), (3, 2.0), (5, 2.0), (7, 1.0)] {
            slate.add(item, EvidenceColumn::WindowTransitions, weight);
        }
        slate.add(7, EvidenceColumn::DailyPopularity, 1.0);
        slate.add_total(EvidenceColumn::WindowTransitions, 9.0);
        slate.add_total(EvidenceColumn::DailyPopularity, 100.0);
        slate
    }

    #[test]
    fn the_cut_keeps_the_largest_shares_and_breaks_ties_by_number() {
        let mut slate = slate();
        slate.keep_top(2, &QueryContext { steps: &[], session: 0, session_start: 0, now: 0 });
        assert_eq!(slate.items().collect::<Vec<_>>(), [9, 3]);
        assert_eq!(slate.position(3), Some(1));
        assert_eq!(slate.position(5), None);
        assert_eq!(slate.best(EvidenceColumn::WindowTransitions, 3), [(9, 4.0), (3, 2.0), (5, 2.0)]);
    }

    #[test]
    fn each_source_ranks_what_it_named_and_breaks_ties_by_number() {
        let mut slate = slate();
        for (item, weight) in [(7, 1.0), (9, 3.0), (3, 1.0), (2, 1.0)] {
            slate.add(item, EvidenceColumn::primary_of(SourceName::Neighbours), weight);
        }
        let given = |item| -> Vec<_> {
            let ranks = SourceName::ALL.into_iter().zip(slate.source_ranks(item));
            ranks.filter_map(|(source, rank)| Some((source, rank?))).collect()
        };
        // Neighbours: 9 with 3, then 2, 3 and 7 with 1 each. The window's channel is no source's own.
        assert_eq!(given(7), [(SourceName::Neighbours, 4), (SourceName::Trending, 1)]);
        assert_eq!(given(3), [(SourceName::Neighbours, 3)]);
        assert_eq!(given(9), [(SourceName::Neighbours, 1)]);
        assert_eq!(given(5), []);
        assert_eq!(given(1), []);
    }

    #[test]
    fn what_was_waved_away_is_no_candidate_until_chosen_again() {
        let mut slate = slate();
        slate.keep_top(10, &QueryContext { steps: &[step(3, -1.0), step(9, -1.0), step(9, 1.0)], session: 0, session_start: 0, now: 0 });
        assert_eq!(slate.items().collect::<Vec<_>>(), [9, 5, 7]);
    }

    #[test]
    fn a_candidate_is_credited_to_the_first_source_that_named_it() {
        let mut slate = slate();
        slate.keep_top(10, &QueryContext { steps: &[], session: 0, session_start: 0, now: 0 });
        assert_eq!(slate.position(7).map(|position| slate.source_at(position)), Some(SourceName::Transitions));
        let counts: Vec<_> = SourceName::ALL.into_iter().zip(slate.counts_by_source()).filter(|(_, count)| *count > 0).collect();
        assert_eq!(counts, [(SourceName::Transitions, 4), (SourceName::Trending, 1)]);
    }
}
