//! A disk that fills up under load and later has space again. Uses a small tmpfs, which only root
//! may mount.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, HttpResponse, run_sequor, view_event, wait_for};
use crate::journal_dump::JournalDump;

/// Settings with which the learner writes little.
const SMALL_SETTINGS: [&str; 2] = ["learning.interval=64", "session.shards=2"];

/// A tmpfs of 24 MiB at a directory, unmounted on drop.
pub(crate) struct TmpfsDisk(PathBuf);

impl TmpfsDisk {
    pub(crate) fn mount_tmpfs(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(at).stderr(Stdio::null()).status();
        if !mounted.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: full disk: mounting a tmpfs requires root");
            return None;
        }
        Some(Self(at.to_owned()))
    }

    /// Fills the disk completely.
    fn fill_disk(&self) {
        let mut file = File::create(self.0.join("ballast")).unwrap();
        for size in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn free_space(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for TmpfsDisk {
    fn drop(&mut self) {
        // A lazy unmount, because processes may still have open files.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The outcomes of the clients' requests.
#[derive(Default)]
struct KnownResponses {
    acknowledged: Vec<String>,
    /// One example of every problem type received.
    problems: BTreeMap<String, (Value, Option<String>)>,
}

/// Sends each batch until it is accepted. Between batches, requests lists, which must succeed.
fn send_batches(daemon: &Daemon, number: usize, known: &Mutex<KnownResponses>, is_done: &AtomicBool) {
    for batch in 0.. {
        let ids: Vec<_> = (0..20).map(|index| format!("{number}-{batch}-{index}")).collect();
        let at = |index: usize| (format!("user{}", (batch + index) % 30), format!("item{}", (batch * 7 + index) % 90));
        let events: Vec<_> =
            ids.iter().enumerate().map(|(index, id)| view_event(id, &at(index).0, &at(index).1)).collect();
        loop {
            let HttpResponse { status, content_type, headers, body } =
                daemon.post("/v1/events", &json!(events).to_string());
            let mut known = known.lock().unwrap();
            if status == 200 {
                known.acknowledged.extend(ids);
                break;
            }
            assert_eq!((status, content_type.as_str()), (503, "application/problem+json"), "{body}");
            let problem: Value = serde_json::from_str(&body).unwrap();
            let retry_after = headers.get("retry-after").map(|seconds| seconds.to_str().unwrap().to_owned());
            known.problems.insert(problem["type"].as_str().unwrap().to_owned(), (problem, retry_after));
            drop(known);
            thread::sleep(Duration::from_millis(20));
        }
        assert!(!daemon.recommended_items(&format!("user{}", batch % 30)).is_empty());
        if is_done.load(Ordering::Relaxed) {
            return;
        }
    }
}

#[test]
fn full_disk_rejects_writes_and_recovers_without_restart() {
    let home = DaemonHome::new();
    let Some(disk) = TmpfsDisk::mount_tmpfs(&home.data_dir()) else { return };
    let daemon = home.start(&["learning.interval=64", "store.checkpoint_every=500", "session.shards=2"]);
    let (known, is_done) = (Mutex::new(KnownResponses::default()), AtomicBool::new(false));
    let accepted_count = || known.lock().unwrap().acknowledged.len();
    daemon.send_events(&[view_event("first", "user0", "item0")]);
    daemon.wait_until_learned(1);
    thread::scope(|scope| {
        let senders: Vec<_> = (0..3)
            .map(|number| {
                let (daemon, known, is_done) = (&daemon, &known, &is_done);
                scope.spawn(move || send_batches(daemon, number, known, is_done))
            })
            .collect();
        // A failed client reports its panic when it is joined; waiting for its events would hide
        // that.
        let failed = || senders.iter().any(thread::ScopedJoinHandle::is_finished);
        for _ in 0..3 {
            let before = accepted_count();
            wait_for("events to be accepted", || (accepted_count() > before + 200 || failed()).then_some(()));
            known.lock().unwrap().problems.clear();
            disk.fill_disk();
            wait_for("the disk-full problem", || {
                (known.lock().unwrap().problems.contains_key("/problems/disk-full") || failed()).then_some(())
            });
            wait_for("the daemon to be not ready", || {
                (daemon.get_admin("/readyz").status == 503 || failed()).then_some(())
            });
            assert_eq!(daemon.get_admin("/healthz").status, 200);
            // Lists are still served; only journalled events are learned.
            assert!(!daemon.recommended_items("user1").is_empty());
            if failed() {
                break;
            }
            let (problem, retry_after) = known.lock().unwrap().problems["/problems/disk-full"].clone();
            assert!(problem["detail"].as_str().unwrap().contains("No space left on device"), "{problem}");
            assert_eq!(
                (problem["title"].as_str(), retry_after.as_deref()),
                (Some("The disk is full"), Some("1")),
                "{problem}"
            );
            // Waits long enough that an attempt to store sessions fails.
            thread::sleep(Duration::from_millis(1200));
            disk.free_space();
            wait_for("the daemon to be ready again", || {
                (daemon.get_admin("/readyz").status == 200 || failed()).then_some(())
            });
        }
        is_done.store(true, Ordering::Relaxed);
    });
    let known = known.into_inner().unwrap();
    daemon.wait_until_learned(known.acknowledged.len() as u64);
    // Kills the daemon without a stop; the sessions must have been stored in the meantime.
    thread::sleep(Duration::from_millis(2500));
    daemon.kill();

    let dump = JournalDump::read_from_copy(&home.data_dir());
    let counts = dump.event_ids();
    assert!(
        known.acknowledged.iter().all(|id| counts.get(id.as_str()) == Some(&1)),
        "an acknowledged event is lost or duplicated"
    );
    assert_eq!(counts.len(), known.acknowledged.len() + 1);
    let daemon = home.start(&["learning.interval=64", "store.checkpoint_every=500", "session.shards=2"]);
    daemon.wait_until_learned(dump.entries.len() as u64);
    daemon.assert_healthy();
    assert_eq!(daemon.terminate().code(), Some(0));
    drop(JournalDump::read_from_copy(&home.data_dir()));
}

#[test]
fn start_on_a_full_disk_serves_lists_and_accepts_writes_once_there_is_space() {
    let home = DaemonHome::new();
    let Some(disk) = TmpfsDisk::mount_tmpfs(&home.data_dir()) else { return };
    let daemon = home.start(&SMALL_SETTINGS);
    let events: Vec<_> = (0..60)
        .map(|number| {
            view_event(&format!("e{number}"), &format!("user{}", number % 3), &format!("item{}", number % 20))
        })
        .collect();
    daemon.send_events(&events);
    daemon.wait_until_learned(60);
    disk.fill_disk();
    let mut sent = 60;
    wait_for("a rejected write", || {
        sent += 1;
        (daemon.post("/v1/events", &view_event(&format!("late{sent}"), "user2", "tea").to_string()).status == 503)
            .then_some(())
    });
    daemon.kill();
    // Each start must leave enough space for the next one.
    for _ in 0..3 {
        disk.fill_disk();
        let daemon = home.start_not_ready(&SMALL_SETTINGS);
        assert!(!daemon.recommended_items("user1").is_empty());
        let rejected = daemon.post("/v1/events", &view_event("refused", "user1", "tea").to_string());
        assert_eq!(
            (rejected.status, &rejected.json()["type"]),
            (503, &json!("/problems/disk-full")),
            "{}",
            rejected.body
        );
        let ready = daemon.get_admin("/readyz");
        assert_eq!(ready.status, 503);
        assert_eq!(daemon.get_admin("/healthz").status, 200);
        assert!(daemon.read_home_log().contains("the disk is full: lists are served"), "{}", daemon.read_home_log());
        daemon.kill();
    }
    let daemon = home.start_not_ready(&SMALL_SETTINGS);
    assert_eq!(daemon.get_admin("/readyz").status, 503);
    disk.free_space();
    wait_for("readiness", || (daemon.get_admin("/readyz").status == 200).then_some(()));
    assert_eq!(daemon.send_events(&[view_event("after", "user1", "tea")])["accepted"], 1);
    assert_eq!(daemon.terminate().code(), Some(0));
    let dump = JournalDump::read_from_copy(&home.data_dir());
    let counts = dump.event_ids();
    assert!(!counts.contains_key("refused"));
    assert!((0..60).all(|number| counts.get(format!("e{number}").as_str()) == Some(&1)));
    assert_eq!(counts.get("after"), Some(&1));
}

#[test]
fn readiness_recovers_without_new_requests() {
    let home = DaemonHome::new();
    let Some(disk) = TmpfsDisk::mount_tmpfs(&home.data_dir()) else { return };
    let daemon = home.start(&[]);
    disk.fill_disk();
    let mut sent = 0;
    wait_for("a rejected write", || {
        sent += 1;
        (daemon.post("/v1/events", &view_event(&format!("e{sent}"), "ann", "tea").to_string()).status == 503)
            .then_some(())
    });
    assert_eq!(daemon.get_admin("/readyz").status, 503);
    let shows = |series: &str| daemon.get_admin("/metrics").body.lines().any(|line| line == series);
    let failure_series = ["sequor_journal_failed 1", "sequor_ready 0", "sequor_disk_free_bytes 0"];
    assert!(failure_series.into_iter().all(shows), "{}", daemon.get_admin("/metrics").body);
    assert!(!shows("sequor_commit_failures_total 0"));
    let health = run_sequor(&["health", "--url", daemon.admin_url()]);
    assert_eq!(health.status.code(), Some(1));
    assert!(String::from_utf8(health.stderr).unwrap().contains("the journal accepts no writes"));
    disk.free_space();
    wait_for("readiness", || (daemon.get_admin("/readyz").status == 200).then_some(()));
    assert!(
        ["sequor_journal_failed 0", "sequor_ready 1"].into_iter().all(shows),
        "{}",
        daemon.get_admin("/metrics").body
    );
    assert_eq!(daemon.send_events(&[view_event("another", "ann", "tea")])["accepted"], 1);
}
