//! Compaction: unused disk space is reclaimed while the daemon keeps serving.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::daemon::{DaemonHome, SMALL_NETWORK_SETTINGS, run_sequor, sequor_command, view_event, wait_for};

fn run_on_data_dir(data: &Path, arguments: &[&str]) -> Output {
    let mut command = sequor_command();
    command.args(arguments).arg("--data-dir").arg(data);
    for setting in SMALL_NETWORK_SETTINGS {
        command.args(["--set", setting]);
    }
    command.output().unwrap()
}

fn output_text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The bytes before and after, as printed by `sequor compact`.
fn compacted_sizes(output: &Output) -> [u64; 2] {
    assert_eq!(output.status.code(), Some(0), "{}", output_text(output));
    ["bytes before", "bytes after"].map(|name| {
        let text = output_text(output);
        let number = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{text}"));
        number.trim().parse().unwrap()
    })
}

/// The database folders of a data directory.
fn database_dirs(data: &Path) -> Vec<String> {
    let names = data.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("store")).collect()
}

#[test]
fn requested_compaction_runs_during_reads_and_writes() {
    let home = DaemonHome::new();
    let daemon = home.start(&["learning.interval=64", "store.checkpoint_every=200"]);
    let done = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0_u64;
            while !done.load(Ordering::SeqCst) {
                let events: Vec<_> = (sent..sent + 20)
                    .map(|n| view_event(&format!("e{n}"), &format!("user{}", n % 30), &format!("item{}", n % 70)))
                    .collect();
                assert_eq!(daemon.send_events(&events)["accepted"], 20);
                sent += 20;
            }
            sent
        });
        let reader = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                assert_eq!(daemon.get("/v1/users/user3/recommendations").status, 200);
            }
        });
        for _ in 0..5 {
            let before = daemon.next_offset();
            let response = daemon.admin_request("POST", "/admin/store/compact", "{}");
            assert_eq!(response.status, 200, "{}", response.body);
            assert!(
                response.json()["bytes_before"].as_u64() > Some(0) && response.json()["bytes_after"].as_u64() > Some(0),
                "{}",
                response.body
            );
            wait_for("events after the compaction", || (daemon.next_offset() > before + 100).then_some(()));
        }
        done.store(true, Ordering::SeqCst);
        reader.join().unwrap();
        sender.join().unwrap()
    });
    assert_eq!(daemon.metric_value("sequor_compactions_total"), 5.0);
    assert_eq!(compacted_sizes(&run_sequor(&["compact", "--url", daemon.admin_url()])).len(), 2);
    for (body, status) in [("", 400), (r#"{"now":true}"#, 400)] {
        assert_eq!(daemon.admin_request("POST", "/admin/store/compact", body).status, status);
    }
    assert_eq!(daemon.get_admin("/admin/store/compact").status, 405);
    let locked_error = output_text(&run_on_data_dir(&home.data_dir(), &["compact"]));
    assert!(locked_error.contains(&format!("`sequor compact --url {}`", daemon.admin_url())), "{locked_error}");
    daemon.assert_healthy();
    daemon.wait_until_learned(sent);
    daemon.kill();

    // After the kill, the database has a numbered name. A stray database folder next to it is
    // ignored.
    assert_eq!(database_dirs(&home.data_dir()), ["store.6"]);
    let restored_dir = home.dir().join("copied");
    let restored = run_on_data_dir(&restored_dir, &["restore", home.data_dir().to_str().unwrap()]);
    assert_eq!(restored.status.code(), Some(0), "{}", output_text(&restored));
    fs::create_dir(home.data_dir().join("store.7")).unwrap();
    compacted_sizes(&run_on_data_dir(&home.data_dir(), &["compact"]));
    assert_eq!(database_dirs(&home.data_dir()), ["store"]);
    for data in [&home.data_dir(), &restored_dir] {
        let found = output_text(&run_on_data_dir(data, &["verify"]));
        assert!(found.contains("damages                      0"), "{found}");
        let lines = output_text(&run_on_data_dir(data, &["export", "--only", "event"]));
        let ids: Vec<_> = lines
            .lines()
            .filter_map(|line| Some(serde_json::from_str::<Value>(line).ok()?["event_id"].as_str()?.to_owned()))
            .collect();
        assert!(
            ids.iter().eq((0..sent).map(|n| format!("e{n}")).collect::<Vec<_>>().iter()),
            "{} of {sent}",
            ids.len()
        );
    }
}

#[test]
fn daemon_compacts_automatically_above_the_ratio() {
    let home = DaemonHome::new();
    // Even a fresh database exceeds this ratio.
    let daemon = home.start(&["store.compact_ratio=1.5", "store.checkpoint_every=500", "learning.evaluate_every=0"]);
    assert_eq!(daemon.metric_value("sequor_store_live_bytes"), 0.0, "the live bytes are not counted yet");
    let page = "x".repeat(16_000);
    let mut sent = 0_u64;
    wait_for("an automatic compaction", || {
        let view = |n: u64| json!({ "event_id": format!("e{n}"), "user_id": format!("user{}", n % 9), "type": "view", "item_id": "tea", "properties": { "page": page } });
        let events: Vec<_> = (sent..sent + 60).map(view).collect();
        daemon.send_events(&events);
        sent += 60;
        (daemon.metric_value("sequor_compactions_total") > 0.0).then_some(())
    });
    let (disk, live) = (daemon.metric_value("sequor_store_bytes"), daemon.metric_value("sequor_store_live_bytes"));
    assert!(live > 16_000.0 * sent as f64 * 0.9 && live < disk, "{sent} events, {live} bytes of {disk}");
    daemon.wait_until_learned(sent);
    assert_eq!(daemon.terminate().code(), Some(0));
    let daemon = home.start(&[]);
    assert_eq!((daemon.next_offset(), database_dirs(&home.data_dir())), (sent, vec!["store".to_owned()]));
}
