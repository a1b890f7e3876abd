//! An erasure reaches the files of all nodes, the log and the snapshots.

use std::fs;
use std::path::{Path, PathBuf};

use sequor::store::{Store, StoreOptions};

use crate::cluster_daemons::ClusterNode;
use crate::daemon::{Daemon, view_event, wait_for};
use crate::log_messages::message_range;
use crate::nats_servers::{LOG_STREAM, NatsServers, SERVER_COUNT};

/// The directories of the log's stream below a directory.
fn stream_directories(dir: &Path) -> Vec<PathBuf> {
    let directories = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    directories
        .flat_map(|path| if path.ends_with(LOG_STREAM) { vec![path] } else { stream_directories(&path) })
        .collect()
}

/// Whether a file below a directory contains a text.
fn contains_text(dir: &Path, text: &str) -> bool {
    fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            contains_text(&path, text)
        } else {
            // The servers may remove the file meanwhile.
            fs::read(&path).is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
        }
    })
}

/// The ids of the events in the journal of a node that is down.
fn event_ids(node: &ClusterNode) -> Vec<String> {
    let store = Store::open_existing(node.home.data_dir(), &StoreOptions::default()).unwrap();
    let entries = store.journal().entries(0).unwrap();
    entries.filter_map(|entry| entry.unwrap().1.as_event()?.event_id.clone()).collect()
}

fn erased_through(daemon: &Daemon) -> u64 {
    daemon.get_admin("/admin/cluster").json()["erased_through"].as_u64().unwrap()
}

#[test]
fn an_erasure_reaches_all_nodes_the_log_and_the_snapshots() {
    let Some(servers) = NatsServers::start("an erasure in a cluster") else { return };
    // Messages of version 1 are not compressed, so the test can search the files of the servers.
    let settings =
        ["cluster.erase_within=0s", "cluster.message_version=1", "cluster.snapshot_every=20"].map(str::to_owned);
    let [first, second, third] = ["node0", "node1", "node2"].map(|name| ClusterNode::new(&servers, name, &settings));
    for node in [&first, &second] {
        node.launch();
        node.wait_until_ready();
    }
    let [a, b] = [&first, &second].map(|node| node.daemon().unwrap());
    for id in 0..10 {
        a.send_events(&[
            view_event(&format!("secret-{id}"), "ann", "tea"),
            view_event(&format!("e{id}"), "bob", "cup"),
        ]);
    }
    second.wait_for_offset(20);
    // The replication log of the servers keeps the bytes of the last changes for some more minutes.
    let in_log = || {
        let directories = (0..SERVER_COUNT).flat_map(|server| stream_directories(&servers.store_dir(server)));
        directories.into_iter().any(|dir| contains_text(&dir, "secret-"))
    };
    assert!(in_log(), "the log contains the events of the user");
    // A node stores a snapshot by itself, which contains the events.
    wait_for("a snapshot", || {
        let stored = |node: &ClusterNode| node.daemon().unwrap().read_log().contains("stored a snapshot");
        (stored(&first) || stored(&second)).then_some(())
    });
    let response = b.request("DELETE", "/v1/users/ann", "");
    assert!([200, 202].contains(&response.status), "{}", response.body);
    let offset = response.json()["offset"].as_u64().unwrap();
    for daemon in [&a, &b] {
        wait_for("the erasure on all nodes and servers", || (erased_through(daemon) >= offset).then_some(()));
    }
    let (begin, last) = message_range(&servers);
    assert!(begin > 11 && last >= 11, "messages {begin} to {last}");
    wait_for("files of the servers without the events", || (!in_log()).then_some(()));
    // New events, and a node that joins.
    assert_eq!(a.send_events(&[view_event("after", "bob", "tea")])["accepted"], 1);
    let joined = third.run_command(&["cluster", "join"]).unwrap();
    assert!(joined.contains("start the node now"), "{joined}");
    third.launch();
    third.wait_until_ready();
    third.wait_for_offset(a.next_offset());
    drop((a, b));
    for node in [&first, &second, &third] {
        node.terminate();
        let ids = event_ids(node);
        assert!(ids.len() == 11 && ids.iter().all(|id| !id.starts_with("secret-")), "{ids:?}");
    }
}
