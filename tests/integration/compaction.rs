//! Disk that the database no longer needs is given back, while everything goes on.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::daemon::{DaemonHome, SMALL_NETWORK, event, run, sequor, wait_for};

fn on(data: &Path, arguments: &[&str]) -> Output {
    let mut command = sequor();
    command.args(arguments).arg("--data-dir").arg(data);
    for setting in SMALL_NETWORK {
        command.args(["--set", setting]);
    }
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What `sequor compact` printed: bytes before and after.
fn figures(output: &Output) -> [u64; 2] {
    assert_eq!(output.status.code(), Some(0), "{}", said(output));
    ["bytes before", "bytes after"].map(|name| {
        let text = said(output);
        let number = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{text}"));
        number.trim().parse().unwrap()
    })
}

/// The databases of a data directory.
fn databases(data: &Path) -> Vec<String> {
    let names = data.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("store")).collect()
}

#[test]
fn asked_for_it_is_done_while_events_come_and_lists_are_answered() {
    let home = DaemonHome::new();
    let daemon = home.start(&["learning.interval=64", "store.checkpoint_every=200"]);
    let done = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0_u64;
            while !done.load(Ordering::SeqCst) {
                let events: Vec<_> =
                    (sent..sent + 20).map(|n| event(&format!("e{n}"), &format!("user{}", n % 30), &format!("item{}", n % 70))).collect();
                assert_eq!(daemon.send_events(&events)["accepted"], 20);
                sent += 20;
            }
            sent
        });
        let asker = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                assert_eq!(daemon.get("/v1/users/user3/recommendations").status, 200);
            }
        });
        for _ in 0..5 {
            let before = daemon.next_offset();
            let answer = daemon.admin_request("POST", "/admin/store/compact", "{}");
            assert_eq!(answer.status, 200, "{}", answer.body);
            assert!(answer.json()["bytes_before"].as_u64() > Some(0) && answer.json()["bytes_after"].as_u64() > Some(0), "{}", answer.body);
            wait_for("events after it", || (daemon.next_offset() > before + 100).then_some(()));
        }
        done.store(true, Ordering::SeqCst);
        asker.join().unwrap();
        sender.join().unwrap()
    });
    assert_eq!(daemon.metric("sequor_compactions_total"), 5.0);
    assert_eq!(figures(&run(&["compact", "--url", daemon.admin_address()])).len(), 2);
    for (body, status) in [("", 400), (r#"{"now":true}"#, 400)] {
        assert_eq!(daemon.admin_request("POST", "/admin/store/compact", body).status, status);
    }
    assert_eq!(daemon.get_admin("/admin/store/compact").status, 405);
    let held = said(&on(&home.data_dir(), &["compact"]));
    assert!(held.contains(&format!("`sequor compact --url {}`", daemon.admin_address())), "{held}");
    daemon.assert_healthy();
    daemon.wait_until_learned(sent);
    daemon.kill();

    // Killed as it was, the database has another name; what stands beside it is of no account.
    assert_eq!(databases(&home.data_dir()), ["store.6"]);
    let copied = home.path().join("copied");
    let restored = on(&copied, &["restore", home.data_dir().to_str().unwrap()]);
    assert_eq!(restored.status.code(), Some(0), "{}", said(&restored));
    fs::create_dir(home.data_dir().join("store.7")).unwrap();
    figures(&on(&home.data_dir(), &["compact"]));
    assert_eq!(databases(&home.data_dir()), ["store"]);
    for data in [&home.data_dir(), &copied] {
        let found = said(&on(data, &["verify"]));
        assert!(found.contains("damages                      0"), "{found}");
        let lines = said(&on(data, &["export", "--only", "event"]));
        let ids: Vec<_> =
            lines.lines().filter_map(|line| Some(serde_json::from_str::<Value>(line).ok()?["event_id"].as_str()?.to_owned())).collect();
        assert!(ids.iter().eq((0..sent).map(|n| format!("e{n}")).collect::<Vec<_>>().iter()), "{} of {sent}", ids.len());
    }
}

#[test]
fn a_daemon_does_it_by_itself_once_too_much_is_dead() {
    let home = DaemonHome::new();
    // Even a fresh database takes more than that.
    let daemon = home.start(&["store.compact_ratio=1.5", "store.checkpoint_every=500", "learning.evaluate_every=0"]);
    assert_eq!(daemon.metric("sequor_store_live_bytes"), 0.0, "not counted yet");
    let page = "x".repeat(16_000);
    let mut sent = 0_u64;
    wait_for("the store to be written anew", || {
        let of = |n: u64| json!({ "event_id": format!("e{n}"), "user_id": format!("user{}", n % 9), "type": "view", "item_id": "tea", "properties": { "page": page } });
        let events: Vec<_> = (sent..sent + 60).map(of).collect();
        daemon.send_events(&events);
        sent += 60;
        (daemon.metric("sequor_compactions_total") > 0.0).then_some(())
    });
    let (disk, live) = (daemon.metric("sequor_store_bytes"), daemon.metric("sequor_store_live_bytes"));
    assert!(live > 16_000.0 * sent as f64 * 0.9 && live < disk, "{sent} events, {live} bytes of {disk}");
    daemon.wait_until_learned(sent);
    assert_eq!(daemon.terminate().code(), Some(0));
    let daemon = home.start(&[]);
    assert_eq!((daemon.next_offset(), databases(&home.data_dir())), (sent, vec!["store".to_owned()]));
}
