//! A disk that fills up in the midst of a load, and has room again later: a small file system in
//! memory, which only root may mount.

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

use crate::daemon::{Daemon, DaemonHome, HttpResponse, event, run, wait_for};
use crate::journal_dump::JournalDump;

/// A file system of 24 MiB at a directory, until it is dropped.
pub(crate) struct TmpfsDisk(PathBuf);

impl TmpfsDisk {
    pub(crate) fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(at).stderr(Stdio::null()).status();
        if !mounted.is_ok_and(|status| status.success()) {
            eprintln!("LEFT OUT: a file system cannot be mounted here (it takes root), so no disk is filled");
            return None;
        }
        Some(Self(at.to_owned()))
    }

    /// Leaves not one byte.
    fn fill(&self) {
        let mut file = File::create(self.0.join("ballast")).unwrap();
        for size in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for TmpfsDisk {
    fn drop(&mut self) {
        // Lazily: what still has a file open here goes first.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// What the senders know.
#[derive(Default)]
struct Known {
    acknowledged: Vec<String>,
    /// Every kind of problem that was answered, with one of its answers.
    problems: BTreeMap<String, (Value, Option<String>)>,
}

/// Sends one batch after the other, each until it is taken, and asks for lists in between, which
/// must be given.
fn sender(daemon: &Daemon, number: usize, known: &Mutex<Known>, over: &AtomicBool) {
    for batch in 0.. {
        let ids: Vec<_> = (0..20).map(|place| format!("{number}-{batch}-{place}")).collect();
        let at = |place: usize| (format!("user{}", (batch + place) % 30), format!("item{}", (batch * 7 + place) % 90));
        let events: Vec<_> = ids.iter().enumerate().map(|(place, id)| event(id, &at(place).0, &at(place).1)).collect();
        loop {
            let HttpResponse { status, content_type, headers, body } = daemon.post("/v1/events", &json!(events).to_string());
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
        if over.load(Ordering::Relaxed) {
            return;
        }
    }
}

#[test]
fn a_full_disk_is_told_loses_nothing_and_passes_without_a_restart() {
    let home = DaemonHome::new();
    let Some(disk) = TmpfsDisk::mount(&home.data_dir()) else { return };
    let daemon = home.start(&["learning.interval=64", "store.checkpoint_every=500", "session.shards=2"]);
    let (known, over) = (Mutex::new(Known::default()), AtomicBool::new(false));
    let taken = || known.lock().unwrap().acknowledged.len();
    daemon.send_events(&[event("first", "user0", "item0")]);
    daemon.wait_until_learned(1);
    thread::scope(|scope| {
        let senders: Vec<_> = (0..3)
            .map(|number| {
                let (daemon, known, over) = (&daemon, &known, &over);
                scope.spawn(move || sender(daemon, number, known, over))
            })
            .collect();
        // A sender that has failed says why once all are joined; waiting for its events would hide
        // it.
        let failed = || senders.iter().any(thread::ScopedJoinHandle::is_finished);
        for _ in 0..3 {
            let before = taken();
            wait_for("events to be taken", || (taken() > before + 200 || failed()).then_some(()));
            known.lock().unwrap().problems.clear();
            disk.fill();
            wait_for("the full disk to be told", || {
                (known.lock().unwrap().problems.contains_key("/problems/disk-full") || failed()).then_some(())
            });
            wait_for("it not to be ready", || (daemon.get_admin("/readyz").status == 503 || failed()).then_some(()));
            assert_eq!(daemon.get_admin("/healthz").status, 200);
            // Lists are still given, and nothing is learned that is not in the journal.
            assert!(!daemon.recommended_items("user1").is_empty());
            if failed() {
                break;
            }
            let (problem, retry_after) = known.lock().unwrap().problems["/problems/disk-full"].clone();
            assert!(problem["detail"].as_str().unwrap().contains("No space left on device"), "{problem}");
            assert_eq!((problem["title"].as_str(), retry_after.as_deref()), (Some("The disk is full"), Some("1")), "{problem}");
            // Long enough for sessions to be stored in vain.
            thread::sleep(Duration::from_millis(1200));
            disk.make_room();
            wait_for("it to be ready again", || (daemon.get_admin("/readyz").status == 200 || failed()).then_some(()));
        }
        over.store(true, Ordering::Relaxed);
    });
    let known = known.into_inner().unwrap();
    daemon.wait_until_learned(known.acknowledged.len() as u64);
    // Nobody says goodbye: the sessions that could not be stored have been since.
    thread::sleep(Duration::from_millis(2500));
    daemon.kill();

    let ledger = JournalDump::read(&home.data_dir());
    let counts = ledger.event_ids();
    assert!(known.acknowledged.iter().all(|id| counts.get(id.as_str()) == Some(&1)), "an acknowledged event is gone, or there twice");
    assert_eq!(counts.len(), known.acknowledged.len() + 1);
    let daemon = home.start(&["learning.interval=64", "store.checkpoint_every=500", "session.shards=2"]);
    daemon.wait_until_learned(ledger.entries.len() as u64);
    daemon.assert_healthy();
    assert_eq!(daemon.terminate().code(), Some(0));
    drop(JournalDump::read(&home.data_dir()));
}

#[test]
fn what_is_ready_again_is_found_out_without_being_sent_anything() {
    let home = DaemonHome::new();
    let Some(disk) = TmpfsDisk::mount(&home.data_dir()) else { return };
    let daemon = home.start(&[]);
    disk.fill();
    let mut sent = 0;
    wait_for("a refusal", || {
        sent += 1;
        (daemon.post("/v1/events", &event(&format!("e{sent}"), "ann", "tea").to_string()).status == 503).then_some(())
    });
    assert_eq!(daemon.get_admin("/readyz").status, 503);
    let shows = |series: &str| daemon.get_admin("/metrics").body.lines().any(|line| line == series);
    let troubles = ["sequor_journal_failed 1", "sequor_ready 0", "sequor_disk_free_bytes 0"];
    assert!(troubles.into_iter().all(shows), "{}", daemon.get_admin("/metrics").body);
    assert!(!shows("sequor_commit_failures_total 0"));
    let health = run(&["health", "--url", daemon.admin_address()]);
    assert_eq!(health.status.code(), Some(1));
    assert!(String::from_utf8(health.stderr).unwrap().contains("the journal takes no writes"));
    disk.make_room();
    wait_for("readiness", || (daemon.get_admin("/readyz").status == 200).then_some(()));
    assert!(["sequor_journal_failed 0", "sequor_ready 1"].into_iter().all(shows), "{}", daemon.get_admin("/metrics").body);
    assert_eq!(daemon.send_events(&[event("another", "ann", "tea")])["accepted"], 1);
}
