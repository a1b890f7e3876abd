//! Which of the gathered candidates are kept: those with the largest weighted sums of shares.

use super::super::candidate_chooser::{CandidateChoice, CandidateChooser};
use super::super::columns::{EVIDENCE_COLUMN_COUNT, EvidenceColumn};
use super::super::query_context::QueryContext;
use super::{CandidateSet, WeighedPosition};
use crate::domain::ItemIx;
use std::cmp::Ordering;

/// Number of candidates that [`CandidateSet::keep_chosen`] sorts at a time.
const SORTED_CHUNK_LEN: usize = 160;

impl CandidateSet {
    /// Keeps the `limit` candidates with the largest weighted sum of shares,
    /// `Σ_c selection_weight(c) · evidence_c / total_c`.
    ///
    /// Among equal sums, the smaller item number has priority. Items that the user dismissed are
    /// dropped, except those that the user selected again later.
    pub fn keep_top_candidates(&mut self, limit: usize, context: &QueryContext<'_>) {
        self.weigh_candidates(context);
        self.has_more = self.order.len() > limit;
        self.cut_order(limit);
        self.kept.clear();
        self.kept.extend(self.order.iter().map(|&(_, position)| position));
        self.copy_kept_rows();
    }

    /// Keeps candidates as [`CandidateSet::keep_top_candidates`] does, but lets a chooser decide on each
    /// of the [`CandidateSet::MAX_EXAMINED`] best candidates. The chooser gets them best first, until
    /// `limit` candidates are kept and count. Of the candidates after that, those are kept that the
    /// chooser takes in addition.
    pub fn keep_chosen(&mut self, limit: usize, context: &QueryContext<'_>, chooser: &mut dyn CandidateChooser) {
        self.weigh_candidates(context);
        self.cut_order(Self::MAX_EXAMINED);
        let (items, kept) = (self.items.keys(), &mut self.kept);
        let best_first = best_first(items);
        let item_at = |position: u32| items[position as usize];
        kept.clear();
        chooser.begin();
        let (mut counted, mut uncounted) = (0, 0);
        self.has_more = false;
        let mut rest = self.order.as_mut_slice();
        while counted < limit && !rest.is_empty() {
            let chunk_len = SORTED_CHUNK_LEN.min(rest.len());
            if chunk_len < rest.len() {
                rest.select_nth_unstable_by(chunk_len, best_first);
            }
            let (chunk, _) = rest.split_at_mut(chunk_len);
            chunk.sort_unstable_by(best_first);
            let mut examined = 0;
            for &(_, position) in chunk.iter() {
                if counted == limit {
                    break;
                }
                examined += 1;
                match chooser.choose(item_at(position)) {
                    CandidateChoice::Counted => counted += 1,
                    CandidateChoice::Uncounted if uncounted < limit => uncounted += 1,
                    CandidateChoice::Uncounted => {
                        self.has_more = true;
                        continue;
                    }
                    CandidateChoice::Dropped => continue,
                }
                kept.push(position);
            }
            rest = rest.split_at_mut(examined).1;
        }
        self.has_more |= !rest.is_empty();
        let wanted =
            rest.iter().filter_map(|weighed| Some((*weighed, chooser.groups_after_limit(item_at(weighed.1))?)));
        self.after_limit.clear();
        self.after_limit.extend(wanted);
        self.after_limit.sort_unstable_by(|(a, _), (b, _)| best_first(a, b));
        let taken = self.after_limit.iter().filter(|(_, groups)| chooser.takes_after_limit(*groups));
        kept.extend(taken.map(|((_, position), _)| *position));
        self.copy_kept_rows();
    }

    /// Whether the last call dropped candidates that a higher limit would keep.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// Computes the weighted sums of all added items, except those that the user dismissed.
    fn weigh_candidates(&mut self, context: &QueryContext<'_>) {
        let mut scale = [0.0; EVIDENCE_COLUMN_COUNT];
        for column in EvidenceColumn::ALL {
            let total = self.totals[column as usize];
            scale[column as usize] = if total > 0.0 { column.selection_weight() / total } else { 0.0 };
        }
        self.order.clear();
        crate::simd::arch().dispatch(WeightedSumKernel {
            evidence: &self.evidence,
            scale: &scale,
            order: &mut self.order,
        });
        for dismissed in context.dismissed_items() {
            if let Some(position) = self.items.find(dismissed) {
                self.order.retain(|&(_, other)| other as usize != position);
            }
        }
    }

    /// Cuts the weighed candidates to the best `limit`, in any order.
    fn cut_order(&mut self, limit: usize) {
        if self.order.len() > limit {
            self.order.select_nth_unstable_by(limit, best_first(self.items.keys()));
            self.order.truncate(limit);
        }
    }
}

/// The order of weighed positions: the largest sum first, and among equal sums the smaller item.
fn best_first(items: &[ItemIx]) -> impl Fn(&WeighedPosition, &WeighedPosition) -> Ordering + Copy {
    |a, b| b.0.total_cmp(&a.0).then_with(|| items[a.1 as usize].cmp(&items[b.1 as usize]))
}

/// Number of columns that [`WeightedSumKernel`] multiplies side by side. A power of two.
const SUMMED_LANES: usize = 16;

/// Appends the weighted sum of evidence of each added item to `order`, with the item's position.
struct WeightedSumKernel<'a> {
    evidence: &'a [[f32; EVIDENCE_COLUMN_COUNT]],
    scale: &'a [f32; EVIDENCE_COLUMN_COUNT],
    order: &'a mut Vec<(f32, u32)>,
}

impl pulp::NullaryFnOnce for WeightedSumKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { evidence, scale, order } = self;
        order.extend(evidence.iter().zip(0..).map(|(evidence, position)| {
            let mut lanes: [f32; SUMMED_LANES] = std::array::from_fn(|column| evidence[column] * scale[column]);
            for (column, lane) in (SUMMED_LANES..EVIDENCE_COLUMN_COUNT).zip(&mut lanes) {
                *lane += evidence[column] * scale[column];
            }
            // Add halves, which vector instructions do in four steps.
            for half in [8, 4, 2, 1] {
                for lane in 0..half {
                    lanes[lane] += lanes[lane + half];
                }
            }
            (lanes[0], position)
        }));
    }
}
