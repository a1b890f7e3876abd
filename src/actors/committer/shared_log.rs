//! Commits in a cluster: proposes the pending requests to the shared log, and applies its messages.

use actix::{Addr, Context, Handler, Message};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;

use super::replication::Replication;
use super::{AppendEntries, CommitterActor, inject_faults};
use crate::actors::error::{AppendError, ClusterProblem};
use crate::cluster::grouping::MessageBuilder;
use crate::cluster::shared_log::LogError;
use crate::cluster::{ApplyReport, CommitterLink, DecodedMessage, MemberStatus, Proposer};
use crate::metrics::QueueName;
use crate::store::{CommitReceipt, CommittedBatch, LogMessage, StoreError};

/// The connection of the committer to its cluster.
pub(super) struct ClusterCommits {
    proposer: Proposer,
    status: Arc<MemberStatus>,
    replication: Replication,
}

impl ClusterCommits {
    pub(super) fn new(proposer: Proposer, status: Arc<MemberStatus>) -> Self {
        Self { proposer, status, replication: Replication::default() }
    }

    /// Why the node accepts no writes now.
    fn problem(&self) -> Option<ClusterProblem> {
        match self.status.write_problem() {
            Some(reason) => Some(ClusterProblem::Refused(reason)),
            None if self.status.is_cut_off() => {
                Some(ClusterProblem::Unreachable("no majority of its servers can be reached".to_owned()))
            }
            None => None,
        }
    }

    pub(super) fn fail_overdue_requests(&mut self) {
        self.replication.fail_overdue_requests();
    }

    /// Whether requests wait for their acknowledgement.
    pub(super) fn has_waiting_requests(&self) -> bool {
        self.replication.has_waiting_requests()
    }

    /// Proposes the next message, unless one is being published.
    fn propose_next(&mut self) {
        if let Some(message) = self.replication.take_next_message() {
            let id = self.proposer.propose(message.payload);
            self.replication.record_proposed(id, message.parts);
        }
    }
}

/// The committer, as the thread of the cluster reaches it.
pub(super) struct ActorLink(pub(super) Addr<CommitterActor>);

impl CommitterLink for ActorLink {
    fn apply(&self, messages: Vec<DecodedMessage>) -> oneshot::Receiver<ApplyReport> {
        let (reply, report) = oneshot::channel();
        self.0.do_send(ApplyMessages { messages, reply });
        report
    }

    fn settle_proposal(&self, id: String, outcome: Result<u64, LogError>) {
        self.0.do_send(SettleProposal { id, outcome });
    }
}

/// Applies messages of the shared log.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct ApplyMessages {
    messages: Vec<DecodedMessage>,
    reply: oneshot::Sender<ApplyReport>,
}

impl Handler<ApplyMessages> for CommitterActor {
    type Result = ();

    fn handle(&mut self, ApplyMessages { messages, reply }: ApplyMessages, _: &mut Self::Context) {
        // Without a reply, the thread of the cluster stops.
        if self.cluster.is_some() {
            let _ = reply.send(self.apply_messages(messages));
            self.propose_pending();
        }
    }
}

/// Tells what became of a proposed message.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct SettleProposal {
    id: String,
    outcome: Result<u64, LogError>,
}

impl Handler<SettleProposal> for CommitterActor {
    type Result = ();

    fn handle(&mut self, SettleProposal { id, outcome }: SettleProposal, _: &mut Self::Context) {
        if let Some(cluster) = &mut self.cluster {
            if let Err(error) = &outcome {
                tracing::warn!(error = error as &dyn std::error::Error, "a message was not published");
            }
            cluster.replication.record_outcome(&id, outcome);
        }
        self.propose_pending();
    }
}

/// Asks whether requests wait for the cluster.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "bool")]
pub struct HasWaitingRequests;

impl Handler<HasWaitingRequests> for CommitterActor {
    type Result = bool;

    fn handle(&mut self, _: HasWaitingRequests, _: &mut Self::Context) -> Self::Result {
        self.cluster.as_ref().is_some_and(ClusterCommits::has_waiting_requests)
    }
}

/// Leaves the cluster: the committer applies no further messages.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct LeaveCluster;

impl Handler<LeaveCluster> for CommitterActor {
    type Result = ();

    fn handle(&mut self, _: LeaveCluster, _: &mut Context<Self>) {
        self.cluster = None;
    }
}

impl CommitterActor {
    /// Proposes the pending requests and the deferred entries as one group, if the last group is
    /// published.
    pub(super) fn propose_pending(&mut self) {
        let Some(cluster) = &mut self.cluster else { return self.refuse_pending() };
        cluster.propose_next();
        if !cluster.replication.can_form_group() {
            return;
        }
        let pending = std::mem::take(&mut self.pending);
        let (deferred, permits) = self.deferred.take_all();
        if pending.is_empty() && deferred.is_empty() {
            return;
        }
        let entries = deferred.len() + pending.iter().map(|append| append.entries.len()).sum::<usize>();
        self.metrics.queue_depth.with_label(QueueName::Committer).decrement(entries as f64);
        let problem = if self.failed || self.core.has_failed() {
            let reason = "its journal accepts no writes, because a write failed; the log has the error";
            Some(ClusterProblem::Refused(reason.to_owned()))
        } else {
            cluster.problem()
        };
        let mut group = MessageBuilder::new(cluster.status.max_message_bytes(), cluster.status.message_version());
        // The deferred entries are impressions. They come first, because pending events may be
        // responses to them.
        let request = cluster.replication.next_request();
        let added = match &problem {
            None if deferred.is_empty() => None,
            None => group.add_request(request, &deferred, None, None).ok(),
            Some(_) => None,
        };
        match added {
            Some(parts) => cluster.replication.add_request(parts, None, permits),
            None => self.metrics.impressions_lost.increment(deferred.len() as u64),
        }
        for AppendEntries { entries, origin, condition, permit, reply } in pending {
            if let Some(problem) = &problem {
                let _ = reply.send(Err(AppendError::Cluster(problem.clone())));
                continue;
            }
            let request = cluster.replication.next_request();
            match group.add_request(request, &entries, origin, condition) {
                Ok(parts) => cluster.replication.add_request(parts, Some(reply), vec![permit]),
                Err(error) => {
                    let _ = reply.send(Err(AppendError::Cluster(ClusterProblem::TooLarge(error.to_string()))));
                }
            }
        }
        cluster.replication.queue_messages(group.finish());
        cluster.propose_next();
    }

    /// Refuses the pending requests, because the node has left its cluster.
    fn refuse_pending(&mut self) {
        let (deferred, _) = self.deferred.take_all();
        self.metrics.impressions_lost.increment(deferred.len() as u64);
        for append in std::mem::take(&mut self.pending) {
            let problem = ClusterProblem::Refused("the node has left its cluster".to_owned());
            let _ = append.reply.send(Err(AppendError::Cluster(problem)));
        }
    }

    /// Applies messages, each as one commit, until one fails.
    fn apply_messages(&mut self, messages: Vec<DecodedMessage>) -> ApplyReport {
        let mut report = ApplyReport::default();
        for DecodedMessage { id, message } in messages {
            let expected = self.core.log_position().unwrap_or_default().sequence + 1;
            let applied = if message.sequence == expected { self.apply_message(&id, message) } else { Ok(()) };
            if let Err(error) = &applied {
                tracing::error!(
                    error = error as &dyn std::error::Error,
                    "a message of the cluster's log could not be applied; the node tries again"
                );
                self.metrics.commit_failures.increment(1);
            }
            let position = self.core.log_position().unwrap_or_default();
            report.has_failed = applied.is_err() || position.sequence != expected;
            if report.has_failed {
                break;
            }
            report.chain.push((position.sequence, position.chain));
        }
        report.position = self.core.log_position().unwrap_or_default();
        report.offset = self.core.next_offset();
        report
    }

    fn apply_message(&mut self, id: &str, message: LogMessage) -> Result<(), StoreError> {
        let began = Instant::now();
        // After a failed commit, the store may already contain the message.
        self.recover()?;
        if self.core.log_position().unwrap_or_default().sequence >= message.sequence {
            return Ok(());
        }
        let mut vectors = self.catalog.begin_vector_checks();
        let (mut requests, mut rejections) = (Vec::new(), Vec::new());
        for mut request in message.requests {
            let (entries, rejected) = vectors.split_rejected(request.entries);
            request.entries = entries;
            requests.push(request);
            rejections.push(rejected);
        }
        let (receipts, committed) = self.commit_message(LogMessage { requests, ..message })?;
        self.metrics.commit_seconds.record(began.elapsed());
        let permits = self.cluster.as_mut().map(|cluster| cluster.replication.take_permits(id)).unwrap_or_default();
        self.finish_commit(committed, permits);
        if let Some(cluster) = &mut self.cluster {
            let receipts: Vec<CommitReceipt> =
                rejections.into_iter().zip(receipts).map(|(rejected, receipt)| rejected.add_to(receipt)).collect();
            cluster.replication.record_applied(id, receipts);
        }
        self.persist_indexes_if_due();
        Ok(())
    }

    fn commit_message(&mut self, message: LogMessage) -> Result<(Vec<CommitReceipt>, CommittedBatch), StoreError> {
        self.guard_commit(|core, watch| {
            inject_faults(&message.requests);
            core.commit_message(message, watch)
        })
    }
}
