//! The state of this node in its cluster, which its thread updates and the API reads.

use super::message::OLDEST_MESSAGE_VERSION;
use super::node_report::{NodeReport, StatePoint, to_hex};
use crate::clock::Clock;
use crate::domain::Offset;
use crate::store::LogDigest;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// The time without an answer of the stream's leader after which the node counts as cut off.
const CUT_OFF_AFTER: Duration = Duration::from_secs(5);

/// Number of digests of learned states in a report.
const REPORTED_STATES: usize = 4;

/// The state of this node.
#[derive(Debug)]
pub struct MemberStatus {
    /// The name of the cluster.
    pub cluster: String,
    /// The name of this node.
    pub node: String,
    max_lag: u64,
    clock: Clock,
    /// The time of the last answer of the stream's leader, in milliseconds of the clock.
    contact_ms: AtomicU64,
    last_sequence: AtomicU64,
    applied_sequence: AtomicU64,
    applied_offset: AtomicU64,
    max_message_bytes: AtomicUsize,
    /// The version of the message form that all nodes read.
    message_version: AtomicU8,
    holds_snapshot_lease: AtomicBool,
    holds_training_lease: AtomicBool,
    last_removal: AtomicU64,
    removed_through: AtomicU64,
    erased_through: AtomicU64,
    /// Why the node cannot follow the log; empty if it can.
    halted: ArcSwap<String>,
    /// Why the node's journal or learned state differs from those of the other nodes; empty if it does
    /// not.
    mismatch: ArcSwap<String>,
    nodes: ArcSwap<Vec<NodeReport>>,
    /// The last digests of the learned state, the newest last.
    states: ArcSwap<Vec<StatePoint>>,
}

impl MemberStatus {
    /// The state of a node that has just reached its cluster.
    #[must_use]
    pub fn new(cluster: String, node: String, max_lag: u64, clock: Clock) -> Self {
        Self {
            cluster,
            node,
            max_lag,
            contact_ms: AtomicU64::new(to_millis(clock.elapsed())),
            clock,
            last_sequence: AtomicU64::new(0),
            applied_sequence: AtomicU64::new(0),
            applied_offset: AtomicU64::new(0),
            max_message_bytes: AtomicUsize::new(1 << 20),
            message_version: AtomicU8::new(OLDEST_MESSAGE_VERSION),
            holds_snapshot_lease: AtomicBool::new(false),
            holds_training_lease: AtomicBool::new(false),
            last_removal: AtomicU64::new(0),
            removed_through: AtomicU64::new(0),
            erased_through: AtomicU64::new(0),
            halted: ArcSwap::default(),
            mismatch: ArcSwap::default(),
            nodes: ArcSwap::default(),
            states: ArcSwap::default(),
        }
    }

    /// Records an answer of the stream's leader.
    pub(super) fn record_contact(&self, last_sequence: u64) {
        self.contact_ms.store(to_millis(self.clock.elapsed()), Ordering::Release);
        self.last_sequence.fetch_max(last_sequence, Ordering::AcqRel);
    }

    /// Records how far the journal has come.
    pub(super) fn record_applied(&self, sequence: u64, offset: Offset) {
        self.applied_sequence.store(sequence, Ordering::Release);
        self.applied_offset.store(offset, Ordering::Release);
        self.last_sequence.fetch_max(sequence, Ordering::AcqRel);
    }

    pub(super) fn set_max_message_bytes(&self, bytes: usize) {
        self.max_message_bytes.store(bytes, Ordering::Release);
    }

    /// Records why the node cannot follow the log; an empty text if it can.
    pub(super) fn set_halted(&self, reason: String) {
        set_reason(&self.halted, reason, "this node has stopped following the cluster's log");
    }

    /// Records why the journal or the learned state differs; an empty text if it does not.
    pub fn set_mismatch(&self, reason: String) {
        set_reason(&self.mismatch, reason, "this node differs from the other nodes of its cluster");
    }

    pub(super) fn set_nodes(&self, nodes: Vec<NodeReport>) {
        self.nodes.store(Arc::new(nodes));
    }

    /// Records the offset after the journal's last request of an erasure or an expiry, and up to
    /// which offset the node has executed these requests.
    pub fn record_removals(&self, last_removal: Offset, removed_through: Offset) {
        self.last_removal.fetch_max(last_removal, Ordering::AcqRel);
        self.removed_through.fetch_max(removed_through, Ordering::AcqRel);
    }

    /// The offset after the journal's last request of an erasure or an expiry.
    #[must_use]
    pub fn last_removal(&self) -> Offset {
        self.last_removal.load(Ordering::Acquire)
    }

    /// The files of this node contain no entry that an erasure or an expiry before this offset
    /// removes.
    #[must_use]
    pub fn removed_through(&self) -> Offset {
        self.removed_through.load(Ordering::Acquire)
    }

    /// Records that the servers contain no entry that an erasure or an expiry before `offset` removes.
    pub fn record_erased_through(&self, offset: Offset) {
        self.erased_through.fetch_max(offset, Ordering::AcqRel);
    }

    /// The servers contain no entry that an erasure or an expiry before this offset removes. If all
    /// nodes that run have removed these entries, too, the removal is complete.
    #[must_use]
    pub fn erased_through(&self) -> Offset {
        self.erased_through.load(Ordering::Acquire)
    }

    /// Records the digest of the learned state at an offset.
    pub fn record_state_digest(&self, offset: Offset, digest: &LogDigest) {
        self.states.rcu(|states| {
            let mut states: Vec<_> = states.iter().filter(|point| point.offset < offset).cloned().collect();
            states.push(StatePoint { offset, digest: to_hex(digest) });
            let surplus = states.len().saturating_sub(REPORTED_STATES);
            states.split_off(surplus)
        });
    }

    /// The last digests of the learned state, the newest last.
    #[must_use]
    pub fn states(&self) -> Arc<Vec<StatePoint>> {
        self.states.load_full()
    }

    pub(super) fn set_holds_snapshot_lease(&self, holds: bool) {
        self.holds_snapshot_lease.store(holds, Ordering::Release);
    }

    pub(super) fn set_holds_training_lease(&self, holds: bool) {
        self.holds_training_lease.store(holds, Ordering::Release);
    }

    /// Whether this node publishes the results of its trainings.
    #[must_use]
    pub fn holds_training_lease(&self) -> bool {
        self.holds_training_lease.load(Ordering::Acquire)
    }

    /// Whether this node stores the snapshots of the cluster.
    #[must_use]
    pub fn holds_snapshot_lease(&self) -> bool {
        self.holds_snapshot_lease.load(Ordering::Acquire)
    }

    /// The largest length of a message, in bytes.
    #[must_use]
    pub fn max_message_bytes(&self) -> usize {
        self.max_message_bytes.load(Ordering::Acquire)
    }

    pub(super) fn set_message_version(&self, version: u8) {
        self.message_version.store(version, Ordering::Release);
    }

    /// The version of the message form that this node writes.
    #[must_use]
    pub fn message_version(&self) -> u8 {
        self.message_version.load(Ordering::Acquire)
    }

    /// The last known message of the log.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.last_sequence.load(Ordering::Acquire)
    }

    /// The last message that the journal contains.
    #[must_use]
    pub fn applied_sequence(&self) -> u64 {
        self.applied_sequence.load(Ordering::Acquire)
    }

    /// The offset after the last entry of the journal.
    #[must_use]
    pub fn applied_offset(&self) -> Offset {
        self.applied_offset.load(Ordering::Acquire)
    }

    /// The last reports of all nodes, this one included.
    #[must_use]
    pub fn nodes(&self) -> Arc<Vec<NodeReport>> {
        self.nodes.load_full()
    }

    /// A number that differs between the nodes, for ids that they generate.
    #[must_use]
    pub fn id_salt(&self) -> i64 {
        const SALT_BITS: u32 = 18;
        const TIMESTAMP_BITS: u32 = 44;
        let hash = crc32fast::hash(self.node.as_bytes()) & ((1 << SALT_BITS) - 1);
        i64::from(hash) << TIMESTAMP_BITS
    }

    /// Whether the node does not reach a majority of the servers. Its answers then may lack recent
    /// entries.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        let silent = to_millis(self.clock.elapsed()).saturating_sub(self.contact_ms.load(Ordering::Acquire));
        silent > to_millis(CUT_OFF_AFTER)
    }

    /// Number of entries that this node is behind, at least: one for each message of the log that
    /// it has not applied, or the difference to the node that is furthest.
    #[must_use]
    pub fn lag_entries(&self) -> u64 {
        let messages = self.last_sequence().saturating_sub(self.applied_sequence());
        let furthest = self.nodes.load().iter().map(|report| report.offset).max().unwrap_or(0);
        if messages == 0 { 0 } else { messages.max(furthest.saturating_sub(self.applied_offset())) }
    }

    /// Why the node accepts no writes; `None` if it does.
    #[must_use]
    pub fn write_problem(&self) -> Option<String> {
        let reason = [&self.mismatch, &self.halted].into_iter().map(ArcSwap::load_full).find(|text| !text.is_empty());
        reason.map(|reason| reason.to_string())
    }

    /// Whether the node's journal or learned state differs from those of the majority.
    #[must_use]
    pub fn has_mismatch(&self) -> bool {
        !self.mismatch.load().is_empty()
    }

    /// Why the node is not ready; `None` if it is ready.
    #[must_use]
    pub fn not_ready_reason(&self) -> Option<String> {
        let lag = self.lag_entries();
        self.write_problem().or_else(|| {
            (lag > self.max_lag).then(|| {
                let max_lag = self.max_lag;
                format!("the node is {lag} entries behind its cluster; cluster.max_lag is {max_lag}")
            })
        })
    }
}

fn set_reason(current: &ArcSwap<String>, reason: String, message: &'static str) {
    if **current.load() != reason {
        if !reason.is_empty() {
            tracing::error!(reason, "{message}");
        }
        current.store(Arc::new(reason));
    }
}

fn to_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(clock: &Clock) -> MemberStatus {
        MemberStatus::new("shop".to_owned(), "a".to_owned(), 100, clock.clone())
    }

    #[test]
    fn a_node_is_ready_up_to_the_maximum_lag() {
        let status = status(&Clock::manual(0));
        status.record_contact(10);
        status.record_applied(10, 1_000);
        assert_eq!((status.lag_entries(), status.not_ready_reason()), (0, None));
        status.record_contact(11);
        status.set_nodes(vec![NodeReport { offset: 1_100, ..NodeReport::default() }]);
        assert_eq!((status.lag_entries(), status.not_ready_reason()), (100, None));
        status.set_nodes(vec![NodeReport { offset: 1_101, ..NodeReport::default() }]);
        let reason = status.not_ready_reason().unwrap();
        assert!(reason.contains("101 entries behind") && reason.contains("max_lag is 100"), "{reason}");
        status.record_applied(11, 1_101);
        assert_eq!(status.not_ready_reason(), None);
        status.set_mismatch("different".to_owned());
        assert_eq!(status.not_ready_reason().as_deref(), Some("different"));
    }

    #[test]
    fn a_node_without_contact_is_cut_off_and_stays_ready() {
        let clock = Clock::manual(0);
        let status = status(&clock);
        clock.advance(5_000);
        assert!(!status.is_cut_off());
        clock.advance(1);
        assert!(status.is_cut_off());
        assert_eq!(status.not_ready_reason(), None);
        status.record_contact(1);
        assert!(!status.is_cut_off());
    }
}
