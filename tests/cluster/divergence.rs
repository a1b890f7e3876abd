//! A node whose journal differs from those of the others: it notices, accepts no writes and says so.

use sequor::cluster::message::decode_message;
use sequor::domain::Entry;
use sequor::store::{Committer, CommitterSettings, LogMessage, Store, StoreOptions, log_digest};
use serde_json::json;

use crate::cluster_daemons::{ClusterDaemons, ClusterNode};
use crate::daemon::{view_event, wait_for};
use crate::log_messages::last_message;
use crate::nats_servers::NatsServers;

/// Applies a message to the journal of a node that is down, as its daemon would, but with another
/// item in its event: a bit has flipped in the memory of the node.
fn apply_altered(node: &ClusterNode, sequence: u64, payload: &[u8]) {
    let mut requests = decode_message(payload).unwrap();
    let entry = requests.iter_mut().flat_map(|request| &mut request.entries).next().unwrap();
    let Entry::Event(event) = entry else { panic!("{entry:?}") };
    event.item_id = Some("uea".to_owned());
    let store = Store::open_existing(node.home.data_dir(), &StoreOptions::default()).unwrap();
    let mut committer = Committer::open(store, CommitterSettings::default()).unwrap();
    assert_eq!(committer.log_position().unwrap().sequence + 1, sequence);
    let message = LogMessage { sequence, digest: log_digest(payload), requests };
    let (receipts, _) = committer.commit_message(message, &mut |sync| sync()).unwrap();
    assert_eq!(receipts.len(), 1);
    committer.prepare_for_shutdown().unwrap();
}

/// Stops a node, and lets it apply the next message differently than the other nodes. Returns the
/// number of the message. The node is then down.
pub(crate) fn diverge(servers: &NatsServers, daemons: &ClusterDaemons, node: &ClusterNode) -> u64 {
    let first = daemons.daemon(0);
    first.send_events(&[view_event("e1", "ann", "cup")]);
    daemons.wait_until_equal();
    node.terminate();
    first.send_events(&[view_event("e2", "ann", "tea")]);
    let (sequence, payload) = last_message(servers);
    apply_altered(node, sequence, &payload);
    sequence
}

#[test]
fn node_with_another_journal_is_detected_and_can_join_again() {
    let Some(servers) = NatsServers::start("a node with another journal") else { return };
    let daemons = ClusterDaemons::start(&servers);
    let (first, node) = (daemons.daemon(0), &daemons.nodes[2]);
    let sequence = diverge(&servers, &daemons, node);

    node.launch();
    let reason = wait_for("the node to notice", || {
        let response = node.daemon()?.get_admin("/readyz");
        (response.status == 503 && response.body.contains("agrees with 1 of 3 nodes")).then_some(response.body)
    });
    assert!(reason.contains(&format!("message {sequence} ")) && reason.contains("backup of another node"), "{reason}");
    let different = node.daemon().unwrap();
    let refused = different.post("/v1/events", &json!([view_event("e3", "ann", "cup")]).to_string());
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!((different.metric_value("sequor_cluster_chain_mismatch") - 1.0).abs() < 1e-9);
    drop(different);
    // The majority goes on.
    assert_eq!(first.send_events(&[view_event("e3", "ann", "cup")])["accepted"], 1);
    assert_eq!(first.get_admin("/readyz").status, 200);
    // The node joins again with an empty data directory.
    node.kill();
    node.wipe();
    node.launch();
    assert_eq!(daemons.wait_until_equal(), 3);
}
