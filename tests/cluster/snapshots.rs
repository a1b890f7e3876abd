//! Snapshots: nodes join with the newest one, and the stream keeps only later messages.

use serde_json::Value;

use crate::cluster_daemons::ClusterNode;
use crate::daemon::{Daemon, view_event, wait_for};
use crate::nats_servers::NatsServers;

fn send(daemon: &Daemon, ids: std::ops::Range<u64>) {
    for id in ids {
        daemon.send_events(&[view_event(&format!("e{id}"), &format!("user{}", id % 5), &format!("item{}", id % 9))]);
    }
}

fn create_snapshot(node: &ClusterNode) -> String {
    let url = node.daemon().unwrap().admin_url().to_owned();
    node.run_command(&["cluster", "snapshot", "--url", &url]).unwrap()
}

/// The number of messages of the stream that a node has applied, as the node reports it.
fn applied_sequence(daemon: &Daemon) -> u64 {
    let status = daemon.get_admin("/admin/cluster").json();
    let report = |name: &Value| status["nodes"].as_array().unwrap().iter().find(|node| node["node"] == *name).cloned();
    report(&status["node"]).and_then(|report| report["sequence"].as_u64()).unwrap_or_default()
}

/// Waits until the node has reported all messages that it has applied.
fn wait_for_report(daemon: &Daemon) {
    let applied = || daemon.get_admin("/admin/cluster").json()["sequence"].as_u64();
    wait_for("a report of all messages", || (Some(applied_sequence(daemon)) == applied()).then_some(()));
}

#[test]
fn nodes_join_with_the_newest_snapshot_and_the_stream_keeps_only_later_messages() {
    let Some(servers) = NatsServers::start("snapshots of a cluster") else { return };
    let [first, second, third] = ["node0", "node1", "node2"].map(|name| ClusterNode::new(&servers, name, &[]));
    let refused = third.run_command(&["cluster", "join"]).unwrap_err();
    assert!(refused.contains("no stream SEQUOR_shop: start a node first"), "{refused}");
    for node in [&first, &second] {
        node.launch();
        node.wait_until_ready();
    }
    let [a, b] = [&first, &second].map(|node| node.daemon().unwrap());
    send(&a, 0..20);
    second.wait_for_offset(20);
    [&a, &b].into_iter().for_each(|daemon| wait_for_report(daemon));
    let refused = third.run_command(&["cluster", "join"]).unwrap_err();
    assert!(refused.contains("has no snapshot; create one with `sequor cluster snapshot`"), "{refused}");
    let url = a.admin_url();
    let other = ClusterNode::new(&servers, "other", &["cluster.name=other".to_owned()]);
    let refused = other.run_command(&["cluster", "snapshot", "--url", url]).unwrap_err();
    assert!(refused.contains("is a node of the cluster \"shop\""), "{refused}");
    // One snapshot removes no message: if it were damaged, no node could join.
    let created = create_snapshot(&first);
    assert!(created.contains("20 journal entries") && created.contains("removed 0 messages"), "{created}");
    send(&b, 20..40);
    first.wait_for_offset(40);
    [&a, &b].into_iter().for_each(|daemon| wait_for_report(daemon));
    let created = create_snapshot(&second);
    assert!(created.contains("40 journal entries") && !created.contains("removed 0 messages"), "{created}");
    // Messages after the older of the two snapshots remain.
    assert!(created.contains("starts at message 21 now"), "{created}");
    send(&a, 40..45);
    // A node with an empty data directory cannot read the stream from its start.
    let Err(log) = third.home.try_launch(&[], &third.settings()) else { panic!("a node joined without journal") };
    assert!(log.contains("needs message 1") && log.contains("run `sequor cluster join`"), "{log}");
    third.wipe();
    let joined = third.run_command(&["cluster", "join"]).unwrap();
    assert!(joined.contains("from a snapshot of node node1; start the node now"), "{joined}");
    let refused = third.run_command(&["cluster", "join"]).unwrap_err();
    assert!(refused.contains("is not empty"), "{refused}");
    third.launch();
    third.wait_until_ready();
    third.wait_for_offset(45);
    let c = third.daemon().unwrap();
    let known: Vec<_> = (0..45).map(|id| view_event(&format!("e{id}"), "ann", "item1")).collect();
    assert_eq!(c.send_events(&known)["duplicates"], 45);
    send(&c, 45..50);
    first.wait_for_offset(50);
    // The nodes that were running all the time are not affected, also after a restart.
    drop((a, b));
    first.terminate();
    first.launch();
    first.wait_until_ready();
    let chains = || {
        let status = c.get_admin("/admin/cluster").json();
        let nodes = status["nodes"].as_array().unwrap().clone();
        let equal = nodes.iter().all(|node| node["chain"] == nodes[0]["chain"] && node["offset"] == 50);
        (nodes.len() == 3 && equal).then_some(())
    };
    wait_for("equal journals on all nodes", chains);
}
