//! The decision which candidates of a query are ranked, by the rules of a list.

use crate::domain::ItemIx;

/// What a list does with a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateChoice {
    /// The candidate is ranked, and counts towards the limit.
    Counted,
    /// The candidate is ranked, but other candidates take its place: it does not count towards the
    /// limit. At most as many such candidates as the limit are ranked.
    Uncounted,
    /// The candidate is not ranked.
    Dropped,
}

/// Decides which candidates of a query are kept, see
/// [`CandidateSet::keep_chosen`](super::CandidateSet::keep_chosen).
pub trait CandidateChooser {
    /// Begins a query.
    fn begin(&mut self);

    /// Decides on the next best candidate. Not called after the limit is reached.
    fn choose(&mut self, item: ItemIx) -> CandidateChoice;

    /// The groups for which a candidate after the limit may be kept; `None` if it is not kept. Called
    /// in any order.
    fn groups_after_limit(&self, item: ItemIx) -> Option<u64>;

    /// Decides on the next best candidate after the limit, by its groups.
    fn takes_after_limit(&mut self, groups: u64) -> bool;
}
