//! Looking after the data: verify, backup, restore, export, rebuild, migrate, by the real binary.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, SMALL_NETWORK, event, run, sequor};
use crate::random::random_visits;

/// Runs a command on a data directory, with the settings of the tests' daemons.
fn on(data: &Path, arguments: &[&str]) -> Output {
    let mut command = sequor();
    command.args(arguments).arg("--data-dir").arg(data);
    for setting in SMALL_NETWORK.iter().chain(&STRIDES) {
        command.args(["--set", setting]);
    }
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn succeeds(output: Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refused(output: Output, reasons: &[&str]) {
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for reason in reasons {
        assert!(said.contains(reason), "{reason:?} is not said: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// Small strides, so that a few hundred events cross borders and clusterings.
const STRIDES: [&str; 3] = ["learning.interval=64", "clusters.every=128", "clusters.lag=64"];

/// Several hundred events with all that events may have.
fn events() -> Vec<Value> {
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

/// How many users those are of.
fn users() -> usize {
    events().iter().map(|event| event["user_id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>().len()
}

/// A daemon that has taken those events, some changes of the catalog, and shown two lists.
fn with_everything(home: &DaemonHome) -> Daemon {
    let daemon = home.start(&STRIDES);
    for batch in events().chunks(50) {
        daemon.send_events(batch);
    }
    assert_eq!(
        daemon.request("PUT", "/v1/items/tea", r#"{"categories":["drinks"],"price":4.5,"expires":"2040-01-01T00:00:00Z"}"#).status,
        200
    );
    assert_eq!(daemon.request("PATCH", "/v1/items/tea", r#"{"price":null,"tags":["green"]}"#).status, 200);
    assert_eq!(daemon.request("DELETE", "/v1/items/item3", "").status, 200);
    daemon.recommended_items("user1");
    daemon.recommended_items("user2");
    daemon.wait_until_learned(405);
    daemon
}

/// A stopped daemon's data.
fn stopped(home: &DaemonHome) -> PathBuf {
    assert_eq!(with_everything(home).terminate().code(), Some(0));
    home.data_dir()
}

fn export(data: &Path) -> Vec<Value> {
    succeeds(on(data, &["export"])).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The file of the only checkpoint.
fn checkpoint(data: &Path) -> PathBuf {
    let files: Vec<_> = data.join("checkpoints").read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn a_whole_directory_verifies_and_damage_is_told_by_place_reason_and_remedy() {
    let home = DaemonHome::new();
    let data = stopped(&home);
    // What a stop stores is there, though the process ends at once: item names and sessions were
    // once left in the database's memory, so that every start named the items of the whole journal
    // again.
    let json_file = home.path().join("found.json");
    let table = succeeds(on(&data, &["verify", "--json", json_file.to_str().unwrap()]));
    assert!(table.contains("journal entries            405") && table.contains("damages                      0"), "{table}");
    let found: Value = serde_json::from_str(&fs::read_to_string(&json_file).unwrap()).unwrap();
    assert_eq!(found["counts"]["sessions"], users());
    assert!(found["counts"]["items"].as_u64() > Some(10), "{found}");
    assert_eq!((&found["counts"]["events"], &found["counts"]["item_changes"], &found["damages"]), (&json!(400), &json!(3), &json!([])));

    // Under other settings borders fall elsewhere: told as that.
    let other = succeeds_not(on(&data, &["verify", "--set", "session.idle_gap=1s"]));
    assert!(other.contains("settings") && other.contains("--config"), "{other}");

    let file = checkpoint(&data);
    let whole = fs::read(&file).unwrap();
    let mut spoilt = whole.clone();
    spoilt[whole.len() / 2] ^= 1;
    fs::write(&file, spoilt).unwrap();
    refused(on(&data, &["verify"]), &[file.to_str().unwrap(), "its checksum does not match", "delete the file", "damaged in one place"]);
    fs::write(&file, whole).unwrap();

    fs::write(data.join("store/db"), vec![1; 4096]).unwrap();
    refused(on(&data, &["verify"]), &["store", "is damaged", "only a backup helps: `sequor restore`"]);
    // And nothing is made where nothing is.
    let nowhere = home.path().join("nowhere");
    for command in ["verify", "rebuild", "migrate", "export"] {
        refused(on(&nowhere, &[command]), &["there is no store in", "--data-dir"]);
        assert!(!nowhere.exists());
    }
}

fn succeeds_not(output: Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    said(&output)
}

#[test]
fn what_a_daemon_holds_is_not_touched_but_through_the_daemon() {
    let home = DaemonHome::new();
    let daemon = home.start(&STRIDES);
    daemon.send_events(&events()[..10]);
    let held = ["is held by another process"];
    for command in [&["verify"][..], &["rebuild"], &["migrate"]] {
        refused(on(&home.data_dir(), command), &held);
    }
    let target = home.path().join("monday");
    let target = target.to_str().unwrap();
    let way = format!("sequor backup {target} --url {}", daemon.admin_address());
    refused(on(&home.data_dir(), &["backup", target]), &["is held by another process", &way]);
    refused(on(&home.data_dir(), &["export"]), &["is held by another process", "--url http://127.0.0.1:"]);
    refused(run(&["backup", target, "--url", daemon.api()]), &["refused (404"]);
    refused(run(&["backup", target, "--url", "http://127.0.0.1:9"]), &["does not answer"]);
    assert!(!Path::new(target).exists());
    daemon.assert_healthy();
}

#[test]
fn a_backup_through_the_daemon_has_what_was_acknowledged_before_it_began() {
    let home = DaemonHome::new();
    let daemon = home.start(&STRIDES);
    let number = |event: &Value| event["event_id"].as_str().unwrap()[1..].parse::<u64>().unwrap();
    let done = AtomicBool::new(false);
    let send = |daemon: &Daemon| {
        let mut next = 0_u64;
        while !done.load(Ordering::SeqCst) {
            let batch: Vec<_> =
                (next..next + 20).map(|n| event(&format!("e{n}"), &format!("user{}", n % 30), &format!("item{}", n % 70))).collect();
            daemon.send_events(&batch);
            next += 20;
        }
        next
    };
    thread::scope(|scope| {
        let sender = scope.spawn(|| send(&daemon));
        daemon.wait_until_learned(500);
        for (place, name) in ["folder", "file.tar.gz"].into_iter().enumerate() {
            let target = home.path().join(name);
            let before = daemon.next_offset();
            succeeds(run(&["backup", target.to_str().unwrap(), "--url", daemon.admin_address()]));
            let after = daemon.next_offset();
            assert!(after > before, "nothing was sent meanwhile");
            refused(
                run(&["backup", target.to_str().unwrap(), "--url", daemon.admin_address()]),
                &["already exists", "nothing is overwritten"],
            );

            let data = home.path().join(format!("restored{place}"));
            succeeds(on(&data, &["restore", target.to_str().unwrap()]));
            succeeds(on(&data, &["verify"]));
            let numbers: Vec<_> = export(&data).iter().map(number).collect();
            assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "it is a prefix of what was sent");
            assert!((before..=after).contains(&(numbers.len() as u64)), "{before} <= {} <= {after}", numbers.len());
        }
        done.store(true, Ordering::SeqCst);
        assert!(sender.join().unwrap() > 500);
    });
    daemon.assert_healthy();
    // The directory is served as it is, and goes on where it ended.
    let other = DaemonHome::new();
    fs::rename(home.path().join("folder"), other.data_dir()).unwrap();
    let copy = other.start(&STRIDES);
    let entries = copy.next_offset();
    copy.wait_until_learned(entries);
    assert_eq!(copy.send_events(&[event("e0", "user0", "item0"), event("new", "user0", "item1")])["accepted"], 1);
    assert!(!copy.recommended_items("user0").is_empty());
    let left: Vec<_> = home.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("unfinished")), "{left:?}");
}

#[test]
fn the_admin_endpoint_refuses_what_is_no_target() {
    let home = DaemonHome::new();
    let daemon = home.start(&STRIDES);
    let post = |body: &str| daemon.admin_request("POST", "/admin/backup", body);
    for body in [r#"{"target":"monday"}"#, "{}", r#"{"target":"/tmp/x","more":1}"#] {
        let answer = post(body);
        assert_eq!((answer.status, answer.content_type.as_str()), (400, "application/problem+json"), "{body}");
    }
    let answer = post(&json!({ "target": home.path().join("no/such/folder") }).to_string());
    assert_eq!(answer.status, 409);
    assert!(answer.body.contains("no/such"), "{}", answer.body);
    assert_eq!(daemon.get_admin("/admin/backup").status, 405);
    assert_eq!(daemon.get_admin("/admin/journal?only=events").status, 400);
    daemon.assert_healthy();
}

#[test]
fn a_backup_of_a_stopped_directory_is_restored_only_where_nothing_is() {
    let home = DaemonHome::new();
    let data = stopped(&home);
    let expected = export(&data);
    for name in ["folder", "file.tar.gz"] {
        let target = home.path().join(name);
        let table = succeeds(on(&data, &["backup", target.to_str().unwrap()]));
        assert!(table.contains("journal entries            405") && table.contains("at 405"), "{table}");
        refused(on(&data, &["backup", target.to_str().unwrap()]), &["already exists"]);
        let restored = home.path().join(format!("from-{name}"));
        succeeds(on(&restored, &["restore", target.to_str().unwrap()]));
        assert_eq!(export(&restored), expected);
        assert_eq!(fs::read(checkpoint(&restored)).unwrap(), fs::read(checkpoint(&data)).unwrap());
        refused(on(&restored, &["restore", target.to_str().unwrap()]), &["is not empty"]);
    }
    // A backup that is damaged, or none, leaves nothing behind.
    let file = home.path().join("file.tar.gz");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 10]).unwrap();
    let nowhere = home.path().join("nowhere");
    refused(on(&nowhere, &["restore", file.to_str().unwrap()]), &["file.tar.gz"]);
    refused(on(&nowhere, &["restore", home.path().to_str().unwrap()]), &["is not a backup"]);
    refused(on(&nowhere, &["restore", "absent"]), &["absent"]);
    assert!(!nowhere.exists());
    refused(run(&["restore", file.to_str().unwrap()]), &["--data-dir"]);
}

#[test]
fn an_export_sent_to_a_fresh_daemon_gives_the_same_journal() {
    let home = DaemonHome::new();
    let daemon = with_everything(&home);
    let whole = succeeds(run(&["export", "--url", daemon.admin_address()]));
    assert_eq!(whole.lines().count(), 405);
    let part = succeeds(run(&["export", "-", "--url", daemon.admin_address(), "--from", "398", "--to", "403", "--only", "item"]));
    let offsets: Vec<_> = part.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["offset"].clone()).collect();
    assert_eq!(offsets, [400, 401, 402]);
    assert_eq!(daemon.terminate().code(), Some(0));
    assert_eq!(succeeds(on(&home.data_dir(), &["export"])), whole, "the daemon and the directory say the same");

    let file = home.path().join("events.ndjson.gz");
    succeeds(on(&home.data_dir(), &["export", file.to_str().unwrap(), "--only", "event"]));
    let mut events = String::new();
    GzDecoder::new(fs::File::open(&file).unwrap()).read_to_string(&mut events).unwrap();
    let other = DaemonHome::new();
    let fresh = other.start(&STRIDES);
    let answer = fresh.post("/v1/events", &events);
    assert_eq!(
        answer.json(),
        json!({ "accepted": 400, "duplicates": 0, "withheld": 0, "rejected": [], "offset": 400 }),
        "without a warning of fields that no event has"
    );
    let again = succeeds(run(&["export", "--url", fresh.admin_address(), "--only", "event"]));
    assert_eq!(again, events);
    let replayed = succeeds(run(&["replay", file.to_str().unwrap(), "--set", SMALL_NETWORK[0]]));
    assert!(replayed.contains("400   (0 rejected)"), "{replayed}");
    refused(on(&home.data_dir(), &["export", "--from", "5", "--to", "4"]), &["--to 4 lies before --from 5"]);
    refused(on(&home.data_dir(), &["export", "--only", "events"]).into_refusal(), &["event, impression, item"]);
}

/// What clap refuses ends with 2.
trait IntoRefusal {
    fn into_refusal(self) -> Self;
}

impl IntoRefusal for Output {
    fn into_refusal(mut self) -> Self {
        assert_eq!(self.status.code(), Some(2));
        self.status = std::os::unix::process::ExitStatusExt::from_raw(1 << 8);
        self
    }
}

#[test]
fn rebuilt_is_what_was_there_to_the_byte() {
    let home = DaemonHome::new();
    let data = stopped(&home);
    let (learned, expected) = (fs::read(checkpoint(&data)).unwrap(), export(&data));
    // Whatever the folds were: the journal alone counts.
    fs::write(checkpoint(&data), "no checkpoint").unwrap();
    fs::write(data.join("checkpoints/00000000000000000007.checkpoint"), "an older one").unwrap();
    fs::create_dir(data.join("rebuild.unfinished-x")).unwrap();
    let table = succeeds(on(&data, &["rebuild"]));
    assert!(table.contains("damages                      0"), "{table}");
    assert!(fs::read(checkpoint(&data)).unwrap() == learned, "what was learned is the same bytes");
    assert_eq!(export(&data), expected);
    succeeds(on(&data, &["verify"]));
    let left: BTreeSet<_> = data.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(left, ["addresses.json", "checkpoints", "end", "lock", "store"].map(str::to_owned).into());

    let daemon = home.start(&STRIDES);
    assert_eq!(daemon.status()["learning"]["next_offset"], 405, "nothing is left to learn");
    assert_eq!(daemon.send_events(&events()[..50])["duplicates"], 50);
    assert!(!daemon.recommended_items("user1").is_empty());
}

#[test]
fn what_learning_began_with_is_kept_and_comes_first() {
    let home = DaemonHome::new();
    let recording: String =
        random_visits(8, 300).iter().map(|visit| format!("{},other-{},view,{}\n", visit.user, visit.item, visit.at)).collect();
    let (file, trained) = (home.path().join("recording.csv"), home.path().join("trained.ckpt"));
    fs::write(&file, format!("user,item,event,timestamp\n{recording}")).unwrap();
    let mut train = sequor();
    train.arg("train").arg(&file).arg("--checkpoint").arg(&trained).args(["--epochs", "1"]);
    succeeds(train.args(SMALL_NETWORK.iter().flat_map(|setting| ["--set", setting])).output().unwrap());
    let daemon = home.start(&[&STRIDES[..], &[&format!("--checkpoint={}", trained.display())]].concat());
    daemon.send_events(&events()[..200]);
    daemon.wait_until_learned(200);
    assert_eq!(daemon.terminate().code(), Some(0));
    let data = home.data_dir();
    succeeds(on(&data, &["verify"]));
    let (origin, learned) = (fs::read(data.join("origin")).unwrap(), fs::read(checkpoint(&data)).unwrap());
    succeeds(on(&data, &["rebuild"]));
    assert!(fs::read(checkpoint(&data)).unwrap() == learned, "what was learned is the same bytes");

    let (target, restored) = (home.path().join("monday.tar.gz"), home.path().join("restored"));
    succeeds(on(&data, &["backup", target.to_str().unwrap()]));
    succeeds(on(&restored, &["restore", target.to_str().unwrap()]));
    assert!(fs::read(restored.join("origin")).unwrap() == origin);
    succeeds(on(&restored, &["verify"]));

    let mut spoilt = origin;
    let middle = spoilt.len() / 2;
    spoilt[middle] ^= 1;
    fs::write(data.join("origin"), spoilt).unwrap();
    refused(
        on(&data, &["verify"]),
        &["origin: ", "its checksum does not match", "only a backup helps: `sequor restore`", "damaged in one place"],
    );
}

#[test]
fn entries_that_are_gone_are_given_up_only_when_told_to() {
    let home = DaemonHome::new();
    let data = stopped(&home);
    let other = DaemonHome::new();
    let daemon = other.start(&STRIDES);
    daemon.send_events(&events()[..100]);
    assert_eq!(daemon.terminate().code(), Some(0));
    // An older database where a newer one was: the journal ends before what is known of it.
    fs::remove_dir_all(data.join("store")).unwrap();
    fs::rename(other.data_dir().join("store"), data.join("store")).unwrap();
    refused(home.start_expecting_failure(&STRIDES), &["ends at offset 100", "405 entries were in it", "--accept-loss"]);
    refused(on(&data, &["verify"]), &["journal, offset 100", "405 entries were in it", "sequor restore"]);
    for command in [&["rebuild"][..], &["export"], &["backup", home.path().join("b").to_str().unwrap()]] {
        refused(on(&data, command), &["405 entries were in it"]);
    }
    succeeds(on(&data, &["rebuild", "--accept-loss"]));
    let daemon = home.start(&STRIDES);
    assert_eq!(daemon.next_offset(), 100);
    assert_eq!(daemon.send_events(&events()[..101])["duplicates"], 100);
}

#[test]
fn a_present_store_needs_no_migration() {
    let home = DaemonHome::new();
    let data = stopped(&home);
    assert!(succeeds(on(&data, &["migrate"])).contains("has format 5, the current one; there is nothing to do"));
}

#[test]
fn a_store_of_the_first_format_is_migrated_once_and_sound() {
    let home = DaemonHome::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/fixtures/1/store");
    std::fs::create_dir_all(home.data_dir().join("store")).unwrap();
    for file in ["conf", "db"] {
        std::fs::copy(fixture.join(file), home.data_dir().join("store").join(file)).unwrap();
    }
    assert!(succeeds(on(&home.data_dir(), &["migrate"])).contains("was migrated from format 1 to 5"));
    assert!(succeeds(on(&home.data_dir(), &["migrate"])).contains("there is nothing to do"));
    assert!(succeeds(on(&home.data_dir(), &["verify"])).contains("journal entries            121"));
    let daemon = home.start(&STRIDES);
    daemon.wait_until_learned(121);
    assert!(!daemon.recommended_items("user3").is_empty());
}
