//! Compares the running hash of this node with those of the other nodes.

use super::node_report::{ChainPoint, NodeReport, to_hex};
use crate::store::LogDigest;
use std::collections::VecDeque;

/// Number of messages between two hashes that every node reports.
const MESSAGES_PER_POINT: u64 = 64;
/// Number of such hashes in a report.
const REPORTED_POINTS: usize = 8;
/// Number of hashes that a node keeps to compare them.
const KEPT_HASHES: usize = 4096;

/// The last running hashes of this node.
#[derive(Debug, Default)]
pub(super) struct ChainHistory {
    hashes: VecDeque<(u64, LogDigest)>,
    points: VecDeque<ChainPoint>,
}

/// A message after which this node's hash is not that of the majority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChainMismatch {
    /// The message.
    pub(super) sequence: u64,
    /// Number of nodes that have the same hash as this one, itself included.
    pub(super) agreeing: usize,
    /// Number of nodes that report a hash.
    pub(super) nodes: usize,
}

impl ChainHistory {
    /// Adds the hash after a message.
    pub(super) fn push(&mut self, sequence: u64, chain: LogDigest) {
        self.hashes.push_back((sequence, chain));
        if self.hashes.len() > KEPT_HASHES {
            self.hashes.pop_front();
        }
        if sequence.is_multiple_of(MESSAGES_PER_POINT) {
            self.points.push_back(ChainPoint { sequence, chain: to_hex(&chain) });
            if self.points.len() > REPORTED_POINTS {
                self.points.pop_front();
            }
        }
    }

    /// The hashes that this node reports.
    #[must_use]
    pub(super) fn points(&self) -> Vec<ChainPoint> {
        self.points.iter().cloned().collect()
    }

    /// The last message and the hash after it.
    #[must_use]
    pub(super) fn last(&self) -> (u64, LogDigest) {
        self.hashes.back().copied().unwrap_or_default()
    }

    fn chain_at(&self, sequence: u64) -> Option<String> {
        let at = self.hashes.partition_point(|(number, _)| *number < sequence);
        self.hashes.get(at).filter(|(number, _)| *number == sequence).map(|(_, chain)| to_hex(chain))
    }

    /// Compares the hashes with the reports of the other nodes. Returns a message at which a node
    /// differs, if this node cannot belong to a majority of equal nodes. If no hash has a majority,
    /// that holds for every node.
    ///
    /// A running hash covers all earlier messages. So two nodes agree if they have the same hash at
    /// the last message that both know.
    #[must_use]
    pub(super) fn find_mismatch<'r>(&self, others: impl Iterator<Item = &'r NodeReport>) -> Option<ChainMismatch> {
        let (mut agreeing, mut undecided, mut nodes) = (1, 0, 1);
        let mut differs_at = None;
        for report in others {
            nodes += 1;
            match self.compare(report) {
                Some((_, true)) => agreeing += 1,
                Some((sequence, false)) => differs_at = differs_at.max(Some(sequence)),
                None => undecided += 1,
            }
        }
        let sequence = differs_at?;
        (2 * (agreeing + undecided) <= nodes).then_some(ChainMismatch { sequence, agreeing, nodes })
    }

    /// The last message after which this node and another one know the hash, and whether it is the
    /// same; `None` without such a message.
    fn compare(&self, report: &NodeReport) -> Option<(u64, bool)> {
        let known = |sequence: u64| Some((sequence, self.chain_at(sequence)?));
        let (sequence, own) = report.sequences().filter_map(known).max()?;
        Some((sequence, report.chain_at(sequence) == Some(own.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(hashes: &[(u64, u8)]) -> NodeReport {
        let mut history = ChainHistory::default();
        hashes.iter().for_each(|(sequence, hash)| history.push(*sequence, [*hash; 16]));
        let (sequence, hash) = hashes[hashes.len() - 1];
        NodeReport { sequence, chain: to_hex(&[hash; 16]), points: history.points(), ..NodeReport::default() }
    }

    fn mismatch(own: &[(u64, u8)], others: &[NodeReport]) -> Option<ChainMismatch> {
        let mut history = ChainHistory::default();
        own.iter().for_each(|(sequence, hash)| history.push(*sequence, [*hash; 16]));
        history.find_mismatch(others.iter())
    }

    #[test]
    fn a_node_outside_of_the_majority_finds_that_it_differs() {
        let own = [(63, 1), (64, 2), (65, 3), (66, 4)];
        assert_eq!(mismatch(&own, &[report(&[(65, 3)]), report(&[(66, 4)])]), None);
        let both = [report(&[(64, 9), (70, 8)]), report(&[(64, 9), (71, 8)])];
        assert_eq!(mismatch(&own, &both), Some(ChainMismatch { sequence: 64, agreeing: 1, nodes: 3 }));
        assert_eq!(mismatch(&own, &[report(&[(64, 2), (70, 8)]), report(&[(64, 9), (70, 7)])]), None, "the majority");
        let tie = Some(ChainMismatch { sequence: 66, agreeing: 1, nodes: 2 });
        assert_eq!(mismatch(&own, &[report(&[(66, 5)])]), tie);
        assert_eq!(mismatch(&own, &[report(&[(67, 5)])]), None, "this node has not applied the message");
        assert_eq!(mismatch(&own, &[]), None);
    }

    #[test]
    fn a_node_that_cannot_be_compared_yet_may_agree() {
        let own = [(65, 3), (66, 4)];
        assert_eq!(mismatch(&own, &[report(&[(66, 5)]), report(&[(70, 1)])]), None, "not applied here");
        assert_eq!(mismatch(&own, &[report(&[(66, 5)]), report(&[(60, 1)])]), None, "not applied there");
        // The two others have different hashes, at different messages.
        let others = [report(&[(66, 5)]), report(&[(65, 6)])];
        assert_eq!(mismatch(&own, &others), Some(ChainMismatch { sequence: 66, agreeing: 1, nodes: 3 }));
    }

    #[test]
    fn the_last_common_message_decides() {
        let own = [(64, 2), (65, 3), (66, 4)];
        let diverged = report(&[(64, 2), (66, 5)]);
        assert_eq!(mismatch(&own, &[diverged]), Some(ChainMismatch { sequence: 66, agreeing: 1, nodes: 2 }));
    }

    #[test]
    fn hashes_and_points_are_bounded() {
        let mut history = ChainHistory::default();
        (1..=10_000).for_each(|sequence| history.push(sequence, [0; 16]));
        assert_eq!((history.hashes.len(), history.points().len()), (KEPT_HASHES, REPORTED_POINTS));
        assert_eq!(history.points()[REPORTED_POINTS - 1].sequence, 9984);
        assert_eq!((history.chain_at(10_000).is_some(), history.chain_at(1).is_some()), (true, false));
    }
}
