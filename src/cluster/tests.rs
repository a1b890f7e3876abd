//! Runs the parts of cluster mode on a log in memory, with the committers of two nodes.

use super::chain_history::ChainHistory;
use super::committer_link::{ApplyReport, CommitterLink, DecodedMessage};
use super::follower::follow_log;
use super::grouping::MessageBuilder;
use super::member_status::MemberStatus;
use super::memory_log::MemoryLog;
use super::message::NEWEST_MESSAGE_VERSION;
use super::publisher::publish_proposals;
use super::shared_log::{LogError, Proposal, SharedLog};
use crate::clock::Clock;
use crate::domain::{
    Entry, Event, EventKind, EventKinds, ModelChange, ModelChangeCause, ModelOperation, UserErasure, UserMerge,
};
use crate::metrics::Metrics;
use crate::store::{
    CommitCondition, CommitReceipt, Committer, CommitterSettings, SharedLogPosition, Store, StoreOptions,
};
use std::cell::RefCell;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, oneshot};

/// A committer without actors.
struct TestNode {
    store: Store,
    committer: Mutex<Committer>,
    receipts: Mutex<Vec<(String, Vec<CommitReceipt>)>>,
    settled: Mutex<Vec<(String, Result<u64, LogError>)>>,
}

impl TestNode {
    fn open(dir: &Path) -> Self {
        let store = Store::open(dir, &StoreOptions::default()).unwrap();
        let settings = CommitterSettings { dedup_window: 50, ..CommitterSettings::default() };
        let mut committer = Committer::open(store.clone(), settings).unwrap();
        committer.begin_shared_log(SharedLogPosition::default());
        Self { store, committer: Mutex::new(committer), receipts: Mutex::default(), settled: Mutex::default() }
    }

    fn position(&self) -> SharedLogPosition {
        self.committer.lock().unwrap().log_position().unwrap()
    }
}

impl CommitterLink for Arc<TestNode> {
    fn apply(&self, messages: Vec<DecodedMessage>) -> oneshot::Receiver<ApplyReport> {
        let (reply, receiver) = oneshot::channel();
        let mut committer = self.committer.lock().unwrap();
        let mut report = ApplyReport::default();
        for DecodedMessage { id, message } in messages {
            let (receipts, _) = committer.commit_message(message, &mut |sync| sync()).unwrap();
            self.receipts.lock().unwrap().push((id, receipts));
            report.position = committer.log_position().unwrap();
            report.chain.push((report.position.sequence, report.position.chain));
        }
        report.offset = committer.next_offset();
        let _ = reply.send(report);
        receiver
    }

    fn settle_proposal(&self, id: String, outcome: Result<u64, LogError>) {
        self.settled.lock().unwrap().push((id, outcome));
    }
}

fn event(user: &str, id: u64) -> Entry {
    Entry::Event(Event {
        event_id: Some(format!("e{id}")),
        user_id: user.to_owned(),
        session_id: None,
        kind: EventKind::View,
        item_id: Some(format!("item{}", id % 7)),
        value: None,
        timestamp: id as i64,
        properties: None,
        details: None,
    })
}

fn payload(requests: &[(Vec<Entry>, Option<CommitCondition>)]) -> Vec<u8> {
    let mut builder = MessageBuilder::new(1 << 20, NEWEST_MESSAGE_VERSION);
    for (number, (entries, condition)) in (0..).zip(requests) {
        builder.add_request(number, entries, None, *condition).unwrap();
    }
    let messages = builder.finish();
    assert_eq!(messages.len(), 1);
    messages.into_iter().next().unwrap().payload
}

async fn propose(log: &MemoryLog, id: &str, requests: &[(Vec<Entry>, Option<CommitCondition>)]) -> u64 {
    log.propose(&Proposal { id: id.to_owned(), payload: payload(requests).into() }).await.unwrap()
}

/// Lets a node apply the log up to message `sequence`.
async fn apply_through(log: &MemoryLog, node: &Arc<TestNode>, sequence: u64) {
    let status = MemberStatus::new("shop".to_owned(), "a".to_owned(), 1, Clock::manual(0));
    let history = RefCell::new(ChainHistory::default());
    let reached = async {
        while node.position().sequence < sequence {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = follow_log(log, node, &status, &history, node.position()) => unreachable!("the node runs"),
        () = reached => {}
    }
    assert_eq!(status.write_problem(), None);
}

fn entries_of(node: &TestNode) -> Vec<Entry> {
    node.store.journal().entries(0).unwrap().map(|read| read.unwrap().1).collect()
}

fn run<F: Future<Output = ()>>(test: F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

fn rollback(to: u64) -> Vec<Entry> {
    let operation = ModelOperation::Rollback { to };
    vec![Entry::Model(ModelChange { timestamp: 0, operation, cause: ModelChangeCause::Quality })]
}

#[test]
fn nodes_that_apply_the_same_log_have_equal_journals() {
    run(async {
        let (dirs, log) = ([tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()], MemoryLog::new());
        let [a, b] = [0, 1].map(|node: usize| Arc::new(TestNode::open(dirs[node].path())));
        let merge = Entry::Merge(UserMerge { from: "x".to_owned(), into: "ann".to_owned(), timestamp: 0 });
        let erase = Entry::Erase(UserErasure { user_id: "bob".to_owned(), unlearn: false, timestamp: 5 });
        propose(&log, "1", &[(vec![event("x", 1), event("bob", 2)], None), (vec![event("x", 1)], None)]).await;
        propose(&log, "2", &[(vec![merge, event("x", 3)], None)]).await;
        apply_through(&log, &a, 2).await;
        propose(&log, "3", &[(vec![event("bob", 4)], None), (vec![erase], None)]).await;
        // The ids of erased events are free again, at the same message on every node.
        propose(&log, "4", &[(vec![event("bob", 2), event("x", 1)], None)]).await;
        propose(&log, "5", &[(vec![event("x", 1)], None)]).await;
        apply_through(&log, &a, 5).await;
        apply_through(&log, &b, 5).await;
        assert_eq!(a.position(), b.position());
        assert_eq!(entries_of(&a), entries_of(&b));
        assert_eq!(*a.receipts.lock().unwrap(), *b.receipts.lock().unwrap());
        let receipts = a.receipts.lock().unwrap();
        assert_eq!((receipts[0].1[1].duplicates.as_slice(), receipts[0].1[1].offset), (&[0][..], 2));
        assert_eq!((receipts[3].1[0].accepted, receipts[3].1[0].duplicates.as_slice()), (1, &[1][..]));
        assert_eq!(receipts[4].1[0].duplicates, [0]);
    });
}

#[test]
fn a_node_resumes_after_the_last_message_that_it_applied() {
    run(async {
        let (dirs, log) = ([tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()], MemoryLog::new());
        let erase = Entry::Erase(UserErasure { user_id: "bob".to_owned(), unlearn: false, timestamp: 5 });
        for id in 0..40_u64 {
            let entries =
                if id == 20 { vec![erase.clone()] } else { vec![event("bob", id % 15), event("ann", id + 100)] };
            propose(&log, &id.to_string(), &[(entries, None)]).await;
        }
        let reference = Arc::new(TestNode::open(dirs[0].path()));
        apply_through(&log, &reference, 40).await;
        for stop in [1, 7, 19, 21, 22, 33, 40] {
            // Without a clean stop, the window of event ids is read from the journal.
            let node = Arc::new(TestNode::open(dirs[1].path()));
            apply_through(&log, &node, stop).await;
        }
        let node = Arc::new(TestNode::open(dirs[1].path()));
        assert_eq!(node.position(), reference.position());
        assert_eq!(entries_of(&node), entries_of(&reference));
    });
}

#[test]
fn a_decision_of_two_nodes_applies_once() {
    run(async {
        let (dir, log) = (tempfile::tempdir().unwrap(), MemoryLog::new());
        let node = Arc::new(TestNode::open(dir.path()));
        let unless_changed = Some(CommitCondition::NoModelChangeFrom(2));
        propose(&log, "1", &[(vec![event("ann", 1), event("ann", 2)], None)]).await;
        propose(&log, "2", &[(rollback(1), unless_changed)]).await;
        propose(&log, "3", &[(rollback(1), unless_changed)]).await;
        propose(&log, "4", &[(rollback(0), Some(CommitCondition::NoModelChangeFrom(3)))]).await;
        apply_through(&log, &node, 4).await;
        let accepted: Vec<_> = node.receipts.lock().unwrap().iter().map(|(_, receipts)| receipts[0].accepted).collect();
        assert_eq!(accepted, [2, 1, 0, 1]);
        drop(node);
        let node = Arc::new(TestNode::open(dir.path()));
        assert_eq!(node.position().marks.model_changes_before, 4, "a restart keeps the marks");
    });
}

#[test]
fn a_repeated_proposal_is_stored_once() {
    run(async {
        let (dir, log) = (tempfile::tempdir().unwrap(), MemoryLog::new());
        let node = Arc::new(TestNode::open(dir.path()));
        let status = MemberStatus::new("shop".to_owned(), "a".to_owned(), 1, Clock::manual(0));
        let metrics = Metrics::new(&EventKinds::default()).unwrap();
        let (proposals, receiver) = mpsc::unbounded_channel();
        *log.failures.borrow_mut() = 2;
        for id in ["1", "2"] {
            let payload = payload(&[(vec![event("ann", 1)], None)]);
            proposals.send(Proposal { id: id.to_owned(), payload: payload.into() }).unwrap();
        }
        drop(proposals);
        publish_proposals(&log, &node, &status, &metrics, receiver).await;
        let settled: Vec<_> =
            node.settled.lock().unwrap().iter().map(|(id, outcome)| (id.clone(), *outcome.as_ref().unwrap())).collect();
        assert_eq!(settled, [("1".to_owned(), 1), ("2".to_owned(), 2)]);
    });
}
