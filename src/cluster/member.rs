//! A node of a cluster: joins the cluster, and runs the thread that publishes and follows the log.

use super::chain_history::ChainHistory;
use super::committer_link::CommitterLink;
use super::config::NodeConfig;
use super::error::JoinError;
use super::follower::follow_log;
use super::jetstream::{JetStreamLog, LogStart, StreamIdentity};
use super::marker::{check_marker, write_marker};
use super::member_status::MemberStatus;
use super::message::MESSAGE_VERSION;
use super::node_report::{NodeReport, to_hex};
use super::publisher::publish_proposals;
use super::registry::NodeRegistry;
use super::shared_log::Proposal;
use crate::clock::Clock;
use crate::metrics::{Metrics, ThreadRole};
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The time between two looks at the state of the stream and of the other nodes.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time between two changes of the server while the node is cut off.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(4);
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
        let (dir, cluster) = (start.dir.clone(), config.cluster.clone());
        let run = move || {
            ThreadRole::Cluster.name_current_thread();
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(joined.send(Err(JoinError::Thread { reason: error.to_string() }))),
            };
            runtime.block_on(run_member(config, start, metrics, joined, receive_link, receive_proposals));
        };
        std::thread::Builder::new().spawn(run).map_err(|error| JoinError::Thread { reason: error.to_string() })?;
        let stopped = JoinError::Thread { reason: "it stopped".to_owned() };
        let (status, run, identity) = outcome.await.unwrap_or(Err(stopped))?;
        write_marker(&dir, &cluster, &identity.id)?;
        Ok(Self { status, run, identity, start: link, proposals })
    }

    /// The state of the node.
    #[must_use]
    pub fn status(&self) -> Arc<MemberStatus> {
        Arc::clone(&self.status)
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

/// Runs the node until its committer is gone.
async fn run_member(
    config: NodeConfig,
    start: LogStart,
    metrics: Arc<Metrics>,
    joined: oneshot::Sender<JoinOutcome>,
    link: oneshot::Receiver<Box<dyn CommitterLink>>,
    proposals: mpsc::UnboundedReceiver<Proposal>,
) {
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
        Ok((log, registry))
    };
    let (log, mut registry) = match opened.await {
        Ok(opened) => opened,
        Err(error) => return drop(joined.send(Err(error))),
    };
    status.set_max_message_bytes(log.max_message_bytes());
    let run = format!("{}-{}", config.node, registry.run_number());
    if joined.send(Ok((Arc::clone(&status), run, log.identity().clone()))).is_err() {
        return;
    }
    let follow = async {
        let Ok(link) = link.await else { return };
        tokio::select! {
            () = follow_log(&log, &*link, &status, &history, position) => {}
            () = publish_proposals(&log, &*link, &status, &metrics, proposals) => {}
        }
    };
    tokio::select! {
        () = follow => {}
        () = watch_cluster(&log, &mut registry, &config, &status, &history, &metrics) => {}
    }
    let _ = tokio::time::timeout(LEAVE_TIMEOUT, registry.leave()).await;
}

fn own_report(config: &NodeConfig, status: &MemberStatus, history: &ChainHistory) -> NodeReport {
    let (sequence, chain) = history.last();
    NodeReport {
        node: config.node.clone(),
        data_dir_id: config.data_dir_id.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        message_version: MESSAGE_VERSION,
        offset: status.applied_offset(),
        sequence,
        chain: to_hex(&chain),
        points: history.points(),
        problem: status.write_problem().unwrap_or_default(),
    }
}

/// Watches the stream and the other nodes, and reports the state of this node.
async fn watch_cluster(
    log: &JetStreamLog,
    registry: &mut NodeRegistry,
    config: &NodeConfig,
    status: &MemberStatus,
    history: &RefCell<ChainHistory>,
    metrics: &Metrics,
) {
    let mut ticks = tokio::time::interval(WATCH_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (clock, mut last_reconnect) = (Clock::system(), Duration::ZERO);
    loop {
        ticks.tick().await;
        let report = own_report(config, status, &history.borrow());
        let (bounds, renewal) = tokio::join!(log.bounds(), registry.renew(&report));
        match (bounds, renewal) {
            (Err(_), _) | (_, Err(JoinError::Log(_))) => {}
            (Ok((_, last)), Err(error)) => {
                status.record_contact(last);
                status.set_mismatch(error.to_string());
            }
            // A leader that is separated from the other servers still answers requests for some
            // time. It cannot renew the report, which needs a majority.
            (Ok((_, last)), Ok(())) => {
                status.record_contact(last);
                if let Ok(reports) = registry.reports().await {
                    compare_chains(config, status, &history.borrow(), reports);
                }
            }
        }
        // The server of the connection may be separated from the others, while the connection works.
        if status.is_cut_off() && clock.elapsed().saturating_sub(last_reconnect) > RECONNECT_INTERVAL {
            last_reconnect = clock.elapsed();
            log.reconnect().await;
        }
        status.set_max_message_bytes(log.max_message_bytes());
        metrics.cluster_lag_entries.set(status.lag_entries() as f64);
        metrics.cluster_nodes.set(status.nodes().len() as f64);
        metrics.cluster_chain_mismatch.set(f64::from(u8::from(status.has_mismatch())));
    }
}

fn compare_chains(config: &NodeConfig, status: &MemberStatus, history: &ChainHistory, reports: Vec<NodeReport>) {
    let others = reports.iter().filter(|report| report.node != config.node);
    let mismatch = history.find_mismatch(others).map(|found| {
        format!(
            "after message {} of the cluster's log, the journal of this node agrees with {} of {} nodes; restore a backup of another node into the data directory of this one",
            found.sequence, found.agreeing, found.nodes
        )
    });
    // A mismatch remains until the node starts with another journal.
    if let Some(reason) = mismatch {
        status.set_mismatch(reason);
    }
    status.set_nodes(reports);
}
