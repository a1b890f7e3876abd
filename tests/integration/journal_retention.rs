//! Journal retention: state derived from dropped entries is kept.

use std::path::Path;

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, SMALL_NETWORK_SETTINGS, sequor_command, wait_for};
use crate::random::random_visits;

const DAEMON_SETTINGS: [&str; 4] =
    ["store.retain_entries=1000", "store.dedup_window=500", "store.checkpoint_every=300", "learning.interval=64"];

fn view_events(from: usize, upto: usize) -> Vec<Value> {
    let as_event = |(number, visit): (usize, crate::random::Visit)| json!({ "event_id": format!("v{number}"), "user_id": visit.user, "type": "view", "item_id": visit.item, "timestamp": visit.at });
    random_visits(9, upto).into_iter().enumerate().skip(from).map(as_event).collect()
}

fn send_in_batches(daemon: &Daemon, events: &[Value]) {
    events.chunks(100).for_each(|batch| drop(daemon.send_events(batch)));
}

fn first_offset(daemon: &Daemon) -> u64 {
    let text = daemon.get_admin("/metrics").body;
    text.lines().find_map(|line| line.strip_prefix("sequor_journal_begin ")).unwrap().parse().unwrap()
}

#[test]
fn journal_is_kept_for_the_configured_time() {
    let home = DaemonHome::new();
    let daemon = home.start(&[
        "store.retain_for=30m",
        "store.dedup_window=500",
        "store.checkpoint_every=300",
        "learning.interval=64",
    ]);
    let mut sent = 0;
    // The event timestamps are one second apart.
    wait_for("old entries to be dropped", || {
        send_in_batches(&daemon, &view_events(sent, sent + 400));
        sent += 400;
        daemon.wait_until_learned(sent as u64);
        let kept = sent as u64 - first_offset(&daemon);
        assert!(kept >= 1_800.min(sent as u64), "{kept} seconds are kept");
        // Entries that the oldest of three checkpoints does not contain stay as well.
        (sent >= 4_000 && kept <= 1_800 + 4 * 400).then_some(())
    });
}

#[test]
fn state_of_dropped_entries_is_kept() {
    let home = DaemonHome::new();
    let daemon = home.start(&DAEMON_SETTINGS);
    assert_eq!(daemon.request("PUT", "/v1/items/item7", r#"{"categories": ["cups"]}"#).status, 200);
    send_in_batches(&daemon, &view_events(0, 4_000));
    // Sessions are stored once a second; the next checkpoint then drops old entries.
    let mut sent = 4_000;
    wait_for("old entries to be dropped", || {
        send_in_batches(&daemon, &view_events(sent, sent + 400));
        sent += 400;
        daemon.wait_until_learned(sent as u64 + 1);
        (first_offset(&daemon) > 1_000).then_some(())
    });
    daemon.kill();

    for killed in [true, false] {
        let daemon = home.start(&DAEMON_SETTINGS);
        let (dropped, end) = (first_offset(&daemon), daemon.next_offset());
        assert!(dropped > 1_000 && end - dropped >= 1_000, "{dropped}..{end}");
        assert_eq!(
            daemon.send_events(&view_events(sent - 100, sent))["duplicates"],
            100,
            "the deduplication window is kept"
        );
        daemon.wait_until_learned(end);
        assert_eq!(
            daemon.get("/v1/users/user3/recommendations").item_ids().len(),
            20,
            "users of dropped entries are known"
        );
        let cups = daemon.get("/v1/users/user3/recommendations?filter=category%20%3D%20%22cups%22");
        assert_eq!(cups.item_ids(), ["item7"], "{}", cups.body);
        if killed {
            daemon.kill();
        } else {
            assert_eq!(daemon.terminate().code(), Some(0));
        }
    }

    // The remaining data passes verification, backup and restore.
    let run_on = |data: &Path, arguments: &[&str]| {
        let mut command = sequor_command();
        command.args(arguments).arg("--data-dir").arg(data);
        for setting in SMALL_NETWORK_SETTINGS.iter().chain(&DAEMON_SETTINGS) {
            command.args(["--set", setting]);
        }
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let backup = home.dir().join("backup.tar.gz");
    let restored = home.dir().join("restored");
    for (data, arguments, code, expected) in [
        (&home.data_dir(), vec!["verify"], 0, "damages                      0"),
        (&home.data_dir(), vec!["backup", backup.to_str().unwrap()], 0, ""),
        (&restored, vec!["restore", backup.to_str().unwrap()], 0, ""),
        (&restored, vec!["verify"], 0, "damages                      0"),
        (&restored, vec!["rebuild"], 1, "was dropped (store.retain_entries)"),
    ] {
        let (found, text) = run_on(data, &arguments);
        assert!(found == Some(code) && text.contains(expected), "{arguments:?}: {text}");
    }
    let journal = |data| run_on(data, &["export"]).1;
    let (restored_journal, original_journal) = (journal(&restored), journal(&home.data_dir()));
    assert_eq!(restored_journal, original_journal);
    let first: Value =
        serde_json::from_str(original_journal.lines().find(|line| line.starts_with('{')).unwrap()).unwrap();
    assert!(first["offset"].as_u64().unwrap() > 1_000, "{first}");

    // Other settings learn from the remaining entries. A start with other settings takes over the
    // catalog, which cannot be rebuilt.
    let other: Vec<&str> = DAEMON_SETTINGS.into_iter().chain(["learning.seed=7"]).collect();
    let daemon = home.start(&other);
    daemon.wait_until_learned(sent as u64 + 1);
    daemon.assert_healthy();
    assert_eq!(daemon.get("/v1/users/user3/recommendations?filter=category%20%3D%20%22cups%22").item_ids(), ["item7"]);
}
