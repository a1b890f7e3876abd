//! Membership in a cluster.

use super::InvalidSetting;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Longest name of a cluster or of a node, in bytes.
const MAX_NAME_BYTES: usize = 64;
/// Largest number of servers and of monitoring addresses.
const MAX_SERVERS: usize = 64;

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
    }
}
