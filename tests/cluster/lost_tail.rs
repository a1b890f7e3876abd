//! A stream that lost acknowledged messages, because the servers' disks went back to an earlier
//! state: the nodes notice, accept no writes, and continue with a new stream.

use std::fs;

use serde_json::json;

use crate::cluster_daemons::{ClusterDaemons, NODE_COUNT};
use crate::daemon::{Daemon, view_event, wait_for};
use crate::journal_dump::copy_dir;
use crate::nats_servers::{NatsServers, SERVER_COUNT};

/// The documented repair of a node that is down.
const RESTART_LOG: [&str; 2] = ["cluster", "restart-log"];

fn send(daemon: &Daemon, ids: std::ops::Range<usize>) {
    for id in ids {
        daemon.send_events(&[view_event(&format!("e{id}"), "ann", &format!("item{}", id % 9))]);
    }
}

/// Asserts that a node is not ready and accepts no writes, and that both say why.
fn assert_notices_loss(daemon: &Daemon) {
    let readiness = wait_for("the node to notice that the stream lost messages", || {
        let response = daemon.get_admin("/readyz");
        (response.status == 503 && response.body.contains("lost acknowledged messages")).then_some(response)
    });
    assert!(readiness.body.contains("docs/cluster.md"), "{}", readiness.body);
    let refused = daemon.post("/v1/events", &json!([view_event("later", "ann", "item1")]).to_string());
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.headers.contains_key("retry-after") && refused.body.contains("lost"), "{refused:?}");
    // Reads go on.
    assert_eq!(daemon.get("/v1/users/ann/recommendations").status, 200);
}

#[test]
fn stream_that_lost_its_tail_is_detected_and_replaced() {
    let Some(mut servers) = NatsServers::start("a stream that lost its tail") else { return };
    let daemons = ClusterDaemons::start(&servers);
    send(&daemons.daemon(0), 0..5);
    daemons.wait_until_equal();
    // An earlier state of all disks.
    let copies = tempfile::tempdir().unwrap();
    let copy = |server: usize| copies.path().join(server.to_string());
    (0..SERVER_COUNT).for_each(|server| servers.kill(server));
    (0..SERVER_COUNT).for_each(|server| copy_dir(&servers.store_dir(server), &copy(server)));
    (0..SERVER_COUNT).for_each(|server| servers.launch(server));
    servers.wait_until_healthy();
    wait_for("the nodes to reach the servers", || {
        let receipt = daemons.daemon(1).post("/v1/events", &json!([view_event("e5", "ann", "item5")]).to_string());
        (receipt.status == 200).then_some(())
    });
    send(&daemons.daemon(1), 6..20);
    let entries = daemons.wait_until_equal();
    // The servers lose everything after the copies.
    (0..SERVER_COUNT).for_each(|server| servers.kill(server));
    for server in 0..SERVER_COUNT {
        fs::remove_dir_all(servers.store_dir(server)).unwrap();
        copy_dir(&copy(server), &servers.store_dir(server));
    }
    (0..SERVER_COUNT).for_each(|server| servers.launch(server));
    servers.wait_until_healthy();
    (0..NODE_COUNT).for_each(|node| assert_notices_loss(&daemons.daemon(node)));
    // A restart does not hide the loss, and no node has dropped an acknowledged event.
    for node in &daemons.nodes {
        assert_eq!(node.daemon().unwrap().next_offset(), entries);
        node.terminate();
    }
    let Err(log) = daemons.nodes[0].home.try_launch(&[], &daemons.nodes[0].settings()) else {
        panic!("a node joined a stream that lost messages")
    };
    assert!(log.contains("lost acknowledged messages") && log.contains("docs/cluster.md"), "{log}");
    // The documented repair.
    for node in &daemons.nodes {
        node.run_command(&RESTART_LOG).unwrap();
        node.launch();
    }
    assert_eq!(daemons.wait_until_equal(), entries, "the nodes have other entries than before the loss");
    let ids: Vec<_> = (0..20).map(|id| view_event(&format!("e{id}"), "ann", &format!("item{}", id % 9))).collect();
    assert_eq!(daemons.daemon(2).send_events(&ids)["duplicates"], 20, "an acknowledged event is lost");
    send(&daemons.daemon(1), 20..25);
    assert_eq!(daemons.wait_until_equal(), entries + 5);
    // A stream that lost nothing is not removed.
    daemons.nodes[0].terminate();
    let refused = daemons.nodes[0].run_command(&RESTART_LOG).unwrap_err();
    assert!(refused.contains("cannot continue in a new stream"), "{refused}");
    send(&daemons.daemon(1), 25..26);
    daemons.nodes[0].launch();
    assert_eq!(daemons.wait_until_equal(), entries + 6);
}
