//! A single node becomes a cluster, nodes join later from a backup, and a node leaves.

use serde_json::{Value, json};

use crate::cluster_daemons::ClusterNode;
use crate::daemon::{Daemon, run_sequor, view_event, wait_for};
use crate::nats_servers::NatsServers;

fn view(number: u64) -> Value {
    view_event(&format!("e{number}"), &format!("user{}", number % 3), &format!("item{}", number % 9))
}

/// Runs a command, which must succeed. Returns its output.
fn run(arguments: &[&str]) -> String {
    let output = run_sequor(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Restores a backup of a running daemon into the data directory of a node that is down.
fn restore_backup_of(daemon: &Daemon, node: &ClusterNode) {
    let (backup, data) = (node.home.dir().join("backup"), node.home.data_dir());
    let (backup, data) = (backup.to_str().unwrap(), data.to_str().unwrap());
    run(&["backup", backup, "--url", daemon.admin_url()]);
    run(&["restore", backup, "--data-dir", data, "--set", "session.shards=2"]);
}

/// The nodes, as one of them sees them, after each has reported the last message.
fn wait_for_equal_reports(daemon: &Daemon, count: usize) -> Value {
    wait_for("equal hashes of all nodes", || {
        let status = run(&["cluster", "status", "--json", "--url", daemon.admin_url()]);
        let status: Value = serde_json::from_str(&status).unwrap();
        let nodes = status["nodes"].as_array().unwrap();
        let are_equal = nodes.iter().all(|node| {
            (&node["chain"], &node["sequence"], &node["offset"])
                == (&nodes[0]["chain"], &nodes[0]["sequence"], &nodes[0]["offset"])
        });
        (nodes.len() == count && are_equal && nodes[0]["offset"] == daemon.next_offset()).then_some(status)
    })
}

#[test]
fn single_node_becomes_a_cluster_that_nodes_join_and_leave() {
    let Some(servers) = NatsServers::start("a single node that becomes a cluster") else { return };
    let [first, second, third] = ["node0", "node1", "node2"].map(|name| ClusterNode::new(&servers, name, &[]));
    let embedded = first.home.start(&["session.shards=2"]);
    embedded.send_events(&[view(0), view(1), view(2)]);
    restore_backup_of(&embedded, &second);
    assert!(embedded.terminate().success());
    // The stream continues the journal.
    for node in [&first, &second] {
        node.launch();
        node.wait_until_ready();
    }
    let [a, b] = [&first, &second].map(|node| node.daemon().unwrap());
    assert_eq!(b.send_events(&[view(2), view(3)])["offset"], 4);
    first.wait_for_offset(4);
    assert_eq!(a.send_events(&[view(4), view(3)])["duplicates"], 1);
    // A node joins from a backup of another one, and reads the messages since the backup.
    restore_backup_of(&b, &third);
    a.send_events(&[view(5), view(6)]);
    third.launch();
    third.wait_until_ready();
    let c = third.daemon().unwrap();
    third.wait_for_offset(7);
    assert_eq!(c.send_events(&[view(1), view(4), view(6)])["duplicates"], 3);
    let status = wait_for_equal_reports(&a, 3);
    assert_eq!(status["cluster"], "shop");
    let table = run(&["cluster", "status", "--url", c.admin_url()]);
    assert!(table.starts_with("cluster shop, seen from node node2 (connected)\n"), "{table}");
    let page = b.get_admin("/console/cluster").body;
    assert!(
        ["Node <code>node1</code>", "node0", "node2", "connected"].iter().all(|text| page.contains(text)),
        "{page}"
    );
    // An erasure through one node applies on all; a node does not unlearn.
    let refused = a.request_with_key("DELETE", &format!("{}/v1/users/user1?unlearn=true", a.api_url()), None, "");
    assert_eq!(refused.status, 409, "{}", refused.body);
    assert!(refused.body.contains("docs/cluster.md"), "{}", refused.body);
    let erased = b.request_with_key("DELETE", &format!("{}/v1/users/user1", b.api_url()), None, "");
    assert!([200, 202].contains(&erased.status), "{}", erased.body);
    for daemon in [&a, &b, &c] {
        wait_for("the erasure on every node", || {
            let list = daemon.get("/v1/users/user1/recommendations").json();
            (list["fallback"] == "unknown_user").then_some(())
        });
    }
    // The erased event can be sent again, on any node; the other events remain duplicates.
    let receipt = c.send_events(&[view(1), view(2)]);
    assert_eq!((&receipt["accepted"], &receipt["duplicates"]), (&json!(1), &json!(1)), "{receipt}");
    wait_for_equal_reports(&c, 3);
    // A data directory of a node cannot be used alone before it leaves.
    drop((a, b, c));
    third.terminate();
    let Err(log) = third.home.try_launch(&[], &[]) else { panic!("a node started without its cluster") };
    assert!(log.contains("belongs to the cluster \"shop\"") && log.contains("sequor cluster leave"), "{log}");
    let left = run(&["cluster", "leave", "--data-dir", third.home.data_dir().to_str().unwrap()]);
    assert!(left.contains("is the data directory of a single node now"), "{left}");
    let alone = third.home.start(&["session.shards=2"]);
    assert_eq!(alone.send_events(&[view(6), view(7)])["duplicates"], 1);
}
