//! A node of a cluster: joins the cluster, and runs the thread that publishes and follows the log.

use super::agreed_values::{AgreedValues, MESSAGE_VERSION};
use super::chain_history::ChainHistory;
use super::committer_link::CommitterLink;
use super::config::NodeConfig;
use super::error::JoinError;
use super::follower::follow_log;
use super::jetstream::{JetStreamLog, LogStart, StreamIdentity};
use super::marker::{check_marker, write_marker};
use super::member_status::MemberStatus;
use super::publisher::publish_proposals;
use super::registry::NodeRegistry;
use super::shared_log::Proposal;
use super::training_results::{TrainingRequests, TrainingResults, serve_training_results};
use super::watcher::{ClusterWatcher, own_report};
use crate::clock::Clock;
use crate::metrics::{Metrics, ThreadRole};
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The longest time for which a stopping node gives its name back.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// A node that has joined its cluster. It publishes and follows nothing before
/// [`ClusterMember::follow`].
pub struct ClusterMember {
    status: Arc<MemberStatus>,
    run: String,
    identity: StreamIdentity,
    start: oneshot::Sender<Box<dyn CommitterLink>>,
    proposals: mpsc::UnboundedSender<Proposal>,
    training_results: TrainingResults,
}

/// Proposes messages to the shared log.
#[derive(Debug)]
pub struct Proposer {
    proposals: mpsc::UnboundedSender<Proposal>,
    run: String,
    count: u64,
}

impl Proposer {
    /// Proposes a message. Returns its id, with which the committer is told the outcome.
    pub fn propose(&mut self, payload: Vec<u8>) -> String {
        self.count += 1;
        let id = format!("{}-{}", self.run, self.count);
        // If the thread has stopped, the proposal times out.
        let _ = self.proposals.send(Proposal { id: id.clone(), payload: payload.into() });
        id
    }
}

/// What the thread tells about its start.
type JoinOutcome = Result<(Arc<MemberStatus>, String, StreamIdentity), JoinError>;

impl ClusterMember {
    /// Joins the cluster: connects to the servers, checks them and the stream, and reserves the
    /// node's name. `start` is the state of the journal.
    ///
    /// # Errors
    /// [`JoinError`] if the node cannot join.
    pub async fn join(config: NodeConfig, start: LogStart, metrics: Arc<Metrics>) -> Result<Self, JoinError> {
        check_marker(&start.dir, &config.cluster)?;
        let (joined, outcome) = oneshot::channel();
        let (link, receive_link) = oneshot::channel();
        let (proposals, receive_proposals) = mpsc::unbounded_channel();
        let (training_results, training_requests) = TrainingResults::new();
        let (dir, cluster) = (start.dir.clone(), config.cluster.clone());
        let run = move || {
            ThreadRole::Cluster.name_current_thread();
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(joined.send(Err(JoinError::Thread { reason: error.to_string() }))),
            };
            let requests = MemberRequests { link: receive_link, proposals: receive_proposals, training_requests };
            runtime.block_on(run_member(config, start, metrics, joined, requests));
        };
        std::thread::Builder::new().spawn(run).map_err(|error| JoinError::Thread { reason: error.to_string() })?;
        let stopped = JoinError::Thread { reason: "it stopped".to_owned() };
        let (status, run, identity) = outcome.await.unwrap_or(Err(stopped))?;
        write_marker(&dir, &cluster, &identity.id)?;
        Ok(Self { status, run, identity, start: link, proposals, training_results })
    }

    /// The state of the node.
    #[must_use]
    pub fn status(&self) -> Arc<MemberStatus> {
        Arc::clone(&self.status)
    }

    /// Shares the results of trainings with the other nodes.
    #[must_use]
    pub fn training_results(&self) -> TrainingResults {
        self.training_results.clone()
    }

    /// The key with which the nodes of the cluster hash the senders of entries.
    #[must_use]
    pub fn origin_key(&self) -> [u8; 16] {
        self.identity.origin_key
    }

    /// Begins to follow the log, and to publish proposals. The node leaves its cluster when the
    /// returned proposer and the committer of `link` are gone.
    #[must_use]
    pub fn follow(self, link: Box<dyn CommitterLink>) -> Proposer {
        // If the thread has stopped, proposals time out.
        let _ = self.start.send(link);
        Proposer { proposals: self.proposals, run: self.run, count: 0 }
    }
}

/// What the thread receives from the node.
struct MemberRequests {
    /// The committer, once the node begins to follow the log.
    link: oneshot::Receiver<Box<dyn CommitterLink>>,
    proposals: mpsc::UnboundedReceiver<Proposal>,
    training_requests: TrainingRequests,
}

/// Runs the node until its committer is gone.
async fn run_member(
    config: NodeConfig,
    start: LogStart,
    metrics: Arc<Metrics>,
    joined: oneshot::Sender<JoinOutcome>,
    requests: MemberRequests,
) {
    let MemberRequests { link, proposals, training_requests } = requests;
    let status = MemberStatus::new(config.cluster.clone(), config.node.clone(), config.max_lag, Clock::system());
    let position = start.position.unwrap_or_default();
    status.record_applied(position.sequence, start.entries);
    let status = Arc::new(status);
    let history = RefCell::new(ChainHistory::default());
    history.borrow_mut().push(position.sequence, position.chain);
    let opened = async {
        let log = JetStreamLog::open(&config, &start).await?;
        let report = own_report(&config, &status, &history.borrow());
        let registry = NodeRegistry::join(&log, &config, &report).await?;
        let agreed = AgreedValues::open(log.context(), &config).await?;
        check_message_version(&config, agreed.get(MESSAGE_VERSION).await?)?;
        Ok((log, registry, agreed))
    };
    let (log, registry, agreed) = match opened.await {
        Ok(opened) => opened,
        Err(error) => return drop(joined.send(Err(error))),
    };
    status.set_max_message_bytes(log.max_message_bytes());
    let run = format!("{}-{}", config.node, registry.run_number());
    if joined.send(Ok((Arc::clone(&status), run, log.identity().clone()))).is_err() {
        return;
    }
    let mut watcher = ClusterWatcher::new((&log, registry, agreed), &config, &status, &history, &metrics);
    let follow = async {
        let Ok(link) = link.await else { return };
        tokio::select! {
            () = follow_log(&log, &*link, &status, &history, position) => {}
            () = publish_proposals(&log, &*link, &status, &metrics, proposals) => {}
        }
    };
    tokio::select! {
        () = follow => {}
        () = watcher.run() => {}
        () = serve_training_results(log.context(), &config, &log.identity().id, training_requests) => {}
    }
    let _ = tokio::time::timeout(LEAVE_TIMEOUT, watcher.leave()).await;
}

/// Checks that this node reads the messages of the other nodes.
fn check_message_version(config: &NodeConfig, agreed: u64) -> Result<(), JoinError> {
    let own = config.message_version;
    if agreed > u64::from(own) { Err(JoinError::MessageVersion { agreed, own }) } else { Ok(()) }
}
