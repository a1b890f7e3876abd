//! Daemons of the real binary on one replicated log, each of which can be killed, paused, cut off
//! from the servers, restarted and wiped.

use std::fs;
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::daemon::{Daemon, DaemonHome, run_sequor, wait_for};
use crate::nats_servers::{NatsServers, SERVER_COUNT};
use crate::tcp_proxy::{LinkState, TcpProxy};

/// Number of daemons.
pub(crate) const NODE_COUNT: usize = 3;

/// Short intervals, so that a short test crosses training boundaries, clusterings and checkpoints.
/// The training share is constant, because a change of the share depends on the machine's speed.
const DAEMON_SETTINGS: [&str; 8] = [
    "safety.training_share_min=1",
    "learning.interval=64",
    "clusters.every=512",
    "clusters.lag=128",
    "store.checkpoint_every=300",
    "session.shards=2",
    "cluster.compare_every=256",
    "cluster.snapshot_every=0",
];

/// One node: its directory, its links to the servers, and its running daemon.
pub(crate) struct ClusterNode {
    // Dropped before the directory, which contains the log that a failed test prints.
    daemon: Mutex<Option<Arc<Daemon>>>,
    pub(crate) home: DaemonHome,
    links: Vec<TcpProxy>,
    settings: Vec<String>,
}

impl ClusterNode {
    /// A node that is down, with links to all servers. `settings` replace the usual settings of the
    /// same names.
    pub(crate) fn new(servers: &NatsServers, name: &str, settings: &[String]) -> Self {
        let links: Vec<_> = (0..SERVER_COUNT).map(|server| TcpProxy::start(servers.client_port(server))).collect();
        let urls: Vec<_> = links.iter().map(|link| format!("nats://127.0.0.1:{}", link.port())).collect();
        let usual = DAEMON_SETTINGS.map(str::to_owned).into_iter().chain([
            format!("cluster.servers={}", json!(urls)),
            format!("cluster.monitors={}", json!(servers.monitoring_urls())),
            "cluster.name=shop".to_owned(),
            format!("cluster.node={name}"),
            format!("cluster.replicas={SERVER_COUNT}"),
        ]);
        let name_of = |setting: &str| setting.split('=').next().unwrap_or_default().to_owned();
        let is_replaced = |usual: &String| settings.iter().any(|setting| name_of(setting) == name_of(usual));
        let settings = usual.filter(|setting| !is_replaced(setting)).chain(settings.iter().cloned()).collect();
        Self { daemon: Mutex::new(None), home: DaemonHome::new(), links, settings }
    }

    /// The settings of the node's daemon.
    pub(crate) fn settings(&self) -> Vec<&str> {
        self.settings.iter().map(String::as_str).collect()
    }

    /// The running daemon.
    pub(crate) fn daemon(&self) -> Option<Arc<Daemon>> {
        self.daemon.lock().unwrap().clone()
    }

    /// Starts the daemon, again and again until it keeps running, as a supervisor does. It may exit
    /// while the servers elect a leader.
    pub(crate) fn launch(&self) {
        let mut failure = String::new();
        let daemon = wait_for("a daemon to start", || {
            let show = |log: &String| {
                let reason = log.lines().next_back().unwrap_or_default();
                if reason != failure {
                    eprintln!("the daemon does not start: {reason}");
                    reason.clone_into(&mut failure);
                }
            };
            self.home.try_launch(&[], &self.settings()).inspect_err(show).ok()
        });
        *self.daemon.lock().unwrap() = Some(Arc::new(daemon));
    }

    /// Waits until the daemon is ready.
    pub(crate) fn wait_until_ready(&self) {
        wait_for("a ready node", || {
            let response = self.daemon()?.try_admin_request("GET", "/readyz", "").ok()?;
            (response.status == 200).then_some(())
        });
    }

    /// Kills the daemon with SIGKILL, and waits until it has exited.
    pub(crate) fn kill(&self) {
        if let Some(daemon) = self.take_down("KILL") {
            daemon.kill();
        }
    }

    /// Stops the daemon with SIGTERM, and expects a clean exit.
    pub(crate) fn terminate(&self) {
        if let Some(daemon) = self.take_down("CONT") {
            assert_eq!(daemon.terminate().code(), Some(0));
        }
    }

    /// Sends a signal and takes the daemon from its clients.
    fn take_down(&self, signal: &str) -> Option<Daemon> {
        let daemon = self.daemon.lock().unwrap().take()?;
        daemon.signal(signal);
        wait_for("the end of requests", || (Arc::strong_count(&daemon) == 1).then_some(()));
        Arc::into_inner(daemon)
    }

    /// Stops the daemon's threads with SIGSTOP.
    pub(crate) fn pause(&self) {
        self.daemon().unwrap().signal("STOP");
    }

    /// Continues a paused daemon.
    pub(crate) fn resume(&self) {
        self.daemon().unwrap().signal("CONT");
    }

    /// Sets the links to all servers.
    pub(crate) fn set_links(&self, state: LinkState) {
        self.links.iter().for_each(|link| link.set_link(state));
    }

    /// Runs a command with the settings and the data directory of the node. `Err` with the message if
    /// it fails.
    pub(crate) fn run_command(&self, command: &[&str]) -> Result<String, String> {
        let data = self.home.data_dir();
        let mut arguments = [command, &["--data-dir", data.to_str().unwrap()]].concat();
        self.settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
        let output = run_sequor(&arguments);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// Waits until the journal of the running node ends at an offset.
    pub(crate) fn wait_for_offset(&self, offset: u64) {
        wait_for("a node with all entries", || (self.daemon()?.next_offset() == offset).then_some(()));
    }

    /// Deletes everything that the node stored. The daemon must be down.
    pub(crate) fn wipe(&self) {
        assert!(self.daemon().is_none());
        fs::remove_dir_all(self.home.data_dir()).unwrap();
    }

    /// Loads the newest snapshot, if there is one, into the empty data directory. Tries again while the
    /// servers elect a leader, or know the node's former process.
    pub(crate) fn join(&self) {
        wait_for("a node to join", || match self.run_command(&["cluster", "join"]) {
            Ok(_) => Some(()),
            Err(error) => error.contains("has no snapshot").then_some(()),
        });
    }
}

/// The nodes of one cluster.
pub(crate) struct ClusterDaemons {
    pub(crate) nodes: Vec<ClusterNode>,
}

impl ClusterDaemons {
    /// Starts all nodes and waits until they are ready.
    pub(crate) fn start(servers: &NatsServers) -> Self {
        Self::start_with(servers, &[])
    }

    /// Starts all nodes with more settings, and waits until they are ready.
    pub(crate) fn start_with(servers: &NatsServers, settings: &[String]) -> Self {
        Self::start_each(servers, |_| settings.to_vec())
    }

    /// Starts all nodes, each with its own further settings, and waits until they are ready.
    pub(crate) fn start_each(servers: &NatsServers, settings: impl Fn(usize) -> Vec<String>) -> Self {
        let node = |number| ClusterNode::new(servers, &format!("node{number}"), &settings(number));
        let cluster = Self { nodes: (0..NODE_COUNT).map(node).collect() };
        cluster.nodes.iter().for_each(ClusterNode::launch);
        cluster.nodes.iter().for_each(ClusterNode::wait_until_ready);
        cluster
    }

    /// The running daemon of a node.
    pub(crate) fn daemon(&self, node: usize) -> Arc<Daemon> {
        self.nodes[node].daemon().unwrap()
    }

    /// Waits until all nodes have the same entries and have learned them. Returns the number of
    /// entries. Nothing may be sent meanwhile.
    pub(crate) fn wait_until_equal(&self) -> u64 {
        self.nodes.iter().for_each(ClusterNode::wait_until_ready);
        let mut previous = None;
        wait_for("all nodes to reach the same offset", || {
            let offsets: Vec<_> = (0..self.nodes.len())
                .flat_map(|node| {
                    let status = self.daemon(node).status();
                    ["journal", "learning"].map(|part| status[part]["next_offset"].as_u64().unwrap())
                })
                .collect();
            let is_stable = previous.as_ref() == Some(&offsets);
            let are_equal = offsets.iter().all(|offset| *offset == offsets[0]);
            previous = Some(offsets.clone());
            (is_stable && are_equal).then(|| offsets[0])
        })
    }
}
