//! The interface of a candidate source.

use super::candidate_set::CandidateSet;
use super::query_context::QueryContext;
use crate::domain::{ItemIx, SourceName, Step};

/// A candidate source: learns from target events and generates weighted items.
pub trait CandidateSource {
    /// Name of the source in responses and metrics.
    fn name(&self) -> SourceName;

    /// Learns that the target event `arrival` followed `context`.
    fn learn(&mut self, context: &QueryContext<'_>, arrival: &Step);

    /// Learns that `item` was dismissed in `context`.
    fn learn_dismissal(&mut self, _context: &QueryContext<'_>, _item: ItemIx) {}

    /// Adds the source's candidates and their evidence.
    fn generate(&self, context: &QueryContext<'_>, candidates: &mut CandidateSet);

    /// Adds the source's features to every kept candidate, including those of other sources.
    fn add_features(&self, _context: &QueryContext<'_>, _candidates: &mut CandidateSet) {}

    /// Number of entries held: rows, contexts, sessions or items.
    fn entry_count(&self) -> usize;

    /// Approximate memory use in bytes.
    fn memory_bytes(&self) -> usize;
}
