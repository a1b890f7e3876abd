//! Compares the learned state of this node with those of the other nodes.

use super::node_report::{NodeReport, StatePoint};
use crate::domain::Offset;

/// An offset at which this node's learned state is not that of the majority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StateMismatch {
    pub(super) offset: Offset,
    /// Number of nodes that have the same state as this one, itself included.
    pub(super) agreeing: usize,
    /// Number of nodes with a state at this offset.
    pub(super) nodes: usize,
}

/// Compares digests of the learned state with those of other nodes. Returns the last offset at which
/// this node cannot belong to a majority of equal nodes. A node without a digest at an offset may
/// agree there. If most nodes agree at an offset, earlier ones do not count.
///
/// Nodes with another version of the program are ignored: it may encode a state differently.
pub(super) fn find_state_mismatch<'r>(
    own: &NodeReport,
    others: impl Iterator<Item = &'r NodeReport>,
) -> Option<StateMismatch> {
    let others: Vec<_> = others.filter(|other| other.version == own.version).collect();
    let nodes = others.len() + 1;
    for StatePoint { offset, digest } in own.states.iter().rev() {
        let states: Vec<_> = others.iter().map(|other| other.state_at(*offset)).collect();
        let agreeing = states.iter().filter(|state| **state == Some(digest.as_str())).count() + 1;
        let undecided = states.iter().filter(|state| state.is_none()).count();
        if 2 * agreeing > nodes {
            return None;
        }
        if 2 * (agreeing + undecided) <= nodes {
            return Some(StateMismatch { offset: *offset, agreeing, nodes });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(version: &str, states: &[(Offset, &str)]) -> NodeReport {
        let states = states.iter().map(|(offset, digest)| StatePoint { offset: *offset, digest: (*digest).to_owned() });
        NodeReport { version: version.to_owned(), states: states.collect(), ..NodeReport::default() }
    }

    #[test]
    fn a_node_outside_of_the_majority_finds_that_its_state_differs() {
        let own = report("1", &[(100, "a"), (200, "b"), (300, "c")]);
        let mismatch = |others: &[NodeReport]| find_state_mismatch(&own, others.iter());
        assert_eq!(mismatch(&[]), None);
        assert_eq!(mismatch(&[report("1", &[(200, "b")]), report("1", &[(400, "d")])]), None);
        let differs = |offset, nodes| Some(StateMismatch { offset, agreeing: 1, nodes });
        assert_eq!(mismatch(&[report("1", &[(200, "x")]), report("1", &[(200, "x")])]), differs(200, 3));
        assert_eq!(mismatch(&[report("1", &[(200, "x")])]), differs(200, 2));
        assert_eq!(mismatch(&[report("1", &[(200, "x")]), report("1", &[(200, "b")])]), None, "the majority");
        assert_eq!(mismatch(&[report("1", &[(200, "x")]), report("1", &[(100, "a")])]), None, "it may agree");
        assert_eq!(mismatch(&[report("1", &[(200, "x")]), report("1", &[(200, "y")])]), differs(200, 3));
        assert_eq!(mismatch(&[report("2", &[(200, "x")])]), None, "another version");
        assert_eq!(mismatch(&[report("1", &[(100, "x"), (200, "b")])]), None, "an earlier fault was repaired");
    }
}
