//! Membership in a cluster.

use super::{InvalidSetting, Period};
use crate::domain::NodeRole;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// Longest name of a cluster or of a node, in bytes.
const MAX_NAME_BYTES: usize = 64;
/// Largest number of servers and of monitoring addresses.
const MAX_SERVERS: usize = 64;
/// Longest time that a replica waits for a result.
const MAX_TRAIN_AFTER: Duration = Duration::from_secs(600);
/// The newest version of the message form.
const MAX_MESSAGE_VERSION: u8 = 2;
/// Longest time after which erased entries are removed from the servers.
const MAX_ERASE_WITHIN: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Membership in a cluster: several daemons that share one journal, which NATS JetStream orders and
/// replicates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterMemberSettings {
    /// URLs of the NATS servers, such as `nats://10.0.0.1:4222`, or `tls://…`; empty: the daemon is
    /// a single node.
    pub servers: Vec<String>,
    /// Name of the cluster: 1 to 64 letters, digits, `-` and `_`. Clusters with different names can
    /// use the same servers.
    pub name: String,
    /// Name of this node, unique in the cluster: 1 to 64 letters, digits, `-`, `_` and `.`; empty:
    /// the host name.
    pub node: String,
    /// Number of servers that store each message of the stream: 1, 3 or 5.
    pub replicas: u8,
    /// File with the credentials for the servers: a credentials file of NATS, or one line
    /// `user:password`; empty: no credentials.
    pub credentials: PathBuf,
    /// File with the certificates (PEM) of the authorities that signed the servers' certificates;
    /// empty: the system's certificates.
    pub tls_ca: PathBuf,
    /// Base URLs of the servers' monitoring endpoints, such as `http://10.0.0.1:8222`. With
    /// `store.durability = "power_loss"`, the daemon asks them whether the servers sync every
    /// message before they acknowledge it.
    pub monitors: Vec<String>,
    /// Number of entries that the node may be behind the stream before `/readyz` fails,
    /// 1..=1,000,000,000.
    pub max_lag: u64,
    /// Whether the servers may acknowledge messages that they have not synced. A power loss of
    /// several servers can then lose acknowledged events from the stream.
    pub accept_lazy_sync: bool,
    /// What the node does for the learned weights. `learner`: it trains, and one of the learners
    /// publishes the results. `replica`: it uses these results, which takes less processor time.
    pub role: NodeRole,
    /// Longest time that a replica waits for the result of a training. Then it trains itself. 0s..=10m.
    pub train_after: Period,
    /// Newest version of the message form that the node uses, 1..=2; 0: the newest that the program
    /// knows. If it is set to the old version during an update, a return to the old program remains
    /// possible.
    pub message_version: u8,
    /// Number of entries between two learned states that the nodes compare; 0: none.
    /// 0..=1,000,000,000,000.
    pub compare_every: u64,
    /// Number of entries after which one of the nodes stores the next snapshot, from which new nodes
    /// join; 0: no snapshots by entries. 0..=1,000,000,000,000.
    pub snapshot_every: u64,
    /// Time after which erased and expired entries are also removed from the servers: one of the
    /// nodes stores a snapshot without them, and removes earlier snapshots and messages. 0s..=30d.
    pub erase_within: Period,
    /// Directory for the file of a snapshot while it is stored, outside the data directory; empty:
    /// the system's directory for temporary files.
    pub work_dir: PathBuf,
}

impl Default for ClusterMemberSettings {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            name: "sequor".to_owned(),
            node: String::new(),
            replicas: 3,
            credentials: PathBuf::new(),
            tls_ca: PathBuf::new(),
            monitors: Vec::new(),
            max_lag: 10_000,
            accept_lazy_sync: false,
            role: NodeRole::Learner,
            train_after: Period::from_seconds(2),
            message_version: 0,
            compare_every: 100_000,
            snapshot_every: 1_000_000,
            erase_within: Period::from_minutes(60),
            work_dir: PathBuf::new(),
        }
    }
}

impl ClusterMemberSettings {
    /// Whether the daemon is a node of a cluster.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        !self.servers.is_empty()
    }

    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        for (key, urls, schemes, example) in [
            ("cluster.servers", &self.servers, &["nats://", "tls://"], "nats://10.0.0.1:4222"),
            ("cluster.monitors", &self.monitors, &["http://", "https://"], "http://10.0.0.1:8222"),
        ] {
            if urls.len() > MAX_SERVERS {
                return Err(InvalidSetting::new(key, format!("{} URLs", urls.len()), format!("at most {MAX_SERVERS}")));
            }
            if !urls.iter().all(|url| is_server_url(url, schemes)) {
                // The error omits the value, because it may contain a password.
                return Err(InvalidSetting::new(
                    key,
                    "…",
                    format!("a list of URLs such as {example}, without user name and password"),
                ));
            }
        }
        if !is_name(&self.name, b"-_") {
            return Err(InvalidSetting::new(
                "cluster.name",
                format!("{:?}", self.name),
                format!("1 to {MAX_NAME_BYTES} letters, digits, `-` and `_`"),
            ));
        }
        if !self.node.is_empty() && !is_node_name(&self.node) {
            return Err(InvalidSetting::new(
                "cluster.node",
                format!("{:?}", self.node),
                format!("1 to {MAX_NAME_BYTES} letters, digits, `-`, `_` and inner `.`, or empty"),
            ));
        }
        if ![1, 3, 5].contains(&self.replicas) {
            return Err(InvalidSetting::new("cluster.replicas", self.replicas, "1, 3 or 5"));
        }
        if self.erase_within.get().is_none_or(|period| period > MAX_ERASE_WITHIN) {
            return Err(InvalidSetting::new("cluster.erase_within", self.erase_within, "0s to 30d"));
        }
        InvalidSetting::check_range("cluster.message_version", self.message_version, 0..=MAX_MESSAGE_VERSION)?;
        InvalidSetting::check_range("cluster.compare_every", self.compare_every, 0..=1_000_000_000_000)?;
        if self.train_after.get().is_none_or(|period| period > MAX_TRAIN_AFTER) {
            return Err(InvalidSetting::new("cluster.train_after", self.train_after, "0s to 10m"));
        }
        InvalidSetting::check_range("cluster.snapshot_every", self.snapshot_every, 0..=1_000_000_000_000)?;
        InvalidSetting::check_range("cluster.max_lag", self.max_lag, 1..=1_000_000_000)
    }
}

/// Whether a text can be the name of a node.
#[must_use]
pub fn is_node_name(name: &str) -> bool {
    is_name(name, b"-_.") && !name.starts_with('.') && !name.ends_with('.') && !name.contains("..")
}

fn is_name(name: &str, others: &[u8]) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
}

/// Whether a text is a URL of one of the schemes, without credentials, query and fragment.
fn is_server_url(url: &str, schemes: &[&str]) -> bool {
    let rest = schemes.iter().find_map(|scheme| url.strip_prefix(scheme)).unwrap_or_default();
    !rest.is_empty()
        && !rest.starts_with(['/', ':'])
        && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"@?#,\\\"<>{}|^`".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_a_cluster_are_checked() {
        let error = |change: fn(&mut ClusterMemberSettings)| {
            let mut settings =
                ClusterMemberSettings { servers: vec!["nats://a:4222".to_owned()], ..Default::default() };
            change(&mut settings);
            settings.check().map_err(|error| error.key).err().unwrap_or_default()
        };
        let url = |url: &str| vec![url.to_owned()];
        assert_eq!(error(|_| {}), "");
        assert_eq!(error(|s| s.servers = vec!["tls://[::1]:4222".to_owned(), "nats://b".to_owned()]), "");
        for bad in ["a:4222", "http://a", "nats://", "nats://ann:secret@a", "nats://a,nats://b"] {
            let settings = ClusterMemberSettings { servers: url(bad), ..Default::default() };
            let message = settings.check().unwrap_err().to_string();
            assert!(message.starts_with("cluster.servers = …") && !message.contains("secret"), "{message}");
        }
        assert_eq!(error(|s| s.monitors = vec!["nats://a".to_owned()]), "cluster.monitors");
        assert_eq!(error(|s| s.name = "a.b".to_owned()), "cluster.name");
        assert_eq!(error(|s| s.name = String::new()), "cluster.name");
        assert_eq!(error(|s| s.node = "host.example".to_owned()), "");
        assert_eq!(error(|s| s.node = "host.".to_owned()), "cluster.node");
        assert_eq!(error(|s| s.replicas = 2), "cluster.replicas");
        assert_eq!(error(|s| s.max_lag = 0), "cluster.max_lag");
        assert_eq!(error(|s| s.erase_within = Period::OFF), "cluster.erase_within");
        assert_eq!(error(|s| s.erase_within = Period::from_minutes(30 * 24 * 60 + 1)), "cluster.erase_within");
        assert_eq!(error(|s| s.train_after = Period::from_minutes(11)), "cluster.train_after");
        assert_eq!(error(|s| s.message_version = 3), "cluster.message_version");
        assert_eq!(error(|s| s.compare_every = 1_000_000_000_001), "cluster.compare_every");
        assert_eq!(error(|s| s.snapshot_every = 1_000_000_000_001), "cluster.snapshot_every");
    }
}
