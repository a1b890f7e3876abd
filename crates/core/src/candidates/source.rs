//! The interface of a candidate source.

use super::candidate_set::CandidateSet;
use super::query_context::QueryContext;
use crate::domain::{ItemIx, SourceName, Step};

/// A candidate source: learns from target events, and generates items with weights for a query.
pub trait CandidateSource {
    /// The name of the source in responses and metrics.
    fn name(&self) -> SourceName;

    /// Learns that the target event `arrival` followed the history in `context`.
    fn learn(&mut self, context: &QueryContext<'_>, arrival: &Step);

    /// Learns that the user with the history in `context` dismissed `item`.
    fn learn_dismissal(&mut self, _context: &QueryContext<'_>, _item: ItemIx) {}

    /// Adds the candidates of the source and their evidence to the set.
    fn generate(&self, context: &QueryContext<'_>, candidates: &mut CandidateSet);

    /// Writes the feature columns that this source computes, for every kept candidate, including
    /// the candidates of other sources.
    fn add_features(&self, _context: &QueryContext<'_>, _candidates: &mut CandidateSet) {}

    /// Number of entries in the source: rows, contexts, sessions or items.
    fn entry_count(&self) -> usize;

    /// Approximate memory use in bytes.
    fn memory_bytes(&self) -> usize;
}
