//! Nodes of two versions of the message form, as during an update.

use crate::cluster_daemons::ClusterNode;
use crate::daemon::{Daemon, view_event, wait_for};
use crate::log_messages::last_message;
use crate::nats_servers::NatsServers;

/// Sends an event, and returns the version of its message.
fn version_of_next_message(servers: &NatsServers, daemon: &Daemon, id: &str) -> u8 {
    assert_eq!(daemon.send_events(&[view_event(id, "ann", "tea")])["accepted"], 1);
    last_message(servers).1[0]
}

#[test]
fn a_new_message_form_is_used_only_after_every_node_reads_it() {
    let Some(servers) = NatsServers::start("an update of the message form") else { return };
    let old = ["cluster.message_version=1".to_owned()];
    // If the updated node ran alone, it would use the new form at once.
    let [outdated, updated] = [("node1", &old[..]), ("node0", &[])].map(|(name, settings)| {
        let node = ClusterNode::new(&servers, name, settings);
        node.launch();
        node.wait_until_ready();
        node
    });
    let reports = || updated.daemon().unwrap().get_admin("/admin/cluster").json()["nodes"].as_array().unwrap().len();
    wait_for("both reports", || (reports() == 2).then_some(()));
    assert_eq!(version_of_next_message(&servers, &updated.daemon().unwrap(), "e1"), 1);
    outdated.terminate();
    // The last old node is gone.
    let mut number = 1;
    wait_for("the new form", || {
        number += 1;
        (version_of_next_message(&servers, &updated.daemon().unwrap(), &format!("e{number}")) == 2).then_some(())
    });
    let Err(log) = outdated.home.try_launch(&[], &outdated.settings()) else { panic!("the old node joined") };
    assert!(log.contains("version 2 of the message form") && log.contains("update this node"), "{log}");
    let mut settings = outdated.settings();
    settings.retain(|setting| !setting.starts_with("cluster.message_version"));
    let daemon = outdated.home.try_launch(&[], &settings).unwrap_or_else(|log| panic!("{log}"));
    wait_for("all entries", || (daemon.next_offset() == updated.daemon()?.next_offset()).then_some(()));
}
