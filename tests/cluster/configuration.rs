//! A daemon refuses a configuration with which it would not be a safe member of its cluster, and
//! says what to do.

use std::fs;

use crate::cluster_daemons::ClusterNode;
use crate::daemon::view_event;
use crate::nats_servers::NatsServers;

/// Starts a node's daemon, which must exit. Returns its log.
fn refusal(node: &ClusterNode) -> String {
    match node.home.try_launch(&[], &node.settings()) {
        Ok(_) => panic!("the daemon started with {:?}", node.settings()),
        Err(log) => log,
    }
}

/// Asserts that a new node with these settings is refused with a message that contains all parts.
fn assert_refused(servers: &NatsServers, settings: &[&str], parts: &[&str]) {
    let settings: Vec<_> = settings.iter().map(|setting| (*setting).to_owned()).collect();
    let log = refusal(&ClusterNode::new(servers, "newcomer", &settings));
    for part in parts {
        assert!(log.contains(part), "no {part:?} in the refusal of {settings:?}:\n{log}");
    }
}

fn started_node(servers: &NatsServers, name: &str, settings: &[&str]) -> ClusterNode {
    let settings: Vec<_> = settings.iter().map(|setting| (*setting).to_owned()).collect();
    let node = ClusterNode::new(servers, name, &settings);
    node.launch();
    node.wait_until_ready();
    node
}

#[test]
fn configurations_that_do_not_fit_the_servers_are_refused() {
    let Some(servers) = NatsServers::start("configurations of a cluster") else { return };
    // No server listens on port 1.
    let unknown = "cluster.servers=[\"nats://127.0.0.1:1\"]";
    assert_refused(&servers, &[unknown], &["127.0.0.1:1", "can be reached", "check the addresses"]);
    assert_refused(&servers, &["cluster.replicas=5"], &["cluster.replicas = 5", "start more servers", "set fewer"]);
    assert_refused(&servers, &["cluster.monitors=[]"], &["cluster.monitors", "cluster.accept_lazy_sync"]);
    // The stream exists with three replicas and the usual settings from here on.
    let node = started_node(&servers, "node0", &[]);
    assert_refused(&servers, &["cluster.replicas=1"], &["3 replicas", "cluster.replicas = 1"]);
    assert_refused(&servers, &["store.dedup_window=5000"], &["store.dedup_window", "equal on all nodes"]);
    // A running node keeps its name.
    let same_name = ClusterNode::new(&servers, "node0", &[]);
    let log = refusal(&same_name);
    assert!(log.contains("\"node0\"") && log.contains("its own cluster.node"), "{log}");
    assert_eq!(node.daemon().unwrap().send_events(&[view_event("e1", "ann", "tea")])["accepted"], 1);
    // A data directory belongs to one cluster.
    node.terminate();
    let mut other = node.settings();
    other.push("cluster.name=other");
    let Err(log) = node.home.try_launch(&[], &other) else { panic!("the node joined another cluster") };
    assert!(log.contains("\"shop\"") && log.contains("\"other\"") && log.contains("another data directory"), "{log}");
    // A journal without a cluster does not fit a stream that has begun.
    let foreign = ClusterNode::new(&servers, "foreign", &[]);
    let embedded = foreign.home.start(&[]);
    embedded.send_events(&[view_event("e1", "ann", "tea")]);
    assert!(embedded.terminate().success());
    let log = refusal(&foreign);
    assert!(log.contains("has 1 entries") && log.contains("backup of another node"), "{log}");
}

#[test]
fn servers_that_sync_later_are_refused_unless_accepted() {
    let Some(servers) = NatsServers::start_with_config("servers that sync later", "2m", "") else { return };
    assert_refused(&servers, &[], &["before it syncs", "sync_interval: always", "cluster.accept_lazy_sync = true"]);
    for accepted in ["cluster.accept_lazy_sync=true", "store.durability=process_crash"] {
        let node = started_node(&servers, "node0", &[accepted]);
        assert_eq!(node.daemon().unwrap().send_events(&[view_event(accepted, "ann", "tea")])["accepted"], 1);
        node.terminate();
    }
}

#[test]
fn wrong_credentials_are_refused() {
    let users = "authorization { users: [{ user: sequor, password: right }] }";
    let Some(servers) = NatsServers::start_with_config("credentials", "always", users) else { return };
    let dir = tempfile::tempdir().unwrap();
    let file_with = |text: &str| {
        let path = dir.path().join(text.replace([':', ' '], "-"));
        fs::write(&path, text).unwrap();
        format!("cluster.credentials={}", path.display())
    };
    assert_refused(&servers, &[], &["refuse the credentials", "without cluster.credentials"]);
    assert_refused(&servers, &[&file_with("sequor:wrong")], &["refuse the credentials of", "sequor-wrong"]);
    assert_refused(&servers, &[&file_with("no colon")], &["cluster.credentials", "user:password"]);
    assert_refused(&servers, &["cluster.credentials=/nonexistent/file"], &["cluster.credentials", "/nonexistent/file"]);
    let node = started_node(&servers, "node0", &[&file_with("sequor:right")]);
    assert_eq!(node.daemon().unwrap().send_events(&[view_event("e1", "ann", "tea")])["accepted"], 1);
}
