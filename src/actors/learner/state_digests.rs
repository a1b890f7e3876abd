//! Digests of the learned state, which the nodes of a cluster compare.

use std::sync::Arc;

use super::LearnerActor;
use crate::actors::background_worker::BackgroundWorker;
use crate::actors::error::LearnerActorError;
use crate::actors::state_history::encode_checkpoint;
use crate::cluster::MemberStatus;
use crate::domain::Offset;
use crate::learner::{BackgroundJobs, LearnerState};
use crate::metrics::{ActorKind, Metrics, ThreadRole};
use crate::store::codec::CodecError;
use crate::store::{DigestWriter, LogDigest};
use crate::telemetry::span;

/// Computes a digest of the learned state at every offset that is a multiple of an interval. All
/// nodes compute the digests at the same offsets, so that they can be compared.
#[derive(Debug)]
pub(super) struct StateDigests {
    /// Number of entries between two digests; 0: none.
    interval: u64,
    status: Arc<MemberStatus>,
    worker: BackgroundWorker<(Offset, Result<LogDigest, CodecError>)>,
}

fn digest_of(state: &LearnerState) -> Result<LogDigest, CodecError> {
    let mut writer = DigestWriter::default();
    encode_checkpoint(state, &mut writer)?;
    Ok(writer.finish())
}

impl StateDigests {
    pub(super) fn start(interval: u64, status: Arc<MemberStatus>, metrics: &Metrics) -> Self {
        let worker = BackgroundWorker::start_thread(
            ThreadRole::Checkpoints,
            || span!("state_digest"),
            metrics.checkpoint_seconds.clone(),
            metrics.panics.with_label(ActorKind::Learner).clone(),
        );
        Self { interval, status, worker }
    }

    /// Whether the state at this offset has a digest. If the digest of an earlier state is still
    /// computed, it has none.
    fn is_due_at(&self, offset: Offset) -> bool {
        self.interval > 0 && offset.is_multiple_of(self.interval) && !self.worker.is_busy()
    }

    /// Reports a digest that was computed.
    fn report_finished(&mut self) {
        match self.worker.poll_result() {
            None => {}
            Some(Ok((offset, Ok(digest)))) => self.status.record_state_digest(offset, &digest),
            Some(Ok((_, Err(error)))) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "no digest of the learned state");
            }
            Some(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "no digest of the learned state");
            }
        }
    }
}

impl LearnerActor {
    /// Lets the actor report digests of the learned state to the other nodes of the cluster, one per
    /// `interval` entries (0: none). Does nothing on a single node.
    #[must_use]
    pub fn with_state_digests(mut self, interval: u64, status: Option<Arc<MemberStatus>>) -> Self {
        self.state_digests = status.map(|status| StateDigests::start(interval, status, &self.metrics));
        self
    }

    /// Notes that the state after the applied entry needs a digest. Returns whether it does.
    pub(super) fn note_due_digest(&mut self) -> bool {
        let offset = self.learner.next_offset();
        self.needs_digest = self.state_digests.as_ref().is_some_and(|digests| digests.is_due_at(offset));
        self.needs_digest
    }

    /// Starts to compute the digest that is due. The job encodes a copy of the state, so learning
    /// continues in the meantime. All background jobs must have ended.
    pub(super) fn begin_digest(&mut self) -> Result<(), LearnerActorError> {
        self.needs_digest = false;
        let offset = self.learner.next_offset();
        let state = self.settled_state()?.clone();
        if let Some(digests) = &mut self.state_digests {
            digests.worker.start(Box::new(move || (offset, digest_of(&state))));
        }
        Ok(())
    }

    /// Reports a digest that was computed.
    pub(super) fn report_digest(&mut self) {
        if let Some(digests) = &mut self.state_digests {
            digests.report_finished();
        }
    }
}
