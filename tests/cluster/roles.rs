//! Replicas use the weights that a learner trains, and all nodes compare their learned states.

use crate::checker::assert_same_data;
use crate::cluster_daemons::ClusterDaemons;
use crate::daemon::{Daemon, view_event, wait_for};
use crate::nats_servers::NatsServers;

fn send(daemon: &Daemon, ids: std::ops::Range<u64>) {
    let view = |id: u64| view_event(&format!("e{id}"), &format!("user{}", id % 7), &format!("item{}", id * id % 31));
    let ids: Vec<_> = ids.collect();
    for batch in ids.chunks(32) {
        daemon.send_events(&batch.iter().map(|id| view(*id)).collect::<Vec<_>>());
    }
}

#[test]
fn replicas_take_the_trained_weights_and_end_with_the_same_bytes() {
    let Some(servers) = NatsServers::start("replicas of a learner") else { return };
    let daemons = ClusterDaemons::start_each(&servers, |node| match node {
        0 => vec![],
        _ => vec!["cluster.role=replica".to_owned(), "cluster.train_after=20s".to_owned()],
    });
    let fetched = |node: usize| daemons.daemon(node).metric_value("sequor_cluster_fetched_trainings_total");
    wait_for("the learner to hold its lease", || {
        send(&daemons.daemon(1), 0..64);
        (daemons.daemon(0).get_admin("/admin/cluster").json()["publishes_training"] == true).then_some(())
    });
    send(&daemons.daemon(1), 64..2_000);
    daemons.wait_until_equal();
    // 30 boundaries; the first replicas may have trained before the learner held its lease.
    assert!(fetched(1) > 20.0 && fetched(2) > 20.0, "{} and {} results", fetched(1), fetched(2));
    assert!(fetched(0) == 0.0, "a learner takes no results");
    wait_for("the roles of all nodes", || {
        let status = daemons.daemon(0).get_admin("/admin/cluster").json();
        let roles: Vec<_> = status["nodes"].as_array()?.iter().map(|node| node["role"].as_str()).collect();
        (roles == [Some("learner"), Some("replica"), Some("replica")]).then_some(())
    });
    // Without a learner, a replica trains itself.
    daemons.nodes[0].kill();
    send(&daemons.daemon(1), 2_000..2_300);
    daemons.nodes[0].launch();
    daemons.wait_until_equal();
    daemons.nodes.iter().for_each(|node| node.terminate());
    assert_same_data(&daemons);
}

#[test]
fn node_with_another_learned_state_is_detected() {
    let Some(servers) = NatsServers::start("a node with another learned state") else { return };
    // The journals are equal, but one node learns differently.
    let daemons = ClusterDaemons::start_each(&servers, |node| match node {
        2 => vec!["learning.replay_ratio=0".to_owned()],
        _ => vec![],
    });
    send(&daemons.daemon(0), 0..1_000);
    let reason = wait_for("the node to notice", || {
        let response = daemons.daemon(2).get_admin("/readyz");
        (response.status == 503).then_some(response.body)
    });
    assert!(reason.contains("the learned state of this node agrees with 1 of 3 nodes"), "{reason}");
    assert!(reason.contains("settings of the model"), "{reason}");
    for node in 0..2 {
        assert_eq!(daemons.daemon(node).get_admin("/readyz").status, 200, "node {node}");
    }
    assert_eq!(daemons.daemon(0).send_events(&[view_event("last", "ann", "tea")])["accepted"], 1);
}
