//! Watches the stream and the other nodes, and reports the state of this node.

use super::agreed_values::{AgreedValues, ERASED_THROUGH, MESSAGE_VERSION};
use super::chain_history::ChainHistory;
use super::config::NodeConfig;
use super::error::JoinError;
use super::jetstream::JetStreamLog;
use super::lease::{Lease, SNAPSHOT_LEASE, TRAINING_LEASE};
use super::member_status::MemberStatus;
use super::message::OLDEST_MESSAGE_VERSION;
use super::node_report::{NodeReport, to_hex};
use super::registry::NodeRegistry;
use super::state_comparison::find_state_mismatch;
use crate::clock::Clock;
use crate::domain::NodeRole;
use crate::metrics::Metrics;
use std::cell::RefCell;
use std::time::Duration;

/// The time between two looks at the state of the stream and of the other nodes.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time between two changes of the server while the node is cut off.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(4);

/// Watches the stream and the other nodes, and reports the state of this node.
pub(super) struct ClusterWatcher<'m> {
    log: &'m JetStreamLog,
    registry: NodeRegistry,
    agreed: AgreedValues,
    snapshot_lease: Lease,
    training_lease: Lease,
    config: &'m NodeConfig,
    status: &'m MemberStatus,
    history: &'m RefCell<ChainHistory>,
    metrics: &'m Metrics,
    clock: Clock,
    last_reconnect: Duration,
}

/// The report of this node.
pub(super) fn own_report(config: &NodeConfig, status: &MemberStatus, history: &ChainHistory) -> NodeReport {
    let (sequence, chain) = history.last();
    NodeReport {
        node: config.node.clone(),
        data_dir_id: config.data_dir_id.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        role: config.role,
        message_version: config.message_version,
        offset: status.applied_offset(),
        sequence,
        chain: to_hex(&chain),
        points: history.points(),
        problem: status.write_problem().unwrap_or_default(),
        states: status.states().to_vec(),
        last_removal: status.last_removal(),
        removed_through: status.removed_through(),
    }
}

impl<'m> ClusterWatcher<'m> {
    pub(super) fn new(
        (log, registry, agreed): (&'m JetStreamLog, NodeRegistry, AgreedValues),
        config: &'m NodeConfig,
        status: &'m MemberStatus,
        history: &'m RefCell<ChainHistory>,
        metrics: &'m Metrics,
    ) -> Self {
        let (snapshot_lease, training_lease) = (Lease::new(SNAPSHOT_LEASE), Lease::new(TRAINING_LEASE));
        Self {
            log,
            registry,
            agreed,
            snapshot_lease,
            training_lease,
            config,
            status,
            history,
            metrics,
            clock: Clock::system(),
            last_reconnect: Duration::ZERO,
        }
    }

    /// Watches the cluster for as long as the node runs.
    pub(super) async fn run(&mut self) {
        let mut ticks = tokio::time::interval(WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look().await;
            // The server of the connection may be separated from the others, while the connection
            // works.
            if self.status.is_cut_off() && self.clock.elapsed().saturating_sub(self.last_reconnect) > RECONNECT_INTERVAL
            {
                self.last_reconnect = self.clock.elapsed();
                self.log.reconnect().await;
            }
            self.status.set_max_message_bytes(self.log.max_message_bytes());
            self.metrics.cluster_lag_entries.set(self.status.lag_entries() as f64);
            self.metrics.cluster_nodes.set(self.status.nodes().len() as f64);
            self.metrics.cluster_chain_mismatch.set(f64::from(u8::from(self.status.has_mismatch())));
        }
    }

    /// Gives the name and the leases of this node back.
    pub(super) async fn leave(&mut self) {
        for lease in [&mut self.snapshot_lease, &mut self.training_lease] {
            self.registry.release_lease(lease).await;
        }
        self.registry.leave().await;
    }

    /// Looks at the stream and the other nodes once, and renews the report of this node.
    async fn look(&mut self) {
        let report = own_report(self.config, self.status, &self.history.borrow());
        let (bounds, renewal) = tokio::join!(self.log.bounds(), self.registry.renew(&report));
        match (bounds, renewal) {
            (Err(_), _) | (_, Err(JoinError::Log(_))) => self.record_leases(false, false),
            (Ok((_, last)), Err(error)) => {
                self.status.record_contact(last);
                self.record_leases(false, false);
                self.status.set_mismatch(error.to_string());
            }
            // A leader that is separated from the other servers still answers requests for some
            // time. It cannot renew the report, which needs a majority.
            (Ok((_, last)), Ok(())) => {
                self.status.record_contact(last);
                self.hold_leases().await;
                if let Ok(reports) = self.registry.reports().await {
                    self.compare_nodes(&report, reports);
                }
                self.read_erased_through().await;
                self.agree_on_message_version().await;
            }
        }
    }

    fn record_leases(&self, snapshots: bool, training: bool) {
        self.status.set_holds_snapshot_lease(snapshots);
        self.status.set_holds_training_lease(training);
    }

    /// Takes the leases that no other node holds, and renews its own ones.
    async fn hold_leases(&mut self) {
        let snapshots = self.registry.hold_lease(&mut self.snapshot_lease).await;
        let training =
            self.config.role == NodeRole::Learner && self.registry.hold_lease(&mut self.training_lease).await;
        self.record_leases(snapshots, training);
    }

    /// Compares the journal and the learned state with those of the other nodes.
    fn compare_nodes(&self, own: &NodeReport, reports: Vec<NodeReport>) {
        let others = || reports.iter().filter(|report| report.node != self.config.node);
        let journal = self.history.borrow().find_mismatch(others()).map(|found| {
            format!(
                "after message {} of the cluster's log, the journal of this node agrees with {} of {} nodes; restore a backup of another node into the data directory of this one",
                found.sequence, found.agreeing, found.nodes
            )
        });
        let state = || {
            find_state_mismatch(own, others()).map(|found| {
            format!(
                "at offset {} of the journal, the learned state of this node agrees with {} of {} nodes; check that the settings of the model are equal on all nodes, empty the data directory of this node and run `sequor cluster join`",
                found.offset, found.agreeing, found.nodes
            )
        })
        };
        // A mismatch remains until the node starts again.
        if let Some(reason) = journal.or_else(state) {
            self.status.set_mismatch(reason);
        }
        self.status.set_nodes(reports);
    }

    /// Reads how far removals have reached the servers, if some have not.
    async fn read_erased_through(&self) {
        let wanted = self.status.nodes().iter().map(|report| report.last_removal).max().unwrap_or(0);
        if wanted > self.status.erased_through()
            && let Ok(offset) = self.agreed.get(ERASED_THROUGH).await
        {
            self.status.record_erased_through(offset);
        }
    }

    /// Uses the newest version of the message form that all running nodes read. The version only
    /// increases. A node that does not read it cannot join later.
    async fn agree_on_message_version(&self) {
        let own = self.config.message_version;
        if self.status.message_version() >= own {
            return;
        }
        let readable = self.status.nodes().iter().map(|report| report.message_version).min();
        let Some(readable) = readable.filter(|version| *version > OLDEST_MESSAGE_VERSION) else { return };
        let agree = async {
            self.agreed.raise(MESSAGE_VERSION, u64::from(readable.min(own))).await?;
            self.agreed.get(MESSAGE_VERSION).await
        };
        // Without an answer, the next look tries again.
        if let Ok(agreed) = agree.await {
            let version = u8::try_from(agreed).unwrap_or(own).clamp(OLDEST_MESSAGE_VERSION, own);
            self.status.set_message_version(version);
        }
    }
}
