//! Faults of nodes and servers, in an order that follows from a seed.

use std::time::Duration;

use crate::cluster_daemons::{ClusterDaemons, ClusterNode, NODE_COUNT};
use crate::nats_servers::{NatsServers, SERVER_COUNT};
use crate::random::TestRng;
use crate::tcp_proxy::LinkState;

/// What fails, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// A daemon is killed and restarted.
    KillNode,
    /// A daemon's threads stop for some time.
    PauseNode,
    /// Packets between a daemon and all servers are lost.
    HangNode,
    /// Connections between a daemon and all servers are reset.
    CutNode,
    /// A daemon is killed, loses its data directory and restarts.
    WipeNode,
    /// All daemons are killed at once.
    KillAllNodes,
    /// A server is killed and restarted.
    KillServer,
    /// A server's threads stop for some time.
    PauseServer,
    /// Packets between a server and the other servers are lost. Daemons still reach the server.
    SeparateServer,
    /// A server is killed, loses its disk and restarts.
    WipeServer,
    /// All servers are killed at once.
    KillAllServers,
}

const FAULT_KINDS: [FaultKind; 11] = [
    FaultKind::KillNode,
    FaultKind::PauseNode,
    FaultKind::HangNode,
    FaultKind::CutNode,
    FaultKind::WipeNode,
    FaultKind::KillAllNodes,
    FaultKind::KillServer,
    FaultKind::PauseServer,
    FaultKind::SeparateServer,
    FaultKind::WipeServer,
    FaultKind::KillAllServers,
];

/// One fault with its targets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    kind: FaultKind,
    node: usize,
    server: usize,
    /// How long the fault lasts after other nodes have worked under it.
    further_ms: u64,
}

/// Draws faults. Every kind occurs once before a kind occurs again.
pub(crate) struct FaultSchedule {
    random: TestRng,
    remaining: Vec<FaultKind>,
}

impl FaultSchedule {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: TestRng(seed), remaining: Vec::new() }
    }

    /// The next fault. Its server is mostly the leader of the log.
    pub(crate) fn next_fault(&mut self, servers: &NatsServers) -> Fault {
        if self.remaining.is_empty() {
            self.remaining = FAULT_KINDS.to_vec();
            let chosen = std::env::var("SEQUOR_CLUSTER_FAULT").unwrap_or_default();
            self.remaining.retain(|kind| format!("{kind:?}").contains(&chosen));
        }
        let kind = self.remaining.swap_remove(self.random.number_below(self.remaining.len() as u64) as usize);
        let any_server = self.random.number_below(SERVER_COUNT as u64) as usize;
        let is_leader = self.random.number_below(3) > 0;
        let server = if is_leader { servers.stream_leader().unwrap_or(any_server) } else { any_server };
        let node = self.random.number_below(NODE_COUNT as u64) as usize;
        Fault { kind, node, server, further_ms: self.random.number_below(1500) }
    }
}

impl Fault {
    /// The nodes that need not acknowledge during the fault. `None` if no node can.
    pub(crate) fn nodes_that_may_refuse(&self) -> Option<Vec<usize>> {
        match self.kind {
            FaultKind::KillAllNodes | FaultKind::KillAllServers => None,
            FaultKind::KillNode
            | FaultKind::PauseNode
            | FaultKind::HangNode
            | FaultKind::CutNode
            | FaultKind::WipeNode => Some(vec![self.node]),
            FaultKind::KillServer | FaultKind::PauseServer | FaultKind::SeparateServer | FaultKind::WipeServer => {
                Some(Vec::new())
            }
        }
    }

    /// How long the fault lasts after other nodes have worked under it.
    pub(crate) fn further_duration(&self) -> Duration {
        Duration::from_millis(self.further_ms)
    }

    pub(crate) fn begin(&self, servers: &mut NatsServers, daemons: &ClusterDaemons) {
        let node = &daemons.nodes[self.node];
        match self.kind {
            FaultKind::KillNode | FaultKind::WipeNode => node.kill(),
            FaultKind::PauseNode => node.pause(),
            FaultKind::HangNode => node.set_links(LinkState::Hung),
            FaultKind::CutNode => node.set_links(LinkState::Refused),
            FaultKind::KillAllNodes => daemons.nodes.iter().for_each(ClusterNode::kill),
            FaultKind::KillServer => servers.kill(self.server),
            FaultKind::PauseServer => servers.pause(self.server),
            FaultKind::SeparateServer => servers.set_routes(self.server, LinkState::Hung),
            FaultKind::WipeServer => {
                // A disk may be lost only while the other servers have every message.
                servers.wait_until_healthy();
                servers.kill(self.server);
            }
            FaultKind::KillAllServers => (0..SERVER_COUNT).for_each(|server| servers.kill(server)),
        }
    }

    pub(crate) fn end(&self, servers: &mut NatsServers, daemons: &ClusterDaemons) {
        let node = &daemons.nodes[self.node];
        match self.kind {
            FaultKind::KillNode => node.launch(),
            FaultKind::PauseNode => node.resume(),
            FaultKind::HangNode | FaultKind::CutNode => node.set_links(LinkState::Up),
            FaultKind::WipeNode => {
                node.wipe();
                node.join();
                node.launch();
            }
            FaultKind::KillAllNodes => daemons.nodes.iter().for_each(ClusterNode::launch),
            FaultKind::KillServer => servers.launch(self.server),
            FaultKind::PauseServer => servers.resume(self.server),
            FaultKind::SeparateServer => servers.set_routes(self.server, LinkState::Up),
            FaultKind::WipeServer => {
                servers.wait_until_healthy();
                servers.wipe(self.server);
                servers.launch(self.server);
            }
            FaultKind::KillAllServers => (0..SERVER_COUNT).for_each(|server| servers.launch(server)),
        }
        servers.wait_until_healthy();
    }
}
