//! Backups of unusual but sound stores restore, damaged or crafted ones are refused, and killed
//! commands leave nothing that blocks later commands.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::thread;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use sequor::store::{Store, StoreOptions};
use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, SMALL_NETWORK_SETTINGS, sequor_command, view_event, wait_for};
use crate::journal_dump::copy_dir;

/// Runs a command on a data directory, with the settings of the tests' daemons.
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

#[track_caller]
fn expect_success(output: &Output, step: &str) -> String {
    assert_eq!(output.status.code(), Some(0), "{step}: {}", output_text(output));
    output_text(output)
}

#[track_caller]
fn expect_failure(output: &Output, reasons: &[&str]) {
    let text = output_text(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for reason in reasons {
        assert!(text.contains(reason), "{reason:?} is missing: {text}");
    }
}

/// Regression test: a sign-up merges the visitor's id into the account's id before either id has an
/// event. The account's session record is then empty and not stored. But `verify` expected the
/// record, so `restore` refused every backup. The test applies every kind of entry to users that
/// the store does not know.
#[test]
fn every_kind_of_entry_on_unseen_users_can_be_backed_up_and_restored() {
    let home = DaemonHome::new();
    let merge =
        |into: &str, from: &str| ("POST", format!("/v1/users/{into}/merge"), json!({ "from": from }).to_string());
    let consent =
        |user: &str, level: &str| ("PUT", format!("/v1/users/{user}/consent"), json!({ "consent": level }).to_string());
    let steps = [
        ("merge", merge("account", "visitor")),
        (
            "identify",
            ("POST", "/v1/identify".to_owned(), json!({ "userId": "member", "anonymousId": "device-1" }).to_string()),
        ),
        (
            "alias",
            ("POST", "/v1/alias".to_owned(), json!({ "userId": "member-2", "previousId": "member" }).to_string()),
        ),
        ("chained merge", merge("person", "account")),
        ("consent", consent("quiet", "none")),
        ("consent, then merge", merge("quiet-2", "quiet")),
        ("erasure", ("DELETE", "/v1/users/nobody".to_owned(), String::new())),
        ("erasure of a merged user", ("DELETE", "/v1/users/person".to_owned(), String::new())),
        ("item", ("PUT", "/v1/items/tea".to_owned(), json!({ "price": 4.5 }).to_string())),
        ("item removal", ("DELETE", "/v1/items/never".to_owned(), String::new())),
        (
            "event of a merged user",
            ("POST", "/v1/events".to_owned(), json!([view_event("e1", "visitor", "tea")]).to_string()),
        ),
        ("merge of an unseen user into a seen one", merge("visitor", "stranger")),
        ("merge of a seen user into an unseen one", merge("stranger-2", "visitor")),
        ("impression", ("GET", "/v1/users/unseen/recommendations".to_owned(), String::new())),
    ];
    for (number, (step, (method, path, body))) in steps.iter().enumerate() {
        let daemon = home.start(&[]);
        let headers: &[(&str, &str)] = if body.is_empty() { &[] } else { &[("content-type", "application/json")] };
        let answer = daemon.send(method, path, headers, body.as_bytes()).unwrap();
        assert!([200, 202, 204, 404].contains(&answer.status), "{step}: {}", answer.body);
        let stop = |daemon: Daemon| assert_eq!(daemon.terminate().code(), Some(0));
        stop(daemon);
        expect_success(&run_on_data_dir(&home.data_dir(), &["verify"]), step);
        let (backup, restored) =
            (home.dir().join(format!("backup{number}.tar.gz")), home.dir().join(format!("restored{number}")));
        expect_success(&run_on_data_dir(&home.data_dir(), &["backup", backup.to_str().unwrap()]), step);
        let report = expect_success(&run_on_data_dir(&restored, &["restore", backup.to_str().unwrap()]), step);
        assert!(report.contains("damages                      0"), "{step}: {report}");
    }
    expect_success(&run_on_data_dir(&home.data_dir(), &["rebuild"]), "rebuild");
}

/// Fills a daemon with a few hundred events, stops it and returns its data directory.
fn fill_and_stop_daemon(home: &DaemonHome) -> PathBuf {
    let daemon = home.start(&[]);
    let events: Vec<_> = (0..300)
        .map(|n| view_event(&format!("e{n}"), &format!("user{}", n % 20), &format!("item{}", n % 30)))
        .collect();
    daemon.send_events(&events);
    assert_eq!(daemon.terminate().code(), Some(0));
    home.data_dir()
}

fn file_names(dir: &Path) -> BTreeSet<String> {
    dir.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Regression test: a killed restore left its temporary directory and the lock file. A daemon that
/// started there had an empty store and reported that it was ready. The next restore refused the
/// directory as not empty.
#[test]
fn a_killed_restore_is_not_served_and_the_next_one_replaces_it() {
    let home = DaemonHome::new();
    let data = fill_and_stop_daemon(&home);
    let backup = home.dir().join("monday.tar.gz");
    let backup = backup.to_str().unwrap();
    expect_success(&run_on_data_dir(&data, &["backup", backup]), "backup");
    let complete = file_names(&data)
        .into_iter()
        .filter(|name| !["addresses.json", "ids", "journal-id", "reserve"].contains(&name.as_str()))
        .collect::<BTreeSet<_>>();

    // Killed while it unpacks, and killed while it moves the parts: the store is moved last.
    for moved in [&[][..], &["end", "checkpoints"]] {
        let target = DaemonHome::new();
        let (to, stage) = (target.data_dir(), target.data_dir().join("restore.unfinished-abc"));
        fs::create_dir_all(&stage).unwrap();
        fs::write(to.join("lock"), "").unwrap();
        copy_dir(&data, &stage);
        for part in moved {
            fs::rename(stage.join(part), to.join(part)).unwrap();
        }
        let output = target.start_expecting_failure(&[]);
        expect_failure(&output, &["was interrupted", "run `sequor restore` again"]);
        expect_failure(&run_on_data_dir(&to, &["verify"]), &["there is no store"]);
        expect_success(&run_on_data_dir(&to, &["restore", backup]), "restore");
        assert_eq!(file_names(&to), complete);
        expect_success(&run_on_data_dir(&to, &["verify"]), "verify");
    }
    // Killed after the store was moved: it is complete, and the next start cleans up.
    let target = DaemonHome::new();
    expect_success(&run_on_data_dir(&target.data_dir(), &["restore", backup]), "restore");
    fs::create_dir(target.data_dir().join("restore.unfinished-abc")).unwrap();
    expect_failure(&run_on_data_dir(&target.data_dir(), &["restore", backup]), &["is not empty"]);
    let daemon = target.start(&[]);
    assert_eq!(daemon.next_offset(), 300);
    assert!(!target.data_dir().join("restore.unfinished-abc").exists());
    daemon.kill();

    // Kills a real restore at several times. Other files are never taken for leftovers.
    let target = DaemonHome::new();
    for milliseconds in [1, 10, 30, 60, 90] {
        let mut restore =
            sequor_command().args(["restore", backup, "--data-dir"]).arg(target.data_dir()).spawn().unwrap();
        thread::sleep(Duration::from_millis(milliseconds));
        restore.kill().unwrap();
        restore.wait().unwrap();
    }
    if !target.data_dir().join("store").exists() {
        fs::create_dir_all(target.data_dir()).unwrap();
        fs::write(target.data_dir().join("notes"), "").unwrap();
        expect_failure(&run_on_data_dir(&target.data_dir(), &["restore", backup]), &["is not empty"]);
        fs::remove_file(target.data_dir().join("notes")).unwrap();
        expect_success(&run_on_data_dir(&target.data_dir(), &["restore", backup]), "restore");
    }
    expect_success(&run_on_data_dir(&target.data_dir(), &["verify"]), "verify");
    assert_eq!(file_names(&target.data_dir()), complete);
}

/// Regression test: backups in the data directory were accepted, and later removed with other files
/// that the store does not know. Killed backups never removed their unfinished directory.
#[test]
fn backups_stay_outside_the_data_directory_and_replace_unfinished_backups() {
    let home = DaemonHome::new();
    let data = fill_and_stop_daemon(&home);
    let daemon = home.start(&[]);
    std::os::unix::fs::symlink(data.join("store"), home.dir().join("link")).unwrap();
    for target in [
        data.join("store/x"),
        data.join("unlearned"),
        data.join("store.1"),
        data.join("x.tar.gz"),
        home.dir().join("link/x"),
    ] {
        let answer = daemon.admin_request("POST", "/admin/backup", &json!({ "target": target }).to_string());
        assert_eq!(answer.status, 409, "{}", answer.body);
        assert!(answer.body.contains("is in the data directory"), "{}", answer.body);
        assert!(!target.exists());
    }
    let folder = home.dir().join("backups");
    let left = |name: &str, claim: &str| {
        fs::create_dir_all(folder.join(name).join("data")).unwrap();
        fs::write(folder.join(name).join(claim), "").unwrap();
    };
    left("monday.unfinished-aaa", "data/lock");
    left("tuesday.tar.gz.unfinished-bbb", "claim");
    left("running.unfinished-ccc", "claim");
    left("foreign.unfinished-ddd", "data/notes");
    let running = fs::File::open(folder.join("running.unfinished-ccc/claim")).unwrap();
    running.lock().unwrap();
    let answer =
        daemon.admin_request("POST", "/admin/backup", &json!({ "target": folder.join("wednesday") }).to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(
        file_names(&folder),
        ["foreign.unfinished-ddd", "running.unfinished-ccc", "wednesday"].map(str::to_owned).into()
    );
    assert_eq!(daemon.terminate().code(), Some(0));
    expect_failure(
        &run_on_data_dir(&data, &["backup", data.join("x").to_str().unwrap()]),
        &["is in the data directory"],
    );
}

#[test]
fn a_link_in_place_of_a_file_of_the_store_is_refused() {
    let home = DaemonHome::new();
    let data = fill_and_stop_daemon(&home);
    let target = home.dir().join("target");
    for name in ["end", "lock"] {
        let kept = fs::read(data.join(name)).unwrap();
        fs::write(&target, "kept").unwrap();
        fs::remove_file(data.join(name)).unwrap();
        std::os::unix::fs::symlink(&target, data.join(name)).unwrap();
        expect_failure(&home.start_expecting_failure(&[]), &[&format!("data/{name}"), "it is a symbolic link"]);
        assert_eq!(fs::read(&target).unwrap(), b"kept");
        fs::remove_file(data.join(name)).unwrap();
        fs::write(data.join(name), kept).unwrap();
    }
    home.start(&[]).kill();
}

#[test]
fn only_the_owner_reads_what_the_daemon_writes() {
    fn assert_owner_only(path: &Path) {
        let found = path.metadata().unwrap();
        assert_eq!(
            found.permissions().mode() & 0o077,
            0,
            "{} has mode {:o}",
            path.display(),
            found.permissions().mode()
        );
        if found.is_dir() {
            path.read_dir().unwrap().for_each(|entry| assert_owner_only(&entry.unwrap().path()));
        }
    }
    let home = DaemonHome::new();
    let wrapper = ["sh", "-c", "umask 022; exec \"$@\"", "sh"].map(str::to_owned);
    let daemon = home.start_under_wrapper(&wrapper, &[]);
    daemon.send_events(&[view_event("e1", "ann", "tea")]);
    let backup = home.dir().join("monday.tar.gz");
    let answer = daemon.admin_request("POST", "/admin/backup", &json!({ "target": backup }).to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(daemon.terminate().code(), Some(0));
    assert_owner_only(&home.data_dir());
    assert_owner_only(&backup);
}

/// Regression test: an operator can remove the lock file. A second daemon then waited for the
/// database and ended after ten seconds with an error of the operating system.
#[test]
fn a_second_daemon_is_refused_though_the_lock_file_is_gone() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    fs::remove_file(home.data_dir().join("lock")).unwrap();
    expect_failure(&home.start_expecting_failure(&[]), &["is held by another process; stop that daemon"]);
    daemon.assert_healthy();
}

/// Regression test: after the files were removed, writes got 503, but the daemon reported that it
/// was ready.
#[test]
fn a_daemon_whose_files_are_removed_is_not_ready() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    daemon.send_events(&[view_event("e1", "ann", "tea"), view_event("e2", "ann", "milk")]);
    fs::remove_dir_all(home.data_dir().join("store")).unwrap();
    wait_for("the failed readiness", || (daemon.get_admin("/readyz").status == 503).then_some(()));
    assert_eq!(daemon.post("/v1/events", &json!([view_event("e3", "ann", "tea")]).to_string()).status, 503);
    assert_eq!(daemon.get_admin("/readyz").status, 503, "still");
    assert!(daemon.read_log().contains("were removed while it was in use"), "{}", daemon.read_log());
    assert!(!home.data_dir().join("store").exists(), "no empty database takes its place");
    daemon.kill();
    expect_failure(&home.start_expecting_failure(&[]), &["2 entries were in it"]);
}

#[test]
fn a_daemon_whose_commit_log_is_replaced_is_not_ready() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let log = home.data_dir().join("store/commits");
    let copy = home.dir().join("commits");
    daemon.send_events(&[view_event("e1", "ann", "tea")]);
    fs::copy(&log, &copy).unwrap();
    fs::rename(&copy, &log).unwrap();
    wait_for("the failed readiness", || (daemon.get_admin("/readyz").status == 503).then_some(()));
    // The log follows the readiness.
    wait_for("the reason", || daemon.read_log().contains("were removed while it was in use").then_some(()));
    daemon.kill();
    let daemon = home.start(&[]);
    assert_eq!((daemon.next_offset(), daemon.get_admin("/readyz").status), (1, 200));
}

/// Regression test: an archive without a store was restored as an empty store without damage, and
/// an archive of three megabytes was unpacked to three gigabytes.
#[test]
fn crafted_archives_are_refused() {
    let home = DaemonHome::new();
    let archive = |name: &str, files: &[(&str, &[u8])]| {
        let path = home.dir().join(name);
        let mut builder = tar::Builder::new(GzEncoder::new(fs::File::create(&path).unwrap(), Compression::fast()));
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            if name.ends_with('/') {
                header.set_entry_type(tar::EntryType::Directory);
            }
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap();
        path.to_str().unwrap().to_owned()
    };
    let nowhere = home.dir().join("nowhere");
    let junk: Vec<u8> = (0..100_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let zeros = vec![0; 150 << 20];
    for (path, reason) in [
        (archive("empty.tar.gz", &[("store/", b"")]), "is not a backup"),
        (archive("text.tar.gz", &[("store/", b""), ("store/readme", b"hello")]), "is not a backup"),
        (archive("junk.tar.gz", &[("store/", b""), ("store/db", &junk), ("end", b"")]), ""),
        (archive("other.tar.gz", &[("home/", b""), ("home/x", b"hello")]), "is not a backup"),
        (archive("bomb.tar.gz", &[("store/", b""), ("store/db", &zeros)]), "unpacks to more than 100 times its size"),
    ] {
        expect_failure(&run_on_data_dir(&nowhere, &["restore", &path]), &[reason]);
        assert!(!nowhere.exists(), "{path}");
    }
}

#[test]
fn verify_checks_restore_points_and_keys() {
    let home = DaemonHome::new();
    let data = fill_and_stop_daemon(&home);
    expect_success(&run_on_data_dir(&data, &["verify"]), "intact");
    fs::create_dir_all(data.join("restore-points")).unwrap();
    fs::write(data.join("restore-points/00000000000000000100.checkpoint"), "no state").unwrap();
    fs::write(data.join("keys.json"), "{").unwrap();
    let reasons = [
        "restore-points/00000000000000000100.checkpoint",
        "`sequor rebuild`",
        "keys.json",
        "create new keys",
        "in 2 places",
    ];
    expect_failure(&run_on_data_dir(&data, &["verify"]), &reasons);
}

/// A data directory of 400 events, of which one is damaged on the disk. Returns that event's id.
/// The events are large, so that most are not in the part of the log that the database checks at
/// each start. Where the database writes an event depends on timing, so several are tried.
pub(crate) fn damaged_data_dir(home: &DaemonHome) -> String {
    let daemon = home.start(&[]);
    for n in 0..400 {
        let mut event = view_event(&format!("id-{n:04}"), &format!("user{}", n % 20), &format!("item{}", n % 30));
        event["properties"] = json!({ "padding": "x".repeat(3000) });
        daemon.send_events(&[event]);
    }
    assert_eq!(daemon.terminate().code(), Some(0));
    // At each start, the database checks only the latest part of its log. This start moves that
    // part beyond these entries.
    assert_eq!(home.start(&[]).terminate().code(), Some(0));
    let intact = fs::read(home.data_dir().join("store/db")).unwrap();
    for n in 20..380 {
        let id = format!("id-{n:04}");
        let mut bytes = intact.clone();
        let places: Vec<_> = (0..bytes.len() - id.len()).filter(|at| bytes[*at..].starts_with(id.as_bytes())).collect();
        places.iter().for_each(|at| bytes[*at] ^= 0x55);
        let trial = tempfile::tempdir().unwrap();
        copy_dir(&home.data_dir(), trial.path());
        fs::write(trial.path().join("store/db"), &bytes).unwrap();
        let Ok(store) = Store::open(trial.path(), &StoreOptions::default()) else { continue };
        if store.journal().entries(0).unwrap().any(|entry| entry.is_err()) {
            fs::write(home.data_dir().join("store/db"), &bytes).unwrap();
            return id;
        }
    }
    panic!("no damage leaves a database that opens")
}

/// Regression test: `rebuild --accept-loss` dropped all entries from the first damaged record on,
/// including entries that were acknowledged after the damage.
#[test]
fn accepted_loss_keeps_the_entries_after_the_damage() {
    let home = DaemonHome::new();
    let damaged = damaged_data_dir(&home);
    let data = home.data_dir();
    expect_failure(&run_on_data_dir(&data, &["verify"]), &["journal, offset "]);
    expect_failure(&run_on_data_dir(&data, &["rebuild"]), &["--accept-loss"]);
    let report = expect_success(&run_on_data_dir(&data, &["rebuild", "--accept-loss"]), "rebuild");
    assert!(report.contains("are damaged and lost"), "{report}");
    let exported = expect_success(&run_on_data_dir(&data, &["export"]), "export");
    let kept: Vec<_> = exported.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect();
    let ids: BTreeSet<_> = kept.iter().filter_map(|entry| entry["event_id"].as_str()).collect();
    assert!(ids.contains("id-0000") && ids.contains("id-0399") && !ids.contains(damaged.as_str()), "{report}");
    assert!(ids.len() > 350, "{} of 400 are left: {report}", ids.len());
    expect_success(&run_on_data_dir(&data, &["verify"]), "verify");
    let daemon = home.start(&[]);
    assert_eq!(daemon.next_offset(), 400, "the entries keep their offsets");
    daemon.wait_until_learned(400);
}
