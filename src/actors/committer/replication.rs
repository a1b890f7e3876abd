//! The requests that a node of a cluster has proposed, until they are acknowledged.
//!
//! A request is acknowledged after the cluster's servers have stored its messages and this node has
//! applied them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use crate::actors::admission::AdmissionPermit;
use crate::actors::error::{AppendError, ClusterProblem};
use crate::cluster::grouping::{GroupedMessage, RequestPart};
use crate::cluster::shared_log::LogError;
use crate::store::CommitReceipt;

/// The longest time between the arrival of a request and its acknowledgement.
const REQUEST_DEADLINE: Duration = Duration::from_secs(15);
/// Largest number of messages that are stored, but that this node has not applied yet.
const MAX_UNAPPLIED_MESSAGES: usize = 32;

/// The sender of a request's receipt.
pub(super) type ReceiptSender = oneshot::Sender<Result<CommitReceipt, AppendError>>;

/// A request that waits for its messages.
struct WaitingRequest {
    /// Receives the receipt; `None` for deferred entries, for which no client waits.
    reply: Option<ReceiptSender>,
    permits: Vec<AdmissionPermit>,
    since: Instant,
    /// Number of parts that this node has not applied.
    unapplied: usize,
    /// Number of parts that are not both applied and stored.
    unfinished: usize,
    receipt: CommitReceipt,
}

/// A message that this node has proposed.
#[derive(Default)]
struct ProposedMessage {
    parts: Vec<RequestPart>,
    /// Whether a majority of the servers has stored the message.
    is_stored: bool,
    /// The receipts of the parts, after this node has applied the message.
    receipts: Option<Vec<CommitReceipt>>,
}

/// The proposed requests and messages of this node.
#[derive(Default)]
pub(super) struct Replication {
    requests: FxHashMap<u64, WaitingRequest>,
    next_request: u64,
    messages: FxHashMap<String, ProposedMessage>,
    /// Messages of the current group that are not proposed yet.
    queue: VecDeque<GroupedMessage>,
    /// The message whose publication is in progress.
    publishing: Option<String>,
}

impl Replication {
    /// The number that the next request will have.
    pub(super) fn next_request(&self) -> u64 {
        self.next_request
    }

    /// Adds a request of `parts` parts.
    pub(super) fn add_request(&mut self, parts: usize, reply: Option<ReceiptSender>, permits: Vec<AdmissionPermit>) {
        let receipt = CommitReceipt { accepted: 0, duplicates: vec![], withheld: vec![], rejected: vec![], offset: 0 };
        let (unapplied, unfinished) = (parts, parts);
        let waiting = WaitingRequest { reply, permits, since: Instant::now(), unapplied, unfinished, receipt };
        self.requests.insert(self.next_request, waiting);
        self.next_request += 1;
    }

    /// Adds the messages of a group.
    pub(super) fn queue_messages(&mut self, messages: Vec<GroupedMessage>) {
        self.queue.extend(messages);
    }

    /// The next message to propose; `None` if one is being published, too many are not applied yet,
    /// or none is left.
    pub(super) fn take_next_message(&mut self) -> Option<GroupedMessage> {
        if self.publishing.is_some() || self.messages.len() >= MAX_UNAPPLIED_MESSAGES {
            return None;
        }
        self.queue.pop_front()
    }

    /// Whether a new group can be formed: the last one is published.
    pub(super) fn can_form_group(&self) -> bool {
        self.publishing.is_none() && self.queue.is_empty() && self.messages.len() < MAX_UNAPPLIED_MESSAGES
    }

    /// Whether requests wait for their acknowledgement.
    pub(super) fn has_waiting_requests(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Records that a message was proposed under `id`.
    pub(super) fn record_proposed(&mut self, id: String, parts: Vec<RequestPart>) {
        self.publishing = Some(id.clone());
        self.messages.insert(id, ProposedMessage { parts, ..ProposedMessage::default() });
    }

    /// Records what became of the publication of a message.
    pub(super) fn record_outcome(&mut self, id: &str, outcome: Result<u64, LogError>) {
        if self.publishing.as_deref() == Some(id) {
            self.publishing = None;
        }
        match outcome {
            Ok(_) => {
                if let Some(message) = self.messages.get_mut(id) {
                    message.is_stored = true;
                }
                self.finish_message(id);
            }
            Err(error) => {
                let parts = self.messages.remove(id).map(|message| message.parts).unwrap_or_default();
                for part in parts {
                    self.fail_request(part.request, &ClusterProblem::from(error.clone()));
                }
            }
        }
    }

    /// The permits of the requests of which this node now applies the last part with message `id`.
    pub(super) fn take_permits(&mut self, id: &str) -> Vec<AdmissionPermit> {
        let mut permits = Vec::new();
        for part in self.messages.get(id).map(|message| message.parts.as_slice()).unwrap_or_default() {
            let Some(request) = self.requests.get_mut(&part.request) else { continue };
            request.unapplied = request.unapplied.saturating_sub(1);
            if request.unapplied == 0 {
                permits.append(&mut request.permits);
            }
        }
        permits
    }

    /// Records that this node has applied message `id`, with one receipt per part.
    pub(super) fn record_applied(&mut self, id: &str, receipts: Vec<CommitReceipt>) {
        if let Some(message) = self.messages.get_mut(id) {
            message.receipts = Some(receipts);
            self.finish_message(id);
        }
    }

    /// Answers the requests of a message that is stored and applied.
    fn finish_message(&mut self, id: &str) {
        if !self.messages.get(id).is_some_and(|message| message.is_stored && message.receipts.is_some()) {
            return;
        }
        let Some(ProposedMessage { parts, receipts: Some(receipts), .. }) = self.messages.remove(id) else { return };
        for (part, receipt) in parts.into_iter().zip(receipts) {
            let Some(request) = self.requests.get_mut(&part.request) else { continue };
            add_part(&mut request.receipt, part.first, receipt);
            request.unfinished = request.unfinished.saturating_sub(1);
            if request.unfinished == 0
                && let Some(WaitingRequest { reply: Some(reply), receipt, .. }) = self.requests.remove(&part.request)
            {
                let _ = reply.send(Ok(receipt));
            }
        }
    }

    fn fail_request(&mut self, request: u64, problem: &ClusterProblem) {
        if let Some(WaitingRequest { reply: Some(reply), .. }) = self.requests.remove(&request) {
            let _ = reply.send(Err(AppendError::Cluster(problem.clone())));
        }
    }

    /// Answers the requests that have waited too long. Their entries may be stored nevertheless.
    pub(super) fn fail_overdue_requests(&mut self) {
        let overdue: Vec<_> = self
            .requests
            .iter()
            .filter(|(_, waiting)| waiting.since.elapsed() > REQUEST_DEADLINE)
            .map(|(request, _)| *request)
            .collect();
        let problem = ClusterProblem::Unreachable("the cluster did not confirm the entries in time".to_owned());
        overdue.into_iter().for_each(|request| self.fail_request(request, &problem));
        // A message that nobody waits for may never be settled, for example after a failed commit.
        let (requests, publishing) = (&self.requests, self.publishing.as_deref());
        self.messages.retain(|id, message| {
            publishing == Some(id) || message.parts.iter().any(|part| requests.contains_key(&part.request))
        });
    }
}

/// Adds the receipt of a part, which starts at position `first` of the request.
fn add_part(whole: &mut CommitReceipt, first: usize, part: CommitReceipt) {
    whole.accepted += part.accepted;
    whole.duplicates.extend(part.duplicates.into_iter().map(|position| first + position));
    whole.withheld.extend(part.withheld.into_iter().map(|position| first + position));
    whole.rejected.extend(part.rejected.into_iter().map(|(position, error)| (first + position, error)));
    whole.offset = whole.offset.max(part.offset);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::admission::AdmissionControl;

    fn receipt(accepted: usize, duplicates: Vec<usize>, offset: u64) -> CommitReceipt {
        CommitReceipt { accepted, duplicates, withheld: vec![], rejected: vec![], offset }
    }

    fn message(parts: &[(u64, usize)]) -> GroupedMessage {
        let parts = parts.iter().map(|(request, first)| RequestPart { request: *request, first: *first }).collect();
        GroupedMessage { payload: Vec::new(), parts }
    }

    fn propose(replication: &mut Replication, id: &str) {
        let message = replication.take_next_message().unwrap();
        replication.record_proposed(id.to_owned(), message.parts);
    }

    #[test]
    fn a_request_is_answered_after_all_its_parts_are_stored_and_applied() {
        let (admission, mut replication) = (AdmissionControl::new(3), Replication::default());
        let (reply, mut answer) = oneshot::channel();
        replication.add_request(2, Some(reply), vec![admission.try_admit(3).unwrap()]);
        replication.queue_messages(vec![message(&[(0, 0)]), message(&[(0, 10)])]);
        propose(&mut replication, "1");
        assert!(replication.take_next_message().is_none() && !replication.can_form_group(), "one at a time");
        drop(replication.take_permits("1"));
        replication.record_applied("1", vec![receipt(9, vec![4], 9)]);
        replication.record_outcome("1", Ok(1));
        assert_eq!(admission.in_flight(), 3, "a part is not applied");
        propose(&mut replication, "2");
        replication.record_outcome("2", Ok(2));
        assert!(answer.try_recv().is_err());
        drop(replication.take_permits("2"));
        replication.record_applied("2", vec![receipt(5, vec![0], 14)]);
        assert_eq!(answer.try_recv().unwrap().unwrap(), receipt(14, vec![4, 10], 14));
        assert_eq!((admission.in_flight(), replication.has_waiting_requests()), (0, false));
        assert!(replication.can_form_group());
    }

    #[test]
    fn an_applied_message_is_not_acknowledged_before_the_servers_confirm_it() {
        let mut replication = Replication::default();
        let (reply, mut answer) = oneshot::channel();
        replication.add_request(1, Some(reply), vec![]);
        replication.queue_messages(vec![message(&[(0, 0)])]);
        propose(&mut replication, "1");
        replication.record_applied("1", vec![receipt(1, vec![], 1)]);
        assert!(answer.try_recv().is_err());
        replication.record_outcome("1", Ok(1));
        assert_eq!(answer.try_recv().unwrap().unwrap(), receipt(1, vec![], 1));
    }

    #[test]
    fn a_failed_publication_fails_the_requests_of_its_message_only() {
        let mut replication = Replication::default();
        let (first, mut failed) = oneshot::channel();
        let (second, mut answered) = oneshot::channel();
        replication.add_request(1, Some(first), vec![]);
        replication.add_request(1, Some(second), vec![]);
        replication.queue_messages(vec![message(&[(0, 0)]), message(&[(1, 0)])]);
        propose(&mut replication, "1");
        replication.record_outcome("1", Err(LogError::Unreachable("no leader".to_owned())));
        assert!(matches!(failed.try_recv().unwrap(), Err(AppendError::Cluster(ClusterProblem::Unreachable(_)))));
        // The log may contain the message nevertheless.
        replication.record_applied("1", vec![receipt(1, vec![], 1)]);
        propose(&mut replication, "2");
        replication.record_applied("2", vec![receipt(1, vec![], 2)]);
        replication.record_outcome("2", Ok(2));
        assert_eq!(answered.try_recv().unwrap().unwrap().offset, 2);
    }
}
