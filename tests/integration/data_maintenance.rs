//! Data maintenance commands of the real binary: verify, backup, restore, export, rebuild, migrate.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, SMALL_NETWORK_SETTINGS, run_sequor, sequor_command, view_event, wait_for};
use crate::random::random_visits;

/// Runs a command on a data directory, with the settings of the test daemons.
fn run_on_data_dir(data: &Path, arguments: &[&str]) -> Output {
    let mut command = sequor_command();
    command.args(arguments).arg("--data-dir").arg(data);
    for setting in SMALL_NETWORK_SETTINGS.iter().chain(&SHORT_INTERVALS) {
        command.args(["--set", setting]);
    }
    command.output().unwrap()
}

fn output_text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn expect_success(output: Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", output_text(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn assert_fails(output: Output, reasons: &[&str]) {
    let output_text = output_text(&output);
    assert_eq!(output.status.code(), Some(1), "{output_text}");
    for reason in reasons {
        assert!(output_text.contains(reason), "{reason:?} is not in: {output_text}");
    }
    assert!(!output_text.contains("panicked"), "{output_text}");
}

/// Short intervals, so that a few hundred events cross training boundaries and clusterings.
const SHORT_INTERVALS: [&str; 3] = ["learning.interval=64", "clusters.every=128", "clusters.lag=64"];

/// 400 events that together use every field.
fn events_with_every_field() -> Vec<Value> {
    let visits = random_visits(6, 400);
    let one = |(number, visit): (usize, &crate::random::Visit)| {
        let mut event = json!({ "event_id": format!("v{number}"), "user_id": visit.user, "type": "view", "item_id": visit.item, "timestamp": visit.at });
        match number % 5 {
            0 => event["properties"] = json!({ "page": [number, "ü\n\""] }),
            1 => event["session_id"] = json!(format!("s{}", number / 40)),
            2 => event["value"] = json!(number as f64 / 7.0),
            3 => event["type"] = json!("purchase"),
            _ => {}
        }
        event
    };
    visits.iter().enumerate().map(one).collect()
}

/// The number of users in [`events_with_every_field`].
fn user_count() -> usize {
    events_with_every_field()
        .iter()
        .map(|event| event["user_id"].as_str().unwrap().to_owned())
        .collect::<BTreeSet<_>>()
        .len()
}

/// Starts a daemon with [`events_with_every_field`], some catalog changes and two shown lists.
fn start_with_data(home: &DaemonHome) -> Daemon {
    let daemon = home.start(&SHORT_INTERVALS);
    for batch in events_with_every_field().chunks(50) {
        daemon.send_events(batch);
    }
    assert_eq!(
        daemon
            .request(
                "PUT",
                "/v1/items/tea",
                r#"{"categories":["drinks"],"price":4.5,"expires":"2040-01-01T00:00:00Z"}"#
            )
            .status,
        200
    );
    assert_eq!(daemon.request("PATCH", "/v1/items/tea", r#"{"price":null,"tags":["green"]}"#).status, 200);
    assert_eq!(daemon.request("DELETE", "/v1/items/item3", "").status, 200);
    daemon.recommended_items("user1");
    daemon.recommended_items("user2");
    daemon.wait_until_learned(405);
    daemon
}

/// Fills a daemon, stops it and returns its data directory.
fn fill_and_stop_daemon(home: &DaemonHome) -> PathBuf {
    assert_eq!(start_with_data(home).terminate().code(), Some(0));
    home.data_dir()
}

fn exported_entries(data: &Path) -> Vec<Value> {
    expect_success(run_on_data_dir(data, &["export"])).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The file of the only checkpoint.
fn only_checkpoint(data: &Path) -> PathBuf {
    let files: Vec<_> = data.join("checkpoints").read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn verify_reports_damage_with_place_reason_and_remedy() {
    let home = DaemonHome::new();
    let data = fill_and_stop_daemon(&home);
    // Regression test: a stop must write item names and sessions to disk. Names and sessions once
    // stayed in the database's memory, so every start interned the items of the whole journal
    // again.
    let json_file = home.dir().join("found.json");
    let table = expect_success(run_on_data_dir(&data, &["verify", "--json", json_file.to_str().unwrap()]));
    assert!(
        table.contains("journal entries            405") && table.contains("damages                      0"),
        "{table}"
    );
    let found: Value = serde_json::from_str(&fs::read_to_string(&json_file).unwrap()).unwrap();
    assert_eq!(found["counts"]["sessions"], user_count());
    assert!(found["counts"]["items"].as_u64() > Some(10), "{found}");
    assert_eq!(
        (&found["counts"]["events"], &found["counts"]["item_changes"], &found["damages"]),
        (&json!(400), &json!(3), &json!([]))
    );

    // Other settings are named as a difference, not as damage.
    let other = expect_success(run_on_data_dir(&data, &["verify", "--set", "session.idle_gap=1s"]));
    assert!(
        other.contains("damages                      0")
            && other.contains("settings: the sessions were computed with another"),
        "{other}"
    );

    let file = only_checkpoint(&data);
    let whole = fs::read(&file).unwrap();
    let mut corrupted = whole.clone();
    corrupted[whole.len() / 2] ^= 1;
    fs::write(&file, corrupted).unwrap();
    assert_fails(
        run_on_data_dir(&data, &["verify"]),
        &[file.to_str().unwrap(), "its checksum does not match", "delete the file", "damaged in one place"],
    );
    fs::write(&file, whole).unwrap();

    fs::write(data.join("store/db"), vec![1; 4096]).unwrap();
    assert_fails(
        run_on_data_dir(&data, &["verify"]),
        &["store", "is damaged", "only a backup helps: `sequor restore`"],
    );
    // Commands do not create a missing data directory.
    let nowhere = home.dir().join("nowhere");
    for command in ["verify", "rebuild", "migrate", "export"] {
        assert_fails(run_on_data_dir(&nowhere, &[command]), &["there is no store in", "--data-dir"]);
        assert!(!nowhere.exists());
    }
}

#[test]
fn commands_on_a_running_daemons_directory_suggest_its_url() {
    let home = DaemonHome::new();
    let daemon = home.start(&SHORT_INTERVALS);
    daemon.send_events(&events_with_every_field()[..10]);
    let held_reason = ["is held by another process"];
    for command in [&["verify"][..], &["rebuild"], &["migrate"]] {
        assert_fails(run_on_data_dir(&home.data_dir(), command), &held_reason);
    }
    let target = home.dir().join("monday");
    let target = target.to_str().unwrap();
    let suggested_command = format!("sequor backup {target} --url {}", daemon.admin_url());
    assert_fails(
        run_on_data_dir(&home.data_dir(), &["backup", target]),
        &["is held by another process", &suggested_command],
    );
    assert_fails(
        run_on_data_dir(&home.data_dir(), &["export"]),
        &["is held by another process", "--url http://127.0.0.1:"],
    );
    assert_fails(run_sequor(&["backup", target, "--url", daemon.api_url()]), &["refused (404"]);
    assert_fails(run_sequor(&["backup", target, "--url", "http://127.0.0.1:9"]), &["does not answer"]);
    assert!(!Path::new(target).exists());
    daemon.assert_healthy();
}

#[test]
fn online_backup_contains_all_earlier_acknowledged_events() {
    let home = DaemonHome::new();
    let daemon = home.start(&SHORT_INTERVALS);
    let number = |event: &Value| event["event_id"].as_str().unwrap()[1..].parse::<u64>().unwrap();
    let done = AtomicBool::new(false);
    let send = |daemon: &Daemon| {
        let mut next = 0_u64;
        while !done.load(Ordering::SeqCst) {
            let batch: Vec<_> = (next..next + 20)
                .map(|n| view_event(&format!("e{n}"), &format!("user{}", n % 30), &format!("item{}", n % 70)))
                .collect();
            // Sends events no faster than the daemon learns, so that the learner of the copy
            // catches up soon.
            let response = daemon.post("/v1/events?max_lag=5000", &json!(batch).to_string());
            assert!(matches!(response.status, 200 | 503), "{}", response.body);
            next += if response.status == 200 { 20 } else { 0 };
            // Keeps the journal small: its size only makes the test slower.
            thread::sleep(Duration::from_millis(5));
        }
        next
    };
    thread::scope(|scope| {
        let sender = scope.spawn(|| send(&daemon));
        wait_for("learning to begin", || {
            (daemon.status()["learning"]["next_offset"].as_u64() >= Some(500)).then_some(())
        });
        for (place, name) in ["folder", "file.tar.gz"].into_iter().enumerate() {
            let target = home.dir().join(name);
            let before = daemon.next_offset();
            expect_success(run_sequor(&["backup", target.to_str().unwrap(), "--url", daemon.admin_url()]));
            let after = daemon.next_offset();
            assert!(after > before, "no events were sent during the backup");
            assert_fails(
                run_sequor(&["backup", target.to_str().unwrap(), "--url", daemon.admin_url()]),
                &["already exists", "nothing is overwritten"],
            );

            let data = home.dir().join(format!("restored{place}"));
            expect_success(run_on_data_dir(&data, &["restore", target.to_str().unwrap()]));
            expect_success(run_on_data_dir(&data, &["verify"]));
            let numbers: Vec<_> = exported_entries(&data).iter().map(number).collect();
            assert!(
                numbers.iter().copied().eq(0..numbers.len() as u64),
                "the backup is not a prefix of the sent events"
            );
            assert!((before..=after).contains(&(numbers.len() as u64)), "{before} <= {} <= {after}", numbers.len());
        }
        done.store(true, Ordering::SeqCst);
        assert!(sender.join().unwrap() > 500);
    });
    daemon.assert_healthy();
    // A daemon can serve a backup folder as its data directory. New entries follow the last entry
    // of the backup.
    let other = DaemonHome::new();
    fs::rename(home.dir().join("folder"), other.data_dir()).unwrap();
    let copy = other.start(&SHORT_INTERVALS);
    let entries = copy.next_offset();
    copy.wait_until_learned(entries);
    assert_eq!(
        copy.send_events(&[view_event("e0", "user0", "item0"), view_event("new", "user0", "item1")])["accepted"],
        1
    );
    assert!(!copy.recommended_items("user0").is_empty());
    let left: Vec<_> = home.dir().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("unfinished")), "{left:?}");
}

#[test]
fn admin_backup_rejects_invalid_targets() {
    let home = DaemonHome::new();
    let daemon = home.start(&SHORT_INTERVALS);
    let post = |body: &str| daemon.admin_request("POST", "/admin/backup", body);
    for body in [r#"{"target":"monday"}"#, "{}", r#"{"target":"/tmp/x","more":1}"#] {
        let response = post(body);
        assert_eq!((response.status, response.content_type.as_str()), (400, "application/problem+json"), "{body}");
    }
    let response = post(&json!({ "target": home.dir().join("no/such/folder") }).to_string());
    assert_eq!(response.status, 409);
    assert!(response.body.contains("no/such"), "{}", response.body);
    assert_eq!(daemon.get_admin("/admin/backup").status, 405);
    assert_eq!(daemon.get_admin("/admin/journal?only=events").status, 400);
    daemon.assert_healthy();
}

#[test]
fn offline_backup_is_restored_only_into_an_empty_directory() {
    let home = DaemonHome::new();
    let data = fill_and_stop_daemon(&home);
    let expected = exported_entries(&data);
    for name in ["folder", "file.tar.gz"] {
        let target = home.dir().join(name);
        let table = expect_success(run_on_data_dir(&data, &["backup", target.to_str().unwrap()]));
        assert!(table.contains("journal entries            405") && table.contains("at 405"), "{table}");
        assert_fails(run_on_data_dir(&data, &["backup", target.to_str().unwrap()]), &["already exists"]);
        let restored = home.dir().join(format!("from-{name}"));
        expect_success(run_on_data_dir(&restored, &["restore", target.to_str().unwrap()]));
        assert_eq!(exported_entries(&restored), expected);
        assert_eq!(fs::read(only_checkpoint(&restored)).unwrap(), fs::read(only_checkpoint(&data)).unwrap());
        assert_fails(run_on_data_dir(&restored, &["restore", target.to_str().unwrap()]), &["is not empty"]);
    }
    // A damaged backup, or a file that is no backup, leaves no files behind.
    let file = home.dir().join("file.tar.gz");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 10]).unwrap();
    let nowhere = home.dir().join("nowhere");
    assert_fails(run_on_data_dir(&nowhere, &["restore", file.to_str().unwrap()]), &["file.tar.gz"]);
    assert_fails(run_on_data_dir(&nowhere, &["restore", home.dir().to_str().unwrap()]), &["is not a backup"]);
    assert_fails(run_on_data_dir(&nowhere, &["restore", "absent"]), &["absent"]);
    assert!(!nowhere.exists());
    assert_fails(run_sequor(&["restore", file.to_str().unwrap()]), &["--data-dir"]);
}

#[test]
fn an_export_replaces_only_a_regular_file() {
    let home = DaemonHome::new();
    let data = fill_and_stop_daemon(&home);
    let [socket, target, link] = ["socket", "target", "link"].map(|name| home.dir().join(name));
    let _listener = UnixListener::bind(&socket).unwrap();
    for path in [&socket, &data] {
        let refused = run_on_data_dir(&data, &["export", path.to_str().unwrap()]);
        assert_fails(refused, &["is not a regular file", "standard output"]);
    }
    assert!(fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
    fs::write(&target, "earlier").unwrap();
    symlink(&target, &link).unwrap();
    expect_success(run_on_data_dir(&data, &["export", link.to_str().unwrap()]));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&target).unwrap().lines().count(), 405);
    fs::remove_file(&target).unwrap();
    let refused = run_on_data_dir(&data, &["export", link.to_str().unwrap()]);
    assert_fails(refused, &["is a link to a file that does not exist"]);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && !target.exists());
}

#[test]
fn exported_events_recreate_the_same_journal() {
    let home = DaemonHome::new();
    let daemon = start_with_data(&home);
    let whole = expect_success(run_sequor(&["export", "--url", daemon.admin_url()]));
    assert_eq!(whole.lines().count(), 405);
    let part = expect_success(run_sequor(&[
        "export",
        "-",
        "--url",
        daemon.admin_url(),
        "--from",
        "398",
        "--to",
        "403",
        "--only",
        "item",
    ]));
    let offsets: Vec<_> =
        part.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["offset"].clone()).collect();
    assert_eq!(offsets, [400, 401, 402]);
    assert_eq!(daemon.terminate().code(), Some(0));
    assert_eq!(
        expect_success(run_on_data_dir(&home.data_dir(), &["export"])),
        whole,
        "online and offline exports are equal"
    );

    let file = home.dir().join("events.ndjson.gz");
    expect_success(run_on_data_dir(&home.data_dir(), &["export", file.to_str().unwrap(), "--only", "event"]));
    let mut events = String::new();
    GzDecoder::new(fs::File::open(&file).unwrap()).read_to_string(&mut events).unwrap();
    let other = DaemonHome::new();
    let fresh = other.start(&SHORT_INTERVALS);
    let response = fresh.post("/v1/events", &events);
    assert_eq!(
        response.json(),
        json!({ "accepted": 400, "duplicates": 0, "withheld": 0, "rejected": [], "offset": 400 }),
        "there are no warnings about unknown fields"
    );
    let exported_again = expect_success(run_sequor(&["export", "--url", fresh.admin_url(), "--only", "event"]));
    assert_eq!(exported_again, events);
    let replayed = expect_success(run_sequor(&["replay", file.to_str().unwrap(), "--set", SMALL_NETWORK_SETTINGS[0]]));
    assert!(replayed.contains("400   (0 rejected)"), "{replayed}");
    assert_fails(
        run_on_data_dir(&home.data_dir(), &["export", "--from", "5", "--to", "4"]),
        &["--to 4 lies before --from 5"],
    );
    assert_fails(
        run_on_data_dir(&home.data_dir(), &["export", "--only", "events"]).expect_usage_error(),
        &["event, impression, item"],
    );
}

/// Maps clap's exit code 2 to 1.
trait UsageError {
    fn expect_usage_error(self) -> Self;
}

impl UsageError for Output {
    fn expect_usage_error(mut self) -> Self {
        assert_eq!(self.status.code(), Some(2));
        self.status = std::os::unix::process::ExitStatusExt::from_raw(1 << 8);
        self
    }
}

#[test]
fn rebuild_recreates_the_same_bytes() {
    let home = DaemonHome::new();
    let data = fill_and_stop_daemon(&home);
    let (learned, expected) = (fs::read(only_checkpoint(&data)).unwrap(), exported_entries(&data));
    // Damages all derived state, because a rebuild uses only the journal.
    fs::write(only_checkpoint(&data), "no checkpoint").unwrap();
    fs::write(data.join("checkpoints/00000000000000000007.checkpoint"), "an older one").unwrap();
    fs::create_dir(data.join("rebuild.unfinished-x")).unwrap();
    let table = expect_success(run_on_data_dir(&data, &["rebuild"]));
    assert!(table.contains("damages                      0"), "{table}");
    assert!(fs::read(only_checkpoint(&data)).unwrap() == learned, "the learned state is identical");
    assert_eq!(exported_entries(&data), expected);
    expect_success(run_on_data_dir(&data, &["verify"]));
    let left: BTreeSet<_> =
        data.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(
        left,
        ["addresses.json", "checkpoints", "end", "journal-id", "lock", "reserve", "store"].map(str::to_owned).into()
    );

    let daemon = home.start(&SHORT_INTERVALS);
    assert_eq!(daemon.status()["learning"]["next_offset"], 405, "everything is already learned");
    assert_eq!(daemon.send_events(&events_with_every_field()[..50])["duplicates"], 50);
    assert!(!daemon.recommended_items("user1").is_empty());
}

#[test]
fn pretrained_network_is_kept_and_used_by_rebuild() {
    let home = DaemonHome::new();
    let recording: String = random_visits(8, 300)
        .iter()
        .map(|visit| format!("{},other-{},view,{}\n", visit.user, visit.item, visit.at))
        .collect();
    let (file, trained) = (home.dir().join("recording.csv"), home.dir().join("trained.ckpt"));
    fs::write(&file, format!("user,item,event,timestamp\n{recording}")).unwrap();
    let mut train = sequor_command();
    train.arg("train").arg(&file).arg("--checkpoint").arg(&trained).args(["--epochs", "1"]);
    expect_success(train.args(SMALL_NETWORK_SETTINGS.iter().flat_map(|setting| ["--set", setting])).output().unwrap());
    let daemon = home.start(&[&SHORT_INTERVALS[..], &[&format!("--checkpoint={}", trained.display())]].concat());
    daemon.send_events(&events_with_every_field()[..200]);
    daemon.wait_until_learned(200);
    assert_eq!(daemon.terminate().code(), Some(0));
    let data = home.data_dir();
    expect_success(run_on_data_dir(&data, &["verify"]));
    let (origin, learned) = (fs::read(data.join("origin")).unwrap(), fs::read(only_checkpoint(&data)).unwrap());
    expect_success(run_on_data_dir(&data, &["rebuild"]));
    assert!(fs::read(only_checkpoint(&data)).unwrap() == learned, "the learned state is identical");

    let (target, restored) = (home.dir().join("monday.tar.gz"), home.dir().join("restored"));
    expect_success(run_on_data_dir(&data, &["backup", target.to_str().unwrap()]));
    expect_success(run_on_data_dir(&restored, &["restore", target.to_str().unwrap()]));
    assert!(fs::read(restored.join("origin")).unwrap() == origin);
    expect_success(run_on_data_dir(&restored, &["verify"]));

    let mut corrupted = origin;
    let middle = corrupted.len() / 2;
    corrupted[middle] ^= 1;
    fs::write(data.join("origin"), corrupted).unwrap();
    assert_fails(
        run_on_data_dir(&data, &["verify"]),
        &["origin: ", "its checksum does not match", "only a backup helps: `sequor restore`", "damaged in one place"],
    );
    // Without the file, learning would start from another network.
    fs::remove_file(data.join("origin")).unwrap();
    assert_fails(
        run_on_data_dir(&data, &["verify"]),
        &["origin: ", "is missing", "only a backup helps: `sequor restore`"],
    );
    assert_fails(
        home.start_expecting_failure(&SHORT_INTERVALS),
        &["origin is missing", "restore the file from a backup"],
    );
}

#[test]
fn lost_entries_are_accepted_only_with_the_flag() {
    let home = DaemonHome::new();
    let data = fill_and_stop_daemon(&home);
    let other = DaemonHome::new();
    let daemon = other.start(&SHORT_INTERVALS);
    daemon.send_events(&events_with_every_field()[..100]);
    assert_eq!(daemon.terminate().code(), Some(0));
    // Replaces the database by an older one, so that the journal ends before its recorded end.
    fs::remove_dir_all(data.join("store")).unwrap();
    fs::rename(other.data_dir().join("store"), data.join("store")).unwrap();
    assert_fails(
        home.start_expecting_failure(&SHORT_INTERVALS),
        &["ends at offset 100", "405 entries were in it", "--accept-loss"],
    );
    assert_fails(
        run_on_data_dir(&data, &["verify"]),
        &["journal, offset 100", "405 entries were in it", "sequor restore"],
    );
    for command in [&["rebuild"][..], &["export"], &["backup", home.dir().join("b").to_str().unwrap()]] {
        assert_fails(run_on_data_dir(&data, command), &["405 entries were in it"]);
    }
    expect_success(run_on_data_dir(&data, &["rebuild", "--accept-loss"]));
    let daemon = home.start(&SHORT_INTERVALS);
    assert_eq!(daemon.next_offset(), 100);
    assert_eq!(daemon.send_events(&events_with_every_field()[..101])["duplicates"], 100);
}

#[test]
fn current_format_needs_no_migration() {
    let home = DaemonHome::new();
    let data = fill_and_stop_daemon(&home);
    assert!(
        expect_success(run_on_data_dir(&data, &["migrate"]))
            .contains("has format 9, the current one; there is nothing to do")
    );
}

#[test]
fn format_1_store_is_migrated_once() {
    let home = DaemonHome::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/fixtures/1/store");
    std::fs::create_dir_all(home.data_dir().join("store")).unwrap();
    for file in ["conf", "db"] {
        std::fs::copy(fixture.join(file), home.data_dir().join("store").join(file)).unwrap();
    }
    assert!(
        expect_success(run_on_data_dir(&home.data_dir(), &["migrate"])).contains("was migrated from format 1 to 9")
    );
    assert!(expect_success(run_on_data_dir(&home.data_dir(), &["migrate"])).contains("there is nothing to do"));
    assert!(expect_success(run_on_data_dir(&home.data_dir(), &["verify"])).contains("journal entries            121"));
    let daemon = home.start(&SHORT_INTERVALS);
    daemon.wait_until_learned(121);
    assert!(!daemon.recommended_items("user3").is_empty());
}
