//! Triggers the alerts of a cluster: a real Prometheus with the project's rules scrapes real daemons.

use crate::cluster_daemons::ClusterDaemons;
use crate::daemon::{view_event, wait_for};
use crate::divergence::diverge;
use crate::nats_servers::NatsServers;
use crate::prometheus::{Prometheus, shorten_alert_delays};

#[test]
fn another_journal_and_a_missing_node_raise_alerts() {
    let Some(servers) = NatsServers::start("alerts of a cluster") else { return };
    let daemons = ClusterDaemons::start(&servers);
    let node = &daemons.nodes[2];
    diverge(&servers, &daemons, node);
    node.launch();
    let (first, different) = (daemons.daemon(0), daemons.daemon(2));
    let Some(prometheus) = Prometheus::start(&[&first, &different], |rules| shorten_alert_delays(&rules)) else {
        return;
    };
    prometheus.wait_for_alerts(&different, &["SequorClusterMismatch"], || {});
    assert!(!prometheus.firing_alerts(&first).iter().any(|name| name.starts_with("SequorCluster")));
    let published = "histogram_quantile(0.5, sum by (le) (rate(sequor_cluster_publish_seconds_bucket[1m])))";
    let mut number = 0;
    wait_for("the time to publish a message", || {
        number += 1;
        first.send_events(&[view_event(&format!("later{number}"), "ann", "cup")]);
        prometheus.query_series(published).iter().any(|(_, seconds)| *seconds > 0.0).then_some(())
    });
    drop(different);
    node.kill();
    prometheus.wait_for_alerts(&first, &["SequorClusterNodeMissing"], || {});
}
